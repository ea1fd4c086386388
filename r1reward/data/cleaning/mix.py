"""One store from several: quotas, weights and categories, drawn by a seed and by content."""

import heapq
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from pydantic import Field

from r1reward.data.import_report import ImportReport
from r1reward.data.order import derive_seed
from r1reward.data.stores.key_set import KeySet
from r1reward.data.stores.row_copy import (
    DerivedStore,
    common_media,
    copied_rows,
    keys_and_categories,
)
from r1reward.data.video import MediaFolder
from r1reward.errors import InputError, RecipeError, as_input_error
from r1reward.recipe.files import validated
from r1reward.recipe.sections import PositiveInt, Section


class MixSource(Section):
    """Pairs to draw from: ``rows`` of them, a ``weight`` of ``weighted_rows``, or all."""

    store: Path
    category: str | None = Field(default=None, description="only the pairs of this category")
    rows: PositiveInt | None = None
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    def check(self) -> None:
        if self.rows is not None and self.weight is not None:
            raise ValueError(f"{self.store} has rows and a weight: leave one of them out")

    @property
    def name(self) -> str:
        return f"{self.store}" + (f" ({self.category})" if self.category is not None else "")


class MixRecipe(Section):
    """The composition of a store. ``weighted_rows`` is shared out among the sources with weights."""

    seed: int = 0
    weighted_rows: PositiveInt | None = None
    sources: tuple[MixSource, ...] = Field(min_length=1)

    def check(self) -> None:
        has_weights = any(source.weight is not None for source in self.sources)
        if has_weights != (self.weighted_rows is not None):
            raise ValueError("weighted_rows and weights go together: give both, or neither of them")


def load_mix(path: Path) -> MixRecipe:
    """Returns the composition of a file. Raises ``RecipeError`` naming the file and every setting that
    is wrong.
    """
    unreadable = (yaml.YAMLError, UnicodeDecodeError, OSError)
    with as_input_error(f"{path}: no recipe of a mix", *unreadable, kind=RecipeError):
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    return validated(MixRecipe, settings, str(path))


def mix(
    recipe: MixRecipe, out: Path, on_rows: Callable[[int], None] = lambda num_rows: None
) -> ImportReport:
    """Writes the store of a composition, drawn without replacement; sources are spread evenly over it.

    A pair that two sources hold is drawn from the first. Raises ``InputError`` for a source that has
    fewer pairs than are asked of it.
    """
    media = common_media([source.store for source in recipe.sources])
    store = DerivedStore(out, media, {"mix": recipe.model_dump(mode="json")})
    drawn = KeySet()
    chosen = [
        choose(source, rows, recipe.seed, drawn)
        for source, rows in zip(recipe.sources, quotas(recipe), strict=True)
    ]
    spread = [
        spread_rows(source, indices, number, media)
        for number, (source, (indices, _)) in enumerate(zip(recipe.sources, chosen, strict=True))
    ]
    for _, number, origin, row in heapq.merge(*spread, key=lambda item: item[:2]):
        store.add(row, origin)
        store.report.note(f"from {recipe.sources[number].name}", origin)
        on_rows(store.report.num_written)
    for source, (indices, num_rows) in zip(recipe.sources, chosen, strict=True):
        not_drawn = num_rows - len(indices)
        store.drop("not drawn", f"{source.name}: {not_drawn:,} of {num_rows:,} rows", not_drawn)
    return store.finish()


def quotas(recipe: MixRecipe) -> list[int | None]:
    """Returns the number of rows of every source, None for all; largest remainders make the weighted
    ones add up.
    """
    weights = [Fraction(source.weight or 0) for source in recipe.sources]
    exact = [(recipe.weighted_rows or 0) * weight / (sum(weights) or 1) for weight in weights]
    rows = [math.floor(share) for share in exact]
    missing = (recipe.weighted_rows or 0) - sum(rows)
    by_remainder = sorted(range(len(rows)), key=lambda i: (rows[i] - exact[i], i))
    for number in by_remainder[:missing]:
        rows[number] += 1
    return [
        rows[number] if source.weight is not None else source.rows
        for number, source in enumerate(recipe.sources)
    ]


def choose(
    source: MixSource, num_rows: int | None, seed: int, drawn: KeySet
) -> tuple[Sequence[int], int]:
    """Returns the indices of the drawn rows, in order: those whose keys hash lowest; and of how many."""
    indices, ranks, keys = array("q"), array("Q"), array("Q")
    own = KeySet()
    index = -1
    for index, (key, category) in enumerate(keys_and_categories(source.store)):
        wanted = source.category is None or category == source.category
        if wanted and key not in drawn and own.add(key):
            indices.append(index)
            keys.append(int(key, 16))
            ranks.append(derive_seed("mix", seed, key))
    if num_rows is not None and num_rows > len(indices):
        raise InputError(
            f"{source.name}: {num_rows:,} pairs are asked for and {len(indices):,} are there "
            "(pairs of earlier sources apart): lower its share, or add pairs"
        )
    lowest = np.argsort(np.asarray(ranks), kind="stable")[:num_rows]
    for rank in lowest:
        drawn.add(f"{keys[rank]:016x}")
    return sorted(indices[rank] for rank in lowest), index + 1


def spread_rows(
    source: MixSource, indices: Sequence[int], number: int, media: MediaFolder | None
) -> Iterator[tuple[float, int, str, dict[str, Any]]]:
    """Yields the chosen rows, each behind its position in the mix (between 0 and 1), its source and its
    origin.
    """
    rows = enumerate(copied_rows(source.store, media))
    for count, wanted in enumerate(indices):
        origin, row = next(item for index, item in rows if index == wanted)
        yield (count + 0.5) / len(indices), number, origin, row
