"""Several samples in one row: no padding, and no sample sees another.

The language model gets text positions that restart at 0 with every sample, and this attention
function cuts there. The vision tower keeps its own. Shape legend: H heads, S tokens of the row,
D head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

PACKED_ATTENTION = "r1reward_packed"


def packed_attention(
    module: Any,
    query_1HSD: torch.Tensor,
    key_1HSD: torch.Tensor,
    value_1HSD: torch.Tensor,
    attention_mask: None,
    scaling: float,
    position_ids: torch.Tensor,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each sample, [1, S, H, D]; ``position_ids`` [1, S] restart at 0.

    The cuts are read from the positions in every layer: as a keyword they would have to pass through
    transformers' forward, which hands such keywords to the vision tower too.
    """
    assert attention_mask is None and position_ids.shape[0] == 1, "packed samples share one row"
    starts = torch.nonzero(position_ids[0] == 0).squeeze(1)
    ends = torch.cat([starts[1:], starts.new_tensor([position_ids.shape[1]])])
    if query_1HSD.is_cuda and query_1HSD.dtype != torch.float32:
        cuts = torch.cat([starts, ends[-1:]]).int()
        longest = int((ends - starts).max())
        mixed_SHD = varlen_attn(
            *(x[0].transpose(0, 1).contiguous() for x in (query_1HSD, key_1HSD, value_1HSD)),
            cuts,
            cuts,
            longest,
            longest,
            scale=scaling,
            window_size=(-1, 0),  # causal
            enable_gqa=query_1HSD.shape[1] != key_1HSD.shape[1],
        )
        return mixed_SHD[None], None
    lengths = (ends - starts).tolist()
    samples = zip(*(x.split(lengths, dim=2) for x in (query_1HSD, key_1HSD, value_1HSD)))
    parts = [sdpa_attention_forward(module, *qkv, None, scaling=scaling)[0] for qkv in samples]
    return torch.cat(parts, dim=1), None


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
