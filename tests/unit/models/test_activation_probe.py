"""What a layer keeps for the backward pass: the probe without values, against a real forward pass."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig

from r1reward.models.activation_probe import (
    NUM_TOKENS,
    layer_bytes_per_token,
    saved_bytes,
    with_layers,
)
from r1reward.models.family import family_of, load_config
from r1reward.models.model_shape import published_models, shape_of, text_shape
from r1reward.sizing.activations import layer_factor
from tests.tiny_families import parameters, tiny_folder


def real_decoder_bytes(name: str, kind: str, number: int) -> int:
    """Of so many layers, by a real forward pass in bfloat16 with torch's own attention."""
    config = with_layers(load_config(str(tiny_folder(name))), kind, number)
    hf = family_of(config).auto_class.from_config(config, dtype=torch.bfloat16)
    decoder = hf.get_decoder().train()
    zeros = torch.zeros(1, NUM_TOKENS, dtype=torch.long)
    positions = torch.arange(NUM_TOKENS)[None]

    def forward() -> torch.Tensor:
        output = decoder(input_ids=zeros, position_ids=positions, use_cache=False)
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    return saved_bytes(forward, decoder)


@pytest.mark.parametrize("name", parameters(["qwen3_vl", "llama", "glm4v", "internvl", "idefics3"]))
def test_the_probe_is_what_a_real_layer_keeps(name: str) -> None:
    config = load_config(str(tiny_folder(name)))
    kinds = getattr(config.get_text_config(), "layer_types", None) or [""]
    one, two = (real_decoder_bytes(name, kinds[0], number) for number in (1, 2))
    assert layer_bytes_per_token(config) == pytest.approx((two - one) / NUM_TOKENS, rel=0.05)


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"])
def test_the_counted_table_is_exact_for_what_it_was_counted_from(name: str) -> None:
    config = AutoConfig.for_model(**published_models()[name])
    assert layer_factor(config, text_shape(config.get_text_config())) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3_5", "gemma3", "gemma4", "qwen3_vl_moe"])
def test_every_kind_of_layer_can_be_asked(name: str) -> None:
    config = load_config(str(tiny_folder(name)))
    assert 1 < layer_factor(config, text_shape(config.get_text_config())) < 5


def test_a_model_of_text_has_a_shape_without_vision() -> None:
    shape = shape_of(load_config(str(tiny_folder("llama"))), "config.json")
    assert shape.vision.num_layers == 0
    assert {weight.part for weight in shape.weights} == {"language"}
    assert shape.packing_refusal is None


@pytest.mark.slow
def test_layers_with_a_state_keep_no_keys() -> None:
    shape = shape_of(load_config(str(tiny_folder("qwen3_5"))), "config.json")
    assert (shape.text.num_layers, shape.text.num_cache_layers) == (4, 1)
