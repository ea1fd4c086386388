"""Rows that a server left without an answer: told everywhere, counted nowhere as right or wrong."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.items import Benchmark


@dataclass(frozen=True)
class MissingAnswers:
    """Samples without an answer. ``num_rows`` of the ``num_rows_asked`` are left out for them.

    ``example`` is why the first of them has none, failed ones before refused ones.
    """

    num_rows: int
    num_rows_asked: int
    num_refused: int
    num_failed: int
    example: str

    def sentence(self, accuracy: float) -> str:
        """Returns what a reader of ``accuracy``, the one of the other rows, must know."""
        if_wrong = accuracy * (1 - self.num_rows / self.num_rows_asked)
        return (
            f"{self.num_rows} of {self.num_rows_asked} rows are left out, since not every sample of "
            f"them has an answer: refused ({self.num_refused} samples), failed ({self.num_failed}). "
            f"Counted as wrong they would make one sample {100 * if_wrong:.1f} %. "
            f"The same command asks for them again. The first: {self.example}"
        )


@dataclass(frozen=True)
class CountedRows:
    """What is left to count: the rows all of whose samples have an answer, and their answers."""

    benchmark: Benchmark
    answers: list[Answer]
    blind: list[Answer]
    missing: MissingAnswers | None


def leave_out_missing(
    benchmark: Benchmark, answers: Sequence[Answer], blind: Sequence[Answer] = ()
) -> CountedRows:
    """Returns the rows that can be counted; ``blind`` answers are those with grey images.

    A row is left out with all of its samples: so every row has the same number in each order. Where
    the benchmark scores groups of rows, the group goes with it. What is left may be nothing.
    """
    missing = [answer for answer in (*answers, *blind) if answer.is_missing]
    if not missing:
        return CountedRows(benchmark, list(answers), list(blind), None)
    keys = {answer.item for answer in missing}
    if benchmark.scores_groups:
        groups = {item.pair.group for item in benchmark.items if item.key in keys} - {""}
        keys |= {item.key for item in benchmark.items if item.pair.group in groups}
    kept = tuple(item for item in benchmark.items if item.key not in keys)
    counts = Counter(answer.status for answer in missing)
    first = min(missing, key=lambda answer: answer.status != "failed")
    return CountedRows(
        replace(benchmark, items=kept),
        [answer for answer in answers if answer.item not in keys],
        [answer for answer in blind if answer.item not in keys],
        MissingAnswers(
            num_rows=len(benchmark.items) - len(kept),
            num_rows_asked=len(benchmark.items),
            num_refused=counts["refused"],
            num_failed=counts["failed"],
            example=first.reason,
        ),
    )
