"""What a recipe and running engines make together: the source of rollouts, the evaluation sampler."""

from functools import partial

from r1reward.actors.launch import SamplingSystem, TrainingSystem
from r1reward.data.requests import Encode, PromptSet, training_requests
from r1reward.evaluation.sampler import EvaluationSampler, TokenTexts, scoring_of_answers
from r1reward.interfaces import Generator, Judge
from r1reward.recipe.recipe import EvalRecipe, Recipe
from r1reward.rollouts import LiveSource, Scoring


def live_source(
    recipe: Recipe, train: PromptSet, system: TrainingSystem | SamplingSystem
) -> LiveSource:
    """The rollouts of each step: the recipe's requests, sampled and judged by the system."""
    return LiveSource(
        recipe.rollout,
        Scoring(recipe.prompt, recipe.reward),
        recipe.model.max_new_tokens,
        system.generator,
        system.judge,
        partial(training_requests, recipe.rollout, recipe.seed, train),
    )


def evaluation_sampler(
    recipe: Recipe | EvalRecipe,
    encode: Encode,
    generator: Generator,
    judge: Judge | None,
    token_texts: TokenTexts,
) -> EvaluationSampler:
    """The recipe's model, asked as its section ``evaluate`` says."""
    scoring = scoring_of_answers(recipe.prompt, recipe.reward)
    asked = (recipe.evaluate, recipe.seed, recipe.model, scoring)
    return EvaluationSampler(*asked, encode, generator, judge, token_texts)
