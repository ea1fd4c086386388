"""The result of one evaluation: what is stored, printed, compared and reported.

An unreadable answer is wrong and no vote. Intervals are 95 % ones over groups of rows (a row without a
group is its own), which keeps the two orders of a pair and the pairs of one question together.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from r1reward.data.validated import validated
from r1reward.evaluation.audit import Audit
from r1reward.evaluation.benchmarks.scores import OfficialScore
from r1reward.evaluation.calibration import Calibration
from r1reward.evaluation.conditions import Conditions
from r1reward.evaluation.intervals import Interval
from r1reward.evaluation.missing_answers import MissingAnswers
from r1reward.evaluation.unreadable import UnreadableForm
from r1reward.evaluation.voting.adaptive import AdaptiveSummary
from r1reward.evaluation.voting.curves import VotingPoint
from r1reward.evaluation.voting.votes import RowVotes


@dataclass(frozen=True)
class CategoryScore:
    """Accuracy of one sample and of the vote in one category; ``group_accuracy`` is Acc+, or None."""

    category: str
    num_rows: int
    accuracy: Interval
    voted: Interval
    group_accuracy: Interval | None


@dataclass(frozen=True)
class MappingScores:
    """One way to sort rows into categories. ``macro`` and ``macro_voted`` are means of categories."""

    mapping: str
    source: str
    categories: tuple[CategoryScore, ...]
    macro: float
    macro_voted: float


@dataclass(frozen=True)
class JudgedParts:
    """Means over the answers that were judged and rewarded; None where none was."""

    consistency: float | None
    reward: float | None
    well_formed: float
    num_tokens: float | None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything the tables and the report show.

    A result that was written before a field existed is read with the field's default.

    ``accuracy`` is the expected accuracy of one sample, mean over the orders asked; ``voted`` is
    voting@K at the evaluation's own K; ``group_accuracy`` (Acc+) asks the vote to be right on every row
    of a group, and is None where the benchmark does not score groups. Rows with ``missing`` answers are
    in none of the numbers and not among ``rows``.
    ``unreadable`` are the most frequent forms of answers that could not be read.
    ``row_accuracies`` and ``row_scores`` are the first two row by row, in the order of
    ``rows``: enough to compare two evaluations.
    """

    conditions: Conditions
    accuracy: Interval
    voted: Interval
    group_accuracy: Interval | None = None
    num_groups: int | None = None
    mappings: tuple[MappingScores, ...]
    audit: Audit
    parts: JudgedParts
    voting: tuple[VotingPoint, ...]
    adaptive: AdaptiveSummary | None = None
    calibration: Calibration | None = None
    official: OfficialScore | None = None
    image_off_drop: Interval | None = None
    unreadable: tuple[UnreadableForm, ...] = ()
    missing: MissingAnswers | None = None
    warnings: tuple[str, ...] = ()
    rows: tuple[RowVotes, ...]
    row_accuracies: tuple[float, ...]
    row_scores: tuple[float, ...]

    def to_json(self) -> dict[str, object]:
        """Returns what result.json holds: the fields, nested."""
        return asdict(self)


def read_evaluation(path: Path) -> Evaluation:
    """Reads a result.json, checked against the types.

    Raises ``InputError`` naming the file and the first field that is not as it should be.
    """
    with validated(f"{path}: not the result of an evaluation"):
        evaluation: Evaluation = TypeAdapter(Evaluation).validate_json(path.read_bytes())
    return evaluation
