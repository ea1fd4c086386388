"""What is read of a model instead of being listed: images, bounds, tokens, parts, weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from r1reward.errors import InputError
from r1reward.models.family import Vision, family_of, load_config
from r1reward.models.generic import expansion_of, joined, media_token_ids
from r1reward.models.packing_rules import with_packing_decided
from r1reward.models.parts import parts_of
from r1reward.models.policy import (
    LogprobHead,
    MicroBatchBuilder,
    load_hf_model,
    load_policy_model,
)
from r1reward.models.processor import PolicyProcessor
from r1reward.models.weight_names import as_saved, whole_weights
from r1reward.pipeline.check_cells import PAIR, PROMPT, picture
from r1reward.recipe.learner_sections import LearnerSection
from r1reward.types import TraceSample
from tests.tiny_families import FAMILIES, SEEING, parameters, tiny_folder, tiny_section

SIZES = ((28, 28), (64, 48), (48, 64), (400, 90), (90, 400), (333, 777), (1200, 1000), (3000, 2000))
MAX_TOKENS = 128


@pytest.mark.parametrize("name", SEEING)
def test_an_image_is_expanded_as_the_processor_expands_it(name: str) -> None:
    processor = PolicyProcessor(tiny_section(name))
    own = processor.processor
    for size in SIZES:
        blank = Image.new("RGB", size)
        made = own(images=[blank], text=[own.image_token], add_special_tokens=False)
        assert processor.expansion(*size) == tuple(made["input_ids"][0]), size


@pytest.mark.parametrize("name", SEEING)
def test_the_bound_on_image_tokens_holds_for_every_size(name: str) -> None:
    processor = PolicyProcessor(tiny_section(name))
    counts = [processor.expansion(*size).count(processor.image_token_id or 0) for size in SIZES]
    assert max(counts) <= MAX_TOKENS
    if name not in ("gemma3", "llava"):  # always as many
        assert max(counts) > MAX_TOKENS / 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qwen3_vl", {"size": {"shortest_edge": 4 * 32**2, "longest_edge": 128 * 32**2}}),
        ("glm4v", {"size": {"shortest_edge": 4 * 2 * 28**2, "longest_edge": 128 * 2 * 28**2}}),
        ("internvl", {"min_patches": 1, "max_patches": 31}),  # 4 tokens a tile, and the small copy
        ("gemma3", {}),
        ("gemma4", {"max_soft_tokens": 70}),
        ("idefics3", {"size": {"longest_edge": 5 * 64}}),  # 26 tiles of 4 tokens, of 32
    ],
)
def test_bounds_in_the_words_of_each_processor(name: str, words: dict[str, object]) -> None:
    config = load_config(str(tiny_folder(name)))
    vision = family_of(config).vision
    assert vision is not None and vision.limits(config, 4, MAX_TOKENS) == words


@pytest.mark.parametrize(
    ("name", "fewest"), [("internvl", 4), ("gemma3", 4), ("gemma4", 70), ("idefics3", 4)]
)
def test_a_bound_that_no_image_meets_is_refused(name: str, fewest: int) -> None:
    with pytest.raises(
        InputError, match=rf"^model\.max_image_tokens is 3, and .* takes {fewest}: "
    ):
        PolicyProcessor(tiny_section(name, max_image_tokens=3, min_image_tokens=1))


def test_an_image_that_nothing_bounds_is_refused_when_it_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processor = PolicyProcessor(tiny_section("gemma4"))
    monkeypatch.setattr(processor, "bounds_images", False)
    monkeypatch.setattr(processor, "max_image_tokens", 20)
    pair = replace(PAIR, images=(picture(200, 120, seed=0),))
    with pytest.raises(InputError) as error:
        processor.encode(pair, "stored", PROMPT)
    assert str(error.value) == (
        "the check's own pair: image 1 becomes 60 tokens, more than model.max_image_tokens (20): raise "
        "it, or shrink the image"
    )


def test_a_processor_without_a_count_is_shown_blank_images() -> None:
    class Silent:
        """A processor that cannot count."""

        def __init__(self, inner: Any) -> None:
            self.inner, self.image_token = inner, inner.image_token

        def __call__(self, **arguments: Any) -> Any:
            return self.inner(**arguments)

    processor = PolicyProcessor(tiny_section("qwen3_vl"))
    shown = expansion_of(Silent(processor.processor), processor.image_token_id or 0)
    assert [shown(*size) for size in SIZES] == [processor.expansion(*size) for size in SIZES]


def test_images_are_joined_and_padded_as_processors_pad_them() -> None:
    one = {"pixel_values": torch.ones(1, 2, 3), "image_position_ids": torch.ones(1, 2, 2)}
    two = {"pixel_values": torch.ones(2, 1, 3), "image_position_ids": torch.ones(2, 1, 2)}
    both = joined([one, two])
    assert both["pixel_values"].tolist() == [
        [[1.0] * 3] * 2,
        [[1.0] * 3, [0.0] * 3],
        [[1.0] * 3, [0.0] * 3],
    ]
    assert both["image_position_ids"][1].tolist() == [[1.0, 1.0], [-1.0, -1.0]]


# Models of text -------------------------------------------------------------------------------------


def test_a_model_of_text_takes_no_images() -> None:
    processor = PolicyProcessor(tiny_section("llama"))
    pair = replace(PAIR, images=(b"x",), origin="a.jsonl row 7")
    with pytest.raises(InputError) as error:
        processor.encode(pair, "stored", PROMPT)
    assert str(error.value) == (
        "a.jsonl row 7: 1 images, but the model of model.path reads text only: choose a model that sees "
        "images, or remove the row"
    )


def test_the_template_gets_a_string_and_its_arguments() -> None:
    processor = PolicyProcessor(tiny_section("llama", template_arguments={"enable_thinking": True}))
    processor.tokenizer.chat_template = (
        "{{ messages[0]['content'] + '!' }}{% if enable_thinking %}<think>\n{% endif %}"
    )
    assert processor.render(["a", "b"]) == "ab!<think>\n"


def test_a_trace_does_not_repeat_the_tag_that_its_prompt_has_written() -> None:
    processor = PolicyProcessor(tiny_section("llama"))
    plain = processor.encode(PAIR, "stored", PROMPT)
    opened = replace(plain, text=plain.text + "<think>\n")
    text = "<think>red</think><answer>1</answer>"
    whole = processor.encode_trace(plain, text).response_token_ids
    rest = processor.encode_trace(opened, text).response_token_ids
    assert whole == (processor.tokenize("<think>")[0], *rest)


# Micro-batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEEING)
def test_a_batch_without_images_still_runs_the_tower_and_adds_nothing(name: str) -> None:
    model = load_policy_model(tiny_section(name), 64)
    processor = PolicyProcessor(tiny_section(name))
    prompt = processor.expand(processor.encode(PAIR, "stored", PROMPT))
    sample = TraceSample(prompt, (40, 41, 42, 43), ())
    logprobs_BT, _ = model(MicroBatchBuilder(processor).build([sample]))
    logprobs_BT.sum().backward()
    parts = parts_of(model.hf)
    gradients = {name: p.grad for name, p in model.hf.named_parameters() if p.grad is not None}
    seeing = [name for name in gradients if parts[name] in ("vision", "merger")]
    assert len(seeing) > 10
    assert not any(gradients[name].any() for name in seeing)
    assert any(gradients[name].any() for name in gradients if parts[name] == "language")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_belongs_to_a_part(name: str) -> None:
    hf = load_hf_model(tiny_section(name))
    parts = parts_of(hf)
    assert set(parts) == {name for name, _ in hf.named_parameters()}
    sees = family_of(hf.config).sees_images
    assert set(parts.values()) == ({"vision", "merger", "language"} if sees else {"language"})
    for parameter, part in parts.items():
        in_decoder = any(word in parameter for word in ("language_model", "text_model", "lm_head"))
        if sees:
            assert in_decoder is (part == "language"), parameter


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("qwen3_vl", ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>")),
        *[
            pytest.param(name, tokens, marks=pytest.mark.slow)
            for name, tokens in {
                "glm4v": (
                    "<|image|>",
                    "<|video|>",
                    "<|begin_of_image|>",
                    "<|begin_of_video|>",
                ),
                "gemma3": ("<image_soft_token>", "<start_of_image>"),
                "idefics3": ("<image>",),
            }.items()
        ],
        ("gemma4", ("<|image|>", "<|video|>", "<|audio|>", "<|image>")),
        ("llama", ()),
    ],
)
def test_tokens_that_stand_for_media_are_never_sampled(name: str, tokens: tuple[str, ...]) -> None:
    processor = PolicyProcessor(tiny_section(name))
    ids = processor.tokenizer.convert_tokens_to_ids(list(tokens))
    found = media_token_ids(load_config(str(tiny_folder(name))))
    assert set(ids) <= set(found) == set(processor.media_token_ids)
    ordinary = set(processor.tokenize("The answer is 1.</think>")) | {processor.end_of_turn_id}
    assert ordinary.isdisjoint(found)


# Weights --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_published_weights_are_those_of_the_models_files(name: str) -> None:
    """Turned one by one, as a bucket may hold any of them."""
    hf = load_hf_model(tiny_section(name))
    published: dict[str, torch.Tensor] = {}
    for key, weight in whole_weights(hf).items():
        published |= as_saved(hf, {key: weight.detach()})
    (path,) = tiny_folder(name).glob("*.safetensors")
    with safe_open(path, framework="pt") as saved:
        assert set(published) == set(saved.keys())
        for key, weight in published.items():
            assert torch.equal(weight, saved.get_tensor(key)), key


def test_soft_capped_logits_by_hand() -> None:
    head = torch.nn.Linear(2, 3, bias=False)
    head.weight.data = torch.tensor([[1.0, 0.0], [0.0, 4.0], [2.0, 2.0]])
    ours = LogprobHead.replacing(head, 8, softcap=2.0, scale=0.5)
    hidden = torch.tensor([[1.0, 3.0]])
    logits = torch.tanh(torch.tensor([0.5, 6.0, 4.0]) / 2) * 2
    logprobs, _ = ours(hidden, torch.tensor([2]))
    torch.testing.assert_close(logprobs, logits.log_softmax(dim=0)[2:])


# Packing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_auto_packs_where_it_is_right(name: str) -> None:
    learner = LearnerSection(packing="auto")
    decided = with_packing_decided(tiny_section(name), learner)
    assert decided.packing is (name not in ("qwen3_5", "gemma3"))
    assert with_packing_decided(tiny_section(name, attention="eager"), learner).packing is False


@pytest.mark.parametrize("name", parameters(["qwen3_5", "gemma3"]))
def test_packing_that_would_be_wrong_is_refused(name: str) -> None:
    with pytest.raises(InputError) as error:
        with_packing_decided(tiny_section(name), LearnerSection(packing=True))
    assert str(error.value).startswith(
        f"learner.packing: samples of a {name} model cannot share a row: its "
        if name == "qwen3_5"
        else "learner.packing: samples of a gemma3 model cannot share a row: the tokens of an image "
    )
    assert str(error.value).endswith(
        "; set learner.packing to false, or to auto to pack where it is right"
    )


def test_parts_are_counted_once() -> None:
    counts = Counter(parts_of(load_hf_model(tiny_section("qwen3_vl"))).values())
    assert counts == {"vision": 39, "merger": 18, "language": 24}


def test_a_family_without_a_file_has_no_bounds() -> None:
    assert Vision().limits(None, 4, 8) == {}
