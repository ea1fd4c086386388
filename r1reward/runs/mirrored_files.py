"""The files of a run folder by names and stamps, as its copy (``runs/mirror.py``) sees them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

RECORD = ".r1reward-copy.json"
# Files that say that others are complete.
COMPLETES = {"loop.json", "result.json", "best.json"}
# Those of them whose neighbours are written again under the same names.
REWRITTEN = {"result.json", "best.json"}
LEARNER_STATE = re.compile(r"((?:.*/)?checkpoints/step-\d{6})/(?!loop\.json$).+")
# What a file was when it was copied: nanoseconds of its last change, bytes, inode (a file that is
# replaced by one of its size within a tick of the clock has another).
Stamp = tuple[int, ...]


def content(folder: Path) -> list[Path]:
    """What is in the folder of a run, or in one that is to be."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.name != RECORD]


def is_learner_state(name: str) -> bool:
    """A part of a checkpoint that learner ranks read from the copy themselves."""
    return LEARNER_STATE.fullmatch(name) is not None


def orphans(names: Iterable[str], local: Path) -> list[str]:
    """Learner states that no ``loop.json`` names: a kill left them."""
    known = set(names)
    states = [(name, LEARNER_STATE.fullmatch(name)) for name in sorted(known)]
    return [name for name, state in states if state and not is_named(name, state[1], known, local)]


def is_named(name: str, checkpoint: str, known: set[str], local: Path) -> bool:
    loop = local / checkpoint / "loop.json"
    if not loop.is_file():
        return f"{checkpoint}/loop.json" in known
    # A checkpoint that was made before the run had a copy has its state beside it.
    learner = json.loads(loop.read_text()).get("learner")
    return learner is None or name.startswith(f"{checkpoint}/{learner}/")


def stamps(root: Path) -> dict[str, Stamp]:
    """Every file of the run by its name; what is half-written has no name yet.

    Raises ``OSError`` for a folder that cannot be listed, for its files are not gone. A folder may go
    meanwhile.
    """
    found = {}
    for folder, below, files in os.walk(root, onerror=raise_unless_gone):
        below[:] = [part for part in below if not is_temporary(part)]
        for file in files:
            path = Path(folder, file)
            stamp = None if file == RECORD or is_temporary(file) else stamp_of(path)
            if stamp is not None:
                found[path.relative_to(root).as_posix()] = stamp
    return found


def raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


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
    return status.st_mtime_ns, status.st_size, status.st_ino


def is_marker(path: Path) -> bool:
    """Whether a file says that others are complete.

    A stage's manifest does at the stage's end only; before that it says whose the folder is.
    """
    if path.name == "stage.json":
        try:
            return bool(json.loads(path.read_text())["outputs"])
        except (OSError, ValueError, LookupError, TypeError):
            return False
    return path.name in COMPLETES
