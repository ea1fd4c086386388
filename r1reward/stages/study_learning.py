"""The learning study: does RL teach the base to judge, and for the right reason?

Several seeds of one recipe start from one base; the seed changes RL only. Every run is an ordinary
training run in a folder of its own, resumed if it was stopped and skipped if it is finished. Then the
base and every trained model answer the same held-out pairs greedily, with the images switched off,
and with the analysis of another pair already written.

    python -m r1reward.stages.study_learning recipes/local.yaml --out docs/learning.md
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from r1reward.collect import score_rollouts
from r1reward.config import Recipe
from r1reward.data.image_off import on_their_prompts, without_images
from r1reward.data.prompt import Tags
from r1reward.data.prompts import PromptSet, both_order_requests
from r1reward.data.rollout_store import read_rollouts
from r1reward.engines.judge_engine import RuleJudgeEngine
from r1reward.evaluation.both_orders import (
    Evaluation,
    Interval,
    evaluate_rollouts,
    paired_difference,
)
from r1reward.evaluation.compare import mcnemar_by_order
from r1reward.evaluation.transplant import build_transplants, follow_rate
from r1reward.interfaces import Generator, Sampling
from r1reward.launch import running_system
from r1reward.recipe_file import load_recipe
from r1reward.run_folder import RunFolder
from r1reward.stages.report import evaluation_from_json, points, read_evaluation
from r1reward.stages.train import Inputs, load_inputs, train
from r1reward.types import RolloutRequest

logger = logging.getLogger(__name__)

ANSWER_TOKENS = 4


@dataclass(frozen=True)
class Probe:
    """What one model does beyond one sample a pair: greedily, blind, and with a borrowed analysis."""

    greedy: Evaluation
    image_off: Evaluation
    follow_share: float
    num_transplants: int


@dataclass(frozen=True)
class Column:
    """One model in the table: its evaluation at temperature 1, and its probe."""

    name: str
    sampled: Evaluation
    probe: Probe


async def probe(recipe: Recipe, model: str, sampled: Path) -> Probe:
    """Start an engine on a model folder and ask it everything but what training asked already.

    ``sampled`` holds the model's judged rollouts at temperature 1, from which analyses are borrowed.
    """
    trained = recipe.model_copy(update={"model": recipe.model.model_copy(update={"path": model})})
    inputs = load_inputs(trained)
    assert inputs.heldout is not None
    async with running_system(trained, inputs.processor, ["rollout"]) as system:
        assert system.generator is not None
        requests = both_order_requests(trained, inputs.heldout)
        greedy = await answer(trained, system.generator, requests, temperature=0.0, blind=False)
        blind = await answer(trained, system.generator, requests, temperature=1.0, blind=True)
        share, count = await transplant_share(trained, inputs, system.generator, sampled)
    return Probe(greedy, blind, share, count)


async def answer(
    recipe: Recipe,
    generator: Generator,
    requests: Sequence[RolloutRequest],
    temperature: float,
    blind: bool,
) -> Evaluation:
    """Every request answered once, judged by rule."""
    asked = without_images(requests) if blind else list(requests)
    sampling = Sampling(temperature, recipe.model.max_new_tokens)
    rollouts = await score_rollouts(recipe, generator, RuleJudgeEngine(), asked, sampling)
    if blind:
        rollouts = on_their_prompts(rollouts, requests)
    return evaluate_rollouts(rollouts, recipe.evaluate.bootstrap_samples)


async def transplant_share(
    recipe: Recipe, inputs: Inputs, generator: Generator, sampled: Path
) -> tuple[float, int]:
    """How often the answer follows another pair's analysis that argues for the other response."""
    heldout: PromptSet | None = inputs.heldout
    assert heldout is not None
    pairs = {pair.pair_id: pair for pair in heldout.pairs}
    rollouts = read_rollouts(sampled, pairs, heldout.encode)
    tags = Tags(recipe.prompt.think_tag, recipe.prompt.answer_tag)
    transplants = build_transplants(rollouts, tags, inputs.processor.tokenize, recipe.seed)
    requests = [RolloutRequest(item.prompt, 0, number) for number, item in enumerate(transplants)]
    sampling = Sampling(1.0, ANSWER_TOKENS)
    continued = [rollout async for rollout in generator.generate(requests, sampling)]
    rate = follow_rate(transplants, continued, tags, recipe.prompt.format_mode)
    return rate.follow_share, rate.num_transplants


