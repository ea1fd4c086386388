"""Stage manifests: complete is skipped, made otherwise is refused, what may grow goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1reward.errors import InputError
from r1reward.recipe.diff import flat
from r1reward.runs.manifest import StageRecord, content_hash, pairs_hash

SETTINGS = {"seed": 0, "sft": {"lr": 1e-4, "extra": {}}}
INPUTS = {"data.train": "aa"}


@pytest.fixture
def record(tmp_path: Path) -> StageRecord:
    return StageRecord("sft", tmp_path / "sft", may_grow=("data.train", "sft.max"))


def finished(record: StageRecord) -> StageRecord:
    assert not record.begin(SETTINGS, INPUTS)
    (record.folder / "model").mkdir()
    (record.folder / "model" / "weights").write_text("w")
    record.finish(["model"])
    return record


def test_a_complete_stage_is_skipped_and_its_output_has_a_hash(record: StageRecord) -> None:
    finished(record)
    assert record.begin(SETTINGS, INPUTS)
    assert record.output("model") == content_hash(record.folder / "model")


def test_a_stage_that_was_begun_goes_on(record: StageRecord) -> None:
    assert not record.begin(SETTINGS, INPUTS)
    assert not record.begin(SETTINGS, INPUTS)


def test_a_stage_whose_output_was_removed_is_made_again(record: StageRecord) -> None:
    finished(record)
    (record.folder / "model" / "weights").unlink()
    (record.folder / "model").rmdir()
    assert not record.begin(SETTINGS, INPUTS)


def test_another_setting_is_refused_by_name_with_both_values(record: StageRecord) -> None:
    finished(record)
    changed = {"seed": 0, "sft": {"lr": 2e-4, "extra": {}}}
    with pytest.raises(InputError, match=r"sft\.lr was 0\.0001, now it is 0\.0002") as caught:
        record.begin(changed, INPUTS)
    assert str(record.folder) in str(caught.value)
    assert record.begin(SETTINGS, INPUTS), "nothing was overwritten"


def test_another_input_is_refused_unless_it_may_grow(tmp_path: Path) -> None:
    strict = finished(StageRecord("sft", tmp_path / "strict"))
    with pytest.raises(InputError, match=r"data\.train has another content"):
        strict.begin(SETTINGS, {"data.train": "bb"})


def test_what_may_grow_is_not_complete_any_more_but_goes_on(record: StageRecord) -> None:
    finished(record)
    assert not record.begin(SETTINGS, {"data.train": "bb"})
    with pytest.raises(InputError, match="is not complete: run `r1reward sft RECIPE` first"):
        record.output("model")


def test_a_stage_that_is_not_there_names_the_command(record: StageRecord) -> None:
    with pytest.raises(InputError, match="`r1reward sft RECIPE`"):
        record.output("model")


def test_a_damaged_manifest_is_one_sentence(record: StageRecord) -> None:
    record.folder.mkdir()
    record.path.write_text("{")
    with pytest.raises(InputError, match=r"stage\.json: cannot be read"):
        record.begin(SETTINGS, INPUTS)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    record = StageRecord("sft", tmp_path / "file" / "sft")
    with pytest.raises(InputError, match=r"cannot be written, choose another run_dir: .*Not a dir"):
        record.begin(SETTINGS, INPUTS)


def test_content_hashes_see_names_and_bytes_but_not_places(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, str]) -> str:
        for file, text in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(text)
        return content_hash(tmp_path / name)

    one = folder("one", {"a": "x", "b/c": "y"})
    assert one == folder("two", {"a": "x", "b/c": "y"})
    assert one != folder("three", {"a": "x", "b/c": "z"})
    assert one != folder("four", {"a": "x", "b/d": "y"})
    assert folder("five", {"a": "xy", "b": ""}) != folder("six", {"a": "x", "b": "y"})


def test_pairs_are_hashed_in_their_order() -> None:
    assert pairs_hash(["a", "b"]) == pairs_hash(iter(["a", "b"]))
    assert len({pairs_hash(["a", "b"]), pairs_hash(["b", "a"]), pairs_hash(["ab"])}) == 3


def test_settings_are_flattened_and_empty_ones_stay() -> None:
    assert flat({"a": {"b": {"c": 1}}, "d": {}, "e": None}) == {"a.b.c": 1, "d": {}, "e": None}


def test_a_stage_may_be_placed_otherwise(record: StageRecord) -> None:
    placed = {"placement": {"wait_s": 600, "resources": {}, "threads": 2}}
    assert not record.begin(SETTINGS | placed, INPUTS)
    record.folder.joinpath("model").mkdir()
    record.finish(["model"])
    moved = {"placement": {"wait_s": 60, "resources": {"judge": {"node": 1}}, "threads": 2}}
    assert record.begin(SETTINGS | moved, INPUTS)
    with pytest.raises(InputError, match=r"placement\.threads was 2, now it is 1\)"):
        record.begin(SETTINGS | {"placement": {"threads": 1}}, INPUTS)


def test_files_of_unknown_origin_are_not_taken_for_the_stages_own(record: StageRecord) -> None:
    record.folder.mkdir()
    (record.folder / "answers.jsonl").write_text("whose?\n")
    with pytest.raises(InputError, match=r"holds files, but no stage\.json that says"):
        record.begin(SETTINGS, INPUTS)


def test_a_setting_that_an_earlier_version_did_not_know_had_its_default(
    record: StageRecord,
) -> None:
    judge = {"type": "openai", "max_tries": 3}
    sections = {"annotate": {"prompt": {"template": "short"}}, "judge": judge}
    record.begin(sections, {})
    with pytest.raises(InputError, match=r"\(judge\.reply was not set, now it is authors\)"):
        record.begin({**sections, "judge": {**judge, "reply": "authors"}}, {})
    now = {"annotate": {"prompt": {"template": "short", "format_mode": "strict"}}}
    record.begin({**now, "judge": {**judge, "reply": "strict", "leave_out": []}}, {})
