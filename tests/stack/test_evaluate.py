"""Evaluation through the real engines: repeatable, resumable, adaptive, with several images and video."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from r1reward.data.video import FrameRules
from r1reward.evaluation.answers import Answer, read_answers
from r1reward.evaluation.benchmarks.load import load_benchmark
from r1reward.evaluation.benchmarks.rows import MediaOptions
from r1reward.evaluation.benchmarks.stored_pairs import pairs_benchmark
from r1reward.evaluation.items import Item
from r1reward.evaluation.sampler import EvaluationSampler, sample_answers, scoring_of_answers
from r1reward.evaluation.voting.adaptive import scheduled_votes, verdict
from r1reward.recipe.sections import EvaluateSection
from r1reward.shapes.pairs import make_pairs
from r1reward.types import Order, PreferencePair, Prompt
from tests.stack.command_line import finish, started
from tests.stack.conftest import Stack, wait

ITEMS = pairs_benchmark("shapes", make_pairs("heldout", 12, seed=7), {}).items
NUM_SAMPLES = 24


def sampler(stack: Stack, **settings: object) -> EvaluationSampler:
    def encode(pair: PreferencePair, order: Order) -> Prompt:
        return stack.processor.encode(pair, order, stack.recipe.prompt)

    evaluate = EvaluateSection.model_validate({"samples": 5, **settings})
    texts = stack.processor.token_texts
    return EvaluationSampler(
        evaluate,
        stack.recipe.seed,
        stack.recipe.model,
        scoring_of_answers(stack.recipe.prompt, stack.recipe.reward),
        encode,
        stack.generator,
        None,
        texts,
    )


def answers(stack: Stack, items: Sequence[Item], path: Path, **settings: object) -> list[Answer]:
    found = wait(stack.run, sample_answers(sampler(stack, **settings), items, path))
    return sorted(found, key=lambda answer: answer.sample_key)


@pytest.fixture(scope="module")
def whole(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The answers of one uninterrupted evaluation: 5 samples at temperature 1."""
    path = tmp_path_factory.mktemp("whole") / "answers.jsonl"
    answers(stack, ITEMS, path)
    return path


def test_two_runs_with_one_seed_agree(stack: Stack, whole: Path, tmp_path: Path) -> None:
    again = answers(stack, ITEMS, tmp_path / "answers.jsonl")
    first = sorted(read_answers(whole), key=lambda answer: answer.sample_key)
    assert [replace(a, confidence=None) for a in again] == [
        replace(a, confidence=None) for a in first
    ]
    assert len(first) == 6 * len(ITEMS)  # 3 of each order, so that either can have the extra vote
    for one, other in zip(first, again, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)
        assert one.choice is None or one.confidence is not None
    other_seed = replace(sampler(stack), seed=1)
    changed = wait(stack.run, sample_answers(other_seed, ITEMS, tmp_path / "other.jsonl"))
    assert {answer.text for answer in changed} != {answer.text for answer in first}


def test_half_an_evaluation_is_finished_without_repeating_a_sample(
    stack: Stack, whole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    lines = whole.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:30]) + lines[30][:40])  # killed while it wrote
    resumed = answers(stack, ITEMS, path)
    assert path.read_bytes().startswith(b"".join(lines[:30]))
    assert len(read_answers(path)) == len(lines)
    texts = {answer.sample_key: answer.text for answer in read_answers(whole)}
    assert {answer.sample_key: answer.text for answer in resumed} == texts


def test_adaptive_voting_gives_the_verdict_of_all_samples(
    stack: Stack, whole: Path, tmp_path: Path
) -> None:
    few = answers(stack, ITEMS, tmp_path / "answers.jsonl", adaptive=0.0)
    assert len(few) < 5 * len(ITEMS)
    full = {answer.sample_key: answer.response for answer in read_answers(whole)}
    drawn = {answer.sample_key: answer.response for answer in few}
    assert drawn.items() <= full.items()
    for item in ITEMS:
        votes = [
            scheduled_votes(item, pool, 5, "both", stack.recipe.seed) for pool in (drawn, full)
        ]
        assert verdict(votes[0]) == verdict(votes[1])


