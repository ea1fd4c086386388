"""The DeepSpeed group against plain PyTorch: every ZeRO stage, two ranks, unequal micro-batches."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch

from r1reward.actors.learner import LearnerGroup
from r1reward.actors.weights import fetch
from r1reward.algorithm.loss import policy_loss
from r1reward.algorithm.schedule import learning_rate
from r1reward.config import Recipe
from r1reward.engines.policy_model import MicroBatchBuilder, load_policy_model
from r1reward.engines.processor import PolicyProcessor
from r1reward.engines.weight_buckets import unpack
from r1reward.launch import running_system
from r1reward.shapes.pairs import make_pairs
from r1reward.types import TrainingSample
from tests.samples import made_up_samples
from tests.stack.conftest import LOGPROB_BOUND, gap, stack_recipe

NUM_UPDATES = 3
SAMPLE_LENGTHS = range(3, 112, 9)


def zero_recipe(stage: int, *overrides: str) -> Recipe:
    return stack_recipe(
        f"learner.zero_stage={stage}",
        "learner.num_ranks=2",
        "learner.lr=1e-3",
        "learner.micro_batch_tokens=370",
        "learner.max_grad_norm=0.5",
        "learner.weight_decay=0.1",
        "learner.bucket_mb=1",
        "placement.threads=1",
        *overrides,
    )


def plain_torch(
    recipe: Recipe, samples: list[TrainingSample]
) -> tuple[list[float], list[float], dict[str, torch.Tensor]]:
    """The same updates in one process, one batch, torch's own AdamW."""
    processor = PolicyProcessor(recipe.model)
    model = load_policy_model(recipe.model, chunk_tokens=4096).train()
    batch = MicroBatchBuilder(processor).build(samples)
    settings = recipe.learner
    optimizer = torch.optim.AdamW(
        model.parameters(),
        betas=(settings.adam_beta1, settings.adam_beta2),
        weight_decay=settings.weight_decay,
    )
    advantages_BT = torch.zeros(batch.mask_BT.shape)
    for row, sample in enumerate(samples):
        advantages_BT[row, : len(sample.advantages)] = torch.tensor(sample.advantages)
    losses, norms = [], []
    for update in range(NUM_UPDATES):
        logprobs_BT, _ = model(batch)
        loss, _ = policy_loss(
            logprobs_BT,
            logprobs_BT.detach(),
            advantages_BT,
            batch.mask_BT,
            len(samples),
            recipe.algorithm,
        )
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(update, recipe.num_optimizer_steps, settings)
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm.item())
    return losses, norms, {n: p.detach().clone() for n, p in model.hf.named_parameters()}


async def published(learner: LearnerGroup) -> dict[str, torch.Tensor]:
    handle = await learner.publish(0)
    tensors: dict[str, torch.Tensor] = {}
    for header, data in zip(handle.buckets, await fetch(handle), strict=True):
        tensors |= dict(unpack(header.names, header.shapes, header.dtypes, data))
    return tensors


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_two_ranks_train_like_one_plain_process(stage: int) -> None:
    recipe = zero_recipe(stage)
    samples = made_up_samples(recipe, SAMPLE_LENGTHS)
    wanted_losses, wanted_norms, wanted = plain_torch(recipe, samples)

    async def updates() -> tuple[list[float], list[float], dict[str, torch.Tensor]]:
        async with running_system(recipe, PolicyProcessor(recipe.model), engines=False) as system:
            assert system.learner is not None
            plan, num_rounds = system.learner.cut(samples)
            # The ranks really hold different numbers of micro-batches of different sizes.
            assert len({len(cuts) for cuts in plan}) == 2 and num_rounds > 1
            metrics = [await system.learner.update(samples) for _ in range(NUM_UPDATES)]
            losses = [m["learner/loss"].value / 2 * 2 for m in metrics]
            norms = [m["learner/grad_norm"].value for m in metrics]
            return losses, norms, await published(system.learner)

    losses, norms, weights = asyncio.run(updates())
    assert losses == pytest.approx(wanted_losses, rel=1e-4, abs=1e-6)
    assert norms == pytest.approx(wanted_norms, rel=1e-4)
    assert weights.keys() == wanted.keys()
    # Adam divides by the gradient's size: where a gradient is nearly 0 rounding decides the step's
    # sign, so single weights may differ by about a step; the bulk must not.
    differences = torch.cat([(weights[n] - wanted[n]).abs().flatten() for n in wanted])
    assert differences.quantile(0.99).item() < 1e-5
    assert differences.max().item() < 3 * recipe.learner.lr


def test_tied_embeddings_stay_tied_through_zero_3_publish_and_engine(tmp_path: Path) -> None:
    """Qwen2.5-VL-3B shares one matrix between embedding and head; vLLM packs the head's copy."""
    folder = tmp_path / "tied"
    base = zero_recipe(3)
    model = load_policy_model(base.model, chunk_tokens=512).hf
    model.config.tie_word_embeddings = True
    model.config.text_config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(folder)
    PolicyProcessor(base.model).processor.save_pretrained(folder)
    recipe = zero_recipe(3, f"model.path={folder}")
    samples = made_up_samples(recipe, SAMPLE_LENGTHS)

    async def parity() -> tuple[float, float, set[str]]:
        from r1reward.interfaces import Sampling
        from r1reward.types import RolloutRequest

        processor = PolicyProcessor(recipe.model)
        prompts = [
            processor.encode(pair, "stored", recipe.prompt) for pair in make_pairs("train", 8, 1)
        ]
        requests = [RolloutRequest(p, 0, seed) for seed, p in enumerate(prompts)]

        async def engine_gap() -> float:
            assert system.generator is not None and system.learner is not None
            rollouts = [r async for r in system.generator.generate(requests, Sampling(1.0, 32))]
            drawn = [
                TrainingSample(
                    r.prompt_token_ids,
                    r.response_token_ids,
                    r.request.prompt.pair.images,
                    r.logprobs,
                    None,
                    np.zeros(len(r.logprobs)),
                )
                for r in rollouts
            ]
            return gap(
                [r.logprobs for r in rollouts], await system.learner.logprobs(drawn, "policy")
            )

        async with running_system(recipe, processor) as system:
            assert system.generator is not None and system.learner is not None
            await system.learner.update(samples)
            stale = await engine_gap()
            handle = await system.learner.publish(1)
            await system.generator.load_weights(handle)
            names = {name for bucket in handle.buckets for name in bucket.names}
            return stale, await engine_gap(), names

    stale, fresh, names = asyncio.run(parity())
    assert "lm_head.weight" not in names
    assert stale > 100 * LOGPROB_BOUND
    assert fresh < LOGPROB_BOUND
