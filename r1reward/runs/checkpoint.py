"""Checkpoints: complete or absent, never half.

A checkpoint is written under a temporary name and renamed when every byte is down, so a folder
``step-000050`` is always whole. The loop's own state is one number, the steps done: data order and
seeds are functions of it.

Of a run with a copy in object storage (``runs/mirror.py``) the learner's state lies there alone: the
ranks may be on nodes that share no folder. Here is then only the ``loop.json`` that names the state,
written and copied when the state is whole.
"""

import json
import os
import re
import shutil
import uuid
from contextlib import ExitStack
from pathlib import Path

from r1reward.data.atomic import partial_path
from r1reward.errors import InputError
from r1reward.interfaces import Learner
from r1reward.runs.names import LOOP_STATE, step_folder
from r1reward.runs.storage import RemoteFolder

COMPLETE = re.compile(r"step-(\d{6})")


async def save_checkpoint(
    folder: Path,
    learner: Learner,
    num_steps_done: int,
    keep: int,
    remote: RemoteFolder | None = None,
) -> Path:
    """Write, flush, rename, then drop all but the newest ``keep``. ``remote`` is the folder's copy."""
    final = folder / step_folder(num_steps_done)
    partial = partial_path(final)
    for stale in folder.glob(".*.partial"):
        shutil.rmtree(stale)
    partial.mkdir(parents=True)
    state: dict[str, object] = {"num_steps_done": num_steps_done}
    if remote is None:
        await learner.save(str(partial))
    else:
        # A name of its own: a kill while a step is saved again leaves the first save.
        state["learner"] = f"learner-{uuid.uuid4().hex[:8]}"
        await learner.save((remote / final.name / str(state["learner"])).url)
    (partial / LOOP_STATE).write_text(json.dumps(state), encoding="utf-8")
    for path in [*partial.rglob("*"), partial]:
        flush_to_disk(path)
    if final.exists():
        shutil.rmtree(final)
    partial.replace(final)
    flush_to_disk(folder)
    for old in complete_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def flush_to_disk(path: Path) -> None:
    with ExitStack() as at_end:
        descriptor = os.open(path, os.O_RDONLY)
        at_end.callback(os.close, descriptor)
        os.fsync(descriptor)


def complete_checkpoints(folder: Path) -> list[Path]:
    """Oldest first. What a killed run left half-written has another name and is not listed."""
    if not folder.is_dir():
        return []
    complete = (path for path in folder.iterdir() if COMPLETE.fullmatch(path.name))
    return sorted(path for path in complete if (path / LOOP_STATE).is_file())


def num_steps_done(folder: Path) -> int:
    """Returns the steps that are behind the newest complete checkpoint, 0 when there is none."""
    checkpoints = complete_checkpoints(folder)
    return int(checkpoints[-1].name.removeprefix("step-")) if checkpoints else 0


async def resume(folder: Path, learner: Learner, remote: RemoteFolder | None = None) -> int:
    """Load the newest complete checkpoint; returns the steps done, 0 when there is none.

    Raises ``InputError`` if its learner state is in a copy, and none is named or it is not there.
    """
    checkpoints = complete_checkpoints(folder)
    if not checkpoints:
        return 0
    newest = checkpoints[-1]
    state = json.loads((newest / LOOP_STATE).read_text(encoding="utf-8"))
    if remote is None:
        if "learner" in state:
            raise InputError(
                f"{newest} has its learner state in the run's copy in object storage: set run_url as "
                "before"
            )
        await learner.load(str(newest))
    else:
        # A checkpoint that was made before the run had a copy has its state beside loop.json.
        saved = remote / newest.name
        saved = saved / state["learner"] if "learner" in state else saved
        if not saved.files():
            raise InputError(
                f"{newest} has its learner state in {saved.url}, where nothing is: remove the "
                "checkpoint to go on from the one before"
            )
        await learner.load(saved.url)
    return int(state["num_steps_done"])
