"""Text and images to model inputs: one processor, with the recipe's pixel bounds, for all engines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoProcessor

from r1reward.data.images import decode_image
from r1reward.data.prompt import Tags, build_prompt
from r1reward.errors import InputError
from r1reward.recipe.sections import ModelSection, PromptSection
from r1reward.runs.storage import RemoteFolder, local_copy
from r1reward.types import Order, PreferencePair, Prompt, TraceSample


def resolve_model_path(path: str, *, with_weights: bool = True) -> str:
    """'shapes' is the built-in miniature, a URL a folder in object storage, which is fetched once a node.

    Everything else is a folder or a hub name.
    """
    if "://" in path:
        copy = local_copy(RemoteFolder(path), lambda name: with_weights or name.endswith(".json"))
        if not (copy / "config.json").is_file():
            raise InputError(f"model.path: {path} is no model folder: it has no config.json")
        return str(copy)
    if path != "shapes":
        return path
    from r1reward.shapes import MODEL_DIR

    return str(MODEL_DIR)


def check_model_folder(path: str) -> None:
    """One clear sentence for a folder that is no model, before an engine starts."""
    resolved = Path(resolve_model_path(path))
    if not resolved.exists():
        if path.startswith((".", "/", "~")) or path.count("/") != 1:
            raise InputError(f"model.path: {path}: no such folder")
        return  # a hub name; transformers says what is wrong with it
    if not (resolved / "config.json").is_file():
        raise InputError(f"model.path: {path} is no model folder: it has no config.json")
    shards = sorted(resolved.glob("*.safetensors"))
    if not shards:
        raise InputError(f"model.path: {path} is no model folder: it has no *.safetensors weights")
    for shard in shards:
        try:
            safe_open(shard, framework="pt")
        except (OSError, SafetensorError) as error:
            raise InputError(f"model.path: {shard} is damaged: {error}") from error
    model_type = AutoConfig.from_pretrained(resolved).model_type
    if model_type != "qwen2_5_vl":
        raise InputError(f"model.path: {path} holds a {model_type} model; qwen2_5_vl is supported")


class PolicyProcessor:
    """Tokenizer, chat template and image processor of one model folder.

    Raises ``InputError`` if the folder is not a model that can be loaded.
    """

    def __init__(self, model: ModelSection) -> None:
        check_model_folder(model.path)
        path = resolve_model_path(model.path)
        try:
            processor: Any = AutoProcessor.from_pretrained(path)
            config = AutoConfig.from_pretrained(path)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"model.path: {model.path} cannot be loaded: {reason}") from error
        processor.image_processor.size = {
            "shortest_edge": model.min_pixels,
            "longest_edge": model.max_pixels,
        }
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.image_token_id: int = config.image_token_id
        self.pad_token_id: int = self.tokenizer.pad_token_id or 0
        self.media_token_ids = tuple(
            token_id
            for name in ("image_token_id", "video_token_id", "vision_start_token_id")
            if (token_id := getattr(config, name, None)) is not None
        )
        self.end_of_turn_id: int = self.tokenizer.eos_token_id
        # Also the media tokens a tokenizer does not mark as special.
        self.control_token_ids = frozenset(self.media_token_ids) | {
            token_id
            for token_id, token in self.tokenizer.added_tokens_decoder.items()
            if token.special or token.content.startswith("<|")
        }
        self.max_new_tokens = model.max_new_tokens
        self.token_text = cache(self.tokenizer.decode)
        self.max_images = model.max_images
        self.merge_area: int = processor.image_processor.merge_size**2

    def render(self, text: str, num_images: int) -> str:
        """One user turn, images before text, ready for the answer (chat template of the model)."""
        content = [{"type": "image"}] * num_images + [{"type": "text", "text": text}]
        rendered: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return rendered

    def encode(self, pair: PreferencePair, order: Order, settings: PromptSection) -> Prompt:
        """The pair in one order as a prompt.

        Raises ``InputError`` if an image cannot be read, or if there are more than the engine takes.
        """
        if len(pair.images) > self.max_images:
            raise InputError(
                f"{pair.origin}: {len(pair.images)} images, more than model.max_images "
                f"({self.max_images}): raise it, or remove the row"
            )
        shown = pair if order == "stored" else pair.swapped()
        tags = Tags(settings.think_tag, settings.answer_tag)
        text = self.render(build_prompt(shown, settings.template, tags), len(pair.images))
        token_ids = self.tokenize(text)
        num_pads = token_ids.count(self.image_token_id)
        if num_pads != len(pair.images):
            raise InputError(
                f"{pair.origin}: the text carries {num_pads - len(pair.images)} image tokens of its own"
            )
        num_features = sum(self.num_image_tokens(image) for image in pair.images)
        return Prompt(
            prompt_id=f"{pair.pair_id}-{order}",
            pair=shown,
            order=order,
            text=text,
            token_ids=token_ids,
            num_tokens=len(token_ids) - num_pads + num_features,
        )

    def expand(self, prompt: Prompt) -> tuple[int, ...]:
        """The prompt's token ids with one pad an image feature, as the engine expands them."""
        images = iter(prompt.pair.images)
        expanded: list[int] = []
        for token_id in prompt.token_ids:
            is_image = token_id == self.image_token_id
            expanded += [token_id] * (self.num_image_tokens(next(images)) if is_image else 1)
        assert len(expanded) == prompt.num_tokens, "encode counted the image tokens otherwise"
        return tuple(expanded)

    def encode_trace(self, prompt: Prompt, text: str) -> TraceSample:
        """A written trace as the policy would have sampled it: its tokens, then the end of the turn.

        Raises ``InputError`` if the trace is empty, holds a control token, or is longer than the
        policy may answer (``model.max_new_tokens``, the end of the turn included).
        """
        origin = f"{prompt.pair.origin or prompt.prompt_id}: the trace"
        token_ids = self.tokenize(text)
        if not token_ids:
            raise InputError(f"{origin} is empty: remove the row")
        for token_id in token_ids:
            if token_id in self.control_token_ids:
                raise InputError(
                    f"{origin} holds the control token {self.token_text(token_id)}, which would end "
                    "the turn or stand for an image: remove it from the text"
                )
        if len(token_ids) + 1 > self.max_new_tokens:
            raise InputError(
                f"{origin} has {len(token_ids) + 1} tokens with the end of the turn, more than "
                f"model.max_new_tokens ({self.max_new_tokens}): raise it, or remove the row"
            )
        return TraceSample(
            self.expand(prompt), (*token_ids, self.end_of_turn_id), prompt.pair.images
        )

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids of rendered text, control tokens included."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def token_texts(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """The text of every token by itself."""
        return tuple(self.token_text(token_id) for token_id in token_ids)

    def num_image_tokens(self, encoded: bytes) -> int:
        """How many tokens the language model sees for an image, after the vision merger."""
        image = decode_image(encoded)
        image_processor = self.processor.image_processor
        patches = image_processor.get_number_of_image_patches(image.height, image.width)
        return int(patches) // self.merge_area

    def pixels(self, encoded: bytes) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches [P, D] of one image and its grid [1, 3] (time, height, width)."""
        features = self.processor.image_processor(
            images=[decode_image(encoded)], return_tensors="pt"
        )
        return features["pixel_values"], features["image_grid_thw"]
