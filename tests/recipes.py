"""What parts of the system are given, taken out of a test's recipe as the pipeline does it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from r1reward.data.requests import Encode, PromptSet, training_requests
from r1reward.evaluation.sampler import EvaluationSampler, scoring_of_answers
from r1reward.interfaces import Generator, Judge
from r1reward.loop import LoopSettings
from r1reward.recipe.recipe import EvalRecipe, Recipe
from r1reward.rollouts import LiveSource, Scoring, StepRequests
from r1reward.runs.alerts import AlertWatch
from r1reward.runs.folder import RunFolder
from r1reward.runs.recorder import RunRecorder
from r1reward.runs.trackers import TrackedRun, Tracker
from r1reward.sft_loop import SftSettings


def loop_settings(recipe: Recipe) -> LoopSettings:
    return LoopSettings(recipe.train, recipe.algorithm, recipe.learner.train_batch_size)


def sft_settings(recipe: Recipe, evaluate_every: int) -> SftSettings:
    """As if the recipe's training steps were those of a fine-tuning."""
    return SftSettings(
        recipe.train.num_steps,
        recipe.learner.train_batch_size,
        recipe.seed,
        evaluate_every,
        recipe.train.checkpoint_every,
    )


def scoring(recipe: Recipe) -> Scoring:
    return Scoring(recipe.prompt, recipe.reward)


def live_source(
    recipe: Recipe, generator: Generator, judge: Judge, requests: StepRequests
) -> LiveSource:
    max_new_tokens = recipe.model.max_new_tokens
    return LiveSource(recipe.rollout, scoring(recipe), max_new_tokens, generator, judge, requests)


def step_requests(recipe: Recipe, prompts: PromptSet) -> StepRequests:
    return partial(training_requests, recipe.rollout, recipe.seed, prompts)


def evaluation_sampler(
    recipe: Recipe | EvalRecipe,
    encode: Encode,
    generator: Generator,
    judge: Judge | None,
    progress: Callable[[int, int], None] = lambda done, planned: None,
) -> EvaluationSampler:
    return EvaluationSampler(
        recipe.evaluate,
        recipe.seed,
        recipe.model,
        scoring_of_answers(recipe.prompt, recipe.reward),
        encode,
        generator,
        judge,
        lambda ids: (),
        progress,
    )


def recorder(folder: RunFolder, recipe: Recipe, trackers: list[Tracker]) -> RunRecorder:
    keep = recipe.train.keep_checkpoints
    alerts = AlertWatch(recipe.alerts, folder.read_metrics())
    return RunRecorder(folder, keep, recipe.tracking, alerts, trackers)


def tracked_run(recipe: Recipe) -> TrackedRun:
    return TrackedRun(recipe.name, recipe.train.num_steps, recipe.model_dump(mode="json"))
