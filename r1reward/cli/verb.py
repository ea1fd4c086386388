"""What the file of a verb holds: a dataclass of its arguments, and the function that gets them."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from r1reward.recipe.files import load_recipe
from r1reward.recipe.recipe import Recipe

OVERRIDES_HELP = "settings to change, for example learner.lr=6e-5"
GOES_ON = "goes on where it was"


def argument(**settings: Any) -> Any:
    """A positional argument, as a field of a dataclass.

    ``settings``: those of ``add_argument`` that the field's type does not tell (``settings_of_type``).
    """
    return field(metadata={"prefix": "", "settings": settings})


def option(recipe: str = "", **settings: Any) -> Any:
    """An option with the name of its field: ``gpu_gb`` is given as ``--gpu-gb``.

    ``recipe``: the dotted name of the setting of a recipe that it is.
    """
    return field(metadata={"prefix": "--", "settings": settings, "recipe": recipe})


@dataclass(frozen=True)
class Verb:
    """One verb. ``run`` takes a dataclass, whose fields are made by ``argument`` and ``option``.

    It imports what is heavy itself, so that ``--help`` stays instant; it returns the exit status,
    None for 0. ``after_ctrl_c`` says what the same command does when it is given again.
    """

    name: str
    help: str
    run: Callable[[Any], int | None]
    usage: str | None = None
    after_ctrl_c: str = GOES_ON
    sigterm_is_ctrl_c: bool = True

    @property
    def arguments(self) -> Any:
        """The dataclass that ``run`` takes."""
        return get_type_hints(self.run)["arguments"]


@dataclass(frozen=True)
class VerbGroup:
    """A verb that is followed by one of several actions, each a verb of its own."""

    name: str
    help: str
    actions: Sequence[Verb]


@dataclass(frozen=True)
class RecipeArguments:
    """A recipe file and the settings of it to change."""

    recipe: str = argument(help="a YAML file")
    overrides: list[str] = argument(nargs="*", metavar="KEY=VALUE", help=OVERRIDES_HELP)

    def load(self) -> Recipe:
        """Returns the recipe with its overrides. Raises ``RecipeError``."""
        return load_recipe(self.recipe, self.overrides)


def add_verbs(
    parser: argparse.ArgumentParser, metavar: str, verbs: Sequence[Verb | VerbGroup]
) -> None:
    """Adds a parser for every verb, which leaves its ``Verb`` in the namespace as ``chosen_verb``."""
    subparsers = parser.add_subparsers(required=True, metavar=metavar)
    for verb in verbs:
        below = subparsers.add_parser(verb.name, help=verb.help, description=verb.help)
        if isinstance(verb, VerbGroup):
            add_verbs(below, "ACTION", verb.actions)
            continue
        below.usage = verb.usage
        below.set_defaults(chosen_verb=verb)
        types = get_type_hints(verb.arguments)
        for item in fields(verb.arguments):
            prefix, given = item.metadata["prefix"], item.metadata["settings"]
            name = item.name.replace("_", "-") if prefix else item.name
            settings = settings_of_type(types[item.name], given) | given
            below.add_argument(prefix + name, **settings)


def settings_of_type(kind: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``add_argument`` that follow from a type, beside those that are ``given``.

    None stands for what is not given; a list without ``nargs`` for an option that is given repeatedly.
    """
    if kind is bool:
        return {"action": "store_true"}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    if inner := [each for each in get_args(kind) if each is not NoneType]:
        repeated = get_origin(kind) is list and "nargs" not in given
        several = {"action": "append", "default": []} if repeated else {}
        return several | settings_of_type(inner[0], given)
    return {} if kind is str else {"type": kind}
