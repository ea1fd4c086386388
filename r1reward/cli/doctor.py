"""``r1reward doctor``: what is wrong on this machine, and the fix of each."""

from dataclasses import dataclass
from pathlib import Path

from r1reward.cli.verb import OVERRIDES_HELP, Verb, argument, option
from r1reward.recipe.files import load_recipe


@dataclass(frozen=True)
class DoctorArguments:
    """What to look at. Without a recipe only what every recipe needs is checked."""

    recipe: str | None = argument(nargs="?", help="a YAML file, to check what it needs")
    overrides: list[str] = argument(nargs="*", metavar="KEY=VALUE", help=OVERRIDES_HELP)
    run_dir: Path | None = option(help="default: the recipe's, or runs")
    ports: list[int] = option(nargs="+", default=[], help="that must be free")
    deep: bool = option(help="also load the engines")


def run(arguments: DoctorArguments) -> int:
    """Returns 0 if nothing is wrong, else 1."""
    recipe = None
    if arguments.recipe is not None:
        recipe = load_recipe(arguments.recipe, arguments.overrides)
    from rich.console import Console

    from r1reward.doctor.all_checks import run_checks, show_findings

    findings = run_checks(recipe, arguments.run_dir, arguments.ports, arguments.deep)
    return 0 if show_findings(findings, Console()) else 1


VERB = Verb(
    "doctor", "what is wrong on this machine, and the fix of each; status 1 if something is", run
)
