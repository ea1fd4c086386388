"""The mirror of a run folder in object storage (``run_url``), which outlives the machine it runs on.

A run appends to its files and renames its folders, so it works in ``run_dir`` on a disk, and what changes
there is uploaded every few seconds. The mirror is what the object ``LATEST`` names: every file, with the
object that holds it and its number of bytes. ``LATEST`` is written last, in one call, so the mirror is at
every moment a run folder as a kill could have left it; other objects do not count, and go later.

That holds because nothing that ``LATEST`` names is ever overwritten. A file goes to an object of its own
name, or, while ``LATEST`` names that, to a new one below ``.versions/``; the old object is removed after
a ``LATEST`` that no longer names it. (To carry files inside ``LATEST`` would need no versions, but a
model does not fit.) Only ledgers (``*.jsonl``) are uploaded again to one object: they grow, and a reader
takes the bytes that ``LATEST`` counts. When a run has ended well, every file is under its own name, so
that people can browse the bucket and load a model from it.

``WRITER`` says whose turn it is: a run writes its id there before it reads anything. An earlier run that
finds another id stops before it writes ``LATEST`` or removes an object.

Learner ranks write their states to the URL themselves, each from its own node; here goes only the
``loop.json`` that names the state.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import stat
import uuid
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from r1reward.data.atomic import write_whole
from r1reward.errors import InputError, ServiceError
from r1reward.recipe.location import working_folders
from r1reward.runs.names import BEST_RECORD, CHECKPOINTS, LOOP_STATE, RESULT
from r1reward.runs.storage import RemoteFolder, claim_working_folders, local_copy

logger = logging.getLogger(__name__)

LATEST = "LATEST"
WRITER = "WRITER"
VERSIONS = ".versions/"
# In the folder on disk: the newest LATEST that it includes.
LOCAL_LATEST = ".r1reward-latest.json"
# Of r1reward 0.1, on both sides.
OLD_RECORD = ".r1reward-copy.json"
NOT_MIRRORED = {LATEST, WRITER, LOCAL_LATEST, OLD_RECORD}
LEARNER_STATE = re.compile(rf"((?:.*/)?{CHECKPOINTS}/step-\d{{6}}/)(?!{LOOP_STATE}$).+")
# A push begins again when files come, go or are replaced meanwhile; so often at most.
MOST_ROUNDS = 10


class TakenOverError(ServiceError):
    """Another run writes to this run's mirror."""


class File(NamedTuple):
    """The object that has a file's content, and what the file was when it was uploaded."""

    object: str
    size: int
    mtime_ns: int
    inode: int  # a file that replaces it has another

    @property
    def stamp(self) -> tuple[int, int, int]:
        return self.size, self.mtime_ns, self.inode


@dataclass(frozen=True)
class Latest:
    """Which files the mirror has, by which run, and whose ``LATEST`` that run went on from."""

    url: str
    writer: str = ""
    follows: str = ""
    files: dict[str, File] = field(default_factory=dict)

    def includes(self, other: Latest) -> bool:
        """All that the mirror had then has been in this folder: a run works in one folder alone."""
        return other.writer in (self.writer, self.follows)

    @property
    def objects(self) -> set[str]:
        return {file.object for file in self.files.values()}


LATEST_FORMAT = TypeAdapter(Latest)


