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
import signal
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from r1reward.config import EngineRecipe, InputError, ServiceError
from r1reward.remote_folder import RemoteFolder, local_copy
from r1reward.run_folder import write_whole

logger = logging.getLogger(__name__)

RECORD = ".r1reward-copy.json"
COPY_EVERY_S = 5.0
# Logs that grow are copied whole: as a share of the time, this much of it may go into copying.
BUSY_SHARE = 0.1
# Files that say that others are complete.
COMPLETES = {"loop.json", "result.json", "best.json"}
# What a file was when it was copied: time of its last change in nanoseconds, bytes.
Stamp = tuple[int, int]


@dataclass(frozen=True)
class Record:
    """Who wrote the copy last, and how often; the folder that it was copied from has the same one."""

    writer: str
    num_pushes: int


@dataclass
class RunCopy:
    local: Path
    remote: RemoteFolder
    writer: str = field(default_factory=lambda: uuid.uuid4().hex)
    num_pushes: int = 0
    copied: dict[str, Stamp] = field(default_factory=dict)

    def open(self) -> None:
        """Make the folder on disk and the copy one; the newer of them is right.

        Raises ``InputError`` if either holds something that is not this run's.
        """
        ours, theirs = self.read_local_record(), self.remote_record()
        names = self.remote.files()
        if theirs is None and names:
            raise InputError(
                f"{self.remote.url} holds files that are not a run's (there is no {RECORD}): choose "
                "another run_url"
            )
        if theirs is not None and ours != theirs:
            self.bring(ours, names)
        # Otherwise the folder is as new as the copy or newer: of a run that was killed here.
        for left in self.local.rglob(".*.partial"):
            shutil.rmtree(
                left, ignore_errors=True
            )  # a learner's state, half way between here and there
        self.remote.remove(orphans(names))
        self.sign()
        self.push()

    def bring(self, ours: Record | None, names: Iterable[str]) -> None:
        """Replace the folder on disk by the copy, which another machine went on with."""
        if ours is None and self.local.is_dir() and any(self.local.iterdir()):
            raise InputError(
                f"{self.local} holds files that are not a copy of {self.remote.url}: choose another "
                "run_dir, or remove it"
            )
        shutil.rmtree(self.local, ignore_errors=True)
        kept = [name for name in names if name != RECORD and not is_learner_state(name)]
        logger.info("%d files come from %s", len(kept), self.remote.url)
        for name in kept:
            self.remote.download(name, self.local / name)
        self.copied = stamps(self.local)

    def sign(self) -> None:
        """From now on the copy is this run's, as it is."""
        record = asdict(Record(self.writer, self.num_pushes))
        self.remote.write(RECORD, json.dumps(record).encode())
        self.local.mkdir(parents=True, exist_ok=True)
        write_whole(self.local / RECORD, json.dumps(record | {"copied": self.copied}))

    def push(self) -> None:
        """Copy what changed since the last time, remove what is gone.

        Raises ``CopyTakenError`` when another run has taken the copy over, ``ServiceError`` if the
        storage fails: the next call then does what is left.
        """
        found = stamps(self.local)
        changed = [name for name, stamp in found.items() if self.copied.get(name) != stamp]
        gone = [name for name in self.copied if name not in found]
        if not changed and not gone:
            return
        if self.remote_record() != Record(self.writer, self.num_pushes):
            raise CopyTakenError(
                f"{self.remote.url} is written by another run by now: this one stops, its folder is "
                f"{self.local}"
            )
        for name in sorted(changed, key=lambda name: (self.is_marker(name), found[name], name)):
            # One that was written again meanwhile may speak of files that are not copied yet.
            if stamp_of(self.local / name) == found[name]:
                try:
                    self.remote.upload(self.local / name, name)
                except FileNotFoundError:
                    continue
                self.copied[name] = found[name]
        # Last: the newest checkpoint is there before an older one goes.
        for name in sorted(gone, key=lambda name: (Path(name).name not in COMPLETES, name)):
            self.forget(name)
        self.num_pushes += 1
        self.sign()

    def is_marker(self, name: str) -> bool:
        """Whether a file says that others are complete.

        A stage's manifest does at the stage's end only; before that it says whose the folder is.
        """
        path = self.local / name
        if path.name == "stage.json":
            try:
                return bool(json.loads(path.read_text())["outputs"])
            except (OSError, ValueError, LookupError, TypeError):
                return False
        return path.name in COMPLETES

    def forget(self, name: str) -> None:
        """Remove a file from the copy, and with a checkpoint's ``loop.json`` what it completed."""
        self.remote.remove([name])
        if Path(name).name == "loop.json":
            folder = Path(name).parent.as_posix()
            self.remote.remove(f"{folder}/{other}" for other in (self.remote / folder).files())
        del self.copied[name]

    def read_local_record(self) -> Record | None:
        """With what had been copied by then."""
        path = self.local / RECORD
        try:
            kept = json.loads(path.read_text())
            self.copied = {name: (stamp[0], stamp[1]) for name, stamp in kept["copied"].items()}
            return Record(kept["writer"], kept["num_pushes"])
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


