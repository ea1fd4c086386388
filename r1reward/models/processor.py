"""Text and images to model inputs: one processor for all engines, within the recipe's bounds."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from PIL import Image
from transformers import AutoProcessor

from r1reward.data.images import decode_image, image_size
from r1reward.data.media import refuse_sides
from r1reward.data.prompt import ImagePart, PromptPart, Tags, opened_tag, prompt_parts
from r1reward.data.texts import refuse_half_characters
from r1reward.errors import InputError, as_input_error
from r1reward.models.family import Config, ImageTensors, family_of, load_config
from r1reward.models.generic import (
    expansion_of,
    image_arguments,
    image_tensors,
    media_token_ids,
    placeholder_id,
)
from r1reward.models.model_folder import check_model_folder, loading, resolve_model_path
from r1reward.recipe.sections import ModelSection, PromptSection
from r1reward.types import Order, PreferencePair, Prompt, TraceSample

SMALL = (28, 28)


class PolicyProcessor:
    """Tokenizer, chat template and image processor of one model folder.

    Raises ``InputError`` if the folder is not a model that can be loaded.
    """

    def __init__(self, model: ModelSection) -> None:
        check_model_folder(model.path)
        path = resolve_model_path(model.path)
        with loading(f"{model.path} cannot be loaded"):
            processor: Any = AutoProcessor.from_pretrained(path)
            config = load_config(model.path)
        self.family = family_of(config)
        self.processor = processor
        # Of a model of text transformers loads the tokenizer alone.
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.template_arguments = dict(model.template_arguments)
        self.max_image_tokens = model.max_image_tokens
        self.image_token_id: int | None = None
        self.placeholder_id: int | None = None
        # For the image encoder to look at where no sample has an image.
        self.blank_image: ImageTensors = {}
        # Whether an image's first and last tokens are ordinary text, which may merge with the prompt's.
        self.merges_into_text = False
        self.media_token_ids = media_token_ids(config)
        if self.family.vision is not None:
            self.look_at_images(config, model)
        self.pad_token_id: int = self.tokenizer.pad_token_id or 0
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

    def look_at_images(self, config: Config, model: ModelSection) -> None:
        """What is known of images beforehand: bounds, arguments of the encoder, the rule of expansion."""
        vision = self.family.vision
        assert vision is not None, "called for models that see images"
        limits = vision.limits(config, model.min_image_tokens, model.max_image_tokens)
        # Thin images may still exceed the bound a little: a side has at least one patch.
        self.bounds_images = bool(limits)
        for name, value in limits.items():
            setattr(self.processor.image_processor, name, value)
        image_token_id = int(config.image_token_id)
        self.image_token_id = image_token_id
        self.placeholder_id = placeholder_id(self.processor)
        self.image_arguments = image_arguments(config)
        if vision.expansion is not None:
            self.expansion = vision.expansion(self.processor)
        else:
            self.expansion = expansion_of(self.processor, image_token_id)
        known = self.tokenizer.added_tokens_decoder
        special = {token_id for token_id, token in known.items() if token.special}
        example = self.expansion(*SMALL)
        self.merges_into_text = not {example[0], example[-1]} <= special | {image_token_id}
        self.blank_image = image_tensors(
            self.processor, Image.new("RGB", SMALL), self.image_arguments
        )

    def render(self, parts: Sequence[PromptPart]) -> str:
        """One user turn of text and images in this order, ready for the answer (the model's template)."""
        content: str | list[dict[str, str]] = [
            {"type": "image"} if isinstance(part, ImagePart) else {"type": "text", "text": part}
            for part in parts
        ]
        if not self.family.sees_images:
            # Templates of models of text take a string.
            content = "".join(part for part in parts if isinstance(part, str))
        rendered: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=False,
            add_generation_prompt=True,
            **self.template_arguments,
        )
        return rendered

    def encode(self, pair: PreferencePair, order: Order, settings: PromptSection) -> Prompt:
        """The pair in one order as a prompt.

        Raises ``InputError``, which names the row, for what the model cannot be given: an unreadable
        image or one whose sides its processor refuses, more images than the engine takes, half a
        surrogate pair in a text.
        """
        for name in ("question", "response_1", "response_2"):
            refuse_half_characters(getattr(pair, name), f"{pair.origin}: {name}")
        self.refuse_images(pair)
        shown = pair if order == "stored" else pair.swapped()
        tags = Tags(settings.think_tag, settings.answer_tag)
        text = self.render(prompt_parts(shown, settings.template, tags, settings.images_last))
        token_ids = self.tokenize(text)
        num_placeholders = token_ids.count(self.placeholder_id)
        if num_placeholders != len(pair.images):
            raise InputError(
                f"{pair.origin}: the text carries {num_placeholders - len(pair.images)} image tokens "
                "of its own"
            )
        return Prompt(
            prompt_id=f"{pair.pair_id}-{order}",
            pair=shown,
            order=order,
            text=text,
            token_ids=token_ids,
            num_tokens=self.count_tokens(text, token_ids, pair),
        )

    def refuse_images(self, pair: PreferencePair) -> None:
        """Raises ``InputError`` for images that the model does not take."""
        vision = self.family.vision
        if vision is None and pair.images:
            raise InputError(
                f"{pair.origin}: {len(pair.images)} images, but the model of model.path reads text only: "
                "choose a model that sees images, or remove the row"
            )
        for number, image in enumerate(pair.images, start=1):
            assert vision is not None
            refuse_sides(image, vision.sides, f"{pair.origin}: image {number}")
        if len(pair.images) > self.max_images:
            raise InputError(
                f"{pair.origin}: {len(pair.images)} images, more than model.max_images "
                f"({self.max_images}): raise it, or remove the row"
            )

    def count_tokens(self, text: str, token_ids: Sequence[int], pair: PreferencePair) -> int:
        """Tokens of a prompt, images expanded. Raises ``InputError`` for an image that is too large."""
        counts = []
        # Of an image that the family's limits allow and its processor does not, this is the last word.
        with as_input_error(f"{pair.origin}: an image", ValueError):
            counts = [len(self.expanded(image)) for image in pair.images]
        for number, image in enumerate(pair.images, start=1):
            features = self.num_image_tokens(image)
            if not self.bounds_images and features > self.max_image_tokens:
                raise InputError(
                    f"{pair.origin}: image {number} becomes {features} tokens, more than "
                    f"model.max_image_tokens ({self.max_image_tokens}): raise it, or shrink the image"
                )
        if self.merges_into_text and pair.images:
            return len(self.expanded_as_text(text, pair.images))
        return len(token_ids) - len(counts) + sum(counts)

    def expand(self, prompt: Prompt) -> tuple[int, ...]:
        """The prompt's token ids with every image's placeholder expanded, as the engine does it."""
        if self.merges_into_text and prompt.pair.images:
            return self.expanded_as_text(prompt.text, prompt.pair.images)
        images = iter(prompt.pair.images)
        expanded: list[int] = []
        for token_id in prompt.token_ids:
            is_image = token_id == self.placeholder_id
            expanded += self.expanded(next(images)) if is_image else (token_id,)
        assert len(expanded) == prompt.num_tokens, "encode counted the image tokens otherwise"
        return tuple(expanded)

    def expanded_as_text(self, text: str, images: Sequence[bytes]) -> tuple[int, ...]:
        """The same where line breaks around an image become one token with those of the text."""
        placeholder = self.token_text(self.placeholder_id)
        between = text.split(placeholder)
        expansions = [self.tokenizer.decode(self.expanded(image)) for image in images]
        pairs = zip(between[1:], expansions, strict=True)
        return self.tokenize(between[0] + "".join(image + rest for rest, image in pairs))

    def encode_trace(self, prompt: Prompt, text: str) -> TraceSample:
        """A written trace as the policy would have sampled it: its tokens, then the end of the turn.

        Raises ``InputError`` if the trace is empty, holds a control token or half a surrogate pair, or is
        longer than the policy may answer (``model.max_new_tokens``, the end of the turn included).
        """
        origin = f"{prompt.pair.origin or prompt.prompt_id}: the trace"
        refuse_half_characters(text, origin)
        opened = opened_tag(prompt.text)
        if opened:
            # The prompt has written the trace's first tag.
            text = text.lstrip().removeprefix(opened)
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

    def expanded(self, encoded: bytes) -> tuple[int, ...]:
        """The token ids that an image stands for in the model's input. Reads the image's header only."""
        return self.expansion(*image_size(encoded))

    def num_image_tokens(self, encoded: bytes) -> int:
        """How many features the language model sees for an image, after the vision merger."""
        return self.expanded(encoded).count(self.image_token_id or 0)

    def image_tensors(self, encoded: bytes) -> ImageTensors:
        """One image as the image encoder takes it. Raises ``ValueError`` if it is not readable."""
        return image_tensors(self.processor, decode_image(encoded), self.image_arguments)
