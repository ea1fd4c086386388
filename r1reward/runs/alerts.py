"""Alerts: what in a step's metrics a person should look at, in one line of advice each.

A rule is a function of the last few steps' metrics, so a resumed run that reads them back from
metrics.jsonl alerts as the uninterrupted one would.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from r1reward.metrics import Name, alert_name
from r1reward.recipe.sections import AlertsSection
from r1reward.types import StepReport

logger = logging.getLogger(__name__)

StepMetrics = Mapping[str, float]
Rule = Callable[[Sequence[StepMetrics], AlertsSection], bool]


@dataclass(frozen=True)
class Alert:
    """``is_on`` sees the metrics of the last two ``alerts.window`` of steps or fewer, newest last."""

    name: str
    advice: str
    is_on: Rule


class AlertError(RuntimeError):
    """An alert that the recipe's ``alerts.stop_on`` names is on."""


ALERTS: list[Alert] = []


def alert(advice: str) -> Callable[[Rule], Rule]:
    """Declares the rule below as the alert of its name."""

    def declare(rule: Rule) -> Rule:
        ALERTS.append(Alert(rule.__name__, advice, rule))
        return rule

    return declare


def full_mean(steps: Sequence[StepMetrics], name: str, num_steps: int) -> float | None:
    """The mean over so many steps, None if one of them is missing or says nothing of it."""
    values = [step[name] for step in steps if name in step]
    return sum(values) / num_steps if len(values) == num_steps else None


@alert(
    "the 3-sigma filter drops every wrong answer (most are right): use harder pairs, raise "
    "algorithm.filter_sigma, or set algorithm.filter_rule to keep_both_signs"
)
def negatives_vanished(window: Sequence[StepMetrics], settings: AlertsSection) -> bool:
    newest = window[-1]
    has_wrong = newest.get(Name.ADVANTAGE_NUM_WRONG, 0) > 0
    return has_wrong and newest.get(Name.ADVANTAGE_FILTERED_WRONG_SHARE, 0) == 1


@alert("the policy prefers a slot: check that labels are balanced and read rollouts/")
def slot_drift(window: Sequence[StepMetrics], settings: AlertsSection) -> bool:
    """Over a full window only: one batch of a few prompts says little about a habit."""
    average = full_mean(window[-settings.window :], Name.ROLLOUT_SLOT_1_SHARE, settings.window)
    if average is None:
        return False
    return not settings.min_slot_1_share <= average <= settings.max_slot_1_share


@alert("traces run into model.max_new_tokens: raise it, or lower learner.lr if they are garbled")
def length_at_cap(window: Sequence[StepMetrics], settings: AlertsSection) -> bool:
    return window[-1].get(Name.ROLLOUT_TRUNCATED_SHARE, 0) > settings.max_truncated_share


@alert(
    "rollout engine and learner disagree on the same weights: check dtype, images and weight "
    "sync before trusting the ratios"
)
def logprob_gap(window: Sequence[StepMetrics], settings: AlertsSection) -> bool:
    """At lag 0 both sides hold the same weights; with a lag the gap also measures learning."""
    newest = window[-1]
    same_weights = newest.get(Name.ROLLOUT_POLICY_LAG) == 0
    return same_weights and newest.get(Name.POLICY_LOGPROB_GAP_MEAN, 0) > settings.max_logprob_gap


@alert("the consistency judge fails on some calls: check its endpoint and its log")
def judge_abstaining(window: Sequence[StepMetrics], settings: AlertsSection) -> bool:
    asked = window[-1].get(Name.JUDGE_NUM_ASKED, 0)
    return window[-1].get(Name.JUDGE_NUM_ABSTAINED, 0) > settings.max_abstain_share * asked


@alert(
    "many traces have no readable answer: check the prompt template and its tags, or raise "
    "reward.format_weight"
)
def unparsed(window: Sequence[StepMetrics], settings: AlertsSection) -> bool:
    return window[-1].get(Name.ROLLOUT_UNPARSED_SHARE, 0) > settings.max_unparsed_share


