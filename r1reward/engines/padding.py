"""Arrays of a micro-batch's samples as padded tensors and back, and the rounds that pad a rank.

Shape legend: B samples of a micro-batch, R response tokens of one, T those of the longest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch

S = TypeVar("S")


def rounds(
    micro_batches: Sequence[Sequence[S]], num_rounds: int
) -> Iterator[tuple[Sequence[S], bool]]:
    """The micro-batches of ``num_rounds`` rounds, and whether each is padding.

    A rank with fewer micro-batches repeats its first one, so that collectives stay in step.
    """
    for index in range(num_rounds):
        is_padding = index >= len(micro_batches)
        yield micro_batches[0 if is_padding else index], is_padding


def pad_arrays(arrays: Sequence[np.ndarray | None], mask_BT: torch.Tensor) -> torch.Tensor:
    """Arrays [R] as one float32 tensor [B, T] on the mask's device; None becomes zeros."""
    padded_BT = torch.zeros(mask_BT.shape, dtype=torch.float32)
    for row, array in enumerate(arrays):
        if array is not None:
            padded_BT[row, : len(array)] = torch.from_numpy(np.asarray(array, dtype=np.float32))
    return padded_BT.to(mask_BT.device)


def pad_rows(flags: Sequence[bool], mask_BT: torch.Tensor) -> torch.Tensor:
    """A flag for each sample as a tensor [B, T]."""
    return torch.tensor(flags, device=mask_BT.device)[:, None].expand(mask_BT.shape)


def split_rows(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> list[np.ndarray]:
    """The real tokens of every row as an array [R]."""
    return [row[mask].float().cpu().numpy() for row, mask in zip(values_BT, mask_BT, strict=True)]
