"""``r1reward run``: every stage of the recipe in turn. What is complete is skipped."""

import logging
import time

from rich.console import Console

from r1reward.errors import InputError
from r1reward.pipeline.annotate import annotate_stage
from r1reward.pipeline.final import final_stage
from r1reward.pipeline.printing import print_named
from r1reward.pipeline.select import select_stage
from r1reward.pipeline.sft import sft_stage
from r1reward.pipeline.train import train, train_stage
from r1reward.recipe.derive import StageName, is_pipeline, planned_stages
from r1reward.recipe.recipe import Recipe
from r1reward.report.build import build_report
from r1reward.runs.claim import claim_by_recipe

logger = logging.getLogger(__name__)

# The section that a stage needs, and what to do.
MISSING: dict[StageName, str] = {
    "annotate": "annotate: add it to name a teacher",
    "sft": "sft: add it to fine-tune on a teacher's traces",
    "select": "select: add it to choose the pairs for RL",
    "eval": "final: add it to name benchmarks, or evaluate one model with `r1reward eval --model MODEL "
    "--bench BENCH`",
}


async def run_stage(recipe: Recipe, stage: StageName, console: Console) -> None:
    """One stage alone; the last one ends with the report of them all.

    Raises ``InputError`` if a stage that it builds on is not complete.
    """
    if stage == "train" and not is_pipeline(recipe):
        await train(recipe, console)
        return
    if stage not in planned_stages(recipe):
        raise InputError(f"the recipe has no section {MISSING[stage]}")
    claim_by_recipe(recipe.run_dir, "a pipeline", recipe)
    match stage:
        case "annotate" if recipe.annotate is not None:
            await annotate_stage(recipe, recipe.annotate, console)
        case "sft" if recipe.sft is not None and recipe.annotate is not None:
            await sft_stage(recipe, recipe.sft, recipe.annotate, console)
        case "select" if recipe.select is not None:
            await select_stage(recipe, recipe.select, console)
        case "train":
            await train_stage(recipe, console)
        case "eval" if recipe.final is not None:
            await final_stage(recipe, recipe.final, console)
    if stage == planned_stages(recipe)[-1]:
        print_named(console, report=build_report(recipe.run_dir, None))


async def run_all(recipe: Recipe, console: Console) -> None:
    """Raises ``InputError`` before anything starts for a recipe of RL alone."""
    if not is_pipeline(recipe):
        raise InputError(
            "the recipe has none of the sections annotate, sft, select and final: `r1reward train` runs "
            "it, or add the stages that you want"
        )
    for stage in planned_stages(recipe):
        started = time.monotonic()
        logger.info("stage %s", stage)
        await run_stage(recipe, stage, console)
        logger.info("stage %s took %.0f s", stage, time.monotonic() - started)
