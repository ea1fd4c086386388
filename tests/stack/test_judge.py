"""The judge actor on the shipped weights: right, cached, and quiet on failure."""

from __future__ import annotations

import asyncio

from r1reward.actors.launch import judge_system
from r1reward.recipe.components import judge_settings
from r1reward.shapes.pairs import make_scenes_and_pairs, read_claims
from r1reward.shapes.trace import find, write_analysis
from r1reward.types import JudgeWord, Slot
from tests.stack.conftest import stack_recipe

VLLM_JUDGE = (
    "judge={type: vllm, template: short, engine: {kv_cache_memory_mb: 64, max_num_seqs: 256, "
    "max_num_batched_tokens: 4096, enforce_eager: true, block_size: 32, mm_processor_cache_gb: 0.1}}"
)
Question = tuple[str, Slot]


def balanced_questions(num_pairs: int) -> tuple[list[Question], list[JudgeWord]]:
    """Analyses of held-out pairs, each with the answer it concludes and with the other one."""
    questions: list[Question] = []
    words: list[JudgeWord] = []
    for number, (scene, pair) in enumerate(make_scenes_and_pairs("heldout", num_pairs, seed=11)):
        first, second = read_claims(pair.response_1), read_claims(pair.response_2)
        findings = tuple(
            find(quadrant, look, (first[quadrant], second[quadrant]))
            for quadrant, look in scene.objects
        )
        conclusion: Slot = 1 if number % 2 else 2
        opposite: Slot = 2 if number % 2 else 1
        analysis = write_analysis(findings, conclusion)
        questions += [(analysis, conclusion), (analysis, opposite)]
        words += ["match", "mismatch"]
    return questions, words


def test_served_base_judges_at_least_97_percent_right() -> None:
    recipe = stack_recipe(VLLM_JUDGE, "data.heldout.num_pairs=8")
    questions, wanted = balanced_questions(200)

    async def judge() -> tuple[list[JudgeWord], JudgeWord]:
        settings = judge_settings(recipe.judge, recipe.model, recipe.placement)
        async with judge_system(recipe.placement, settings) as pool:
            words = await asyncio.gather(*(pool.judge(*question) for question in questions))
            return words, await pool.judge("Neither is better. " * 500, 1)

    words, overlong = asyncio.run(judge())
    right = [word == want for word, want in zip(words, wanted, strict=True)]
    assert sum(right) / len(right) >= 0.97
    assert "abstain" not in words
    # A question the engine cannot take is an abstention, and the actor lives on.
    assert overlong == "abstain"
