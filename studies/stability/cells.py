"""Running one cell: an ordinary training run from a changed source, and how it ended."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import time
from pathlib import Path

from rich.console import Console

from r1reward.actors.launch import root_causes
from r1reward.data.atomic import write_whole
from r1reward.engines.deepspeed_engine import NonFiniteLossError
from r1reward.pipeline.train import run_training
from r1reward.recipe.recipe import Recipe
from r1reward.runs.folder import RunFolder
from studies.stability.grid import Cell
from studies.stability.stress import stressed


def ending_file(recipe: Recipe) -> Path:
    return recipe.run_dir / "ending.json"


def run_cell(cell: Cell) -> None:
    """Train the cell from its beginning, unless it has ended already.

    A loss or gradient that is not finite ends a cell, and is what the study looks for; every other
    error is raised.
    """
    recipe = cell.recipe
    if ending_file(recipe).is_file():
        return
    shutil.rmtree(recipe.run_dir, ignore_errors=True)
    # What every run says of itself is in its folder; a grid's workers only disturb each other.
    logging.getLogger("r1reward").setLevel(logging.ERROR)
    shared = base_evaluation(cell)
    at_start = RunFolder(recipe.run_dir).evaluation(0)
    if shared.is_dir():
        shutil.copytree(shared, at_start.parent)
    started = time.monotonic()
    broken = ""
    try:
        asyncio.run(
            run_training(recipe, Console(quiet=True), lambda live: stressed(live, cell.settings))
        )
    except BaseException as error:
        causes = root_causes(error)
        if not causes or not all(isinstance(cause, NonFiniteLossError) for cause in causes):
            raise
        broken = str(causes[0])
    if not shared.is_dir():
        keep_base_evaluation(at_start, shared)
    shutil.rmtree(RunFolder(recipe.run_dir).checkpoints, ignore_errors=True)
    ending = {"broken": broken, "seconds": time.monotonic() - started}
    write_whole(ending_file(recipe), json.dumps(ending) + "\n")


def base_evaluation(cell: Cell) -> Path:
    """Where the evaluation of the untouched model is kept: cells of one seed and start share it."""
    kind = (
        "full-stack" if cell.full_stack else "trained" if cell.settings.starts_trained else "base"
    )
    return cell.recipe.run_dir.parents[2] / "before" / f"{kind}-{cell.seed}"


def keep_base_evaluation(at_start: Path, shared: Path) -> None:
    partial = shared.with_name(f".{shared.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in at_start.parent.iterdir():
        if path.is_file():
            shutil.copy2(path, partial)
    shutil.copytree(at_start, partial / at_start.name)
    if not shared.is_dir():
        partial.rename(shared)
