"""From benchmark rows to answers: plan, sample, judge, write down, until nothing is left to draw.

Answers are written as they finish and what is written is not drawn again, so a killed evaluation goes
on where it stopped. Seeds depend on row, order and sample only, never on what came before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from r1reward.data.order import derive_seed
from r1reward.data.prompt import whole_trace
from r1reward.data.requests import Encode
from r1reward.errors import InputError
from r1reward.evaluation.answers import (
    Answer,
    answer_confidence,
    append_answers,
    forget_missing,
    read_answers,
)
from r1reward.evaluation.conditions import Asking
from r1reward.evaluation.image_off import without_images
from r1reward.evaluation.items import Item
from r1reward.evaluation.voting.schedule import full_plan, sample_schedule
from r1reward.evaluation.voting.stopping import next_samples
from r1reward.interfaces import Generator, Judge, Sampling
from r1reward.recipe.sections import (
    EvaluateSection,
    ModelSection,
    PromptSection,
    RewardSection,
    changed,
)
from r1reward.rollouts import Scoring, score_each
from r1reward.types import Order, Prompt, RolloutRequest, ScoredRollout, Slot

# Which of the planned samples one is: row, order, and its number within the order.
SampleKey = tuple[str, Order, int]
TokenTexts = Callable[[Sequence[int]], tuple[str, ...]]

# Rows sampled together. Fixed chunks keep what the engines compute independent of timing and bound what
# is in memory; large ones keep the engines full.
CHUNK_ROWS = 512


def scoring_of_answers(prompt: PromptSection, reward: RewardSection) -> Scoring:
    """Every readable answer is judged here, right or wrong: consistency describes all of them."""
    return Scoring(prompt, changed(reward, judged_wrong_share=1.0))


@dataclass(frozen=True)
class EvaluationSampler:
    """A model that can be evaluated, and how it is to be sampled.

    ``encode`` makes a prompt of a pair in one order. ``token_texts`` decodes token ids one by one, to
    find the answer's. ``progress`` is called with the number of samples done and of those planned by
    now (adaptive voting plans more as it goes).
    """

    evaluate: EvaluateSection
    seed: int
    model: ModelSection
    scoring: Scoring
    encode: Encode
    generator: Generator
    judge: Judge | None
    token_texts: TokenTexts
    progress: Callable[[int, int], None] = lambda done, planned: None

    @property
    def sampling(self) -> Sampling:
        evaluate = self.evaluate
        return Sampling(evaluate.sampling_temperature, self.model.max_new_tokens, evaluate.top_p)

    @property
    def asking(self) -> Asking:
        return Asking(self.evaluate, self.scoring.prompt, self.model.max_new_tokens, self.seed)

    def answer(self, scored: ScoredRollout) -> Answer:
        """What is kept of a rollout: everything but its token ids."""
        rollout, verdict, reward = scored.rollout, scored.verdict, scored.reward
        prompt = rollout.request.prompt
        texts = rollout.token_texts or self.token_texts(rollout.response_token_ids)
        confidence = None  # where the engine gives no log-probs
        if len(texts) == len(rollout.logprobs):
            confidence = answer_confidence(texts, rollout.logprobs.tolist(), self.scoring.tags)
        return Answer(
            item=prompt.prompt_id.removesuffix(f"-{prompt.order}"),
            order=prompt.order,
            sample_index=rollout.request.sample_index,
            seed=rollout.request.seed,
            choice=verdict.choice,
            text=whole_trace(rollout),
            num_tokens=len(rollout.logprobs) or None,
            truncated=rollout.finish_reason == "length",
            well_formed=verdict.well_formed,
            confidence=confidence,
            judge_word=reward.judge_word,
            reward=reward.total,
            consistency=reward.consistency,
            status=rollout.status,
            reason=rollout.reason,
        )


@dataclass
class AnswerLedger:
    """The answers so far, in memory and in their file."""

    path: Path
    answers: dict[SampleKey, Answer] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> AnswerLedger:
        return cls(path, {answer.sample_key: answer for answer in read_answers(path)})

    def add(self, answer: Answer) -> None:
        append_answers(self.path, [answer])
        self.answers[answer.sample_key] = answer


async def sample_answers(
    sampler: EvaluationSampler, items: Sequence[Item], path: Path, blind: bool = False
) -> list[Answer]:
    """Returns every answer of every row, kept or new. ``blind`` replaces the images by grey ones.

    A sample that a server leaves without an answer is among them; the next call draws it again.
    """
    forget_missing(path)
    ledger = AnswerLedger.read(path)
    evaluate, seed = sampler.evaluate, sampler.seed
    num_first = [len(missing_samples(evaluate, seed, item, {})) for item in items]
    for start in range(0, len(items), CHUNK_ROWS):
        chunk = items[start : start + CHUNK_ROWS]
        num_later = sum(num_first[start + CHUNK_ROWS :])
        prompts: dict[tuple[str, Order], Prompt] = {}
        num_before = -1
        # A round that only refused rows still moves them on; one that did nothing is the last.
        while len(ledger.answers) > num_before:
            num_before = len(ledger.answers)
            requests = next_requests(sampler, chunk, prompts, ledger)
            num_planned = len(ledger.answers) + len(requests) + num_later
            if len(ledger.answers) > num_before:  # refused rows are done as well
                sampler.progress(len(ledger.answers), num_planned)
            await answer_requests(sampler, requests, ledger, blind, num_planned)
    planned = {item.key for item in items}
    return [answer for answer in ledger.answers.values() if answer.item in planned]


def is_finished(settings: EvaluateSection, seed: int, items: Sequence[Item], path: Path) -> bool:
    """Whether every sample that would be drawn is answered in the file already."""
    kept = AnswerLedger.read(path).answers
    answers = {key: answer for key, answer in kept.items() if not answer.is_missing}
    return not any(missing_samples(settings, seed, item, answers) for item in items)


def missing_samples(
    settings: EvaluateSection, seed: int, item: Item, answers: Mapping[SampleKey, Answer]
) -> list[SampleKey]:
    """The samples of a row to draw next, given the answers so far; none when it is finished."""
    plan = full_plan if settings.adaptive is None else sample_schedule
    schedule = plan(item, settings.samples, settings.orders, seed)
    keys: list[SampleKey] = [(item.key, order, index) for order, index in schedule]
    if settings.adaptive is None:
        return [key for key in keys if key not in answers]
    drawn: list[Slot | None] = []
    while count := next_samples(drawn, settings.samples, settings.adaptive):
        batch = keys[len(drawn) : len(drawn) + count]
        missing = [key for key in batch if key not in answers]
        if missing:
            return missing
        drawn += [answers[key].response for key in batch]
    return []


def next_requests(
    sampler: EvaluationSampler,
    items: Sequence[Item],
    prompts: dict[tuple[str, Order], Prompt],
    ledger: AnswerLedger,
) -> list[RolloutRequest]:
    """One round over the rows. A row that the model cannot be given is answered here: as too long, or
    as refused.
    """
    requests = []
    limit = sampler.model.max_prompt_tokens
    for item in items:
        for key, order, index in missing_samples(
            sampler.evaluate, sampler.seed, item, ledger.answers
        ):
            # Rows may repeat a pair; each keeps its own prompts.
            prompt_id = f"{key}-{order}"
            seed = derive_seed(sampler.seed, "evaluate", prompt_id, index)
            prompt = prompts.get((key, order))
            if prompt is None:
                try:
                    prompt = replace(sampler.encode(item.pair, order), prompt_id=prompt_id)
                except InputError as error:
                    reason = str(error)
                    ledger.add(
                        Answer(key, order, index, seed, None, status="refused", reason=reason)
                    )
                    continue
                prompts[key, order] = prompt
            if prompt.num_tokens > limit:
                reason = f"prompt of {prompt.num_tokens} tokens, model.max_prompt_tokens is {limit}"
                too_long = Answer(key, order, index, seed, None, status="too_long", reason=reason)
                ledger.add(too_long)
            else:
                requests.append(RolloutRequest(prompt, index, seed))
    return requests


async def answer_requests(
    sampler: EvaluationSampler,
    requests: Sequence[RolloutRequest],
    ledger: AnswerLedger,
    blind: bool,
    num_planned: int,
) -> None:
    """Draws the samples and writes each down as it finishes."""

    def keep(scored: ScoredRollout) -> None:
        ledger.add(sampler.answer(scored))
        sampler.progress(len(ledger.answers), num_planned)

    shown = without_images(requests) if blind else requests
    await score_each(
        sampler.scoring, sampler.generator, sampler.judge, shown, sampler.sampling, keep
    )
