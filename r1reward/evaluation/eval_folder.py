"""Where an evaluation keeps things."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from r1reward.errors import RecipeError
from r1reward.evaluation.answers import read_answers
from r1reward.evaluation.evaluation import Evaluation
from r1reward.recipe.diff import recipe_changes
from r1reward.recipe.files import dump_recipe
from r1reward.recipe.recipe import EvalRecipe
from r1reward.data.atomic import write_whole
from r1reward.runs.folder import RunFolder


@dataclass(frozen=True)
class EvalFolder:
    """``answers.jsonl`` grows while the model is asked; ``result.json`` is there once it is counted."""

    root: Path

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def rows(self) -> Path:
        return self.root / "pairs.parquet"

    @property
    def answers(self) -> Path:
        return self.root / "answers.jsonl"

    @property
    def blind_answers(self) -> Path:
        return self.root / "answers_image_off.jsonl"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    def prepare(self, recipe: EvalRecipe) -> None:
        """Create the folder, or make sure that its answers were asked for in the same way.

        Raises ``RecipeError`` when they were not, or when the folder is something else: nothing is
        overwritten. Raises ``InputError`` for a line that is no answer.
        """
        if RunFolder(self.root).holds_work:
            raise RecipeError(f"{self.root} holds a training run: choose another --out")
        resolved = dump_recipe(recipe)
        if self.answers.exists():
            if not self.recipe.is_file():
                raise RecipeError(
                    f"{self.answers} is there without a recipe.yaml that says how it was asked for: "
                    "choose another --out"
                )
            changes = recipe_changes(self.recipe.read_text(), recipe)
            if changes:
                raise RecipeError(
                    f"{self.root} holds an evaluation with other settings ({'; '.join(changes)}): choose "
                    "another --out, or remove it"
                )
        for path in (self.answers, self.blind_answers):
            read_answers(path)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            write_whole(self.recipe, resolved)
        except OSError as error:
            raise RecipeError(
                f"{self.root} cannot be written ({error.strerror}): choose another --out"
            ) from error

    def write_result(self, evaluation: Evaluation) -> None:
        write_whole(self.result, json.dumps(evaluation.to_json(), indent=1))
