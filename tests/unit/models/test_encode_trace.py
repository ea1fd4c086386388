"""A written trace as a sample: the ids the policy would have seen and sampled."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from r1reward.data.images import decode_image
from r1reward.data.prompt import ImagePart, Tags
from r1reward.data.verdict import compose_trace
from r1reward.errors import InputError
from r1reward.models.policy import MicroBatchBuilder
from r1reward.models.processor import PolicyProcessor
from r1reward.shapes.pairs import make_pairs
from r1reward.types import PreferencePair, Prompt
from tests.samples import local_recipe

RECIPE = local_recipe()
TRACE = compose_trace("northwest: red circle.\nResponse 1 is better.", 1, Tags())


@pytest.fixture(scope="module")
def processor() -> PolicyProcessor:
    return PolicyProcessor(RECIPE.model)


def encode(processor: PolicyProcessor, pair: PreferencePair) -> Prompt:
    return processor.encode(pair, "stored", RECIPE.prompt)


@pytest.mark.parametrize("num_images", [0, 1, 2])
def test_prompt_is_expanded_as_the_model_s_own_processor_does(
    processor: PolicyProcessor, num_images: int
) -> None:
    stored = next(p for p in make_pairs("hard_train", 40, seed=1) if len(p.images) == 2)
    prompt = encode(processor, replace(stored, images=stored.images[:num_images]))
    images = [decode_image(image) for image in prompt.pair.images]
    wanted = processor.processor(text=[prompt.text], images=images or None)["input_ids"][0]
    expanded = processor.expand(prompt)
    assert expanded == tuple(wanted)
    assert len(expanded) == prompt.num_tokens
    assert expanded.count(processor.image_token_id) == 16 * num_images


def test_text_and_images_are_rendered_in_the_order_of_the_parts(processor: PolicyProcessor) -> None:
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    shown = processor.render(["First ", ImagePart(0), " then ", ImagePart(1), "."])
    assert f"user\nFirst {image} then {image}.<|im_end|>" in shown


def test_images_of_unequal_size_each_get_their_own_number_of_pads() -> None:
    def encoded(width: int, height: int) -> bytes:
        buffer = BytesIO()
        Image.new("RGB", (width, height), "red").save(buffer, "PNG")
        return buffer.getvalue()

    processor = PolicyProcessor(local_recipe("model.max_image_tokens=100").model)
    (stored,) = make_pairs("train", 1, seed=1)
    prompt = encode(processor, replace(stored, images=(encoded(280, 84), encoded(112, 140))))
    expanded = processor.expand(prompt)
    text = "".join("i" if token == processor.image_token_id else "." for token in expanded)
    assert [len(run) for run in text.split(".") if run] == [10 * 3, 4 * 5]
    sample = processor.encode_trace(prompt, TRACE)
    MicroBatchBuilder(processor).build([sample])  # refuses pads that do not match the features


def test_trace_is_its_tokens_and_the_end_of_the_turn_and_keeps_the_images(
    processor: PolicyProcessor,
) -> None:
    (pair,) = make_pairs("train", 1, seed=1)
    prompt = encode(processor, pair)
    sample = processor.encode_trace(prompt, TRACE)
    assert sample.images == pair.images
    assert sample.prompt_token_ids == processor.expand(prompt)
    assert "".join(processor.token_texts(sample.response_token_ids)) == TRACE + "<|im_end|>"
    # What the model's own chat template writes for the whole conversation, up to the end of turn.
    messages = [
        {"role": "user", "content": "question"},
        {"role": "assistant", "content": TRACE},
    ]
    turn = processor.processor.apply_chat_template(messages, tokenize=False)
    assert turn.rstrip().endswith(TRACE + "<|im_end|>")


@pytest.mark.parametrize(
    "control", ["<|im_end|>", "<|endoftext|>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>"]
)
def test_trace_with_a_control_token_is_refused_by_name(
    processor: PolicyProcessor, control: str
) -> None:
    (stored,) = make_pairs("train", 1, seed=1)
    prompt = encode(processor, replace(stored, origin="traces.jsonl row 7"))
    with pytest.raises(InputError) as error:
        processor.encode_trace(prompt, TRACE.replace("red", control))
    assert "traces.jsonl row 7" in str(error.value) and control in str(error.value)


def test_trace_is_as_long_as_the_policy_may_answer_and_no_longer() -> None:
    (pair,) = make_pairs("train", 1, seed=1)
    length = len(PolicyProcessor(RECIPE.model).tokenize(TRACE)) + 1

    def encoded(max_new_tokens: int) -> int:
        model = RECIPE.model.model_copy(update={"max_new_tokens": max_new_tokens})
        processor = PolicyProcessor(model)
        sample = processor.encode_trace(encode(processor, pair), TRACE)
        return len(sample.response_token_ids)

    assert encoded(length) == length
    with pytest.raises(InputError, match=rf"has {length} tokens .*max_new_tokens \({length - 1}\)"):
        encoded(length - 1)


def test_empty_trace_is_refused(processor: PolicyProcessor) -> None:
    (pair,) = make_pairs("train", 1, seed=1)
    with pytest.raises(InputError, match="trace is empty"):
        processor.encode_trace(encode(processor, pair), "")