def is_learner_state(name: str) -> bool:
    """A part of a checkpoint that learner ranks read from the copy themselves."""
    path = Path(name)
    return "checkpoints" in path.parts[:-1] and path.name != "loop.json"


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


def orphans(names: Iterable[str]) -> list[str]:
    """Learner states that no ``loop.json`` completes: a kill left them."""
    known = set(names)
    found = []
    for name in filter(is_learner_state, sorted(known)):
        parts = Path(name).parts
        step = parts[: parts.index("checkpoints") + 2]
        if "/".join((*step, "loop.json")) not in known:
            found.append(name)
    return found


def stamps(root: Path) -> dict[str, Stamp]:
    """Every file of the run by its name; what is half-written has no name yet."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if path.name == RECORD or any(is_temporary(part) for part in name.parts):
            continue
        stamp = stamp_of(path)
        if stamp is not None:
            found[name.as_posix()] = stamp
    return found


def is_temporary(part: str) -> bool:
    return part.startswith(".") and part.endswith((".partial", ".old"))


def stamp_of(path: Path) -> Stamp | None:
    """None for what is no plain file (W&B links its newest run) or is gone."""
    try:
        if path.is_symlink() or not path.is_file():
            return None
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


@contextmanager
def kept_copied(recipe: EngineRecipe | None, every_s: float = COPY_EVERY_S) -> Iterator[None]:
    """While a verb works in its run folder, keep the copy that the recipe asks for; whole at the end.

    Raises ``ServiceError`` at the end if something could not be copied: it is still on this machine.
    """
    if recipe is None or recipe.run_url is None:
        yield
        return
    copy = RunCopy(recipe.run_dir, RemoteFolder(recipe.run_url))
    copy.open()
    ended = threading.Event()
    taken: list[CopyTakenError] = []
    thread = threading.Thread(target=keep_copying, args=(copy, every_s, ended, taken), daemon=True)
    thread.start()
    failed = True
    try:
        yield
        failed = False
    finally:
        ended.set()
        thread.join()
        if taken:
            raise taken[0]
        try:
            copy.push()
        except CopyTakenError:
            raise
        except (ServiceError, OSError) as error:
            said = (
                f"what the run wrote last is in {copy.local} alone ({error}): the same command on this "
                "machine copies it and goes on"
            )
            if not failed:
                raise ServiceError(said) from error
            logger.warning(said)


def pause(every_s: float, took_s: float) -> float:
    """Seconds until the next push, after one that took ``took_s``."""
    return max(every_s, took_s * (1 / BUSY_SHARE - 1))


def keep_copying(
    copy: RunCopy, every_s: float, ended: threading.Event, taken: list[CopyTakenError]
) -> None:
    """The thread beside the run. A storage that fails for a while is only said once."""
    is_failing = False
    took_s = 0.0
    while not ended.wait(pause(every_s, took_s)):
        started = time.monotonic()
        try:
            copy.push()
        except CopyTakenError as error:
            taken.append(error)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # as Ctrl-C
            return
        except (ServiceError, OSError) as error:
            if not is_failing:
                logger.warning("the run's copy waits: %s", error)
            is_failing = True
            continue
        finally:
            took_s = time.monotonic() - started
        if is_failing:
            logger.info("the run's copy is up to date again")
        is_failing = False
