"""Parts of the policy: which parameter belongs where, what is frozen, who learns how fast."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from r1reward.models.lora import add_lora
from r1reward.models.parts import freeze_parts, move_frozen, parameter_groups, parts_of
from r1reward.models.policy import MicroBatchBuilder, PolicyModel, load_policy_model
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.learner_sections import LoraSection
from tests.samples import local_recipe, made_up_samples

RECIPE = local_recipe()


def gradients(model: PolicyModel) -> dict[str, torch.Tensor | None]:
    samples = made_up_samples(RECIPE, (3, 30, 12), text_only=(1,))
    batch = MicroBatchBuilder(PolicyProcessor(RECIPE.model)).build(samples)
    model(batch)[0].sum().backward()
    return {name: parameter.grad for name, parameter in model.hf.named_parameters()}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.visual.patch_embed.proj.weight", "vision"),
        ("model.visual.blocks.1.attn.qkv.bias", "vision"),
        ("model.visual.merger.ln_q.weight", "merger"),
        ("model.visual.merger.mlp.2.weight", "merger"),
        ("model.language_model.layers.0.mlp.up_proj.weight", "language"),
        ("model.language_model.embed_tokens.weight", "language"),
        ("lm_head.weight", "language"),
    ],
)
def test_every_parameter_belongs_to_a_part(name: str, part: str) -> None:
    assert parts_of(load_policy_model(RECIPE.model, 64).hf)[name] == part


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [("vision",), ("merger",), ("language",), ("vision", "merger")])
def test_a_frozen_part_has_no_gradient_and_the_others_have_theirs(frozen: tuple[str, ...]) -> None:
    """Freezing the merger or the language model still lets gradients through to what is below."""
    wanted = gradients(load_policy_model(RECIPE.model, 64))
    settings = local_recipe(*(f"learner.parts.{part}.trainable=false" for part in frozen)).learner
    model = load_policy_model(RECIPE.model, 64)
    freeze_parts(model.hf, settings)
    parts = parts_of(model.hf)
    for name, gradient in gradients(model).items():
        if parts[name] in frozen:
            assert gradient is None, name
        else:
            torch.testing.assert_close(gradient, wanted[name], atol=1e-5, rtol=1e-4)
    assert len(parameter_groups(model.hf, settings)) == 3 - len(frozen)


def test_groups_hold_every_trained_parameter_once_with_its_parts_scale() -> None:
    settings = local_recipe(
        "learner.parts.vision.lr_scale=0.1", "learner.parts.merger.lr_scale=2"
    ).learner
    model = load_policy_model(RECIPE.model, 64)
    freeze_parts(model.hf, settings)
    groups = parameter_groups(model.hf, settings)
    scale_of = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert len(scale_of) == sum(len(group["params"]) for group in groups)
    scales = {"vision": 0.1, "merger": 2.0, "language": 1.0}
    parts = parts_of(model.hf)
    for name, parameter in model.hf.named_parameters():
        assert scale_of[id(parameter)] == scales[parts[name]]
    assert Counter(scale_of.values())[2.0] == 5  # the merger's norm, and two layers with biases


@pytest.mark.parametrize("adapters", [False, True], ids=["frozen vision", "adapters"])
def test_what_is_frozen_moves_and_nothing_else(adapters: bool) -> None:
    """Another number format stands for another device: what has it was moved."""
    model = load_policy_model(RECIPE.model, 64)
    if adapters:
        add_lora(model.hf, LoraSection(rank=2), seed=0)
    else:
        freeze_parts(model.hf, local_recipe("learner.parts.vision.trainable=false").learner)
    away: Any = torch.float64
    move_frozen(model, away)
    parameters = list(model.parameters())
    assert {p.dtype for p in parameters if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in parameters if not p.requires_grad} == {away}
    buffers = list(model.buffers())
    assert len(buffers) > 1 and {buffer.dtype for buffer in buffers} == {away}


def test_a_tied_head_stays_tied_when_it_moves() -> None:
    head, embedding = torch.nn.Linear(3, 5, bias=False), torch.nn.Embedding(5, 3)
    head.weight = embedding.weight
    model = torch.nn.Sequential(embedding, head).requires_grad_(False)
    away: Any = torch.float64
    move_frozen(model, away)
    assert head.weight is embedding.weight and head.weight.dtype == away
