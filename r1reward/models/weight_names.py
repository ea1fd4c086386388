"""Names and layouts of weights: the model's own, and those of its published files.

transformers renames weights when it loads them, and merges or turns over those of experts. Engines read
published files, so what is published goes the way back.
"""

import torch
from transformers.core_model_loading import revert_weight_conversion

from r1reward.models.family import HfModel


def whole_weights(hf: HfModel) -> dict[str, torch.Tensor]:
    """Everything that a file of the model holds, by the model's own names: parameters and buffers.

    Buffers that are not saved are none of it, and a tied weight is there once.
    """
    weights: dict[str, torch.Tensor] = dict(hf.named_parameters())
    saved = hf.state_dict()
    return weights | {name: buffer for name, buffer in hf.named_buffers() if name in saved}


def as_saved(hf: HfModel, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Some whole weights of a model as its files have them.

    One weight can become several, such as those of each expert. No known model merges several of its
    own into one of a file's, so that any group of weights may be turned by itself.
    """
    saved: dict[str, torch.Tensor] = revert_weight_conversion(hf, weights)
    return {name: weight.contiguous() for name, weight in saved.items()}
