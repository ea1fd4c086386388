"""Multimodal RewardBench: six areas, an unreadable answer drawn by lot.

Rule: facebookresearch/multimodal_rewardbench, scripts/2_get_accuracy.py.
"""

import random
from collections.abc import Sequence

from r1reward.data.importers.multimodal_rewardbench import NAME, read_multimodal_rewardbench
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.rows import PublishedBenchmark
from r1reward.evaluation.benchmarks.scores import (
    OfficialScore,
    count_official,
    pooled,
    single_votes,
)
from r1reward.evaluation.items import Benchmark

MAPPINGS = {
    "official": "2_get_accuracy.py: Category, with reasoning and safety in two parts each",
    "areas": "the six areas of the paper: Category as stored",
}
DRAW_SEED = 123
MULTIMODAL_REWARDBENCH = PublishedBenchmark(
    NAME,
    read_multimodal_rewardbench,
    lambda pair: {"official": pair.category, "areas": str(pair.meta["area"])},
    MAPPINGS,
)


def score_multimodal_rewardbench(benchmark: Benchmark, answers: Sequence[Answer]) -> OfficialScore:
    """Returns the official score. Raises ``ValueError`` unless there is one answer a row.

    An unreadable one is a draw of Python's generator, seeded once: below 0.5 is the first output.
    The n-th unreadable row gets the n-th draw, so leaving rows out changes the draws.
    """
    votes = single_votes(benchmark, answers)
    generator = random.Random(DRAW_SEED)
    right: dict[str, bool] = {}
    for item in benchmark.items:
        vote = votes[item.key]
        if vote is None:
            vote = 1 if generator.random() < 0.5 else 2
        right[item.key] = vote == item.pair.preferred
    parts = count_official(benchmark, right)
    num_unreadable = sum(vote is None for vote in votes.values())
    return OfficialScore(
        rule=f"share of rows right, an unreadable answer drawn with seed {DRAW_SEED}; "
        "categories: official",
        parts=parts,
        overall=pooled(parts),
        notes=(f"unreadable and so drawn: {num_unreadable}",),
    )
