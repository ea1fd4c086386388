"""Several samples a prompt through source and loop: baselines, masks, resampling, both orders."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from r1reward import loop
from r1reward.data.requests import PromptSet
from r1reward.interfaces import RolloutBatch, Sampling
from r1reward.metrics import Metrics, Name, last
from r1reward.recipe.recipe import Recipe
from r1reward.rollouts import LiveSource, Scoring, score_rollouts
from r1reward.types import Rollout, RolloutRequest, WeightsHandle
from tests.fakes import (
    Answer,
    FakeGenerator,
    FakeJudge,
    FakeLearner,
    MemoryRecorder,
    make_pair,
    make_prompt,
    make_recipe,
    right_answer,
    wrong_answer,
)
from tests.recipes import live_source, loop_settings, step_requests

WEIGHTS = WeightsHandle(version=0, buckets=(), refs=())


def make_source(recipe: Recipe, generator: FakeGenerator, num_pairs: int = 40) -> LiveSource:
    pairs = [make_pair(i, preferred=1 if i % 2 else 2) for i in range(num_pairs)]
    requests = step_requests(recipe, PromptSet(pairs, make_prompt, 0))
    return live_source(recipe, generator, FakeJudge(), requests)


def collect(recipe: Recipe, answer: Answer, step: int = 0, num_pairs: int = 40) -> RolloutBatch:
    source = make_source(recipe, FakeGenerator(answer), num_pairs)
    return asyncio.run(source.collect(step, WEIGHTS))


def train(
    recipe: Recipe, generator: FakeGenerator, num_pairs: int = 40
) -> tuple[FakeLearner, MemoryRecorder]:
    learner, recorder = FakeLearner(), MemoryRecorder()
    source = make_source(recipe, generator, num_pairs)
    asyncio.run(loop.run(loop_settings(recipe), source, learner, recorder))
    return learner, recorder


def number(request: RolloutRequest) -> int:
    return int(request.prompt.pair.question.split()[1])


def odd_differ(request: RolloutRequest) -> str:
    """The samples of odd questions differ, those of even ones are all right."""
    wrong = number(request) % 2 == 1 and request.sample_index == 0
    return (wrong_answer if wrong else right_answer)(request)


def questions(batch: RolloutBatch) -> list[int]:
    return [number(scored.rollout.request) for scored in batch.rollouts]


# Baselines and masks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "of_differing", "of_alike"),
    [
        # Of 2 and 0.5 the mean is 1.25 and the spread 0.75; the other one is 1.5 away.
        ({"baseline": "group_mean", "normalize": False}, 0.75, 0.0),
        ({"baseline": "leave_one_out", "normalize": False}, 1.5, 0.0),
        ({"baseline": "group_mean", "normalize_scope": "group"}, 1.0, 0.0),
        ({"baseline": "none", "normalize": False}, None, 2.0),
    ],
)
def test_a_trace_is_compared_with_the_samples_of_its_prompt(
    settings: dict[str, object], of_differing: float | None, of_alike: float
) -> None:
    changes = {f"algorithm__{key}": value for key, value in settings.items()}
    recipe = make_recipe(
        train__num_steps=1,
        rollout__samples_per_prompt=2,
        algorithm__filter_sigma=None,
        **changes,
    )
    learner, recorder = train(recipe, FakeGenerator(odd_differ))
    samples = [sample for update in learner.updates for sample in update]
    seen = set()
    for sample, scored in zip(samples, recorder.batches[0].rollouts, strict=True):
        differs = number(scored.rollout.request) % 2 == 1
        seen.add(differs)
        if not differs:
            expected = of_alike
        elif of_differing is None:
            expected = scored.reward.total
        else:
            expected = of_differing if scored.reward.result else -of_differing
        assert sample.advantages == pytest.approx(np.full(len(sample.advantages), expected))
    assert seen == {True, False}


class CuttingGenerator(FakeGenerator):
    """Cuts every answer to an odd question off at the limit."""

    async def generate(
        self, requests: Sequence[RolloutRequest], sampling: Sampling
    ) -> AsyncIterator[Rollout]:
        async for rollout in super().generate(requests, sampling):
            cut = number(rollout.request) % 2 == 1
            yield replace(rollout, finish_reason="length") if cut else rollout


@pytest.mark.parametrize("masked", [True, False])
def test_truncated_traces_are_masked_when_asked_and_counted(masked: bool) -> None:
    recipe = make_recipe(
        train__num_steps=1, rollout__prompts_per_step=8, algorithm__mask_truncated=masked
    )

    def answer(request: RolloutRequest) -> str:
        return (wrong_answer if number(request) % 4 == 0 else right_answer)(request)

    learner, recorder = train(recipe, CuttingGenerator(answer))
    scored = recorder.batches[0].rollouts
    counted = [s for s in scored if not masked or s.rollout.finish_reason == "stop"]
    assert 0 < len([s for s in scored if s.rollout.finish_reason == "length"]) < len(scored)
    tokens = np.concatenate([np.full(len(s.rollout.logprobs), s.reward.total) for s in counted])
    assert tokens.std() > 0
    samples = [sample for update in learner.updates for sample in update]
    for sample, item in zip(samples, scored, strict=True):
        z = (item.reward.total - tokens.mean()) / tokens.std()
        assert np.allclose(sample.advantages, z if item in counted else 0.0, atol=1e-6)
    metrics = recorder.reports[0].metrics
    assert metrics.get(Name.ADVANTAGE_NUM_MASKED) == (8 - len(counted) if masked else None)


@pytest.mark.parametrize(("masked", "size"), [(True, 0.0), (False, 0.75)])
def test_a_masked_trace_is_in_no_baseline(masked: bool, size: float) -> None:
    """Of two samples, 0.5 and 2, the second is cut off: the first has nothing to be compared with."""

    class CuttingTheSecond(FakeGenerator):
        async def generate(
            self, requests: Sequence[RolloutRequest], sampling: Sampling
        ) -> AsyncIterator[Rollout]:
            async for rollout in super().generate(requests, sampling):
                cut = rollout.request.sample_index == 1
                yield replace(rollout, finish_reason="length") if cut else rollout

    recipe = make_recipe(
        train__num_steps=1,
        rollout__samples_per_prompt=2,
        algorithm__baseline="group_mean",
        algorithm__normalize=False,
        algorithm__filter_sigma=None,
        algorithm__mask_truncated=masked,
    )

    def first_wrong(request: RolloutRequest) -> str:
        return (right_answer if request.sample_index else wrong_answer)(request)

    learner, _ = train(recipe, CuttingTheSecond(first_wrong))
    samples = [sample for update in learner.updates for sample in update]
    for first, second in zip(samples[::2], samples[1::2], strict=True):
        assert first.advantages == pytest.approx(np.full(len(first.advantages), -size))
        assert second.advantages == pytest.approx(np.full(len(second.advantages), size))


@pytest.mark.parametrize(
    ("rule", "num_pairs", "share"),
    [("sigma", 8, 0.0), ("authors", 8, 1.0), ("sigma", 24, 1.0), ("keep_both_signs", 24, 0.0)],
)
def test_the_recipe_chooses_the_filter_rule(rule: str, num_pairs: int, share: float) -> None:
    """One wrong of 8 is within 3 sigma, but not for the authors' rule; one of 24 is outside."""
    recipe = make_recipe(
        train__num_steps=1, rollout__prompts_per_step=num_pairs, algorithm__filter_rule=rule
    )

    def answer(request: RolloutRequest) -> str:
        return (right_answer if number(request) else wrong_answer)(request)

    _, recorder = train(recipe, FakeGenerator(answer), num_pairs)
    assert recorder.reports[0].metrics[Name.ADVANTAGE_FILTERED_WRONG_SHARE] == share


