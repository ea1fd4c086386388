"""Several samples in one row: no padding, and no sample sees another.

The language model gets the samples' lengths, and this attention function cuts the row there. Its text
positions restart with every sample; the vision tower keeps its own attention. Shape legend: H heads,
S tokens of the row, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

PACKED_ATTENTION = "r1reward_packed"


@dataclass(frozen=True)
class Cuts:
    """Where the samples of a row begin and end: ``lengths`` in tokens, known to the host.

    ``edges`` are their sums on the model's device, int32, from 0 to the end of the row.
    """

    lengths: tuple[int, ...]
    edges: torch.Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Cuts:
        edges = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
        return cls(tuple(lengths), edges.to(device))


def packed_attention(
    module: Any,
    query_1HSD: torch.Tensor,
    key_1HSD: torch.Tensor,
    value_1HSD: torch.Tensor,
    attention_mask: None,
    scaling: float,
    packed_cuts: Cuts,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each sample, [1, S, H, D], at most ``sliding_window`` tokens back.

    ``packed_cuts`` comes through the keyword arguments of transformers' forward, and through those of
    its checkpoints. Read from the positions, every layer would wait for the GPU, in recomputation too.
    """
    assert attention_mask is None and query_1HSD.shape[0] == 1, "packed samples share one row"
    if query_1HSD.is_cuda and query_1HSD.dtype != torch.float32:
        query_SHD, key_SHD, value_SHD = (
            x[0].transpose(0, 1).contiguous() for x in (query_1HSD, key_1HSD, value_1HSD)
        )
        mixed_SHD = row_attention(
            query_SHD, key_SHD, value_SHD, packed_cuts, scaling, sliding_window
        )
        return mixed_SHD[None], None
    lengths = list(packed_cuts.lengths)
    samples = zip(*(x.split(lengths, dim=2) for x in (query_1HSD, key_1HSD, value_1HSD)))
    parts = [
        sdpa_attention_forward(
            module, *qkv, window_mask(length, sliding_window, query_1HSD.device), scaling=scaling
        )[0]
        for length, qkv in zip(lengths, samples, strict=True)
    ]
    return torch.cat(parts, dim=1), None


def window_mask(
    length: int, sliding_window: int | None, device: torch.device
) -> torch.Tensor | None:
    """Which keys a query of a sample sees, [1, 1, L, L]; None where it sees all before it."""
    if sliding_window is None or length <= sliding_window:
        return None
    steps = torch.arange(length, device=device)
    back = steps[:, None] - steps[None, :]
    return ((back >= 0) & (back < sliding_window))[None, None]


def row_attention(
    query_SHD: torch.Tensor,
    key_SHD: torch.Tensor,
    value_SHD: torch.Tensor,
    cuts: Cuts,
    scaling: float,
    sliding_window: int | None = None,
) -> torch.Tensor:
    """The same by torch's kernel for GPUs, which takes half precision only."""
    # Not every torch has it, or all of these arguments: engines/library_calls.py looks.
    from torch.nn.attention.varlen import varlen_attn

    longest = max(cuts.lengths)
    mixed_SHD: torch.Tensor = varlen_attn(
        query_SHD,
        key_SHD,
        value_SHD,
        cuts.edges,
        cuts.edges,
        longest,
        longest,
        scale=scaling,
        # Tokens seen before and after the query itself; -1: all.
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        enable_gqa=query_SHD.shape[1] != key_SHD.shape[1],
    )
    return mixed_SHD


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
