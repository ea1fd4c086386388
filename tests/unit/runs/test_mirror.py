"""A run folder and its copy: whenever the copying stops, the copy is a folder as a kill leaves it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from r1reward.errors import InputError, RecipeError, ServiceError
from r1reward.recipe.files import dump_recipe, load_recipe
from r1reward.recipe.location import working_folder, working_folders
from r1reward.recipe.recipe import Recipe
from r1reward.runs.checkpoint import resume, save_checkpoint
from r1reward.runs.mirror import CopyTakenError, RunCopy, look_at
from r1reward.runs.mirrored_files import RECORD, stamps
from r1reward.runs.mirroring import kept_copied, pause
from r1reward.runs.storage import RemoteFolder
from tests.fakes import FakeLearner, make_recipe


@pytest.fixture
def remote(tmp_path: Path) -> RemoteFolder:
    return RemoteFolder(f"file://{tmp_path}/remote/run")


def opened(local: Path, remote: RemoteFolder) -> RunCopy:
    copy = RunCopy(local, remote)
    copy.open()
    return copy


def put(root: Path, name: str, text: str, at: float | None = None) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if at is not None:
        os.utime(path, (at, at))


def tree(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file() and path.name != RECORD)
    return {path.relative_to(root).as_posix(): path.read_text() for path in files}


def far(tmp_path: Path) -> dict[str, str]:
    return tree(tmp_path / "remote" / "run")


def test_changes_are_copied_and_what_is_gone_goes(tmp_path: Path, remote: RemoteFolder) -> None:
    local = tmp_path / "a"
    put(local, "recipe.yaml", "r")
    copy = opened(local, remote)
    assert far(tmp_path) == {"recipe.yaml": "r"}
    put(local, "metrics.jsonl", "1\n")
    put(local, "eval/step-2/answers.jsonl", "half")
    copy.push()
    assert far(tmp_path) == tree(local)
    put(local, "metrics.jsonl", "1\n2\n")
    shutil.rmtree(local / "eval")
    copy.push()
    assert far(tmp_path) == {"recipe.yaml": "r", "metrics.jsonl": "1\n2\n"}


def test_half_written_files_and_links_stay_here(tmp_path: Path, remote: RemoteFolder) -> None:
    local = tmp_path / "a"
    put(local, ".recipe.yaml.partial", "half")
    put(local, ".best.old/model", "old")
    put(local, "wandb/run-1/log", "w")
    (local / "wandb" / "latest").symlink_to("run-1")
    opened(local, remote)
    assert far(tmp_path) == {"wandb/run-1/log": "w"}


def test_another_machine_goes_on_from_the_copy(tmp_path: Path, remote: RemoteFolder) -> None:
    put(tmp_path / "a", "metrics.jsonl", "1\n")
    put(tmp_path / "a", "model/weights", "w")
    opened(tmp_path / "a", remote)
    opened(tmp_path / "b", remote)
    assert tree(tmp_path / "b") == {"metrics.jsonl": "1\n", "model/weights": "w"}


def test_what_was_not_copied_when_the_machine_was_killed_is_kept_on_it(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    local = tmp_path / "a"
    opened(local, remote)
    put(local, "metrics.jsonl", "1\n2\n")
    opened(local, remote)
    assert tree(local) == far(tmp_path) == {"metrics.jsonl": "1\n2\n"}


def test_states_that_a_kill_left_on_the_disk_are_removed(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    put(tmp_path / "a", "sft/.x1y2.partial/learner/state", "large")
    opened(tmp_path / "a", remote)
    assert tree(tmp_path / "a") == {}


def test_nothing_is_copied_twice(tmp_path: Path, remote: RemoteFolder) -> None:
    local = tmp_path / "a"
    put(local, "model/weights", "w")
    opened(local, remote)
    before = (tmp_path / "remote/run/model/weights").stat().st_mtime_ns
    opened(local, remote).push()
    assert (tmp_path / "remote/run/model/weights").stat().st_mtime_ns == before


def test_a_machine_that_comes_back_takes_what_the_other_one_did(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    """And forgets what it alone had: the run went on without it."""
    put(tmp_path / "a", "metrics.jsonl", "1\n")
    opened(tmp_path / "a", remote)
    put(tmp_path / "a", "metrics.jsonl", "1\n2 of a\n")
    second = opened(tmp_path / "b", remote)
    put(tmp_path / "b", "metrics.jsonl", "1\n2 of b\n")
    second.push()
    opened(tmp_path / "a", remote)
    assert tree(tmp_path / "a") == far(tmp_path) == {"metrics.jsonl": "1\n2 of b\n"}


def test_of_two_runs_the_later_one_has_the_copy(tmp_path: Path, remote: RemoteFolder) -> None:
    first = opened(tmp_path / "a", remote)
    opened(tmp_path / "b", remote)
    put(tmp_path / "a", "metrics.jsonl", "1\n")
    with pytest.raises(CopyTakenError, match="is written by another run by now: this one stops"):
        first.push()
    assert far(tmp_path) == {}


class Stops(RemoteFolder):
    """A storage of which only the first few calls that change something get through."""

    def __init__(self, url: str, num_calls: int) -> None:
        super().__init__(url)
        object.__setattr__(self, "left", [num_calls])

    def count(self) -> None:
        left: list[int] = self.__dict__["left"]
        left[0] -= 1
        if left[0] < 0:
            raise ServiceError("the storage is away")

    def write(self, name: str, content: bytes) -> None:
        self.count()
        super().write(name, content)

    def upload(self, source: Path, name: str) -> None:
        self.count()
        super().upload(source, name)

    def remove(self, names: object) -> None:
        for name in names:  # type: ignore[attr-defined]
            self.count()
            super().remove([name])


def history(local: Path) -> list[Callable[[], None]]:
    """What a run does to its folder, in order; after each of these it may be killed."""

    def evaluate() -> None:
        put(local, "eval/step-4/answers.jsonl", "a")
        put(local, "eval/step-4/result.json", "needs answers")

    def checkpoint(step: int) -> None:
        put(local, f"checkpoints/step-{step:06d}/loop.json", f"needs metrics {step}")

    def rotate() -> None:
        checkpoint(4)
        shutil.rmtree(local / "checkpoints/step-000002")

    return [
        lambda: put(local, "metrics.jsonl", "12"),
        lambda: checkpoint(2),
        lambda: put(local, "metrics.jsonl", "1234"),
        evaluate,
        rotate,
        lambda: put(local, "stage.json", json.dumps({"outputs": {}})),
        lambda: put(local, "model/weights", "w"),
        lambda: put(local, "stage.json", json.dumps({"outputs": {"model": "hash"}})),
    ]


def is_sound(found: dict[str, str], had_checkpoint: bool) -> bool:
    """Everything that is there has what it needs, and the last checkpoint does not go."""
    metrics = found.get("metrics.jsonl", "")
    steps = [name for name in found if name.endswith("loop.json")]
    return (
        all(found[name][-1] in metrics for name in steps)
        and ("eval/step-4/result.json" not in found or "eval/step-4/answers.jsonl" in found)
        and ("hash" not in found.get("stage.json", "") or "model/weights" in found)
        and (not had_checkpoint or bool(steps))
    )


@pytest.mark.parametrize("at_once", [1, 2, 3, 4, 8])
def test_a_copy_that_stops_anywhere_is_a_folder_that_a_kill_left(
    tmp_path: Path, at_once: int
) -> None:
    """Copied after every change, after some, or after all of them, and cut short at every call."""
    num_calls, is_cut = 1, True
    while is_cut:
        root = tmp_path / str(num_calls)
        local = root / "local"
        remote = Stops(f"file://{root}/remote", num_calls)
        is_cut = had_checkpoint = False
        try:
            copy = opened(local, remote)
            for number, change in enumerate(history(local), start=1):
                time.sleep(0.005)  # a tick of the file system's clock
                change()
                if number % at_once == 0:
                    copy.push()
                had_checkpoint |= any(name.endswith("loop.json") for name in copy.copied)
            copy.push()
        except ServiceError:
            is_cut = True
        found = tree(root / "remote")
        assert is_sound(found, had_checkpoint), found
        num_calls += 1
    assert found == tree(local)
    assert num_calls > 8


def test_a_checkpoint_goes_through_the_copy(tmp_path: Path, remote: RemoteFolder) -> None:
    """Learner states lie in the copy alone, the run on another machine loads them from there."""
    copy = opened(tmp_path / "a", remote)
    learner = FakeLearner(0.0)
    folder = tmp_path / "a" / "checkpoints"
    for step, level in ((2, 0.25), (4, 0.5), (6, 0.75)):
        learner.level = level
        asyncio.run(save_checkpoint(folder, learner, step, 2, remote / "checkpoints"))
        copy.push()
    assert {name.split("/")[1] for name in far(tmp_path)} == {"step-000004", "step-000006"}
    assert all(name.endswith("loop.json") for name in tree(tmp_path / "a"))
    opened(tmp_path / "b", remote)
    assert set(tree(tmp_path / "b")) == set(tree(tmp_path / "a"))
    fresh = FakeLearner(0.0)
    step = asyncio.run(resume(tmp_path / "b" / "checkpoints", fresh, remote / "checkpoints"))
    assert (step, fresh.level) == (6, 0.75)
    with pytest.raises(InputError, match="has its learner state in the run's copy"):
        asyncio.run(resume(tmp_path / "b" / "checkpoints", fresh))
    (remote / "checkpoints/step-000006").remove((remote / "checkpoints/step-000006").files())
    with pytest.raises(InputError, match=r"step-000006/learner-\w+, where nothing is: remove"):
        asyncio.run(resume(tmp_path / "b" / "checkpoints", fresh, remote / "checkpoints"))


def test_a_run_on_a_disk_may_be_given_a_copy_later(tmp_path: Path, remote: RemoteFolder) -> None:
    learner = FakeLearner(0.0)
    learner.level = 0.25
    asyncio.run(save_checkpoint(tmp_path / "a" / "checkpoints", learner, 2, 2))
    copy = opened(tmp_path / "a", remote)
    folder = tmp_path / "a" / "checkpoints"
    for path in folder.glob("step-000002/*"):
        if path.name != "loop.json":
            path.unlink()
    copy.push()
    opened(tmp_path / "a", remote)
    fresh = FakeLearner(0.0)
    assert asyncio.run(resume(folder, fresh, remote / "checkpoints")) == 2
    assert fresh.level == 0.25
    shutil.rmtree(folder)
    put(tmp_path / "a", "metrics.jsonl", "")
    copy = opened(tmp_path / "a", remote)
    shutil.rmtree(folder)
    copy.push()
    assert far(tmp_path) == {"metrics.jsonl": ""}


def test_learner_states_without_a_checkpoint_are_removed(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    opened(tmp_path / "a", remote)
    remote.write("sft/checkpoints/step-000002/learner-1/state", b"whole")
    remote.write("sft/checkpoints/step-000002/loop.json", b"{}")
    remote.write("sft/checkpoints/step-000004/learner-2/state", b"of a kill")
    opened(tmp_path / "a", remote)
    assert set(far(tmp_path)) == {
        "sft/checkpoints/step-000002/learner-1/state",
        "sft/checkpoints/step-000002/loop.json",
    }


def test_foreign_files_on_either_side_are_left_alone(tmp_path: Path, remote: RemoteFolder) -> None:
    remote.write("holiday.jpg", b"j")
    with pytest.raises(InputError, match="holds files that are not a run's"):
        opened(tmp_path / "a", remote)
    remote.remove(["holiday.jpg"])
    opened(tmp_path / "a", remote)
    put(tmp_path / "b", "thesis.tex", "t")
    with pytest.raises(InputError, match="holds files that are not a copy of"):
        opened(tmp_path / "b", remote)
    assert tree(tmp_path / "b") == {"thesis.tex": "t"}


def recipe_at(tmp_path: Path) -> Recipe:
    changes = {"run_dir": tmp_path / "a", "run_url": f"file://{tmp_path}/remote/run"}
    return make_recipe().model_copy(update=changes)


def test_the_folder_is_copied_while_a_verb_works_and_whole_at_its_end(tmp_path: Path) -> None:
    with kept_copied(recipe_at(tmp_path), every_s=0.01):
        put(tmp_path / "a", "metrics.jsonl", "1\n")
        while far(tmp_path) != {"metrics.jsonl": "1\n"}:
            time.sleep(0.01)
        put(tmp_path / "a", "report.html", "<html>")
    assert far(tmp_path) == {"metrics.jsonl": "1\n", "report.html": "<html>"}


def test_an_error_of_the_run_is_what_is_raised(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="mine"), kept_copied(recipe_at(tmp_path)):
        put(tmp_path / "a", "metrics.jsonl", "1\n")
        raise RecipeError("mine")
    assert far(tmp_path) == {"metrics.jsonl": "1\n"}


def break_storage(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "remote")
    (tmp_path / "remote").write_text("a file where the storage was")


def test_a_storage_that_fails_is_said_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_at(tmp_path)
    with (
        pytest.raises(ServiceError, match=r"in .*/a alone .* the same command on this machine"),
        kept_copied(recipe, every_s=0.01),
    ):
        break_storage(tmp_path)
        put(tmp_path / "a", "metrics.jsonl", "1\n")
        while "the run's copy waits" not in caplog.text:
            time.sleep(0.01)
    (tmp_path / "remote").unlink()
    with kept_copied(recipe):
        pass
    assert far(tmp_path) == {"metrics.jsonl": "1\n"}


def test_a_failing_storage_does_not_hide_why_a_run_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RecipeError, match="mine"), kept_copied(recipe_at(tmp_path)):
        put(tmp_path / "a", "metrics.jsonl", "1\n")
        break_storage(tmp_path)
        raise RecipeError("mine")
    assert "what the run wrote last is in" in caplog.text


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Tests in the background of a shell are started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_a_run_whose_copy_was_taken_stops(tmp_path: Path, remote: RemoteFolder) -> None:
    def run() -> None:
        with kept_copied(recipe_at(tmp_path), every_s=0.01):
            opened(tmp_path / "b", remote)
            put(tmp_path / "a", "metrics.jsonl", "1\n")
            time.sleep(60)  # ended by the Ctrl-C that the copy gives

    with pytest.raises(CopyTakenError, match="is written by another run by now"):
        run()


def test_a_finished_run_is_looked_at_from_anywhere(
    tmp_path: Path, remote: RemoteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not in the folder that a run of this URL may be working in."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for name in ("eval/step-000000/result.json", "model/model.safetensors", "metrics.jsonl"):
        put(tmp_path / "a", name, "x")
    opened(tmp_path / "a", remote)
    remote.write("checkpoints/step-000002/learner-1/state", b"large")
    found = look_at(remote.url)
    assert set(tree(found)) == {"eval/step-000000/result.json", "metrics.jsonl"}
    assert found != working_folder(remote.url)
    assert look_at(str(tmp_path / "a")) == tmp_path / "a"
    with pytest.raises(InputError, match="nothing is there"):
        look_at(f"{remote.url}/no/such")


def test_copying_what_takes_long_is_done_less_often() -> None:
    assert pause(5, 0.01) == 5
    assert pause(5, 10) == pytest.approx(90)  # a tenth of the time goes into copying


def test_a_working_folder_of_somebody_else_is_refused(
    tmp_path: Path, remote: RemoteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    working_folders().symlink_to(theirs)
    with pytest.raises(InputError, match="is somebody else's: set TMPDIR"):
        opened(working_folder(remote.url), remote)
    assert list(theirs.iterdir()) == []
    working_folders().unlink()
    opened(working_folder(remote.url), remote)
    assert working_folders().stat().st_mode & 0o777 == 0o700


def test_without_a_url_nothing_is_copied(tmp_path: Path) -> None:
    recipe = recipe_at(tmp_path).model_copy(update={"run_url": None})
    with kept_copied(recipe), kept_copied(None):
        put(tmp_path / "a", "metrics.jsonl", "1\n")
    assert not (tmp_path / "remote").exists()


def test_a_verb_that_wrote_nothing_leaves_no_folder(tmp_path: Path) -> None:
    recipe = recipe_at(tmp_path).model_copy(update={"run_url": None})
    with pytest.raises(RecipeError), kept_copied(recipe):
        raise RecipeError("wrong")
    assert not recipe.run_dir.exists()


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
    ("override", "said"),
    [
        ("run_url=/mnt/x", "is no URL such as"),
        ("run_url=s3://", "is no URL such as"),
        ("run_dir=ftp://me:secret@host/x", "has a password or a query in it"),
        ("run_url=abfs://c/x?sig=1", "has a password or a query in it"),
        ("run_url=s3://key:sec/secret@bucket/x", "has a password or a query in it"),
        ("run_url=file://runs/x", "write file:///PATH"),
        ("run_url=s3://bucket//x", "double slash"),
    ],
)
def test_urls_that_cannot_be_are_refused(tmp_path: Path, override: str, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(make_recipe()))
    with pytest.raises(RecipeError, match=said) as refused:
        load_recipe(path, [override])
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["file:///data/run/copy", "file:///data/run", "local:///data"])
def test_a_folder_is_not_copied_into_itself(tmp_path: Path, url: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(make_recipe()))
    with pytest.raises(RecipeError, match="of which one lies in the other"):
        load_recipe(path, ["run_dir=/data/run", f"run_url={url}"])
    load_recipe(path, ["run_dir=/data/run", "run_url=file:///data/run-2"])


def test_two_urls_are_one_too_many(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"run_url": "s3://b/x", "run_dir": "s3://b/y"}))
    with pytest.raises(RecipeError, match="run_dir is s3://b/y and run_url is s3://b/x: give one"):
        load_recipe(path)


def test_a_password_is_not_shown_beside_another_url(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"run_url": "s3://b/x", "run_dir": "s3://key:secret@b/y"}))
    with pytest.raises(RecipeError, match="has a password or a query in it") as refused:
        load_recipe(path)
    assert "secret" not in str(refused.value)


def test_the_log_says_how_many_files_came(
    tmp_path: Path, remote: RemoteFolder, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "a", "metrics.jsonl", "1\n")
    opened(tmp_path / "a", remote)
    with caplog.at_level(logging.INFO):
        opened(tmp_path / "b", remote)
    assert "1 files come from file://" in caplog.text


class Meanwhile(RemoteFolder):
    """A storage during whose next calls something else happens: ``then`` is by the method's name."""

    def __init__(self, url: str, **then: Callable[[], None]) -> None:
        super().__init__(url)
        object.__setattr__(self, "then", then)

    def happens(self, method: str) -> None:
        then: dict[str, Callable[[], None]] = self.__dict__["then"]
        then.pop(method, lambda: None)()

    def write(self, name: str, content: bytes) -> None:
        self.happens("before_write")
        super().write(name, content)
        self.happens("after_write")

    def upload(self, source: Path, name: str) -> None:
        super().upload(source, name)
        self.happens("after_upload")

    def download(self, name: str, target: Path) -> None:
        super().download(name, target)
        self.happens("after_download")


