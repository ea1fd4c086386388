"""Whether the samples of a micro-batch may share one row: four facts of the model decide it.

Where one is not given, a packed row gives other log-probs than its samples alone, without an error.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from r1reward.errors import InputError
from r1reward.models.family import HfModel, family_of, load_config
from r1reward.models.generic import arguments_of
from r1reward.models.packing import PACKED_ATTENTION
from r1reward.recipe.learner_sections import LearnerSection
from r1reward.recipe.sections import ModelSection, changed

# The kinds of layers whose attention ``models/packing.py`` cuts between samples.
CUT_LAYERS = {"full_attention", "sliding_attention"}
# Attention of these arguments is another function of queries and keys than the one that is cut.
UNKNOWN_ATTENTION = ("attn_logit_softcapping",)


def packing_refusal(hf: HfModel) -> str | None:
    """Why samples of this model must not share a row, as the end of a sentence; None if they may.

    Looks at configuration and modules only, so that a model on the meta device is enough.
    """
    text = hf.config.get_text_config()
    decoder = hf.get_decoder()
    others = sorted(set(getattr(text, "layer_types", None) or ()) - CUT_LAYERS)
    if others or any(isinstance(module, nn.Conv1d) for module in decoder.modules()):
        kind = others[0] if others else "convolution"
        return f"its {kind} layers carry what they have seen from one sample into the next"
    sees_both_ways = getattr(text, "use_bidirectional_attention", None)
    if sees_both_ways or "token_type_ids" in arguments_of(hf.model.forward):
        return "the tokens of an image attend to later ones, which needs a mask"
    for name in UNKNOWN_ATTENTION:
        if getattr(text, name, None):
            return f"its attention has {name}, which the packed attention does not compute"
    closed = next((module for module in attention_path(hf) if not passes_keywords(module)), None)
    if closed is not None:
        return f"its {type(closed).__name__} does not hand on where samples begin"
    return None


def attention_path(hf: HfModel) -> list[nn.Module]:
    """The modules between the model's forward and the attention function, outermost first."""
    decoder = hf.get_decoder()
    layers: Any = getattr(decoder, "layers", None)
    if not layers:
        return [hf.model, decoder]
    attention = [module for name, module in layers[0].named_children() if name.endswith("attn")]
    return [hf.model, decoder, layers[0], *attention]


def passes_keywords(module: nn.Module) -> bool:
    parameters = inspect.signature(module.forward).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def pack(hf: HfModel) -> None:
    """Replaces the language model's attention by one that is cut between samples.

    Raises ``InputError`` for a model whose samples must not share a row.
    """
    refusal = packing_refusal(hf)
    if refusal is not None:
        raise InputError(
            f"learner.packing: samples of a {hf.config.model_type} model cannot share a row: {refusal}; "
            "set learner.packing to false, or to auto to pack where it is right"
        )
    hf.get_decoder().set_attn_implementation(PACKED_ATTENTION)


def with_packing_decided(model: ModelSection, learner: LearnerSection) -> LearnerSection:
    """The same settings with ``packing`` true or false: ``auto`` packs where it is right.

    Raises ``InputError`` if the recipe asks for packing and the model cannot be packed. Reads the
    model's configuration, no weights.
    """
    if not learner.packing:
        return learner
    config = load_config(model.path)
    hf = family_of(config).without_weights(config)
    if learner.packing is True:
        pack(hf)
    return changed(learner, packing=is_packed(model, learner, packing_refusal(hf)))


def is_packed(model: ModelSection, learner: LearnerSection, refusal: str | None) -> bool:
    """Whether these settings pack the samples of a model with this refusal, or None."""
    if learner.packing == "auto":
        return may_pack(model, refusal)
    return learner.packing


def may_pack(model: ModelSection, refusal: str | None) -> bool:
    """Whether packing changes no number."""
    return model.attention == "sdpa" and refusal is None
