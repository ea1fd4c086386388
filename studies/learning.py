"""The learning study: does RL teach the base to judge, and for the right reason?

Several seeds of one recipe start from one base; the seed changes RL only. Every run is an ordinary
training run in a folder of its own, resumed if it was stopped and skipped if it is finished. Then the
base and every trained model answer the same held-out pairs greedily, with the images switched off,
and with the analysis of another pair already written.

    python -m studies.learning recipes/local.yaml --out docs/learning.md
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter
from rich.console import Console

from r1reward.actors.launch import sampling_system
from r1reward.data.verdict import parse_verdict
from r1reward.evaluation.answers import Answer, read_answers
from r1reward.evaluation.compare import compare_evaluations, mcnemar_by_order
from r1reward.evaluation.conditions import build_conditions
from r1reward.evaluation.counting import count_answers
from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.evaluation.evaluation import Evaluation, read_evaluation
from r1reward.evaluation.intervals import percent, points, signed_points
from r1reward.evaluation.items import Benchmark
from r1reward.evaluation.sampler import EvaluationSampler, sample_answers
from r1reward.interfaces import Sampling
from r1reward.pipeline.assembly import evaluation_sampler
from r1reward.pipeline.train import Inputs, load_inputs, train
from r1reward.recipe.components import judge_settings, rollout_settings
from r1reward.recipe.derive import with_model
from r1reward.recipe.files import load_recipe
from r1reward.recipe.recipe import Recipe
from r1reward.runs.folder import RunFolder
from r1reward.types import RolloutRequest
from studies.document_tables import check_marks, fill
from studies.recipe_settings import with_settings
from studies.transplant import Trace, build_transplants, follow_rate

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


async def probe(recipe: Recipe, model: str, sampled: EvalFolder) -> Probe:
    """Start an engine on a model folder and ask it everything that training has not asked already.

    ``sampled`` is for the model's judged answers at temperature 1, from which analyses are borrowed.
    """
    trained = with_model(recipe, model)
    inputs = load_inputs(trained)
    heldout = inputs.heldout
    assert heldout is not None
    rollout = rollout_settings(trained.model, trained.rollout, trained.placement)
    judge = judge_settings(trained.judge, trained.model, trained.placement)
    async with sampling_system(trained.placement, rollout, judge) as system:
        texts = inputs.processor.token_texts
        sampler = evaluation_sampler(trained, inputs.encode, system.generator, system.judge, texts)
        if not sampled.result.is_file():
            await look(sampler, heldout, sampled.root, temperature=1.0)
        greedy = await look(sampler, heldout, sampled.root / "greedy", temperature=0.0)
        blind = await look(sampler, heldout, sampled.root / "blind", temperature=1.0, blind=True)
        answers = read_answers(sampled.answers)
        share, count = await transplant_share(sampler, inputs, heldout, answers)
    return Probe(greedy, blind, share, count)


async def look(
    sampler: EvaluationSampler,
    heldout: Benchmark,
    root: Path,
    temperature: float,
    blind: bool = False,
) -> Evaluation:
    """Every pair once in both orders, in a folder of its own."""
    folder = EvalFolder(root)
    folder.root.mkdir(parents=True, exist_ok=True)
    settings = type(sampler.evaluate).model_validate(
        sampler.evaluate.model_dump() | {"temperature": temperature}
    )
    answers = await sample_answers(
        replace(sampler, evaluate=settings), heldout.items, folder.answers, blind=blind
    )
    asking = replace(sampler.asking, evaluate=settings)
    conditions = build_conditions(sampler.model.path, heldout, "data.heldout", asking)
    evaluation = count_answers(
        heldout,
        answers,
        replace(conditions, image_off=blind),
        prompt=sampler.scoring.prompt,
    )
    folder.write_result(evaluation)
    return evaluation


async def transplant_share(
    sampler: EvaluationSampler, inputs: Inputs, heldout: Benchmark, answers: Sequence[Answer]
) -> tuple[float, int]:
    """How often the answer follows another pair's analysis that argues for the other response."""
    tags, settings = sampler.scoring.tags, sampler.scoring.prompt
    pairs = {item.key: item.pair for item in heldout.items}
    traces = []
    for answer in sorted(answers, key=lambda answer: answer.sample_key):
        verdict = parse_verdict(answer.text, tags, settings.format_mode)
        prompt = inputs.encode(pairs[answer.item], answer.order)
        consistent = answer.judge_word == "match"
        traces.append(Trace(prompt, verdict.analysis, verdict.choice, consistent))
    transplants = build_transplants(traces, tags, inputs.processor.tokenize, sampler.seed)
    requests = [RolloutRequest(item.prompt, 0, number) for number, item in enumerate(transplants)]
    sampling = Sampling(1.0, ANSWER_TOKENS)
    continued = [rollout async for rollout in sampler.generator.generate(requests, sampling)]
    rate = follow_rate(transplants, continued, tags, settings.format_mode)
    return rate.follow_share, rate.num_transplants


