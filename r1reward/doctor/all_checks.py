"""``r1reward doctor``: every check of this machine in turn, and its findings in the terminal."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from r1reward.doctor import connections, devices, folders, packages
from r1reward.doctor.finding import Finding
from r1reward.errors import InputError
from r1reward.recipe.recipe import Recipe

LABELS = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "problem": "[red]fix[/red]"}


def run_checks(
    recipe: Recipe | None, run_dir: Path | None, ports: Sequence[int], deep: bool
) -> Iterator[Finding]:
    """Yields the findings of every check, quick ones first.

    Without a recipe no GPUs and no compiler are needed. ``ports`` must be free; ``deep`` also loads the
    libraries of the engines.
    """
    has_cluster = "RAY_ADDRESS" in os.environ
    yield from packages.check_packages()
    yield devices.check_gpus(0 if recipe is None or has_cluster else gpus_of(recipe))
    yield devices.check_torchvision()
    yield devices.check_compiler(recipe is not None and recipe.learner.offload_optimizer)
    yield folders.check_run_dir(run_dir or (Path("runs") if recipe is None else recipe.run_dir))
    if recipe is not None and recipe.run_url is not None:
        yield folders.check_run_url(recipe.run_url)
    yield folders.check_shared_memory(None if recipe is None else known_store_bytes(recipe))
    yield connections.check_loopback()
    if ports or not has_cluster:
        yield from connections.check_ports(ports or connections.RAY_PORTS, must_be_free=bool(ports))
    yield connections.check_proxies(os.environ)
    yield from connections.check_cluster(os.environ)
    if deep:
        yield from devices.check_imports()


def gpus_of(recipe: Recipe) -> int:
    """Returns the GPUs that the recipe's actors ask Ray for."""
    # Imported late, here and below: missing packages are reported before these need them.
    from r1reward.sizing.bundles import num_gpus, training_bundles

    return sum(map(num_gpus, training_bundles(recipe).values()))


def known_store_bytes(recipe: Recipe) -> int | None:
    """Returns the bytes of two bundles of weights, None when the model's size is not known here."""
    from r1reward.models.model_shape import read_model_shape
    from r1reward.sizing.memory_plan import store_bytes

    with suppress(InputError):
        return store_bytes(read_model_shape(recipe.model.path), recipe.model.dtype)
    return None


def show_findings(findings: Iterable[Finding], console: Console) -> bool:
    """Prints every finding as it is made. Returns whether nothing is wrong."""
    num_problems = 0
    for finding in findings:
        show(finding, console)
        num_problems += finding.state == "problem"
    things = "thing" if num_problems == 1 else "things"
    to_fix = f"[red]{num_problems} {things} to fix[/red]"
    summary = to_fix if num_problems else "[green]nothing is wrong[/green]"
    console.print(f"\n{summary}", highlight=False)
    return num_problems == 0


def show(finding: Finding, console: Console) -> None:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=4)
    row.add_column(width=16)
    row.add_column(overflow="fold")
    row.add_row(LABELS[finding.state], f"[bold]{finding.check}[/bold]", finding.message)
    console.print(row, highlight=False)
    if finding.fix:
        console.print(Padding(f"[cyan]{finding.fix}[/cyan]", (0, 0, 0, 22)), highlight=False)
