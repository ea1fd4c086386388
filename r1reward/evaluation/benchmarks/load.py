"""Loads a benchmark by its name: to evaluate on, or to compare training data with."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from r1reward.data.importers.formats import open_source
from r1reward.errors import DataError, InputError
from r1reward.evaluation.benchmarks.mm_rlhf_rewardbench import MM_RLHF_REWARDBENCH
from r1reward.evaluation.benchmarks.multimodal_rewardbench import MULTIMODAL_REWARDBENCH
from r1reward.evaluation.benchmarks.rows import MediaOptions, unbroken
from r1reward.evaluation.benchmarks.stored_pairs import load_shapes, load_stored_pairs
from r1reward.evaluation.benchmarks.vl_rewardbench import VL_REWARDBENCH
from r1reward.evaluation.items import Benchmark
from r1reward.recipe.choices import ShapesSplit
from r1reward.types import PreferencePair

LOADERS: Mapping[str, Callable[[Path, MediaOptions, int | None], Benchmark]] = {
    "vl-rewardbench": VL_REWARDBENCH.load,
    "mm-rlhf-rewardbench": MM_RLHF_REWARDBENCH.load,
    "multimodal-rewardbench": MULTIMODAL_REWARDBENCH.load,
    "pairs": load_stored_pairs,
}
# The miniature makes its rows itself.
SHAPES_SPLITS: Mapping[str, ShapesSplit] = {
    "shapes": "heldout",
    "shapes-hard": "hard_heldout",
}


def load_benchmark(
    name: str,
    path: Path | None = None,
    media: MediaOptions | None = None,
    num_rows: int | None = None,
) -> Benchmark:
    """Returns the rows of a benchmark, or its first ``num_rows``.

    ``path`` is the benchmark's file or folder; the miniature's splits (``shapes``, ``shapes-hard``) are
    built in and have none. Rows that cannot be used are left out (``Benchmark.unusable``). Raises
    ``InputError`` for an unknown name and a missing path, and ``DataError`` if no row can be used.
    """
    if name in SHAPES_SPLITS:
        return load_shapes(name, SHAPES_SPLITS[name], num_rows)
    if name not in LOADERS:
        known = ", ".join((*LOADERS, *SHAPES_SPLITS))
        raise InputError(f"no benchmark is called {name!r}; choose one of {known}")
    if path is None:
        raise InputError(f"{name} is read from a file: give its path")
    return LOADERS[name](path, media or MediaOptions(), num_rows)


def refuse_unusable(benchmark: Benchmark, why: str) -> None:
    """Raises ``DataError`` where every row of a benchmark is needed and one cannot be used."""
    if benchmark.unusable:
        raise DataError(f"{benchmark.unusable[0]} ({why}: mend the row)")


def comparable_rows(
    name: str, file: Path, images: Path | None, text_only: bool
) -> Iterator[PreferencePair]:
    """Yields every row of the benchmark ``name``, with the benchmark as its source.

    ``images`` is the folder that its paths are relative to, by default the file's own. With
    ``text_only`` the images of a published benchmark need not be there and are not read. Raises
    ``InputError`` for a benchmark that is not known or a row that cannot be read.
    """
    if text_only and name != "pairs":
        rows = map(unbroken, open_source(name, file, None))
        pairs = (replace(row, preferred=row.preferred or 1).pair(()) for row in rows)
    else:
        loaded = load_benchmark(name, file, MediaOptions(root=images))
        refuse_unusable(loaded, "its texts and images cannot be compared")
        pairs = (item.pair for item in loaded.items)
    for pair in pairs:
        yield replace(pair, source=pair.source or name)