@pytest.mark.parametrize(
    ("sigma", "num_pairs", "share"), [(2.0, 8, 1.0), (9.0, 24, 0.0), (None, 24, 0.0)]
)
def test_the_recipe_chooses_how_far_the_filter_reaches(
    sigma: float | None, num_pairs: int, share: float
) -> None:
    """At 3, the default, the one wrong answer of 8 stays and that of 24 goes."""
    recipe = make_recipe(
        train__num_steps=1, rollout__prompts_per_step=num_pairs, algorithm__filter_sigma=sigma
    )

    def answer(request: RolloutRequest) -> str:
        return (right_answer if number(request) else wrong_answer)(request)

    _, recorder = train(recipe, FakeGenerator(answer), num_pairs)
    assert recorder.reports[0].metrics[Name.ADVANTAGE_FILTERED_WRONG_SHARE] == share


def test_the_authors_filter_is_announced_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        train(make_recipe(), FakeGenerator())
        assert caplog.records == []
        train(make_recipe(algorithm__filter_rule="authors"), FakeGenerator())
    (record,) = caplog.records
    assert "repeats a fault of the released code" in record.getMessage()


# Dynamic sampling -----------------------------------------------------------------------------


def dynamic(max_rounds: int, **changes: object) -> Recipe:
    return make_recipe(
        rollout__samples_per_prompt=2,
        rollout__dynamic_sampling={"max_rounds": max_rounds},
        **changes,
    )


