"""Adapters: nothing at the start, alone in training, and gone after merging."""

from __future__ import annotations

import pytest
import torch

from r1reward.models.lora import LoraLinear, add_lora, merged, with_adapters
from r1reward.models.policy import MicroBatch, MicroBatchBuilder, PolicyModel, load_policy_model
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.learner_sections import LoraSection
from tests.samples import local_recipe, made_up_samples

RECIPE = local_recipe()
BFLOAT16 = local_recipe("model.dtype=bfloat16")
SETTINGS = LoraSection(rank=4, alpha=8.0)


@pytest.fixture(scope="module")
def batch() -> MicroBatch:
    samples = made_up_samples(RECIPE, (3, 30, 12), text_only=(1,))
    return MicroBatchBuilder(PolicyProcessor(RECIPE.model)).build(samples)


def plain() -> PolicyModel:
    return load_policy_model(RECIPE.model, 64)


def adapted(settings: LoraSection = SETTINGS, trained: bool = False) -> PolicyModel:
    model = plain()
    add_lora(model.hf, settings, seed=0)
    if trained:
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.hf.named_parameters():
            if name.endswith("lora_b"):
                parameter.data.normal_(std=0.05, generator=generator)
    return model


def merged_weights(model: PolicyModel, settings: LoraSection) -> dict[str, torch.Tensor]:
    parameters = dict(model.hf.named_parameters())
    names = [name for name in parameters if "lora_" not in name]
    return {name: merged(with_adapters(name, parameters), settings) for name in names}


def test_fresh_adapters_change_no_bit(batch: MicroBatch) -> None:
    with torch.no_grad():
        assert torch.equal(adapted()(batch)[0], plain()(batch)[0])


def test_only_adapters_train(batch: MicroBatch) -> None:
    model = adapted(trained=True)
    model(batch)[0].sum().backward()
    with_gradient = {n for n, p in model.hf.named_parameters() if p.grad is not None}
    assert with_gradient == {n for n, _ in model.hf.named_parameters() if "lora_" in n}
    assert len(with_gradient) == 4 * 7 * 2  # layers, projections, two matrices
    assert all(p.grad.any() for p in model.hf.parameters() if p.grad is not None)


def test_targets_choose_the_projections() -> None:
    model = adapted(LoraSection(rank=2, targets=("q_proj", "down_proj")))
    paths = {n for n, m in model.named_modules() if isinstance(m, LoraLinear)}
    assert len(paths) == 8
    assert {path.rpartition(".")[2] for path in paths} == {"q_proj", "down_proj"}
    assert not any("visual" in path for path in paths)


def test_merged_weights_are_a_plain_model_with_the_same_log_probs(batch: MicroBatch) -> None:
    model = adapted(trained=True)
    weights = merged_weights(model, SETTINGS)
    reloaded, base = plain(), plain()
    assert {n: p.shape for n, p in reloaded.hf.named_parameters()} == {
        n: w.shape for n, w in weights.items()
    }
    reloaded.hf.load_state_dict(weights, strict=True)
    with torch.no_grad():
        wanted, entropies = model(batch)
        found, found_entropies = reloaded(batch)
        untrained, _ = base(batch)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(found_entropies, entropies, atol=1e-4, rtol=0)
    assert (untrained - wanted).abs().max() > 0.5
    for name, parameter in base.hf.named_parameters():
        is_target = name.split(".")[-2].endswith("_proj") and name.endswith("weight")
        is_target &= "visual" not in name
        assert torch.equal(parameter, weights[name]) is not is_target, name


def test_merging_by_hand() -> None:
    linear = torch.nn.Linear(2, 2, bias=False)
    linear.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    layer = LoraLinear.replacing(linear, LoraSection(rank=1, alpha=3.0), torch.Generator())
    layer.lora_a.data = torch.tensor([[1.0, -1.0]])
    layer.lora_b.data = torch.tensor([[2.0], [0.5]])
    whole = merged([layer.weight, layer.lora_a, layer.lora_b], LoraSection(rank=1, alpha=3.0))
    assert whole.tolist() == [[7.0, -4.0], [4.5, 2.5]]
    assert layer(torch.tensor([1.0, 1.0])).tolist() == [3.0, 7.0]
    assert layer(torch.tensor([1.0, 0.0])).tolist() == [7.0, 4.5]


def test_bfloat16_weights_are_merged_in_float32_and_rounded_once() -> None:
    model = load_policy_model(BFLOAT16.model, 64)
    add_lora(model.hf, SETTINGS, seed=0)
    layer = model.hf.model.language_model.layers[0].mlp.up_proj
    layer.lora_b.data.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    assert layer.lora_a.dtype == torch.bfloat16
    found = merged([layer.weight, layer.lora_a, layer.lora_b], SETTINGS)
    exact = layer.weight.double() + 2.0 * layer.lora_b.double() @ layer.lora_a.double()
    assert found.dtype == torch.bfloat16
    assert ((found.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-9).all()


def test_the_adapters_start_depends_on_the_seed_alone() -> None:
    def start(seed: int) -> torch.Tensor:
        torch.manual_seed(torch.seed() % 1000)
        model = plain()
        add_lora(model.hf, SETTINGS, seed)
        return model.hf.model.language_model.layers[3].self_attn.o_proj.lora_a.detach()

    assert torch.equal(start(5), start(5))
    assert not torch.equal(start(5), start(6))
