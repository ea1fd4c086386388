"""Hand-written parts that speak the loop's protocols: a policy, a judge and a learner in memory."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from r1reward.data.order import derive_seed, step_pairs
from r1reward.interfaces import Learner, RolloutBatch, Sampling
from r1reward.metrics import Metrics, Name, mean
from r1reward.recipe.recipe import Recipe
from r1reward.runs.storage import fetched, forget, written_to
from r1reward.types import (
    JudgeWord,
    Location,
    Order,
    PreferencePair,
    Prompt,
    Rollout,
    RolloutRequest,
    ScoredRollout,
    Slot,
    StepReport,
    TraceSample,
    TrainingSample,
    WeightsHandle,
)

Answer = Callable[[RolloutRequest], str]


def make_recipe(**changes: object) -> Recipe:
    """A small recipe; ``section__key=value`` changes a setting."""
    settings: dict[str, dict[str, object] | object] = {
        "name": "test",
        "run_dir": "runs/test",
        "model": {"path": "shapes", "max_prompt_tokens": 64, "max_new_tokens": 32},
        "data": {"train": {"type": "shapes", "split": "train", "num_pairs": 8}},
        "judge": {"type": "rule"},
        "rollout": {"prompts_per_step": 4},
        "learner": {"train_batch_size": 2},
        "placement": {},
        "reward": {},
        "algorithm": {},
        "train": {"num_steps": 3},
        "evaluate": {},
        "alerts": {},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        target = settings[section]
        assert isinstance(target, dict)
        target[name] = value
    return Recipe.model_validate(settings)


def make_pair(number: int, preferred: Slot = 1) -> PreferencePair:
    return PreferencePair(
        question=f"question {number}",
        images=(f"image {number}".encode(),),
        response_1="first",
        response_2="second",
        preferred=preferred,
    )


def make_prompt(pair: PreferencePair, order: Order = "stored") -> Prompt:
    shown = pair if order == "stored" else pair.swapped()
    text = f"{shown.question} {shown.response_1} {shown.response_2}"
    return Prompt(f"{pair.pair_id}-{order}", shown, order, text, (1, 2, 3), 3)


def requests_for_step(recipe: Recipe, step: int, num_pairs: int = 8) -> list[RolloutRequest]:
    pairs = [make_pair(i, preferred=1 if i % 2 else 2) for i in range(num_pairs)]
    chosen = step_pairs(num_pairs, recipe.rollout.prompts_per_step, recipe.seed, step)
    prompts = [make_prompt(pairs[index], order) for index, order in chosen]
    return [RolloutRequest(p, 0, derive_seed(recipe.seed, step, p.prompt_id)) for p in prompts]


def right_answer(request: RolloutRequest) -> str:
    label = request.prompt.label
    return f"<think>Response {label} is better.</think><answer>{label}</answer>"


def wrong_answer(request: RolloutRequest) -> str:
    label = 3 - request.prompt.label
    return f"<think>Response {label} is better.</think><answer>{label}</answer>"


def mixed_answer(request: RolloutRequest) -> str:
    """Wrong for one question in three."""
    number = int(request.prompt.pair.question.split()[1])
    return (right_answer if number % 3 else wrong_answer)(request)


def make_rollout(request: RolloutRequest, text: str, version: int = 0) -> Rollout:
    token_ids = tuple(10 + ord(letter) % 7 for letter in text[: 3 + request.seed % 5])
    return Rollout(
        request=request,
        prompt_token_ids=request.prompt.token_ids,
        response_token_ids=token_ids,
        text=text,
        logprobs=np.full(len(token_ids), -0.5, dtype=np.float32),
        policy_versions=np.full(len(token_ids), version),
        finish_reason="stop",
    )


@dataclass
class FakeGenerator:
    """Answers by a function, in an order of its own choosing, and remembers versions and requests.

    ``fails_after`` answers in all it is out of order for good.
    """

    answer: Answer = mixed_answer
    version: int = -1
    versions_used: list[int] = field(default_factory=list)
    backwards: bool = False
    calls: list[list[RolloutRequest]] = field(default_factory=list)
    samplings: list[Sampling] = field(default_factory=list)
    fails_after: int | None = None
    num_answered: int = 0

    @property
    def asked(self) -> list[RolloutRequest]:
        return [request for call in self.calls for request in call]

    async def generate(
        self, requests: Sequence[RolloutRequest], sampling: Sampling
    ) -> AsyncIterator[Rollout]:
        self.versions_used.append(self.version)
        self.calls.append(list(requests))
        self.samplings.append(sampling)
        for request in reversed(requests) if self.backwards else requests:
            await asyncio.sleep(0)
            if self.num_answered == self.fails_after:
                raise OSError("the engine died")
            self.num_answered += 1
            yield make_rollout(request, self.answer(request), self.version)

    async def load_weights(self, handle: WeightsHandle) -> Metrics:
        self.version = handle.version
        return {}


@dataclass
class FakeJudge:
    """Gives one word for everything and remembers what it was asked."""

    word: JudgeWord = "match"
    asked: list[tuple[str, Slot]] = field(default_factory=list)

    async def judge(self, analysis: str, choice: Slot) -> JudgeWord:
        self.asked.append((analysis, choice))
        await asyncio.sleep(0)
        return self.word


@dataclass
class FakeSync:
    """Publishes bundles without weights; remembers their versions and what a look at each one gave."""

    look: Callable[[], object] = lambda: None
    begun: list[int] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    seen: list[object] = field(default_factory=list)

    async def begin(self, version: int) -> None:
        assert self.begun == self.finished, "the publication before is not finished"
        self.begun.append(version)
        self.seen.append(self.look())

    async def finish(self) -> WeightsHandle:
        version = self.begun[len(self.finished)]
        self.finished.append(version)
        return WeightsHandle(version, (), ())


@dataclass
class FakeLearner:
    """A policy that is one number: every log-prob is ``level``.

    An update lowers it by 0.1; supervised fitting halves it, so that the loss falls towards 0.
    """

    level: float = -0.5
    reference_level: float = -0.7
    updates: list[list[TrainingSample]] = field(default_factory=list)
    fitted: list[list[TraceSample]] = field(default_factory=list)
    passes: list[tuple[str, int]] = field(default_factory=list)
    weight_sync: FakeSync = field(default_factory=FakeSync)
    fails_at_update: int | None = None
    fails_at_export: bool = False
    turns_per_update: int = 1

    async def logprobs(
        self, samples: Sequence[TraceSample], model: Literal["policy", "reference"]
    ) -> list[np.ndarray]:
        self.passes.append((model, len(samples)))
        level = self.level if model == "policy" else self.reference_level
        return [np.full(len(s.response_token_ids), level, dtype=np.float32) for s in samples]

    async def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        for _ in range(self.turns_per_update):
            await asyncio.sleep(0)
        if self.fails_at_update == len(self.updates):
            raise ArithmeticError("the loss is not finite")
        self.updates.append(list(samples))
        self.level -= 0.1
        return {Name.LEARNER_LOSS: mean(self.level, 1.0)}

    async def fit(self, samples: Sequence[TraceSample]) -> Metrics:
        metrics = await self.evaluate_loss(samples)
        self.fitted.append(list(samples))
        self.level /= 2
        return metrics

    async def evaluate_loss(self, samples: Sequence[TraceSample]) -> Metrics:
        num_tokens = sum(len(sample.response_token_ids) for sample in samples)
        return {
            Name.SUPERVISED_LOSS: mean(-self.level, num_tokens),
            Name.SUPERVISED_ABOVE_HALF_SHARE: mean(float(self.level > -0.69), num_tokens),
        }

    @property
    def published(self) -> list[int]:
        """Versions, in their order."""
        return self.weight_sync.finished

    async def save(self, folder: Location) -> None:
        with written_to(folder, Path(tempfile.gettempdir())) as path:
            (path / "level").write_text(repr(self.level))

    async def load(self, folder: Location) -> None:
        scratch = Path(tempfile.gettempdir())
        self.level = float((fetched(folder, scratch) / "level").read_text())
        forget(folder, scratch)

    async def export(self, folder: Path) -> None:
        folder.mkdir()
        if self.fails_at_export:
            raise OSError("the disk is full")
        await self.save(str(folder))


@dataclass
class FakeEngine:
    """DeepSpeed's engine as a rank calls it, over a plain model and optimizer.

    Like DeepSpeed it averages over ranks. ``gradients`` are those that the optimizer stepped with.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    num_ranks: int = 1
    gradients: dict[str, torch.Tensor] = field(default_factory=dict)

    def __call__(self, inputs: object) -> object:
        return self.module(inputs)

    def backward(self, loss: torch.Tensor) -> None:
        (loss / self.num_ranks).backward()

    def step(self) -> None:
        self.optimizer.step()
        self.gradients = {
            name: parameter.grad.clone()
            for name, parameter in self.module.named_parameters()
            if parameter.grad is not None
        }
        self.optimizer.zero_grad()