def study(recipe: Recipe, root: Path, seeds: Sequence[int], console: Console) -> list[Column]:
    """Train every seed, then probe the base and every result; finished parts are kept on disk."""
    runs = {}
    for seed in seeds:
        changes = {"seed": seed, "run_dir": root / f"seed-{seed}", "name": f"learning-{seed}"}
        runs[seed] = with_settings(recipe, changes)
        if not RunFolder(runs[seed].run_dir).model.is_dir():
            asyncio.run(train(runs[seed], console))
    base = RunFolder(runs[seeds[0]].run_dir).evaluation(0)
    columns = [kept_column(runs[seeds[0]], "base", recipe.model.path, EvalFolder(base))]
    for seed, run in runs.items():
        folder = RunFolder(run.run_dir)
        sampled = EvalFolder(folder.evaluation(recipe.train.num_steps))
        columns.append(kept_column(run, f"seed {seed}", str(folder.model), sampled))
    return columns


def kept_column(recipe: Recipe, name: str, model: str, sampled: EvalFolder) -> Column:
    """A model's column; the probe's numbers are stored beside the run's own evaluation."""
    path = sampled.root / "probe.json"
    if not path.exists():
        logger.info("probing %s", name)
        found = asyncio.run(probe(recipe, model, sampled))
        path.write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")
    kept: Probe = TypeAdapter(Probe).validate_json(path.read_bytes())
    return Column(name, read_evaluation(sampled.result), kept)


def worst_p(before: Evaluation, after: Evaluation) -> str:
    """The larger of the two orders' p-values."""
    tests = mcnemar_by_order(before.rows, after.rows).values()
    return f"{max(test.p_value for test in tests if test is not None):.1e}"


def markdown(columns: Sequence[Column]) -> str:
    """The table: what each line must show, then the base and every seed."""
    base = columns[0]
    against_greedy = [compare_evaluations(base.probe.greedy, c.sampled).accuracy for c in columns]
    rows: list[tuple[str, list[str]]] = [
        ("accuracy, one sample at temperature 1", [points(c.sampled.accuracy) for c in columns]),
        ("accuracy, greedy", [points(c.probe.greedy.accuracy) for c in columns]),
        (
            "sampled minus the base's greedy, points",
            [signed_points(item) for item in against_greedy],
        ),
        (
            "McNemar against the base's greedy, p",
            ["-", *(worst_p(base.probe.greedy, c.sampled) for c in columns[1:])],
        ),
        ("both orders right", [percent(c.sampled.audit.both_right_share) for c in columns]),
        ("slot-1 rate", [percent(c.sampled.audit.slot_1_rate) for c in columns]),
        ("flip rate after swap", [percent(c.sampled.audit.flip_rate) for c in columns]),
        (
            "answer follows analysis (judge)",
            [percent(c.sampled.parts.consistency) for c in columns],
        ),
        ("answer follows a borrowed analysis", [percent(c.probe.follow_share) for c in columns]),
        ("accuracy with the images off", [points(c.probe.image_off.accuracy) for c in columns]),
        ("well formed", [percent(c.sampled.parts.well_formed) for c in columns]),
        ("response length, tokens", [f"{c.sampled.parts.num_tokens:.1f}" for c in columns]),
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
    if chosen.out is not None:
        check_marks(chosen.out, "")
    recipe = load_recipe(chosen.recipe, [f"data.heldout.num_pairs={chosen.num_pairs}"])
    columns = study(recipe, chosen.runs, chosen.seeds, console)
    table = markdown(columns)
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    if chosen.out is not None:
        fill(chosen.out, table)


if __name__ == "__main__":
    main()
