"""Where a run keeps things."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from r1reward.data.atomic import write_whole
from r1reward.data.stores.json_lines import read_json_lines
from r1reward.recipe.recipe import RunRecipe
from r1reward.runs import names
from r1reward.runs.claim import claim_by_recipe
from r1reward.runs.storage import RemoteFolder


class Below:
    """The path of a file or folder in a folder that has a ``root``."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: HasRoot, kind: type) -> Path:
        return folder.root / self.name


class HasRoot(Protocol):
    @property
    def root(self) -> Path: ...


@dataclass(frozen=True)
class RunFolder:
    """``remote`` is its copy in object storage, where the learner's state is kept then."""

    root: Path
    remote: RemoteFolder | None = None

    @classmethod
    def of(cls, recipe: RunRecipe) -> Self:
        url = recipe.run_url
        return cls(recipe.run_dir, None if url is None else RemoteFolder(url))

    recipe = Below(names.RECIPE)
    metrics = Below(names.METRICS)
    rollouts = Below(names.ROLLOUTS)
    checkpoints = Below(names.CHECKPOINTS)
    model = Below(names.MODEL)
    evaluations = Below(names.EVALUATIONS)
    # The model of the best evaluation, where the recipe keeps it.
    best = Below(names.BEST)

    @property
    def remote_checkpoints(self) -> RemoteFolder | None:
        return None if self.remote is None else self.remote / names.CHECKPOINTS

    def evaluation(self, num_steps_done: int) -> Path:
        """An evaluation folder, by the number of steps that are behind the weights."""
        return self.evaluations / names.step_folder(num_steps_done)

    def prepare(self, recipe: RunRecipe) -> None:
        """Create the folder, or make sure that it is this recipe's, wherever it lies now.

        Raises ``RecipeError`` when it holds other work: nothing is overwritten.
        """
        claim_by_recipe(self.root, "a training run", recipe)

    def forget_after(self, num_steps_done: int) -> None:
        """Drop metrics and evaluations of steps that a resumed run will do again."""
        for folder in self.evaluations.glob("step-*"):
            # Half of its answers could be of weights that training does not come to again.
            if int(folder.name.removeprefix("step-")) > num_steps_done:
                shutil.rmtree(folder)
        if self.metrics.is_file():
            # Fine-tuning measures before its first step, too: with nothing done, that comes again.
            done = [m for m in self.read_metrics() if 0 < num_steps_done >= m["step"]]
            write_whole(self.metrics, "".join(f"{json.dumps(metrics)}\n" for metrics in done))

    def read_metrics(self) -> list[dict[str, float]]:
        """The metrics of every step so far. A line that a kill cut short is left out."""
        return read_json_lines(self.metrics)
