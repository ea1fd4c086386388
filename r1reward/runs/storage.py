"""A folder in object storage, by fsspec: whole files are written, read, listed and removed, nothing else.

Appending and renaming, which object stores lack, stay with folders of this machine. Whatever a storage
library raises becomes a ``ServiceError`` with the address in it.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock

from r1reward.data.atomic import partial_path, written_whole
from r1reward.errors import InputError, ServiceError, as_input_error
from r1reward.recipe.location import ON_A_DISK, working_folder, working_folders
from r1reward.types import Location

# They have real folders, which must be there before a file is.
WITH_FOLDERS = {"file", "local", "memory", "sftp", "ssh", "ftp", "smb", "hdfs", "webhdfs", "webdav"}


@dataclass(frozen=True)
class RemoteFolder:
    """``url`` as fsspec reads it: s3://bucket/runs/x, gs://..., file:///... Names in it have slashes."""

    url: str

    def __truediv__(self, name: str) -> RemoteFolder:
        return RemoteFolder(f"{self.url.rstrip('/')}/{name}")

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}  # an open file system stays in its process

    @cached_property
    def opened(self) -> tuple[Any, str]:
        """The file system and this folder's path in it. Raises ``InputError`` for an unknown scheme."""
        advice = (
            "no file system for it, install the fsspec package of that storage (s3fs for s3://, gcsfs "
            "for gs://), or give a path"
        )
        with as_input_error(f"{self.url}: {advice}", ImportError, ValueError):
            # Listings that another process has changed meanwhile must not come from memory.
            fs, path = fsspec.url_to_fs(self.url, use_listings_cache=False)
        return fs, str(path).rstrip("/")

    @contextmanager
    def errors_named(self, what: str, name: str = "") -> Iterator[tuple[Any, str]]:
        """The file system and the path of ``name``; errors say what could not be done, and where."""
        fs, root = self.opened
        try:
            yield fs, f"{root}/{name}" if name else root
        except Exception as error:  # every storage library raises its own
            where = f"{self.url}/{name}" if name else self.url
            raise ServiceError(
                f"{where} cannot be {what}: {error or type(error).__name__}"
            ) from error

    def files(self) -> dict[str, int]:
        """Bytes of every file, by its name in this folder; empty for a folder that is not there."""
        with self.errors_named("listed") as (fs, root):
            fs.invalidate_cache()
            infos: dict[str, Any] = {}
            with suppress(FileNotFoundError):
                infos = fs.find(root, detail=True)
            cut = len(root) + 1
            sizes = {path[cut:]: int(info["size"] or 0) for path, info in sorted(infos.items())}
            return {name: size for name, size in sizes.items() if is_file_name(name)}

    def version(self, name: str) -> str:
        """A text that changes with the content of a file."""
        with self.errors_named("read", name) as (fs, path):
            return str(fs.ukey(path))

    def read(self, name: str) -> bytes | None:
        """None if there is no such file."""
        content: bytes | None = None
        with self.errors_named("read", name) as (fs, path), suppress(FileNotFoundError):
            content = fs.cat_file(path)
        return content

    def write(self, name: str, content: bytes) -> None:
        with self.errors_named("written", name) as (fs, path), place_for(fs, path) as place:
            fs.pipe_file(place, content)

    def upload(self, source: Path, name: str) -> None:
        """Raises ``FileNotFoundError`` if the source is gone, ``ServiceError`` for everything else."""
        if not source.is_file():
            raise FileNotFoundError(source)
        with self.errors_named("written", name) as (fs, path), place_for(fs, path) as place:
            fs.put_file(str(source), place)

    def download(self, name: str, target: Path, size: int | None = None) -> None:
        """The whole file, or its first ``size`` bytes; never a part of that."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as partial:
            with self.errors_named("read", name) as (fs, path):
                fs.get_file(path, str(partial))
            if size is not None and partial.stat().st_size < size:
                raise ServiceError(
                    f"{self.url}/{name} has less than the {size} bytes of its record"
                )
            if size is not None:
                os.truncate(partial, size)

    def remove(self, names: Iterable[str]) -> None:
        """Files that are not there are none to remove."""
        for name in names:
            with self.errors_named("removed", name) as (fs, path), suppress(FileNotFoundError):
                fs.rm_file(path)


def is_file_name(name: str) -> bool:
    """False for what is no file of a folder, though it is listed.

    That is the folder itself, the empty objects that consoles show as folders, half-written files, and
    names that lead out of the folder that they are fetched into.
    """
    parts = name.split("/")
    is_partial = parts[-1].startswith(".") and parts[-1].endswith(".partial")
    return all(part not in ("", ".", "..") for part in parts) and not is_partial


@contextmanager
def place_for(fs: Any, path: str) -> Iterator[str]:
    """The path to write a file to, so that readers see the old content or the new.

    Object stores see to that themselves; on a disk the file is written beside its place and renamed.
    """
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if protocols & WITH_FOLDERS:
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    on_a_disk = protocols & ON_A_DISK
    with written_whole(Path(path)) if on_a_disk else nullcontext(path) as place:
        yield str(place)


def claim_working_folders() -> None:
    """In a temporary folder that others write to, too, the name is easily guessed: it must be ours.

    Raises ``InputError`` if it is not.
    """
    folder = working_folders()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise InputError(
            f"{folder} belongs to another user: set TMPDIR to a folder of your own, or run_dir to a "
            "path and run_url to the URL"
        )


def is_url(location: Location) -> bool:
    return "://" in location


@contextmanager
def written_to(location: Location, scratch: Path) -> Iterator[Path]:
    """A folder to write into. What is in it at the end is in ``location`` when this returns.

    For a remote one it is a folder of this process alone, below ``scratch``; only what it holds needs
    to be there, so that every rank brings its own files.
    """
    if not is_url(location):
        yield Path(location)
        return
    remote = RemoteFolder(location)
    with scratch_folder(scratch) as folder:
        yield folder
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            remote.upload(file, file.relative_to(folder).as_posix())


def fetched(location: Location, scratch: Path, wanted: Callable[[str], bool] | None = None) -> Path:
    """A folder to read from: ``location``, or one with its files (those whose names are wanted).

    For a remote one it lies below ``scratch``, and the processes of a node fill it together: what
    several of them want is fetched once. ``forget`` removes it.
    """
    if not is_url(location):
        return Path(location)
    remote = RemoteFolder(location)
    folder = fetched_folder(location, scratch)
    for name in filter(wanted, remote.files()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{path.name}.lock")):
            if not path.is_file():
                remote.download(name, path)
    return folder


def forget(location: Location, scratch: Path) -> None:
    """Remove what ``fetched`` made."""
    if is_url(location):
        shutil.rmtree(fetched_folder(location, scratch), ignore_errors=True)


def fetched_folder(url: str, scratch: Path) -> Path:
    return partial_path(scratch / working_folder(url).name)


def local_copy(
    remote: RemoteFolder,
    wanted: Callable[[str], bool] | None = None,
    objects: Mapping[str, tuple[Any, ...]] | None = None,
) -> Path:
    """A folder of this machine with the wanted files as they are now; its processes share it.

    ``objects``: the name and the number of bytes that each file has there, if not its own. What the
    folder has already is not fetched again.
    """
    # Beside the folders that runs work in, one of which may be of this very URL.
    claim_working_folders()
    folder = working_folders() / "copies" / working_folder(remote.url).name
    folder.parent.mkdir(parents=True, exist_ok=True)
    record = folder.with_name(f"{folder.name}.json")
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        had = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        now = objects or {name: (name, size) for name, size in remote.files().items()}
        for name in had.keys() - now.keys():
            (folder / name).unlink(missing_ok=True)
        had = {name: version for name, version in had.items() if name in now}
        for name in filter(wanted, now):
            source, size, *_ = now[name]
            version = f"{remote.version(source)} {size}"
            if had.get(name) != version or not (folder / name).is_file():
                remote.download(source, folder / name, size)
                had[name] = version
        record.write_text(json.dumps(had), encoding="utf-8")
    return folder


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder of this process that is removed at the end, and after a kill when the run goes on."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(".partial", ".", parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
