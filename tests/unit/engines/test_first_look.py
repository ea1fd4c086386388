"""What a learner rank looks at before it learns: its libraries, and whether images reach the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest
import torch

from r1reward.algorithm.batch import BatchSize, RankBatch
from r1reward.engines import deepspeed_engine
from r1reward.engines.deepspeed_engine import DeepSpeedRank
from r1reward.engines.deepspeed_setup import RankAddress
from r1reward.engines.library_calls import LibraryCall
from r1reward.errors import InputError
from r1reward.metrics import Name
from r1reward.models.policy import MicroBatch, MicroBatchBuilder, load_policy_model
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.components import training_learner
from r1reward.types import TrainingSample
from tests.samples import local_recipe, made_up_samples

RECIPE = local_recipe()
ADDRESS = RankAddress(0, 1, "127.0.0.1", 0)
Call = Callable[[DeepSpeedRank, Any], object]


@pytest.fixture
def samples() -> list[TrainingSample]:
    return made_up_samples(RECIPE, (3, 5, 4), text_only=(0,))


def batch_of(*micro_batches: Sequence[TrainingSample]) -> RankBatch[Any]:
    cuts = [list(cut) for cut in micro_batches]
    samples = [sample for cut in cuts for sample in cut]
    return RankBatch(cuts, len(cuts), BatchSize.of(samples))


def rank_of(blind: bool = False) -> DeepSpeedRank:
    """A rank around the model as it is; if blind, one that loses its images on the way."""
    rank: Any = DeepSpeedRank.__new__(DeepSpeedRank)
    rank.settings, rank.address = training_learner(RECIPE), ADDRESS
    rank.device, rank.images_arrive = torch.device("cpu"), False
    rank.builder = MicroBatchBuilder(PolicyProcessor(RECIPE.model))
    model = load_policy_model(RECIPE.model, 64)
    if blind:
        forward = model.hf.model.forward
        model.hf.model.forward = lambda **kwargs: forward(**kwargs | {"mm_encoder_outputs": None})
    rank.engine = model
    return rank  # type: ignore[no-any-return]


# Regression: transformers before 5.16 takes the features and drops them, and the run went on.
@pytest.mark.parametrize(
    "call",
    [
        lambda rank, batch: rank.logprobs(batch, "policy"),
        lambda rank, batch: rank.logprobs(batch, "reference"),
        lambda rank, batch: rank.update(batch),
        lambda rank, batch: rank.fit(batch),
        lambda rank, batch: rank.evaluate_loss(batch),
    ],
    ids=["logprobs", "reference", "update", "fit", "evaluate_loss"],
)
def test_a_model_that_loses_its_images_learns_nothing(
    call: Call, samples: list[TrainingSample]
) -> None:
    with pytest.raises(InputError, match="drops the images of this model"):
        call(rank_of(blind=True), batch_of(samples[:1], samples[1:]))


def test_images_are_looked_at_once_and_text_is_not(samples: list[TrainingSample]) -> None:
    rank = rank_of()
    model: Any = rank.engine
    ran: list[int] = []

    def counted(batch: MicroBatch) -> object:
        ran.append(len(batch.input_ids_BL))
        return model(batch)

    changed: Any = rank
    changed.engine = counted
    rank.logprobs(batch_of(samples[:1]), "policy")
    assert (ran, rank.images_arrive) == ([1], False)
    rank.logprobs(batch_of(samples[:1], samples[1:]), "policy")
    assert (ran, rank.images_arrive) == ([1, 2, 2, 1, 2], True)
    rank.logprobs(batch_of(samples[1:]), "policy")
    assert ran == [1, 2, 2, 1, 2, 2]


def test_a_blind_model_may_learn_from_text(samples: list[TrainingSample]) -> None:
    assert len(rank_of(blind=True).logprobs(batch_of(samples[:1]), "policy")) == 1


def test_the_seconds_of_images_are_told_once(
    samples: list[TrainingSample], monkeypatch: pytest.MonkeyPatch
) -> None:
    rank = rank_of()
    rank.images_arrive = True
    clock = count()
    monkeypatch.setattr("r1reward.models.policy.time.monotonic", lambda: float(next(clock)))
    rank.logprobs(batch_of(samples), "policy")  # its three samples take a second each
    metrics = rank.evaluate_loss(batch_of(samples[:1], samples[1:]))
    assert metrics[Name.TIME_PREPARE_IMAGES_S].value == 6
    assert rank.evaluate_loss(batch_of(samples[:1]))[Name.TIME_PREPARE_IMAGES_S].value == 1


def test_a_rank_looks_for_what_it_calls_before_it_loads_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    older = LibraryCall("deepspeed", "torch.optim:AdamW.offload_states", "a test")
    monkeypatch.setattr(deepspeed_engine, "join_process_group", lambda *_: None)
    monkeypatch.setattr(deepspeed_engine, "learner_calls", lambda _: [older])
    with pytest.raises(
        InputError, match=r"has no torch\.optim\.AdamW\.offload_states, which a test"
    ):
        DeepSpeedRank(training_learner(RECIPE), ADDRESS)
