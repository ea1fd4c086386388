"""Loads a benchmark by its name."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from r1reward.errors import InputError
from r1reward.evaluation.benchmarks.mm_rlhf_rewardbench import MM_RLHF_REWARDBENCH
from r1reward.evaluation.benchmarks.multimodal_rewardbench import MULTIMODAL_REWARDBENCH
from r1reward.evaluation.benchmarks.rows import MediaOptions
from r1reward.evaluation.benchmarks.stored_pairs import load_shapes, load_stored_pairs
from r1reward.evaluation.benchmarks.vl_rewardbench import VL_REWARDBENCH
from r1reward.evaluation.items import Benchmark
from r1reward.recipe.choices import BenchmarkName

FROM_FILES = {
    "vl-rewardbench": VL_REWARDBENCH.load,
    "mm-rlhf-rewardbench": MM_RLHF_REWARDBENCH.load,
    "multimodal-rewardbench": MULTIMODAL_REWARDBENCH.load,
    "pairs": load_stored_pairs,
}


def load_benchmark(
    name: str,
    path: Path | None = None,
    media: MediaOptions | None = None,
    num_rows: int | None = None,
) -> Benchmark:
    """Returns the rows of a benchmark, or its first ``num_rows``.

    ``path`` is the benchmark's file or folder; the miniature's splits (``shapes``, ``shapes-hard``) are
    built in and have none. Raises ``InputError`` for an unknown name and a missing path, and
    ``DataError`` for a row that cannot be used.
    """
    known = get_args(BenchmarkName)
    if name not in known:
        raise InputError(f"no benchmark is called {name!r}; choose one of {', '.join(known)}")
    if name not in FROM_FILES:
        return load_shapes(name, "heldout" if name == "shapes" else "hard_heldout", num_rows)
    if path is None:
        raise InputError(f"{name} is read from a file: give its path")
    return FROM_FILES[name](path, media or MediaOptions(), num_rows)
