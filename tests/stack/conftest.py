"""Real Ray, vLLM and DeepSpeed on the miniature, started once for all stack tests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from r1reward.actors.launch import training_system
from r1reward.actors.rollout import RolloutGroup
from r1reward.data.order import derive_seed
from r1reward.data.requests import ORDERS, build_prompt_set
from r1reward.engines.learner_group import LearnerGroup
from r1reward.interfaces import Learner, Sampling
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.components import judge_settings, rollout_settings, training_learner
from r1reward.recipe.files import load_recipe
from r1reward.recipe.recipe import Recipe
from r1reward.shapes.pairs import make_pairs
from r1reward.types import (
    Order,
    PreferencePair,
    Prompt,
    Rollout,
    RolloutRequest,
    TrainingSample,
    WeightsHandle,
)

T = TypeVar("T")
Run = Callable[[Awaitable[T]], T]

LOCAL = Path(__file__).parents[2] / "recipes" / "local.yaml"

# float32 on a CPU: engine and learner differ by rounding only. Measured 1e-6 on fresh weights and
# 6e-6 on trained ones, per token.
LOGPROB_BOUND = 2e-5


# Two workers share the cores: threads that wait must not spin, and Ray must not put its actors last.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("RAY_worker_niceness", "0")


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives a test of the stack 15 minutes, and keeps what shares engines in one worker.

    Tests of the shared system are one group, other tests one a file. The shared system, which is the
    longest group, comes first.
    """
    for item in items:
        if item.path.parent == Path(__file__).parent:
            shares = "stack" in getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.timeout(900))
            item.add_marker(pytest.mark.xdist_group("shared" if shares else item.path.stem))
    items.sort(key=lambda item: "stack" not in getattr(item, "fixturenames", ()))


def stack_recipe(*overrides: str) -> Recipe:
    """The local recipe with the rule judge: one engine less to start where no judge is tested."""
    return load_recipe(LOCAL, ("judge={type: rule}", *overrides))


@dataclass(frozen=True)
class Stack:
    """A running system, and a way to await it from plain test functions."""

    recipe: Recipe
    processor: PolicyProcessor
    generator: RolloutGroup
    learner: LearnerGroup
    run: Callable[[Awaitable[object]], object]

    def requests(self, num_pairs: int, seed: int = 0) -> list[RolloutRequest]:
        """Both orders of some held-out pairs, one sample each."""

        def encode(pair: PreferencePair, order: Order) -> Prompt:
            return self.processor.encode(pair, order, self.recipe.prompt)

        pairs = make_pairs("heldout", num_pairs, seed)
        prompts = build_prompt_set(pairs, encode, self.recipe.model.max_prompt_tokens, "test")
        return [
            RolloutRequest(prompt, 0, derive_seed(self.recipe.seed, "evaluate", prompt.prompt_id))
            for pair in prompts.pairs
            for prompt in (prompts.encode(pair, order) for order in ORDERS)
        ]

    def rollouts(self, requests: list[RolloutRequest], temperature: float = 1.0) -> list[Rollout]:
        """In the order of the requests."""

        async def collect() -> list[Rollout]:
            sampling = Sampling(temperature, self.recipe.model.max_new_tokens)
            return [rollout async for rollout in self.generator.generate(requests, sampling)]

        found = {r.request.prompt.prompt_id: r for r in wait(self.run, collect())}
        return [found[request.prompt.prompt_id] for request in requests]

    def logprobs(self, samples: list[TrainingSample], model: str = "policy") -> list[np.ndarray]:
        assert model in ("policy", "reference")
        return wait(self.run, self.learner.logprobs(samples, model))  # type: ignore[arg-type]

    def publish(self, version: int) -> None:
        async def move() -> None:
            await self.generator.load_weights(await published_by(self.learner, version))

        wait(self.run, move())


async def published_by(learner: Learner, version: int) -> WeightsHandle:
    await learner.weight_sync.begin(version)
    return await learner.weight_sync.finish()


def wait(run: Callable[[Awaitable[object]], object], awaitable: Awaitable[T]) -> T:
    return run(awaitable)  # type: ignore[return-value]


def sample_of(rollout: Rollout, advantage: float = 1.0) -> TrainingSample:
    return TrainingSample(
        prompt_token_ids=rollout.prompt_token_ids,
        response_token_ids=rollout.response_token_ids,
        images=rollout.request.prompt.pair.images,
        rollout_logprobs=rollout.logprobs,
        old_logprobs=None,
        advantages=np.full(len(rollout.response_token_ids), advantage),
        reference_logprobs=None,
    )


def gap(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """Largest difference of any token."""
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """One rollout actor, one judge, two ZeRO-2 learner ranks with a reference model."""
    recipe = stack_recipe(
        "learner.num_ranks=2",
        "learner.lr=1e-3",
        "learner.warmup_share=0",
        "algorithm.log_reference_kl=true",
        "learner.bucket_mb=1",
        "placement.threads=1",
    )
    processor = PolicyProcessor(recipe.model)
    with asyncio.Runner() as runner:
        system = training_system(
            recipe.placement,
            rollout_settings(recipe.model, recipe.rollout, recipe.placement),
            judge_settings(recipe.judge, recipe.model, recipe.placement),
            training_learner(recipe),
        )
        parts = runner.run(system.__aenter__())
        try:
            assert isinstance(parts.generator, RolloutGroup)
            assert isinstance(parts.learner, LearnerGroup)
            yield Stack(recipe, processor, parts.generator, parts.learner, runner.run)  # type: ignore[arg-type]
        finally:
            runner.run(system.__aexit__(None, None, None))