@dataclass
class FakeEvaluator:
    """Evaluates after the steps it is told, and looks at the run when it begins and when it ends."""

    due_after: frozenset[int]
    look: Callable[[], object]
    fails_at: int | None = None
    versions: list[int] = field(default_factory=list)
    seen: list[tuple[object, object]] = field(default_factory=list)

    def due(self, num_steps_done: int) -> bool:
        return num_steps_done in self.due_after

    async def evaluate(self, weights: WeightsHandle) -> None:
        self.versions.append(weights.version)
        if weights.version == self.fails_at:
            raise OSError("the disk is full")
        before = self.look()
        for _ in range(300):
            await asyncio.sleep(0)
        self.seen.append((before, self.look()))


@dataclass
class MemoryTracker:
    """Keeps the numbers of evaluations."""

    evaluations: list[StepReport] = field(default_factory=list)

    def samples(self, step: int, rollouts: Sequence[ScoredRollout]) -> None: ...

    def step(self, report: StepReport) -> None: ...

    def evaluation(self, report: StepReport) -> None:
        self.evaluations.append(report)

    def close(self) -> None: ...


@dataclass
class MemoryRecorder:
    """Keeps what the loop reports."""

    batches: list[RolloutBatch] = field(default_factory=list)
    reports: list[StepReport] = field(default_factory=list)
    checkpoints: list[int] = field(default_factory=list)

    def record_rollouts(self, batch: RolloutBatch) -> None:
        self.batches.append(batch)

    def record_step(self, report: StepReport) -> None:
        self.reports.append(report)

    async def record_checkpoint(self, learner: Learner, num_steps_done: int) -> None:
        self.checkpoints.append(num_steps_done)
