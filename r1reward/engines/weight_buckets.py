"""Tensors to buckets of bytes and back. Byte buckets cross the object store without being pickled."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import xxhash

from r1reward.types import WeightBucket


def group_by_bytes(
    named_sizes: Iterable[tuple[str, int]], bucket_bytes: int
) -> Iterator[list[str]]:
    """Names in order, grouped so that a group stays within the limit unless one tensor exceeds it."""
    group: list[str] = []
    used = 0
    for name, size in named_sizes:
        if group and used + size > bucket_bytes:
            yield group
            group, used = [], 0
        group.append(name)
        used += size
    if group:
        yield group


def pack(tensors: Sequence[tuple[str, torch.Tensor]]) -> tuple[WeightBucket, np.ndarray]:
    """One bucket: the tensors' bytes one after the other, and the header to read them back."""
    arrays = [tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy() for _, tensor in tensors]
    data = np.concatenate(arrays)
    header = WeightBucket(
        names=tuple(name for name, _ in tensors),
        shapes=tuple(tuple(tensor.shape) for _, tensor in tensors),
        dtypes=tuple(str(tensor.dtype).removeprefix("torch.") for _, tensor in tensors),
        checksum=checksum(data),
        num_bytes=data.nbytes,
    )
    return header, data


def checksum(data: np.ndarray) -> str:
    """xxh3 of the bytes: several GB/s, and it only has to notice damage, not an enemy."""
    return xxhash.xxh3_128(data.data).hexdigest()


def verify(header: WeightBucket, data: np.ndarray) -> None:
    """Raises ``ValueError`` when the bytes are not the ones that were packed."""
    if data.nbytes != header.num_bytes or checksum(data) != header.checksum:
        raise ValueError(
            f"weight bucket starting at {header.names[0]} is damaged: its checksum does not match"
        )


def unpack(header: WeightBucket, data: np.ndarray) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a bucket, copied out of the store's read-only memory."""
    offset = 0
    for name, shape, dtype_name in zip(header.names, header.shapes, header.dtypes, strict=True):
        dtype: torch.dtype = getattr(torch, dtype_name)
        num_bytes = math.prod(shape) * dtype.itemsize
        raw = data[offset : offset + num_bytes].copy()
        tensor = torch.from_numpy(raw).view(dtype) if num_bytes else torch.empty(0, dtype=dtype)
        yield name, tensor.reshape(shape)
        offset += num_bytes
