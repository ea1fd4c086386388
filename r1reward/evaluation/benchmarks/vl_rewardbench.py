"""VL-RewardBench: 1,250 pairs, three categories, ten votes a row.

Rule: vl-rewardbench/VL_RewardBench, inference_hf.py and cal.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from r1reward.data.importers.vl_rewardbench import (
    NAME,
    id_prefix,
    official_category,
    read_vl_rewardbench,
)
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.rows import PublishedBenchmark
from r1reward.evaluation.benchmarks.scores import (
    OfficialScore,
    ScorePart,
    all_answers_by_item,
    pooled,
)
from r1reward.evaluation.items import Benchmark
from r1reward.types import Slot

CATEGORIES = ("general", "hallucination", "reasoning")
MAPPINGS = {
    "official": "cal.py of the benchmark's repository: by the id's prefix, 183/749/318",
    "authors": "get_acc.py of R1-Reward: lower-case words in the id, so RLHF and RLAIF rows are "
    "general, 484/448/318",
    "unifiedreward": "UnifiedReward's script: by prefix, but hallucination_ rows are general, "
    "631/301/318",
}
# What each mapping makes of the 1,250 published rows.
PUBLISHED_COUNTS: Mapping[str, Mapping[str, int]] = {
    "official": {"general": 183, "hallucination": 749, "reasoning": 318},
    "authors": {"general": 484, "hallucination": 448, "reasoning": 318},
    "unifiedreward": {"general": 631, "hallucination": 301, "reasoning": 318},
}
Majority = Literal["right", "wrong", "unreadable", "split"]


def categories_of(row_id: str) -> dict[str, str]:
    """Returns the row's category under each mapping."""
    official = official_category(row_id)
    if "mmmu" in row_id or "mathverse" in row_id:
        authors = "reasoning"
    elif "hallucination" in row_id or "rlhf" in row_id or "rlaif" in row_id:
        authors = "hallucination"
    else:
        authors = "general"
    unifiedreward = "general" if id_prefix(row_id) == "hallucination" else official
    return {"official": official, "authors": authors, "unifiedreward": unifiedreward}


VL_REWARDBENCH = PublishedBenchmark(
    NAME, read_vl_rewardbench, lambda pair: categories_of(pair.group), MAPPINGS
)


def majority(votes: Sequence[Slot | None], preferred: Slot) -> Majority:
    """Returns what more than half of all votes say; an unreadable vote is in the total.

    Five right, four wrong and one unreadable vote of ten are split, as no five exceed five.
    """
    half = len(votes) / 2
    if votes.count(preferred) > half:
        return "right"
    if votes.count(None) > half:
        return "unreadable"
    return "wrong" if votes.count(1 if preferred == 2 else 2) > half else "split"


def score_vl_rewardbench(
    benchmark: Benchmark, answers: Sequence[Answer], mapping: str = "official"
) -> OfficialScore:
    """Majority of each row's answers; raises ``ValueError`` for a row without any."""
    votes = all_answers_by_item(benchmark, answers)
    outcomes: dict[str, list[Majority]] = {name: [] for name in CATEGORIES}
    for item in benchmark.items:
        responses = [answer.response for answer in votes[item.key]]
        outcomes[item.categories[mapping]].append(majority(responses, item.pair.preferred))
    parts = tuple(
        ScorePart(name, rows.count("right"), rows.count("right") + rows.count("wrong"))
        for name, rows in outcomes.items()
    )
    shares = [part.share for part in parts if part.share is not None]
    everything = [outcome for rows in outcomes.values() for outcome in rows]
    num_unreadable, num_split = everything.count("unreadable"), everything.count("split")
    sizes = sorted({len(row) for row in votes.values()})
    return OfficialScore(
        rule="majority of more than half of a row's votes; rows whose majority is unreadable or "
        f"split count nowhere; categories: {mapping}",
        parts=parts,
        overall=pooled(parts),
        macro=sum(shares) / len(parts) if len(shares) == len(parts) else None,
        num_left_out=num_unreadable + num_split,
        notes=(
            f"votes a row: {', '.join(map(str, sizes))}",
            f"left out: {num_unreadable} unreadable, {num_split} split",
        ),
    )
