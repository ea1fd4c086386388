"""From samples to the loss of a rank, and what the group tells its ranks: engine and Ray faked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from r1reward.algorithm.batch import BatchSize, RankBatch
from r1reward.engines.deepspeed_engine import DeepSpeedRank
from r1reward.engines.deepspeed_setup import RankAddress
from r1reward.engines.learner_group import LearnerGroup
from r1reward.metrics import Metrics, Name, merge
from r1reward.models.policy import MicroBatch
from r1reward.recipe.components import training_learner
from r1reward.recipe.recipe import Recipe
from r1reward.types import TraceSample, TrainingSample
from tests.fakes import FakeSync, make_recipe

LENGTHS = [3, 5, 2, 4]
ENTROPY = 0.25  # of every token, in nats


def sample(number: int, length: int, generator: np.random.Generator) -> TrainingSample:
    def near(spread: float) -> np.ndarray:
        values: np.ndarray = -1.0 + spread * generator.normal(size=length)
        return values.astype(np.float32)

    return TrainingSample(
        prompt_token_ids=(number,),
        response_token_ids=tuple(range(length)),
        images=(),
        rollout_logprobs=near(0.5),
        old_logprobs=near(0.3),
        advantages=generator.normal(size=length),
        reference_logprobs=near(0.5),
    )


def samples() -> list[TrainingSample]:
    generator = np.random.default_rng(3)
    return [sample(number, length, generator) for number, length in enumerate(LENGTHS)]


@dataclass
class TableRank:
    """A rank whose policy is one row of log-probs a sample, to be found by its prompt."""

    recipe: Recipe
    table: torch.Tensor

    def share(self, batch: RankBatch[TrainingSample]) -> tuple[float, Metrics]:
        """What ``update`` does up to the optimizer: loss and metrics, gradients in the table."""
        rank = DeepSpeedRank.__new__(DeepSpeedRank)
        rank.settings = training_learner(self.recipe)
        rank.address = RankAddress(0, 1, "", 0)
        rank.device = torch.device("cpu")
        built: list[list[int]] = []

        def build(samples: Sequence[TraceSample]) -> MicroBatch:
            built.append([s.prompt_token_ids[0] for s in samples])
            lengths = torch.tensor([len(s.response_token_ids) for s in samples])
            mask_BT = torch.arange(int(lengths.max()))[None] < lengths[:, None]
            none = torch.zeros(0)
            return MicroBatch(none, none, none, {}, False, none, none, mask_BT, ())

        class Engine:
            def __call__(self, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
                logprobs_BT = table[built[-1], : batch.mask_BT.shape[1]]
                return logprobs_BT, torch.full(batch.mask_BT.shape, ENTROPY)

            def backward(self, loss: torch.Tensor) -> None:
                loss.backward()

        table = self.table
        parts: Any = rank
        parts.builder, parts.engine = SimpleNamespace(build=build), Engine()
        return rank.run_rounds(batch, rank.policy_share, backward=True)


def make_table() -> torch.Tensor:
    torch.manual_seed(0)
    return (-1.0 + 0.3 * torch.randn(len(LENGTHS), max(LENGTHS))).requires_grad_()


def shares(recipe: Recipe, ranks: list[list[list[TrainingSample]]]) -> tuple[float, Any, Metrics]:
    """Loss, gradient and metrics of all ranks together."""
    everything = [s for rank in ranks for cut in rank for s in cut]
    size = BatchSize(len(everything), sum(len(s.response_token_ids) for s in everything))
    num_rounds = max(len(cuts) for cuts in ranks)
    table = make_table()
    batches = [RankBatch(cuts, num_rounds, size) for cuts in ranks]
    results = [TableRank(recipe, table).share(batch) for batch in batches]
    assert table.grad is not None
    return sum(loss for loss, _ in results), table.grad, merge(m for _, m in results)


SWITCHES: dict[str, dict[str, object]] = {
    "default": {},
    "token_mean": {"algorithm__loss_mean": "token"},
    "kl_in_loss": {
        "algorithm__kl_beta": 0.3,
        "algorithm__kl_placement": "loss",
        "algorithm__kl_estimator": "k2",
    },
    "token_is": {"algorithm__rollout_correction": "token_is"},
    "sequence_mask": {"algorithm__rollout_correction": {"type": "sequence_mask", "high": 1.1}},
    "lag": {"train__max_policy_lag": 1},
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_ranks_micro_batches_and_padding_rounds_add_up_to_the_whole_batch(switch: str) -> None:
    recipe = make_recipe(**SWITCHES[switch])
    a, b, c, d = samples()
    whole_loss, whole_gradient, whole_metrics = shares(recipe, [[[a, b, c, d]]])
    # The second rank repeats its only micro-batch twice, for nothing.
    loss, gradient, metrics = shares(recipe, [[[a], [b], [d]], [[c]]])
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    assert torch.allclose(gradient, whole_gradient, rtol=1e-5, atol=1e-7)
    assert metrics.keys() == whole_metrics.keys()
    for name, metric in whole_metrics.items():
        assert metrics[name].value == pytest.approx(metric.value, rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize("switch", [name for name in SWITCHES if name != "default"])
def test_every_switch_reaches_the_loss(switch: str) -> None:
    plain = shares(make_recipe(), [[samples()]])
    switched = shares(make_recipe(**SWITCHES[switch]), [[samples()]])
    assert abs(switched[0] - plain[0]) > 1e-3
    assert not torch.allclose(switched[1], plain[1], atol=1e-4)


def test_token_mean_divides_by_the_tokens_of_the_batch() -> None:
    """Ratio 1 (old log-probs from the update's own pass): the mean of -A over all 14 tokens."""
    fresh = [replace(s, old_logprobs=None) for s in samples()]
    loss, gradient, _ = shares(make_recipe(algorithm__loss_mean="token"), [[fresh]])
    advantages = np.concatenate([s.advantages for s in fresh])
    assert loss == pytest.approx(-advantages.mean(), rel=1e-5)
    assert gradient[0, :3].tolist() == pytest.approx((-fresh[0].advantages / 14).tolist(), rel=1e-5)


def test_the_correction_compares_the_updates_own_pass_with_the_rollout() -> None:
    fresh = [replace(s, old_logprobs=None) for s in samples()]
    table = make_table().detach()
    gaps = [table[i, :n].numpy() - fresh[i].rollout_logprobs for i, n in enumerate(LENGTHS)]
    ratios = np.exp(np.concatenate(gaps))
    _, _, metrics = shares(make_recipe(train__max_policy_lag=1), [[fresh]])
    assert metrics[Name.POLICY_ROLLOUT_IS_MAX].value == pytest.approx(ratios.max(), rel=1e-5)
    assert metrics[Name.POLICY_ROLLOUT_IS_MEAN].value == pytest.approx(
        np.minimum(ratios, 2).mean(), rel=1e-5
    )
    assert metrics[Name.POLICY_ROLLOUT_IS_CAPPED_SHARE].value == pytest.approx((ratios > 2).mean())
    _, _, metrics = shares(make_recipe(), [[fresh]])
    assert not [name for name in metrics if "rollout_is" in name or "masked" in name]


def test_the_gap_is_between_learner_and_engine_whosever_log_probs_are_the_old_ones() -> None:
    """With the engine's as old log-probs their difference from the rollout's would be 0."""
    told = [replace(s, old_logprobs=s.rollout_logprobs) for s in samples()]
    table = make_table().detach()
    gaps = [table[i, :n].numpy() - told[i].rollout_logprobs for i, n in enumerate(LENGTHS)]
    gap = np.concatenate(gaps)
    _, _, metrics = shares(make_recipe(algorithm__old_logprobs="rollout"), [[told]])
    assert metrics[Name.POLICY_LOGPROB_GAP_MEAN].value == pytest.approx(
        np.abs(gap).mean(), rel=1e-5
    )
    assert metrics[Name.POLICY_LOGPROB_GAP_MAX].value == pytest.approx(np.abs(gap).max(), rel=1e-5)
    assert metrics[Name.POLICY_BEHAVIOUR_KL].value == pytest.approx(-gap.mean(), rel=1e-5)


def test_the_entropy_is_what_the_model_says() -> None:
    _, _, metrics = shares(make_recipe(), [[samples()]])
    assert metrics[Name.POLICY_ENTROPY].value == ENTROPY


def test_kl_in_the_loss_without_reference_log_probs_is_an_error() -> None:
    blind = [replace(s, reference_logprobs=None) for s in samples()]
    with pytest.raises(AssertionError):
        shares(make_recipe(**SWITCHES["kl_in_loss"]), [[blind]])


def test_the_group_tells_every_rank_the_size_of_the_whole_batch() -> None:
    told: list[tuple[int, int, BatchSize]] = []

    async def call(method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        assert method == "update"
        for (batch,) in arguments:
            told.append((sum(map(len, batch.micro_batches)), batch.num_rounds, batch.size))
        return [{} for _ in arguments]

    learner = LearnerGroup(call, make_recipe(learner__num_ranks=2).learner, FakeSync())
    asyncio.run(learner.update(samples()))
    assert [count for count, _, _ in told] == [2, 2]
    assert {size for _, _, size in told} == {BatchSize(4, 14)}
