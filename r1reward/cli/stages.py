"""``r1reward run``, which runs every stage of a recipe, and a verb for each of its stages alone."""

from __future__ import annotations

from functools import partial

from r1reward.cli.verb import GOES_ON, RecipeArguments, Verb
from r1reward.recipe.derive import StageName
from r1reward.recipe.recipe import Recipe


def run_in_folder(recipe: Recipe, stage: StageName | None) -> None:
    """Runs one stage, or all of them, while the run folder is claimed and copied."""
    import asyncio

    from rich.console import Console

    from r1reward.runs.mirroring import kept_copied

    with kept_copied(recipe):
        from r1reward.pipeline.run import run_all, run_stage

        console = Console()
        work = run_all(recipe, console) if stage is None else run_stage(recipe, stage, console)
        asyncio.run(work)


def run(stage: StageName | None, arguments: RecipeArguments) -> None:
    run_in_folder(arguments.load(), stage)


def stage_verb(stage: StageName, text: str, after_ctrl_c: str = GOES_ON) -> Verb[RecipeArguments]:
    return Verb(stage, text, RecipeArguments, partial(run, stage), after_ctrl_c=after_ctrl_c)


EVERY_STAGE = "every stage of a pipeline recipe; run it again to go on"
VERBS = (
    Verb("run", EVERY_STAGE, RecipeArguments, partial(run, None)),
    stage_verb("annotate", "a teacher writes traces; its attempts tell how hard a pair is"),
    stage_verb("sft", "supervised fine-tuning on the teacher's agreeing traces"),
    stage_verb("select", "choose the pairs that reinforcement learning trains on"),
    stage_verb(
        "train",
        "train by reinforcement learning; run it again to resume",
        after_ctrl_c="goes on from the last checkpoint",
    ),
)
