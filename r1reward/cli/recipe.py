"""``r1reward recipe ACTION``: what a recipe says and whether it is valid. Nothing heavy is imported."""

import json
from dataclasses import dataclass
from functools import partial

from r1reward.cli.verb import RecipeArguments, Verb, VerbGroup
from r1reward.recipe.files import dump_recipe
from r1reward.recipe.recipe import Recipe


@dataclass(frozen=True)
class NoArguments:
    """The schema is the same for every recipe."""


def show(arguments: RecipeArguments) -> None:
    print(dump_recipe(arguments.load()), end="")


def validate(arguments: RecipeArguments) -> None:
    arguments.load()
    print(f"{arguments.recipe}: valid")


def print_schema(arguments: NoArguments) -> None:
    print(json.dumps(Recipe.model_json_schema(), indent=2))


# Over before SIGTERM matters, so that the module for it need not be imported.
quick_verb = partial(Verb, sigterm_is_ctrl_c=False)
VERB = VerbGroup(
    "recipe",
    "look at a recipe without running it",
    (
        quick_verb("show", "print the resolved recipe", show),
        quick_verb("validate", "check the recipe and say what is wrong", validate),
        quick_verb("schema", "print the JSON schema of a recipe", print_schema),
    ),
)
