"""Held-out evaluation before, during and after training, by the code that evaluates any model."""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from r1reward.data.atomic import write_whole
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.conditions import build_conditions
from r1reward.evaluation.counting import count_answers
from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.evaluation.evaluation import Evaluation, read_evaluation
from r1reward.evaluation.items import Benchmark
from r1reward.evaluation.sampler import EvaluationSampler, sample_answers
from r1reward.evaluation.shown_pairs import write_shown_pairs
from r1reward.interfaces import Learner
from r1reward.metrics import Name
from r1reward.recipe.model_settings import write_model_settings
from r1reward.recipe.sections import TrainingEvaluation
from r1reward.rollouts import LiveSource
from r1reward.runs.folder import RunFolder
from r1reward.runs.trackers import Tracker
from r1reward.types import StepReport, WeightsHandle

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldoutPlan:
    """When a run is evaluated and on what. ``name`` is the run's, for the result."""

    name: str
    evaluate: TrainingEvaluation
    num_steps: int
    benchmark: Benchmark


@dataclass(frozen=True)
class HeldoutEvaluator:
    """The loop's ``Evaluator``. Evaluations that are there already are not made again.

    ``source`` loads the weights into the engines that ``sampler`` samples from.
    """

    plan: HeldoutPlan
    folder: RunFolder
    sampler: EvaluationSampler
    source: LiveSource
    learner: Learner
    trackers: Sequence[Tracker]

    def due(self, num_steps_done: int) -> bool:
        every = self.plan.evaluate.every
        ends = num_steps_done in (0, self.plan.num_steps)
        return ends or (every > 0 and num_steps_done % every == 0)

    async def evaluate(self, weights: WeightsHandle) -> None:
        step, settings, benchmark = weights.version, self.plan.evaluate, self.plan.benchmark
        folder = EvalFolder(self.folder.evaluation(step))
        if folder.result.is_file():
            return
        folder.root.mkdir(parents=True, exist_ok=True)
        shared = self.folder.evaluations / folder.rows.name
        if not shared.is_file():
            write_shown_pairs(shared, benchmark.items)
        logger.info("evaluating %d held-out pairs after step %d", len(benchmark.items), step)
        await self.source.load(weights)
        answers = await sample_answers(self.sampler, benchmark.items, folder.answers)
        blind: list[Answer] = []
        if settings.image_off:
            blind = await sample_answers(
                self.sampler, benchmark.items, folder.blind_answers, blind=True
            )
        conditions = build_conditions(
            f"{self.plan.name} after step {step}",
            benchmark,
            "data.heldout",
            replace(self.sampler.asking, evaluate=settings),
        )
        evaluation = count_answers(
            benchmark,
            answers,
            conditions,
            prompt=self.sampler.scoring.prompt,
            image_off=blind,
        )
        # The result is written last: with it, a resumed run takes all of this as done.
        if settings.keep_best is not None:
            await self.keep_best(step, settings.keep_best, quality(evaluation, settings.keep_best))
        folder.write_result(evaluation)
        for tracker in self.trackers:
            tracker.evaluation(StepReport(step, eval_metrics(evaluation)))

    async def keep_best(self, step: int, metric: str, value: float) -> None:
        """Export these weights if no evaluation was better: the earlier of two equals stays."""
        record = self.folder.best / "best.json"
        old = self.folder.best.with_name(".best.old")
        if old.exists() and not self.folder.best.exists():
            old.rename(self.folder.best)
        if record.is_file() and json.loads(record.read_text(encoding="utf-8"))["value"] >= value:
            return
        partial = self.folder.best.with_name(".best.partial")
        shutil.rmtree(partial, ignore_errors=True)
        await self.learner.export(partial)
        write_model_settings(partial, self.sampler.model, self.sampler.scoring.prompt)
        kept = {"step": step, "metric": metric, "value": value}
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
        Name.EVAL_ACCURACY: evaluation.accuracy.value,
        Name.EVAL_VOTED: evaluation.voted.value if evaluation.conditions.num_samples > 1 else None,
        Name.EVAL_BOTH_RIGHT: evaluation.audit.both_right_share,
        Name.EVAL_SLOT_1_RATE: evaluation.audit.slot_1_rate,
        Name.EVAL_FLIP_RATE: evaluation.audit.flip_rate,
        Name.EVAL_UNPARSED_SHARE: evaluation.audit.unparsed_share,
        Name.EVAL_CONSISTENCY: evaluation.parts.consistency,
    }
    return {name: value for name, value in values.items() if value is not None}


def read_run_evaluation(folder: RunFolder, num_steps_done: int) -> Evaluation | None:
    """The evaluation of a run after that many steps, None where there is none."""
    path: Path = EvalFolder(folder.evaluation(num_steps_done)).result
    return read_evaluation(path) if path.is_file() else None
