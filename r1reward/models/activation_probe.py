"""What one layer of a language model keeps for the backward pass, from the layer itself.

The model is built on the meta device, so nothing is computed and no memory taken, and autograd is asked
what it saves. Attention keeps q, k, v, its result and a float32 number a query and head, as the kernels
for GPUs do. How much more or less than the table of ``sizing/activations.py`` that is depends on the
architecture alone, so one probe serves all settings of the learner.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import torch
from transformers import AttentionInterface, AutoConfig

from r1reward.models.family import Config, family_of

PROBE_ATTENTION = "r1reward_probe"
NUM_TOKENS = 256


class ProbeAttention(torch.autograd.Function):
    """Keeps what fused kernels keep; the result has no values."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
        batch, heads, length, _ = query.shape
        result = query.new_empty(batch, length, heads, value.shape[3])
        sums = torch.empty(batch, heads, length, dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, result, sums)
        return result


def probe_attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> tuple[torch.Tensor, None]:
    return ProbeAttention.apply(query, key, value), None


AttentionInterface.register(PROBE_ATTENTION, probe_attention)


def layer_bytes_per_token(config: Config) -> float:
    """Of a layer whose weights all learn, in bfloat16, averaged over the kinds of layers in the model."""
    return probed(config.to_json_string(use_diff=False))


@cache
def probed(settings: str) -> float:
    config = AutoConfig.for_model(**json.loads(settings))
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or [""] * text.num_hidden_layers
    total = 0.0
    for kind, count in Counter(kinds).items():
        one, two = (kept_by_decoder(with_layers(config, kind, number)) for number in (1, 2))
        total += count * (two - one) / NUM_TOKENS
    return total / len(kinds)


def with_layers(config: Config, kind: str, number: int) -> Config:
    """The same model with fewer layers, all of one kind."""
    fewer = deepcopy(config)
    text = fewer.get_text_config()
    text.num_hidden_layers = number
    if kind:
        text.layer_types = [kind] * number
    return fewer


def kept_by_decoder(config: Config) -> int:
    """Bytes that a forward pass of the language model saves, weights left out."""
    hf = family_of(config).without_weights(config, dtype=torch.bfloat16)
    decoder = hf.get_decoder().train()
    decoder.set_attn_implementation(PROBE_ATTENTION)
    with torch.device("meta"):
        zeros = torch.zeros(1, NUM_TOKENS, dtype=torch.long)

        def forward() -> torch.Tensor:
            output = decoder(input_ids=zeros, position_ids=zeros, use_cache=False)
            hidden: torch.Tensor = output.last_hidden_state
            return hidden

        return saved_bytes(forward, decoder)


def saved_bytes(forward: Callable[[], torch.Tensor], module: torch.nn.Module) -> int:
    """What autograd saves in a forward pass, each storage once, without the module's own weights."""
    own = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        # The tensor is held, so that no later storage gets its address.
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    del result
    return sum(
        tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in own
    )
