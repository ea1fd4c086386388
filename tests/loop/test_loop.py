"""The loop with fakes: order, lag, log-probs, advantages, failures. No engine, no Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from r1reward import loop
from r1reward.interfaces import Sampling
from r1reward.metrics import Name
from r1reward.recipe.recipe import Recipe
from r1reward.rollouts import JudgeUnavailableError
from r1reward.types import JudgeWord, Rollout, RolloutRequest, Slot, WeightsHandle
from tests.fakes import (
    FakeGenerator,
    FakeJudge,
    FakeLearner,
    FakeSync,
    MemoryRecorder,
    make_recipe,
    make_rollout,
    mixed_answer,
    requests_for_step,
    right_answer,
    wrong_answer,
)
from tests.recipes import live_source, loop_settings


def run_loop(
    recipe: Recipe,
    generator: FakeGenerator | None = None,
    judge: FakeJudge | None = None,
    learner: FakeLearner | None = None,
    start_step: int = 0,
) -> tuple[FakeGenerator, FakeJudge, FakeLearner, MemoryRecorder]:
    generator, judge = generator or FakeGenerator(), judge or FakeJudge()
    learner, recorder = learner or FakeLearner(), MemoryRecorder()
    source = live_source(recipe, generator, judge, partial(requests_for_step, recipe))
    asyncio.run(loop.run(loop_settings(recipe), source, learner, recorder, start_step))
    return generator, judge, learner, recorder


def test_lag_0_samples_every_batch_with_the_newest_weights() -> None:
    generator, _, learner, recorder = run_loop(make_recipe(train__num_steps=4))
    assert generator.versions_used == [0, 1, 2, 3]
    assert learner.published == [0, 1, 2, 3, 4]
    assert [report.step for report in recorder.reports] == [1, 2, 3, 4]
    assert all(report.metrics["rollout/policy_lag"] == 0 for report in recorder.reports)


def test_every_version_is_published_after_its_updates() -> None:
    """Two updates a step, each of which lowers the policy by 0.1."""
    learner = FakeLearner()
    learner.weight_sync.look = lambda: round(learner.level, 6)
    run_loop(make_recipe(train__num_steps=3), learner=learner)
    assert learner.published == [0, 1, 2, 3]
    assert learner.weight_sync.seen == [-0.5, -0.7, -0.9, -1.1]


# Regression: the producer waited for a version that never came, and the run hung without a word.
@pytest.mark.parametrize("lag", [0, 1])
def test_weights_of_another_version_than_asked_for_end_the_run(lag: int) -> None:
    class StuckSync(FakeSync):
        async def finish(self) -> WeightsHandle:
            await super().finish()
            return WeightsHandle(0, (), ())

    recipe = make_recipe(train__num_steps=4, train__max_policy_lag=lag)
    with pytest.raises(ExceptionGroup) as caught:
        run_loop(recipe, learner=FakeLearner(weight_sync=StuckSync()))
    assert caught.group_contains(ValueError, match="version 1 .* to be published and 0 came")


@pytest.mark.parametrize("version", [3, 4, 6])
def test_versions_follow_one_another(version: int) -> None:
    async def publish_twice() -> None:
        newest = loop.NewestWeights()
        await newest.put(WeightsHandle(4, (), ()))
        await newest.put(WeightsHandle(version, (), ()))

    with pytest.raises(ValueError, match=f"version {version} were published after version 4"):
        asyncio.run(publish_twice())


@pytest.mark.parametrize("lag", [1, 2, 3])
def test_lag_is_used_and_never_exceeded(lag: int) -> None:
    recipe = make_recipe(train__num_steps=8, train__max_policy_lag=lag)
    # A learner much slower than the generator: the producer runs as far ahead as it may.
    generator, _, _, recorder = run_loop(recipe, learner=FakeLearner(turns_per_update=200))
    lags = [step - version for step, version in enumerate(generator.versions_used)]
    assert max(lags) == lag
    assert min(lags) >= 0
    assert max(report.metrics["rollout/policy_lag"] for report in recorder.reports) == lag


def test_rollouts_are_in_request_order_however_they_arrive() -> None:
    recipe = make_recipe()
    _, _, _, forwards = run_loop(recipe)
    _, _, _, backwards = run_loop(recipe, FakeGenerator(backwards=True))
    for a, b in zip(forwards.batches, backwards.batches, strict=True):
        wanted = requests_for_step(recipe, a.step)
        assert [s.rollout.request for s in a.rollouts] == wanted
        assert [s.rollout.request for s in b.rollouts] == wanted


def test_judging_starts_while_other_rollouts_are_generating() -> None:
    """The generator holds its second rollout back until the first has been judged."""
    judged = asyncio.Event()

    class WaitingGenerator(FakeGenerator):
        async def generate(
            self, requests: Sequence[RolloutRequest], sampling: Sampling
        ) -> AsyncIterator[Rollout]:
            for number, request in enumerate(requests):
                if number:
                    await asyncio.wait_for(judged.wait(), timeout=5)
                yield make_rollout(request, right_answer(request))

    class SignallingJudge(FakeJudge):
        async def judge(self, analysis: str, choice: Slot) -> JudgeWord:
            judged.set()
            return "match"

    _, _, _, recorder = run_loop(
        make_recipe(train__num_steps=1), WaitingGenerator(), SignallingJudge()
    )
    assert len(recorder.batches[0].rollouts) == 4


@pytest.mark.parametrize(("share", "num_asked"), [(0.0, 0), (1.0, 12)])
def test_wrong_answers_are_judged_in_the_recipes_share_and_earn_the_same(
    share: float, num_asked: int
) -> None:
    recipe = make_recipe(reward__judged_wrong_share=share)
    _, judge, _, recorder = run_loop(recipe, FakeGenerator(wrong_answer))
    assert len(judge.asked) == num_asked
    rewards = {s.reward.total for batch in recorder.batches for s in batch.rollouts}
    assert rewards == {0.5}


@pytest.mark.parametrize(
    ("changes", "total"),
    [
        ({}, 1.0),  # 1 - 0.5 + 0.5
        ({"reward__consistency_weight": 0.25}, 1.25),
        ({"reward__format_weight": 2.0}, 2.5),
        ({"reward__consistency_range": "binary"}, 1.5),
    ],
)
def test_a_right_answer_that_does_not_match_its_analysis_earns_what_the_recipe_says(
    changes: dict[str, object], total: float
) -> None:
    recipe = make_recipe(train__num_steps=1, **changes)
    _, _, _, recorder = run_loop(recipe, FakeGenerator(right_answer), FakeJudge("mismatch"))
    assert [s.reward.total for s in recorder.batches[0].rollouts] == [total] * 4
    assert recorder.reports[0].metrics["reward/total"] == total


def test_failed_judge_is_counted_and_stops_the_run_above_the_share() -> None:
    abstaining = FakeJudge("abstain")
    with pytest.raises(ExceptionGroup) as caught:
        run_loop(
            make_recipe(reward__max_abstain_share=0.5), FakeGenerator(right_answer), abstaining
        )
    assert caught.group_contains(JudgeUnavailableError, match="failed on 4 of 4")
    recipe = make_recipe(reward__max_abstain_share=1.0)
    _, _, _, recorder = run_loop(recipe, FakeGenerator(right_answer), FakeJudge("abstain"))
    assert recorder.reports[0].metrics["judge/num_abstained"] == 4
    assert {s.reward.total for s in recorder.batches[0].rollouts} == {1.5}


def test_the_share_of_abstentions_is_of_the_traces_that_were_asked_about() -> None:
    """Four of eight traces are wrong and skipped: of the four that are judged all fail."""

    def half_right(request: RolloutRequest) -> str:
        number = int(request.prompt.pair.question.split()[1])
        return (right_answer if number % 2 else wrong_answer)(request)

    recipe = make_recipe(
        rollout__prompts_per_step=8,
        reward__judged_wrong_share=0.0,
        reward__max_abstain_share=0.5,
    )
    with pytest.raises(ExceptionGroup) as caught:
        run_loop(recipe, FakeGenerator(half_right), FakeJudge("abstain"))
    assert caught.group_contains(JudgeUnavailableError, match="failed on 4 of 4")


def test_first_train_batch_takes_old_logprobs_from_its_own_pass() -> None:
    _, _, learner, _ = run_loop(make_recipe(train__num_steps=1))
    first, second = learner.updates
    assert all(sample.old_logprobs is None for sample in first)
    assert learner.passes == [("policy", 2)]
    for sample in second:
        assert sample.old_logprobs is not None
        # The pass ran before the first update moved the level from -0.5 to -0.6.
        assert np.allclose(sample.old_logprobs, -0.5)


def test_one_train_batch_a_step_needs_no_extra_pass() -> None:
    _, _, learner, _ = run_loop(make_recipe(learner__train_batch_size=4, train__num_steps=1))
    assert learner.passes == []


def test_old_logprobs_from_the_rollout_are_the_engines() -> None:
    recipe = make_recipe(algorithm__old_logprobs="rollout", train__num_steps=1)
    _, _, learner, recorder = run_loop(recipe)
    samples = [sample for update in learner.updates for sample in update]
    for sample, scored in zip(samples, recorder.batches[0].rollouts, strict=True):
        assert sample.old_logprobs is scored.rollout.logprobs
    assert learner.passes == []


def test_advantages_are_the_standardised_rewards() -> None:
    """Without KL every token of a trace has its trace's z; statistics are over tokens."""
    recipe = make_recipe(
        train__num_steps=1, rollout__prompts_per_step=8, algorithm__filter_sigma=None
    )
    _, _, learner, recorder = run_loop(recipe)
    scored = recorder.batches[0].rollouts
    per_token = np.concatenate(
        [np.full(len(s.rollout.response_token_ids), s.reward.total) for s in scored]
    )
    samples = [sample for update in learner.updates for sample in update]
    assert per_token.std() > 0
    for sample, item in zip(samples, scored, strict=True):
        z = (item.reward.total - per_token.mean()) / per_token.std()
        assert np.allclose(sample.advantages, z, atol=1e-6)


