"""Processed images, remembered up to a number of bytes.

One image is needed many times in a step (samples of its prompt, both orders, old and reference log-probs,
the update) and again in later epochs, and processing it is work for the CPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from cachetools import LRUCache, cached

# Patches [P, D] of one image and its grid [1, 3] (time, height, width).
Pixels = tuple[torch.Tensor, torch.Tensor]


def remembering(
    process: Callable[[bytes], Pixels], dtype: torch.dtype, cache_mb: int
) -> Callable[[bytes], Pixels]:
    """``process`` with patches in ``dtype``, keeping the last used results in ``cache_mb`` * 2^20 bytes.

    An image that is larger than that is processed whenever it is asked for, and with 0 all are. What
    comes back is shared between calls: not to be written to.
    """

    # By digest: the encoded image itself is nobody's to keep.
    @cached(LRUCache(cache_mb * 2**20, getsizeof=held_bytes), key=digest)
    def pixels(encoded: bytes) -> Pixels:
        patches, grid = process(encoded)
        return patches.to(dtype), grid

    return pixels


def digest(encoded: bytes) -> bytes:
    return hashlib.sha256(encoded).digest()


def held_bytes(pixels: Pixels) -> int:
    """What keeping the tensors keeps in memory, which for a view is more than its own bytes."""
    return sum(tensor.untyped_storage().nbytes() for tensor in pixels)
