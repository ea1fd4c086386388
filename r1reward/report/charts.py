"""Charts as Plotly specifications: plain data, drawn by the page.

Colours are the page's CSS variables (``--series-1``), which the page resolves, so that one
specification serves light, dark and paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from r1reward.evaluation.calibration import Reliability
from r1reward.evaluation.intervals import Interval
from r1reward.evaluation.voting.curves import VotingPoint
from r1reward.report.facts import brackets

Spec = dict[str, object]
# The axis of shares, in per cent.
SHARES: Spec = {"tickformat": ".0%"}
DASHES = ("solid", "solid", "dash", "dot")


@dataclass(frozen=True)
class Chart:
    """``note`` is the one sentence that says how to read it."""

    name: str
    title: str
    note: str
    traces: list[Spec]
    layout: Spec = field(default_factory=dict)
    size: Literal["small", "medium", "large", "square"] = "small"

    def spec(self) -> Spec:
        """Returns what the page's script draws."""
        return {"name": self.name, "data": self.traces, "layout": self.layout}


def line(name: str, x: Sequence[float], y: Sequence[float | None], colour: int) -> Spec:
    """A line in one of the page's colours, numbered from 1. A value of None leaves a gap."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": {"color": f"--series-{colour}", "width": 2, "dash": DASHES[colour - 1]},
    }


def band(x: Sequence[float], intervals: Sequence[Interval], colour: int) -> Spec:
    """The intervals as a shaded area under their line."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*x, *reversed(x)],
        "y": [each.high for each in intervals] + [each.low for each in reversed(intervals)],
        "fill": "toself",
        "fillcolor": f"--series-{colour}-band",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def marked_line(name: str, x: Sequence[float], intervals: Sequence[Interval], colour: int) -> Spec:
    """A line with a mark for each estimate, whose interval is shown when it is pointed at."""
    texts = [brackets(each) for each in intervals]
    values = line(name, x, [each.value for each in intervals], colour)
    return values | marks(colour) | {"text": texts, "hovertemplate": "%{y:.1%} %{text}"}


def marks(colour: int, size: int = 6) -> Spec:
    """What makes the points of a line visible."""
    return {"mode": "lines+markers", "marker": {"size": size, "color": f"--series-{colour}"}}


def banded_line(
    name: str, x: Sequence[float], intervals: Sequence[Interval], colour: int
) -> list[Spec]:
    """A line of estimates with their intervals behind it."""
    return [band(x, intervals, colour), marked_line(name, x, intervals, colour)]


def level(value: float, label: str) -> Spec:
    """A dashed line across a chart, as a part of its layout."""
    at: Spec = {"xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value}
    ink: Spec = {"line": {"color": "--muted", "width": 1, "dash": "dash"}}
    text: Spec = {"text": label, "font": {"size": 11, "color": "--muted"}}
    position: Spec = {"textposition": "start", "yanchor": "bottom"}
    return {"type": "line", "layer": "below", **at, **ink, "label": {**text, **position}}


def accuracy_over_steps(steps: Sequence[int], curves: Mapping[str, Sequence[Interval]]) -> Chart:
    """Evaluations of a run by step; each curve has one estimate for each step."""
    traces: list[Spec] = []
    for colour, (name, intervals) in enumerate(curves.items(), start=1):
        traces += banded_line(name, steps, intervals, colour)
    title = "Evaluation over training"
    note = "Held-out accuracy at each evaluated step, with 95 % intervals."
    axis: Spec = {"title": {"text": "training step"}, "rangemode": "tozero"}
    layout: Spec = {"xaxis": axis, "yaxis": SHARES, "shapes": [level(0.5, "chance")]}
    return Chart("accuracy-over-steps", title, note, traces, layout, "large")


def votes_layout(counts: Sequence[int]) -> Spec:
    """The axes of shares by the number of votes."""
    return {"xaxis": {"title": {"text": "K, samples a row"}, "tickvals": counts}, "yaxis": SHARES}


def voting_chart(points: Sequence[VotingPoint]) -> Chart:
    """Accuracy of the vote by the number of votes, beside what a coin would reach."""
    counts = [point.num_votes for point in points]
    traces = banded_line("voting@K", counts, [p.accuracy for p in points], 1)
    weighted = [(p.num_votes, p.weighted) for p in points if p.weighted is not None]
    if weighted:
        at, intervals = [k for k, _ in weighted], [each for _, each in weighted]
        # Without its band, which would only muddy the votes' own.
        traces.append(marked_line("weighted voting@K", at, intervals, 2))
    traces += banded_line("any correct@K", counts, [p.any_correct for p in points], 3)
    coin = line("a coin's any correct@K", counts, [p.chance for p in points], 4)
    coin |= {"hovertemplate": "%{y:.1%}"}
    return Chart(
        "voting",
        "Accuracy by number of votes",
        "The K samples of a row are drawn in every way. Any correct@K means something only as far "
        "as it is above a coin's, which knows nothing.",
        [*traces, coin],
        votes_layout(counts),
        "large",
    )


def calibration_chart(curves: Mapping[str, Reliability]) -> Chart:
    """Bins hold about equally many samples, so their distances show where confidences crowd."""
    traces = [calibration_line(*curve, colour) for colour, curve in enumerate(curves.items(), 1)]
    bins = [each for curve in curves.values() for each in curve.bins]
    lowest = min(each.confidence for each in bins)
    least = min(lowest, *(each.accuracy for each in bins))
    diagonal = line("perfectly calibrated", [0, 1], [0, 1], 4) | {"hoverinfo": "skip"}
    sure = SHARES | {"title": {"text": "confidence, or share of the votes"}}
    layout: Spec = {
        "xaxis": sure | {"range": [max(0, lowest - 0.04), 1.02]},
        "yaxis": SHARES | {"range": [max(0, least - 0.04), 1.02]},
        "hovermode": "closest",
    }
    return Chart(
        "calibration",
        "How sure, and how often right",
        "Share right by confidence, or by the majority's share of the votes; each point is about a "
        "tenth of the samples. Below the diagonal the model is surer than it should be.",
        [*traces, diagonal],
        layout,
        "square",
    )


def calibration_line(name: str, curve: Reliability, colour: int) -> Spec:
    """One mark for each bin: how sure the answers were, and how often right."""
    x, y = [each.confidence for each in curve.bins], [each.accuracy for each in curve.bins]
    texts = [f"{each.num_samples} samples" for each in curve.bins]
    hover = {"text": texts, "hovertemplate": "sure %{x:.1%}, right %{y:.1%}, %{text}"}
    return line(name, x, y, colour) | marks(colour, size=8) | hover
