"""Supervised fine-tuning: the learner fits written traces, batch by batch.

The counterpart of ``loop.py`` where there is nothing to sample. Data order is a function of seed and
step, so a resumed run needs no other state than the learner's.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from r1reward.data.order import step_pairs
from r1reward.errors import StoppedError
from r1reward.interfaces import Learner
from r1reward.metrics import Metrics, Name, last, numbers, total
from r1reward.types import StepReport, TraceSample


@dataclass(frozen=True)
class SftSettings:
    """What the loop depends on. ``batch_size`` counts traces of one optimizer step."""

    num_steps: int
    batch_size: int
    seed: int
    evaluate_every: int
    checkpoint_every: int


class SftRecorder(Protocol):
    def record_step(self, report: StepReport) -> None: ...

    async def record_checkpoint(self, learner: Learner, num_steps_done: int) -> None: ...


async def fit_traces(
    settings: SftSettings,
    train: Sequence[TraceSample],
    heldout: Sequence[TraceSample],
    learner: Learner,
    recorder: SftRecorder,
    start_step: int = 0,
    stop: asyncio.Event | None = None,
) -> None:
    """Fit from ``start_step`` to the last step; every epoch sees the traces in a new order.

    The held-out loss after s steps stands in the metrics of step s: before the first, after every
    ``evaluate_every`` and after the last. Once ``stop`` is set, the step in flight ends, a checkpoint of
    it is written and ``StoppedError`` raised.
    """
    heldout = list(heldout)  # they are few, and every look at one may encode it anew
    if start_step == 0 and heldout:
        recorder.record_step(StepReport(0, numbers(await heldout_loss(heldout, learner))))
    num_steps = settings.num_steps
    for step in range(start_step, num_steps):
        if stop is not None and stop.is_set():
            if step > start_step and step % settings.checkpoint_every:
                await recorder.record_checkpoint(learner, step)
            raise StoppedError(f"stopped after step {step}")
        started = time.monotonic()
        chosen = step_pairs(len(train), settings.batch_size, settings.seed, step)
        batch = [train[index] for index, _ in chosen]
        metrics = await learner.fit(batch)
        num_tokens = sum(len(sample.response_token_ids) for sample in batch)
        metrics |= {
            Name.SUPERVISED_NUM_TOKENS: total(num_tokens),
            Name.TIME_STEP_S: last(time.monotonic() - started),
        }
        done = step + 1
        if heldout and (done % settings.evaluate_every == 0 or done == num_steps):
            metrics |= await heldout_loss(heldout, learner)
        recorder.record_step(StepReport(done, numbers(metrics)))
        if done % settings.checkpoint_every == 0 or done == num_steps:
            await recorder.record_checkpoint(learner, done)


async def heldout_loss(heldout: Sequence[TraceSample], learner: Learner) -> Metrics:
    found = await learner.evaluate_loss(heldout)
    return {
        Name.SUPERVISED_HELDOUT_LOSS: found[Name.SUPERVISED_LOSS],
        Name.SUPERVISED_HELDOUT_ABOVE_HALF_SHARE: found[Name.SUPERVISED_ABOVE_HALF_SHARE],
    }
