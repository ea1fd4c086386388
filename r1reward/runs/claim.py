"""Whose a folder is: one rule for runs, pipelines, their stages and evaluations.

A folder that holds other work is refused, in one sentence and before anything in it is overwritten.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from r1reward.data.atomic import write_whole
from r1reward.errors import RecipeError, as_input_error
from r1reward.recipe.diff import recipe_changes
from r1reward.recipe.files import dump_recipe
from r1reward.recipe.recipe import RunRecipe
from r1reward.runs.names import ANSWERS, CHECKPOINTS, EVALUATIONS, METRICS, RECIPE, ROLLOUTS, STAGE

Work = Literal["a training run", "a pipeline", "an evaluation"]
# What a folder holds is known by these files.
SIGNS: dict[Work, tuple[str, ...]] = {
    "a training run": (METRICS, CHECKPOINTS, ROLLOUTS, f"{EVALUATIONS}/step-*"),
    "a pipeline": (f"*/{STAGE}",),
    "an evaluation": (ANSWERS,),
}


def holds(folder: Path, work: Work) -> bool:
    """Whether work of this kind has been done in the folder."""
    return any(any(folder.glob(pattern)) for pattern in SIGNS[work])


def claim_by_recipe(folder: Path, work: Work, recipe: RunRecipe, setting: str = "run_dir") -> None:
    """Make the folder, or make sure that it is this recipe's; the resolved recipe is in it then.

    ``setting`` names the folder in error messages. A pipeline's stages say themselves what they were
    made from. Raises ``RecipeError`` for a folder that holds other work, or cannot be written.
    """
    for other in SIGNS:
        if other != work and holds(folder, other):
            raise RecipeError(f"{folder} holds {other}: choose another {setting}")
    changes: list[str] = []
    if work != "a pipeline" and holds(folder, work):
        kept = folder / RECIPE
        if kept.is_file():
            changes = recipe_changes(kept.read_text(encoding="utf-8"), recipe)
        elif work == "an evaluation":
            changes = [f"{ANSWERS} is there without a {RECIPE}"]
    claim_folder(folder, work, changes, {RECIPE: dump_recipe(recipe)}, setting)


def claim_folder(
    folder: Path,
    work: str,
    changes: Sequence[str],
    records: Mapping[str, str],
    setting: str = "run_dir",
) -> None:
    """Write the records (texts by file name) of what is made in the folder from now on.

    ``changes`` says how what is there already was made otherwise. Raises ``RecipeError`` if it was, or
    if the folder cannot be written.
    """
    if changes:
        raise RecipeError(
            f"{folder} holds {work} that was made otherwise ({'; '.join(changes)}): choose another "
            f"{setting}, or remove the folder"
        )
    advice = f"cannot be written, choose another {setting}"
    with as_input_error(f"{folder} {advice}", OSError, kind=RecipeError):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in records.items():
            write_whole(folder / name, text)