def test_prompts_that_came_out_alike_are_replaced_in_their_place() -> None:
    plain_batch = collect(make_recipe(rollout__samples_per_prompt=2), odd_differ)
    batch = collect(dynamic(20), odd_differ)
    before, after = questions(plain_batch), questions(batch)
    assert {n % 2 for n in before} == {0, 1}
    assert all(n % 2 == 1 for n in after)
    assert len(after) == len(before) == 8
    assert all(new == old for old, new in zip(before, after, strict=True) if old % 2 == 1)
    assert batch.metrics[Name.ROLLOUT_UNIFORM_GROUP_SHARE].value == 0
    shares = [n % 2 == 0 for n in before[::2]]
    assert plain_batch.metrics[Name.ROLLOUT_UNIFORM_GROUP_SHARE].value == sum(shares) / 4
    assert batch.metrics[Name.ROLLOUT_NUM_RESAMPLED].value >= sum(shares)
    assert Name.ROLLOUT_NUM_RESAMPLED not in plain_batch.metrics


def test_each_round_asks_for_as_many_new_prompts_as_places_are_left() -> None:
    generator = FakeGenerator(odd_differ)
    batch = asyncio.run(make_source(dynamic(20), generator).collect(3, WEIGHTS))
    left = 4
    for call in generator.calls:
        assert len(call) == 2 * left
        left -= len({number(request) for request in call if number(request) % 2 == 1})
    assert left <= 0 < len(generator.calls) - 1
    prompts = [(r.prompt.prompt_id, r.sample_index) for r in generator.asked]
    assert len(set(prompts)) == len(prompts), "no prompt is tried twice in a step"
    assert batch.metrics[Name.ROLLOUT_NUM_RESAMPLED].value == len(prompts) / 2 - 4


def test_when_the_rounds_are_over_the_batch_is_filled_with_what_there_is() -> None:
    batch = collect(dynamic(3), right_answer)
    assert questions(batch) == questions(
        collect(make_recipe(rollout__samples_per_prompt=2), right_answer)
    )
    assert batch.metrics[Name.ROLLOUT_NUM_RESAMPLED].value == 12
    assert batch.metrics[Name.ROLLOUT_UNIFORM_GROUP_SHARE].value == 1


def test_a_source_that_runs_out_of_new_prompts_goes_on_with_what_it_has() -> None:
    batch = collect(dynamic(50), right_answer, num_pairs=4)
    assert len(batch.rollouts) == 8
    assert batch.metrics[Name.ROLLOUT_NUM_RESAMPLED].value <= 4  # the other order of the four


def test_a_resumed_run_resamples_the_same() -> None:
    one, other = (collect(dynamic(5), odd_differ, step=2) for _ in range(2))
    requests = [[s.rollout.request for s in batch.rollouts] for batch in (one, other)]
    assert requests[0] == requests[1]
    other_seed = dynamic(5).model_copy(update={"seed": 1})
    assert questions(collect(other_seed, odd_differ, step=2)) != questions(one)


# Both orders ----------------------------------------------------------------------------------


