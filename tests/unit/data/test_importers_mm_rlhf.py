"""MM-RLHF: which end of a ranking is the best, told from the people's scores, file by file."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from r1reward.data.importers.importing import ImportOptions, import_pairs
from r1reward.data.importers.mm_rlhf import DIRECTION_ROWS, read_mm_rlhf
from r1reward.data.importers.raw_pair import RawPair
from r1reward.errors import DataError

Row = dict[str, object]
NOTE = "final_ranking read with 1 as the worst"


def row(number: int, ranking: Sequence[object], **changes: object) -> Row:
    """The first of three responses has the best scores, the second the worst."""
    return {
        "id": str(number),
        "question": f"What is {number}?",
        "image": "long/1.png",
        "models_output": ["Good.", "Bad.", "Fair."],
        "faithfulness": [5, 1, 3],
        "helpfulness": [4, 2, 3],
        "ethical": [5, 5, 5],
        "final_ranking": ranking,
        **changes,
    }


BEST, WORST = [1, 3, 2], [3, 1, 2]  # what the rank 1 stands for


def jsonl(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(*rankings: list[int], **changes: object) -> list[Row]:
    return [row(number, ranking, **changes) for number, ranking in enumerate(rankings)]


def read(path: Path) -> tuple[list[RawPair], list[DataError]]:
    found = list(read_mm_rlhf(path, "extremes"))
    return (
        [item for item in found if isinstance(item, RawPair)],
        [item for item in found if isinstance(item, DataError)],
    )


def test_one_is_the_best_where_the_scores_say_so(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "data.jsonl", rows(*[BEST] * 18, WORST, WORST))
    pairs, broken = read(path)
    assert {(pair.response_1, pair.response_2, pair.preferred) for pair in pairs} == {
        ("Good.", "Bad.", 1)
    }
    assert {pair.notes for pair in pairs} == {()}
    assert len(pairs) == 18
    assert [str(item).partition(": ")[2] for item in broken] == [
        "final_ranking [3.0, 1.0, 2.0] runs against the scores in 3 of 3 pairs"
    ] * 2


def test_one_is_the_worst_where_the_scores_say_so(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "data.jsonl", rows(*[WORST] * 18, BEST, BEST))
    pairs, broken = read(path)
    assert {(pair.response_1, pair.response_2, pair.preferred) for pair in pairs} == {
        ("Good.", "Bad.", 1)
    }
    assert {pair.notes for pair in pairs} == {(NOTE,)}
    assert len(pairs) == 18
    assert [str(item).partition(": ")[2] for item in broken] == [
        "final_ranking [1.0, 3.0, 2.0], with 1 as the worst, runs against the scores in 3 of 3 pairs"
    ] * 2


def test_the_report_of_an_import_tells_the_direction(tmp_path: Path) -> None:
    (tmp_path / "long").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "long" / "1.png")
    for name, ranking, notes in (("a", WORST, {NOTE: 12}), ("b", BEST, {})):
        path = jsonl(tmp_path / f"{name}.jsonl", rows(*[ranking] * 12))
        source = read_mm_rlhf(path, "extremes")
        report = import_pairs(source, tmp_path / name, ImportOptions(tmp_path), {"import": "test"})
        assert (report.num_written, report.notes) == (12, notes)


def test_every_file_has_its_own_direction(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", rows(*[BEST] * 12))
    jsonl(tmp_path / "b.jsonl", rows(*[WORST] * 12))
    pairs, broken = read(tmp_path)
    assert {pair.preferred for pair in pairs} == {1}
    assert [pair.notes for pair in pairs] == [()] * 12 + [(NOTE,)] * 12
    assert broken == []


NO_SCORES: Row = {"faithfulness": None, "helpfulness": None, "ethical": None}


def test_one_is_the_best_where_no_scores_tell(tmp_path: Path) -> None:
    pairs, broken = read(jsonl(tmp_path / "data.jsonl", rows(*[WORST] * 20, **NO_SCORES)))
    assert {(pair.preferred, pair.notes) for pair in pairs} == {(2, ())}
    assert broken == []
    equal = {name: [3, 3, 3] for name in NO_SCORES}
    pairs, broken = read(jsonl(tmp_path / "data.jsonl", rows(*[WORST] * 20, **equal)))
    assert {(pair.preferred, pair.notes) for pair in pairs} == {(2, ())}
    assert broken == []


@pytest.mark.parametrize(("num_best", "num_worst"), [(0, 9), (11, 12), (10, 19)])
def test_few_rows_or_a_narrow_majority_do_not_turn_a_file(
    tmp_path: Path, num_best: int, num_worst: int
) -> None:
    path = jsonl(tmp_path / "data.jsonl", rows(*[WORST] * num_worst, *[BEST] * num_best))
    pairs, broken = read(path)
    assert (len(pairs), len(broken)) == (num_best, num_worst)


@pytest.mark.parametrize(("num_best", "num_worst"), [(0, 10), (10, 20)])
def test_two_thirds_of_ten_rows_turn_a_file(tmp_path: Path, num_best: int, num_worst: int) -> None:
    path = jsonl(tmp_path / "data.jsonl", rows(*[WORST] * num_worst, *[BEST] * num_best))
    pairs, broken = read(path)
    assert (len(pairs), len(broken)) == (num_worst, num_best)


def test_only_the_first_rows_decide(tmp_path: Path) -> None:
    silent = rows(*[BEST] * 20, **NO_SCORES)  # these do not count
    many = rows(*[WORST] * DIRECTION_ROWS, *[BEST] * (3 * DIRECTION_ROWS))
    pairs, broken = read(jsonl(tmp_path / "data.jsonl", silent + many))
    assert (len(pairs), len(broken)) == (20 + DIRECTION_ROWS, 3 * DIRECTION_ROWS)


def test_rows_that_cannot_be_read_do_not_decide(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    lines = [json.dumps(row) for row in rows(*[WORST] * 10)]
    lines[3:3] = ["{", json.dumps(row(90, [1])), json.dumps(row(91, BEST, models_output=None))]
    path.write_text("\n".join(lines))
    pairs, broken = read(path)
    assert (len(pairs), len(broken)) == (10, 3)


@pytest.mark.parametrize(
    "scores",
    [[1, None, 5], [1, 5], [1, 5, 3, 3], "1, 5, 3", [1, "?", 5], [None, None, None], {"a": 1}],
)
def test_scores_that_are_none_do_not_speak_against_a_ranking(
    tmp_path: Path, scores: object
) -> None:
    """Read as they stand, some would run against it; the two other lists still count."""
    unusable = jsonl(tmp_path / "a.jsonl", [row(1, BEST, faithfulness=scores)])
    pairs, broken = read(unusable)
    assert ([pair.preferred for pair in pairs], broken) == ([1], [])
    against = jsonl(tmp_path / "b.jsonl", [row(1, WORST, faithfulness=scores)])
    assert [str(item).partition(": ")[2] for item in read(against)[1]] == [
        "final_ranking [3.0, 1.0, 2.0] runs against the scores in 3 of 3 pairs"
    ]
    all_unusable = dict.fromkeys(NO_SCORES, scores)
    pairs, broken = read(jsonl(tmp_path / "c.jsonl", [row(1, WORST, **all_unusable)]))
    assert ([pair.preferred for pair in pairs], broken) == ([2], [])


@pytest.mark.parametrize(
    ("path", "category"),
    [
        ("short/a.png", "short"),
        ("safety/a_long_walk.png", "safety"),
        ("./short/mcq_7.png", "short"),
        ("mcq/short.png", "mcq"),
        ("pictures/long/safety.png", "long"),
        ("shorts/mcq.png", "mcq"),
        ("pictures/1.png", ""),
    ],
)
def test_the_folder_is_the_category(tmp_path: Path, path: str, category: str) -> None:
    pairs, _ = read(jsonl(tmp_path / "data.jsonl", [row(1, BEST, image=path)]))
    assert [pair.category for pair in pairs] == [category]


def test_a_video_keeps_its_category(tmp_path: Path) -> None:
    pairs, _ = read(jsonl(tmp_path / "data.jsonl", [row(1, BEST, image=None, video="video/7")]))
    assert [pair.category for pair in pairs] == ["video"]
