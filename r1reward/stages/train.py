"""The RL stage: held-out accuracy before, the loop, held-out accuracy after, the model folder."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from r1reward import loop
from r1reward.actors.placement import ROLES, Role
from r1reward.checkpoint import resume
from r1reward.collect import LiveSource, rollout_metrics, score_rollouts
from r1reward.config import InputError, Recipe
from r1reward.data.prompts import (
    PromptSet,
    both_order_requests,
    build_prompt_set,
    training_requests,
)
from r1reward.data.rollout_store import read_rollouts, rollout_path, write_rollouts
from r1reward.data.sources import load_pairs
from r1reward.engines.processor import PolicyProcessor
from r1reward.evaluation.both_orders import Evaluation, evaluate_rollouts, paired_difference
from r1reward.interfaces import Generator, Judge, RolloutBatch, RolloutSource, Sampling
from r1reward.launch import System, running_system
from r1reward.run_folder import RunFolder, RunRecorder
from r1reward.stages.report import comparison_table, read_evaluation
from r1reward.tracking import Trackers
from r1reward.types import Order, PreferencePair, Prompt, WeightsHandle

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """Everything that can be wrong with a run's inputs has been checked once this exists."""

    processor: PolicyProcessor
    train: PromptSet
    heldout: PromptSet | None


def load_inputs(recipe: Recipe) -> Inputs:
    """Model folder, pairs and prompts, before any engine starts. Raises ``InputError``."""
    processor = PolicyProcessor(recipe.model)

    def encode(pair: PreferencePair, order: Order) -> Prompt:
        return processor.encode(pair, order, recipe.prompt)

    limit = recipe.model.max_prompt_tokens
    train = build_prompt_set(load_pairs(recipe.data.train), encode, limit, "data.train")
    if len(train.pairs) < recipe.rollout.prompts_per_step:
        raise InputError(
            f"data.train has {len(train.pairs)} usable pairs, fewer than rollout.prompts_per_step "
            f"({recipe.rollout.prompts_per_step}): add pairs or lower it"
        )
    heldout = None
    if recipe.data.heldout is not None:
        pairs = load_pairs(recipe.data.heldout)
        heldout = build_prompt_set(pairs, encode, limit, "data.heldout")
    for name, prompts in (("data.train", train), ("data.heldout", heldout)):
        if prompts is not None and prompts.num_dropped:
            logger.warning("%s: dropped %d over-long pairs", name, prompts.num_dropped)
    return Inputs(processor, train, heldout)


@dataclass(frozen=True)
class ReplaySource:
    """Batches that an earlier run saved: training without engines."""

    recipe: Recipe
    folder: Path
    pairs: dict[str, PreferencePair]
    prompts: PromptSet

    async def collect(self, step: int, weights: WeightsHandle) -> RolloutBatch:
        path = rollout_path(self.folder, step)
        rollouts = read_rollouts(path, self.pairs, self.prompts.encode)
        return RolloutBatch(step, rollouts, rollout_metrics(rollouts))


async def train(recipe: Recipe, console: Console) -> None:
    """Run or resume the recipe to its end and print the closing table."""
    folder = RunFolder(recipe.run_dir)
    inputs = load_inputs(recipe)
    folder.prepare(recipe)
    replay = recipe.train.from_rollouts
    roles: tuple[Role, ...] = ROLES if replay is None else ("learner",)
    started = time.monotonic()
    logger.info(
        "starting %s in %s", "the learner" if replay else "engines and learner", folder.root
    )
    async with running_system(recipe, inputs.processor, roles) as system:
        learner = system.learner
        assert learner is not None
        logger.info("ready after %.0f s", time.monotonic() - started)
        start_step = await resume(folder.checkpoints, learner)
        folder.forget_after(start_step)
        evaluate = partial(evaluate_once, recipe, folder, inputs.heldout, system)
        if start_step:
            logger.info("resuming after step %d", start_step)
        else:
            await evaluate("before", 0)
        with Trackers(recipe, folder.root, console, start_step) as trackers:
            recorder = RunRecorder(folder, recipe, trackers.opened)
            if replay is not None:
                pairs = {pair.pair_id: pair for pair in inputs.train.pairs}
                source: RolloutSource = ReplaySource(recipe, replay, pairs, inputs.train)
            else:
                assert system.generator is not None and system.judge is not None
                requests = partial(training_requests, recipe, inputs.train)
                source = LiveSource(recipe, system.generator, system.judge, requests)
            await loop.run(recipe, source, learner, recorder, start_step)
        await evaluate("after", recipe.train.num_steps)
        await learner.export(folder.model)
    print_closing(recipe, folder, console)


async def evaluate_once(
    recipe: Recipe,
    folder: RunFolder,
    heldout: PromptSet | None,
    system: System,
    name: str,
    step: int,
) -> None:
    """Held-out pairs in both orders with the learner's current weights; kept if already there."""
    path = folder.evaluations / f"{name}.json"
    if heldout is None or system.generator is None or path.exists():
        return
    assert system.judge is not None and system.learner is not None
    await system.generator.load_weights(await system.learner.publish(step))
    logger.info("evaluating %d held-out pairs in both orders, %s", len(heldout.pairs), name)
    evaluation = await evaluate_heldout(recipe, heldout, system.generator, system.judge, path)
    path.write_text(json.dumps(evaluation.to_json(), indent=1))


async def evaluate_heldout(
    recipe: Recipe, heldout: PromptSet, generator: Generator, judge: Judge, path: Path
) -> Evaluation:
    """Every readable answer is judged here, right or wrong: consistency describes all of them."""
    judge_all = recipe.reward.model_copy(update={"judged_wrong_share": 1.0})
    rollouts = await score_rollouts(
        recipe.model_copy(update={"reward": judge_all}),
        generator,
        judge,
        both_order_requests(recipe, heldout),
        Sampling(recipe.evaluate.temperature, recipe.model.max_new_tokens),
    )
    write_rollouts(path.with_suffix(".parquet"), rollouts)
    return evaluate_rollouts(rollouts, recipe.evaluate.bootstrap_samples)


def print_closing(recipe: Recipe, folder: RunFolder, console: Console) -> None:
    before, after = folder.evaluations / "before.json", folder.evaluations / "after.json"
    if before.exists() and after.exists():
        first, second = read_evaluation(before), read_evaluation(after)
        samples = recipe.evaluate.bootstrap_samples
        difference = paired_difference(first.outcomes, second.outcomes, samples)
        console.print(comparison_table(first, second, difference))
    for what, path in (
        ("model", folder.model),
        ("metrics", folder.metrics),
        ("rollouts", folder.rollouts),
    ):
        console.print(f"{what:9}{path}", highlight=False)
