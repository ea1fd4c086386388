"""What a benchmark's own rule makes of a set of answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.items import Benchmark
from r1reward.types import Slot


@dataclass(frozen=True)
class ScorePart:
    """Right and counted rows (or groups of rows) under one name."""

    name: str
    num_right: int
    num_counted: int

    @property
    def share(self) -> float | None:
        """None where nothing counts."""
        return self.num_right / self.num_counted if self.num_counted else None


@dataclass(frozen=True)
class VoteScore:
    """The score of one number of votes a row, for a rule that takes several."""

    num_votes: int
    overall: float | None
    macro: float | None
    num_left_out: int


@dataclass(frozen=True)
class OfficialScore:
    """A score by the published rule, which ``rule`` states in one sentence.

    ``name`` says whose rule it is, and whether the answers were asked for in the rule's own way as well.
    ``overall`` is pooled over all counted rows and ``macro`` the mean over categories where the rule
    has one; None where nothing counts. ``num_left_out`` rows are in no numerator or denominator.
    ``curve`` holds the same for every number of votes of which the rule shows the score.
    """

    rule: str
    parts: tuple[ScorePart, ...]
    overall: float | None
    macro: float | None = None
    num_left_out: int = 0
    notes: tuple[str, ...] = ()
    curve: tuple[VoteScore, ...] = ()
    name: str = "official scoring"


def all_answers_by_item(benchmark: Benchmark, answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    """Returns the answers to every row, in the benchmark's order of rows and the answers' own order.

    Raises ``ValueError`` for a row without an answer, an answer to no row, and a repeated sample.
    """
    by_item: dict[str, list[Answer]] = {item.key: [] for item in benchmark.items}
    for answer in answers:
        if answer.item not in by_item:
            raise ValueError(
                f"an answer is to row {answer.item}, which {benchmark.name} as loaded does not "
                "hold: score the answers with the rows they were sampled for"
            )
        by_item[answer.item].append(answer)
    if len({answer.sample_key for answer in answers}) != len(answers):
        raise ValueError("a sample is among the answers twice: each counts once")
    num_open = sum(not row for row in by_item.values())
    if num_open:
        raise ValueError(
            f"{num_open} of {len(by_item)} rows of {benchmark.name} have no answer: "
            "finish the evaluation before scoring it"
        )
    return by_item


def single_answers(benchmark: Benchmark, answers: Sequence[Answer]) -> dict[str, Answer]:
    """Returns each row's only answer, by key. Raises ``ValueError`` for several."""
    single: dict[str, Answer] = {}
    for key, row in all_answers_by_item(benchmark, answers).items():
        if len(row) != 1:
            raise ValueError(
                f"the rule of {benchmark.name} takes one answer a row and row {key} has "
                f"{len(row)}: sample each row once, in one order"
            )
        single[key] = row[0]
    return single


def single_votes(benchmark: Benchmark, answers: Sequence[Answer]) -> dict[str, Slot | None]:
    """Returns the stored response each row's only answer votes for. Raises ``ValueError`` for several."""
    return {key: answer.response for key, answer in single_answers(benchmark, answers).items()}


def pooled(parts: Sequence[ScorePart]) -> float | None:
    """Returns the share right of all parts together."""
    num_counted = sum(part.num_counted for part in parts)
    return sum(part.num_right for part in parts) / num_counted if num_counted else None


def count_official(
    benchmark: Benchmark, right: Mapping[str, bool], prefix: str = ""
) -> tuple[ScorePart, ...]:
    """Returns the right and counted rows of each category of the official mapping."""
    categories = {item.key: item.categories["official"] for item in benchmark.items}
    return count_parts(prefix, categories, right)


def count_parts(
    prefix: str, categories: Mapping[str, str], right: Mapping[str, bool]
) -> tuple[ScorePart, ...]:
    """Returns the right and counted rows of each category, in the order of first appearance; both are
    keyed by row. A part is called by ``prefix`` and its category.
    """
    return tuple(
        ScorePart(
            prefix + name,
            sum(right[key] for key, category in categories.items() if category == name),
            sum(category == name for category in categories.values()),
        )
        for name in dict.fromkeys(categories.values())
    )
