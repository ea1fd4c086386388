"""Invariants 4 and 5 of the design, on real rollouts: whose label counts, and what failure earns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import ray

from r1reward.actors.judge import JudgeActor, JudgePool
from r1reward.engines.judge import RuleJudgeEngine
from r1reward.interfaces import Sampling
from r1reward.recipe.components import judge_settings
from r1reward.rollouts import JudgeUnavailableError, check_judge, score_rollouts
from r1reward.types import RolloutRequest, ScoredRollout
from tests.recipes import scoring
from tests.stack.conftest import Stack, stack_recipe, wait

DEAD_ENDPOINT = "judge={type: openai, url: 'http://127.0.0.1:9/v1', model: none, timeout_s: 1}"


def scored(
    stack: Stack, requests: list[RolloutRequest], max_new_tokens: int
) -> list[ScoredRollout]:
    sampling = Sampling(1.0, max_new_tokens)
    rollouts = score_rollouts(
        scoring(stack.recipe), stack.generator, RuleJudgeEngine(), requests, sampling
    )
    return wait(stack.run, rollouts)


def test_the_answer_key_travels_with_the_sample(stack: Stack) -> None:
    """The same text twice with opposite labels: the same trace is right once and wrong once."""
    stack.publish(200)
    requests = stack.requests(8)
    opposite = []
    for request in requests:
        pair = request.prompt.pair
        other = replace(pair, preferred=2 if pair.preferred == 1 else 1)
        prompt = replace(request.prompt, pair=other, prompt_id=f"{other.pair_id}-opposite")
        opposite.append(replace(request, prompt=prompt))
    results = scored(stack, [*requests, *opposite], stack.recipe.model.max_new_tokens)
    assert [r.prompt.text for r in requests] == [r.prompt.text for r in opposite]
    for mine, theirs in zip(results[: len(requests)], results[len(requests) :], strict=True):
        assert mine.rollout.response_token_ids == theirs.rollout.response_token_ids
        assert mine.reward.result + theirs.reward.result == 1.0


def test_a_trace_cut_off_before_its_answer_earns_nothing(stack: Stack) -> None:
    results = scored(stack, stack.requests(8), max_new_tokens=6)
    assert {result.rollout.finish_reason for result in results} == {"length"}
    assert {result.verdict.choice for result in results} == {None}
    assert {result.reward.total for result in results} == {0.0}


def test_a_dead_judge_abstains_is_counted_and_stops_the_run(stack: Stack) -> None:
    recipe = stack_recipe(DEAD_ENDPOINT)
    judge_actor: Any = JudgeActor
    actor = judge_actor.options(num_cpus=0).remote(
        judge_settings(recipe.judge, recipe.model, recipe.placement)
    )
    try:
        sampling = Sampling(1.0, recipe.model.max_new_tokens)
        requests = stack.requests(4)
        judged = score_rollouts(
            scoring(recipe), stack.generator, JudgePool([actor]), requests, sampling
        )
        results = wait(stack.run, judged)
    finally:
        ray.kill(actor)
    right = [result for result in results if result.reward.result == 1.0]
    assert right
    assert {result.reward.judge_word for result in right} == {"abstain"}
    # Result and format only: what an undecided judge would have left.
    assert {result.reward.total for result in right} == {1.5}
    with pytest.raises(JudgeUnavailableError, match="the judge failed on"):
        check_judge(results, recipe.reward.max_abstain_share)
