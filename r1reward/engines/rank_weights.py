"""Whole weights of a rank's model, and its exported files in pieces."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch

from r1reward.engines.weight_buckets import group_by_bytes, pack
from r1reward.models.lora import merged, with_adapters
from r1reward.models.policy import DTYPES
from r1reward.models.weight_names import as_saved, whole_weights
from r1reward.recipe.components import LearnerSettings
from r1reward.types import WeightBucket

PIECE_BYTES = 64 * 2**20


def weight_buckets(
    model: torch.nn.Module,
    names: Sequence[str],
    settings: LearnerSettings,
    rank: int,
    as_checkpoint: bool = False,
) -> Iterator[tuple[WeightBucket, np.ndarray]]:
    """The named weights in the rollout dtype, bucket by bucket, on rank 0; the other ranks take part.

    Adapters are merged into the weights that they change. ``as_checkpoint`` gives names and layouts as
    published files of the model have them, which is what vLLM reads; otherwise they are the model's own.
    """
    dtype = DTYPES[settings.model.dtype]
    learner = settings.learner
    parameters = whole_weights(model)
    sizes = [(name, full_numel(parameters[name]) * dtype.itemsize) for name in names]
    for group in group_by_bytes(sizes, learner.bucket_mb * 2**20):
        weights = [with_adapters(name, parameters) for name in group]
        with gathered([p for weight in weights for p in weight], learner.zero_stage):
            if rank > 0:
                continue
            whole = [in_dtype(merged(weight, learner.lora), dtype) for weight in weights]
            named = dict(zip(group, whole, strict=True))
            bucket = pack(list((as_saved(model, named) if as_checkpoint else named).items()))
        yield bucket


def in_dtype(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Rounded to the dtype, unless it counts."""
    return weight.to(dtype) if weight.is_floating_point() else weight


def gathered(parameters: list[torch.Tensor], zero_stage: int) -> AbstractContextManager[object]:
    """Whole tensors on every rank for a moment (ZeRO-3), or nothing to do."""
    if zero_stage < 3:
        return nullcontext()
    import deepspeed

    context: AbstractContextManager[object] = deepspeed.zero.GatheredParameters(parameters)
    return context


def full_numel(parameter: torch.Tensor) -> int:
    """Elements of the whole tensor; a ZeRO-3 parameter is an empty shard between uses."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def file_pieces(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a folder, each as its name and a piece of its content, in order.

    The first piece of every file is empty, so that an empty file is a file, too.
    """
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        with path.open("rb") as content:
            yield name, b""
            while piece := content.read(PIECE_BYTES):
                yield name, piece
