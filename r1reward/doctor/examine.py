"""``r1reward doctor``: what is not as it should be on this machine, and what to do about each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from r1reward.doctor.devices import check_compiler, check_gpus, check_imports, check_torchvision
from r1reward.doctor.finding import Finding
from r1reward.doctor.packages import check_packages
from r1reward.doctor.places import (
    RAY_PORTS,
    check_cluster,
    check_loopback,
    check_ports,
    check_run_dir,
    check_run_url,
    check_shared_memory,
)
from r1reward.errors import InputError
from r1reward.recipe.recipe import Recipe

MARKS = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "problem": "[red]fix[/red]"}


@dataclass(frozen=True)
class Wanted:
    """What to look at. Without a recipe nothing is asked of GPUs and compiler."""

    recipe: Recipe | None = None
    run_dir: Path | None = None
    ports: tuple[int, ...] = ()
    deep: bool = False


def examine(wanted: Wanted) -> Iterator[Finding]:
    """Every check, quick ones first."""
    recipe = wanted.recipe
    yield from check_packages()
    remote = "RAY_ADDRESS" in os.environ
    yield check_gpus(0 if recipe is None or remote else num_gpus(recipe))
    yield check_torchvision()
    yield check_compiler(recipe is not None and recipe.learner.offload_optimizer)
    folder = wanted.run_dir or (recipe.run_dir if recipe is not None else Path("runs"))
    yield check_run_dir(folder)
    if recipe is not None and recipe.run_url is not None:
        yield check_run_url(recipe.run_url)
    yield check_shared_memory(None if recipe is None else store_size(recipe))
    yield check_loopback()
    if wanted.ports or not remote:
        yield from check_ports(wanted.ports or RAY_PORTS, asked=bool(wanted.ports))
    yield from check_cluster(dict(os.environ))
    if wanted.deep:
        yield from check_imports()


def num_gpus(recipe: Recipe) -> int:
    from r1reward.recipe.components import judge_settings, rollout_settings
    from r1reward.sizing.bundles import ROLES, plan_bundles

    rollout = rollout_settings(recipe.model, recipe.rollout, recipe.placement)
    judge = judge_settings(recipe.judge, recipe.model, recipe.placement)
    bundles = plan_bundles(recipe.placement, rollout, judge, recipe.learner)
    return int(sum(bundle.get("GPU", 0) for role in ROLES for bundle in bundles[role]))


def store_size(recipe: Recipe) -> int | None:
    """Bytes of two bundles of weights; None when the model's size is not known here."""
    from r1reward.models.model_shape import read_model_shape
    from r1reward.sizing.memory_plan import store_bytes

    try:
        return store_bytes(read_model_shape(recipe.model.path), recipe.model.dtype)
    except InputError:
        return None


def doctor(wanted: Wanted, console: Console) -> bool:
    """Print what was found, as it is found; True when nothing is wrong."""
    num_problems = 0
    for finding in examine(wanted):
        show(finding, console)
        num_problems += finding.state == "problem"
    if num_problems:
        things = "thing" if num_problems == 1 else "things"
        console.print(f"\n[red]{num_problems} {things} to fix[/red]", highlight=False)
    else:
        console.print("\n[green]nothing is wrong[/green]", highlight=False)
    return num_problems == 0


def show(finding: Finding, console: Console) -> None:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=4)
    row.add_column(width=16)
    row.add_column(overflow="fold")
    row.add_row(MARKS[finding.state], f"[bold]{finding.name}[/bold]", finding.what)
    console.print(row, highlight=False)
    if finding.fix:
        console.print(Padding(f"[cyan]{finding.fix}[/cyan]", (0, 0, 0, 22)), highlight=False)
