"""Folders in object storage: on a disk, and on a server that speaks S3."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from r1reward.doctor.folders import check_run_url
from r1reward.errors import InputError, ServiceError
from r1reward.models.model_folder import resolve_model_path
from r1reward.models.model_shape import read_model_shape
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.sections import ModelSection
from r1reward.runs.storage import RemoteFolder, fetched, forget, local_copy, place_for, written_to
from r1reward.shapes import MODEL_DIR
from tests.s3_server import BUCKET, s3_server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server():
        yield f"s3://{BUCKET}"


@pytest.fixture(params=["file", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RemoteFolder:
    if request.param == "file":
        return RemoteFolder(f"file://{tmp_path}/remote/run")
    return RemoteFolder(f"{request.getfixturevalue('s3')}/{tmp_path.name}/run")


def test_what_is_written_is_listed_read_and_removed(folder: RemoteFolder) -> None:
    assert folder.files() == {}
    assert folder.read("a/b.txt") is None
    folder.write("a/b.txt", b"four")
    folder.write("c.txt", b"")
    assert folder.files() == {"a/b.txt": 4, "c.txt": 0}
    assert (folder / "a").files() == {"b.txt": 4}
    folder.write("a/b.txt", b"three")
    assert folder.read("a/b.txt") == b"three"
    folder.remove(["a/b.txt", "never there"])
    assert folder.files() == {"c.txt": 0}


def test_another_process_sees_the_same_folder(folder: RemoteFolder) -> None:
    folder.write("a", b"1")
    assert folder.files() == {"a": 1}
    other: RemoteFolder = pickle.loads(pickle.dumps(folder))
    other.write("b", b"22")
    assert folder.files() == {"a": 1, "b": 2}


def test_files_go_up_and_come_down_whole(folder: RemoteFolder, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 30_000)  # more than one part of an upload
    folder.upload(source, "deep/in/it")
    folder.download("deep/in/it", tmp_path / "came" / "down")
    assert (tmp_path / "came" / "down").read_bytes() == source.read_bytes()
    assert [path.name for path in (tmp_path / "came").iterdir()] == ["down"]
    folder.download("deep/in/it", tmp_path / "came" / "down", 1000)
    assert (tmp_path / "came" / "down").read_bytes() == source.read_bytes()[:1000]
    with pytest.raises(ServiceError, match="has less than the 10000000 bytes"):
        folder.download("deep/in/it", tmp_path / "came" / "down", 10_000_000)
    with pytest.raises(FileNotFoundError):
        folder.upload(tmp_path / "gone", "x")
    with pytest.raises(ServiceError, match="nowhere cannot be read"):
        folder.download("nowhere", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_file_on_a_disk_is_the_old_one_or_the_new(tmp_path: Path) -> None:
    folder = RemoteFolder(f"file://{tmp_path}/run")
    folder.write("a", b"old")
    fs, root = folder.opened
    with pytest.raises(KeyboardInterrupt), place_for(fs, f"{root}/a") as place:
        fs.pipe_file(place, b"ha")
        raise KeyboardInterrupt
    assert folder.read("a") == b"old"
    assert folder.files() == {"a": 3}


def test_what_is_no_file_of_the_folder_is_not_listed(s3: str) -> None:
    """Consoles show empty objects as folders, and an object's name may be any text."""
    client = boto3.client("s3")
    for key in ("odd/", "odd/logs/", "odd/a", "odd/../../b", "odd//c", "odder/d"):
        client.put_object(Bucket=BUCKET, Key=key, Body=b"")
    assert RemoteFolder(f"{s3}/odd").files() == {"a": 0}


def test_names_may_be_any_text(folder: RemoteFolder, tmp_path: Path) -> None:
    folder = folder / "a b/ü#1/100%25"
    names = [
        "x y.txt",
        "ü/é.txt",
        "a#b",
        "p%20c",
        "plus+",
        "star*[a]",
        "back\\slash",
        "..dots",
        "~",
    ]
    (tmp_path / "source").write_bytes(b"four")
    for name in names:
        folder.upload(tmp_path / "source", name)
        folder.download(name, tmp_path / "came")
        assert (tmp_path / "came").read_bytes() == b"four"
    assert folder.files() == dict.fromkeys(sorted(names), 4)
    folder.remove(names)
    assert folder.files() == {}


