"""Pairs that stand in the data with both labels: said by every command, and left out of training."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from r1reward.cli.main import main
from r1reward.data.cleaning.dedupe import dedupe
from r1reward.data.cleaning.mix import MixRecipe, mix
from r1reward.data.cleaning.split import split
from r1reward.data.importers.importing import ImportOptions, import_pairs
from r1reward.data.importers.raw_pair import RawPair
from r1reward.data.stores.pair_stats import count_pairs
from r1reward.data.stores.pair_store import PairStore
from r1reward.data.stores.pair_writer import PairWriter
from r1reward.data.stores.remarks import ALIKE, CONTRADICTS, are_alike, contradicted
from r1reward.data.stores.store import Header, pair_keys, pair_row, write_pairs
from r1reward.data.stores.validate import validate
from r1reward.errors import InputError
from r1reward.pipeline.sources import training_pairs
from r1reward.recipe.sections import DataSection, FileSource, ShapesSource
from r1reward.shapes.pairs import make_pairs
from r1reward.types import PreferencePair, Slot

CASES = Path(__file__).parents[2] / "cases"
RED, BLUE = (pair.images[0] for pair in make_pairs("train", 2, seed=0))


def pair(question: str, preferred: Slot = 1, **changes: object) -> PreferencePair:
    made = PreferencePair(question, (RED,), "yes", "no", preferred)
    return replace(made, **changes)  # type: ignore[arg-type]


# The second contradicts the first, and the fourth, in the other order, the third; the others are alone.
PAIRS = [
    pair("q1"),
    pair("q1", 2),
    pair("q2", 2),
    pair("q2", 2).swapped(),
    pair("q3"),
    pair("q3", 2, images=(BLUE,)),
    pair("q4"),
    pair("q4", 2, response_2="No"),
    pair("q5", response_2="nope"),
    pair("q5", 1, response_1="nope", response_2="yes"),
]
BOTH = [True, True, False, False, False, False, False, False, True, True]


def write_store(folder: Path, pairs: list[PreferencePair]) -> Path:
    writer = PairWriter(folder, Header(), {"test": 1}, shard_rows=4)
    writer.claim(resume=False)
    for item in pairs:
        writer.add(pair_row(item))
    writer.finish({})
    return folder


def write_old_store(folder: Path, pairs: list[PreferencePair]) -> Path:
    """As before stores had the keys of opposite preferences."""
    for shard in write_store(folder, pairs).glob("*.parquet"):
        pq.write_table(pq.read_table(shard).drop_columns(["opposite"]), shard)
    return folder


def write_file(path: Path, pairs: list[PreferencePair]) -> Path:
    write_pairs(path, pairs)
    return path


def write_lines(folder: Path, pairs: list[PreferencePair]) -> Path:
    """JSONL with paths; one image under two names."""
    rows = []
    for number, item in enumerate(pairs):
        name = f"{folder.name}-{number}.png"
        (folder.parent / name).write_bytes(item.images[0])
        texts = {key: getattr(item, key) for key in ("question", "response_1", "response_2")}
        rows.append({**texts, "preferred": item.preferred, "images": [name]})
    path = folder.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


WRITERS = {
    "store": write_store,
    "old store": write_old_store,
    "file.parquet": write_file,
    "lines": write_lines,
}


def test_keys_of_opposites() -> None:
    first, second = pair_keys(PAIRS[0]), pair_keys(PAIRS[1])
    assert first == second[::-1]
    assert pair_keys(PAIRS[0].swapped()) == first
    assert contradicted(map(pair_keys, PAIRS)) == BOTH
    assert contradicted([]) == []


@pytest.mark.parametrize("name", WRITERS)
def test_training_leaves_out_both(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = WRITERS[name](tmp_path / name, PAIRS)
    source = FileSource(type="file", path=path)
    with caplog.at_level(logging.WARNING):
        kept = training_pairs(DataSection(train=source))
    assert [item.question for item in kept] == ["q2", "q2", "q3", "q3", "q4", "q4"]
    (record,) = caplog.records
    assert "data.train: 4 of 10 pairs stand there with both labels (the first: " in record.message
    assert "data.contradictions=keep trains on them" in record.message
    assert len(training_pairs(DataSection(train=source, contradictions="keep"))) == 10
    few = FileSource(type="file", path=path, num_pairs=9)
    assert [item.question for item in training_pairs(DataSection(train=few))][-1] == "q5"


def test_without_contradictions_the_pairs_are_what_they_were(tmp_path: Path) -> None:
    good = [item for item, both in zip(PAIRS, BOTH, strict=True) if not both]
    source = FileSource(type="file", path=write_store(tmp_path / "store", good))
    assert [item.pair_id for item in training_pairs(DataSection(train=source))] == [
        item.pair_id for item in good
    ]
    shapes = ShapesSource(type="shapes", split="train", num_pairs=20)
    assert list(training_pairs(DataSection(train=shapes))) == make_pairs("train", 20, seed=0)


def test_nothing_left_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 of 2 pairs .*contradiction.jsonl row 1\): no pair is"):
        training_pairs(
            DataSection(train=FileSource(type="file", path=CASES / "contradiction.jsonl"))
        )


def test_a_store_tells_without_its_images(tmp_path: Path) -> None:
    store = PairStore(write_store(tmp_path / "a", PAIRS))
    assert list(store.keys()) == [pair_keys(item) for item in PAIRS]
    assert list(PairStore(write_old_store(tmp_path / "b", PAIRS)).keys()) == list(store.keys())


@pytest.mark.parametrize("name", WRITERS)
def test_every_command_says_it(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / name, PAIRS)
    # Without the images, statistics know a path by its name only.
    counted = 0 if name == "lines" else 2
    assert count_pairs([path]).report.notes[CONTRADICTS] == counted
    for report in (
        validate(path),
        dedupe([path], tmp_path / "dedupe"),
        mix(MixRecipe.model_validate({"sources": [{"store": path}]}), tmp_path / "mix"),
        split(path, tmp_path / "split", {"all": 1}, seed=0)["all"],
    ):
        assert report.notes[CONTRADICTS] == 2
        assert report.examples[CONTRADICTS][0].endswith("row 2")


def test_an_import_says_it_whole_or_resumed(tmp_path: Path) -> None:
    source = [
        RawPair(f"row {n}", p.question, p.response_1, p.response_2, p.preferred, p.images)
        for n, p in enumerate(PAIRS, start=1)
    ]
    options = ImportOptions(tmp_path)
    report = import_pairs(source, tmp_path / "whole", options, {})
    assert (report.notes[CONTRADICTS], report.examples[CONTRADICTS]) == (2, ["row 2", "row 10"])
    assert report.dropped == {"duplicate": 1}  # the second q2 is the first in the other order


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a b", "a  b\n", True),
        ("a b", "a\u00a0b", True),
        ("a b", "\ta b", True),
        ("a b", "ab", False),
        ("a b", "A b", False),
    ],
)
def test_responses_that_a_model_cannot_tell_apart(one: str, other: str, expected: bool) -> None:
    assert are_alike(one, other) == expected


def test_alike_responses_are_counted(tmp_path: Path) -> None:
    alike = pair("q", response_1="a b", response_2="a  b ")
    path = write_file(tmp_path / "a.parquet", [alike, pair("q2")])
    raw = RawPair("row 1", "q", "a b", "a  b ", 1)
    for report in (
        validate(path),
        count_pairs([path]).report,
        dedupe([path], tmp_path / "out"),
        import_pairs([raw], tmp_path / "store", ImportOptions(tmp_path), {}),
    ):
        assert report.notes[ALIKE] == 1


@pytest.mark.parametrize(
    ("num_bad", "limit", "expected"), [(0, None, 0), (2, None, 2), (3, None, 1), (2, "0.3", 1)]
)
def test_validate_and_import_end_by_the_share_that_is_lost(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    num_bad: int,
    limit: str | None,
    expected: int,
) -> None:
    rows = [
        {"question": "q", "images": [], "response_1": f"{n}", "response_2": "b", "preferred": 1}
        for n in range(4)
    ]
    bad = [{**rows[0], "response_1": f"b{n}", "images": ["gone"]} for n in range(num_bad)]
    path = tmp_path / "a.jsonl"
    lines = [*rows[num_bad:], *bad]
    path.write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    options = [] if limit is None else ["--max-dropped", limit]
    assert main(["data", "validate", str(path), *options]) == expected
    captured = capsys.readouterr()
    assert (f"a.jsonl row {5 - num_bad}: image" in captured.out) == (num_bad > 0)
    status = main(["data", "import", "jsonl", str(path), "--out", str(tmp_path / "o"), *options])
    assert status == (1 if expected == 1 else 0)
    error = capsys.readouterr().err
    assert (f"{num_bad} of 4 rows were dropped, more than --max-dropped" in error) == (status == 1)


def test_duplicates_are_no_loss(tmp_path: Path) -> None:
    row = {"question": "q", "images": [], "response_1": "a", "response_2": "b", "preferred": 1}
    path = tmp_path / "a.jsonl"
    path.write_text((json.dumps(row) + "\n") * 9, encoding="utf-8")
    assert main(["data", "import", "jsonl", str(path), "--out", str(tmp_path / "o")]) == 0


def test_statistics_go_on_behind_a_row_that_is_no_pair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (CASES / "contradiction.jsonl").read_text(encoding="utf-8")
    (tmp_path / "a.jsonl").write_text("{\n" + lines + "{}\n", encoding="utf-8")
    assert main(["data", "stats", str(tmp_path / "a.jsonl")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"dropped: broken row +2  a\.jsonl row 1: not JSON", out)
    assert re.search(r"contradicts an earlier pair +1  a\.jsonl row 3", out)


def test_a_mix_says_what_it_did_not_draw(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a", PAIRS)
    report = mix(
        MixRecipe.model_validate({"sources": [{"store": path, "rows": 3}]}), tmp_path / "m"
    )
    assert (report.num_read, report.num_written, report.dropped) == (10, 3, {"not drawn": 7})
    assert report.examples["not drawn"] == [f"{path}: 7 of 10 rows"]


def test_duplicates_are_no_loss_and_not_what_most_losses_are_like(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: the example was a duplicate, and the count did not agree with the table's."""
    good = {"question": "q", "response_1": "a", "response_2": "b", "preferred": 1}
    rows = [*[good] * 4, good | {"question": ""}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    command = ["data", "import", "jsonl", str(tmp_path / "rows.jsonl")]
    out = ["--out", str(tmp_path / "store"), "--max-dropped", "0.1"]
    assert main([*command, *out]) == 1
    error = capsys.readouterr().err
    assert "1 of 5 rows were dropped (3 duplicates apart), more than --max-dropped 0.1" in error
    assert "most are like" in error and "row 5: question is" in error
