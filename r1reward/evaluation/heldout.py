"""Held-out evaluation before, during and after training, by the code that evaluates any model."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from r1reward.data.atomic import write_whole
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.counting import count_answers
from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.evaluation.evaluation import Conditions, Evaluation, read_evaluation
from r1reward.evaluation.items import Benchmark
from r1reward.evaluation.sampler import Asker, ask
from r1reward.evaluation.shown_pairs import write_shown_pairs
from r1reward.interfaces import Learner
from r1reward.recipe.model_settings import write_model_settings
from r1reward.recipe.recipe import Recipe
from r1reward.rollouts import LiveSource
from r1reward.runs.folder import RunFolder
from r1reward.runs.trackers import Tracker
from r1reward.types import StepReport, WeightsHandle

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldoutEvaluator:
    """The loop's ``Evaluator``. Evaluations that are there already are not made again."""

    recipe: Recipe
    folder: RunFolder
    benchmark: Benchmark
    parts: Asker
    source: LiveSource
    learner: Learner
    trackers: list[Tracker]

    def due(self, num_steps_done: int) -> bool:
        every = self.recipe.evaluate.every
        ends = num_steps_done in (0, self.recipe.train.num_steps)
        return ends or (every > 0 and num_steps_done % every == 0)

    async def evaluate(self, weights: WeightsHandle) -> None:
        step = weights.version
        folder = EvalFolder(self.folder.evaluation(step))
        if folder.result.is_file():
            return
        folder.root.mkdir(parents=True, exist_ok=True)
        shared = self.folder.evaluations / folder.rows.name
        if not shared.is_file():
            write_shown_pairs(shared, self.benchmark.items)
        logger.info("evaluating %d held-out pairs after step %d", len(self.benchmark.items), step)
        await self.source.load(weights)
        answers = await ask(self.parts, self.benchmark.items, folder.answers)
        blind: list[Answer] = []
        if self.recipe.evaluate.image_off:
            blind = await ask(self.parts, self.benchmark.items, folder.blind_answers, blind=True)
        found = count_answers(
            self.benchmark,
            answers,
            self.conditions(step),
            self.recipe.evaluate.bootstrap_samples,
            image_off=blind,
        )
        # The result is written last: with it, a resumed run takes all of this as done.
        if self.recipe.evaluate.keep_best is not None:
            await self.keep_best(step, quality(found, self.recipe.evaluate.keep_best))
        folder.write_result(found)
        for tracker in self.trackers:
            tracker.evaluation(StepReport(step, eval_metrics(found)))

    def conditions(self, num_steps_done: int) -> Conditions:
        evaluate = self.recipe.evaluate
        return Conditions(
            model=f"{self.recipe.name} after step {num_steps_done}",
            benchmark=self.benchmark.name,
            data="data.heldout",
            num_rows=len(self.benchmark.items),
            num_dropped=self.benchmark.num_dropped,
            orders=evaluate.orders,
            num_samples=evaluate.samples,
            temperature=evaluate.sampling_temperature,
            top_p=evaluate.top_p,
            seed=self.recipe.seed,
            template=self.recipe.prompt.template,
            adaptive=evaluate.adaptive,
        )

    async def keep_best(self, step: int, value: float) -> None:
        """Export these weights if no evaluation was better: the earlier of two equals stays."""
        record = self.folder.best / "best.json"
        old = self.folder.best.with_name(".best.old")
        if old.exists() and not self.folder.best.exists():
            old.rename(self.folder.best)
        if record.is_file() and json.loads(record.read_text())["value"] >= value:
            return
        partial = self.folder.best.with_name(".best.partial")
        shutil.rmtree(partial, ignore_errors=True)
        await self.learner.export(partial)
        write_model_settings(partial, self.recipe)
        kept = {"step": step, "metric": self.recipe.evaluate.keep_best, "value": value}
        write_whole(partial / record.name, json.dumps(kept) + "\n")
        # Renamed away before it is removed: a kill leaves the old model or the new one.
        shutil.rmtree(old, ignore_errors=True)
        if self.folder.best.exists():
            self.folder.best.rename(old)
        partial.rename(self.folder.best)
        shutil.rmtree(old, ignore_errors=True)
        logger.info("best model so far: step %d", step)


def quality(evaluation: Evaluation, name: str) -> float:
    """The number that ``evaluate.keep_best`` names."""
    match name:
        case "accuracy":
            return evaluation.accuracy.value
        case "voted":
            return evaluation.voted.value
    share = evaluation.audit.both_right_share
    assert share is not None, "the recipe asks for both orders"
    return share


def eval_metrics(evaluation: Evaluation) -> dict[str, float]:
    """For the trackers; what has no value is left out."""
    values = {
        "eval/accuracy": evaluation.accuracy.value,
        "eval/voted": evaluation.voted.value if evaluation.conditions.num_samples > 1 else None,
        "eval/both_right": evaluation.audit.both_right_share,
        "eval/slot_1_rate": evaluation.audit.slot_1_rate,
        "eval/flip_rate": evaluation.audit.flip_rate,
        "eval/unparsed_share": evaluation.audit.unparsed_share,
        "eval/consistency": evaluation.parts.consistency,
    }
    return {name: value for name, value in values.items() if value is not None}


def read_run_evaluation(folder: RunFolder, num_steps_done: int) -> Evaluation | None:
    path: Path = EvalFolder(folder.evaluation(num_steps_done)).result
    return read_evaluation(path) if path.is_file() else None
