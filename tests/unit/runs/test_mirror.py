"""The mirror of a run folder: wherever it is cut off, it is a folder as a kill could have left it."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from r1reward.errors import InputError, RecipeError, ServiceError
from r1reward.recipe.files import dump_recipe, load_recipe
from r1reward.recipe.location import working_folder, working_folders
from r1reward.runs.checkpoint import resume, save_checkpoint
from r1reward.runs.mirror import (
    NOT_MIRRORED,
    File,
    Mirror,
    TakenOverError,
    file_at,
    look_at,
    scan,
)
from r1reward.runs.storage import RemoteFolder
from tests.fakes import FakeLearner, make_recipe


class Watched(RemoteFolder):
    """Calls ``look`` before and after every call to the storage."""

    def __init__(self, url: str, look: Callable[[str], None]) -> None:
        super().__init__(url)
        object.__setattr__(self, "look", look)

    @contextmanager
    def errors_named(self, what: str, name: str = "") -> Iterator[tuple[Any, str]]:
        look: Callable[[str], None] = self.__dict__["look"]
        look(f"{name} is to be {what}")
        with super().errors_named(what, name) as place:
            yield place
        look(f"{name} was {what}")


class AtCall:
    """Does something at one of the looks that end so."""

    def __init__(
        self, number: int, then: Callable[[], None], endings: tuple[str, ...] = ("",)
    ) -> None:
        self.number = number
        self.then = then
        self.endings = endings
        self.num_looks = 0

    def __call__(self, call: str) -> None:
        if not call.endswith(self.endings):
            return
        self.num_looks += 1
        if self.num_looks == self.number:
            self.then()


def fail() -> None:
    raise ServiceError("the storage is away")


@pytest.fixture
def remote(tmp_path: Path) -> RemoteFolder:
    return RemoteFolder(f"file://{tmp_path}/remote/run")


def opened(folder: Path, remote: RemoteFolder) -> Mirror:
    mirror = Mirror(folder, remote)
    mirror.open()
    return mirror


def put(root: Path, name: str, text: str) -> None:
    """As a run does: a ledger is appended to, everything else is replaced whole."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        with path.open("a") as ledger:
            ledger.write(text)
        return
    path.with_name(".x.partial").write_text(text)
    path.with_name(".x.partial").replace(path)


def tree(root: Path) -> dict[str, str]:
    return {name: (root / name).read_text() for name in scan(root)}


def objects(remote: RemoteFolder) -> set[str]:
    return remote.files().keys() - NOT_MIRRORED


def elsewhere(remote: RemoteFolder, tmp_path: Path) -> dict[str, str]:
    """The folder that a new machine gets."""
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    opened(folder, RemoteFolder(remote.url))
    return tree(folder)


def history(root: Path) -> list[Callable[[], object]]:
    """What a run does to its folder; after each of these it may be killed."""

    def loop_state(step: int) -> Callable[[], None]:
        return lambda: put(root, f"checkpoints/step-{step:06d}/loop.json", "{}")

    return [
        lambda: put(root, "recipe.yaml", "r1"),
        lambda: put(root, "metrics.jsonl", "1\n"),
        loop_state(1),
        lambda: put(root, "metrics.jsonl", "2\n"),
        lambda: put(root, "best/weights", "of 1"),
        loop_state(2),
        lambda: shutil.rmtree(root / "checkpoints/step-000001"),
        lambda: put(root, "eval/step-000002/answers.jsonl", "a\n"),
        lambda: put(root, "eval/step-000002/result.json", "counted"),
        lambda: put(root, "recipe.yaml", "r2"),
        lambda: put(root, ".metrics.jsonl.partial", "1\n"),
        lambda: (root / ".metrics.jsonl.partial").replace(root / "metrics.jsonl"),
        lambda: put(root, "metrics.jsonl", "two\n"),
        lambda: put(root, "best/weights", "of 2"),
        lambda: put(root, "model/weights", "w"),
    ]


