"""What most families share: features, positions, token types and tensors, by what signatures ask for.

Shape legend: B sequences, L positions, S tokens of a packed row, C coordinates of a position.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from r1reward.models.family import Config, Expansion, HfModel, ImageTensors, Processor

if TYPE_CHECKING:
    from r1reward.models.policy import MicroBatch

# Arguments of a model's forward that say which tokens are image features.
TOKEN_TYPES = ("mm_token_type_ids", "token_type_ids")
# Words in the names of a configuration's token ids that stand for media, or open them.
MEDIA_WORDS = ("image", "video", "audio", "vision", "boi", "boa")
# Sizes of images that show how a processor expands them: small, wide, tall.
LOOKED_AT = ((32, 32), (320, 150), (90, 260))


def arguments_of(function: Any) -> frozenset[str]:
    """The names of its arguments."""
    return frozenset(inspect.signature(function).parameters)


# Images -----------------------------------------------------------------------------------------


def image_arguments(config: Config) -> frozenset[str]:
    """What the model's image encoder takes, from its class."""
    model_class = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    return arguments_of(model_class.get_image_features) - {"self", "kwargs"}


def image_tensors(
    processor: Processor, image: Image.Image, arguments: frozenset[str]
) -> ImageTensors:
    """One image as the encoder takes it; the first axis counts images, tiles or patches."""
    made = processor.image_processor(images=[image], return_tensors="pt")
    return {name: made[name] for name in made if name in arguments}


def joined(images: Sequence[ImageTensors]) -> ImageTensors:
    """Several images along the first axis; other axes are padded to the longest where they differ.

    Padding is 0, and -1 for coordinates of patches, as the processors pad them themselves.
    """
    return {
        name: torch.cat(
            padded([image[name] for image in images], -1 if "position_ids" in name else 0)
        )
        for name in images[0]
    }


def padded(tensors: Sequence[torch.Tensor], value: int) -> list[torch.Tensor]:
    """All axes but the first filled up to the largest of all."""
    sizes = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    result = []
    for tensor in tensors:
        missing = [size - own for size, own in zip(sizes, tensor.shape[1:], strict=True)]
        # F.pad counts axes from the last, two numbers each.
        pads = [number for count in reversed(missing) for number in (0, count)]
        result.append(F.pad(tensor, pads, value=value) if any(missing) else tensor)
    return result


def encoded_images(hf: HfModel, images: ImageTensors, is_blank: bool) -> BaseModelOutputWithPooling:
    """What the language model takes as ``mm_encoder_outputs["image"]``, as the encoder returned it.

    What it carries beside the features (those of deeper layers) travels with it. A blank image's
    features are cut to none. They stay part of the graph, so that the tower's weights get gradients of
    zero and not none at all.
    """
    output = hf.model.get_image_features(**images, return_dict=True)
    if is_blank:
        for name in ("pooler_output", "deepstack_features"):
            if output.get(name) is not None:
                output[name] = cut_to_none(output[name])
    return output


def cut_to_none(features: Any) -> Any:
    """The same tensors, or sequences of them, with no entry along their first axis."""
    if isinstance(features, torch.Tensor):
        return features[:0]
    return [cut_to_none(part) for part in features]


# Tokens of images -------------------------------------------------------------------------------


def placeholder_id(processor: Processor) -> int:
    """The token in a rendered prompt that stands for one image before it is expanded."""
    return int(processor.tokenizer.convert_tokens_to_ids(processor.image_token))


def media_token_ids(config: Config) -> tuple[int, ...]:
    """Tokens that stand for media or open them, from all of the configuration's token ids.

    A model must never sample them: some of them crash its positions. Closing tokens do no harm, and
    defaults outside of the vocabulary cannot be sampled.
    """
    settings = config.to_dict() | {"image_token_id": getattr(config, "image_token_id", None)}
    vocabulary = range(config.get_text_config().vocab_size)
    found = {value for name, value in settings.items() if opens_media(name, value)}
    return tuple(sorted(found.intersection(vocabulary)))


