"""Two benchmarks as suites of benchmarks score them: one answer a row, in an order by parity of length.

Rules: EvolvingLMMs-Lab/lmms-eval, tasks vl_rewardbench and multimodal_rewardbench (process_results and
aggregate_results); open-compass/VLMEvalKit, vlmeval/dataset/vl_rewardbench.py. Both let a GPT model
read what their own pattern does not; here such an answer counts as one that neither can read.
"""

import random
from collections.abc import Mapping, Sequence

from r1reward.data.benchmark_forms import judged_answer
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.scores import (
    OfficialScore,
    count_official,
    pooled,
    single_answers,
    single_votes,
)
from r1reward.evaluation.items import Benchmark
from r1reward.types import Slot

SLOTS: tuple[Slot, Slot] = (1, 2)
DRAW_SEED = 0  # lmms-eval's default for Python's generator


def score_lmms_eval_vl(benchmark: Benchmark, answers: Sequence[Answer]) -> OfficialScore:
    """Returns the shares of categories; an unreadable answer is a draw.

    Raises ``ValueError`` for several answers a row.
    """
    given = single_answers(benchmark, answers)
    generator = random.Random(DRAW_SEED)
    right: dict[str, bool] = {}
    num_drawn = 0
    for item in benchmark.items:
        answer = given[item.key]
        shown = answer.choice
        if shown is None and judged_answer(answer.text) is None:
            shown, num_drawn = generator.choice(SLOTS), num_drawn + 1
        preferred_shown = 1 if answer.order == item.preferred_first else 2
        right[item.key] = shown == preferred_shown
    note = f"unreadable and so drawn: {num_drawn}"
    return score_by_category(benchmark, right, f"drawn with seed {DRAW_SEED}", note)


def score_vlmevalkit_vl(benchmark: Benchmark, answers: Sequence[Answer]) -> OfficialScore:
    """Returns categories, their mean and the share of all rows; an unreadable answer is wrong.

    Raises ``ValueError`` for several answers a row.
    """
    votes = single_votes(benchmark, answers)
    right = {item.key: votes[item.key] == item.pair.preferred for item in benchmark.items}
    num_unreadable = sum(vote is None for vote in votes.values())
    return score_by_category(
        benchmark, right, "wrong", f"unreadable and so wrong: {num_unreadable}"
    )


def score_by_category(
    benchmark: Benchmark, right: Mapping[str, bool], unreadable: str, note: str
) -> OfficialScore:
    """Returns the shares right by category, pooled, and as a mean of the categories."""
    parts = count_official(benchmark, right)
    shares = [part.num_right / part.num_counted for part in parts]
    return OfficialScore(
        rule=f"one answer a row, an unreadable one is {unreadable}; the suite quotes the macro score",
        parts=parts,
        overall=pooled(parts),
        macro=sum(shares) / len(shares),
        notes=(note,),
    )


def score_lmms_eval_multimodal(benchmark: Benchmark, answers: Sequence[Answer]) -> OfficialScore:
    """Returns the share of all rows. ``ValueError`` for several answers a row.

    The suite seeds its generator anew for every row, so the draw for an unreadable answer always says A.
    """
    votes = single_votes(benchmark, answers)
    right = {i.key: (votes[i.key] or 1) == i.pair.preferred for i in benchmark.items}
    parts = count_official(benchmark, right)
    num_unreadable = sum(vote is None for vote in votes.values())
    return OfficialScore(
        rule="share of rows right, an unreadable answer is for assistant A; categories: official",
        parts=parts,
        overall=pooled(parts),
        notes=(f"unreadable and so for A: {num_unreadable}",),
    )