def look_at_file(look: Callable[[str], None], root: Path, name: str) -> File | None:
    file = file_at(root, name)
    look(name)
    return file


def make(changes: list[Callable[[], object]], root: Path, moments: list[dict[str, str]]) -> None:
    for change in changes:
        change()
        moments.append(tree(root))


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 5])
def test_a_mirror_that_is_cut_off_anywhere_is_a_folder_that_a_kill_left(
    tmp_path: Path, at_once: int
) -> None:
    """Pushed after every change or after some, and cut before and after every call that changes it.

    Another machine gets the folder of some moment, not earlier than the last push; this one goes on.
    """
    number, is_cut = 1, True
    while is_cut:
        root = tmp_path / str(number)
        folder, plain = root / "local", RemoteFolder(f"file://{root}/remote")
        moments: list[dict[str, str]] = [{}]
        look, num_pushed, is_cut = AtCall(number, fail, ("written", "removed")), 0, False
        try:
            mirror = opened(folder, Watched(plain.url, look))
            for count, change in enumerate(history(folder), start=1):
                change()
                moments.append(tree(folder))
                if count % at_once == 0:
                    mirror.push()
                    num_pushed = count
            mirror.use_own_names()
        except ServiceError:
            is_cut = True
        (root / "remote").mkdir(parents=True, exist_ok=True)
        shutil.copytree(root / "remote", root / "other")
        assert elsewhere(RemoteFolder(f"file://{root}/other"), root) in moments[num_pushed:]
        put(folder, "report.html", "written after the last push")
        moments.append(moments[-1] | {"report.html": "written after the last push"})
        opened(folder, plain).use_own_names()
        again = tree(folder)
        # A checkpoint that was removed just before the kill may come back, and its object stay.
        removed = {"checkpoints/step-000001/loop.json": "{}"}
        assert again in (moments[-1], moments[-1] | removed)
        assert set(again) <= objects(plain) <= again.keys() | removed.keys()
        assert elsewhere(plain, root) == again
        number += 1
    assert number > 30


def test_only_what_changed_is_uploaded(tmp_path: Path, remote: RemoteFolder) -> None:
    folder = tmp_path / "a"
    for name in (".recipe.yaml.partial", ".best.old/model", "wandb/run-1/log", "model/weights"):
        put(folder, name, "x")
    (folder / "wandb" / "latest").symlink_to("run-1")
    opened(folder, remote)
    assert objects(remote) == {"wandb/run-1/log", "model/weights"}
    calls: list[str] = []
    mirror = opened(folder, Watched(remote.url, calls.append))
    calls.clear()
    put(folder, "eval/step-000002/result.json", "{}")
    mirror.push()
    assert [call for call in calls if "was written" in call] == [
        "eval/step-000002/result.json was written",
        "LATEST was written",
    ]
    calls.clear()
    mirror.push()
    assert calls == []


def test_a_reader_takes_the_lines_that_latest_counts(tmp_path: Path, remote: RemoteFolder) -> None:
    mirror = opened(tmp_path / "a", remote)
    put(tmp_path / "a", "metrics.jsonl", "1\n")
    mirror.push()
    put(tmp_path / "a", "metrics.jsonl", "2\n")
    mirror.remote = Watched(remote.url, AtCall(5, fail))  # the ledger is up, LATEST is not
    with pytest.raises(ServiceError, match="away"):
        mirror.push()
    assert objects(remote) == {"metrics.jsonl"}
    assert remote.read("metrics.jsonl") == b"1\n2\n"
    assert elsewhere(remote, tmp_path) == {"metrics.jsonl": "1\n"}


