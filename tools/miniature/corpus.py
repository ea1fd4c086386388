"""The pre-training corpus: captions, comparison traces, copying drills and judge drills.

The base model is to play the part of the paper's Qwen2.5-VL-7B-Instruct: it sees, describes,
flags and judges well, but concludes badly from its own analysis, and in a systematic way. So the
comparison traces of the last phase carry three faults on purpose:

    verbosity bias   when the better response is terse and the other verbose, the conclusion
                     names the verbose one more often than not: greedy decoding is wrong there,
                     and reinforcement has something to teach
    lapses           elsewhere, one conclusion in ten contradicts the flags
    slips            the digit in the answer contradicts the conclusion line now and then
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from r1reward.data.prompt import JUDGE_TEMPLATES, TEMPLATES, build_judge_prompt, build_prompt
from r1reward.recipe.choices import SceneSplit
from r1reward.shapes.pairs import NUMBER_WORDS, QUESTIONS, Response, make_response, wrong_looks
from r1reward.shapes.plan import FILLERS, VERBOSITY_PLAN, sample_error_counts
from r1reward.shapes.scene import (
    COLOURS,
    QUADRANTS,
    SHAPES,
    Look,
    Scene,
    sample_look,
    sample_scene,
)
from r1reward.shapes.trace import TAGS, Finding, find, write_analysis, write_line, write_trace
from r1reward.types import PreferencePair, Slot

CAPTION_PROMPT = "Describe the picture."
Kind = Literal["caption", "trace", "judge"]


@dataclass(frozen=True)
class Faults:
    """How often the corpus concludes or answers against its own analysis."""

    lapse: float
    verbosity_bias: float
    slip: float


FAULTLESS = Faults(lapse=0.0, verbosity_bias=0.0, slip=0.0)
BASE_FAULTS = Faults(lapse=0.1, verbosity_bias=0.62, slip=0.13)


@dataclass(frozen=True)
class Example:
    """A user turn, the assistant's turn, and the picture they are about, if any."""

    kind: Kind
    text: str
    response: str
    scene: Scene | None


def other(slot: Slot) -> Slot:
    return 1 if slot == 2 else 2


def caption(scene: Scene) -> Example:
    lines = [f"{quadrant}: {look}." for quadrant, look in scene.objects]
    return Example("caption", CAPTION_PROMPT, "\n".join(lines), scene)


def comparison(scene: Scene, faults: Faults, hard_copy: float, rng: random.Random) -> Example:
    """A pair with its trace. In a share ``hard_copy`` the responses are about something else:
    only a model that reads them, rather than the picture, can write down what they claim.
    """
    preferred: Slot = 1 if rng.random() < 0.5 else 2
    verbosity = rng.choice(VERBOSITY_PLAN)
    if rng.random() < hard_copy:
        claims = unrelated_claims(scene, rng)
    else:
        counts = sample_error_counts(len(scene.objects), rng)
        claims = [wrong_looks(scene, count, rng) for count in counts]
    better, worse = (
        make_response(looks, verbosity in (name, "both"), rng)
        for looks, name in zip(claims, ("preferred", "other"), strict=True)
    )
    first, second = (better, worse) if preferred == 1 else (worse, better)
    pair = PreferencePair(
        rng.choice(QUESTIONS), (), first.text(scene), second.text(scene), preferred
    )
    conclusion = conclude(preferred, better, worse, faults, rng)
    choice = other(conclusion) if rng.random() < faults.slip else conclusion
    trace = write_trace(find_all(scene, first, second), conclusion, choice)
    return Example("trace", build_prompt(pair, "short", TAGS), trace, scene)


def unrelated_claims(scene: Scene, rng: random.Random) -> list[tuple[Look, ...]]:
    """Claims of which about one in three is true, fewer wrong in the first list."""
    while True:
        claims = [
            tuple(look if rng.random() < 0.35 else sample_look(rng) for _, look in scene.objects)
            for _ in range(2)
        ]
        wrong = [
            sum(a != b for a, (_, b) in zip(looks, scene.objects, strict=True)) for looks in claims
        ]
        if wrong[0] != wrong[1]:
            return claims if wrong[0] < wrong[1] else claims[::-1]


def find_all(scene: Scene, first: Response, second: Response) -> tuple[Finding, ...]:
    looks = zip(scene.objects, first.looks, second.looks, strict=True)
    return tuple(find(quadrant, seen, (one, two)) for (quadrant, seen), one, two in looks)


def conclude(
    preferred: Slot, better: Response, worse: Response, faults: Faults, rng: random.Random
) -> Slot:
    biased = better.filler is None and worse.filler is not None
    wrong = rng.random() < (faults.verbosity_bias if biased else faults.lapse)
    return other(preferred) if wrong else preferred


def judge_drill(scene: Scene, rng: random.Random) -> Example:
    """The consistency judge's question about the end of an analysis, answered 1 or 0."""
    conclusion: Slot = 1 if rng.random() < 0.5 else 2
    match = rng.random() < 0.5
    example = comparison(scene, FAULTLESS, 0.2, rng)
    lines = example.response.removeprefix("<think>").split("\n")[:-1]
    analysis = "\n".join([*lines, f"Response {conclusion} is better."])
    if not match and rng.random() < 0.15:
        analysis = "\n".join(lines)  # cut short before it concluded: supports no answer
    choice = conclusion if match else other(conclusion)
    num_lines = rng.choice((1, 1, 2, 3))
    text = build_judge_prompt(analysis, choice, "short", num_lines)
    return Example("judge", text, "1" if match else "0", None)


def sample_example(
    kind: Kind, faults: Faults, hard_copy: float, rng: random.Random, split: SceneSplit = "train"
) -> Example:
    scene = sample_scene(split, rng)
    match kind:
        case "caption":
            return caption(scene)
        case "trace":
            return comparison(scene, faults, hard_copy, rng)
        case "judge":
            return judge_drill(scene, rng)


def language() -> Iterator[str]:
    """Texts that hold every word of the miniature, in every position it can take."""
    looks = [Look(colour, shape) for colour in COLOURS for shape in SHAPES]
    yield from (f" {look}." for look in looks)
    for quadrant in QUADRANTS:
        yield f" {quadrant} red circle, {quadrant}."
        findings = (find(quadrant, looks[0], (looks[0], looks[1])),)
        yield write_line(findings[0]) + "\n" + write_analysis(findings, 1)
    sentences = (*QUESTIONS, *FILLERS, "Response 1 is better.")
    yield from (*sentences, *(f" {sentence}" for sentence in sentences))
    yield from NUMBER_WORDS.values()
    yield from TEMPLATES["short"].split("{question}")
    fields = {"question": "", "response_1": "", "response_2": ""}
    yield TEMPLATES["short"].format(**fields)
    for digit in ("0", "1", "2"):
        yield JUDGE_TEMPLATES["short"].format(conclusion="", choice=digit)
        yield f"{digit} {digit}"
    yield "user\nassistant\n"
