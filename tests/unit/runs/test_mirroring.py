"""The lock on a run folder, and the thread that mirrors it."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1reward.errors import InputError, RecipeError, ServiceError
from r1reward.recipe.recipe import Recipe
from r1reward.runs.mirror import Mirror, TakenOverError
from r1reward.runs.mirroring import kept_copied
from r1reward.runs.storage import RemoteFolder
from tests.fakes import make_recipe


def recipe_at(tmp_path: Path, *, has_url: bool = True) -> Recipe:
    settings = make_recipe().model_dump() | {"run_dir": tmp_path / "a"}
    url = f"file://{tmp_path}/remote/run" if has_url else None
    return Recipe.model_validate(settings | {"run_url": url})


def write_metrics(tmp_path: Path) -> None:
    (tmp_path / "a" / "metrics.jsonl").write_text("1\n")


def mirrored_metrics(tmp_path: Path) -> Path:
    return tmp_path / "remote" / "run" / "metrics.jsonl"


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def test_the_folder_is_mirrored_while_a_verb_works_and_whole_at_its_end(tmp_path: Path) -> None:
    with kept_copied(recipe_at(tmp_path), every_s=0.01):
        write_metrics(tmp_path)
        wait_for(mirrored_metrics(tmp_path))
        for text in ("first", "second"):
            (tmp_path / "a" / "new").write_text(text)
            (tmp_path / "a" / "new").replace(tmp_path / "a" / "report.html")
            wait_for(tmp_path / "remote" / "run" / "LATEST")
    assert (tmp_path / "remote" / "run" / "report.html").read_text() == "second"


def test_an_error_of_the_run_is_what_is_raised(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="mine"), kept_copied(recipe_at(tmp_path)):
        write_metrics(tmp_path)
        raise RecipeError("mine")
    assert mirrored_metrics(tmp_path).exists()


def break_storage(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "remote")
    (tmp_path / "remote").write_text("a file where the storage was")


def test_a_storage_that_fails_is_said_once_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_at(tmp_path)
    with (
        pytest.raises(ServiceError, match=r"in .*/a alone .* the same command on this machine"),
        kept_copied(recipe, every_s=0.01),
    ):
        break_storage(tmp_path)
        write_metrics(tmp_path)
        while "the run's copy waits" not in caplog.text:
            time.sleep(0.01)
        time.sleep(0.1)
    assert caplog.text.count("the run's copy waits") == 1
    (tmp_path / "remote").unlink()
    with kept_copied(recipe):
        pass
    assert mirrored_metrics(tmp_path).read_text() == "1\n"


def test_a_storage_that_comes_back_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with kept_copied(recipe_at(tmp_path), every_s=0.01):
        (tmp_path / "remote").rename(tmp_path / "away")
        (tmp_path / "remote").write_text("a file where the storage was")
        write_metrics(tmp_path)
        while "the run's copy waits" not in caplog.text:
            time.sleep(0.01)
        (tmp_path / "remote").unlink()
        (tmp_path / "away").rename(tmp_path / "remote")
        while "is up to date again" not in caplog.text:
            time.sleep(0.01)
    assert mirrored_metrics(tmp_path).exists()


def test_a_failing_storage_does_not_hide_why_a_run_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RecipeError, match="mine"), kept_copied(recipe_at(tmp_path)):
        write_metrics(tmp_path)
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
def test_a_run_whose_mirror_was_taken_over_stops(tmp_path: Path) -> None:
    def run() -> None:
        with kept_copied(recipe_at(tmp_path), every_s=0.01):
            Mirror(tmp_path / "b", RemoteFolder(f"file://{tmp_path}/remote/run")).open()
            write_metrics(tmp_path)
            time.sleep(60)  # ended by the Ctrl-C that the thread gives

    with pytest.raises(TakenOverError, match="is written by another run by now"):
        run()


def test_pushing_what_takes_long_is_done_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushes: list[float] = []

    def slow_push(mirror: Mirror) -> None:
        pushes.append(time.monotonic())
        time.sleep(0.05)

    with kept_copied(recipe_at(tmp_path), every_s=0.01):
        monkeypatch.setattr(Mirror, "push", slow_push)
        while len(pushes) < 3:
            time.sleep(0.01)
        monkeypatch.undo()
    assert pushes[2] - pushes[1] > 0.45  # a tenth of the time goes into uploading


def test_without_a_url_nothing_is_mirrored(tmp_path: Path) -> None:
    with kept_copied(recipe_at(tmp_path, has_url=False)):
        write_metrics(tmp_path)
    assert not (tmp_path / "remote").exists()


def test_a_verb_that_wrote_nothing_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RecipeError), kept_copied(recipe_at(tmp_path, has_url=False)):
        raise RecipeError("wrong")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("has_url", [True, False])
def test_two_processes_do_not_work_in_one_folder(tmp_path: Path, has_url: bool) -> None:
    recipe = recipe_at(tmp_path, has_url=has_url)
    with (
        kept_copied(recipe),
        pytest.raises(InputError, match="another process works in"),
        kept_copied(recipe),
    ):
        pass
    with kept_copied(recipe):
        pass


@pytest.mark.parametrize("below", ["a", "a/run"])
def test_a_folder_that_cannot_be_made_is_said_before_anything_starts(
    tmp_path: Path, below: str
) -> None:
    """Regression: a traceback after the engines had started."""
    (tmp_path / "a").write_text("mine")
    recipe = Recipe.model_validate(make_recipe().model_dump() | {"run_dir": tmp_path / below})
    said = pytest.raises(InputError, match="cannot be worked in, choose another run_dir")
    with said, kept_copied(recipe):
        raise AssertionError("something started")
