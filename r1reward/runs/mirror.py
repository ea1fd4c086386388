"""The copy of a run folder in object storage (``run_url``), which outlives the machine it runs on.

A run appends to its files and renames its folders, so it works in ``run_dir`` on a disk, and what changes
there is copied every few seconds. Files are copied in the order in which they were last written, but
for those that declare others complete: they are copied last and removed first. Whenever the copying
stops, the copy is a run folder as a kill could have left it, which a resumed run goes on from.

Learner ranks write their checkpoints to the copy themselves, each from its own node; here goes only the
``loop.json`` that completes one. Of two runs of one copy the one that began later has it.
"""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from r1reward.errors import InputError, ServiceError
from r1reward.recipe.location import working_folders
from r1reward.runs.atomic import write_whole
from r1reward.runs.mirrored_files import (
    COMPLETES,
    RECORD,
    REWRITTEN,
    Stamp,
    content,
    is_learner_state,
    is_marker,
    orphans,
    stamp_of,
    stamps,
)
from r1reward.runs.storage import RemoteFolder, claim_working_folders, local_copy

logger = logging.getLogger(__name__)

# A push begins again when a file is replaced while it copies; so often at most.
MOST_ROUNDS = 10


@dataclass(frozen=True)
class Record:
    """Who wrote the copy last, and how often."""

    writer: str
    num_pushes: int


@dataclass(frozen=True)
class LocalRecord:
    """What the folder on disk says of itself. ``begun_from`` is the copy's record when its run began.

    ``writer`` is empty while the folder is being replaced by the copy.
    """

    url: str
    writer: str
    num_pushes: int
    begun_from: Record | None
    copied: dict[str, Stamp]

    def is_as_new_as(self, theirs: Record) -> bool:
        """Everything that the copy had when it was signed like this has been in the folder."""
        if theirs.writer == self.writer:
            return theirs.num_pushes <= self.num_pushes
        return bool(self.writer) and theirs == self.begun_from