def study(recipe: Recipe, root: Path, seeds: Sequence[int], console: Console) -> list[Column]:
    """Train every seed, then probe the base and every result; finished parts are kept on disk."""
    runs = {}
    for seed in seeds:
        changes = {"seed": seed, "run_dir": root / f"seed-{seed}", "name": f"learning-{seed}"}
        runs[seed] = recipe.model_copy(update=changes)
        if not RunFolder(runs[seed].run_dir).model.is_dir():
            asyncio.run(train(runs[seed], console))
    first = RunFolder(runs[seeds[0]].run_dir)
    columns = [kept_column(runs[seeds[0]], "base", recipe.model.path, first.evaluations / "before")]
    for seed, run in runs.items():
        folder = RunFolder(run.run_dir)
        model, sampled = str(folder.model), folder.evaluations / "after"
        columns.append(kept_column(run, f"seed {seed}", model, sampled))
    return columns


def kept_column(recipe: Recipe, name: str, model: str, sampled: Path) -> Column:
    """A model's column; the probe's numbers are stored beside the run's own evaluations."""
    path = sampled.with_name(f"{sampled.name}-probe.json")
    if not path.exists():
        logger.info("probing %s", name)
        found = asyncio.run(probe(recipe, model, sampled.with_suffix(".parquet")))
        path.write_text(json.dumps(asdict(found), indent=1))
    raw = json.loads(path.read_text())
    for part in ("greedy", "image_off"):
        raw[part] = evaluation_from_json(raw[part])
    return Column(name, read_evaluation(sampled.with_suffix(".json")), Probe(**raw))


def share(value: float) -> str:
    return f"{100 * value:.1f} %"


def gain(interval: Interval) -> str:
    return f"{100 * interval.value:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def worst_p(before: Evaluation, after: Evaluation) -> str:
    """The larger of the two orders' p-values."""
    tests = mcnemar_by_order(before.outcomes, after.outcomes)
    return f"{max(test.p_value for test in tests.values()):.1e}"


def markdown(columns: Sequence[Column], num_bootstrap: int) -> str:
    """The table: what each line must show, then the base and every seed."""
    base = columns[0]
    against_greedy = [
        paired_difference(base.probe.greedy.outcomes, c.sampled.outcomes, num_bootstrap)
        for c in columns
    ]
    rows: list[tuple[str, list[str]]] = [
        ("accuracy, one sample at temperature 1", [points(c.sampled.accuracy) for c in columns]),
        ("accuracy, greedy", [points(c.probe.greedy.accuracy) for c in columns]),
        ("sampled minus the base's greedy, points", [gain(item) for item in against_greedy]),
        (
            "McNemar against the base's greedy, p",
            ["-", *(worst_p(base.probe.greedy, c.sampled) for c in columns[1:])],
        ),
        ("both orders right", [share(c.sampled.both_right_share) for c in columns]),
        ("slot-1 rate", [share(c.sampled.slot_1_rate) for c in columns]),
        ("flip rate after swap", [share(c.sampled.flip_rate) for c in columns]),
        ("answer follows analysis (judge)", [share(c.sampled.consistency) for c in columns]),
        ("answer follows a borrowed analysis", [share(c.probe.follow_share) for c in columns]),
        ("accuracy with the images off", [points(c.probe.image_off.accuracy) for c in columns]),
        ("well formed", [share(c.sampled.format) for c in columns]),
        ("response length, tokens", [f"{c.sampled.length:.1f}" for c in columns]),
    ]
    lines = [
        "| | " + " | ".join(column.name for column in columns) + " |",
        "|---|" + "---|" * len(columns),
        *(f"| {label} | " + " | ".join(cells) + " |" for label, cells in rows),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train several seeds and probe what they learned.")
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--num-pairs", type=int, default=500, help="held-out pairs")
    parser.add_argument("--runs", type=Path, default=Path("runs/study-learning"))
    parser.add_argument("--out", type=Path, default=None, help="file whose table is replaced")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    console = Console()
    recipe = load_recipe(chosen.recipe, [f"data.heldout.num_pairs={chosen.num_pairs}"])
    columns = study(recipe, chosen.runs, chosen.seeds, console)
    table = markdown(columns, recipe.evaluate.bootstrap_samples)
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    if chosen.out is not None:
        head, begin, rest = chosen.out.read_text().partition("<!-- table -->\n")
        _, end, tail = rest.partition("<!-- end of table -->")
        if not (begin and end):
            raise SystemExit(
                f"{chosen.out} has no <!-- table --> ... <!-- end of table --> to fill"
            )
        chosen.out.write_text(f"{head}{begin}{table}\n{end}{tail}")


if __name__ == "__main__":
    main()
