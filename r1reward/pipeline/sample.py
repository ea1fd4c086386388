"""Rollouts without a learner: sample, judge and save what the starting policy says."""

from __future__ import annotations

import logging
from functools import partial

from rich.console import Console

from r1reward.actors.launch import running_system
from r1reward.data.requests import training_requests
from r1reward.data.stores.rollout_store import rollout_path, write_rollouts
from r1reward.metrics import plain
from r1reward.pipeline.train import load_inputs
from r1reward.recipe.recipe import Recipe
from r1reward.rollouts import LiveSource, rollout_metrics
from r1reward.runs.folder import RunFolder
from r1reward.types import WeightsHandle

logger = logging.getLogger(__name__)

# Engines start with the folder's weights, so version 0 needs no bundle.
LOADED_AT_START = WeightsHandle(version=0, buckets=(), refs=())


async def rollout(recipe: Recipe, console: Console) -> None:
    """One Parquet file a step, ready for ``train.from_rollouts``."""
    folder = RunFolder(recipe.run_dir)
    inputs = load_inputs(recipe)
    folder.prepare(recipe)
    async with running_system(recipe, inputs.processor, ("rollout", "judge")) as system:
        assert system.generator is not None and system.judge is not None
        requests = partial(training_requests, recipe, inputs.train)
        source = LiveSource(recipe, system.generator, system.judge, requests)
        source.loaded_version = LOADED_AT_START.version
        for step in range(recipe.train.num_steps):
            batch = await source.collect(step, LOADED_AT_START)
            path = rollout_path(folder.rollouts, step)
            write_rollouts(path, batch.rollouts)
            numbers = plain(rollout_metrics(batch.rollouts))
            logger.info(
                "%s  right %.2f  reward %.2f",
                path,
                numbers["reward/result"],
                numbers["reward/total"],
            )
    console.print(f"rollouts {folder.rollouts}", highlight=False)