@dataclass
class Mirror:
    """The mirror of ``folder`` at ``remote``, while one run works there."""

    folder: Path
    remote: RemoteFolder
    writer: str = field(default_factory=lambda: uuid.uuid4().hex)
    follows: str = ""
    # The newest upload of every file; what LATEST names, once this run has written it.
    files: dict[str, File] = field(default_factory=dict)
    published: dict[str, File] | None = None
    # Objects that LATEST may name, and objects that this run has made.
    in_use: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)

    def open(self) -> None:
        """Make the folder on disk and the mirror one; the newer of them is right.

        Raises ``InputError`` if either holds something that is not this run's.
        """
        if working_folders() in self.folder.parents:
            claim_working_folders()
        objects, here = self.remote.files(), self.folder / LOCAL_LATEST
        ours = parsed(here.read_bytes()) if here.is_file() else None
        refuse_foreign(self.folder, self.remote.url, ours, objects)
        self.folder.mkdir(parents=True, exist_ok=True)
        ours = ours or Latest(self.remote.url)
        self.write_local_latest(ours)  # a kill from here on leaves a folder of this URL
        self.remote.write(WRITER, self.writer.encode())
        latest = parsed(self.remote.read(LATEST))
        if latest is not None:
            self.follows, self.in_use = latest.writer, latest.objects
        if latest is not None and not ours.includes(latest):
            self.replace_folder(latest)
        else:
            self.files = {name: file for name, file in ours.files.items() if file.object in objects}
            self.in_use |= ours.objects
            self.refill_folder()
        for left in self.folder.rglob(".*.partial"):
            # A learner's state, half way between here and there.
            shutil.rmtree(left, ignore_errors=True)
        self.push()
        self.remote.remove(self.leftovers())

    def replace_folder(self, latest: Latest) -> None:
        """Bring the folder that another machine went on with."""
        for path in run_files(self.folder):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.files = dict(latest.files)
        names = [name for name in latest.files if not is_learner_state(name)]
        logger.info("%d files come from %s", len(names), self.remote.url)
        self.bring(names)

    def refill_folder(self) -> None:
        """Bring what was uploaded and is gone here, for temporary folders are cleaned of what is old.

        A checkpoint that the run had removed itself just before a kill does no harm. The record of an
        evaluation or of the best model would, beside files that are being made again.
        """
        here = scan(self.folder)
        remade = {
            Path(name).parent
            for name, file in here.items()
            if name not in self.files or self.files[name].stamp != file.stamp
        }
        names = [
            name
            for name in self.files.keys() - here.keys()
            if not is_learner_state(name)
            and not (Path(name).name in (RESULT, BEST_RECORD) and Path(name).parent in remade)
        ]
        if names:
            logger.info("%d files that are gone here come from %s", len(names), self.remote.url)
        self.bring(names)

    def bring(self, names: Iterable[str]) -> None:
        for name in names:
            source = self.files[name].object
            self.remote.download(source, self.folder / name, self.files[name].size)
            file = file_at(self.folder, name)
            assert file is not None
            self.files[name] = file._replace(object=source)

    def push(self) -> None:
        """Upload what changed since the last time, and name it all in ``LATEST``.

        Raises ``TakenOverError`` when another run writes to the mirror, and ``ServiceError`` if the
        storage fails: the next call then does what is left.
        """
        for _ in range(MOST_ROUNDS):
            here = scan(self.folder)
            self.files = {name: file for name, file in self.files.items() if is_there(name, here)}
            # Each as it is by then: a ledger has the lines that the files of this look build on.
            for name in here:
                self.upload_if_changed(name)
            if self.files == self.published:
                return
            # But for growing ledgers both looks are alike: it was all there at one moment.
            if without_growth(scan(self.folder)) == without_growth(here):
                self.publish(dict(self.files))
                return
        raise ServiceError(f"files in {self.folder} change faster than they can be uploaded")

    def use_own_names(self) -> None:
        """Upload files whose content is in a version again, under their own names."""
        self.files = {
            name: file
            for name, file in self.files.items()
            if file.object == name or name in self.in_use
        }
        self.push()

    def upload_if_changed(self, name: str) -> None:
        """A file that is gone meanwhile is left to the next look at the folder."""
        file, before = file_at(self.folder, name), self.files.get(name)
        if file is None or (before is not None and before.stamp == file.stamp):
            return
        target = name
        has_grown = before is not None and before.inode == file.inode and before.size <= file.size
        if before is not None and before.object in self.own and is_ledger(name) and has_grown:
            target = before.object
        elif name in self.in_use:
            target = f"{VERSIONS}{uuid.uuid4().hex}/{name}"
        with suppress(FileNotFoundError):
            self.remote.upload(self.folder / name, target)
            self.own.add(target)
            self.files[name] = file._replace(object=target)

    def publish(self, files: dict[str, File]) -> None:
        """Write ``LATEST``, then remove what it no longer names.

        The folder says first whose it is: should a kill come between, it is the newer one.
        """
        self.stop_if_taken_over()
        latest = Latest(self.remote.url, self.writer, self.follows, files)
        self.write_local_latest(latest)
        self.in_use |= latest.objects
        self.remote.write(LATEST, json.dumps(vars(latest)).encode())
        self.stop_if_taken_over()  # the other run may have read the LATEST before this one
        gone = (self.published or {}).keys() - files.keys()
        self.published = files
        self.remote.remove(sorted((self.in_use | self.own) - latest.objects))
        self.in_use, self.own = latest.objects, self.own & latest.objects
        for name in gone:  # with a checkpoint goes what the learner ranks wrote
            if Path(name).name == LOOP_STATE:
                checkpoint = self.remote / Path(name).parent.as_posix()
                checkpoint.remove(checkpoint.files())

    def leftovers(self) -> list[str]:
        """What a kill left: versions that LATEST does not name, states that no checkpoint names."""
        states = tuple(
            f"{Path(name).parent.as_posix()}/{learner_folder(self.folder / name)}"
            for name in self.files
            if Path(name).name == LOOP_STATE
        )
        return [
            name
            for name in self.remote.files()
            if name not in self.in_use
            and (
                name.startswith(VERSIONS)
                or (is_learner_state(name) and not name.startswith(states))
            )
        ]

    def stop_if_taken_over(self) -> None:
        if self.remote.read(WRITER) != self.writer.encode():
            raise TakenOverError(
                f"{self.remote.url} is written by another run by now: this one stops, its folder is "
                f"{self.folder}"
            )

    def write_local_latest(self, latest: Latest) -> None:
        write_whole(self.folder / LOCAL_LATEST, json.dumps(vars(latest)))


