"""MM-RLHF-RewardBench: images and folders of frames, Acc and Acc+ by hand."""

import json
from pathlib import Path

import pytest
from PIL import Image

from r1reward.data.video import FrameRules
from r1reward.errors import DataError
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.mm_rlhf_rewardbench import (
    MM_RLHF_REWARDBENCH,
    score_mm_rlhf_rewardbench,
)
from r1reward.evaluation.benchmarks.rows import MediaOptions
from r1reward.evaluation.benchmarks.scores import ScorePart
from r1reward.evaluation.items import Benchmark
from r1reward.types import Slot


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(row_id: str, chosen: str, rejected: str, **media: str) -> dict[str, object]:
    return {"id": row_id, "prompt": "Why?", "chosen": chosen, "rejected": rejected, **media}


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    """Seven pairs of four questions: mcq a (2) and b (1), long c (2), video d (2)."""
    for name in ("mcq/a.png", "mcq/short_b.png", "long/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    (tmp_path / "video" / "d").mkdir(parents=True)
    for number in range(40):
        grey = number * 5
        image = Image.new("RGB", (40, 20), (grey, grey, grey))
        image.save(tmp_path / "video" / "d" / f"frame{number}.png")
    rows = [
        row("a", "Yes, so it is.", "No.", image="mcq/a.png"),
        row("a", "Yes.", "No, it is not.", image="mcq/a.png"),
        row("b", "Right.", "Wrong.", image="mcq/short_b.png"),
        row("c", "A long answer.", "Short.", image="long/c.png"),
        row("c", "A longer answer.", "Short.", image="long/c.png"),
        row("d", "Waves break.", "Fire.", video="video/d"),
        row("d", "The sea.", "A very long fire.", video="video/d"),
    ]
    media = MediaOptions(frames=FrameRules(4, 200))
    return MM_RLHF_REWARDBENCH.load(write(tmp_path / "bench.jsonl", rows), media, None)


def answers(benchmark: Benchmark, responses: list[Slot | None]) -> list[Answer]:
    """One vote a row for a stored response, cast in the swapped order."""
    swapped: dict[Slot | None, Slot | None] = {1: 2, 2: 1, None: None}
    return [
        Answer(item.key, "swapped", 0, 0, swapped[response])
        for item, response in zip(benchmark.items, responses, strict=True)
    ]


def test_rows_carry_category_group_and_frames(benchmark: Benchmark) -> None:
    assert [item.categories["official"] for item in benchmark.items] == [
        "mcq",
        "mcq",
        "mcq",  # short comes later in the list of words
        "long",
        "long",
        "video",
        "video",
    ]
    assert [item.pair.group for item in benchmark.items] == ["a", "a", "b", "c", "c", "d", "d"]
    assert {item.pair.preferred for item in benchmark.items} == {1}
    assert [len(item.pair.images) for item in benchmark.items] == [1, 1, 1, 1, 1, 4, 4]
    assert benchmark.items[5].pair.images == benchmark.items[6].pair.images


def test_acc_and_acc_plus_by_hand(benchmark: Benchmark) -> None:
    score = score_mm_rlhf_rewardbench(benchmark, answers(benchmark, [1, 1, 2, 1, None, 1, 2]))
    assert score.parts == (
        ScorePart("Acc mcq", 2, 3),
        ScorePart("Acc long", 1, 2),
        ScorePart("Acc video", 1, 2),
        ScorePart("Acc+ mcq", 1, 2),
        ScorePart("Acc+ long", 0, 1),
        ScorePart("Acc+ video", 0, 1),
        ScorePart("Acc+ overall", 1, 4),
    )
    assert score.overall == 4 / 7
    assert (score.macro, score.num_left_out) == (None, 0)
    assert score.notes == ("unreadable and so wrong: 1",)


def test_always_the_longer_response(benchmark: Benchmark) -> None:
    longer: list[Slot | None] = [
        1 if len(item.pair.response_1) > len(item.pair.response_2) else 2
        for item in benchmark.items
    ]
    score = score_mm_rlhf_rewardbench(benchmark, answers(benchmark, longer))
    # "Right." and "Wrong." have equal length: that row is wrong, strictly.
    assert [part.num_right for part in score.parts] == [1, 2, 1, 0, 1, 0, 1]
    assert score.overall == 4 / 7


def test_always_1_scores_everything_where_the_preferred_response_is_first(
    benchmark: Benchmark,
) -> None:
    always = [Answer(item.key, item.preferred_first, 0, 0, 1) for item in benchmark.items]
    score = score_mm_rlhf_rewardbench(benchmark, always)
    assert score.overall == 1.0
    assert all(part.share == 1.0 for part in score.parts)


def test_two_answers_to_a_row_are_refused(benchmark: Benchmark) -> None:
    both = [
        Answer(item.key, order, 0, 0, 1)
        for item in benchmark.items
        for order in ("stored", "swapped")
    ]
    with pytest.raises(ValueError, match=r"takes one answer a row .* has 2"):
        score_mm_rlhf_rewardbench(benchmark, both)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": ""}, "row 1: neither image nor video is there"),
        ({"image": "other/a.png"}, "row 1: the path other/a.png names no category"),
        ({"image": 3}, r"row 1: image is a number \(3\) where text is due"),
        ({"chosen": "  "}, "row 1: chosen is missing or empty"),
        ({"prompt": None}, "row 1: prompt is missing or empty"),
        ({"image": "mcq/../../a.png"}, "row 1: image .* lies outside"),
        ({"image": "mcq/bad.png"}, "row 1: image .*bad.png is not a readable image"),
        ({"image": "mcq/absent.png"}, "1 of 1 rows miss their image or video under"),
        ({"image": "", "video": "video/e"}, r"1 of 1 rows miss .*\(video/e\): point the images"),
        ({"image": "", "video": "video/empty"}, r"1 of 1 rows miss .*\(video/empty\)"),
        ({"image": "", "video": "video/bad"}, "row 1: image .*0.png is not a readable image"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    (tmp_path / "mcq").mkdir()
    (tmp_path / "mcq" / "bad.png").write_bytes(b"junk")
    (tmp_path / "video" / "empty").mkdir(parents=True)
    (tmp_path / "video" / "bad").mkdir()
    (tmp_path / "video" / "bad" / "0.png").write_bytes(b"junk")
    path = write(tmp_path / "a.jsonl", [row("a", "Yes.", "No.", image="mcq/a.png") | changes])
    with pytest.raises(DataError, match=sentence):
        MM_RLHF_REWARDBENCH.load(path, MediaOptions(), None)


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        MM_RLHF_REWARDBENCH.load(tmp_path / "a.jsonl", MediaOptions(), None)
    (tmp_path / "a.jsonl").write_text("{")
    with pytest.raises(DataError, match="row 1: not JSON"):
        MM_RLHF_REWARDBENCH.load(tmp_path / "a.jsonl", MediaOptions(), None)
