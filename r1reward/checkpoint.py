"""Checkpoints: complete or absent, never half.

A checkpoint is written under a temporary name and renamed when every byte is down, so a folder
``step-000050`` is always whole. The loop's own state is one number, the steps done: data order and
seeds are functions of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from r1reward.interfaces import Learner

COMPLETE = re.compile(r"step-(\d{6})")


async def save_checkpoint(folder: Path, learner: Learner, num_steps_done: int, keep: int) -> Path:
    """Write, flush, rename, then drop all but the newest ``keep``."""
    final = folder / f"step-{num_steps_done:06d}"
    temporary = folder / f".{final.name}.partial"
    for stale in folder.glob(".*.partial"):
        shutil.rmtree(stale)
    temporary.mkdir(parents=True)
    await learner.save(temporary)
    (temporary / "loop.json").write_text(json.dumps({"num_steps_done": num_steps_done}))
    for path in [*temporary.rglob("*"), temporary]:
        flush_to_disk(path)
    if final.exists():
        shutil.rmtree(final)
    temporary.replace(final)
    flush_to_disk(folder)
    for old in complete_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def complete_checkpoints(folder: Path) -> list[Path]:
    """Oldest first. What a killed run left half-written has another name and is not listed."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if COMPLETE.fullmatch(path.name)]
    return sorted(path for path in found if (path / "loop.json").is_file())


async def resume(folder: Path, learner: Learner) -> int:
    """Load the newest complete checkpoint; returns the steps done, 0 when there is none."""
    checkpoints = complete_checkpoints(folder)
    if not checkpoints:
        return 0
    state = json.loads((checkpoints[-1] / "loop.json").read_text())
    await learner.load(checkpoints[-1])
    return int(state["num_steps_done"])
