"""VL-RewardBench: 1,250 pairs, three categories, up to nine votes of a pool of ten a row.

Rule: vl-rewardbench/VL_RewardBench, inference_hf.py and cal.py.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Literal

from r1reward.data.benchmark_forms import judged_answer
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
    VoteScore,
    all_answers_by_item,
    pooled,
)
from r1reward.evaluation.items import Benchmark, Item
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
# The votes that the script counts, each K of a shuffle of its own; the last one is what is quoted.
VOTE_COUNTS = (1, 3, 5, 7, 9)
SHUFFLE_SEED = 1234
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


def official_vote(answer: Answer, item: Item) -> Slot | None:
    """Returns the response an answer votes for. Any number but the rejected one's agrees with people, a
    published oddity: "Answer 3 is better" is a vote for the preferred response.
    """
    if answer.choice is None and judged_answer(answer.text) == "other":
        return item.pair.preferred
    return answer.response


def shuffle_pool(pool: list[tuple[str, Slot | None]], generator: Random) -> None:
    """Shuffles calls in place as the script does: each changes places with any one of all."""
    for index in range(len(pool)):
        other = generator.randint(0, len(pool) - 1)
        pool[index], pool[other] = pool[other], pool[index]


def first_votes(
    calls: Sequence[tuple[str, Slot | None]], num_votes: int, generator: Random
) -> dict[str, list[Slot | None]]:
    """Returns the first K votes of every row, by key, in a new shuffle of all calls."""
    pool = list(calls)
    shuffle_pool(pool, generator)
    votes: dict[str, list[Slot | None]] = defaultdict(list)
    for key, vote in pool:
        if len(votes[key]) < num_votes:
            votes[key].append(vote)
    return votes


def score_vl_rewardbench(
    benchmark: Benchmark, answers: Sequence[Answer], mapping: str = "official"
) -> OfficialScore:
    """Majority of the first K of each row's answers in a shuffled pool, for K = 1, 3, 5, 7 and 9.

    The pool begins in the order of the rows, and of sample indices within a row, and one generator of
    Python with seed 1234 shuffles it anew for every K: what cal.py makes of a file in that order. The
    headline is the largest K that every row can fill. Raises ``ValueError`` for a row without answers.
    """
    by_item = all_answers_by_item(benchmark, answers)
    calls = [
        (item.key, official_vote(answer, item))
        for item in benchmark.items
        for answer in sorted(by_item[item.key], key=lambda a: (a.sample_index, a.order))
    ]
    smallest = min(len(row) for row in by_item.values())
    generator = Random(SHUFFLE_SEED)
    scores = [
        score_votes(benchmark, first_votes(calls, num_votes, generator), num_votes, mapping)
        for num_votes in VOTE_COUNTS
        if num_votes <= smallest
    ]
    curve = tuple(
        VoteScore(num_votes, score.overall, score.macro, score.num_left_out)
        for num_votes, score in zip(VOTE_COUNTS, scores, strict=False)
    )
    return replace(scores[-1], curve=curve)


def score_votes(
    benchmark: Benchmark,
    votes: Mapping[str, Sequence[Slot | None]],
    num_votes: int,
    mapping: str,
) -> OfficialScore:
    """Returns the score of one K from its votes of every row, by key."""
    outcomes: dict[str, list[Majority]] = {name: [] for name in CATEGORIES}
    for item in benchmark.items:
        outcome = majority(votes[item.key], item.pair.preferred)
        outcomes[item.categories[mapping]].append(outcome)
    parts = tuple(
        ScorePart(name, rows.count("right"), rows.count("right") + rows.count("wrong"))
        for name, rows in outcomes.items()
    )
    shares = [part.share for part in parts if part.share is not None]
    everything = [outcome for rows in outcomes.values() for outcome in rows]
    num_unreadable, num_split = everything.count("unreadable"), everything.count("split")
    return OfficialScore(
        rule=f"majority of more than half of a row's first {num_votes} votes in a shuffled pool; rows "
        f"whose majority is unreadable or split count nowhere; categories: {mapping}",
        parts=parts,
        overall=pooled(parts),
        macro=sum(shares) / len(parts) if len(shares) == len(parts) else None,
        num_left_out=num_unreadable + num_split,
        notes=(f"left out: {num_unreadable} unreadable, {num_split} split",),
    )