def test_kl_penalises_every_token_and_reaches_all_earlier_ones() -> None:
    """k1 = -0.5 - (-0.7) = 0.2 at each token, weight 0.5: the return falls by 0.1 per token left."""
    recipe = make_recipe(
        train__num_steps=1,
        algorithm__kl_beta=0.5,
        algorithm__normalize=False,
        algorithm__filter_sigma=None,
    )
    _, _, learner, recorder = run_loop(recipe)
    assert learner.passes == [("policy", 4), ("reference", 4)]
    samples = [sample for update in learner.updates for sample in update]
    for sample, item in zip(samples, recorder.batches[0].rollouts, strict=True):
        left = np.arange(len(sample.response_token_ids), 0, -1)
        assert np.allclose(sample.advantages, item.reward.total - 0.1 * left, atol=1e-6)
    assert recorder.reports[0].metrics["policy/reference_kl"] == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize(
    ("estimator", "kl"), [("k2", 0.2**2 / 2), ("k3", float(np.exp(-0.2)) - 1 + 0.2)]
)
def test_kl_in_the_reward_is_the_recipes_estimate(estimator: str, kl: float) -> None:
    recipe = make_recipe(
        train__num_steps=1,
        algorithm__kl_beta=0.5,
        algorithm__kl_estimator=estimator,
        algorithm__normalize=False,
        algorithm__filter_sigma=None,
    )
    _, _, learner, recorder = run_loop(recipe)
    samples = [sample for update in learner.updates for sample in update]
    for sample, item in zip(samples, recorder.batches[0].rollouts, strict=True):
        left = np.arange(len(sample.response_token_ids), 0, -1)
        assert np.allclose(sample.advantages, item.reward.total - 0.5 * kl * left, atol=1e-6)
    assert recorder.reports[0].metrics["policy/reference_kl"] == pytest.approx(kl, abs=1e-6)


