"""The headline numbers at the top of a page."""

from dataclasses import dataclass

from r1reward.evaluation.compare import compare_evaluations
from r1reward.evaluation.evaluation import Evaluation
from r1reward.evaluation.intervals import Interval
from r1reward.report.facts import brackets, typeset


@dataclass(frozen=True)
class Tile:
    """One headline number. ``chance`` is where a coin stands, None where that means nothing.

    ``is_difference``: the number is a difference of two shares, hence in points and with a sign.
    """

    label: str
    interval: Interval
    note: str = ""
    chance: float | None = None
    is_difference: bool = False

    @property
    def sign(self) -> str:
        return "+" if self.is_difference else ""

    @property
    def number(self) -> str:
        return typeset(f"{100 * self.interval.value:{self.sign}.1f}")

    @property
    def range(self) -> str:
        return brackets(self.interval, self.sign)


def evaluation_tiles(evaluation: Evaluation) -> list[Tile]:
    """The headline numbers of one evaluation, as many as it has."""
    num_samples = evaluation.conditions.num_samples
    tiles = [Tile("Accuracy, one sample", evaluation.accuracy, chance=0.5)]
    if num_samples > 1:
        tiles.append(Tile(f"Voting@{num_samples}", evaluation.voted, chance=0.5))
    if evaluation.group_accuracy is not None:
        note = f"all rows of a group right; {evaluation.num_groups} groups"
        tiles.append(Tile("Acc+", evaluation.group_accuracy, note))
    if (drop := evaluation.image_off_drop) is not None:
        change = Interval(-drop.value, -drop.high, -drop.low)
        tiles.append(Tile("Without the image", change, "accuracy, paired", is_difference=True))
    return tiles


def change_tile(label: str, before: Evaluation, after: Evaluation, note: str) -> Tile | None:
    """The paired difference of two evaluations; None where they are not of the same rows."""
    if [row.key for row in before.rows] != [row.key for row in after.rows]:
        return None
    return Tile(label, compare_evaluations(before, after).accuracy, note, is_difference=True)
