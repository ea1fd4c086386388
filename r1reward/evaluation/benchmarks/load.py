"""One way to every benchmark: its name, its file, and where its images are."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from r1reward.errors import InputError
from r1reward.evaluation.benchmarks.mm_rlhf_rewardbench import load_mm_rlhf_rewardbench
from r1reward.evaluation.benchmarks.multimodal_rewardbench import load_multimodal_rewardbench
from r1reward.evaluation.benchmarks.rows import MediaOptions
from r1reward.evaluation.benchmarks.stored_pairs import load_shapes, load_stored_pairs
from r1reward.evaluation.benchmarks.vl_rewardbench import load_vl_rewardbench
from r1reward.evaluation.items import Benchmark

BenchmarkName = Literal[
    "vl-rewardbench",
    "mm-rlhf-rewardbench",
    "multimodal-rewardbench",
    "pairs",
    "shapes",
    "shapes-hard",
]


def load_benchmark(
    name: str,
    path: Path | None = None,
    media: MediaOptions | None = None,
    num_rows: int | None = None,
) -> Benchmark:
    """The rows of a benchmark, or its first ``num_rows``; the miniature's splits have no ``path``.

    Raises ``InputError`` for a name or path that does not go, and ``DataError`` for a row.
    """
    if name not in get_args(BenchmarkName):
        known = ", ".join(get_args(BenchmarkName))
        raise InputError(f"no benchmark is called {name!r}; choose one of {known}")
    if name == "shapes" or name == "shapes-hard":
        return load_shapes(name, "heldout" if name == "shapes" else "hard_heldout", num_rows)
    if path is None:
        raise InputError(f"{name} is read from a file: give its path")
    media = media or MediaOptions()
    match name:
        case "vl-rewardbench":
            return load_vl_rewardbench(path, media, num_rows)
        case "mm-rlhf-rewardbench":
            return load_mm_rlhf_rewardbench(path, media, num_rows)
        case "multimodal-rewardbench":
            return load_multimodal_rewardbench(path, media, num_rows)
        case _:
            return load_stored_pairs(path, media, num_rows)
