"""``r1reward run`` and the verbs that do a part of it: they take a recipe and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from r1reward.cli.verb import GOES_ON, RecipeArguments, Verb
from r1reward.recipe.derive import StageName
from r1reward.recipe.recipe import Recipe, RunRecipe

if TYPE_CHECKING:
    from rich.console import Console

AnyRecipe = TypeVar("AnyRecipe", bound=RunRecipe)
Work = Coroutine[Any, Any, object]


def run_in_folder(recipe: AnyRecipe, work: Callable[[AnyRecipe, Console], Work]) -> None:
    """Does the work while the run folder is claimed and copied. ``work`` imports what is heavy."""
    import asyncio

    from rich.console import Console

    from r1reward.runs.mirroring import kept_copied

    with kept_copied(recipe):
        asyncio.run(work(recipe, Console()))


def run(recipe: Recipe, console: Console) -> Work:
    from r1reward.pipeline.run import run_all

    return run_all(recipe, console)


def run_stage(stage: StageName, recipe: Recipe, console: Console) -> Work:
    from r1reward.pipeline import run as pipeline

    return pipeline.run_stage(recipe, stage, console)


def rollout(recipe: Recipe, console: Console) -> Work:
    from r1reward.pipeline.sample import sample_rollouts

    return sample_rollouts(recipe, console)


def recipe_verb(
    name: str, text: str, work: Callable[[Recipe, Console], Work], after_ctrl_c: str = GOES_ON
) -> Verb:
    def load_and_run(arguments: RecipeArguments) -> None:
        run_in_folder(arguments.load(), work)

    return Verb(name, text, load_and_run, after_ctrl_c=after_ctrl_c)


def stage_verb(stage: StageName, text: str, after_ctrl_c: str = GOES_ON) -> Verb:
    return recipe_verb(stage, text, partial(run_stage, stage), after_ctrl_c)


VERBS = (
    recipe_verb("run", "every stage of a pipeline recipe; run it again to go on", run),
    stage_verb("annotate", "a teacher writes traces; its attempts tell how hard a pair is"),
    stage_verb("sft", "supervised fine-tuning on the teacher's agreeing traces"),
    stage_verb("select", "choose the pairs that reinforcement learning trains on"),
    stage_verb(
        "train",
        "train by reinforcement learning; run it again to resume",
        after_ctrl_c="goes on from the last checkpoint",
    ),
    recipe_verb("rollout", "sample and judge rollouts without a learner", rollout),
)
