"""A run's training curves: which metrics stand in one panel, and where alerts were on."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from typing import Literal

from r1reward.metrics import Name, alert_name
from r1reward.report.charts import Chart, Spec, level, line, marks
from r1reward.runs.alerts import ALERTS, StepMetrics


@dataclass(frozen=True)
class Panel:
    """Metric keys and their names, in at most four lines of one unit.

    ``alerts`` names the alerts whose steps are shaded here; ``form`` is Plotly's tick format.
    """

    name: str
    title: str
    note: str
    lines: Mapping[str, str]
    alerts: tuple[str, ...] = ()
    form: str = ""
    is_log: bool = False
    middle: float | None = None
    stacked: bool = False
    size: Literal["small", "large"] = "small"


# These are measured at some steps only: their points are marked and joined.
SELDOM = {Name.SUPERVISED_HELDOUT_LOSS, Name.SUPERVISED_HELDOUT_ABOVE_HALF_SHARE}
PANELS = (
    Panel(
        *("supervised", "Loss on the teacher's traces"),
        "Nats a token; at step 0 before any training.",
        {Name.SUPERVISED_LOSS: "learned", Name.SUPERVISED_HELDOUT_LOSS: "held out"},
        size="large",
    ),
    Panel(
        *("above-half", "Tokens given more than one half"),
        "Share of the traces' tokens that the model finds likelier than all others together.",
        {
            Name.SUPERVISED_ABOVE_HALF_SHARE: "learned",
            Name.SUPERVISED_HELDOUT_ABOVE_HALF_SHARE: "held out",
        },
        form=".1%",
        middle=1.0,
    ),
    Panel(
        *("accuracy", "Right and consistent"),
        "Share of answers that people agree with, and of judged ones that follow their analysis.",
        {Name.REWARD_RESULT: "right", Name.JUDGE_MATCH_SHARE: "consistent"},
        ("judge_abstaining", "consistent_but_not_better"),
        ".0%",
    ),
    Panel(
        *("reward", "Reward and its parts", "Means over the step's rollouts."),
        {
            Name.REWARD_TOTAL: "total",
            Name.REWARD_RESULT: "result",
            Name.REWARD_CONSISTENCY: "consistency",
            Name.REWARD_FORMAT: "format",
        },
    ),
    Panel(
        *("length", "Response length", "Tokens a rollout."),
        {Name.ROLLOUT_LENGTH_MEAN: "mean", Name.ROLLOUT_LENGTH_MAX: "longest"},
        ("length_at_cap",),
    ),
    Panel(
        *("unreadable", "Unreadable and truncated"),
        "Share of rollouts without a readable answer, or cut at the limit.",
        {Name.ROLLOUT_UNPARSED_SHARE: "unreadable", Name.ROLLOUT_TRUNCATED_SHARE: "truncated"},
        ("unparsed", "length_at_cap"),
        ".1%",
    ),
    Panel(
        *("slot", "Slot-1 share"),
        "Labels are balanced: a habit shows as a distance from one half.",
        {Name.ROLLOUT_SLOT_1_SHARE: "answers naming slot 1"},
        ("slot_drift",),
        ".0%",
        middle=0.5,
    ),
    Panel(
        *("filtered", "Filtered advantages"),
        "Share of tokens outside 3 sigma, and of wrong answers that lost all of theirs.",
        {
            Name.ADVANTAGE_FILTERED_TOKEN_SHARE: "tokens",
            Name.ADVANTAGE_FILTERED_WRONG_SHARE: "wrong answers",
        },
        ("negatives_vanished",),
        ".0%",
    ),
    Panel(
        *("kl", "KL divergence"),
        "Nats a token, from the policy that sampled and, where one is kept, from the reference.",
        {Name.POLICY_BEHAVIOUR_KL: "sampling policy", Name.POLICY_REFERENCE_KL: "reference"},
        ("kl_above_bound",),
    ),
    Panel(
        *("gap", "Engine-learner gap"),
        "Difference of the two log-probs of a sampled token, in nats; rounding only, at lag 0.",
        {Name.POLICY_LOGPROB_GAP_MEAN: "mean", Name.POLICY_LOGPROB_GAP_MAX: "largest"},
        ("logprob_gap",),
        ".0e",
        is_log=True,
    ),
    Panel(
        *("clip", "Clipped tokens", "Share of tokens at the bounds of Pre-Clip and of PPO's clip."),
        {Name.POLICY_CLIP_SHARE: "clip", Name.POLICY_PRE_CLIP_SHARE: "Pre-Clip"},
        form=".1%",
    ),
    Panel(
        *("entropy", "Entropy", "Nats a token."),
        {Name.POLICY_ENTROPY: "policy"},
        ("entropy_collapse",),
    ),
    Panel(
        *("grad", "Gradient norm", "Before clipping."),
        {Name.LEARNER_GRAD_NORM: "gradient norm"},
        ("loss_spike",),
    ),
    Panel("lr", "Learning rate", "At the step's last update.", {Name.LEARNER_LR: "learning rate"}),
    Panel(
        *("seconds", "Seconds a step"),
        "What the training loop spent its time on; rollouts of later steps may run beside it.",
        {
            Name.TIME_WAIT_FOR_ROLLOUTS_S: "waiting for rollouts",
            Name.TIME_TRAIN_S: "training",
            Name.TIME_PUBLISH_S: "publishing weights",
        },
        stacked=True,
        size="large",
    ),
)


@dataclass(frozen=True)
class AlertSpan:
    """An alert that was on from one step to another, both included."""

    name: str
    advice: str
    first_step: int
    last_step: int


def training_charts(metrics: Sequence[StepMetrics], prefix: str = "train") -> list[Chart]:
    """One chart a panel of which the run has any metric; ``prefix`` tells the runs of a page apart."""
    spans = alert_spans(metrics)
    return [
        panel_chart(panel, metrics, [span for span in spans if span.name in panel.alerts], prefix)
        for panel in PANELS
        if any(key in step for key in panel.lines for step in metrics)
    ]


def panel_chart(
    panel: Panel, metrics: Sequence[StepMetrics], spans: Sequence[AlertSpan], prefix: str
) -> Chart:
    """A panel of which the run has at least one metric, with its alerts' steps shaded."""
    traces: list[Spec] = []
    for colour, (key, name) in enumerate(panel.lines.items(), start=1):
        measured = [step for step in metrics if key in step or key not in SELDOM]
        values = [finite(step.get(key)) for step in measured]
        if all(value is None for value in values):
            continue
        trace = line(name, [int(step["step"]) for step in measured], values, colour)
        if key in SELDOM:
            trace |= marks(colour)
        if panel.stacked:
            trace["line"] = {"color": f"--series-{colour}", "width": 1}
            trace |= {"fillcolor": f"--series-{colour}-band", "stackgroup": "phases"}
            trace["hovertemplate"] = "%{y:.2f} s"
        traces.append(trace)
    axis: Spec = {"rangemode": "tozero"} if not panel.is_log else {"type": "log", "dtick": 1}
    if panel.form:
        axis["tickformat"] = panel.form
    shapes = [alert_shape(span) for span in spans]
    if panel.middle is not None:
        axis["rangemode"] = "normal"
        shapes.append(level(panel.middle, ""))
    layout: Spec = {"yaxis": axis, "shapes": shapes}
    if SELDOM & panel.lines.keys():
        layout["xaxis"] = {"zeroline": False}
    return Chart(f"{prefix}-{panel.name}", panel.title, panel.note, traces, layout, panel.size)


