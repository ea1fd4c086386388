"""The miniature's scripted teacher, asked by the annotation over its own server."""

import asyncio
from collections import defaultdict
from pathlib import Path
from statistics import mean

import httpx2
import pytest

from r1reward.data.attempts import count_levels, read_annotations
from r1reward.engines.chat_client import ChatClient
from r1reward.engines.teachers import EndpointClient
from r1reward.interfaces import Sampling
from r1reward.pipeline.annotation import annotate
from r1reward.recipe.pipeline_sections import AnnotateSection, EndpointTeacher
from r1reward.recipe.sections import PromptSection
from r1reward.shapes.pairs import make_scenes_and_pairs
from r1reward.shapes.teacher import NOISE, Known, answer, make_book, prompt_key, running_teacher
from tools.miniature.trace_reader import flags_agree, read_trace

MADE = make_scenes_and_pairs("train", 240, seed=3)
PAIRS = [pair for _, pair in MADE]


def annotate_with(url: str, path: Path, max_attempts: int = 3) -> None:
    section = AnnotateSection.model_validate(
        {
            "teacher": {"type": "openai", "url": url, "model": "scripted", "max_concurrent": 8},
            "max_attempts": max_attempts,
        }
    )
    assert isinstance(section.teacher, EndpointTeacher)
    sampling = Sampling(section.temperature, section.max_tokens)
    teacher = EndpointClient(ChatClient(section.teacher), PromptSection(template="short"), sampling)
    done = asyncio.run(annotate(section, teacher, PAIRS, path, seed=1))
    assert (done.num_failed_calls, done.num_refused) == (0, 0)


@pytest.mark.slow
def test_attempts_grow_with_difficulty(tmp_path: Path) -> None:
    path = tmp_path / "attempts.jsonl"
    with running_teacher(make_book(MADE, "short")) as url:
        annotate_with(url, path)
    found = read_annotations(path, 3)
    assert len(found) == len(PAIRS)
    levels = defaultdict(list)
    for pair in PAIRS:
        level = found[pair.pair_id].difficulty
        assert level is not None
        levels[pair.difficulty].append(level)
    # The pairs' own measure runs the other way: 3 is a wide gap between the responses.
    easy, middle, hard = (mean(levels[gap]) for gap in (3, 2, 1))
    assert 1.0 <= easy < middle < hard
    # Expected at noise p: 1 + p + p^2 + p^3.
    assert hard == pytest.approx(1.875, abs=0.35)
    assert all(count_levels(found.values(), 3)[level] for level in (1, 2, 3, 4))


@pytest.mark.slow
def test_every_answer_is_a_trace_of_what_the_picture_shows(tmp_path: Path) -> None:
    path = tmp_path / "attempts.jsonl"
    with running_teacher(make_book(MADE, "short")) as url:
        annotate_with(url, path, max_attempts=1)
    scenes = {pair.pair_id: (scene, pair) for scene, pair in MADE}
    for pair_id, result in read_annotations(path, 1).items():
        scene, pair = scenes[pair_id]
        (attempt,) = result.attempts
        trace = read_trace(attempt.text)
        assert trace.well_formed and attempt.well_formed
        assert {f.quadrant: f.seen for f in trace.findings} == dict(scene.objects)
        assert all(map(flags_agree, trace.findings))
        assert trace.conclusion == trace.choice == attempt.choice
        shown = pair if attempt.order == "stored" else pair.swapped()
        assert trace.better_by_flags == shown.preferred
        assert attempt.agreed == (trace.choice == shown.preferred)
        assert attempt.completion_tokens == len(attempt.text.split())
        assert attempt.prompt_tokens is not None and attempt.prompt_tokens > 16


def test_the_same_seed_gives_the_same_answer_and_others_differ() -> None:
    scene, pair = next(m for m in MADE if m[1].difficulty == 1)
    known = Known(scene, pair)
    answers = [answer(known, seed, NOISE) for seed in range(200)]
    assert answers == [answer(known, seed, NOISE) for seed in range(200)]
    assert 70 < sum(read_trace(text).choice == pair.preferred for text in answers) < 130


def test_pictures_are_part_of_what_is_looked_up() -> None:
    assert prompt_key("text", [b"a"]) != prompt_key("text", [b"b"])
    assert prompt_key("text", []) != prompt_key("text", [b"a"])


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/models", {}, 404),
        ("/chat/completions", {"model": "m", "seed": 1, "messages": [{"content": "hi"}]}, 400),
        ("/chat/completions", [], 400),
        ("/chat/completions", {}, 400),
    ],
)
def test_what_it_does_not_know_is_refused(path: str, body: object, status: int) -> None:
    with running_teacher(make_book(MADE[:1], "short")) as url:
        assert httpx2.post(url + path, json=body).status_code == status
