"""Rollouts without a learner: sample, judge and save what the starting policy says."""

import logging

from rich.console import Console

from r1reward.actors.launch import sampling_system
from r1reward.data.stores.rollout_store import rollout_path, write_rollouts
from r1reward.metrics import Name, numbers
from r1reward.pipeline.assembly import live_source
from r1reward.pipeline.printing import print_named
from r1reward.pipeline.train import load_inputs
from r1reward.recipe.components import judge_settings, rollout_settings
from r1reward.recipe.recipe import Recipe
from r1reward.rollouts import rollout_metrics
from r1reward.runs.folder import RunFolder
from r1reward.types import WeightsHandle

logger = logging.getLogger(__name__)

# Engines start with the folder's weights, so version 0 needs no bundle.
LOADED_AT_START = WeightsHandle(version=0, buckets=(), refs=())


async def sample_rollouts(recipe: Recipe, console: Console) -> None:
    """One Parquet file a step, ready for ``train.from_rollouts``."""
    folder = RunFolder(recipe.run_dir)
    inputs = load_inputs(recipe)
    folder.prepare(recipe)
    rollout = rollout_settings(recipe.model, recipe.rollout, recipe.placement)
    judge = judge_settings(recipe.judge, recipe.model, recipe.placement)
    async with sampling_system(recipe.placement, rollout, judge) as system:
        source = live_source(recipe, inputs.train, system)
        source.loaded_version = LOADED_AT_START.version
        for step in range(recipe.train.num_steps):
            batch = await source.collect(step, LOADED_AT_START)
            path = rollout_path(folder.rollouts, step)
            write_rollouts(path, batch.rollouts)
            shown = numbers(rollout_metrics(batch.rollouts))
            means = shown[Name.REWARD_RESULT], shown[Name.REWARD_TOTAL]
            logger.info("%s  right %.2f  reward %.2f", path, *means)
    print_named(console, rollouts=folder.rollouts)
