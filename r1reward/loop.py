"""The RL loop: one producer, one consumer, a bounded buffer between them.

    producer                                buffer          consumer
    pairs -> prompts -> rollouts              |    old and reference log-probs  (learner)
      -> verdicts -> judge -> rewards  ----> |_| ----> advantages -> train batches -> updates
    with weights at most max_policy_lag       |    publish the new weights, record the step
    steps old  <------------------------- weights ---------------------------------'

Lag 0 is synchronous: the batch of step s waits for the weights of step s. Where rewards are made is
``rollouts.py``, how a reward becomes an advantage ``algorithm/step.py``. Nothing here knows Ray, vLLM or
DeepSpeed.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1reward.algorithm.step import batch_advantages
from r1reward.errors import StoppedError
from r1reward.interfaces import Evaluator, Learner, Recorder, RolloutBatch, RolloutSource
from r1reward.metrics import Metrics, Name, last, mean, merge, numbers, total
from r1reward.recipe.learner_sections import AlgorithmSection
from r1reward.recipe.sections import TrainSection
from r1reward.types import ScoredRollout, StepReport, TrainingSample, WeightsHandle

logger = logging.getLogger(__name__)

RELEASED_FILTER = (
    "algorithm.filter_rule authors repeats a fault of the released code, for comparison: from about "
    "68 % right on no wrong answer is learned from"
)


@dataclass(frozen=True)
class LoopSettings:
    """What the loop depends on. ``train_batch_size`` counts sequences of one optimizer step."""

    train: TrainSection
    algorithm: AlgorithmSection
    train_batch_size: int


class NewestWeights:
    """The newest published weights, and a way to wait for weights that are new enough."""

    def __init__(self) -> None:
        self.handle = WeightsHandle(version=-1, buckets=(), refs=())
        self.changed = asyncio.Condition()

    async def put(self, handle: WeightsHandle) -> None:
        """Raises ``ValueError`` for a version that does not follow: it would be waited for in vain."""
        newest = self.handle.version
        if newest >= 0 and handle.version != newest + 1:
            raise ValueError(
                f"weights of version {handle.version} were published after version {newest}: every step "
                "publishes the next version"
            )
        async with self.changed:
            self.handle = handle
            self.changed.notify_all()

    async def at_least(self, version: int) -> WeightsHandle:
        async with self.changed:
            await self.changed.wait_for(lambda: self.handle.version >= version)
            return self.handle


async def run(
    settings: LoopSettings,
    source: RolloutSource,
    learner: Learner,
    recorder: Recorder,
    start_step: int = 0,
    evaluator: Evaluator | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Train from ``start_step`` to the last step. An error on either side ends both.

    Once ``stop`` is set, the step that is being trained ends, a checkpoint of it is written and
    ``StoppedError`` raised (in a group); what was being sampled is dropped.

    An evaluation after s steps is made by the producer, once the weights of step s are there and before
    it samples with them: at any lag it sees exactly these weights, and nobody else uses the engines.
    """
    train = settings.train
    if settings.algorithm.filter_rule == "authors":
        logger.warning(RELEASED_FILTER)
    newest = NewestWeights()
    await publish(start_step, learner, newest)
    buffer: asyncio.Queue[RolloutBatch] = asyncio.Queue(maxsize=train.max_policy_lag + 1)
    steps = range(start_step, train.num_steps)

    async def produce() -> None:
        for step in (*steps, train.num_steps):
            if evaluator is not None and evaluator.due(step):
                await evaluator.evaluate(await newest.at_least(step))
            if step in steps:
                weights = await newest.at_least(step - train.max_policy_lag)
                await buffer.put(await source.collect(step, weights))

    async def consume() -> None:
        for step in steps:
            started = time.monotonic()
            batch = await next_batch(buffer, stop)
            if batch is None:
                if step > start_step and step % train.checkpoint_every:
                    await recorder.record_checkpoint(learner, step)
                raise StoppedError(f"stopped after step {step}")
            waited_s = time.monotonic() - started
            recorder.record_rollouts(batch)
            trained = await train_step(settings, batch, learner)
            published = await publish(step + 1, learner, newest)
            timing: Metrics = {
                Name.TIME_WAIT_FOR_ROLLOUTS_S: last(waited_s),
                Name.TIME_STEP_S: last(time.monotonic() - started),
            }
            done = step + 1
            metrics = merge([batch.metrics, trained, published, timing])
            recorder.record_step(StepReport(done, numbers(metrics)))
            if done % train.checkpoint_every == 0 or done == train.num_steps:
                await recorder.record_checkpoint(learner, done)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(produce())
        tasks.create_task(consume())


