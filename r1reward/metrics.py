"""The numbers of a run: every name declared once, and values that carry how they reduce.

A number without its reduction is averaged wrongly sooner or later: a mean over tokens needs its token
count, a maximum must not be averaged. And a name that is a free string is renamed in one place and read
in another, without a test noticing. So producers and readers use the members of ``Name``, a value says
how it reduces, and ``merge`` obeys. docs/metrics.md is made from ``Name``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

Reduction = Literal["mean", "sum", "max", "last"]


class Name(StrEnum):
    """Every metric: its name as it is logged, its rule over a step, and its unit ("" for a number).

    The strings below the members say what they mean.
    """

    reduction: Reduction
    unit: str

    def __new__(cls, name: str, reduction: Reduction, unit: str) -> Self:
        member = str.__new__(cls, name)
        member._value_ = name
        member.reduction, member.unit = reduction, unit
        return member

    REWARD_TOTAL = "reward/total", "mean", "points"
    """Reward of a rollout."""
    REWARD_STD = "reward/std", "last", "points"
    """Spread of the step's rewards."""
    REWARD_RESULT = "reward/result", "mean", "share"
    """Answers that people agree with."""
    REWARD_FORMAT = "reward/format", "mean", "share"
    """Rollouts in the form that the prompt asks for."""
    REWARD_CONSISTENCY = "reward/consistency", "mean", "points"
    """Consistency reward of the judged rollouts."""
    REWARD_POSITION = "reward/position", "mean", "share"
    """Rollouts whose pair is answered rightly in both orders, where both are shown."""

    JUDGE_MATCH_SHARE = "judge/match_share", "mean", "share"
    """Judged analyses that conclude what was answered."""
    JUDGE_NUM_ASKED = "judge/num_asked", "sum", "rollouts"
    """Rollouts that the judge was asked about."""
    JUDGE_NUM_ABSTAINED = "judge/num_abstained", "sum", "rollouts"
    """Judge calls that failed."""
    JUDGE_NUM_UNDECIDED = "judge/num_undecided", "sum", "rollouts"
    """Analyses without a conclusion that the judge could compare."""

    ROLLOUT_LENGTH_MEAN = "rollout/length_mean", "mean", "tokens"
    """Length of a response."""
    ROLLOUT_LENGTH_MAX = "rollout/length_max", "max", "tokens"
    """Longest response."""
    ROLLOUT_NUM_TOKENS = "rollout/num_tokens", "sum", "tokens"
    """Response tokens of the step."""
    ROLLOUT_TRUNCATED_SHARE = "rollout/truncated_share", "mean", "share"
    """Responses cut off at model.max_new_tokens."""
    ROLLOUT_UNPARSED_SHARE = "rollout/unparsed_share", "mean", "share"
    """Responses without a readable answer."""
    ROLLOUT_SLOT_1_SHARE = "rollout/slot_1_share", "mean", "share"
    """Readable answers that name the first response."""
    ROLLOUT_UNIFORM_GROUP_SHARE = "rollout/uniform_group_share", "mean", "share"
    """Prompts of several samples whose samples are all right or all wrong."""
    ROLLOUT_NUM_RESAMPLED = "rollout/num_resampled", "sum", "prompts"
    """Prompts that dynamic sampling tried beyond the first round."""
    ROLLOUT_DRAWN_RIGHT_SHARE = "rollout/drawn_right_share", "mean", "share"
    """Right answers before a stress of the stability study chooses among them."""
    ROLLOUT_NUM_ENGINES = "rollout/num_engines", "last", "engines"
    """Engines that were sampled from."""
    ROLLOUT_POLICY_LAG = "rollout/policy_lag", "mean", "steps"
    """Training steps between the weights that sampled and those that were trained."""

    ADVANTAGE_MEAN = "advantage/mean", "mean", ""
    """Advantage of a response token."""
    ADVANTAGE_STD = "advantage/std", "last", ""
    """Spread of the advantages."""
    ADVANTAGE_MIN = "advantage/min", "last", ""
    """Smallest advantage."""
    ADVANTAGE_MAX = "advantage/max", "last", ""
    """Largest advantage."""
    ADVANTAGE_FILTERED_TOKEN_SHARE = "advantage/filtered_token_share", "mean", "share"
    """Tokens whose advantage the filter drops."""
    ADVANTAGE_FILTERED_WRONG_SHARE = "advantage/filtered_wrong_share", "mean", "share"
    """Wrong answers that lose every token to the filter."""
    ADVANTAGE_NUM_WRONG = "advantage/num_wrong", "sum", "rollouts"
    """Wrong answers that count."""
    ADVANTAGE_NUM_MASKED = "advantage/num_masked", "sum", "rollouts"
    """Truncated responses that algorithm.mask_truncated leaves out."""

    POLICY_ENTROPY = "policy/entropy", "mean", "nats a token"
    """Entropy of the policy."""
    POLICY_BEHAVIOUR_KL = "policy/behaviour_kl", "mean", "nats a token"
    """KL from the policy that sampled."""
    POLICY_REFERENCE_KL = "policy/reference_kl", "mean", "nats a token"
    """KL from the reference model."""
    POLICY_KL_IN_LOSS = "policy/kl_in_loss", "mean", "nats a token"
    """The estimate that algorithm.kl_placement loss adds."""
    POLICY_LOGPROB_GAP_MEAN = "policy/logprob_gap_mean", "mean", "nats"
    """Difference of engine and learner on a sampled token."""
    POLICY_LOGPROB_GAP_MAX = "policy/logprob_gap_max", "max", "nats"
    """Largest such difference."""
    POLICY_RATIO_MEAN = "policy/ratio_mean", "mean", ""
    """Ratio of new to old probability."""
    POLICY_RATIO_MAX = "policy/ratio_max", "max", ""
    """Largest ratio that the loss uses."""
    POLICY_CLIP_SHARE = "policy/clip_share", "mean", "share"
    """Tokens that PPO's clip silences, or whose weight CISPO clips."""
    POLICY_PRE_CLIP_SHARE = "policy/pre_clip_share", "mean", "share"
    """Tokens outside the bounds of Pre-Clip."""
    POLICY_DUAL_CLIP_SHARE = "policy/dual_clip_share", "mean", "share"
    """Tokens at the dual clip."""
    POLICY_ROLLOUT_IS_MEAN = "policy/rollout_is_mean", "mean", ""
    """Weight of the rollout correction."""
    POLICY_ROLLOUT_IS_MAX = "policy/rollout_is_max", "max", ""
    """Largest such weight before its cap."""
    POLICY_ROLLOUT_IS_CAPPED_SHARE = "policy/rollout_is_capped_share", "mean", "share"
    """Tokens whose weight is at the cap."""
    POLICY_ROLLOUT_MASKED_SHARE = "policy/rollout_masked_share", "mean", "share"
    """Sequences that the rollout correction leaves out."""

    LEARNER_LOSS = "learner/loss", "mean", ""
    """Loss of a train batch."""
    LEARNER_GRAD_NORM = "learner/grad_norm", "max", ""
    """Gradient norm before clipping."""
    LEARNER_LR = "learner/lr", "last", ""
    """Learning rate of the step's last update."""
    LEARNER_NUM_UPDATES = "learner/num_updates", "sum", "updates"
    """Optimizer steps."""

    SUPERVISED_LOSS = "supervised/loss", "mean", "nats a token"
    """Loss on the traces that are learned."""
    SUPERVISED_HELDOUT_LOSS = "supervised/heldout_loss", "mean", "nats a token"
    """Loss on the held-out traces."""
    SUPERVISED_ABOVE_HALF_SHARE = "supervised/above_half_share", "mean", "share"
    """Tokens that the model finds likelier than all others together."""
    SUPERVISED_HELDOUT_ABOVE_HALF_SHARE = "supervised/heldout_above_half_share", "mean", "share"
    """Such tokens of the held-out traces."""
    SUPERVISED_NUM_TOKENS = "supervised/num_tokens", "sum", "tokens"
    """Response tokens of the step."""

    SYNC_PUBLISHED_BYTES = "sync/published_bytes", "sum", "bytes"
    """Size of the published weights."""

    TIME_LOAD_WEIGHTS_S = "time/load_weights_s", "last", "seconds"
    """Until every engine has the step's weights."""
    TIME_WEIGHT_SWAP_S = "time/weight_swap_s", "max", "seconds"
    """Of these, the slowest engine's swap itself."""
    TIME_ENGINE_PREPARE_IMAGES_S = "time/engine_prepare_images_s", "max", "seconds"
    """Decoding and resizing images in the slowest engine, with the weights before the step's."""
    TIME_ROLLOUT_S = "time/rollout_s", "last", "seconds"
    """Sampling and judging of the step."""
    TIME_ROLLOUT_TOKENS_PER_S = "time/rollout_tokens_per_s", "last", "tokens a second"
    """Response tokens of all engines."""
    TIME_WAIT_FOR_ROLLOUTS_S = "time/wait_for_rollouts_s", "last", "seconds"
    """The learner's wait for a batch."""
    TIME_TRAIN_S = "time/train_s", "last", "seconds"
    """Log-probs, advantages and updates."""
    TIME_PREPARE_IMAGES_S = "time/prepare_images_s", "sum", "seconds"
    """Of these, decoding and resizing images while the GPU waits, summed over ranks."""
    TIME_PUBLISH_S = "time/publish_s", "last", "seconds"
    """Publishing the new weights."""
    TIME_STEP_S = "time/step_s", "last", "seconds"
    """The whole step of the learner."""

    EVAL_ACCURACY = "eval/accuracy", "last", "share"
    """One sample, held-out pairs."""
    EVAL_VOTED = "eval/voted", "last", "share"
    """The vote of all samples."""
    EVAL_BOTH_RIGHT = "eval/both_right", "last", "share"
    """Pairs that are right in both orders."""
    EVAL_SLOT_1_RATE = "eval/slot_1_rate", "last", "share"
    """Answers that name the first response."""
    EVAL_FLIP_RATE = "eval/flip_rate", "last", "share"
    """Pairs whose answer changes with the order."""
    EVAL_UNPARSED_SHARE = "eval/unparsed_share", "last", "share"
    """Answers that cannot be read."""
    EVAL_CONSISTENCY = "eval/consistency", "last", "share"
    """Answers that follow their analysis."""


