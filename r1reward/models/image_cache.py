"""Processed images, remembered up to a number of bytes.

One image is needed many times in a step (samples of its prompt, both orders, old and reference log-probs,
the update) and again in later epochs, and processing it is work for the CPU.
"""

import hashlib
from collections.abc import Callable

import torch
from cachetools import LRUCache, cached

from r1reward.models.family import ImageTensors


def remembering(
    process: Callable[[bytes], ImageTensors], dtype: torch.dtype, cache_mb: int
) -> Callable[[bytes], ImageTensors]:
    """``process`` with floats in ``dtype``, keeping the last used results in ``cache_mb`` * 2^20 bytes.

    An image that is larger than that is processed whenever it is asked for, and with 0 all are. What
    comes back is shared between calls: not to be written to.
    """

    # By digest: the encoded image itself is nobody's to keep.
    @cached(LRUCache(cache_mb * 2**20, getsizeof=held_bytes), key=digest)
    def tensors(encoded: bytes) -> ImageTensors:
        return {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for name, tensor in process(encoded).items()
        }

    return tensors


def digest(encoded: bytes) -> bytes:
    return hashlib.sha256(encoded).digest()


def held_bytes(tensors: ImageTensors) -> int:
    """What keeping the tensors keeps in memory, which for a view is more than its own bytes."""
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors.values())