def test_what_is_replaced_is_a_new_object_until_the_run_has_ended(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    mirror = opened(tmp_path / "a", remote)
    for step in range(1, 5):
        put(tmp_path / "a", "best/weights", str(step))
        mirror.push()
        (name,) = objects(remote)
        assert name.startswith(".versions/") == (step % 2 == 0)
        assert remote.read(name) == str(step).encode()
    mirror.use_own_names()
    assert objects(remote) == {"best/weights"}
    assert elsewhere(remote, tmp_path) == {"best/weights": "4"}


# Of the history: a line and the checkpoint that needs it; everything that is replaced.
@pytest.mark.parametrize("changed", [(3, 5), (*range(1, 7), *range(9, 14))])
def test_files_that_change_while_others_are_uploaded_are_of_one_moment(
    tmp_path: Path,
    remote: RemoteFolder,
    monkeypatch: pytest.MonkeyPatch,
    changed: tuple[int, ...],
) -> None:
    """At every call of a push and look at a file, a step ends: a line, a checkpoint, a better model."""
    number, happened = 1, True
    while happened:
        folder, far = tmp_path / str(number), remote / str(number)
        for change in history(folder)[:5]:
            change()
        mirror = opened(folder, far)
        put(folder, "metrics.jsonl", "2\n")
        put(folder, "best/weights", "again")
        moments = [tree(folder)]
        step_ends = [history(folder)[index] for index in changed]
        look = AtCall(number, partial(make, step_ends, folder, moments))
        mirror.remote = Watched(far.url, look)
        with monkeypatch.context() as patch:
            patch.setattr("r1reward.runs.mirror.file_at", partial(look_at_file, look))
            mirror.push()
        assert elsewhere(far, tmp_path) in moments
        happened = look.num_looks >= number
        number += 1
    assert number > 10


def test_files_that_never_rest_are_named(tmp_path: Path, remote: RemoteFolder) -> None:
    folder = tmp_path / "a"
    mirror = opened(folder, remote)
    put(folder, "model/weights", "0")
    mirror.remote = Watched(remote.url, lambda call: put(folder, "model/weights", call))
    with pytest.raises(ServiceError, match="change faster than they can be uploaded"):
        mirror.push()


def test_a_machine_that_comes_back_takes_what_the_other_one_did(
    tmp_path: Path, remote: RemoteFolder, caplog: pytest.LogCaptureFixture
) -> None:
    """And forgets what it alone had: the run went on without it."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "a").symlink_to("disk")
    put(tmp_path / "a", "metrics.jsonl", "1\n")
    opened(tmp_path / "a", remote)
    put(tmp_path / "a", "metrics.jsonl", "2 of a\n")
    caplog.set_level("INFO")
    second = opened(tmp_path / "b", remote)
    assert "1 files come from file://" in caplog.text
    put(tmp_path / "b", "metrics.jsonl", "2 of b\n")
    second.push()
    opened(tmp_path / "a", remote)
    assert tree(tmp_path / "a") == {"metrics.jsonl": "1\n2 of b\n"}


def test_of_two_runs_the_later_one_has_the_mirror_whenever_it_begins(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    """It begins at every call of the earlier one's push, which stops, or had done all it wanted."""
    number, happened = 1, True
    while happened:
        first_folder, later_folder = tmp_path / f"{number}-a", tmp_path / f"{number}-b"
        far = remote / str(number)
        put(first_folder, "metrics.jsonl", "1\n")
        put(first_folder, "recipe.yaml", "1")
        first, later = opened(first_folder, far), Mirror(later_folder, far)
        look = AtCall(number, later.open)
        first.remote = Watched(far.url, look)
        put(first_folder, "metrics.jsonl", "2 of a\n")
        put(first_folder, "recipe.yaml", "2 of a")
        happened = True
        try:
            first.push()
            happened = look.num_looks >= number
        except TakenOverError as error:
            assert "is written by another run by now: this one stops" in str(error)
        if happened:
            put(later_folder, "metrics.jsonl", "2 of b\n")
            later.push()
            with pytest.raises(TakenOverError):
                put(first_folder, "metrics.jsonl", "3 of a\n")
                first.push()
            assert elsewhere(far, tmp_path) == tree(later_folder)
            of_first = "2 of a" in tree(later_folder)["recipe.yaml"]
            assert ("2 of a" in tree(later_folder)["metrics.jsonl"]) == of_first
        number += 1
    assert number > 8


def test_an_earlier_run_that_goes_on_while_a_later_one_begins_does_not_mix_with_it(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    """It replaces a file at every call with which the later one begins."""
    number, happened = 1, True
    while happened:
        folder, far = tmp_path / f"{number}-a", remote / str(number)
        put(folder, "best/weights", "1")
        first = opened(folder, far)

        def goes_on(folder: Path = folder, first: Mirror = first) -> None:
            put(folder, "best/weights", "2")
            with suppress(TakenOverError):
                first.push()

        look = AtCall(number, goes_on)
        opened(tmp_path / f"{number}-b", Watched(far.url, look))
        found = tree(tmp_path / f"{number}-b")
        assert found in ({"best/weights": "1"}, {"best/weights": "2"})
        assert elsewhere(far, tmp_path) == found
        happened = look.num_looks >= number
        number += 1
    assert number > 8


def test_what_the_mirror_lacks_is_kept_wherever_the_next_run_here_is_killed(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    number, is_cut = 1, True
    while is_cut:
        folder, far, is_cut = tmp_path / str(number), remote / str(number), False
        put(folder, "metrics.jsonl", "1\n")
        opened(folder, far)
        put(folder, "metrics.jsonl", "2\n")
        try:
            opened(folder, Watched(far.url, AtCall(number, fail)))
        except ServiceError:
            is_cut = True
        put(folder, "metrics.jsonl", "3\n")
        opened(folder, far)
        assert tree(folder) == elsewhere(far, tmp_path) == {"metrics.jsonl": "1\n2\n3\n"}
        number += 1
    assert number > 8


def test_nothing_is_overwritten_that_a_latest_of_a_failed_call_may_name(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    mirror = opened(tmp_path / "a", remote)
    for text, call in (("old", "LATEST was written"), ("new", "LATEST is to be written")):
        put(tmp_path / "a", "best/weights", text)
        mirror.remote = Watched(remote.url, AtCall(1, fail, (call,)))
        with pytest.raises(ServiceError, match="away"):
            mirror.push()
    assert elsewhere(remote, tmp_path) == {"best/weights": "old"}


def test_a_run_killed_while_the_folder_comes_can_be_started_again(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    for name in ("metrics.jsonl", "model/weights", "recipe.yaml"):
        put(tmp_path / "a", name, name)
    opened(tmp_path / "a", remote)
    for number in range(1, 12):
        with pytest.raises(ServiceError, match="away"):
            opened(tmp_path / "b", Watched(remote.url, AtCall(number, fail)))
    opened(tmp_path / "b", remote)
    assert tree(tmp_path / "b") == tree(tmp_path / "a")


def test_a_mirror_that_was_removed_is_made_again(tmp_path: Path, remote: RemoteFolder) -> None:
    put(tmp_path / "a", "metrics.jsonl", "1\n")
    opened(tmp_path / "a", remote)
    shutil.rmtree(tmp_path / "remote")
    opened(tmp_path / "a", remote)
    assert elsewhere(remote, tmp_path) == {"metrics.jsonl": "1\n"}


def test_what_a_cleaner_of_temporary_folders_took_comes_back(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    folder = tmp_path / "a"
    names = ("recipe.yaml", "metrics.jsonl", "checkpoints/step-000002/loop.json")
    result = "eval/step-000002/result.json"
    for name in (*names, "eval/step-000002/answers.jsonl", result):
        put(folder, name, json.dumps({"of": name}))
    opened(folder, remote)
    before = tree(folder)
    for name in names:
        (folder / name).unlink()
    shutil.rmtree(folder / "eval")
    opened(folder, remote)
    assert tree(folder) == elsewhere(remote, tmp_path) == before
    # But not the result of an evaluation that is being made again.
    opened(folder, remote)
    shutil.rmtree(folder / "eval")
    put(folder, "eval/step-000002/answers.jsonl", "half")
    opened(folder, remote)
    assert before.keys() - tree(folder).keys() == {result}


def test_files_that_come_and_go_while_they_are_looked_for_are_no_error(tmp_path: Path) -> None:
    """Checkpoints are rotated and learners' folders removed beside the looking."""
    put(tmp_path, "metrics.jsonl", "1\n")
    ended = threading.Event()

    def churn() -> None:
        while not ended.is_set():
            for number in range(20):
                put(tmp_path, f"checkpoints/step-{number}/deep/in/it/state", "s")
            shutil.rmtree(tmp_path / "checkpoints")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(200):
            assert "metrics.jsonl" in scan(tmp_path)
    finally:
        ended.set()
        thread.join()


def test_a_checkpoint_goes_through_the_mirror(tmp_path: Path, remote: RemoteFolder) -> None:
    """Learner states lie at the URL alone, the run on another machine loads them from there."""
    mirror = opened(tmp_path / "a", remote)
    learner = FakeLearner(0.0)
    for step, level in ((2, 0.25), (4, 0.5), (6, 0.75)):
        learner.level = level
        folder = tmp_path / "a" / "checkpoints"
        asyncio.run(save_checkpoint(folder, learner, step, 2, remote / "checkpoints"))
        mirror.push()
    assert {name.split("/")[1] for name in objects(remote)} == {"step-000004", "step-000006"}
    assert all(name.endswith("loop.json") for name in tree(tmp_path / "a"))
    remote.write("checkpoints/step-000006/learner-1/state", b"of a save that was killed")
    remote.write("sft/checkpoints/step-000002/learner-2/state", b"of another")
    remote.write("checkpoints/notes.txt", b"put there by hand")
    before = objects(remote)
    opened(tmp_path / "b", remote)
    assert before - objects(remote) == {
        "checkpoints/step-000006/learner-1/state",
        "sft/checkpoints/step-000002/learner-2/state",
    }
    assert tree(tmp_path / "b") == tree(tmp_path / "a")
    folder, fresh = tmp_path / "b" / "checkpoints", FakeLearner(0.0)
    assert asyncio.run(resume(folder, fresh, remote / "checkpoints")) == 6
    assert fresh.level == 0.75
    with pytest.raises(InputError, match="has its learner state in the run's copy"):
        asyncio.run(resume(folder, fresh))
    newest = remote / "checkpoints/step-000006"
    newest.remove(newest.files())
    with pytest.raises(InputError, match=r"step-000006/learner-\w+, where nothing is: remove"):
        asyncio.run(resume(folder, fresh, remote / "checkpoints"))


def test_a_run_on_a_disk_may_be_given_a_url_later(tmp_path: Path, remote: RemoteFolder) -> None:
    learner = FakeLearner(0.0)
    learner.level = 0.25
    asyncio.run(save_checkpoint(tmp_path / "a" / "checkpoints", learner, 2, 2))
    opened(tmp_path / "a", remote)
    mirror = opened(tmp_path / "b", remote)
    assert set(tree(tmp_path / "b")) == {"checkpoints/step-000002/loop.json"}
    folder, fresh = tmp_path / "b" / "checkpoints", FakeLearner(0.0)
    assert asyncio.run(resume(folder, fresh, remote / "checkpoints")) == 2
    assert fresh.level == 0.25
    shutil.rmtree(folder)
    mirror.push()
    assert objects(remote) == set()


def test_foreign_files_on_either_side_are_left_alone(tmp_path: Path, remote: RemoteFolder) -> None:
    remote.write("holiday.jpg", b"j")
    with pytest.raises(InputError, match="holds files that are not a run's"):
        opened(tmp_path / "a", remote)
    remote.write(".r1reward-copy.json", b"{}")
    with pytest.raises(
        InputError, match=r"a run of r1reward 0\.1 goes on where all of it is downloaded to"
    ):
        opened(tmp_path / "a", remote)
    shutil.rmtree(tmp_path / "remote")
    put(tmp_path / "a", "metrics.jsonl", "of a\n")
    opened(tmp_path / "a", remote)
    put(tmp_path / "b", "thesis.tex", "t")
    with pytest.raises(InputError, match="holds files that are not a copy of"):
        opened(tmp_path / "b", remote)
    assert tree(tmp_path / "b") == {"thesis.tex": "t"}
    with pytest.raises(InputError, match=r"is a copy of .*/run, not of .*/other: choose"):
        opened(tmp_path / "a", RemoteFolder(f"file://{tmp_path}/remote/other"))
    assert tree(tmp_path / "a") == {"metrics.jsonl": "of a\n"}


def test_a_working_folder_of_another_user_is_refused(
    tmp_path: Path, remote: RemoteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    working_folders().symlink_to(theirs)
    with pytest.raises(InputError, match="belongs to another user: set TMPDIR"):
        opened(working_folder(remote.url), remote)
    assert list(theirs.iterdir()) == []
    working_folders().unlink()
    opened(working_folder(remote.url), remote)
    assert working_folders().stat().st_mode & 0o777 == 0o700


def test_a_run_is_looked_at_from_anywhere(
    tmp_path: Path, remote: RemoteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not in the folder that a run of this URL may be working in."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    mirror = opened(tmp_path / "a", remote)
    for text in ("1\n", "2\n"):
        for name in ("eval/step-000000/result.json", "model/model.safetensors", "metrics.jsonl"):
            put(tmp_path / "a", name, text)
        mirror.push()
        remote.write("checkpoints/step-000002/learner-1/state", b"large")
        copy = look_at(remote.url)
        assert set(tree(copy)) == {"eval/step-000000/result.json", "metrics.jsonl"}
        assert tree(copy)["eval/step-000000/result.json"] == text
    assert copy != working_folder(remote.url)
    assert look_at(str(tmp_path / "a")) == tmp_path / "a"
    with pytest.raises(InputError, match="nothing is there"):
        look_at(f"{remote.url}/no/such")


def test_a_url_for_the_run_folder_works_in_a_folder_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(make_recipe()))
    recipe = load_recipe(path, ["run_dir=s3://bucket/runs/seven-b/"])
    assert recipe.run_url == "s3://bucket/runs/seven-b"
    assert recipe.run_dir == working_folder("s3://bucket/runs/seven-b")
    assert recipe.run_dir.name.startswith("seven-b-")
    assert recipe.run_dir != load_recipe(path, ["run_dir=s3://other/runs/seven-b"]).run_dir
    path.write_text(dump_recipe(recipe))
    assert tempfile.gettempdir() not in path.read_text()  # a job runs where that is another
    assert load_recipe(path) == recipe
    both = load_recipe(path, ["run_dir=/nvme/run", "run_url=gs://bucket/x"])
    assert (both.run_dir, both.run_url) == (Path("/nvme/run"), "gs://bucket/x")


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["run_url=/mnt/x"], "is no URL such as"),
        (["run_url=s3://"], "is no URL such as"),
        (["run_dir=ftp://me:secret@host/x"], "has a password or a query in it"),
        (["run_url=abfs://c/x?sig=1"], "has a password or a query in it"),
        (["run_url=s3://key:sec/secret@bucket/x"], "has a password or a query in it"),
        (["run_url=file://runs/x"], "write file:///PATH"),
        (["run_url=s3://bucket//x"], "double slash"),
        (["run_dir=/data/run", "run_url=file:///data/run/copy"], "one lies in the other"),
        (["run_dir=/data/run", "run_url=file:///data/run"], "one lies in the other"),
        (["run_dir=/data/run", "run_url=local:///data"], "one lies in the other"),
        (["run_url=s3://b/x", "run_dir=s3://b/y"], "run_dir is s3://b/y and run_url is s3://b/x"),
        (["run_url=s3://b/x", "run_dir=s3://key:secret@b/y"], "has a password or a query in it"),
    ],
)
def test_urls_that_cannot_be_are_refused(tmp_path: Path, overrides: list[str], reason: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(make_recipe()))
    with pytest.raises(RecipeError, match=reason) as refused:
        load_recipe(path, overrides)
    assert "secret" not in str(refused.value)
