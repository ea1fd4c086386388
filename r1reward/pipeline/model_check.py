"""``r1reward model check``: what a model is, what is supported and why not, and whether it is right."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Literal

from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from r1reward.models.family import is_measured, load_config
from r1reward.models.parts import parts_of
from r1reward.pipeline.check_cells import Cell
from r1reward.pipeline.engine_check import EngineCheck
from r1reward.pipeline.learner_check import LearnerCheck
from r1reward.recipe.engine_sections import PlacementSection
from r1reward.recipe.sections import Dtype, ModelSection


def check_model(path: str, device: Literal["cpu", "cuda"], dtype: Dtype, console: Console) -> bool:
    """Prints every measurement. Returns whether all are right.

    Raises ``InputError`` for a model that cannot be loaded.
    """
    disable_progress_bar()
    model = section_to_check(path, dtype)
    config = load_config(path)
    learner = LearnerCheck(model)
    tested = "" if is_measured(config) else ", a kind that was not measured before"
    console.print(f"{path}: {config.model_type}{tested}")
    counts = Counter(parts_of(learner.policy.hf).values())
    console.print("parameters: " + ", ".join(f"{n} of {part}" for part, n in counts.items()))
    cells = learner.cells()
    mode: Literal["colocate", "split"] = "colocate" if device == "cuda" else "split"
    placement = PlacementSection(device=device, mode=mode, threads=1)
    cells += asyncio.run(EngineCheck(model, placement).cells())
    console.print(table_of(cells))
    return all(cell.is_right for cell in cells)


def section_to_check(path: str, dtype: Dtype = "float32") -> ModelSection:
    """Bounds that the check's own pictures and answers fit into."""
    return ModelSection(
        path=path, dtype=dtype, max_prompt_tokens=2048, max_new_tokens=24, max_images=2
    )


def table_of(cells: list[Cell]) -> Table:
    table = Table("measured", "found", "", box=None)
    for cell in cells:
        table.add_row(cell.name, cell.found, "" if cell.is_right else "[red]wrong")
    return table
