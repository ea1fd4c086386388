"""MM-RLHF-RewardBench: 170 pairs of 46 questions about images and videos.

Rule: Kwai-YuanQi/MM-RLHF, cal_performance_mmreweard_bench.py; R1-Reward's get_acc.py is the same.
"""

from collections.abc import Sequence

from r1reward.data.importers.mm_rlhf_rewardbench import NAME, read_mm_rlhf_rewardbench
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.rows import PublishedBenchmark
from r1reward.evaluation.benchmarks.scores import (
    OfficialScore,
    ScorePart,
    count_official,
    count_parts,
    pooled,
    single_votes,
)
from r1reward.evaluation.items import Benchmark

MAPPING = "official"
MAPPINGS = {MAPPING: "the first of mcq, long, short, safety, video in the path, 42/37/34/32/25"}
MM_RLHF_REWARDBENCH = PublishedBenchmark(
    NAME,
    read_mm_rlhf_rewardbench,
    lambda pair: {MAPPING: pair.category},
    MAPPINGS,
    scores_groups=True,
)


def score_mm_rlhf_rewardbench(benchmark: Benchmark, answers: Sequence[Answer]) -> OfficialScore:
    """Acc and Acc+ by category and overall; ``overall`` is Acc. One answer a row, or ``ValueError``."""
    votes = single_votes(benchmark, answers)
    right = {item.key: votes[item.key] == item.pair.preferred for item in benchmark.items}
    acc = count_official(benchmark, right, "Acc ")
    all_right: dict[str, bool] = {}
    category_of_id: dict[str, str] = {}
    for item in benchmark.items:
        all_right[item.row_id] = all_right.get(item.row_id, True) and right[item.key]
        category_of_id.setdefault(item.row_id, item.categories[MAPPING])
    acc_plus = count_parts("Acc+ ", category_of_id, all_right)
    num_unreadable = sum(vote is None for vote in votes.values())
    return OfficialScore(
        rule="Acc is the share of pairs right and Acc+ the share of ids whose pairs are all right; "
        "an unreadable answer is wrong",
        parts=(*acc, *acc_plus, ScorePart("Acc+ overall", sum(all_right.values()), len(all_right))),
        overall=pooled(acc),
        notes=(f"unreadable and so wrong: {num_unreadable}",),
    )
