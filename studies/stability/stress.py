"""Sources of rollouts that make training hard in a controlled way. They wrap the ordinary source."""

from __future__ import annotations

from collections.abc import Sequence

from r1reward.interfaces import RolloutBatch, RolloutSource
from r1reward.metrics import Name, mean
from r1reward.rollouts import LiveSource, rollout_metrics
from r1reward.types import ScoredRollout, WeightsHandle
from studies.stability.grid import Stress

MAX_ROUNDS = 8


class StaleSource:
    """Samples step s with the weights of step s - ``num_steps``, or the first ones there are.

    ``train.max_policy_lag`` is an upper bound that an overlapping run comes close to or not; here every
    batch is exactly that old, so that runs can be compared. Bundles are kept as long as they are needed.
    """

    def __init__(self, inner: LiveSource, num_steps: int) -> None:
        self.inner = inner
        self.num_steps = num_steps
        self.handles: list[WeightsHandle] = []

    async def collect(self, step: int, weights: WeightsHandle) -> RolloutBatch:
        self.handles = [*self.handles[-self.num_steps :], weights]
        return await self.inner.collect(step, self.handles[0])


class LateSource:
    """Batches as late in training: right answers but for ``num_wrong``, all sampled from these weights.

    Rollouts of the step are kept in their order, wrong ones beyond the wanted number are left out, and
    further prompts are sampled until the batch is full (after ``MAX_ROUNDS`` it stays smaller).
    ``rollout/drawn_right_share`` is the policy's own share of right answers, before the choice.
    """

    def __init__(self, inner: LiveSource, num_wrong: int) -> None:
        self.inner = inner
        self.num_wrong = num_wrong

    async def collect(self, step: int, weights: WeightsHandle) -> RolloutBatch:
        first = await self.inner.collect(step, weights)
        size = len(first.rollouts)
        drawn = list(first.rollouts)
        for sampling_round in range(1, MAX_ROUNDS + 1):
            missing = size - len(late_batch(drawn, size, self.num_wrong))
            if not missing:
                break
            further = self.inner.requests_for_step(step, sampling_round)
            # A few more than missing: some of them will be wrong.
            drawn += await self.inner.sample(further[: min(size, 2 * missing + 8)])
        batch = late_batch(drawn, size, self.num_wrong)
        metrics = {name: m for name, m in first.metrics.items() if name.startswith("time/")}
        metrics |= rollout_metrics(batch)
        metrics[Name.ROLLOUT_DRAWN_RIGHT_SHARE] = mean([float(is_right(item)) for item in drawn])
        return RolloutBatch(step, batch, metrics)


def late_batch(drawn: Sequence[ScoredRollout], size: int, num_wrong: int) -> list[ScoredRollout]:
    """At most ``size`` rollouts in the order drawn: all right but the first ``num_wrong`` wrong ones."""
    room = {True: size - num_wrong, False: num_wrong}
    batch = []
    for scored in drawn:
        if room[is_right(scored)] > 0:
            room[is_right(scored)] -= 1
            batch.append(scored)
    return batch


def is_right(scored: ScoredRollout) -> bool:
    return scored.reward.result > 0


def stressed(source: LiveSource, stress: Stress) -> RolloutSource:
    if stress.weights_behind:
        return StaleSource(source, stress.weights_behind)
    if stress.wrong_per_batch is not None:
        return LateSource(source, stress.wrong_per_batch)
    return source
