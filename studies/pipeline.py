"""The pipeline study: does every stage earn its place, and what is hard selection worth?

Several seeds of one pipeline recipe run from the annotation to the evaluation. Then RL runs once more for
every seed from the same SFT model, on as many pairs drawn at random, for as many steps. What is finished
is kept on disk and skipped.

    python -m studies.pipeline recipes/pipeline_local.yaml --out docs/pipeline.md
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from r1reward.data.level_counts import read_level_counts
from r1reward.errors import InputError
from r1reward.evaluation.compare import compare_evaluations
from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.evaluation.evaluation import Evaluation, read_evaluation
from r1reward.evaluation.intervals import percent, points, signed_points
from r1reward.evaluation.side_by_side import lengths, voting_points
from r1reward.pipeline.evaluate import evaluate_model
from r1reward.pipeline.run import run_all, run_stage
from r1reward.recipe.derive import (
    ModelName,
    final_recipe,
    models,
    selected_pairs,
    stage_folder,
)
from r1reward.recipe.files import load_recipe
from r1reward.recipe.pipeline_sections import AttemptsSelection
from r1reward.recipe.recipe import Recipe
from r1reward.report.pipeline_page import evaluations
from studies.document_tables import check_marks, fill
from studies.recipe_settings import with_settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeedResult:
    """One seed: the three models, and the model that RL made of random pairs instead of hard ones."""

    seed: int
    models: dict[ModelName, Evaluation]
    random: Evaluation
    num_pairs: int
    num_annotated: int


def study(recipe: Recipe, root: Path, seeds: Sequence[int], console: Console) -> list[SeedResult]:
    found = []
    for seed in seeds:
        hard = seeded(recipe, seed, root / f"seed-{seed}" / "hard")
        asyncio.run(run_all(hard, console))
        num_pairs, num_annotated = selected_and_all(hard)
        random = seeded(recipe, seed, root / f"seed-{seed}" / "random")
        random = with_settings(random, {"select": any_level(random, num_pairs).model_dump()})
        asyncio.run(run_random(hard, random, console))
        bench = bench_name(recipe)
        path = stage_folder(random, "eval") / bench / "rl"
        evaluated = read_evaluation(EvalFolder(path).result)
        by_model = evaluations(stage_folder(hard, "eval") / bench, models(hard))
        found.append(SeedResult(seed, by_model, evaluated, num_pairs, num_annotated))
    return found


def seeded(recipe: Recipe, seed: int, run_dir: Path) -> Recipe:
    changes = {"seed": seed, "run_dir": run_dir, "name": f"{recipe.name}-{seed}-{run_dir.name}"}
    return with_settings(recipe, changes)


def any_level(recipe: Recipe, num_pairs: int) -> AttemptsSelection:
    """As many pairs, whatever the teacher needed for them."""
    assert recipe.annotate is not None
    levels = (*range(1, recipe.annotate.max_attempts + 1), "failed")
    return AttemptsSelection.model_validate(
        {"type": "attempts", "levels": levels, "num_pairs": num_pairs}
    )


async def run_random(hard: Recipe, random: Recipe, console: Console) -> None:
    """The later stages again, from the same annotations and the same SFT model."""
    for stage in ("annotate", "sft"):
        copy = random.run_dir / stage
        if not copy.exists():
            partial = copy.with_name(f".{stage}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(hard.run_dir / stage, partial)
            partial.rename(copy)
    await run_stage(random, "select", console)
    await run_stage(random, "train", console)
    assert random.final is not None
    [bench] = random.final.benches
    await evaluate_model(final_recipe(random, random.final, "rl", bench), Console(quiet=True))


def bench_name(recipe: Recipe) -> str:
    if recipe.final is None or len(recipe.final.benches) != 1:
        raise InputError("the study wants a recipe whose section final names one benchmark")
    return recipe.final.benches[0].name


def selected_and_all(recipe: Recipe) -> tuple[int, int]:
    """How many pairs were selected, of how many."""
    counts = read_level_counts(selected_pairs(recipe).parent / "counts.json")
    return sum(row.selected for row in counts), sum(row.pairs for row in counts)


def difference(before: Evaluation, after: Evaluation) -> str:
    return signed_points(compare_evaluations(before, after).accuracy)


def stages_table(results: Sequence[SeedResult]) -> str:
    """What each stage adds, seed by seed."""
    columns = []
    votes = results[0].models["base"].conditions.num_samples
    for result in results:
        base, sft, rl = (result.models[name] for name in ("base", "sft", "rl"))
        cells = [points(one.accuracy) for one in (base, sft, rl)]
        cells += [difference(base, sft), difference(sft, rl)]
        for one in (base, sft, rl):
            [point] = voting_points([one], votes)
            cells.append(signed_points(point.gain))
        [voted] = voting_points([rl], votes)
        cells.append(points(voted.accuracy))
        cells += [percent(one.audit.both_right_share) for one in (base, sft, rl)]
        cells += [percent(one.audit.slot_1_rate) for one in (base, sft, rl)]
        cells += [percent(one.parts.consistency) for one in (base, sft, rl)]
        cells += lengths([base, sft, rl])
        columns.append(cells)
    each = ("base", "SFT only", "RL")
    labels = [
        *(f"accuracy, one sample: {name}" for name in each),
        "SFT minus base, points",
        "RL minus SFT, points",
        *(f"voting@{votes} minus one sample, points: {name}" for name in each),
        f"voting@{votes}: RL",
        *(f"right in both orders: {name}" for name in each),
        *(f"slot-1 rate: {name}" for name in each),
        *(f"answer follows analysis: {name}" for name in each),
        *(f"response length, tokens: {name}" for name in each),
    ]
    return table([f"seed {result.seed}" for result in results], labels, columns)


def selection_table(results: Sequence[SeedResult]) -> str:
    """RL on the hard pairs against RL on as many random ones."""
    columns = []
    for result in results:
        hard = result.models["rl"]
        columns.append(
            [
                f"{result.num_pairs:,} of {result.num_annotated:,}",
                points(hard.accuracy),
                points(result.random.accuracy),
                difference(result.random, hard),
                percent(hard.audit.both_right_share),
                percent(result.random.audit.both_right_share),
                percent(hard.parts.consistency),
                percent(result.random.parts.consistency),
            ]
        )
    labels = [
        "pairs that RL trains on",
        "accuracy, one sample: hard pairs",
        "accuracy, one sample: random pairs",
        "hard minus random, points",
        "right in both orders: hard pairs",
        "right in both orders: random pairs",
        "answer follows analysis: hard pairs",
        "answer follows analysis: random pairs",
    ]
    return table([f"seed {result.seed}" for result in results], labels, columns)


def table(heads: Sequence[str], labels: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    """Markdown, one column a seed."""
    rows = [["", *heads], ["---"] * (len(heads) + 1)]
    rows += [[label, *cells] for label, *cells in zip(labels, *columns, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Several seeds of a pipeline, hard against random."
    )
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/study-pipeline"))
    parser.add_argument("--out", type=Path, default=None, help="file whose tables are replaced")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for noisy in ("httpx", "httpx2", "openai", "ray"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    console = Console()
    recipe = load_recipe(chosen.recipe)
    bench_name(recipe)
    if chosen.out is not None:
        check_marks(chosen.out, "stages", "selection")
    results = study(recipe, chosen.runs, chosen.seeds, console)
    found = {
        "stages": stages_table(results),
        "selection": selection_table(results),
    }
    for name, text in found.items():
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        if chosen.out is not None:
            fill(chosen.out, text, name)


if __name__ == "__main__":
    main()
