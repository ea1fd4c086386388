"""The RL stage: held-out accuracy before, the loop, held-out accuracy after, the model folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from r1reward import loop
from r1reward.actors.launch import running_system
from r1reward.data.requests import Encode, PromptSet, build_prompt_set, training_requests
from r1reward.data.stores.pair_store import PairsById
from r1reward.data.stores.rollout_store import check_rollouts, read_rollouts, rollout_path
from r1reward.errors import InputError
from r1reward.evaluation.benchmarks.stored_pairs import pairs_benchmark
from r1reward.evaluation.compare import compare_evaluations
from r1reward.evaluation.heldout import HeldoutEvaluator, read_run_evaluation
from r1reward.evaluation.items import Benchmark
from r1reward.evaluation.sampler import Asker
from r1reward.evaluation.tables import comparison_table
from r1reward.interfaces import Evaluator, RolloutBatch, RolloutSource
from r1reward.models.processor import PolicyProcessor
from r1reward.pipeline.sources import load_pairs
from r1reward.recipe.model_settings import write_model_settings
from r1reward.recipe.recipe import Recipe
from r1reward.report.build import build_report
from r1reward.rollouts import LiveSource, rollout_metrics
from r1reward.runs.checkpoint import num_steps_done, resume
from r1reward.runs.folder import RunFolder
from r1reward.runs.recorder import RunRecorder
from r1reward.runs.signals import stop_on_signal
from r1reward.runs.trackers import Trackers
from r1reward.sizing.bundles import ROLES, Role
from r1reward.types import Order, PreferencePair, Prompt, WeightsHandle

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """Everything that can be wrong with a run's inputs has been checked once this exists."""

    processor: PolicyProcessor
    train: PromptSet
    encode: Encode
    heldout: Benchmark | None


def load_inputs(recipe: Recipe) -> Inputs:
    """Model folder, pairs and prompts, before any engine starts. Raises ``InputError``."""
    processor = PolicyProcessor(recipe.model)

    def encode(pair: PreferencePair, order: Order) -> Prompt:
        return processor.encode(pair, order, recipe.prompt)

    limit = recipe.model.max_prompt_tokens
    train = build_prompt_set(load_pairs(recipe.data.train), encode, limit, "data.train")
    if len(train.pairs) < recipe.rollout.pairs_per_step:
        raise InputError(
            f"data.train has {len(train.pairs)} usable pairs, fewer than the "
            f"{recipe.rollout.pairs_per_step} that rollout.prompts_per_step "
            f"({recipe.rollout.prompts_per_step}) shows in a step: add pairs or lower it"
        )
    if train.num_dropped:
        logger.warning("data.train: dropped %d over-long pairs", train.num_dropped)
    heldout = None
    if recipe.data.heldout is not None:
        pairs = list(load_pairs(recipe.data.heldout))
        for pair in pairs:
            encode(pair, "stored")
        heldout = pairs_benchmark("heldout", pairs, {})
    return Inputs(processor, train, encode, heldout)


@dataclass(frozen=True)
class ReplaySource:
    """Batches that an earlier run saved: training without engines."""

    recipe: Recipe
    folder: Path
    pairs: Mapping[str, PreferencePair]
    prompts: PromptSet

    async def collect(self, step: int, weights: WeightsHandle) -> RolloutBatch:
        path = rollout_path(self.folder, step)
        rollouts = read_rollouts(path, self.pairs, self.prompts.encode)
        return RolloutBatch(step, rollouts, rollout_metrics(rollouts))


async def train(recipe: Recipe, console: Console) -> None:
    """Run or resume the recipe to its end and print the closing table."""
    await run_training(recipe, console)
    print_closing(recipe, RunFolder(recipe.run_dir), console)


async def run_training(
    recipe: Recipe,
    console: Console,
    change_source: Callable[[LiveSource], RolloutSource] | None = None,
) -> None:
    """Run or resume the recipe to its end: evaluations, rollouts, metrics, the model's folder.

    ``change_source`` puts another source of rollouts in front of the engines, as studies do.
    """
    folder = RunFolder.of(recipe)
    replay = recipe.train.from_rollouts
    if replay is not None:
        check_rollouts(replay, range(num_steps_done(folder.checkpoints), recipe.train.num_steps))
    inputs = load_inputs(recipe)
    folder.prepare(recipe)
    roles: tuple[Role, ...] = ROLES if replay is None else ("learner",)
    started = time.monotonic()
    logger.info(
        "starting %s in %s", "the learner" if replay else "engines and learner", folder.root
    )
    async with running_system(recipe, inputs.processor, roles) as system:
        learner = system.learner
        assert learner is not None
        logger.info("ready after %.0f s", time.monotonic() - started)
        start_step = await resume(folder.checkpoints, learner, folder.remote_checkpoints)
        folder.forget_after(start_step)
        if start_step:
            logger.info("resuming after step %d", start_step)
        with Trackers(recipe, folder.root, console, start_step) as trackers:
            recorder = RunRecorder(folder, recipe, trackers.opened)
            evaluator: Evaluator | None = None
            if replay is not None:
                pairs = PairsById(inputs.train.pairs)
                source: RolloutSource = ReplaySource(recipe, replay, pairs, inputs.train)
            else:
                assert system.generator is not None and system.judge is not None
                requests = partial(training_requests, recipe, inputs.train)
                live = LiveSource(recipe, system.generator, system.judge, requests)
                source = live if change_source is None else change_source(live)
                if inputs.heldout is not None:
                    parts = Asker(
                        recipe,
                        recipe.evaluate,
                        inputs.encode,
                        system.generator,
                        system.judge,
                        inputs.processor.token_texts,
                    )
                    evaluator = HeldoutEvaluator(
                        recipe, folder, inputs.heldout, parts, live, learner, trackers.opened
                    )
            with stop_on_signal() as stop:
                await loop.run(recipe, source, learner, recorder, start_step, evaluator, stop)
        await learner.export(folder.model)
        write_model_settings(folder.model, recipe)


def print_closing(recipe: Recipe, folder: RunFolder, console: Console) -> None:
    before = read_run_evaluation(folder, 0)
    after = read_run_evaluation(folder, recipe.train.num_steps)
    if before is not None and after is not None:
        comparison = compare_evaluations(before, after, recipe.evaluate.bootstrap_samples)
        console.print(comparison_table(("before", "after"), before, after, comparison))
    copy = [] if recipe.run_url is None else [("copy", recipe.run_url)]
    for what, path in (
        *copy,
        ("model", folder.model),
        ("metrics", folder.metrics),
        ("rollouts", folder.rollouts),
        ("report", build_report(folder.root, None)),
    ):
        console.print(f"{what:9}{path}", highlight=False)
