"""A recipe taken apart: what each part of a running system is started with.

Engines, actors and the launcher get these and never a whole recipe, so that whatever has them can start
a part: a training run, an evaluation, a teacher, a benchmark.
"""

from dataclasses import dataclass
from pathlib import Path

from r1reward.recipe.engine_sections import (
    EngineSection,
    JudgeSection,
    PlacementSection,
    RolloutSection,
    VllmJudge,
)
from r1reward.recipe.learner_sections import (
    AlgorithmSection,
    LearnerSection,
    NoCorrection,
    SequenceMask,
    TokenIs,
)
from r1reward.recipe.recipe import Recipe, SftRecipe
from r1reward.recipe.sections import ModelSection, changed

# What ``auto`` comes to is decided: a running learner corrects like this.
RunCorrection = NoCorrection | TokenIs | SequenceMask


@dataclass(frozen=True)
class EngineSettings:
    """An engine that samples from a model."""

    model: ModelSection
    engine: EngineSection
    placement: PlacementSection


@dataclass(frozen=True)
class RolloutSettings:
    """The engines that sample rollouts. ``max_retries``: restarts of one that died."""

    num_actors: int
    max_retries: int
    engine: EngineSettings


@dataclass(frozen=True)
class JudgeSettings:
    """``engine`` is there for a judge that is a model in an engine of its own."""

    judge: JudgeSection
    engine: EngineSettings | None


@dataclass(frozen=True)
class LearnerSettings:
    """The learner's ranks. ``num_updates`` is the length of the learning rate's schedule.

    ``scratch`` is a folder of each rank's node, ``shares_folder`` whether the loop sees the same disk.
    """

    model: ModelSection
    learner: LearnerSection
    algorithm: AlgorithmSection
    rollout_correction: RunCorrection
    num_updates: int
    seed: int
    placement: PlacementSection
    scratch: Path
    shares_folder: bool = True


def rollout_settings(
    model: ModelSection, rollout: RolloutSection, placement: PlacementSection
) -> RolloutSettings:
    """The engines that a recipe's rollout section describes, for this model."""
    engine = EngineSettings(model, rollout.engine, placement)
    return RolloutSettings(rollout.num_actors, rollout.max_retries, engine)


def judge_settings(
    judge: JudgeSection, model: ModelSection, placement: PlacementSection
) -> JudgeSettings:
    """The one place where ``judge.path: policy`` becomes the model that the recipe starts from."""
    if not isinstance(judge, VllmJudge):
        return JudgeSettings(judge, None)
    path = model.path if judge.path == "policy" else judge.path
    return JudgeSettings(judge, EngineSettings(changed(model, path=path), judge.engine, placement))


def training_learner(recipe: Recipe) -> LearnerSettings:
    """The learner of a reinforcement-learning run."""
    updates_per_step = recipe.rollout.rollouts_per_step // recipe.learner.train_batch_size
    correction = rollout_correction(recipe.algorithm, recipe.train.max_policy_lag)
    num_updates = recipe.train.num_steps * updates_per_step
    return learner_settings(recipe, recipe.algorithm, correction, num_updates)


def rollout_correction(algorithm: AlgorithmSection, max_policy_lag: int) -> RunCorrection:
    """What ``auto`` means here: token_is for rollouts of older weights, nothing at lag 0."""
    chosen = algorithm.rollout_correction
    if chosen.type != "auto":
        return chosen
    if max_policy_lag > 0 and algorithm.old_logprobs == "learner":
        return TokenIs(type="token_is")
    return NoCorrection(type="none")


def sft_learner(recipe: SftRecipe) -> LearnerSettings:
    """The learner of a fine-tuning. There is no reference model: nothing to stay close to."""
    correction = NoCorrection(type="none")
    return learner_settings(recipe, AlgorithmSection(), correction, recipe.num_steps)


def learner_settings(
    recipe: Recipe | SftRecipe,
    algorithm: AlgorithmSection,
    correction: RunCorrection,
    num_updates: int,
) -> LearnerSettings:
    """What every learner takes of its recipe, and what the kinds of training differ in."""
    return LearnerSettings(
        model=recipe.model,
        learner=recipe.learner,
        algorithm=algorithm,
        rollout_correction=correction,
        num_updates=num_updates,
        seed=recipe.seed,
        placement=recipe.placement,
        scratch=recipe.run_dir,
        shares_folder=recipe.run_url is None,
    )
