"""r1reward VERB RECIPE [section.key=value ...]"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence

from r1reward import __version__
from r1reward.config import InputError, Recipe, RecipeError
from r1reward.recipe_file import dump_recipe, load_recipe

OVERRIDES_HELP = "settings to change, for example learner.lr=6e-5"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="r1reward", description="Train generative multimodal reward models with RL."
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in (
        ("train", "train by reinforcement learning; run it again to resume"),
        ("rollout", "sample and judge rollouts without a learner"),
    ):
        add_recipe_arguments(verbs.add_parser(verb, help=text, description=text))
    recipe = verbs.add_parser("recipe", help="look at a recipe without running it")
    actions = recipe.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, text in (
        ("show", "print the resolved recipe"),
        ("validate", "check the recipe and say what is wrong"),
    ):
        add_recipe_arguments(actions.add_parser(action, help=text, description=text))
    actions.add_parser("schema", help="print the JSON schema of a recipe")
    return parser


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=OVERRIDES_HELP)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 on success, 1 when a run fails, 2 for wrong input, 130 after Ctrl-C."""
    chosen = build_parser().parse_args(arguments)
    if chosen.verb == "recipe" and chosen.action == "schema":
        print(json.dumps(Recipe.model_json_schema(), indent=2))
        return 0
    try:
        recipe = load_recipe(chosen.recipe, chosen.overrides)
    except RecipeError as error:
        print(error, file=sys.stderr)
        return 2
    if chosen.verb == "recipe":
        text = dump_recipe(recipe) if chosen.action == "show" else f"{chosen.recipe}: valid\n"
        print(text, end="")
        return 0
    return run_stage(chosen.verb, recipe)


def run_stage(verb: str, recipe: Recipe) -> int:
    """Everything heavy is imported here, so that looking at a recipe stays instant."""
    import asyncio
    import os
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("RAY_SILENT_DEPRECATION", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for noisy in ("httpx", "ray", "asyncio", "vllm", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)

    from rich.console import Console

    from r1reward.launch import root_causes
    from r1reward.stages.rollout import rollout
    from r1reward.stages.train import train

    stages = {"train": train, "rollout": rollout}
    try:
        asyncio.run(stages[verb](recipe, Console()))
    except KeyboardInterrupt:
        print(
            f"stopped; the same command goes on from the last checkpoint of {recipe.run_dir}",
            file=sys.stderr,
        )
        return 130
    except Exception as error:
        return explain(root_causes(error))
    return 0


def explain(causes: Sequence[BaseException]) -> int:
    """Wrong input gets its sentence; everything else its traceback as well."""
    for cause in causes:
        if isinstance(cause, InputError):
            print(cause, file=sys.stderr)
        else:
            logging.error("%s: %s", type(cause).__name__, cause, exc_info=cause)
    return 2 if all(isinstance(cause, InputError) for cause in causes) else 1


if __name__ == "__main__":
    sys.exit(main())
