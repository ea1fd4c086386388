"""An engine of two workers: the same weights, the same log-probs, and one death is that of all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest
import ray

from r1reward.actors.placement import reserve
from r1reward.actors.rollout import RolloutActor, RolloutGroup
from r1reward.interfaces import Sampling
from r1reward.recipe.components import rollout_settings
from r1reward.sizing.bundles import plan_bundles
from r1reward.types import Rollout
from tests.stack.conftest import LOGPROB_BOUND, Stack, gap, sample_of, stack_recipe, wait

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def wide(stack: Stack) -> Iterator[Stack]:
    """The stack, its learner included, with a tensor-parallel engine in place of its own."""
    recipe = stack_recipe("rollout.engine.tensor_parallel_size=2", "placement.threads=1")
    settings = rollout_settings(recipe.model, recipe.rollout, recipe.placement)
    # In a placement group, as every engine: vLLM would by itself ask Ray for places for its workers.
    bundles = plan_bundles(recipe.placement, settings, None, None)
    with reserve(recipe.placement, bundles) as seats:
        actor = seats.start("rollout", 0, RolloutActor, settings.engine, max_restarts=1)
        try:
            yield replace(stack, generator=RolloutGroup([actor], max_retries=1))
        finally:
            ray.kill(actor)


def workers() -> list[psutil.Process]:
    below = psutil.Process().children(recursive=True)
    return sorted(
        (process for process in below if process.name().startswith("VLLM::Worker_TP")),
        key=lambda process: process.name(),
    )


def engine_gap(stack: Stack) -> float:
    rollouts = stack.rollouts(stack.requests(8))
    samples = [sample_of(rollout) for rollout in rollouts]
    return gap([rollout.logprobs for rollout in rollouts], stack.logprobs(samples))


def test_every_worker_takes_its_part_of_a_bundle(wide: Stack) -> None:
    rollouts = wide.rollouts(wide.requests(8))
    samples = [sample_of(r, 1.0 if i % 2 else -1.0) for i, r in enumerate(rollouts)]
    wait(wide.run, wide.learner.update(samples))
    assert engine_gap(wide) > 100 * LOGPROB_BOUND  # without the pull the difference would be seen
    wide.publish(100)
    assert engine_gap(wide) < LOGPROB_BOUND
    assert len(workers()) == 2


def test_an_engine_whose_worker_was_killed_comes_back_and_finishes_the_batch(wide: Stack) -> None:
    requests = wide.requests(24)
    wide.publish(101)
    before = wide.rollouts(requests)

    async def kill_in_the_middle() -> list[Rollout]:
        found: list[Rollout] = []
        sampling = Sampling(1.0, wide.recipe.model.max_new_tokens)
        async for rollout in wide.generator.generate(requests, sampling):
            if not found:
                workers()[-1].kill()
            found.append(rollout)
        return found

    found = {r.request.prompt.prompt_id: r for r in wait(wide.run, kill_in_the_middle())}
    after = [found[request.prompt.prompt_id] for request in requests]
    assert [r.response_token_ids for r in after] == [r.response_token_ids for r in before]
    assert {int(v) for r in after for v in r.policy_versions} == {101}
    assert len(workers()) == 2
