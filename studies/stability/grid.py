"""The grid of the stability study: a file that names stresses, variants and seeds, and its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import Field, ValidationError, model_validator

from r1reward.errors import InputError
from r1reward.recipe.files import load_recipe
from r1reward.recipe.recipe import Recipe
from r1reward.recipe.sections import PositiveInt, Section

Overrides = tuple[str, ...]


class Variant(Section):
    """A recipe beside the grid's file, and what is changed in it after the stress has had its say."""

    recipe: Path
    set: Overrides = ()


class Stress(Section):
    """What makes training hard, for all of its variants alike."""

    set: Overrides = ()
    variants: tuple[str, ...] = Field(min_length=1)
    weights_behind: int = Field(
        default=0, ge=0, description="every batch is sampled with weights this many steps old"
    )
    wrong_per_batch: PositiveInt | None = Field(
        default=None, description="batches are put together to hold this many wrong answers"
    )
    starts_trained: bool = Field(
        default=False, description="from the model of the grid's ``start``"
    )


class FullStack(Section):
    """Cells that run once more through Ray, vLLM and a judge engine, with the grid's first seed."""

    stress: str
    variants: tuple[str, ...]
    set: Overrides = ()


class Grid(Section):
    seeds: tuple[int, ...] = Field(min_length=1)
    set: Overrides = Field(default=(), description="for every cell, before stress and variant")
    variants: dict[str, Variant]
    stresses: dict[str, Stress]
    start: Variant = Field(
        description="trains the model that stresses with starts_trained begin at"
    )
    full_stack: FullStack | None = None

    @model_validator(mode="after")
    def names_exist(self) -> Grid:
        for name, stress in self.stresses.items():
            for variant in stress.variants:
                if variant not in self.variants:
                    raise ValueError(
                        f"stresses.{name} names the variant {variant}, which is not there"
                    )
            if stress.weights_behind and stress.wrong_per_batch:
                raise ValueError(
                    f"stresses.{name}: one of weights_behind and wrong_per_batch, not both"
                )
        if self.full_stack is not None:
            wanted = self.stresses.get(self.full_stack.stress)
            if wanted is None:
                raise ValueError(f"full_stack.stress: there is no stress {self.full_stack.stress}")
            for variant in self.full_stack.variants:
                if variant not in wanted.variants:
                    raise ValueError(
                        f"full_stack: {variant} is no variant of {self.full_stack.stress}"
                    )
        return self


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    stress: str
    variant: str
    seed: int
    recipe: Recipe
    settings: Stress
    full_stack: bool = False

    @property
    def name(self) -> str:
        where = " (full stack)" if self.full_stack else ""
        return f"{self.stress} / {self.variant}{where} / seed {self.seed}"


def load_grid(path: Path) -> Grid:
    """Raises ``InputError`` for a file that is no grid."""
    try:
        return Grid.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None


def grid_cells(grid: Grid, beside: Path, runs: Path) -> list[Cell]:
    """Every cell, in the order of the file; cells that start from the trained model come last."""
    cells = [
        build_cell(grid, beside, runs, stress, variant, seed)
        for stress, settings in grid.stresses.items()
        for variant in settings.variants
        for seed in grid.seeds
    ]
    return sorted(cells, key=lambda cell: cell.settings.starts_trained)


def full_stack_cells(grid: Grid, beside: Path, runs: Path) -> list[Cell]:
    wanted = grid.full_stack
    if wanted is None:
        return []
    return [
        build_cell(
            grid, beside, runs, wanted.stress, variant, grid.seeds[0], wanted.set, full_stack=True
        )
        for variant in wanted.variants
    ]


def build_cell(
    grid: Grid,
    beside: Path,
    runs: Path,
    stress: str,
    variant: str,
    seed: int,
    last: Sequence[str] = (),
    full_stack: bool = False,
) -> Cell:
    settings, chosen = grid.stresses[stress], grid.variants[variant]
    folder = runs / ("full-stack" if full_stack else stress) / variant / f"seed-{seed}"
    overrides = [*grid.set, *settings.set, *chosen.set, *last, f"seed={seed}", f"run_dir={folder}"]
    if settings.starts_trained:
        overrides.append(f"model.path={start_folder(runs) / 'model'}")
    recipe = load_recipe(beside / chosen.recipe, overrides)
    if settings.wrong_per_batch is not None and recipe.rollout.samples_per_prompt > 1:
        raise InputError(f"{stress}: {variant} samples groups, which cannot be put together anew")
    return Cell(stress, variant, seed, recipe, settings, full_stack)


def start_folder(runs: Path) -> Path:
    return runs / "start"


def start_recipe(grid: Grid, beside: Path, runs: Path) -> Recipe:
    overrides = [*grid.set, *grid.start.set, f"run_dir={start_folder(runs)}"]
    return load_recipe(beside / grid.start.recipe, overrides)