@dataclass
class RunCopy:
    local: Path
    remote: RemoteFolder
    writer: str = field(default_factory=lambda: uuid.uuid4().hex)
    num_pushes: int = 0
    copied: dict[str, Stamp] = field(default_factory=dict)
    begun_from: Record | None = None

    def open(self) -> None:
        """Make the folder on disk and the copy one; the newer of them is right.

        Raises ``InputError`` if either holds something that is not this run's.
        """
        if working_folders() in self.local.parents:
            claim_working_folders()
        ours, theirs = self.read_local_record(), self.remote_record()
        self.refuse_foreign(ours, theirs)
        self.begun_from = theirs
        brings = theirs is not None and not (ours is not None and ours.is_as_new_as(theirs))
        if ours is not None and theirs is not None and not brings:
            self.copied = ours.copied  # as new as the copy or newer: of a run that was killed here
        self.local.mkdir(parents=True, exist_ok=True)
        # Before anything is listed: an earlier run that still goes on copies nothing from here on.
        self.sign("" if brings else self.writer)
        names = self.remote.files()
        if brings:
            self.bring(names)
            self.write_local_record(self.writer)
        else:
            self.bring_back(names)
        for left in self.local.rglob(".*.partial"):
            # A learner's state, half way between here and there.
            shutil.rmtree(left, ignore_errors=True)
        self.push()
        # Now that the copy names the same states as the folder.
        self.remote.remove(orphans(names, self.local))

    def refuse_foreign(self, ours: LocalRecord | None, theirs: Record | None) -> None:
        """Before anything is changed on either side."""
        names = self.remote.files()
        if theirs is None and names:
            raise InputError(
                f"{self.remote.url} holds files that are not a run's (there is no {RECORD}): choose "
                "another run_url"
            )
        if theirs is not None and RECORD not in names:
            raise ServiceError(f"{self.remote.url} does not list its files ({RECORD} is there)")
        if ours is not None and ours.url != self.remote.url:
            raise InputError(
                f"{self.local} is a copy of {ours.url}, not of {self.remote.url}: choose another "
                "run_dir, or remove it"
            )
        if ours is None and theirs is not None and content(self.local):
            raise InputError(
                f"{self.local} holds files that are not a copy of {self.remote.url}: choose another "
                "run_dir, or remove it"
            )

    def bring(self, names: Iterable[str]) -> None:
        """Replace the folder on disk by the copy, which another machine went on with."""
        for path in content(self.local):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        kept = [name for name in names if name != RECORD and not is_learner_state(name)]
        logger.info("%d files come from %s", len(kept), self.remote.url)
        for name in kept:
            self.remote.download(name, self.local / name)
        self.copied = stamps(self.local)

    def bring_back(self, names: Collection[str]) -> None:
        """What was copied and is gone here.

        A checkpoint that the run had removed itself just before a kill does no harm, but temporary
        folders are cleaned of what is old, and that must not clean the copy as well.
        """
        found = stamps(self.local)
        changed = {Path(name).parent for name in found if self.copied.get(name) != found[name]}
        gone = [
            name
            for name in names
            if name in self.copied
            and name not in found
            and not is_learner_state(name)
            # A result of files that are being made again.
            and not (Path(name).name in REWRITTEN and Path(name).parent in changed)
        ]
        if gone:
            logger.info("%d files that are gone here come from %s", len(gone), self.remote.url)
        for name in gone:
            self.remote.download(name, self.local / name)
            self.copied |= {name: stamp} if (stamp := stamp_of(self.local / name)) else {}

    def sign(self, writer_here: str) -> None:
        """From now on the copy is this run's, as it is.

        The folder says so first: should the copy not come to say it, the folder is the newer one.
        """
        self.write_local_record(writer_here)
        record = asdict(Record(self.writer, self.num_pushes))
        self.remote.write(RECORD, json.dumps(record).encode())

    def write_local_record(self, writer: str) -> None:
        record = LocalRecord(self.remote.url, writer, self.num_pushes, self.begun_from, self.copied)
        write_whole(self.local / RECORD, json.dumps(asdict(record)))

    def push(self) -> None:
        """Copy what changed since the last time, remove what is gone.

        Raises ``CopyTakenError`` when another run has taken the copy over, ``ServiceError`` if the
        storage fails: the next call then does what is left.
        """
        for _ in range(MOST_ROUNDS):
            found = stamps(self.local)
            changed = [name for name, stamp in found.items() if self.copied.get(name) != stamp]
            # Learner states go with their checkpoint's loop.json, wherever they were written first.
            gone = [
                name for name in self.copied if name not in found and not is_learner_state(name)
            ]
            if not changed and not gone:
                return
            if self.push_found(found, changed, gone):
                return
        raise ServiceError(f"files in {self.local} are replaced faster than they can be copied")

    def push_found(self, found: dict[str, Stamp], changed: list[str], gone: list[str]) -> bool:
        """False if a file was replaced meanwhile: what completes it is not copied then."""
        self.stop_if_taken()
        # Their neighbours change: until those are copied, nothing is complete.
        for name in [*changed, *gone]:
            if Path(name).name in REWRITTEN and name in self.copied:
                self.forget(name)
        markers = {name for name in changed if is_marker(self.local / name)}
        # A stage's folder is nobody's without its manifest, which may be of its next file's tick.
        by_time = sorted(
            changed, key=lambda name: (Path(name).name != "stage.json", found[name], name)
        )
        is_whole = True
        for name in by_time:
            if name not in markers:
                is_whole &= self.upload(name, found[name])
        if not is_whole:
            return False
        if markers or gone:
            self.stop_if_taken()  # the files may have taken long
        for name in by_time:
            # One that was written again meanwhile speaks of files that are not copied yet.
            if name in markers and stamp_of(self.local / name) == found[name]:
                self.upload(name, found[name])
        # Last: the newest checkpoint is there before an older one goes.
        for name in sorted(gone, key=lambda name: (Path(name).name not in COMPLETES, name)):
            if name in self.copied:
                self.forget(name)
        self.stop_if_taken()  # or the copy would be this run's again
        self.num_pushes += 1
        self.sign(self.writer)
        return True

    def stop_if_taken(self) -> None:
        theirs = self.remote_record()
        if theirs is None or theirs.writer != self.writer:
            raise CopyTakenError(
                f"{self.remote.url} is written by another run by now: this one stops, its folder is "
                f"{self.local}"
            )

    def upload(self, name: str, found: Stamp) -> bool:
        """Whether it is still the file that was found; more lines in it do no harm.

        One that is gone is left to the next push.
        """
        now = stamp_of(self.local / name)
        if now is None:
            return True
        (_, size, inode), (_, found_size, found_inode) = now, found
        if inode != found_inode or size < found_size:
            return False
        try:
            self.remote.upload(self.local / name, name)
        except FileNotFoundError:
            return True
        self.copied[name] = now
        return True

    def forget(self, name: str) -> None:
        """Remove a file from the copy, and with a checkpoint's ``loop.json`` what it completed."""
        self.remote.remove([name])
        if Path(name).name == "loop.json":
            folder = Path(name).parent.as_posix()
            states = [f"{folder}/{other}" for other in (self.remote / folder).files()]
            self.remote.remove(states)
            for state in states:
                self.copied.pop(state, None)
        self.copied.pop(name, None)

    def read_local_record(self) -> LocalRecord | None:
        """With what had been copied by then."""
        try:
            kept = json.loads((self.local / RECORD).read_text())
            begun_from = kept["begun_from"] and Record(**kept["begun_from"])
            copied = {name: tuple(stamp) for name, stamp in kept["copied"].items()}
            return LocalRecord(**kept | {"begun_from": begun_from, "copied": copied})
        except (OSError, ValueError, TypeError, LookupError):
            return None

    def remote_record(self) -> Record | None:
        content = self.remote.read(RECORD)
        try:
            return None if content is None else Record(**json.loads(content))
        except (ValueError, TypeError):
            return None


class CopyTakenError(ServiceError):
    """Another run writes to this run's copy."""


def look_at(folder: str) -> Path:
    """A run's or evaluation's folder on this machine; of one in object storage, what reports read.

    Raises ``InputError`` if nothing is there.
    """
    if "://" not in folder:
        return Path(folder)
    found = local_copy(
        RemoteFolder(folder),
        lambda name: not is_learner_state(name) and not name.endswith(".safetensors"),
    )
    if not found.is_dir():
        raise InputError(f"{folder}: nothing is there")
    return found
