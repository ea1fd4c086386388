"""What became of a cell, read back from its run folder."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from r1reward.evaluation.evaluation import Evaluation
from r1reward.evaluation.heldout import read_run_evaluation
from r1reward.metrics import Name, alert_name
from r1reward.runs.alerts import StepMetrics
from r1reward.runs.folder import RunFolder
from studies.stability.cells import ending_file
from studies.stability.grid import Cell

WINDOW = 3
# Picking either response by a coin is right half of the time.
CHANCE = 0.5
MAX_LOST_SHARE = 0.5


@dataclass(frozen=True)
class Outcome:
    """One cell. ``broken`` says what was not finite; then nothing is evaluated ``after`` it."""

    cell: Cell
    steps: list[dict[str, float]]
    before: Evaluation
    after: Evaluation | None
    broken: str
    seconds: float

    @property
    def right(self) -> list[float]:
        """Share of right answers of every step, as the policy gives them."""
        return [
            step.get(Name.ROLLOUT_DRAWN_RIGHT_SHARE, step.get(Name.REWARD_RESULT, math.nan))
            for step in self.steps
        ]

    @property
    def collapsed_at(self) -> int | None:
        return collapse_step(self.right, self.steps, bool(self.broken))

    @property
    def fall(self) -> float:
        return largest_fall(self.right)

    @property
    def num_spikes(self) -> int:
        """Steps with the alert loss_spike: loss or gradient norm above ten medians of the five before."""
        return sum(int(step[alert_name("loss_spike")]) for step in self.steps)

    def largest(self, name: str) -> float:
        return max((step[name] for step in self.steps if name in step), default=math.nan)

    def average(self, name: str) -> float:
        values = [step[name] for step in self.steps if name in step]
        return sum(values) / len(values) if values else math.nan

    def at_end(self, name: str) -> float:
        """Mean over the last steps."""
        values = [step[name] for step in self.steps[-WINDOW:] if name in step]
        return sum(values) / len(values) if values else math.nan


def read_outcome(cell: Cell) -> Outcome:
    folder = RunFolder(cell.recipe.run_dir)
    ending = json.loads(ending_file(cell.recipe).read_text(encoding="utf-8"))
    before = read_run_evaluation(folder, 0)
    assert before is not None, "a cell is evaluated before its first step"
    after = read_run_evaluation(folder, cell.recipe.train.num_steps)
    return Outcome(cell, folder.read_metrics(), before, after, ending["broken"], ending["seconds"])


def windows(values: Sequence[float]) -> list[float]:
    """Means over ``WINDOW`` steps, the first one ending at step ``WINDOW``."""
    return [sum(values[end - WINDOW : end]) / WINDOW for end in range(WINDOW, len(values) + 1)]


def collapse_step(
    right: Sequence[float], steps: Sequence[StepMetrics], is_broken: bool
) -> int | None:
    """The first step at which training has visibly failed, counted from 1; None if there is none.

    It has failed when, over ``WINDOW`` steps, right answers are no more than a coin's share or over half
    of the traces cannot be read or run into the token limit; or when the next update is not finite.
    """
    failed = [len(steps) + 1] if is_broken else []
    for name in (Name.ROLLOUT_UNPARSED_SHARE, Name.ROLLOUT_TRUNCATED_SHARE):
        lost = windows([step.get(name, 0.0) for step in steps])
        failed += [end for end, share in enumerate(lost, start=WINDOW) if share > MAX_LOST_SHARE]
    failed += [end for end, share in enumerate(windows(right), start=WINDOW) if share <= CHANCE]
    return min(failed, default=None)


def largest_fall(right: Sequence[float]) -> float:
    """How far the mean over ``WINDOW`` steps falls below the best one before it; at least 0."""
    best, fall = -math.inf, 0.0
    for share in windows(right):
        best = max(best, share)
        fall = max(fall, best - share)
    return fall
