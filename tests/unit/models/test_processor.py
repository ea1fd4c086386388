"""What the model cannot be given is named with its row; whatever validate passes can be encoded."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from r1reward.data.media import STRICTEST_SIDES, SideLimits
from r1reward.data.stores.store import read_pairs
from r1reward.data.stores.validate import validate
from r1reward.errors import DataError, InputError
from r1reward.models.family import MODULES, Family
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.sections import PromptSection
from r1reward.shapes.pairs import make_pairs
from tests.image_files import encoded
from tests.samples import local_recipe

CASES = Path(__file__).parents[2] / "cases"
PROMPT = PromptSection(template="short")
PAIR = make_pairs("train", 1, seed=0)[0]


@pytest.fixture(scope="module")
def processor() -> PolicyProcessor:
    return PolicyProcessor(local_recipe().model)


def test_the_strictest_sides_are_those_that_every_family_takes() -> None:
    families: list[Family] = [import_module(name).FAMILIES[kind] for kind, name in MODULES.items()]
    sides = [family.vision.sides for family in families if family.vision is not None]
    assert (
        SideLimits(
            max_aspect=min(limits.max_aspect for limits in sides),
            min_side=max(limits.min_side for limits in sides),
        )
        == STRICTEST_SIDES
    )


@pytest.mark.parametrize("name", ["thin.jsonl", "lone_surrogate.jsonl"])
def test_rows_that_ended_training_are_found_by_validate(name: str) -> None:
    report = validate(CASES / name)
    assert sum(report.dropped.values()) == report.num_read == 1
    ((sentence,),) = (rows for rows in report.examples.values() if rows)
    assert sentence.startswith(f"{CASES / name} row 1: ")


def test_an_image_that_the_processor_refuses_names_its_row(processor: PolicyProcessor) -> None:
    (pair,) = read_pairs(CASES / "thin.jsonl", None, None)
    with pytest.raises(DataError) as error:
        processor.encode(pair, "stored", PROMPT)
    assert str(error.value) == (
        f"{CASES / 'thin.jsonl'} row 1: image 1 is 1 x 201; one side may be 200 times the other: "
        "crop it, or remove the row"
    )


@pytest.mark.parametrize(
    "size", [(1, 1), (2, 1), (27, 27), (200, 1), (1, 200), (400, 2), (5000, 30)]
)
def test_the_family_allows_what_its_processor_takes(
    processor: PolicyProcessor, size: tuple[int, int]
) -> None:
    pair = replace(PAIR, images=(encoded(Image.new("RGB", size)),))
    prompt = processor.encode(pair, "stored", PROMPT)
    assert len(processor.expand(prompt)) == prompt.num_tokens
    num_patches = len(processor.image_tensors(pair.images[0])["pixel_values"])
    assert num_patches == 4 * processor.num_image_tokens(pair.images[0])


def test_a_processor_that_is_stricter_than_its_family_says_names_the_row(
    processor: PolicyProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert processor.family.vision is not None
    vision = replace(processor.family.vision, sides=SideLimits(max_aspect=1000))
    monkeypatch.setattr(processor, "family", replace(processor.family, vision=vision))
    pair = replace(PAIR, images=(encoded(Image.new("RGB", (1, 201))),), origin="a.jsonl row 7")
    with pytest.raises(InputError, match=r"^a\.jsonl row 7: an image: absolute aspect ratio"):
        processor.encode(pair, "stored", PROMPT)


def test_images_stand_behind_the_text_where_the_prompt_wants_it(
    processor: PolicyProcessor,
) -> None:
    behind = PromptSection(template="short", images_last=True)
    before, after = (processor.encode(PAIR, "stored", prompt) for prompt in (PROMPT, behind))
    assert before.text.index("image_pad") < before.text.index(PAIR.question)
    assert after.text.index("image_pad") > after.text.index("Which is better?")
    assert sorted(before.token_ids) == sorted(after.token_ids)
    assert before.num_tokens == after.num_tokens


@pytest.mark.parametrize("name", ["question", "response_1", "response_2"])
@pytest.mark.parametrize("half", ["\ud83d", "\ude00", "\ude00\ud83d"])
def test_half_a_character_names_its_text(processor: PolicyProcessor, name: str, half: str) -> None:
    pair = replace(PAIR, **{name: f"ab{half}c"}, origin="a.jsonl row 7")  # type: ignore[arg-type]
    with pytest.raises(DataError) as error:
        processor.encode(pair, "stored", PROMPT)
    assert str(error.value) == (
        f"a.jsonl row 7: {name} holds half a character ({half[0]!r} after 2 others); "
        "`r1reward data import` cleans text, or remove the row"
    )


def test_a_whole_character_outside_the_first_plane_is_read(tmp_path: Path) -> None:
    row = {
        "question": "x\U0001f600",
        "images": [],
        "response_1": "a",
        "response_2": "b",
        "preferred": 1,
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(row))  # as \ud83d\ude00
    assert not validate(tmp_path / "a.jsonl").dropped


SIDES = st.integers(1, 40) | st.integers(190, 420)
TEXTS = st.text(st.characters(exclude_categories=()), min_size=1, max_size=12) | st.sampled_from(
    ["<|image_pad|>", "<|im_end|>", "\x00", "\ud83d", "x\udc00", "\ufeff", " "]
)


@given(size=st.tuples(SIDES, SIDES), texts=st.tuples(TEXTS, TEXTS, TEXTS))
@example(size=(1, 201), texts=("q", "a", "b"))
@example(size=(2, 401), texts=("q", "a", "b"))
@example(size=(9, 9), texts=("q", "a\ud800", "b"))
def test_whatever_validate_passes_can_be_encoded(
    processor: PolicyProcessor, size: tuple[int, int], texts: tuple[str, str, str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        Path(folder, "a.png").write_bytes(encoded(Image.new("RGB", size)))
        names = ("question", "response_1", "response_2")
        row = dict(zip(names, texts, strict=True)) | {"images": ["a.png"], "preferred": 1}
        path.write_text(json.dumps(row))
        if validate(path).dropped:
            with pytest.raises(DataError, match="row 1: "):
                read_and_encode(processor, path)
        else:
            read_and_encode(processor, path)


def read_and_encode(processor: PolicyProcessor, path: Path) -> None:
    (pair,) = read_pairs(path, None, None)
    for order in ("stored", "swapped"):
        prompt = processor.encode(pair, order, PROMPT)
        assert len(processor.expand(prompt)) == prompt.num_tokens
    processor.image_tensors(pair.images[0])


def test_half_a_character_in_a_trace_names_its_row(processor: PolicyProcessor) -> None:
    prompt = processor.encode(replace(PAIR, origin="a.jsonl row 7"), "stored", PROMPT)
    with pytest.raises(DataError, match=r"^a\.jsonl row 7: the trace holds half a character"):
        processor.encode_trace(prompt, "<think>\ud83d</think><answer>1</answer>")


@pytest.mark.parametrize("name", ["source", "category", "group", "meta"])
def test_half_a_character_beside_the_texts_is_found_too(name: str, tmp_path: Path) -> None:
    """They end up in Parquet files of a run, which cannot hold it."""
    row = {"question": "q", "images": [], "response_1": "a", "response_2": "b", "preferred": 1}
    (tmp_path / "a.jsonl").write_text(json.dumps(row | {name: "x\ud83d"}))
    assert validate(tmp_path / "a.jsonl").dropped == {"half a character": 1}
