"""Training samples without an engine: real prompts and images, random responses."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from r1reward.models.model_shape import ModelShape
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.files import load_recipe
from r1reward.recipe.recipe import Recipe
from r1reward.shapes.pairs import make_pairs
from r1reward.sizing.memory_plan import LearnerCase
from r1reward.types import TrainingSample

LOCAL = Path(__file__).parents[1] / "recipes" / "local.yaml"


def local_recipe(*overrides: str) -> Recipe:
    return load_recipe(LOCAL, overrides)


def learner_case(recipe: Recipe, shape: ModelShape) -> LearnerCase:
    """What the plan of a learner's memory is made from."""
    return LearnerCase(
        shape,
        recipe.model,
        recipe.learner,
        recipe.algorithm.needs_reference,
        recipe.placement,
    )


def made_up_samples(
    recipe: Recipe, lengths: Sequence[int], text_only: Collection[int] = ()
) -> list[TrainingSample]:
    """One sample for each response length; those in ``text_only`` have no image."""
    processor = PolicyProcessor(recipe.model)
    generator = np.random.default_rng(0)
    samples = []
    pairs = make_pairs("train", len(lengths), seed=5)
    for number, (stored, length) in enumerate(zip(pairs, lengths, strict=True)):
        pair = replace(stored, images=()) if number in text_only else stored
        prompt = processor.encode(pair, "stored", recipe.prompt)
        samples.append(
            TrainingSample(
                prompt_token_ids=processor.expand(prompt),
                response_token_ids=tuple(generator.integers(20, 300, length).tolist()),
                images=pair.images,
                rollout_logprobs=np.full(length, -5.0, dtype=np.float32),
                old_logprobs=None,
                advantages=generator.normal(size=length),
                reference_logprobs=None,
            )
        )
    return samples
