"""What reinforcement learning and fine-tuning share: from the newest checkpoint to the model folder."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rich.console import Console

from r1reward.interfaces import Learner
from r1reward.recipe.model_settings import write_model_settings
from r1reward.recipe.recipe import Recipe, SftRecipe
from r1reward.runs.alerts import AlertWatch
from r1reward.runs.checkpoint import resume
from r1reward.runs.folder import RunFolder
from r1reward.runs.recorder import RunRecorder
from r1reward.runs.signals import stop_on_signal
from r1reward.runs.trackers import TrackedRun, opened_trackers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resumed:
    """Where a run goes on, what writes down its steps, and the event that a signal sets."""

    start_step: int
    recorder: RunRecorder
    stop: asyncio.Event


@asynccontextmanager
async def resumed(
    recipe: Recipe | SftRecipe,
    folder: RunFolder,
    learner: Learner,
    console: Console,
    num_steps: int,
    keep_checkpoints: int,
) -> AsyncIterator[Resumed]:
    """Resume the learner for what stands inside; export its model when that has ended well."""
    start_step = await resume(folder.checkpoints, learner, folder.remote_checkpoints)
    folder.forget_after(start_step)
    if start_step:
        logger.info("resuming after step %d", start_step)
    tracked = TrackedRun(recipe.name, num_steps, recipe.model_dump(mode="json"))
    with (
        opened_trackers(tracked, recipe.tracking, folder.root, console, start_step) as trackers,
        stop_on_signal() as stop,
    ):
        alerts = AlertWatch(recipe.alerts, folder.read_metrics())
        recorder = RunRecorder(folder, keep_checkpoints, recipe.tracking, alerts, trackers)
        yield Resumed(start_step, recorder, stop)
    await learner.export(folder.model)
    write_model_settings(folder.model, recipe.model, recipe.prompt)
