"""Sampling with transformers: the log-probs are the learner's, and a draw is its seed's alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch

from r1reward.engines.torch_sampler import GumbelNoise, TorchSampler
from r1reward.engines.weight_buckets import pack
from r1reward.interfaces import Sampling
from r1reward.models.policy import MicroBatchBuilder, PolicyModel, load_policy_model
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.components import EngineSettings
from r1reward.recipe.recipe import Recipe
from r1reward.shapes.pairs import make_pairs
from r1reward.types import Rollout, RolloutRequest, TraceSample, WeightsHandle
from tests.samples import local_recipe

pytestmark = pytest.mark.slow  # transformers generates

# float32 and other kernels for one token at a time than for whole rows; 6e-6 on trained weights.
LOGPROB_BOUND = 2e-5
AS_TRAINED = Sampling(1.0, 96)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return local_recipe()


@pytest.fixture(scope="module")
def processor(recipe: Recipe) -> PolicyProcessor:
    return PolicyProcessor(recipe.model)


@pytest.fixture
def sampler() -> TorchSampler:
    return sampler_of("rollout.engine.max_num_seqs=6")


def sampler_of(override: str) -> TorchSampler:
    recipe = local_recipe(override)
    return TorchSampler(EngineSettings(recipe.model, recipe.rollout.engine, recipe.placement))


def requests(recipe: Recipe, processor: PolicyProcessor, count: int = 6) -> list[RolloutRequest]:
    pairs = make_pairs("heldout", count, seed=3)
    prompts = [processor.encode(pair, "stored", recipe.prompt) for pair in pairs]
    return [RolloutRequest(prompt, 0, 100 + i) for i, prompt in enumerate(prompts)]


def draw(
    sampler: TorchSampler, wanted: list[RolloutRequest], sampling: Sampling = AS_TRAINED
) -> list[Rollout]:
    """In the order of the requests."""

    async def collect() -> dict[int, Rollout]:
        return {r.request.seed: r async for r in sampler.generate(wanted, sampling)}

    found = asyncio.run(collect())
    assert len(found) == len(wanted)
    return [found[request.seed] for request in wanted]


def learner_logprobs(
    model: PolicyModel, processor: PolicyProcessor, rollouts: list[Rollout]
) -> list[np.ndarray]:
    samples = [
        TraceSample(r.prompt_token_ids, r.response_token_ids, r.request.prompt.pair.images)
        for r in rollouts
    ]
    batch = MicroBatchBuilder(processor).build(samples)
    with torch.no_grad():
        logprobs_BT, _ = model(batch)
    return [row[mask].numpy() for row, mask in zip(logprobs_BT, batch.mask_BT, strict=True)]


def gap(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


def bundle(model: PolicyModel, version: int) -> WeightsHandle:
    header, data = pack([(n, p.detach()) for n, p in model.hf.named_parameters()])
    return WeightsHandle(version, (header,), (data,))


def test_log_probs_are_the_learners(
    recipe: Recipe, processor: PolicyProcessor, sampler: TorchSampler
) -> None:
    rollouts = draw(sampler, requests(recipe, processor))
    assert len({len(r.prompt_token_ids) for r in rollouts}) > 1, "padding is part of the test"
    model = load_policy_model(recipe.model, 2048)
    learned = learner_logprobs(model, processor, rollouts)
    assert gap([r.logprobs for r in rollouts], learned) < LOGPROB_BOUND
    assert all(r.text.endswith("</answer>") for r in rollouts)
    assert all(r.response_token_ids[-1] == processor.end_of_turn_id for r in rollouts)


def test_new_weights_are_sampled_from(
    recipe: Recipe, processor: PolicyProcessor, sampler: TorchSampler
) -> None:
    model = load_policy_model(recipe.model, 2048)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * parameter.std() * torch.randn_like(parameter))
    before = draw(sampler, requests(recipe, processor))
    asyncio.run(sampler.load_weights(bundle(model, version=7)))
    after = draw(sampler, requests(recipe, processor))
    assert (
        gap([r.logprobs for r in after], learner_logprobs(model, processor, after)) < LOGPROB_BOUND
    )
    assert gap([r.logprobs for r in before], learner_logprobs(model, processor, before)) > 0.01
    assert {int(v) for r in after for v in r.policy_versions} == {7}


def test_a_damaged_or_partial_bundle_is_refused(recipe: Recipe, sampler: TorchSampler) -> None:
    model = load_policy_model(recipe.model, 2048)
    handle = bundle(model, version=1)
    header, data = handle.buckets[0], np.array(handle.refs[0])
    data[17] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        asyncio.run(sampler.load_weights(replace(handle, refs=(data,))))
    name, parameter = next(model.hf.named_parameters())
    header, data = pack([(name, parameter.detach())])
    with pytest.raises(ValueError, match="does not fit the model"):
        asyncio.run(sampler.load_weights(WeightsHandle(1, (header,), (data,))))
    assert sampler.version == 0


def test_a_draw_depends_on_its_seed_and_not_on_its_neighbours(
    recipe: Recipe, processor: PolicyProcessor, sampler: TorchSampler
) -> None:
    wanted = requests(recipe, processor)
    together = [r.response_token_ids for r in draw(sampler, wanted)]
    sampler.batch_size = 2
    assert [r.response_token_ids for r in draw(sampler, wanted[::-1])][::-1] == together
    other = [replace(request, seed=request.seed + 1000) for request in wanted]
    assert [r.response_token_ids for r in draw(sampler, other)] != together


def test_temperature_0_takes_the_likeliest_token(
    recipe: Recipe, processor: PolicyProcessor, sampler: TorchSampler
) -> None:
    wanted = requests(recipe, processor)
    greedy = draw(sampler, wanted, Sampling(0.0, 96))
    reseeded = [replace(request, seed=request.seed + 1000) for request in wanted]
    again = draw(sampler, reseeded, Sampling(0.0, 96))
    assert [r.response_token_ids for r in greedy] == [r.response_token_ids for r in again]
    sampled = draw(sampler, wanted)
    assert sum(r.logprobs.sum() for r in greedy) > sum(r.logprobs.sum() for r in sampled)


def test_a_trace_is_cut_at_the_token_limit(
    recipe: Recipe, processor: PolicyProcessor, sampler: TorchSampler
) -> None:
    rollouts = draw(sampler, requests(recipe, processor), Sampling(1.0, 5))
    assert {r.finish_reason for r in rollouts} == {"length"}
    assert {len(r.response_token_ids) for r in rollouts} == {5}
    assert all(len(r.logprobs) == 5 for r in rollouts)


def test_the_image_reaches_the_sampler(
    recipe: Recipe, processor: PolicyProcessor, sampler: TorchSampler
) -> None:
    wanted = requests(recipe, processor)
    images = [request.prompt.pair.images for request in wanted]
    turned = [
        replace(
            request, prompt=replace(request.prompt, pair=replace(request.prompt.pair, images=other))
        )
        for request, other in zip(wanted, images[1:] + images[:1], strict=True)
    ]
    with_own = draw(sampler, wanted, Sampling(0.0, 96))
    with_other = draw(sampler, turned, Sampling(0.0, 96))
    assert all(a.text != b.text for a, b in zip(with_own, with_other, strict=True))


def test_media_tokens_are_never_drawn(
    recipe: Recipe, processor: PolicyProcessor, sampler: TorchSampler
) -> None:
    head = sampler.hf.lm_head
    with torch.no_grad():
        # A model that wants nothing but image pads.
        head.weight[processor.image_token_id] = 100 * head.weight.abs().max()
        sampler.hf.model.language_model.norm.weight.abs_()
    rollouts = draw(sampler, requests(recipe, processor), Sampling(1.0, 8))
    assert not {t for r in rollouts for t in r.response_token_ids} & set(processor.media_token_ids)


def test_gumbel_noise_draws_from_the_softmax() -> None:
    logits_V = torch.tensor([1.0, 0.0, -1.0, 2.0])
    noise = GumbelNoise(range(20_000))
    drawn = noise(torch.zeros(20_000, 1), logits_V.expand(20_000, -1)).argmax(dim=1)
    shares = torch.bincount(drawn, minlength=4) / 20_000
    # Four standard deviations of a share at most: 4 * 0.5 / sqrt(20000).
    assert torch.allclose(shares, logits_V.softmax(0), atol=0.0142)


@pytest.mark.parametrize(("size_gb", "kept"), [(0, False), (0.01, True)])
def test_in_one_process_the_recipe_says_how_many_images_the_sampler_remembers(
    size_gb: float, kept: bool
) -> None:
    tensors = sampler_of(f"rollout.engine.mm_processor_cache_gb={size_gb}").builder.image_tensors
    (image,) = next(iter(make_pairs("heldout", 1, seed=3))).images
    assert (tensors(image) is tensors(image)) == kept
