"""Invariants 1-3 of the design: the image counts everywhere, and all three models agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from r1reward.metrics import Name
from r1reward.models.policy import MicroBatchBuilder, load_policy_model
from r1reward.shapes.pairs import make_pairs
from r1reward.types import TrainingSample
from tests.stack.conftest import LOGPROB_BOUND, Stack, gap, sample_of, wait


def test_before_the_first_update_engine_learner_and_reference_agree(stack: Stack) -> None:
    stack.publish(0)
    rollouts = stack.rollouts(stack.requests(16))
    samples = [sample_of(rollout) for rollout in rollouts]
    engine = [rollout.logprobs for rollout in rollouts]
    learner, reference = stack.logprobs(samples), stack.logprobs(samples, "reference")
    assert gap(engine, learner) < LOGPROB_BOUND
    # One function on equal weights: the KL to the reference is 0, not nearly 0.
    assert gap(learner, reference) == 0.0


def test_first_update_has_ratio_one_and_reports_the_gap_to_the_engine(stack: Stack) -> None:
    stack.publish(0)
    samples = [sample_of(r, advantage=0.0) for r in stack.rollouts(stack.requests(8))]
    before = stack.logprobs(samples)
    # Zero advantages: the optimizer steps, and Adam of a zero gradient leaves the weights alone.
    metrics = wait(stack.run, stack.learner.update(samples))
    assert metrics[Name.POLICY_RATIO_MEAN].value == 1.0
    assert metrics[Name.POLICY_RATIO_MAX].value == 1.0
    assert metrics[Name.LEARNER_GRAD_NORM].value == 0.0
    assert 0 < metrics[Name.POLICY_LOGPROB_GAP_MAX].value < LOGPROB_BOUND
    assert gap(before, stack.logprobs(samples)) == 0.0


Logprobs = Callable[[list[TrainingSample]], list[np.ndarray]]


def require_sight(logprobs: Logprobs, samples: list[TrainingSample]) -> None:
    """Other images must move the log-probs of the same tokens by more than 0.1 nats somewhere."""
    others = [pair.images for pair in make_pairs("heldout", len(samples), seed=99)]
    changed = [replace(s, images=i) for s, i in zip(samples, others, strict=True)]
    effect = gap(logprobs(samples), logprobs(changed))
    assert effect > 0.1, f"another image changes no log-prob by more than {effect}"


def test_changing_the_image_changes_learner_and_reference(stack: Stack) -> None:
    stack.publish(0)
    samples = [sample_of(rollout) for rollout in stack.rollouts(stack.requests(8))]
    require_sight(stack.logprobs, samples)
    require_sight(partial(stack.logprobs, model="reference"), samples)


def test_changing_the_image_changes_what_the_engine_samples(stack: Stack) -> None:
    """Same prompts, same seeds, other images: the engine's traces must come out different."""
    stack.publish(0)
    requests = stack.requests(8)
    others = [pair.images for pair in make_pairs("heldout", len(requests), seed=99)]
    changed = [
        replace(r, prompt=replace(r.prompt, pair=replace(r.prompt.pair, images=i)))
        for r, i in zip(requests, others, strict=True)
    ]
    pairs = zip(stack.rollouts(requests), stack.rollouts(changed), strict=True)
    num_changed = sum(a.response_token_ids != b.response_token_ids for a, b in pairs)
    assert num_changed >= 12  # of 16; two scenes can share an object


def test_the_image_check_fails_for_a_policy_without_pixels(stack: Stack) -> None:
    """The fault of the authors' trainer, made on purpose: the policy's pixels are dropped."""
    stack.publish(0)
    samples = [sample_of(rollout) for rollout in stack.rollouts(stack.requests(4))]
    model = load_policy_model(stack.recipe.model, chunk_tokens=512).eval()
    builder = MicroBatchBuilder(stack.processor)

    def logprobs(samples: list[TrainingSample], *, blind: bool) -> list[np.ndarray]:
        batch = builder.build(samples)
        if blind:
            pixels = torch.zeros_like(batch.images["pixel_values"])
            batch = replace(batch, images=batch.images | {"pixel_values": pixels})
        with torch.no_grad():
            return [row.numpy() for row in model(batch)[0]]

    require_sight(partial(logprobs, blind=False), samples)
    with pytest.raises(AssertionError, match="another image changes no log-prob"):
        require_sight(partial(logprobs, blind=True), samples)


def test_learner_refuses_a_sample_whose_image_was_lost(stack: Stack) -> None:
    rollout = stack.rollouts(stack.requests(1))[0]
    lost = replace(sample_of(rollout), images=())
    with pytest.raises(ValueError, match=r"16 image tokens but its 0 image\(s\) give 0 features"):
        stack.logprobs([lost, lost])