def alert_name(alert: str) -> str:
    """The metric of an alert (``runs/alerts.py`` declares them): 1 in the steps in which it is on."""
    return f"alert/{alert}"


@dataclass(frozen=True)
class Metric:
    """``value`` under ``reduction``; for a mean, ``weight`` is its denominator."""

    value: float
    reduction: Reduction
    weight: float = 1.0


Metrics = dict[Name, Metric]


def mean(values: Sequence[float] | float, weight: float | None = None) -> Metric:
    """The mean of a sequence, or a mean already taken over ``weight`` items."""
    if isinstance(values, int | float):
        return Metric(float(values), "mean", 1.0 if weight is None else weight)
    assert weight is None, "a sequence is its own denominator"
    count = len(values)
    return Metric(sum(values) / count if count else 0.0, "mean", float(count))


def total(value: float) -> Metric:
    """A number that is summed."""
    return Metric(float(value), "sum")


def maximum(value: float) -> Metric:
    """A number of which the largest counts."""
    return Metric(float(value), "max")


def last(value: float) -> Metric:
    """A number of which the newest counts."""
    return Metric(float(value), "last")


def merge(parts: Iterable[Mapping[Name, Metric]]) -> Metrics:
    """Reduce metrics of the same name over micro-batches, ranks or updates."""
    merged: Metrics = {}
    for part in parts:
        for name, metric in part.items():
            merged[name] = combine(merged[name], metric) if name in merged else metric
    return merged


def combine(a: Metric, b: Metric) -> Metric:
    """One metric of two values of one name."""
    assert a.reduction == b.reduction, "one name, one reduction"
    match a.reduction:
        case "mean":
            weight = a.weight + b.weight
            if weight == 0:
                return a
            return Metric((a.value * a.weight + b.value * b.weight) / weight, "mean", weight)
        case "sum":
            return Metric(a.value + b.value, "sum")
        case "max":
            return Metric(max(a.value, b.value), "max")
        case "last":
            return b


def numbers(metrics: Mapping[Name, Metric]) -> dict[str, float]:
    """Names to plain numbers, for the log; a mean over nothing is left out.

    A name whose values reduce otherwise than it declares is our own mistake.
    """
    for name, metric in metrics.items():
        assert metric.reduction == name.reduction, f"{name} is declared as {name.reduction}"
    return {
        str(name): metric.value
        for name, metric in sorted(metrics.items())
        if not (metric.reduction == "mean" and metric.weight == 0)
    }
