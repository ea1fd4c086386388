"""Planted leaks are found and named; unrelated pairs of one style are not."""

import io
import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from r1reward.data.cleaning.decontaminate import (
    BenchmarkIndex,
    LeakReport,
    LeakSettings,
)
from r1reward.data.cleaning.image_match import fingerprint, residual
from r1reward.data.cleaning.text_match import (
    ShingleIndex,
    jaccard,
    kept_character,
    lsh_bands,
    normalise,
    shingles,
)
from r1reward.data.images import decode_image
from r1reward.shapes.pairs import make_pairs
from r1reward.shapes.scene import COLOURS, SHAPES, Look, Scene, encode_png, render, sample_scene
from r1reward.types import PreferencePair

pytestmark = pytest.mark.slow  # many images are compared

QUESTION = "What is the man on the left holding?"
LONG = (
    "The man on the left of the photograph is holding a large black umbrella with a wooden handle, "
    "while a small brown dog, which seems to be his, waits next to him on the wet pavement in front of a "
    "closed café; behind them two cyclists in yellow jackets pass a parked delivery van, and the street "
    "lamps are already lit although it does not look late."
)
OTHER = (
    "He holds a folded newspaper under his arm and looks towards the bus stop, where several people "
    "stand in line under a glass roof. There is no dog to be seen anywhere, and the café behind him is "
    "open, with guests sitting at three round tables outside in bright sunshine."
)
ROW = PreferencePair(QUESTION, (), LONG, OTHER, 1, source="bench", origin="bench row 1")
SHORT = PreferencePair(
    "How many giraffes are there?",
    (),
    "There are five giraffes.",
    "There are six.",
    1,
    source="bench",
)


def kinds(
    row: PreferencePair, pair: PreferencePair, settings: LeakSettings | None = None
) -> list[str]:
    index = BenchmarkIndex.build([row], settings or LeakSettings())
    return [leak.kind for leak in index.leaks(pair)]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        str.upper,
        lambda text: "\n  ".join(text.split()),
        lambda text: text.replace(",", " -").replace(".", "!").replace(";", " …"),
        lambda text: (
            text.replace("é", "e\u0301").replace("f", "\uff46").replace("the", "t\u200bhe")
        ),
        lambda text: "<image>\n**" + text + "**",
    ],
    ids=["verbatim", "case", "spacing", "punctuation", "unicode", "markup"],
)
def test_the_same_text_in_other_clothes_is_exact(change: Callable[[str], str]) -> None:
    pair = replace(
        ROW, question=change(QUESTION), response_1=change(LONG), response_2=change(OTHER)
    )
    assert kinds(ROW, pair) == ["exact-text"]
    assert kinds(ROW, pair.swapped()) == ["exact-text"]


def test_a_leak_names_the_row_and_how_similar_it_is() -> None:
    (leak,) = BenchmarkIndex.build([SHORT, ROW], LeakSettings()).leaks(ROW.swapped())
    assert (leak.benchmark, leak.origin, leak.key) == ("bench", "bench row 1", ROW.pair_id)
    assert leak.similarity == 1.0


def test_an_edited_response_is_near() -> None:
    pair = replace(ROW, response_1=LONG.replace("large black", "big red"))
    assert kinds(ROW, pair) == ["near-text"]
    assert kinds(ROW, pair.swapped(), LeakSettings(text="both")) == ["near-text"]


def test_one_shared_response_leaks_unless_both_are_asked_for() -> None:
    pair = replace(ROW, response_2="Nothing at all.")
    assert kinds(ROW, pair) == ["near-text"]
    assert kinds(ROW, pair.swapped()) == ["near-text"]
    assert kinds(ROW, pair, LeakSettings(text="both")) == []


def test_one_response_cannot_stand_for_both() -> None:
    row = replace(ROW, response_2=LONG + " Indeed.")
    pair = replace(row, response_2=OTHER)
    assert kinds(row, pair, LeakSettings(text="both")) == []


def test_a_question_alone_or_a_response_alone_is_no_leak() -> None:
    assert kinds(ROW, replace(ROW, response_1="A cat.", response_2="A tree.")) == []
    assert kinds(ROW, replace(ROW, question="Is the café open today, and until when?")) == []


def test_without_text_nothing_is_found_by_text() -> None:
    assert kinds(ROW, ROW, LeakSettings(text="off")) == []


def picture(seed: int) -> bytes:
    rng = random.Random(seed)
    return encode_png(render(sample_scene("heldout", rng), rng))


def test_a_short_text_is_refuted_by_another_image() -> None:
    row = replace(SHORT, images=(picture(1),))
    assert kinds(row, SHORT) == ["exact-text"]
    assert kinds(row, row) == ["exact-text", "exact-image"]
    assert kinds(row, replace(SHORT, images=(picture(2),))) == []
    assert kinds(replace(ROW, images=(picture(1),)), replace(ROW, images=(picture(2),))) == [
        "exact-text"
    ]


