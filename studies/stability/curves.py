"""The study's curves, one SVG a stress."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

from r1reward.metrics import Name

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from studies.stability.outcome import Outcome

PANELS: tuple[tuple[str, Callable[[Outcome], list[float]], bool], ...] = (
    ("right answers, % of a step", lambda o: [100 * share for share in o.right], False),
    ("gradient norm before clipping", lambda o: series(o, Name.LEARNER_GRAD_NORM), True),
    ("KL to the start, nats a token", lambda o: series(o, Name.POLICY_REFERENCE_KL), False),
    ("response length, tokens", lambda o: series(o, Name.ROLLOUT_LENGTH_MEAN), False),
)


def series(outcome: Outcome, name: str) -> list[float]:
    return [step.get(name, float("nan")) for step in outcome.steps]


def draw_stress(outcomes: Sequence[Outcome], path: Path) -> None:
    """Four panels; a thin line for every seed, a thick one for the variant's mean over seeds."""
    ours = [outcome for outcome in outcomes if not outcome.cell.full_stack]
    names = list(dict.fromkeys(outcome.cell.variant for outcome in ours))
    colours = [f"C{number}" for number in range(10)]
    # The same run must give the same file: no date, no random ids.
    matplotlib.rcParams["svg.hashsalt"] = "r1reward"
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), constrained_layout=True)
    for axis, (title, values_of, is_log) in zip(axes.flat, PANELS, strict=True):
        for name, colour in zip(names, colours, strict=False):
            runs = [values_of(outcome) for outcome in ours if outcome.cell.variant == name]
            # A gradient of exactly 0 has no place on a logarithmic axis: a gap, not a cliff.
            shown = [
                [math.nan if is_log and value <= 0 else value for value in run] for run in runs
            ]
            draw_runs(axis, shown, colour)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel("step", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        if is_log:
            axis.set_yscale("log")
    handles = [
        Line2D([], [], color=colour, linewidth=2.2, label=name)
        for name, colour in zip(names, colours, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def draw_runs(axis: Axes, runs: Sequence[Sequence[float]], colour: str) -> None:
    for run in runs:
        axis.plot(range(1, len(run) + 1), run, color=colour, linewidth=0.6, alpha=0.45)
    shared = min(len(run) for run in runs)
    means = [sum(run[i] for run in runs) / len(runs) for i in range(shared)]
    axis.plot(range(1, shared + 1), means, color=colour, linewidth=2.2)