def test_ranks_bring_their_own_files_and_read_the_wanted_ones(
    folder: RemoteFolder, tmp_path: Path
) -> None:
    for rank in range(2):
        with written_to(folder.url, tmp_path / "scratch") as path:
            (path / "state").mkdir()
            (path / "state" / f"rank{rank}").write_text(str(rank))
    assert folder.files() == {"state/rank0": 1, "state/rank1": 1}
    scratch = tmp_path / "scratch"
    path = fetched(folder.url, scratch, lambda name: "rank1" in name)
    assert not (path / "state" / "rank0").exists()
    assert (path / "state" / "rank1").read_text() == "1"
    # Another rank of this node fetches what is not there yet, into the same folder.
    (path / "state" / "rank1").write_text("is not fetched again")
    assert fetched(folder.url, scratch) == path
    assert (path / "state" / "rank0").read_text() == "0"
    assert (path / "state" / "rank1").read_text() == "is not fetched again"
    forget(folder.url, scratch)
    assert list(scratch.iterdir()) == []


def test_nothing_goes_up_of_a_state_that_was_not_finished(
    folder: RemoteFolder, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="killed"), written_to(folder.url, tmp_path) as path:
        (path / "half").write_text("h")
        raise RuntimeError("killed")
    assert folder.files() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_this_machine_is_used_as_it_is(tmp_path: Path) -> None:
    with written_to(str(tmp_path), tmp_path / "scratch") as path:
        (path / "a").write_text("1")
    assert fetched(str(tmp_path), tmp_path / "scratch") == tmp_path
    forget(str(tmp_path), tmp_path / "scratch")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_bucket_that_is_not_there_is_not_made(s3: str) -> None:
    with pytest.raises(ServiceError, match="s3://no-such-bucket/run/a cannot be written"):
        RemoteFolder("s3://no-such-bucket/run").write("a", b"")
    assert RemoteFolder("s3://no-such-bucket/run").files() == {}


def test_a_storage_that_nobody_knows_is_named_with_what_to_install() -> None:
    with pytest.raises(InputError, match=r"abc://x/run: no file system .*install the fsspec"):
        RemoteFolder("abc://x/run").files()


@pytest.fixture
def own_scratch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


@pytest.mark.usefixtures("own_scratch")
def test_a_nodes_copy_follows_what_changes_and_fetches_nothing_twice(folder: RemoteFolder) -> None:
    folder.write("config.json", b"{}")
    folder.write("weights", b"one")
    copy = local_copy(folder, lambda name: name.endswith(".json"))
    assert [path.name for path in copy.iterdir()] == ["config.json"]
    assert local_copy(folder) == copy
    assert (copy / "weights").read_bytes() == b"one"
    fetched = (copy / "config.json").stat().st_mtime_ns
    folder.write("weights", b"two")
    folder.write("more", b"")
    assert local_copy(folder) == copy
    assert (copy / "weights").read_bytes() == b"two"
    assert (copy / "config.json").stat().st_mtime_ns == fetched
    folder.remove(["more"])
    local_copy(folder)
    assert sorted(path.name for path in copy.iterdir()) == ["config.json", "weights"]
    local_copy(folder, objects={"model": ("weights", 2)})
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {"model": b"tw"}


@pytest.mark.usefixtures("own_scratch")
def test_a_model_may_lie_in_object_storage(folder: RemoteFolder) -> None:
    with pytest.raises(
        InputError, match=r"model\.path: .*/run is no model folder: it has no config"
    ):
        resolve_model_path(folder.url)
    for path in MODEL_DIR.iterdir():
        folder.upload(path, path.name)
    assert read_model_shape(folder.url).num_parameters == read_model_shape("shapes").num_parameters
    assert not list(Path(resolve_model_path(folder.url, with_weights=False)).glob("*.safetensors"))
    here = PolicyProcessor(ModelSection(path="shapes"))
    there = PolicyProcessor(ModelSection(path=folder.url))
    assert there.tokenizer.get_vocab() == here.tokenizer.get_vocab()
    assert list(Path(resolve_model_path(folder.url)).glob("*.safetensors"))


def test_doctor_writes_to_the_run_url(folder: RemoteFolder, tmp_path: Path) -> None:
    assert check_run_url(folder.url).state == "ok"
    assert folder.files() == {}
    found = check_run_url("s3://no-such-bucket/run" if "s3:" in folder.url else "file:///proc/x")
    assert found.state == "problem"
    assert "cannot be written" in found.message