def test_an_image_that_shows_nothing_refutes_and_matches_nothing() -> None:
    black = encode_png(Image.new("RGB", (64, 64)))
    assert kinds(replace(SHORT, images=(black,)), replace(ROW, images=(black,))) == []
    assert kinds(replace(SHORT, images=(picture(1),)), replace(SHORT, images=(black,))) == [
        "exact-text"
    ]


def test_an_image_alone_counts_as_the_settings_say() -> None:
    row = replace(ROW, images=(picture(1),))
    asked_otherwise = replace(SHORT, images=(picture(2), picture(1)))
    assert kinds(row, asked_otherwise) == ["exact-image"]
    assert kinds(row, asked_otherwise, LeakSettings(image_alone=False)) == []
    assert kinds(row, asked_otherwise, LeakSettings(image="off")) == []
    same_question = replace(asked_otherwise, question=QUESTION)
    assert kinds(row, same_question, LeakSettings(image_alone=False)) == ["exact-image"]


def jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def resized(image: Image.Image, factor: float) -> bytes:
    return encode_png(image.resize((round(image.width * factor), round(image.height * factor))))


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> bytes:
    width, height = image.size
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    return encode_png(image.crop(tuple(map(round, box))))  # type: ignore[arg-type]


NEAR_COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg 30": lambda image: jpeg(image, 30),
    "jpeg 60": lambda image: jpeg(image, 60),
    "jpeg 95": lambda image: jpeg(image, 95),
    "a third": lambda image: resized(image, 0.3),
    "half": lambda image: resized(image, 0.5),
    "threefold": lambda image: resized(image, 3),
    "cropped": lambda image: cropped(image, 0.02, 0.02, 0.02, 0.02),
    "cropped at a corner": lambda image: cropped(image, 0.02, 0.02, 0, 0),
    "grey": lambda image: encode_png(image.convert("L").convert("RGB")),
    "grey jpeg": lambda image: jpeg(image.convert("L"), 40),
    "cropped jpeg": lambda image: jpeg(decode_image(cropped(image, 0, 0, 0.02, 0.01)), 70),
}


@pytest.mark.parametrize("name", NEAR_COPIES)
def test_a_copy_of_an_image_is_near(name: str) -> None:
    rows = make_pairs("heldout", 40, seed=3)
    index = BenchmarkIndex.build(rows, LeakSettings(text="off"))
    strict = BenchmarkIndex.build(rows, LeakSettings(text="off", image="exact"))
    for row in rows:
        pair = replace(SHORT, images=(NEAR_COPIES[name](decode_image(row.images[0])),))
        (leak,) = index.leaks(pair)
        assert (leak.kind, leak.key) == ("near-image", row.pair_id)
        assert 0.7 <= leak.similarity <= 1
        assert strict.leaks(pair) == []


def test_other_bytes_of_equal_pixels_are_exact() -> None:
    buffer = io.BytesIO()
    decode_image(picture(1)).save(buffer, format="BMP")
    assert kinds(
        replace(ROW, images=(picture(1),)), replace(SHORT, images=(buffer.getvalue(),))
    ) == ["exact-image"]


def test_one_object_of_another_look_in_the_very_same_place_is_another_image() -> None:
    """Far closer than two scenes of the miniature ever are: nothing else differs, not even jitter."""
    rng = random.Random(5)
    for seed in range(60):
        scene = sample_scene("train", rng)
        place, look = rng.choice(scene.objects)
        if seed % 2:
            other = Look(rng.choice([name for name in COLOURS if name != look.colour]), look.shape)
        else:
            other = Look(look.colour, rng.choice([name for name in SHAPES if name != look.shape]))
        changed = Scene(tuple((at, other if at == place else was) for at, was in scene.objects))
        images = [encode_png(render(one, random.Random(seed))) for one in (scene, changed)]
        assert residual(*map(fingerprint, images)) > LeakSettings().max_residual


def test_line_drawings_of_other_figures_are_other_images() -> None:
    def figure(seed: int) -> PreferencePair:
        rng = random.Random(seed)
        image = Image.new("RGB", (500, 400), "white")
        corners = [(rng.uniform(60, 440), rng.uniform(60, 340)) for _ in range(3)]
        ImageDraw.Draw(image).polygon(corners, outline="black", width=2)
        return replace(SHORT, images=(encode_png(image),))

    index = BenchmarkIndex.build(map(figure, range(30)), LeakSettings(text="off"))
    assert [leak for seed in range(100, 160) for leak in index.leaks(figure(seed))] == []
    smaller = resized(decode_image(figure(0).images[0]), 0.5)
    assert [leak.kind for leak in index.leaks(replace(ROW, images=(smaller,)))] == ["near-image"]


def test_unrelated_pairs_of_one_style_do_not_leak() -> None:
    index = BenchmarkIndex.build(make_pairs("heldout", 300, seed=1), LeakSettings())
    pairs = make_pairs("train", 1000, seed=1)
    assert [pair for pair in pairs if index.leaks(pair)] == []