def test_kl_in_the_loss_leaves_the_reward_alone_and_sends_the_reference_along() -> None:
    recipe = make_recipe(
        train__num_steps=1,
        algorithm__kl_beta=0.5,
        algorithm__kl_placement="loss",
        algorithm__kl_estimator="k2",
        algorithm__normalize=False,
        algorithm__filter_sigma=None,
    )
    _, _, learner, recorder = run_loop(recipe)
    assert learner.passes == [("policy", 4), ("reference", 4)]
    samples = [sample for update in learner.updates for sample in update]
    for sample, item in zip(samples, recorder.batches[0].rollouts, strict=True):
        assert np.allclose(sample.advantages, item.reward.total)
        assert sample.reference_logprobs is not None
        assert sample.reference_logprobs.shape == sample.advantages.shape
        assert np.allclose(sample.reference_logprobs, -0.7)
    assert recorder.reports[0].metrics["policy/reference_kl"] == pytest.approx(0.02, abs=1e-6)


def test_kl_is_measured_without_a_weight_when_it_is_asked_for() -> None:
    recipe = make_recipe(
        train__num_steps=1,
        algorithm__log_reference_kl=True,
        algorithm__normalize=False,
        algorithm__filter_sigma=None,
    )
    _, _, learner, recorder = run_loop(recipe)
    assert learner.passes == [("policy", 4), ("reference", 4)]
    assert recorder.reports[0].metrics["policy/reference_kl"] == pytest.approx(0.2, abs=1e-6)
    samples = [sample for update in learner.updates for sample in update]
    for sample, item in zip(samples, recorder.batches[0].rollouts, strict=True):
        assert sample.advantages.tolist() == [item.reward.total] * len(sample.advantages)


