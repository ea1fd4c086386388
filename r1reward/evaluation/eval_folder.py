"""Where an evaluation keeps things."""

import json
from dataclasses import dataclass
from pathlib import Path

from r1reward.data.atomic import write_whole
from r1reward.evaluation.answers import read_answers
from r1reward.evaluation.evaluation import Evaluation
from r1reward.recipe.recipe import EvalRecipe
from r1reward.runs import names
from r1reward.runs.claim import claim_by_recipe
from r1reward.runs.folder import Below


@dataclass(frozen=True)
class EvalFolder:
    """``answers.jsonl`` grows while the model is asked; ``result.json`` is there once it is counted."""

    root: Path

    recipe = Below(names.RECIPE)
    rows = Below(names.SHOWN_PAIRS)
    answers = Below(names.ANSWERS)
    blind_answers = Below(names.BLIND_ANSWERS)
    result = Below(names.RESULT)

    def prepare(self, recipe: EvalRecipe) -> None:
        """Create the folder, or make sure that its answers were asked for in the same way.

        A file in which every sample is without an answer is removed: they may be asked in another way.
        Raises ``RecipeError`` when they were not, or when the folder is something else: nothing is
        overwritten. Raises ``InputError`` for a line that is no answer.
        """
        for path in (self.answers, self.blind_answers):
            answers = read_answers(path)
            if answers and all(answer.is_missing for answer in answers):
                path.unlink()
        claim_by_recipe(self.root, "an evaluation", recipe, "--out")

    def write_result(self, evaluation: Evaluation) -> None:
        write_whole(self.result, json.dumps(evaluation.to_json(), indent=1))