async def next_batch(
    buffer: asyncio.Queue[RolloutBatch], stop: asyncio.Event | None
) -> RolloutBatch | None:
    """None as soon as a stop is asked for."""
    if stop is None:
        return await buffer.get()
    getting = asyncio.create_task(buffer.get())
    asked = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((getting, asked), return_when=asyncio.FIRST_COMPLETED)
        return None if stop.is_set() else getting.result()
    finally:
        getting.cancel()
        asked.cancel()


async def publish(version: int, learner: Learner, newest: NewestWeights) -> Metrics:
    """Hand the learner's weights to whoever samples, as this policy version.

    Raises ``ValueError`` if what comes back is another version.
    """
    started = time.monotonic()
    await learner.weight_sync.begin(version)
    handle = await learner.weight_sync.finish()
    if handle.version != version:
        raise ValueError(
            f"version {version} of the weights was to be published and {handle.version} came: the "
            "learner's WeightSync has to finish what it began"
        )
    await newest.put(handle)
    return {
        Name.SYNC_PUBLISHED_BYTES: total(handle.num_bytes),
        Name.TIME_PUBLISH_S: last(time.monotonic() - started),
    }


async def train_step(settings: LoopSettings, batch: RolloutBatch, learner: Learner) -> Metrics:
    """Returns, advantages and filter over the whole batch, then one update a train batch."""
    started = time.monotonic()
    rollouts = batch.rollouts
    blank = [training_sample(scored, None, np.zeros(0), None) for scored in rollouts]
    old = await old_logprobs(settings, rollouts, blank, learner)
    reference = await reference_logprobs(settings.algorithm, blank, learner)
    advantages, metrics = batch_advantages(settings.algorithm, rollouts, old, reference)
    samples = [
        training_sample(*parts)
        for parts in zip(rollouts, old, advantages.values, reference, strict=True)
    ]
    size = settings.train_batch_size
    updates = [
        await learner.update(samples[start : start + size])
        for start in range(0, len(samples), size)
    ]
    lags = [float(batch.step - r.rollout.policy_versions.min()) for r in rollouts]
    return {
        **metrics,
        **merge(updates),
        Name.ROLLOUT_POLICY_LAG: mean(lags),
        Name.LEARNER_NUM_UPDATES: total(len(updates)),
        Name.TIME_TRAIN_S: last(time.monotonic() - started),
    }


async def old_logprobs(
    settings: LoopSettings,
    rollouts: Sequence[ScoredRollout],
    blank: Sequence[TrainingSample],
    learner: Learner,
) -> list[np.ndarray | None]:
    """Log-probs of the policy before this step's first update, one array [R] a rollout.

    None means: take them from the update's own forward pass. That is exact for the first train batch,
    which sees unchanged weights, and saves its pass.
    """
    if settings.algorithm.old_logprobs == "rollout":
        return [scored.rollout.logprobs for scored in rollouts]
    skip = 0 if settings.algorithm.needs_reference else settings.train_batch_size
    computed = await learner.logprobs(blank[skip:], "policy") if blank[skip:] else []
    return [None] * min(skip, len(blank)) + list(computed)


async def reference_logprobs(
    algorithm: AlgorithmSection, blank: Sequence[TrainingSample], learner: Learner
) -> Sequence[np.ndarray | None]:
    """Log-probs of the base model, one array [R] a rollout; None where the run has none."""
    if not algorithm.needs_reference:
        return [None] * len(blank)
    return await learner.logprobs(blank, "reference")


def training_sample(
    scored: ScoredRollout,
    old_logprobs_R: np.ndarray | None,
    advantages_R: np.ndarray,
    reference_logprobs_R: np.ndarray | None,
) -> TrainingSample:
    rollout = scored.rollout
    return TrainingSample(
        prompt_token_ids=rollout.prompt_token_ids,
        response_token_ids=rollout.response_token_ids,
        images=rollout.request.prompt.pair.images,
        rollout_logprobs=rollout.logprobs,
        old_logprobs=old_logprobs_R,
        advantages=advantages_R,
        reference_logprobs=reference_logprobs_R,
    )
