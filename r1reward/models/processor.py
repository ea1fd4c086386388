"""Text and images to model inputs: one processor for all engines, within the recipe's bounds."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from PIL import Image
from transformers import AutoProcessor

from r1reward.data.images import decode_image, image_size
from r1reward.data.media import refuse_sides
from r1reward.data.prompt import ImagePart, PromptPart, Tags, prompt_parts
from r1reward.data.texts import refuse_half_characters
from r1reward.errors import InputError, as_input_error
from r1reward.models.family import ImageTensors, family_of, load_config
from r1reward.models.model_folder import check_model_folder, loading, resolve_model_path
from r1reward.recipe.sections import ModelSection, PromptSection
from r1reward.types import Order, PreferencePair, Prompt, TraceSample


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
        vision = self.family.vision
        limits = vision.limits(config, model.min_image_tokens, model.max_image_tokens)
        for name, value in limits.items():
            setattr(processor.image_processor, name, value)
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.image_token_id: int = config.image_token_id
        self.placeholder_id = vision.placeholder_id(config)
        self.pad_token_id: int = self.tokenizer.pad_token_id or 0
        self.media_token_ids = tuple(
            token_id
            for name in vision.media_tokens
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
        # For the image encoder to look at where no sample has an image.
        self.blank_image = vision.tensors(processor, Image.new("RGB", (28, 28)))

    def render(self, parts: Sequence[PromptPart]) -> str:
        """One user turn of text and images in this order, ready for the answer (the model's template)."""
        content = [
            {"type": "image"} if isinstance(part, ImagePart) else {"type": "text", "text": part}
            for part in parts
        ]
        rendered: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
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
        for number, image in enumerate(pair.images, start=1):
            what = f"{pair.origin}: image {number}"
            refuse_sides(image, self.family.vision.sides, what)
        if len(pair.images) > self.max_images:
            raise InputError(
                f"{pair.origin}: {len(pair.images)} images, more than model.max_images "
                f"({self.max_images}): raise it, or remove the row"
            )
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
        # Of an image that the family's limits allow and its processor does not, this is the last word.
        with as_input_error(f"{pair.origin}: an image", ValueError):
            num_of_images = sum(len(self.expanded(image)) for image in pair.images)
        return Prompt(
            prompt_id=f"{pair.pair_id}-{order}",
            pair=shown,
            order=order,
            text=text,
            token_ids=token_ids,
            num_tokens=len(token_ids) - num_placeholders + num_of_images,
        )

    def expand(self, prompt: Prompt) -> tuple[int, ...]:
        """The prompt's token ids with every image's placeholder expanded, as the engine does it."""
        images = iter(prompt.pair.images)
        expanded: list[int] = []
        for token_id in prompt.token_ids:
            is_image = token_id == self.placeholder_id
            expanded += self.expanded(next(images)) if is_image else (token_id,)
        assert len(expanded) == prompt.num_tokens, "encode counted the image tokens otherwise"
        return tuple(expanded)

    def encode_trace(self, prompt: Prompt, text: str) -> TraceSample:
        """A written trace as the policy would have sampled it: its tokens, then the end of the turn.

        Raises ``InputError`` if the trace is empty, holds a control token or half a surrogate pair, or is
        longer than the policy may answer (``model.max_new_tokens``, the end of the turn included).
        """
        origin = f"{prompt.pair.origin or prompt.prompt_id}: the trace"
        refuse_half_characters(text, origin)
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
        return self.family.vision.expanded(self.processor, *image_size(encoded))

    def num_image_tokens(self, encoded: bytes) -> int:
        """How many features the language model sees for an image, after the vision merger."""
        return self.expanded(encoded).count(self.image_token_id)

    def image_tensors(self, encoded: bytes) -> ImageTensors:
        """One image as the image encoder takes it. Raises ``ValueError`` if it is not readable."""
        return self.family.vision.tensors(self.processor, decode_image(encoded))