@alert(
    "the policy hardly varies what it writes, so samples teach little: lower learner.lr, use "
    "harder pairs, or hold it to the reference with algorithm.kl_beta"
)
def entropy_collapse(window: Sequence[StepMetrics], settings: AlertsSection) -> bool:
    entropy = full_mean(window[-settings.window :], Name.POLICY_ENTROPY, settings.window)
    return (
        settings.min_entropy is not None and entropy is not None and entropy < settings.min_entropy
    )


@alert(
    "the policy has moved far from the model it is measured against: lower learner.lr or "
    "train.max_policy_lag, or raise algorithm.kl_beta"
)
def kl_above_bound(window: Sequence[StepMetrics], settings: AlertsSection) -> bool:
    kls = [window[-1].get(f"policy/{name}", 0) for name in ("reference_kl", "behaviour_kl")]
    return settings.max_kl is not None and max(kls) > settings.max_kl


@alert(
    "analyses agree with answers more often while no more answers are right: read rollouts/ for "
    "analyses that please the judge, or lower reward.consistency_weight"
)
def consistent_but_not_better(window: Sequence[StepMetrics], settings: AlertsSection) -> bool:
    """Means of the last window against the one before: one step of either is mostly noise."""
    size = settings.window
    before, after = window[: len(window) - size], window[-size:]
    matches = [full_mean(part, Name.JUDGE_MATCH_SHARE, size) for part in (before, after)]
    right = [full_mean(part, Name.REWARD_RESULT, size) for part in (before, after)]
    if matches[0] is None or matches[1] is None or right[0] is None or right[1] is None:
        return False
    return matches[1] - matches[0] >= settings.max_match_rise and right[1] <= right[0]


@alert(
    "loss or gradient norm jumped: look at this step's ratios and rollouts, and lower learner.lr "
    "if it comes again"
)
def loss_spike(window: Sequence[StepMetrics], settings: AlertsSection) -> bool:
    """Against the median of the window before.

    Sizes up to 1 never count: normalised advantages give losses around 0, whose median says little,
    and a gradient of norm 1 is not even clipped by default.
    """
    for name in (Name.LEARNER_LOSS, Name.LEARNER_GRAD_NORM):
        sizes = [abs(step[name]) for step in window[-settings.window - 1 :] if name in step]
        if len(sizes) == settings.window + 1:
            *before, newest = sizes
            if newest > max(1.0, settings.max_spike * median(before)):
                return True
    return False


class AlertWatch:
    """Follows a run: which alerts are on, which begin and which end.

    ``history`` holds the metrics of the steps before, of which the last two ``alerts.window`` count.
    """

    def __init__(self, settings: AlertsSection, history: Iterable[StepMetrics] = ()) -> None:
        self.settings = settings
        self.window: deque[StepMetrics] = deque(history, maxlen=2 * settings.window)
        self.active = self.alerts_on() if self.window else []

    def alerts_on(self) -> list[Alert]:
        window = list(self.window)
        return [alert for alert in ALERTS if alert.is_on(window, self.settings)]

    def step(self, report: StepReport) -> StepReport:
        """The report with ``alert/NAME`` 0 or 1 for every alert; beginnings and ends are logged."""
        before = self.active
        self.window.append(report.metrics)
        self.active = self.alerts_on()
        for alert in ALERTS:
            if alert in self.active and alert not in before:
                logger.warning("step %d: alert %s: %s", report.step, alert.name, alert.advice)
            elif alert in before and alert not in self.active:
                logger.warning("step %d: alert %s is over", report.step, alert.name)
        flags = {alert_name(alert.name): float(alert in self.active) for alert in ALERTS}
        return replace(report, metrics={**report.metrics, **flags})

    def stop_if_asked(self, step: int) -> None:
        """Raises ``AlertError`` if an alert is on that the recipe stops for."""
        for alert in self.active:
            if alert.name in self.settings.stop_on:
                raise AlertError(
                    f"step {step}: alert {alert.name}: {alert.advice}. The run ends because "
                    f"alerts.stop_on names it; the last checkpoint is from before"
                )