def finite(value: float | None) -> float | None:
    """Returns None for a value that no chart can show: NaN or infinity."""
    return value if value is not None and math.isfinite(value) else None


def alert_shape(span: AlertSpan) -> Spec:
    """The shaded area behind the steps of an alert."""
    at: Spec = {"x0": span.first_step - 0.5, "x1": span.last_step + 0.5, "y0": 0, "y1": 1}
    ink: Spec = {"fillcolor": "--alert-band", "line": {"width": 0}, "layer": "below"}
    return {"type": "rect", "yref": "paper", **at, **ink}


def alert_spans(metrics: Sequence[StepMetrics]) -> list[AlertSpan]:
    """Runs of neighbouring steps with the alert on, by alert."""
    spans = []
    for alert in ALERTS:
        steps = [(int(step["step"]), step.get(alert_name(alert.name), 0) > 0) for step in metrics]
        for is_on, neighbours in groupby(steps, key=itemgetter(1)):
            numbers = [number for number, _ in neighbours]
            if is_on:
                spans.append(AlertSpan(alert.name, alert.advice, numbers[0], numbers[-1]))
    return spans


def metric_summaries(metrics: Sequence[StepMetrics]) -> dict[str, tuple[float, ...]]:
    """First, last, least and greatest of everything that was logged, by name."""
    values_by_name: dict[str, list[float]] = defaultdict(list)
    for name, value in chain.from_iterable(step.items() for step in metrics):
        if math.isfinite(value):
            values_by_name[name].append(value)
    return {
        name: (values[0], values[-1], min(values), max(values))
        for name, values in sorted(values_by_name.items())
        if name != "step"
    }


def is_supervised(metrics: Sequence[StepMetrics]) -> bool:
    """Whether this is fine-tuning on traces, which samples nothing."""
    return any(name.startswith("supervised/") for step in metrics for name in step)


def loss_text(metrics: Sequence[StepMetrics]) -> str:
    """From the first to the last held-out loss, in words; empty where none was measured."""
    texts = [
        f"{value:.3g} at step {step['step']:.0f}"
        for step in metrics
        if (value := finite(step.get(Name.SUPERVISED_HELDOUT_LOSS))) is not None
    ]
    # Once, where only one was measured.
    return f"held-out loss {', '.join(dict.fromkeys([texts[0], texts[-1]]))}" if texts else ""
