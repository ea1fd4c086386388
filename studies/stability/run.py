"""The stability study: presets and parts of StableReinforce under stress, over several seeds.

Cells run two at a time, each the ordinary loop in one process on one thread; then some once more through
Ray, vLLM and a judge engine. What has ended is kept on disk and skipped.

    python -m studies.stability.run recipes/studies/stability.yaml --out docs/stability.md
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console

from r1reward.pipeline.train import run_training
from r1reward.recipe.recipe import Recipe
from r1reward.runs.folder import RunFolder
from studies.document_tables import check_marks, fill
from studies.stability.cells import run_cell
from studies.stability.curves import draw_stress
from studies.stability.grid import Cell, Grid, full_stack_cells, grid_cells, load_grid, start_recipe
from studies.stability.outcome import Outcome, read_outcome
from studies.stability.tables import cells_table, contributions_table

logger = logging.getLogger(__name__)


def study(
    grid: Grid, beside: Path, runs: Path, num_workers: int, console: Console
) -> list[Outcome]:
    """Run what is missing of the grid; every outcome, in the order of the grid's file."""
    cells = grid_cells(grid, beside, runs)
    start = start_recipe(grid, beside, runs)
    early = [cell for cell in cells if not cell.settings.starts_trained]
    late = [cell for cell in cells if cell.settings.starts_trained]
    # Spawned workers hold one engine after the other; a forked one would share the parent's threads.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=spawn) as pool:
        trained = pool.submit(train_start, start) if late else None
        finish({pool.submit(run_cell, cell): cell for cell in early}, console)
        if trained is not None:
            trained.result()
        finish({pool.submit(run_cell, cell): cell for cell in late}, console)
    through_ray = full_stack_cells(grid, beside, runs)
    for cell in through_ray:
        run_cell(cell)
        console.print(describe(read_outcome(cell)), highlight=False)
    return [read_outcome(cell) for cell in (*cells, *through_ray)]


def train_start(recipe: Recipe) -> None:
    """The model that late training starts from."""
    folder = RunFolder(recipe.run_dir)
    if folder.model.is_dir():
        return
    shutil.rmtree(folder.root, ignore_errors=True)
    asyncio.run(run_training(recipe, Console(quiet=True)))


def finish(running: dict[Future[None], Cell], console: Console) -> None:
    for done, future in enumerate(as_completed(running), start=1):
        try:
            future.result()
        except BaseException:
            for waiting in running:
                waiting.cancel()
            raise
        outcome = read_outcome(running[future])
        console.print(f"{done:3}/{len(running)}  {describe(outcome)}", highlight=False)


def describe(outcome: Outcome) -> str:
    after = "-" if outcome.after is None else f"{100 * outcome.after.accuracy.value:.1f} %"
    collapsed = (
        "" if outcome.collapsed_at is None else f", collapsed at step {outcome.collapsed_at}"
    )
    broken = f", {outcome.broken}" if outcome.broken else ""
    return f"{outcome.cell.name}: right after {after}{collapsed}{broken} ({outcome.seconds:.0f} s)"


def tables(grid: Grid, outcomes: Sequence[Outcome]) -> dict[str, str]:
    found = {}
    for stress in grid.stresses:
        ours = [outcome for outcome in outcomes if outcome.cell.stress == stress]
        found[f"{stress} cells"] = cells_table(ours)
        found[f"{stress} contributions"] = contributions_table(ours)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Presets under stress, over several seeds.")
    parser.add_argument("grid", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/study-stability"))
    parser.add_argument("--workers", type=int, default=2, help="cells at a time, a core each")
    parser.add_argument("--out", type=Path, default=None, help="file whose tables are replaced")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    console = Console()
    grid = load_grid(chosen.grid)
    names = [f"{stress} {kind}" for stress in grid.stresses for kind in ("cells", "contributions")]
    if chosen.out is not None:
        check_marks(chosen.out, *names)
    started = time.monotonic()
    outcomes = study(grid, chosen.grid.parent, chosen.runs, chosen.workers, console)
    console.print(f"took {(time.monotonic() - started) / 60:.1f} minutes", highlight=False)
    for name, text in tables(grid, outcomes).items():
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        if chosen.out is not None:
            fill(chosen.out, text, name)
    if chosen.out is not None:
        for stress in grid.stresses:
            ours = [outcome for outcome in outcomes if outcome.cell.stress == stress]
            draw_stress(ours, chosen.out.parent / "images" / f"stability-{stress}.svg")


if __name__ == "__main__":
    main()