def parsed(text: bytes | None) -> Latest | None:
    """None for what is no ``LATEST``."""
    with suppress(ValidationError):
        return LATEST_FORMAT.validate_json(text or b"")
    return None


def refuse_foreign(folder: Path, url: str, ours: Latest | None, objects: Collection[str]) -> None:
    """Raises ``InputError`` before anything is changed on either side."""
    if objects and WRITER not in objects:
        raise InputError(
            f"{url} holds files that are not a run's (there is no {WRITER}): choose another run_url; a "
            "run of r1reward 0.1 goes on where all of it is downloaded to, by run_dir=PATH"
        )
    what = "choose another run_dir, or remove it"
    if ours is not None and ours.url != url:
        raise InputError(f"{folder} is a copy of {ours.url}, not of {url}: {what}")
    if ours is None and objects and run_files(folder):
        raise InputError(f"{folder} holds files that are not a copy of {url}: {what}")


def run_files(folder: Path) -> list[Path]:
    """What lies in the folder of a run, or in one that is to be."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return [path for path in paths if path.name not in NOT_MIRRORED]


def scan(root: Path) -> dict[str, File]:
    """Every file of the run by its name; what is half-written has no name yet.

    Raises ``OSError`` for a folder that cannot be listed, for its files are not gone. A folder may go
    meanwhile.
    """
    files = {}
    for folder, below, names in os.walk(root, onerror=raise_unless_gone):
        below[:] = [name for name in below if not is_temporary(name)]
        for path in (Path(folder, name) for name in names if not is_temporary(name)):
            name = path.relative_to(root).as_posix()
            if name not in NOT_MIRRORED and (file := file_at(root, name)):
                files[name] = file
    return files


def raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith((".partial", ".old"))


def file_at(root: Path, name: str) -> File | None:
    """None for what is no plain file (W&B links its newest run) or is gone."""
    with suppress(OSError):
        status = (root / name).lstat()
        if stat.S_ISREG(status.st_mode):
            return File(name, status.st_size, status.st_mtime_ns, status.st_ino)
    return None


def without_growth(files: dict[str, File]) -> dict[str, tuple[int, ...]]:
    """What does not change when lines are appended to a ledger. (A freed inode is soon used again.)"""
    return {n: (file.inode,) if is_ledger(n) else file.stamp for n, file in files.items()}


def is_ledger(name: str) -> bool:
    """Whether lines are appended to a file, so that its beginning stays unless it is replaced."""
    return name.endswith(".jsonl")


def is_learner_state(name: str) -> bool:
    """A part of a checkpoint that learner ranks read from the URL themselves."""
    return LEARNER_STATE.fullmatch(name) is not None


def is_there(name: str, files: Collection[str]) -> bool:
    """A learner's state is there with its checkpoint, though it may not lie on this disk."""
    state = LEARNER_STATE.fullmatch(name)
    return name in files or (state is not None and f"{state[1]}{LOOP_STATE}" in files)


def learner_folder(loop_state: Path) -> str:
    """Where the learner's state is in a checkpoint; beside, if it was made before the run had a URL."""
    folder: str = json.loads(loop_state.read_text(encoding="utf-8")).get("learner", "")
    return folder


def look_at(folder: str) -> Path:
    """A run's or evaluation's folder on this machine; of one in object storage, what reports read.

    Raises ``InputError`` if nothing is there.
    """
    if "://" not in folder:
        return Path(folder)
    remote = RemoteFolder(folder)
    latest = parsed(remote.read(LATEST))
    copy = local_copy(
        remote,
        lambda name: not is_learner_state(name) and not name.endswith(".safetensors"),
        None if latest is None else latest.files,
    )
    if not copy.is_dir():
        raise InputError(f"{folder}: nothing is there")
    return copy