def opens_media(name: str, value: object) -> bool:
    is_token = name.endswith(("_token_id", "_token_index")) and isinstance(value, int)
    is_medium = any(word in name for word in MEDIA_WORDS)
    return is_token and is_medium and "_end_" not in name


def expansion_of(processor: Processor, image_token_id: int) -> Expansion:
    """The rule by which the processor expands an image, learned from a few blank ones.

    Where an image is one run of image tokens between fixed ends, the processor counts them from width
    and height alone. Any other processor is shown a blank image of each size that it meets.
    """

    @cache
    def shown(width: int, height: int) -> tuple[int, ...]:
        blank = Image.new("RGB", (width, height))
        made = processor(images=[blank], text=[processor.image_token], add_special_tokens=False)
        return tuple(int(token_id) for token_id in made["input_ids"][0])

    if not hasattr(processor, "_get_num_multimodal_tokens"):
        return shown
    first = LOOKED_AT[0]
    example = shown(*first)
    num_features, start = example.count(image_token_id), example.index(image_token_id)
    head, tail = example[:start], example[start + num_features :]
    # What processors count differs: features, or all tokens. The difference of two is the same.
    num_fixed = counted(processor, *first) - num_features

    @cache
    def by_count(width: int, height: int) -> tuple[int, ...]:
        features = counted(processor, width, height) - num_fixed
        return (*head, *(image_token_id,) * features, *tail)

    is_right = all(by_count(*size) == shown(*size) for size in LOOKED_AT)
    return by_count if is_right else shown


def counted(processor: Processor, width: int, height: int) -> int:
    """The processor's own count of an image's tokens. Raises ``ValueError`` for a shape it refuses."""
    counts = processor._get_num_multimodal_tokens(image_sizes=[(height, width)])
    return int(counts.num_image_tokens[0])


# Positions and token types -------------------------------------------------------------------------


def token_type_arguments(hf: HfModel) -> tuple[str, ...]:
    """The arguments of the model's forward that want to know which tokens are images; none or one."""
    known = arguments_of(hf.model.forward)
    return tuple(name for name in TOKEN_TYPES if name in known)


def positions(hf: HfModel, batch: MicroBatch) -> torch.Tensor:
    """Positions in the padded rows: [C, B, L] where the model has coordinates of its own, or [B, L]."""
    find = getattr(hf.model, "get_rope_index", None)
    if find is None:
        return text_positions(batch)
    offered: dict[str, Any] = {
        "attention_mask": batch.attention_mask_BL,
        "mm_token_type_ids": batch.is_image_BL.long(),
        **(batch.images if batch.has_images else {}),
    }
    known = arguments_of(find)
    wanted = {name: value for name, value in offered.items() if name in known}
    positions_CBL, _ = find(input_ids=batch.input_ids_BL, **wanted)
    return positions_CBL


def packed_positions(hf: HfModel, batch: MicroBatch) -> torch.Tensor:
    """Those of all tokens in one row, restarting with every sample: [1 + C, 1, S], or [1, S].

    The first coordinate of several is the position in the sample's text.
    """
    is_token_BL = batch.attention_mask_BL.bool()
    own = positions(hf, batch)
    if own.dim() == 2:
        return own[is_token_BL][None]
    all_CBL = torch.cat([text_positions(batch)[None], own])
    return all_CBL[:, is_token_BL][:, None]


def text_positions(batch: MicroBatch) -> torch.Tensor:
    """0, 1, 2 and so on in every sample, [B, L]."""
    return (batch.attention_mask_BL.cumsum(dim=1) - 1).clamp(min=0)


# Modules -------------------------------------------------------------------------------------------


def image_encoders(hf: HfModel) -> Iterator[torch.nn.Module]:
    """Modules that see images or hear sound; none of a model of text."""
    for modality in ("image", "audio"):
        encoder = hf.get_encoder(modality=modality)
        # transformers answers with the model itself, or None, where there is none.
        if encoder is not None and encoder is not hf and encoder is not hf.base_model:
            yield encoder
