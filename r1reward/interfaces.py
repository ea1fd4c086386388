"""What the loop needs from the outside: a handful of small protocols.

The actors implement them over Ray, ``tests/fakes.py`` implements them in memory. The loop knows
nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from r1reward.metrics import Metrics
from r1reward.types import (
    JudgeWord,
    Rollout,
    RolloutRequest,
    ScoredRollout,
    Slot,
    StepReport,
    TraceSample,
    TrainingSample,
    WeightsHandle,
)

if TYPE_CHECKING:
    import numpy as np

    from r1reward.types import Location


@dataclass(frozen=True)
class Sampling:
    """How traces are drawn. Temperature 0 is greedy."""

    temperature: float
    max_new_tokens: int
    top_p: float = 1.0


class Generator(Protocol):
    def generate(
        self, requests: Sequence[RolloutRequest], sampling: Sampling
    ) -> AsyncIterator[Rollout]:
        """Yield one rollout a request, in the order they finish."""
        ...

    async def load_weights(self, handle: WeightsHandle) -> Metrics:
        """Pull a published bundle into every engine."""
        ...


class Judge(Protocol):
    async def judge(self, analysis: str, choice: Slot) -> JudgeWord:
        """Does the analysis conclude what was answered? ``abstain`` on any failure, never an error."""
        ...


class WeightSync(Protocol):
    """Publishes the learner's weights in two steps, so that other work can lie between them.

    Every ``begin`` is followed by its ``finish`` before the next one.
    """

    async def begin(self, version: int) -> None:
        """Start to publish the weights of this moment: what the learner does next changes nothing."""
        ...

    async def finish(self) -> WeightsHandle:
        """Wait until the bundle that was begun is complete."""
        ...


class Learner(Protocol):
    @property
    def weight_sync(self) -> WeightSync: ...

    async def logprobs(
        self, samples: Sequence[TraceSample], model: Literal["policy", "reference"]
    ) -> list[np.ndarray]:
        """Log-probs of the response tokens, one array [R] a sample."""
        ...

    async def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        """One optimizer step on the samples. Raises before the step if the loss is not finite."""
        ...

    async def fit(self, samples: Sequence[TraceSample]) -> Metrics:
        """One supervised optimizer step: the traces become likelier. Raises as ``update`` does."""
        ...

    async def evaluate_loss(self, samples: Sequence[TraceSample]) -> Metrics:
        """The loss that ``fit`` would lower, and its metrics; nothing is changed."""
        ...

    async def save(self, folder: Location) -> None:
        """Write model, optimizer and schedule state into an existing folder, or a remote one."""
        ...

    async def load(self, folder: Location) -> None: ...

    async def export(self, folder: Path) -> None:
        """Write a Hugging Face model folder."""
        ...


@dataclass(frozen=True)
class RolloutBatch:
    """The scored rollouts of one step, in the order they were asked for."""

    step: int
    rollouts: list[ScoredRollout]
    metrics: Metrics


class RolloutSource(Protocol):
    async def collect(self, step: int, weights: WeightsHandle) -> RolloutBatch:
        """Sample and score a batch with these weights, or read one that was saved."""
        ...


class Evaluator(Protocol):
    def due(self, num_steps_done: int) -> bool: ...

    async def evaluate(self, weights: WeightsHandle) -> None:
        """Evaluate exactly these weights. The engines are idle; the learner may write a checkpoint."""
        ...


class Recorder(Protocol):
    def record_rollouts(self, batch: RolloutBatch) -> None: ...

    def record_step(self, report: StepReport) -> None: ...

    async def record_checkpoint(self, learner: Learner, num_steps_done: int) -> None: ...