def picture(colour: str, size: int = 112) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(buffer, format="PNG")
    return buffer.getvalue()


def test_both_images_of_a_row_reach_the_model(stack: Stack, tmp_path: Path) -> None:
    first = ITEMS[0].pair
    pairs = [
        replace(first, images=(first.images[0], second))
        for second in (ITEMS[1].pair.images[0], picture("black"))
    ]
    items = pairs_benchmark("pairs", pairs, {}).items
    found = answers(stack, items, tmp_path / "answers.jsonl", samples=1)
    assert [answer.order for answer in found] == ["stored", "swapped"] * 2
    one, other = (
        {answer.order: answer.confidence for answer in found if answer.item == item.key}
        for item in items
    )
    assert one != other  # the second image alone tells them apart


def video_bench(root: Path, num_rows: int) -> Path:
    """MM-RLHF-RewardBench's form: image rows and one video of ten frames."""
    (root / "video" / "clip").mkdir(parents=True)
    for number, colour in enumerate(("red", "green", "blue", "white", "black") * 2):
        (root / "video" / "clip" / f"frame{number}.png").write_bytes(picture(colour))
    (root / "short").mkdir()
    (root / "short" / "a.png").write_bytes(ITEMS[0].pair.images[0])
    rows: list[dict[str, str]] = [{"video": "video/clip"}]
    rows += [{"image": "short/a.png"} for _ in range(num_rows - 1)]
    lines = []
    for number, media in enumerate(rows):
        pair = make_pairs("heldout", num_rows, seed=9)[number]
        texts = {"prompt": pair.question, "chosen": pair.response_1, "rejected": pair.response_2}
        lines.append(json.dumps({"id": f"q{number // 2}", **media, **texts}))
    (root / "bench.jsonl").write_text("\n".join(lines) + "\n")
    return root / "bench.jsonl"


def num_answers(folder: Path) -> int:
    return len(read_answers(folder / "answers.jsonl"))


def command(bench: Path, out: Path) -> list[str]:
    verb = ["eval", "--model", "shapes"]
    flags = ["--bench", "mm-rlhf-rewardbench", "--data", str(bench), "--out", str(out)]
    sizes = ["bench.num_frames=4", "model.max_prompt_tokens=256"]
    return [*verb, *flags, "--samples", str(NUM_SAMPLES), *sizes]


def test_killed_from_the_command_line_it_goes_on_and_its_result_is_compared_and_reported(
    tmp_path: Path,
) -> None:
    bench, out = video_bench(tmp_path, num_rows=24), tmp_path / "eval"
    video = load_benchmark(
        "mm-rlhf-rewardbench", bench, MediaOptions(frames=FrameRules(num_frames=4))
    ).items[0]
    with started(command(bench, out), tmp_path / "killed.log") as running:
        running.wait_until(lambda: num_answers(out) >= 10, "the tenth answer")
        running.kill()
    kept = (out / "answers.jsonl").read_bytes()
    assert not (out / "result.json").exists()
    printed = finish(command(bench, out), tmp_path / "printed.log")
    assert "Acc+" in printed
    assert "preferred response is always shown first" not in printed
    whole_lines = kept[: kept.rfind(b"\n") + 1]
    assert (out / "answers.jsonl").read_bytes().startswith(whole_lines)
    found = read_answers(out / "answers.jsonl")
    assert len({answer.sample_key for answer in found}) == len(found) == 24 * NUM_SAMPLES
    assert {answer.item for answer in found} >= {video.key}
    assert {answer.status for answer in found} == {"answered"}
    for verb in (["compare", str(out), str(out)], ["report", str(out)]):
        done = subprocess.run(
            [sys.executable, "-m", "r1reward", *verb], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert (out / "report.html").stat().st_size > 10_000