def test_without_a_reference_model_samples_have_no_reference_log_probs() -> None:
    _, _, learner, _ = run_loop(make_recipe(train__num_steps=1))
    assert all(s.reference_logprobs is None for update in learner.updates for s in update)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_generator_is_asked_for_the_recipes_temperature(temperature: float) -> None:
    """Recipes refuse anything but 1, because of the log-probs; the collector takes what it gets."""
    recipe = make_recipe(train__num_steps=1)
    rollout = recipe.rollout.model_copy(update={"temperature": temperature})
    generator, _, _, _ = run_loop(recipe.model_copy(update={"rollout": rollout}))
    assert generator.samplings == [Sampling(temperature, recipe.model.max_new_tokens)]


def test_samples_keep_their_images() -> None:
    _, _, learner, recorder = run_loop(make_recipe(train__num_steps=1))
    samples = [sample for update in learner.updates for sample in update]
    images = [s.rollout.request.prompt.pair.images for s in recorder.batches[0].rollouts]
    assert [sample.images for sample in samples] == images
    assert all(images)


@pytest.mark.parametrize("lag", [0, 2])
def test_an_error_in_the_learner_ends_the_run(lag: int) -> None:
    recipe = make_recipe(train__num_steps=50, train__max_policy_lag=lag)
    with pytest.raises(ExceptionGroup) as caught:
        run_loop(recipe, learner=FakeLearner(fails_at_update=3))
    assert caught.group_contains(ArithmeticError)


def test_checkpoints_come_at_their_interval_and_at_the_end() -> None:
    _, _, _, recorder = run_loop(make_recipe(train__num_steps=5, train__checkpoint_every=2))
    assert recorder.checkpoints == [2, 4, 5]


def test_a_resumed_run_trains_on_what_the_uninterrupted_one_would() -> None:
    recipe = make_recipe(train__num_steps=4)
    _, _, whole, all_reports = run_loop(recipe)
    _, _, half, _ = run_loop(make_recipe(train__num_steps=2))
    resumed_learner = FakeLearner(level=half.level)
    generator, _, resumed, reports = run_loop(recipe, learner=resumed_learner, start_step=2)
    assert generator.versions_used == [2, 3]
    assert resumed.published == [2, 3, 4]
    assert resumed.level == whole.level
    for a, b in zip(whole.updates[4:], resumed.updates, strict=True):
        assert [s.response_token_ids for s in a] == [s.response_token_ids for s in b]
        assert all(np.array_equal(s.advantages, t.advantages) for s, t in zip(a, b, strict=True))
    plain = [{k: v for k, v in r.metrics.items() if "time" not in k} for r in all_reports.reports]
    again = [{k: v for k, v in r.metrics.items() if "time" not in k} for r in reports.reports]
    assert plain[2:] == again


def test_every_reported_number_is_finite_and_named_by_area() -> None:
    _, _, _, recorder = run_loop(make_recipe(), FakeGenerator(mixed_answer))
    for report in recorder.reports:
        assert all(np.isfinite(value) for value in report.metrics.values())
        assert all("/" in name for name in report.metrics)


def test_a_batch_tells_its_seconds_and_tokens_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stands at 10, 12 and 17 s: before the weights, after them, after the rollouts."""
    clock = iter((10.0, 12.0, 17.0))
    monkeypatch.setattr("r1reward.rollouts.time", SimpleNamespace(monotonic=clock.__next__))
    recipe = make_recipe()
    requests = partial(requests_for_step, recipe)
    source = live_source(recipe, FakeGenerator(), FakeJudge(), requests)
    batch = asyncio.run(source.collect(0, WeightsHandle(0, (), ())))
    num_tokens = sum(len(s.rollout.response_token_ids) for s in batch.rollouts)
    metrics = batch.metrics
    assert metrics[Name.TIME_LOAD_WEIGHTS_S].value == 2
    assert metrics[Name.TIME_ROLLOUT_S].value == 5
    assert metrics[Name.TIME_ROLLOUT_TOKENS_PER_S].value == num_tokens / 5