def test_the_report_counts_pairs_rows_and_keeps_examples() -> None:
    rows = [replace(ROW, images=(picture(1),)), replace(SHORT, images=(picture(1),), source="")]
    index = BenchmarkIndex.build(rows, LeakSettings())
    report = LeakReport()
    pairs = [replace(ROW, images=(picture(1),), origin=f"train row {i}") for i in range(30)]
    unrelated = replace(ROW, question="Why?", response_1="So.", response_2="No.")
    for pair in (*pairs, unrelated):
        report.add(pair, index.leaks(pair))
    told = json.loads(json.dumps(report.to_json()))
    assert (told["num_pairs"], told["num_leaking"]) == (31, 30)
    assert told["num_pairs_by_kind"] == {
        "bench": {"exact-image": 30, "exact-text": 30},
        "unnamed": {"exact-image": 30},
    }
    assert told["num_rows_leaked"] == {"bench": 1, "unnamed": 1}
    assert len(told["examples"]["exact-image"]) == 20
    assert told["examples"]["exact-text"][0]["pair_origin"] == "train row 0"
    assert told["examples"]["near-text"] == []


@pytest.mark.parametrize(
    "settings", [{"text": "off", "image": "off"}, {"question_similarity": 0.0}]
)
def test_settings_that_compare_nothing_or_everything_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        LeakSettings(**settings)


def test_an_unreadable_image_is_an_error() -> None:
    index = BenchmarkIndex.build([ROW], LeakSettings())
    with pytest.raises(ValueError, match="not a readable image"):
        index.leaks(replace(ROW, images=(b"no image",)))


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@given(st.text())
def test_the_normal_form_ignores_spacing_at_the_ends_and_full_stops(text: str) -> None:
    if any(kept_character(character) not in ("", " ") for character in normalise(text)):
        assert normalise(f"  {text} .") == normalise(text)


def test_normal_forms() -> None:
    assert normalise("  “Straße”—Nº 5,\t\ufb01ne! ") == "strasse no 5 fine"
    assert normalise("<image 1> What\u2019s <|image_pad|>this?") == "what s this"
    assert normalise("+") != normalise("-")
    assert shingles(normalise("图中有两个人")) == {"图 中 有", "中 有 两", "有 两 个", "两 个 人"}
    assert shingles("a b c d") == {"a b c", "b c d"}
    assert shingles("a b") == {"a b"}


WORDS = st.lists(st.sampled_from(["red", "blue", "dog", "cat", "sits", "runs"]), max_size=12).map(
    " ".join
)


@given(WORDS, WORDS)
def test_similarity_is_the_share_of_common_shingles(first: str, second: str) -> None:
    def brute(text: str) -> set[str]:
        words = text.split()
        return {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}

    one, two = brute(first), brute(second)
    expected = sum(shingle in two for shingle in one) / len([*one, *(two - one)])
    assert jaccard(shingles(first), shingles(second)) == pytest.approx(expected)


@given(st.lists(WORDS, max_size=8), WORDS)
def test_what_the_index_says_is_verified(responses: list[str], asked: str) -> None:
    """A response is found only with its exact similarity, and surely when it is equal."""
    rows = [
        replace(ROW, response_1=text, response_2=f"other {i}") for i, text in enumerate(responses)
    ]
    index = BenchmarkIndex.build(rows, LeakSettings())
    leaks = {leak.key for leak in index.leaks(replace(ROW, response_1=asked, response_2="unlike"))}
    similar = {
        row.pair_id for row in rows if jaccard(shingles(row.response_1), shingles(asked)) >= 0.7
    }
    equal = {row.pair_id for row in rows if row.response_1 == asked}
    assert equal <= leaks <= similar


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.95])
def test_few_texts_at_the_threshold_escape_the_index(threshold: float) -> None:
    bands, rows = lsh_bands(threshold)
    assert 1 - (1 - threshold**rows) ** bands >= 0.99
    size = 200
    common = round(2 * size * threshold / (1 + threshold))
    index = ShingleIndex(threshold)
    for i in range(100):
        index.add((i, 1), {f"{i} {j}" for j in range(size)})
    found = sum(
        (i, 1) in index.propose({f"{i} {j}" for j in range(size - common, 2 * size - common)})
        for i in range(100)
    )
    assert found >= 93


FOLDER = os.environ.get("R1REWARD_REFERENCE")


@pytest.mark.skipif(not FOLDER, reason="R1REWARD_REFERENCE is not set")
def test_the_published_benchmarks_do_not_leak_each_other() -> None:
    assert FOLDER is not None

    def published(name: str) -> list[PreferencePair]:
        lines = (Path(FOLDER) / name).read_text(encoding="utf-8").splitlines()
        rows = map(json.loads, lines)
        return [
            PreferencePair(row["prompt"], (), row["chosen"], row["rejected"], 1, source=name)
            for row in rows
        ]

    vl = published("vl_rewardbench_authors.jsonl")
    index = BenchmarkIndex.build(vl, LeakSettings())
    assert [pair for pair in published("mm_rlhf_rewardbench.jsonl") if index.leaks(pair)] == []
    for pair in vl[::10]:
        assert pair.pair_id in {
            leak.key for leak in index.leaks(pair.swapped()) if leak.kind == "exact-text"
        }