def fail() -> None:
    raise ServiceError("the storage is away")


def test_a_storage_that_fails_as_a_push_ends_is_no_other_run(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    copy = opened(tmp_path / "a", remote)
    for method in ("before_write", "after_write"):
        put(tmp_path / "a", "metrics.jsonl", method)
        copy.remote = Meanwhile(remote.url, **{method: fail})
        with pytest.raises(ServiceError, match="away"):
            copy.push()
        put(tmp_path / "a", "metrics.jsonl", f"{method}, then more")
        copy.push()
        assert far(tmp_path) == tree(tmp_path / "a")


@pytest.mark.parametrize("method", ["before_write", "after_write"])
def test_what_a_failing_storage_lacks_is_kept_whether_or_not_it_took_the_last_word(
    tmp_path: Path, remote: RemoteFolder, method: str
) -> None:
    copy = opened(tmp_path / "a", remote)
    put(tmp_path / "a", "metrics.jsonl", "1\n")
    copy.remote = Meanwhile(remote.url, **{method: fail})
    with pytest.raises(ServiceError, match="away"):
        copy.push()
    put(tmp_path / "a", "metrics.jsonl", "1\n2\n")
    with pytest.raises(ServiceError, match="away"):
        opened(tmp_path / "a", Meanwhile(remote.url, **{method: fail}))
    opened(tmp_path / "a", remote)
    assert tree(tmp_path / "a") == far(tmp_path) == {"metrics.jsonl": "1\n2\n"}


def test_a_run_killed_while_the_copy_comes_can_be_started_again(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    for name in ("metrics.jsonl", "model/weights", "recipe.yaml"):
        put(tmp_path / "a", name, name)
    opened(tmp_path / "a", remote)
    with pytest.raises(ServiceError, match="away"):
        opened(tmp_path / "b", Meanwhile(remote.url, after_download=fail))
    assert len(tree(tmp_path / "b")) == 1
    opened(tmp_path / "b", remote)
    assert tree(tmp_path / "b") == far(tmp_path) == tree(tmp_path / "a")


def test_a_folder_that_is_of_another_url_is_left_alone(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    other = RemoteFolder(f"file://{tmp_path}/remote/other")
    put(tmp_path / "a", "metrics.jsonl", "of a")
    opened(tmp_path / "a", remote)
    with pytest.raises(InputError, match=r"is a copy of .*/run, not of .*/other: choose"):
        opened(tmp_path / "a", other)  # new
    put(tmp_path / "b", "metrics.jsonl", "of b")
    opened(tmp_path / "b", other)
    with pytest.raises(InputError, match=r"is a copy of .*/run, not of .*/other: choose"):
        opened(tmp_path / "a", other)  # another run's
    assert tree(tmp_path / "a") == far(tmp_path) == {"metrics.jsonl": "of a"}


def test_a_copy_that_was_removed_is_made_again(tmp_path: Path, remote: RemoteFolder) -> None:
    put(tmp_path / "a", "metrics.jsonl", "1\n")
    opened(tmp_path / "a", remote)
    shutil.rmtree(tmp_path / "remote")
    opened(tmp_path / "a", remote)
    assert far(tmp_path) == {"metrics.jsonl": "1\n"}


def test_a_file_that_grows_while_others_are_copied_is_copied_before_what_needs_it(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    local = tmp_path / "a"
    copy = opened(local, remote)
    put(local, "rollouts/step-2", "r", at=1)
    put(local, "metrics.jsonl", "12", at=2)
    put(local, "checkpoints/step-000002/loop.json", "needs metrics 2", at=3)
    copy.remote = Meanwhile(
        remote.url, after_upload=lambda: put(local, "metrics.jsonl", "123", at=4)
    )
    copy.push()
    assert far(tmp_path) == tree(local)


def test_nothing_is_complete_by_a_file_that_was_replaced_while_others_were_copied(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    """The push begins again; nothing is there of the one that was broken off but its files."""
    local = tmp_path / "a"
    copy = opened(local, remote)
    put(local, "model/a", "a", at=1)
    put(local, "model/b", "b", at=2)
    put(local, "stage.json", json.dumps({"outputs": {"model": "hash"}}), at=3)
    seen = []

    def replace() -> None:
        put(local, "model/.b", "B")
        (local / "model/.b").replace(local / "model/b")

    class Watched(Meanwhile):
        def upload(self, source: Path, name: str) -> None:
            if name == "stage.json":
                seen.append(far(tmp_path)["model/b"])
            super().upload(source, name)

    copy.remote = Watched(remote.url, after_upload=replace)
    copy.push()
    assert seen == ["B"]
    assert far(tmp_path) == tree(local)


def test_a_stage_that_began_is_copied_before_its_first_files(tmp_path: Path) -> None:
    """Also if they were written within one tick of the clock."""
    put(tmp_path / "a", "sft/answers.jsonl", "", at=1)
    put(tmp_path / "a", "sft/stage.json", json.dumps({"outputs": {}}), at=1)
    with pytest.raises(ServiceError, match="away"):
        opened(tmp_path / "a", Stops(f"file://{tmp_path}/remote/run", 2))
    assert set(far(tmp_path)) == {"sft/stage.json"}


def test_the_best_model_is_never_of_two_steps(tmp_path: Path) -> None:
    """Wherever the copying of a better one stops."""
    num_calls, is_cut = 1, True
    while is_cut:
        root = tmp_path / str(num_calls)
        is_cut = False
        try:
            copy = opened(root / "local", Stops(f"file://{root}/remote", num_calls))
            for step in "24":
                shutil.rmtree(root / "local", ignore_errors=True)
                for name in ("weights-1", "weights-2", "best.json"):
                    put(root / "local" / "best", name, step)
                copy.push()
        except ServiceError:
            is_cut = True
        found = tree(root / "remote")
        assert "best/best.json" not in found or len(set(found.values())) == 1, found
        num_calls += 1
    assert num_calls > 8


def test_a_replaced_file_of_the_same_size_and_time_is_copied(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    put(tmp_path / "a", "loop.json", "1", at=1)
    copy = opened(tmp_path / "a", remote)
    put(tmp_path / "a", ".loop.json.partial", "2", at=1)
    (tmp_path / "a" / ".loop.json.partial").replace(tmp_path / "a" / "loop.json")
    copy.push()
    assert far(tmp_path) == {"loop.json": "2"}


def test_states_of_a_step_that_was_saved_again_are_removed(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    put(tmp_path / "a", "checkpoints/step-000002/loop.json", json.dumps({"learner": "learner-2"}))
    opened(tmp_path / "a", remote)
    remote.write("checkpoints/step-000002/learner-1/state", b"of a kill")
    remote.write("checkpoints/step-000002/learner-2/state", b"whole")
    remote.write("checkpoints/notes.txt", b"put there by hand")
    opened(tmp_path / "a", remote)
    assert set(far(tmp_path)) == {
        "checkpoints/step-000002/learner-2/state",
        "checkpoints/step-000002/loop.json",
        "checkpoints/notes.txt",
    }


def test_an_earlier_run_copies_nothing_while_the_later_one_brings(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    put(tmp_path / "a", "metrics.jsonl", "1\n")
    first = opened(tmp_path / "a", remote)
    put(tmp_path / "a", "metrics.jsonl", "1\n2\n")

    def earlier_goes_on() -> None:
        with pytest.raises(CopyTakenError, match="is written by another run by now"):
            first.push()

    opened(tmp_path / "b", Meanwhile(remote.url, after_download=earlier_goes_on))
    assert far(tmp_path) == tree(tmp_path / "b") == {"metrics.jsonl": "1\n"}


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints/step-000002/loop.json"])
def test_an_earlier_run_that_is_copying_does_not_take_the_copy_back(
    tmp_path: Path, remote: RemoteFolder, name: str
) -> None:
    first = opened(tmp_path / "a", remote)
    later: list[RunCopy] = []
    first.remote = Meanwhile(
        remote.url, after_upload=lambda: later.append(opened(tmp_path / "b", remote))
    )
    put(tmp_path / "a", name, "{}")
    with pytest.raises(CopyTakenError, match="is written by another run by now"):
        first.push()
    put(tmp_path / "b", "recipe.yaml", "r")
    later[0].push()
    assert far(tmp_path)["recipe.yaml"] == "r"


@pytest.mark.parametrize("has_copy", [True, False])
def test_two_processes_do_not_work_in_one_folder(tmp_path: Path, has_copy: bool) -> None:
    recipe = recipe_at(tmp_path)
    if not has_copy:
        recipe = recipe.model_copy(update={"run_url": None})
    with (
        kept_copied(recipe),
        pytest.raises(InputError, match="another process works in"),
        kept_copied(recipe),
    ):
        pass
    with kept_copied(recipe):
        pass


def test_a_run_folder_that_is_a_link_is_emptied_before_the_copy_comes(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "a").symlink_to("disk")
    opened(tmp_path / "a", remote)
    put(tmp_path / "a", "checkpoints/step-000004/loop.json", "{}")
    opened(tmp_path / "b", remote)
    opened(tmp_path / "a", remote)
    assert tree(tmp_path / "a") == {}


def test_files_that_come_and_go_while_they_are_looked_for_are_no_error(tmp_path: Path) -> None:
    """Checkpoints are rotated and learners' folders removed beside the copying."""
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
            assert "metrics.jsonl" in stamps(tmp_path)
    finally:
        ended.set()
        thread.join()


def test_what_a_cleaner_of_temporary_folders_took_comes_back(
    tmp_path: Path, remote: RemoteFolder
) -> None:
    local = tmp_path / "a"
    names = ("recipe.yaml", "metrics.jsonl", "checkpoints/step-000002/loop.json")
    for name in (*names, "eval/step-000002/answers.jsonl", "eval/step-000002/result.json"):
        put(local, name, json.dumps({"of": name}))
    opened(local, remote)
    before = tree(local)
    for name in names:
        (local / name).unlink()
    shutil.rmtree(local / "eval")
    opened(local, remote)
    assert tree(local) == far(tmp_path) == before
    # But not the result of an evaluation that is being made again.
    shutil.rmtree(local / "eval")
    put(local, "eval/step-000002/answers.jsonl", "half")
    opened(local, remote)
    result = "eval/step-000002/result.json"
    assert tree(local) == far(tmp_path)
    assert before.keys() - tree(local).keys() == {result}