def swapped_wrong_at_first(request: RolloutRequest) -> str:
    """Wrong in the swapped order by the first sample only."""
    wrong = request.prompt.order == "swapped" and request.sample_index == 0
    return (wrong_answer if wrong else right_answer)(request)


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_right_in_both_orders_earns_the_position_weight(weight: float) -> None:
    recipe = make_recipe(
        rollout__samples_per_prompt=2, rollout__both_orders=True, reward__position_weight=weight
    )
    batch = collect(recipe, swapped_wrong_at_first)
    earned = [
        (s.rollout.request.prompt.order, s.reward.total, s.reward.position) for s in batch.rollouts
    ]
    assert (
        earned
        == [
            ("stored", 2.0, 0.0),
            ("stored", 2.0 + weight, 1.0),
            ("swapped", 0.5, 0.0),
            ("swapped", 2.0 + weight, 1.0),
        ]
        * 2
    )
    assert batch.metrics[Name.REWARD_POSITION].value == 0.5


def test_in_one_order_there_is_no_position() -> None:
    batch = collect(make_recipe(), right_answer)
    assert {scored.reward.position for scored in batch.rollouts} == {None}
    assert batch.metrics[Name.REWARD_POSITION].weight == 0  # not logged


def test_with_both_orders_a_pair_is_resampled_only_if_both_came_out_alike() -> None:
    def answer(request: RolloutRequest) -> str:
        """Samples differ for odd questions in the swapped order; else each order is of one kind."""
        if request.prompt.order == "stored":
            return right_answer(request)
        differs = number(request) % 2 == 1 and request.sample_index == 0
        return (right_answer if differs else wrong_answer)(request)

    batch = collect(dynamic(20, rollout__both_orders=True), answer)
    asked = questions(batch)
    assert all(n % 2 == 1 for n in asked)
    assert [asked[i : i + 4] for i in (0, 4)] == [[asked[0]] * 4, [asked[4]] * 4]
    orders = [s.rollout.request.prompt.order for s in batch.rollouts]
    assert orders == ["stored", "stored", "swapped", "swapped"] * 2
    assert batch.metrics[Name.ROLLOUT_UNIFORM_GROUP_SHARE].value == 0.5  # the stored orders


# What loading told ----------------------------------------------------------------------------


class CountingGenerator(FakeGenerator):
    """Says how many engines took the weights, and how long that was."""

    async def load_weights(self, handle: WeightsHandle) -> Metrics:
        await super().load_weights(handle)
        return {Name.ROLLOUT_NUM_ENGINES: last(2.0), Name.TIME_WEIGHT_SWAP_S: last(1.5)}


def test_a_step_tells_of_its_engines_whether_or_not_an_evaluation_loaded_them_before() -> None:
    recipe = make_recipe()
    metrics = []
    for evaluated in (False, True):
        source = make_source(recipe, CountingGenerator(right_answer))

        async def collect(source: LiveSource, evaluated: bool) -> RolloutBatch:
            if evaluated:
                await source.load(WEIGHTS)
            return await source.collect(0, WEIGHTS)

        metrics.append(asyncio.run(collect(source, evaluated)).metrics)
    assert [m[Name.ROLLOUT_NUM_ENGINES].value for m in metrics] == [2.0, 2.0]
    assert [Name.TIME_WEIGHT_SWAP_S in m for m in metrics] == [True, False]
    untimed = [{n: v for n, v in m.items() if not n.startswith("time/")} for m in metrics]
    assert untimed[0] == untimed[1]


@pytest.mark.parametrize("opened", [True, False])
def test_a_think_tag_that_the_template_opened_belongs_to_the_trace(opened: bool) -> None:
    recipe = make_recipe()
    prompt = make_prompt(make_pair(1), "stored")
    if opened:
        prompt = replace(prompt, text=f"{prompt.text}<think>\n")
    generator = FakeGenerator(lambda request: right_answer(request).removeprefix("<think>"))
    (scored,) = asyncio.run(
        score_rollouts(
            Scoring(recipe.prompt, recipe.reward),
            generator,
            FakeJudge(),
            [RolloutRequest(prompt, 0, 1)],
            Sampling(1.0, 8),
        )
    )
    assert scored.verdict.well_formed is opened
