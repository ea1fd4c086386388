"""Multimodal RewardBench: six areas, an unreadable answer drawn by lot.

Rule: facebookresearch/multimodal_rewardbench, scripts/2_get_accuracy.py.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from r1reward.data.importers.multimodal_rewardbench import NAME, read_multimodal_rewardbench
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.rows import MediaOptions, build_benchmark
from r1reward.evaluation.benchmarks.scores import OfficialScore, count_parts, pooled, single_answers
from r1reward.evaluation.items import Benchmark
from r1reward.types import Slot

MAPPINGS = {
    "official": "2_get_accuracy.py: Category, with reasoning and safety in two parts each",
    "areas": "the six areas of the paper: Category as stored",
}
DRAW_SEED = 123


def load_multimodal_rewardbench(path: Path, media: MediaOptions, num_rows: int | None) -> Benchmark:
    """Returns the first ``num_rows`` of all_data.json. Raises ``DataError``."""
    rows = islice(read_multimodal_rewardbench(path), num_rows)
    return build_benchmark(
        NAME,
        path,
        rows,
        lambda pair: {"official": pair.category, "areas": str(pair.meta["area"])},
        MAPPINGS,
        media,
    )


def score_multimodal_rewardbench(
    benchmark: Benchmark, answers: Sequence[Answer], mapping: str = "official"
) -> OfficialScore:
    """Returns the official score. Raises ``ValueError`` unless there is one answer a row.

    An unreadable one is a draw of Python's generator, seeded once: below 0.5 is the first output.
    The n-th unreadable row gets the n-th draw, so leaving rows out changes the draws.
    """
    votes = single_answers(benchmark, answers)
    generator = random.Random(DRAW_SEED)
    right: dict[str, bool] = {}
    for item in benchmark.items:
        vote = votes[item.key]
        if vote is None:
            drawn: Slot = 1 if generator.random() < 0.5 else 2
            vote = drawn
        right[item.key] = vote == item.pair.preferred
    parts = count_parts({item.key: item.categories[mapping] for item in benchmark.items}, right)
    num_unreadable = sum(vote is None for vote in votes.values())
    return OfficialScore(
        rule=f"share of rows right, an unreadable answer drawn with seed {DRAW_SEED}; "
        f"categories: {mapping}",
        parts=parts,
        overall=pooled(parts),
        macro=None,
        num_left_out=0,
        notes=(f"unreadable and so drawn: {num_unreadable}",),
    )
