"""Reinforcement learning: held-out evaluation, the loop, held-out evaluation, the model folder."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from r1reward import loop
from r1reward.actors.launch import TrainingSystem, learner_system, training_system
from r1reward.data.requests import Encode, PromptSet, build_prompt_set
from r1reward.data.stores.pair_store import PairsById
from r1reward.data.stores.rollout_store import check_rollouts, read_rollouts, rollout_path
from r1reward.errors import InputError
from r1reward.evaluation.benchmarks.stored_pairs import pairs_benchmark
from r1reward.evaluation.compare import compare_evaluations
from r1reward.evaluation.heldout import HeldoutEvaluator, HeldoutPlan, read_run_evaluation
from r1reward.evaluation.items import Benchmark
from r1reward.evaluation.tables import comparison_table
from r1reward.interfaces import Evaluator, RolloutBatch, RolloutSource
from r1reward.models.processor import PolicyProcessor
from r1reward.pipeline.assembly import evaluation_sampler, live_source
from r1reward.pipeline.learning import resumed
from r1reward.pipeline.printing import print_named
from r1reward.pipeline.sources import load_pairs, model_hash, training_pairs
from r1reward.recipe.components import judge_settings, rollout_settings, training_learner
from r1reward.recipe.derive import STAGE_SECTIONS, rl_recipe, starting_model
from r1reward.recipe.recipe import Recipe
from r1reward.report.build import build_report
from r1reward.rollouts import LiveSource, rollout_metrics
from r1reward.runs.checkpoint import num_steps_done
from r1reward.runs.folder import RunFolder
from r1reward.runs.manifest import pairs_hash, stage_record
from r1reward.runs.trackers import Tracker
from r1reward.types import PreferencePair, WeightsHandle

logger = logging.getLogger(__name__)

# Puts another source of rollouts in front of the engines, as studies do.
ChangeSource = Callable[[LiveSource], RolloutSource]


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
    encode = partial(processor.encode, settings=recipe.prompt)
    limit = recipe.model.max_prompt_tokens
    train = build_prompt_set(training_pairs(recipe.data), encode, limit, "data.train")
    if len(train.pairs) < recipe.rollout.pairs_per_step:
        raise InputError(
            f"data.train has {len(train.pairs)} usable pairs, fewer than the "
            f"{recipe.rollout.pairs_per_step} that rollout.prompts_per_step "
            f"({recipe.rollout.prompts_per_step}) shows in a step: add pairs or lower it"
        )
    if train.num_too_long or train.num_repeated:
        logger.warning(
            "data.train: dropped %d over-long and %d repeated pairs",
            *(train.num_too_long, train.num_repeated),
        )
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

    folder: Path
    pairs: Mapping[str, PreferencePair]
    encode: Encode

    async def collect(self, step: int, weights: WeightsHandle) -> RolloutBatch:
        rollouts = read_rollouts(rollout_path(self.folder, step), self.pairs, self.encode)
        return RolloutBatch(step, rollouts, rollout_metrics(rollouts))


async def train_stage(recipe: Recipe, console: Console) -> None:
    """RL as a stage of a pipeline, unless its model is there already."""
    run = rl_recipe(recipe)
    inputs = {"model": model_hash(recipe, starting_model(recipe))}
    if recipe.select is not None:
        inputs["select/pairs"] = stage_record(recipe, "select").output("pairs")
    else:
        inputs["data.train"] = pairs_hash(pair.pair_id for pair in training_pairs(recipe.data))
    record = stage_record(recipe, "train")
    settings = run.model_dump(mode="json", exclude={"name", "run_dir", "run_url", *STAGE_SECTIONS})
    # Model and pairs are compared by content: where the pipeline's folder lies says nothing of them.
    del settings["model"]["path"], settings["data"]["train"], settings["data"]["contradictions"]
    if settings["data"]["heldout"] is not None:
        settings["data"]["heldout"].pop("links", None)
    if record.begin(settings, inputs):
        return
    await train(run, console)
    record.finish(["model"])


async def train(recipe: Recipe, console: Console) -> None:
    """Run or resume the recipe to its end and print the closing table."""
    await run_training(recipe, console)
    print_closing(recipe, RunFolder(recipe.run_dir), console)


async def run_training(
    recipe: Recipe, console: Console, change_source: ChangeSource | None = None
) -> None:
    """Run or resume the recipe to its end: evaluations, rollouts, metrics, the model's folder."""
    folder = RunFolder.of(recipe)
    saved = recipe.train.from_rollouts
    if saved is not None:
        check_rollouts(saved, range(num_steps_done(folder.checkpoints), recipe.train.num_steps))
    inputs = load_inputs(recipe)
    folder.prepare(recipe)
    logger.info("starting %s in %s", "the learner" if saved else "engines and learner", folder.root)
    started = time.monotonic()
    settings = training_learner(recipe)
    async with AsyncExitStack() as running:
        if saved is not None:
            learner = await running.enter_async_context(learner_system(recipe.placement, settings))
        else:
            rollout = rollout_settings(recipe.model, recipe.rollout, recipe.placement)
            judge = judge_settings(recipe.judge, recipe.model, recipe.placement)
            system = await running.enter_async_context(
                training_system(recipe.placement, rollout, judge, settings)
            )
            learner = system.learner
        logger.info("ready after %.0f s", time.monotonic() - started)
        steps = recipe.train.num_steps, recipe.train.keep_checkpoints
        at = await running.enter_async_context(resumed(recipe, folder, learner, console, *steps))
        source: RolloutSource
        evaluator: Evaluator | None = None
        if saved is not None:
            source = ReplaySource(saved, PairsById(inputs.train.pairs), inputs.encode)
        else:
            trackers = at.recorder.trackers
            source, evaluator = source_and_evaluator(
                recipe, folder, inputs, system, change_source, trackers
            )
        batch_size = recipe.learner.train_batch_size
        loop_settings = loop.LoopSettings(recipe.train, recipe.algorithm, batch_size)
        await loop.run(
            loop_settings, source, learner, at.recorder, at.start_step, evaluator, at.stop
        )


def source_and_evaluator(
    recipe: Recipe,
    folder: RunFolder,
    inputs: Inputs,
    system: TrainingSystem,
    change_source: ChangeSource | None,
    trackers: Sequence[Tracker],
) -> tuple[RolloutSource, Evaluator | None]:
    """Rollouts from running engines, and the held-out evaluation by the same engines."""
    live = live_source(recipe, inputs.train, system)
    source = live if change_source is None else change_source(live)
    if inputs.heldout is None:
        return source, None
    texts = inputs.processor.token_texts
    sampler = evaluation_sampler(recipe, inputs.encode, system.generator, system.judge, texts)
    plan = HeldoutPlan(recipe.name, recipe.evaluate, recipe.train.num_steps, inputs.heldout)
    return source, HeldoutEvaluator(plan, folder, sampler, live, system.learner, trackers)


def print_closing(recipe: Recipe, folder: RunFolder, console: Console) -> None:
    """The table of before and after, and where everything is."""
    before = read_run_evaluation(folder, 0)
    after = read_run_evaluation(folder, recipe.train.num_steps)
    if before is not None and after is not None:
        comparison = compare_evaluations(before, after)
        console.print(comparison_table(("before", "after"), before, after, comparison))
    report = build_report(folder.root, None)
    if recipe.run_url is not None:
        print_named(console, copy=recipe.run_url)
    print_named(
        console,
        model=folder.model,
        metrics=folder.metrics,
        rollouts=folder.rollouts,
        report=report,
    )
