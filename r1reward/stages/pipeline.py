"""``r1reward run``: every stage of the recipe in turn. What is complete is skipped."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from rich.console import Console

from r1reward.config import Recipe
from r1reward.stages.annotate import annotate_stage
from r1reward.stages.final import final_stage
from r1reward.stages.plan import StageName, is_pipeline, planned_stages
from r1reward.stages.rl import rl_stage
from r1reward.stages.select import select_stage
from r1reward.stages.sft import sft_stage
from r1reward.stages.train import train

logger = logging.getLogger(__name__)

STAGES: dict[StageName, Callable[[Recipe, Console], Awaitable[None]]] = {
    "annotate": annotate_stage,
    "sft": sft_stage,
    "select": select_stage,
    "train": rl_stage,
    "eval": final_stage,
}


async def run_stage(recipe: Recipe, stage: StageName, console: Console) -> None:
    """One stage alone. Raises ``InputError`` if one that it builds on is not complete."""
    if stage == "train" and not is_pipeline(recipe):
        await train(recipe, console)
    else:
        await STAGES[stage](recipe, console)


async def run_all(recipe: Recipe, console: Console) -> None:
    for stage in planned_stages(recipe):
        started = time.monotonic()
        logger.info("stage %s", stage)
        await run_stage(recipe, stage, console)
        logger.info("stage %s took %.0f s", stage, time.monotonic() - started)
