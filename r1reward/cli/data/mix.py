"""``r1reward data mix``: one store from several, by quotas and weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r1reward.cli.data.action import data_verb, positive_number, print_report, progress
from r1reward.cli.verb import argument, option
from r1reward.errors import InputError

if TYPE_CHECKING:
    from r1reward.data.cleaning.mix import MixRecipe


@dataclass(frozen=True)
class MixArguments:
    """A recipe of a mix, or its sources."""

    composition: Path | None = argument(nargs="?", help="a YAML file (recipes/mix_200k.yaml)")
    source: list[str] = option(
        metavar="DIR[:ROWS|:wWEIGHT]",
        help="without a recipe: a store, and how much of it (default: all); several times",
    )
    weighted_rows: int | None = option(help="what sources with weights share")
    seed: int | None = option(help="default: the recipe's, or 0")
    out: Path = option(required=True)


def run(arguments: MixArguments) -> None:
    from r1reward.data.cleaning.mix import mix

    recipe = mix_recipe(arguments)
    with progress("mix") as on_rows:
        report = mix(recipe, arguments.out, on_rows)
    print_report(report, arguments.out)


def mix_recipe(arguments: MixArguments) -> MixRecipe:
    """Builds the recipe of the mix from its file or from ``--source``. Raises ``InputError``."""
    from r1reward.data.cleaning.mix import MixRecipe, load_mix
    from r1reward.recipe.files import validated

    if (arguments.composition is None) == (not arguments.source):
        raise InputError("mix needs a recipe or --source, and not both")
    seed = {} if arguments.seed is None else {"seed": arguments.seed}
    if arguments.composition is not None:
        recipe = load_mix(arguments.composition)
        return validated(MixRecipe, recipe.model_dump() | seed, str(arguments.composition))
    sources = [parse_source(source) for source in arguments.source]
    settings = {"sources": sources, "weighted_rows": arguments.weighted_rows, **seed}
    return validated(MixRecipe, settings, "mix")


def parse_source(text: str) -> dict[str, object]:
    """Reads ``DIR``, ``DIR:500`` (rows) or ``DIR:w0.5`` (a weight). Raises ``InputError``."""
    store, colon, amount = text.rpartition(":")
    if not colon or not store:
        return {"store": text}
    if amount.startswith("w"):
        weight = positive_number(amount[1:], f"--source {text}: the weight")
        return {"store": store, "weight": weight}
    if not amount.isdecimal() or int(amount) < 1:
        raise InputError(
            f"--source {text}: {amount!r} is neither a number of rows nor a weight (w0.5)"
        )
    return {"store": store, "rows": int(amount)}


VERB = data_verb("mix", "one store from several, by quotas and weights", run)
