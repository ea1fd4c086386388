"""From benchmark rows to answers: plan, sample, judge, write down, until nothing is left to ask.

Answers are written as they finish and what is written is not asked again, so a killed evaluation goes
on where it stopped. Seeds depend on row, order and sample only, never on what came before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from r1reward.data.order import derive_seed
from r1reward.data.prompt import Tags
from r1reward.data.requests import Encode
from r1reward.evaluation.answers import Answer, append_answers, read_answers
from r1reward.evaluation.confidence import answer_confidence
from r1reward.evaluation.image_off import without_images
from r1reward.evaluation.items import Item
from r1reward.evaluation.voting.schedule import full_plan, sample_schedule
from r1reward.evaluation.voting.stopping import next_samples
from r1reward.interfaces import Generator, Judge, Sampling
from r1reward.recipe.recipe import EngineRecipe
from r1reward.recipe.sections import EvaluateSection
from r1reward.rollouts import score_each
from r1reward.types import Order, Prompt, Rollout, RolloutRequest, ScoredRollout, Slot

Place = tuple[str, Order, int]
TokenTexts = Callable[[Sequence[int]], tuple[str, ...]]

# Rows asked together. Fixed chunks keep what the engines compute independent of timing and bound what
# is in memory; large ones keep the engines full.
CHUNK_ROWS = 512


@dataclass(frozen=True)
class Asker:
    """The parts an evaluation asks with.

    ``token_texts`` decodes token ids one by one, to find the answer's; ``progress`` is told how many
    samples are done and how many are planned by now (adaptive voting plans more as it goes).
    """

    recipe: EngineRecipe
    evaluate: EvaluateSection
    encode: Encode
    generator: Generator
    judge: Judge | None
    token_texts: TokenTexts
    progress: Callable[[int, int], None] = lambda done, planned: None


@dataclass
class Sheet:
    """The answers so far, in memory and in their file."""

    path: Path
    answers: dict[Place, Answer] = field(default_factory=dict)

    def add(self, answer: Answer) -> None:
        append_answers(self.path, [answer])
        self.answers[answer.place] = answer


async def ask(parts: Asker, items: Sequence[Item], path: Path, blind: bool = False) -> list[Answer]:
    """Every answer of every row, kept or new. ``blind`` replaces the images by grey ones."""
    sheet = Sheet(path, {answer.place: answer for answer in read_answers(path)})
    first_wishes = [len(wishes(parts.evaluate, parts.recipe.seed, item, {})) for item in items]
    for start in range(0, len(items), CHUNK_ROWS):
        chunk = items[start : start + CHUNK_ROWS]
        num_later = sum(first_wishes[start + CHUNK_ROWS :])
        prompts: dict[tuple[str, Order], Prompt] = {}
        num_before = -1
        # A round that only refused rows still moves them on; one that did nothing is the last.
        while len(sheet.answers) > num_before:
            num_before = len(sheet.answers)
            requests = next_requests(parts, chunk, prompts, sheet)
            num_planned = len(sheet.answers) + len(requests) + num_later
            if len(sheet.answers) > num_before:  # refused rows are done as well
                parts.progress(len(sheet.answers), num_planned)
            await answer_requests(parts, requests, sheet, blind, num_planned)
    planned = {item.key for item in items}
    return [answer for answer in sheet.answers.values() if answer.item in planned]


def is_finished(settings: EvaluateSection, seed: int, items: Sequence[Item], path: Path) -> bool:
    """Is every sample that would be asked for in the file already?"""
    answers = {answer.place: answer for answer in read_answers(path)}
    return not any(wishes(settings, seed, item, answers) for item in items)


def wishes(
    settings: EvaluateSection, seed: int, item: Item, answers: Mapping[Place, Answer]
) -> list[Place]:
    """The samples of a row to draw next, given the answers so far; none when it is finished."""
    plan = full_plan if settings.adaptive is None else sample_schedule
    schedule = plan(item, settings.samples, settings.orders, seed)
    places: list[Place] = [(item.key, order, index) for order, index in schedule]
    if settings.adaptive is None:
        return [place for place in places if place not in answers]
    drawn: list[Slot | None] = []
    while count := next_samples(drawn, settings.samples, settings.adaptive):
        batch = places[len(drawn) : len(drawn) + count]
        missing = [place for place in batch if place not in answers]
        if missing:
            return missing
        drawn += [answers[place].response for place in batch]
    return []


def next_requests(
    parts: Asker,
    items: Sequence[Item],
    prompts: dict[tuple[str, Order], Prompt],
    sheet: Sheet,
) -> list[RolloutRequest]:
    """One round over the rows. A row whose prompt is too long is answered here, unreadably."""
    requests = []
    limit = parts.recipe.model.max_prompt_tokens
    for item in items:
        for key, order, index in wishes(parts.evaluate, parts.recipe.seed, item, sheet.answers):
            prompt = prompts.get((key, order))
            if prompt is None:
                # Rows may repeat a pair; each keeps its own prompts.
                prompt = replace(parts.encode(item.pair, order), prompt_id=f"{key}-{order}")
                prompts[key, order] = prompt
            seed = derive_seed(parts.recipe.seed, "evaluate", prompt.prompt_id, index)
            if prompt.num_tokens > limit:
                reason = f"prompt of {prompt.num_tokens} tokens, model.max_prompt_tokens is {limit}"
                sheet.add(Answer(key, order, index, seed, choice=None, refused=reason))
            else:
                requests.append(RolloutRequest(prompt, index, seed))
    return requests


async def answer_requests(
    parts: Asker, requests: Sequence[RolloutRequest], sheet: Sheet, blind: bool, num_planned: int
) -> None:
    # Every readable answer is judged here, right or wrong: consistency describes all of them.
    reward = parts.recipe.reward.model_copy(update={"judged_wrong_share": 1.0})
    recipe = parts.recipe.model_copy(update={"reward": reward})
    sampling = Sampling(
        parts.evaluate.sampling_temperature, recipe.model.max_new_tokens, parts.evaluate.top_p
    )

    def keep(scored: ScoredRollout) -> None:
        sheet.add(read_off(parts, scored))
        parts.progress(len(sheet.answers), num_planned)

    asked = without_images(requests) if blind else requests
    await score_each(recipe, parts.generator, parts.judge, asked, sampling, keep)


def read_off(parts: Asker, scored: ScoredRollout) -> Answer:
    """What is kept of a rollout: everything but token ids."""
    rollout, verdict, reward = scored.rollout, scored.verdict, scored.reward
    prompt = rollout.request.prompt
    return Answer(
        item=prompt.prompt_id.removesuffix(f"-{prompt.order}"),
        order=prompt.order,
        sample_index=rollout.request.sample_index,
        seed=rollout.request.seed,
        choice=verdict.choice,
        text=rollout.text,
        num_tokens=len(rollout.logprobs) or None,
        truncated=rollout.finish_reason == "length",
        well_formed=verdict.well_formed,
        confidence=confidence(parts, rollout),
        judge_word=reward.judge_word,
        reward=reward.total,
        consistency=reward.consistency,
    )


def confidence(parts: Asker, rollout: Rollout) -> float | None:
    """Probability of the answer token, None where the engine told no log-probs."""
    texts = rollout.token_texts or parts.token_texts(rollout.response_token_ids)
    if len(texts) != len(rollout.logprobs):
        return None
    tags = Tags(parts.recipe.prompt.think_tag, parts.recipe.prompt.answer_tag)
    return answer_confidence(texts, rollout.logprobs.tolist(), tags)
