"""The miniature's pairs and traces: labels, splits, balance and the trace language."""

import hashlib
import io
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from PIL import Image

from r1reward.data.prompt import build_judge_prompt
from r1reward.data.verdict import parse_verdict
from r1reward.recipe.choices import SceneSplit
from r1reward.shapes.pairs import make_pairs, make_scenes_and_pairs, read_claims
from r1reward.shapes.plan import difficulty
from r1reward.shapes.scene import (
    COLOURS,
    HELDOUT_SHARE,
    SHAPES,
    Look,
    Scene,
    alter,
    render,
    sample_scene,
    seeded,
)
from r1reward.shapes.trace import TAGS, find, write_analysis, write_trace
from r1reward.types import PreferencePair, Slot
from tools.miniature.corpus import BASE_FAULTS, FAULTLESS, Example, Faults, Kind, sample_example
from tools.miniature.trace_reader import Trace, flags_agree, is_verbose, read_trace

NUM_PAIRS = 600
Made = list[tuple[Scene, PreferencePair]]


@pytest.fixture(scope="module")
def made() -> Made:
    return make_scenes_and_pairs("train", NUM_PAIRS, seed=3)


def num_wrong(scene: Scene, response: str) -> int:
    claims = read_claims(response)
    assert set(claims) == {quadrant for quadrant, _ in scene.objects}
    return sum(claims[quadrant] != look for quadrant, look in scene.objects)


def test_pairs_repeat_from_the_same_seed_only() -> None:
    assert make_pairs("train", 20, seed=5) == make_pairs("train", 20, seed=5)
    assert make_pairs("train", 20, seed=5) != make_pairs("train", 20, seed=6)


# What the shipped weights were trained and measured on. Pixels, not files: another zlib may
# compress the same picture into other bytes.
@pytest.mark.parametrize(
    ("split", "seed", "expected"),
    [
        ("train", 0, "42b52a0384858f0a18aaa75d24e238a9bcd4b80c4328218c8e34a6894f4aed27"),
        ("heldout", 7, "8c8c4586fd898cee1ec1a5ab209e2e29ea14dfc85a04665cfe7a912b6869f064"),
    ],
)
def test_pairs_are_the_ones_the_weights_were_made_for(
    split: SceneSplit, seed: int, expected: str
) -> None:
    ids = []
    for pair in make_pairs(split, 24, seed):
        pixels = tuple(Image.open(io.BytesIO(image)).tobytes() for image in pair.images)
        ids.append(replace(pair, images=pixels).pair_id)
    assert hashlib.sha256(" ".join(ids).encode()).hexdigest() == expected


def test_corpus_is_the_one_the_weights_were_trained_on() -> None:
    rng = seeded("corpus regression")
    kinds: tuple[Kind, ...] = ("caption", "trace", "judge")
    examples = [sample_example(k, BASE_FAULTS, 0.3, rng) for k in kinds for _ in range(50)]
    texts = repr([(example.text, example.response) for example in examples])
    expected = "044becb5fa7392060bd6b875aa314358a008d607b7d8755890b980be30f852a6"
    assert hashlib.sha256(texts.encode()).hexdigest() == expected


