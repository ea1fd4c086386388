"""A rank's update, from samples to moved weights: the miniature, AdamW, and a fake for DeepSpeed."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from r1reward.algorithm.batch import BatchSize, RankBatch
from r1reward.engines import deepspeed_engine
from r1reward.engines.deepspeed_engine import DeepSpeedRank, NonFiniteLossError
from r1reward.engines.deepspeed_setup import RankAddress, build_optimizer
from r1reward.metrics import Metrics, Name, merge
from r1reward.models.parts import parts_of
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.components import training_learner
from r1reward.recipe.learner_sections import LearnerSection
from r1reward.types import TrainingSample
from tests.fakes import FakeEngine
from tests.samples import local_recipe, made_up_samples

# The plain optimizer steps, at a constant rate and without clipping unless a test says so.
PLAIN = (
    "learner.zero_stage=0",
    "learner.lr=1e-3",
    "learner.warmup_share=0",
    "learner.min_lr_ratio=1",
    "learner.max_grad_norm=1e6",
)
MakeRank = Callable[..., DeepSpeedRank]
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def processor() -> PolicyProcessor:
    return PolicyProcessor(local_recipe().model)


@pytest.fixture
def make_rank(monkeypatch: pytest.MonkeyPatch, processor: PolicyProcessor) -> MakeRank:
    """Starts ranks as a run does, but alone and with a fake instead of DeepSpeed."""

    def make(*overrides: str, num_ranks: int = 1) -> DeepSpeedRank:
        def initialize(model: Any, optimizer: Any, config: object) -> tuple[Any, Any, None, None]:
            return FakeEngine(model, optimizer, num_ranks), optimizer, None, None

        deepspeed = SimpleNamespace(initialize=initialize)
        monkeypatch.setitem(sys.modules, "deepspeed", deepspeed)  # type: ignore[arg-type]
        monkeypatch.setattr(deepspeed_engine, "join_process_group", lambda *_: None)
        monkeypatch.setattr(deepspeed_engine, "learner_calls", lambda _: [])
        monkeypatch.setattr(deepspeed_engine, "PolicyProcessor", lambda _: processor)
        # Ranks that agree on everything: there is no group to ask.
        monkeypatch.setattr(DeepSpeedRank, "on_any_rank", lambda _, here: here)
        settings = training_learner(local_recipe(*PLAIN, *overrides))
        rank = DeepSpeedRank(settings, RankAddress(0, num_ranks, "127.0.0.1", 0))
        rank.images_arrive = True  # tests/unit/engines/test_first_look.py sees to that
        return rank

    return make


@pytest.fixture(scope="module")
def samples() -> list[TrainingSample]:
    return made_up_samples(local_recipe(), (3, 5, 4, 6), text_only=(1,))


def batch_of(
    *micro_batches: Sequence[TrainingSample], whole: Sequence[TrainingSample] = ()
) -> RankBatch[Any]:
    """What a rank runs; ``whole`` is the batch of all ranks where that is more."""
    cuts = [list(cut) for cut in micro_batches]
    everything = whole or [sample for cut in cuts for sample in cut]
    return RankBatch(cuts, len(cuts), BatchSize.of(everything))


def weights_of(rank: DeepSpeedRank) -> Weights:
    return {name: p.detach().clone() for name, p in rank.engine.module.named_parameters()}


def norm_of(gradients: Weights) -> float:
    return math.sqrt(
        sum(float(gradient.double().square().sum()) for gradient in gradients.values())
    )


def test_the_update_sees_what_the_log_probs_saw(
    make_rank: MakeRank, samples: list[TrainingSample]
) -> None:
    """Old log-probs of the same weights and images: every ratio is 1."""
    rank = make_rank()
    (old,) = rank.logprobs(batch_of(samples), "policy")
    told = [replace(s, old_logprobs=array) for s, array in zip(samples, old, strict=True)]
    metrics = rank.update(batch_of(told))
    assert metrics[Name.POLICY_RATIO_MEAN].value == pytest.approx(1, abs=1e-5)
    assert metrics[Name.POLICY_RATIO_MAX].value == pytest.approx(1, abs=1e-5)
    # The loss of ratio 1 is the mean over sequences of minus the mean advantage.
    wanted = -sum(float(sample.advantages.mean()) for sample in samples) / len(samples)
    assert metrics[Name.LEARNER_LOSS].value == pytest.approx(wanted, rel=1e-4)


def test_parts_move_at_rates_of_their_own_and_a_frozen_one_stays(
    make_rank: MakeRank, samples: list[TrainingSample]
) -> None:
    """Adam's first step moves a weight by the learning rate, whatever its gradient."""
    rank = make_rank(
        "learner.parts.vision.lr_scale=0.1",
        "learner.parts.merger.trainable=false",
        "learner.parts.language.lr_scale=0.5",
    )
    before = weights_of(rank)
    metrics = rank.update(batch_of(samples))
    assert metrics[Name.LEARNER_LR].value == pytest.approx(1e-3)
    parts = parts_of(rank.engine.module.hf)
    moved = dict.fromkeys(("vision", "merger", "language"), 0.0)
    for name, after in weights_of(rank).items():
        part = parts[name.removeprefix("hf.")]
        moved[part] = max(moved[part], float((after - before[name]).abs().max()))
    assert moved["merger"] == 0.0
    assert moved["vision"] == pytest.approx(1e-4, rel=1e-2)
    assert moved["language"] == pytest.approx(5e-4, rel=1e-2)


