"""Checkpoints are whole or absent."""

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from r1reward.interfaces import WeightSync
from r1reward.metrics import Metrics
from r1reward.runs.checkpoint import (
    complete_checkpoints,
    num_steps_done,
    resume,
    save_checkpoint,
)
from r1reward.runs.storage import fetched, forget, written_to
from r1reward.types import Location, TraceSample, TrainingSample


class FileLearner:
    """Its whole state is one string, which it writes to a file in a subfolder."""

    def __init__(self, state: str = "", *, dies_while_saving: bool = False) -> None:
        self.state = state
        self.dies_while_saving = dies_while_saving

    async def save(self, folder: Location) -> None:
        with written_to(folder, Path(tempfile.gettempdir())) as path:
            (path / "rank0").mkdir()
            (path / "rank0" / "state").write_text(self.state[:2])
            if self.dies_while_saving:
                raise RuntimeError("killed")
            (path / "rank0" / "state").write_text(self.state)

    async def load(self, folder: Location) -> None:
        scratch = Path(tempfile.gettempdir())
        self.state = (fetched(folder, scratch) / "rank0" / "state").read_text()
        forget(folder, scratch)

    async def logprobs(
        self, samples: Sequence[TraceSample], model: Literal["policy", "reference"]
    ) -> list[np.ndarray]:
        raise NotImplementedError

    async def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        raise NotImplementedError

    async def fit(self, samples: Sequence[TraceSample]) -> Metrics:
        raise NotImplementedError

    async def evaluate_loss(self, samples: Sequence[TraceSample]) -> Metrics:
        raise NotImplementedError

    @property
    def weight_sync(self) -> WeightSync:
        raise NotImplementedError

    async def export(self, folder: Path) -> None:
        raise NotImplementedError


def save(folder: Path, state: str, num_steps_done: int, keep: int = 2) -> Path:
    return asyncio.run(save_checkpoint(folder, FileLearner(state), num_steps_done, keep))


def resumed(folder: Path) -> tuple[int, str]:
    learner = FileLearner("fresh")
    return asyncio.run(resume(folder, learner)), learner.state


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_without_a_checkpoint_the_run_starts_from_zero(tmp_path: Path) -> None:
    assert resumed(tmp_path / "checkpoints") == (0, "fresh")
    assert resumed(tmp_path) == (0, "fresh")


def test_a_saved_learner_is_loaded_back_with_its_steps(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert save(folder, "weights", 25) == folder / "step-000025"
    assert names(folder) == ["step-000025"]
    assert json.loads((folder / "step-000025" / "loop.json").read_text()) == {"num_steps_done": 25}
    assert resumed(folder) == (25, "weights")


def test_the_newest_complete_checkpoint_is_resumed(tmp_path: Path) -> None:
    for steps in (9, 10, 100):
        save(tmp_path, f"weights {steps}", steps, keep=5)
    assert resumed(tmp_path) == (100, "weights 100")


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for steps in (5, 10, 15, 20):
        save(tmp_path, "weights", steps, keep=2)
    assert names(tmp_path) == ["step-000015", "step-000020"]
    save(tmp_path, "weights", 25, keep=1)
    assert names(tmp_path) == ["step-000025"]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    assert num_steps_done(tmp_path) == 0
    save(tmp_path, "first", 5)
    save(tmp_path, "second", 5)
    assert names(tmp_path) == ["step-000005"]
    assert resumed(tmp_path) == (5, "second")


def test_a_learner_that_dies_while_saving_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, "old", 5)
    with pytest.raises(RuntimeError, match="killed"):
        asyncio.run(save_checkpoint(tmp_path, FileLearner("new", dies_while_saving=True), 10, 1))
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-000005"]
    assert num_steps_done(tmp_path) == 5
    assert resumed(tmp_path) == (5, "old")


def test_dying_while_saving_the_same_step_again_leaves_the_first_save(tmp_path: Path) -> None:
    save(tmp_path, "old", 5)
    with pytest.raises(RuntimeError, match="killed"):
        asyncio.run(save_checkpoint(tmp_path, FileLearner("new", dies_while_saving=True), 5, 2))
    assert resumed(tmp_path) == (5, "old")


def test_the_next_save_of_that_step_starts_clean(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        asyncio.run(save_checkpoint(tmp_path, FileLearner("new", dies_while_saving=True), 10, 2))
    (tmp_path / ".step-000010.partial" / "stray").write_text("left over")
    save(tmp_path, "whole", 10)
    assert names(tmp_path) == ["step-000010"]
    assert names(tmp_path / "step-000010") == ["loop.json", "rank0"]
    assert resumed(tmp_path) == (10, "whole")


def test_partial_and_foreign_folders_are_ignored(tmp_path: Path) -> None:
    save(tmp_path, "weights", 5)
    for name in (".step-000010.partial", "step-000011-copy", "step-12", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "loop.json").write_text('{"num_steps_done": 99}')
    (tmp_path / "step-000020").mkdir()  # no loop.json: not one of ours, or not whole
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-000005"]
    assert resumed(tmp_path) == (5, "weights")


# Regression: only the partial folder of the same step is removed, so one
# that a kill left at another step keeps its whole optimizer state on the disk for ever.
def test_a_later_save_removes_what_a_kill_left_half_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        asyncio.run(save_checkpoint(tmp_path, FileLearner("new", dies_while_saving=True), 10, 2))
    save(tmp_path, "weights", 15)
    assert names(tmp_path) == ["step-000015"]