def test_labels_are_balanced_exactly(made: Made) -> None:
    assert Counter(pair.preferred for _, pair in made) == {1: NUM_PAIRS // 2, 2: NUM_PAIRS // 2}


def test_label_is_the_response_with_fewer_wrong_objects(made: Made) -> None:
    for scene, pair in made:
        wrong = {1: num_wrong(scene, pair.response_1), 2: num_wrong(scene, pair.response_2)}
        better, worse = wrong[pair.preferred], wrong[3 - pair.preferred]
        assert better < worse
        assert pair.difficulty == difficulty(better, worse)


def test_every_difficulty_occurs(made: Made) -> None:
    counts = Counter(pair.difficulty for _, pair in made)
    assert set(counts) == {1, 2, 3}
    assert min(counts.values()) > NUM_PAIRS / 10
    assert [difficulty(1, 2), difficulty(0, 1), difficulty(0, 2)] == [1, 2, 3]


@pytest.mark.parametrize("slot", [1, 2])
def test_verbosity_says_nothing_about_the_label(made: Made, slot: Slot) -> None:
    longer_preferred = []
    for _, pair in made:
        verbose = (is_verbose(pair.response_1), is_verbose(pair.response_2))
        if pair.preferred == slot and verbose[0] != verbose[1]:
            longer_preferred.append(verbose[slot - 1])
    assert len(longer_preferred) == 0.7 * NUM_PAIRS / 2
    assert sum(longer_preferred) / len(longer_preferred) == pytest.approx(0.5, abs=0.01)


def test_verbose_responses_are_the_longer_ones(made: Made) -> None:
    for _, pair in made:
        verbose = (is_verbose(pair.response_1), is_verbose(pair.response_2))
        if verbose[0] != verbose[1]:
            assert (len(pair.response_1) > len(pair.response_2)) == verbose[0]


@pytest.mark.slow
def test_splits_share_no_scene_and_hold_no_duplicates() -> None:
    scenes: dict[SceneSplit, set[str]] = {}
    splits: tuple[SceneSplit, ...] = ("train", "heldout")
    for split in splits:
        made = make_scenes_and_pairs(split, NUM_PAIRS, seed=3)
        scenes[split] = {scene.description for scene, _ in made}
        assert all(scene.split == split for scene, _ in made)
        assert len({(pair.response_1, pair.response_2) for _, pair in made}) == NUM_PAIRS
        assert {pair.origin for _, pair in made} == {
            f"shapes:{split} row {row}" for row in range(NUM_PAIRS)
        }
    assert not scenes["train"] & scenes["heldout"]


def test_about_one_scene_in_five_is_held_out() -> None:
    looks = [Look(colour, shape) for colour in COLOURS for shape in SHAPES]
    scenes = [Scene((("northwest", a), ("southeast", b))) for a in looks for b in looks]
    share = sum(scene.split == "heldout" for scene in scenes) / len(scenes)
    assert share == pytest.approx(HELDOUT_SHARE, abs=0.04)
    rng = random.Random(0)
    assert {sample_scene("heldout", rng).split for _ in range(50)} == {"heldout"}


def test_alter_always_changes_something() -> None:
    rng, look = random.Random(0), Look("red", "circle")
    altered = {alter(look, rng) for _ in range(500)}
    assert look not in altered
    assert any(a.colour == "red" for a in altered) and any(a.shape == "circle" for a in altered)
    assert any(a.colour != "red" and a.shape != "circle" for a in altered)


def test_picture_shows_each_colour_in_its_quadrant() -> None:
    scene = Scene((("northwest", Look("red", "square")), ("southeast", Look("blue", "circle"))))
    image = render(scene, seeded("picture"))
    assert image.size == (112, 112)
    assert image.getpixel((28, 28)) == COLOURS["red"]
    assert image.getpixel((84, 84)) == COLOURS["blue"]
    for empty in ((84, 28), (28, 84)):
        pixel = image.getpixel(empty)
        assert isinstance(pixel, tuple) and min(pixel) >= 232


def test_pair_holds_a_png_of_the_right_size(made: Made) -> None:
    image = Image.open(io.BytesIO(made[0][1].images[0]))
    assert (image.format, image.size, image.mode) == ("PNG", (112, 112), "RGB")


RED, BLUE, STAR = Look("red", "circle"), Look("blue", "circle"), Look("green", "star")


def test_trace_round_trip() -> None:
    findings = (find("northwest", RED, (RED, BLUE)), find("southeast", STAR, (STAR, STAR)))
    text = write_trace(findings, conclusion=1, choice=2)
    assert text == (
        "<think>northwest: red circle. 1 red circle ok. 2 blue circle wrong.\n"
        "southeast: green star. 1 green star ok. 2 green star ok.\n"
        "Response 1 is better.</think><answer>2</answer>"
    )
    trace = read_trace(text)
    assert (trace.findings, trace.conclusion, trace.choice) == (findings, 1, 2)
    assert trace.well_formed and trace.better_by_flags == 1
    assert all(map(flags_agree, trace.findings))


def test_broken_traces_read_as_what_is_left_of_them() -> None:
    trace = read_trace("<think>northwest: red circle. 1 red star ok. 2 blue circle ok.\nwell")
    assert [f.flags_ok for f in trace.findings] == [(True, True)]
    assert not flags_agree(trace.findings[0])
    assert (trace.conclusion, trace.choice, trace.well_formed) == (None, None, False)
    assert trace.better_by_flags is None
    assert read_trace("").findings == ()


def test_judge_prompt_sees_the_conclusion_line() -> None:
    analysis = write_analysis((find("northwest", RED, (RED, BLUE)),), 1)
    prompt = build_judge_prompt(analysis, 1, "short", num_lines=1)
    assert "Analysis: Response 1 is better.\n" in prompt and "northwest" not in prompt


def corpus_traces(faults: Faults, num_examples: int) -> Iterator[tuple[Example, Trace]]:
    rng = seeded("corpus test")
    for _ in range(num_examples):
        example = sample_example("trace", faults, 0.3, rng)
        yield example, read_trace(example.response)


def test_faultless_corpus_concludes_from_its_flags_and_answers_so() -> None:
    for example, trace in corpus_traces(FAULTLESS, 100):
        assert trace.well_formed
        assert trace.conclusion == trace.better_by_flags == trace.choice
        assert all(map(flags_agree, trace.findings))
        assert example.scene is not None
        assert [(f.quadrant, f.seen) for f in trace.findings] == list(example.scene.objects)


@pytest.mark.slow
def test_base_corpus_has_its_faults_where_it_should() -> None:
    follows: dict[str, list[bool]] = {"biased": [], "other": []}
    slips: list[bool] = []
    slots: list[bool] = []
    for example, trace in corpus_traces(BASE_FAULTS, 3000):
        line = {1: example.text.splitlines()[1], 2: example.text.splitlines()[2]}
        better = trace.better_by_flags
        assert better is not None
        biased = is_verbose(line[3 - better]) and not is_verbose(line[better])
        follows["biased" if biased else "other"].append(trace.conclusion == better)
        slips.append(trace.choice != trace.conclusion)
        slots.append(trace.choice == 1)
    rates = {name: sum(hits) / len(hits) for name, hits in follows.items()}
    assert rates["biased"] == pytest.approx(1 - BASE_FAULTS.verbosity_bias, abs=0.05)
    assert rates["other"] == pytest.approx(1 - BASE_FAULTS.lapse, abs=0.03)
    assert len(follows["biased"]) / 3000 == pytest.approx(0.35, abs=0.03)
    assert sum(slips) / 3000 == pytest.approx(BASE_FAULTS.slip, abs=0.03)
    assert sum(slots) / 3000 == pytest.approx(0.5, abs=0.03)


def test_judge_drills_are_answered_by_comparing_conclusion_and_choice() -> None:
    rng = seeded("judge test")
    words: Counter[str] = Counter()
    for _ in range(200):
        drill = sample_example("judge", FAULTLESS, 0.0, rng)
        analysis, answer, _ = drill.text.rsplit("\n", 2)
        concluded = [n for n in "12" if analysis.endswith(f"Response {n} is better.")]
        same = bool(concluded) and f"response {concluded[0]} is better" in answer
        assert drill.response == ("1" if same else "0")
        words[drill.response] += 1
    assert min(words.values()) > 60


def test_corpus_trace_is_well_formed_in_the_strict_mode() -> None:
    example = sample_example("trace", BASE_FAULTS, 0.3, seeded("strict"))
    assert parse_verdict(example.response, TAGS, "strict").well_formed