def test_two_ranks_have_the_gradient_and_the_loss_of_one(
    make_rank: MakeRank, samples: list[TrainingSample]
) -> None:
    """DeepSpeed averages over ranks, so half a batch on each has to count double."""
    alone = make_rank()
    wanted = alone.update(batch_of(samples))
    ranks = [make_rank(num_ranks=2) for _ in range(2)]
    metrics: list[Metrics] = [
        rank.update(batch_of(half[:1], half[1:], whole=samples))
        for rank, half in zip(ranks, (samples[:2], samples[2:]), strict=True)
    ]
    halves = [rank.engine.gradients for rank in ranks]
    assert merge(metrics)[Name.LEARNER_LOSS].value == pytest.approx(
        wanted[Name.LEARNER_LOSS].value, rel=1e-4
    )
    for name, gradient in alone.engine.gradients.items():
        both = sum(half[name] for half in halves if name in half)
        torch.testing.assert_close(both, gradient, rtol=1e-3, atol=1e-5)


def test_stage_0_clips_and_reports_the_norm_before(
    make_rank: MakeRank, samples: list[TrainingSample]
) -> None:
    free, bound = make_rank(), make_rank("learner.max_grad_norm=0.01")
    raw = free.update(batch_of(samples))[Name.LEARNER_GRAD_NORM].value
    told = bound.update(batch_of(samples))[Name.LEARNER_GRAD_NORM].value
    assert raw == pytest.approx(norm_of(free.engine.gradients), rel=1e-4)
    assert told == pytest.approx(raw, rel=1e-4)
    assert raw > 0.05
    assert norm_of(bound.engine.gradients) == pytest.approx(0.01, rel=1e-3)


def test_the_rate_follows_the_number_of_updates(
    make_rank: MakeRank, samples: list[TrainingSample]
) -> None:
    rank = make_rank("train.num_steps=4", "learner.warmup_share=0.5")
    num_updates = rank.settings.num_updates
    rates = [rank.update(batch_of(samples[:1]))[Name.LEARNER_LR].value for _ in range(2)]
    assert rates == pytest.approx([1e-3 * k / (num_updates / 2) for k in (1, 2)])
    assert rank.num_updates == 2


@pytest.mark.parametrize(("value", "what"), [(math.nan, "nan"), (math.inf, "-inf|nan|inf")])
def test_a_loss_that_is_not_finite_is_not_learned_from(
    make_rank: MakeRank, samples: list[TrainingSample], value: float, what: str
) -> None:
    rank = make_rank()
    before = weights_of(rank)
    bad = replace(samples[0], advantages=samples[0].advantages * value)
    with pytest.raises(
        NonFiniteLossError, match=rf"the loss of update 0 is not finite \(here {what}"
    ):
        rank.update(batch_of([bad], samples[1:]))
    assert all(torch.equal(before[name], after) for name, after in weights_of(rank).items())


def test_a_gradient_that_is_not_finite_is_not_stepped_with(
    make_rank: MakeRank, samples: list[TrainingSample]
) -> None:
    rank = make_rank()
    rank.engine.module.hf.lm_head.weight.register_hook(lambda gradient: gradient * math.inf)
    before = weights_of(rank)
    with pytest.raises(NonFiniteLossError, match="the gradient norm of update 0 is not finite"):
        rank.update(batch_of(samples[:2]))
    assert all(torch.equal(before[name], after) for name, after in weights_of(rank).items())
    assert rank.num_updates == 0


def test_adam_has_the_betas_and_the_weight_decay_of_the_recipe() -> None:
    """Two steps of AdamW by hand: decay the weight, then move it by the corrected means."""
    section = LearnerSection(lr=0.1, adam_beta1=0.5, adam_beta2=0.75, weight_decay=0.2)
    weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = build_optimizer([{"params": [weight]}], section)
    wanted, first, second = 1.0, 0.0, 0.0
    for step, gradient in enumerate((1.0, -3.0), start=1):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        first = 0.5 * first + 0.5 * gradient
        second = 0.75 * second + 0.25 * gradient**2
        wanted -= 0.1 * 0.2 * wanted
        wanted -= 0.1 * (first / (1 - 0.5**step)) / math.sqrt(second / (1 - 0.75**step))
        assert weight.item() == pytest.approx(wanted, rel=1e-6)
