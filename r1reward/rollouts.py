"""From prompts to scored rollouts: generate, parse, judge, reward.

A rollout is parsed the moment it arrives and its judge call starts at once, so the judge works while
other rollouts are still being generated.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from r1reward.algorithm.reward import is_right, reward_positions, score
from r1reward.data.order import derive_seed
from r1reward.data.prompt import Tags, whole_trace
from r1reward.data.verdict import parse_verdict
from r1reward.interfaces import Generator, Judge, RolloutBatch, Sampling
from r1reward.metrics import Metrics, Name, last, maximum, mean, total
from r1reward.recipe.engine_sections import RolloutSection
from r1reward.recipe.sections import PromptSection, RewardSection
from r1reward.types import JudgeWord, Rollout, RolloutRequest, ScoredRollout, Verdict, WeightsHandle


class JudgeUnavailableError(RuntimeError):
    """Too many judge calls failed: training on would be training without the consistency term."""


@dataclass(frozen=True)
class Scoring:
    """How a trace is read, and what it earns."""

    prompt: PromptSection
    reward: RewardSection

    @property
    def tags(self) -> Tags:
        return Tags(self.prompt.think_tag, self.prompt.answer_tag)


class StepRequests(Protocol):
    """The requests of a step; dynamic sampling takes further ones from rounds above 0."""

    def __call__(self, step: int, sampling_round: int = 0, /) -> list[RolloutRequest]: ...


class LiveSource:
    """Samples each step's batch from the generator and has it judged."""

    def __init__(
        self,
        rollout: RolloutSection,
        scoring: Scoring,
        max_new_tokens: int,
        generator: Generator,
        judge: Judge | None,
        requests_for_step: StepRequests,
    ) -> None:
        self.rollout = rollout
        self.scoring = scoring
        self.sampling = Sampling(rollout.temperature, max_new_tokens)
        self.generator = generator
        self.judge = judge
        self.requests_for_step = requests_for_step
        self.loaded_version: int | None = None
        self.loading: Metrics = {}

    async def load(self, weights: WeightsHandle) -> Metrics:
        """Make the generator sample with these weights.

        What loading told is told again when they are there already: a step's metrics must not depend
        on whether an evaluation came before it. Only times are of the moment.
        """
        if weights.version == self.loaded_version:
            return {n: metric for n, metric in self.loading.items() if not n.startswith("time/")}
        self.loading = await self.generator.load_weights(weights)
        self.loaded_version = weights.version
        return dict(self.loading)

    async def collect(self, step: int, weights: WeightsHandle) -> RolloutBatch:
        started = time.monotonic()
        metrics = await self.load(weights)
        loaded = time.monotonic()
        requests = self.requests_for_step(step)
        rollouts = await self.sample(requests)
        if self.rollout.dynamic_sampling is not None:
            rollouts, resampled = await self.resample(step, rollouts)
            metrics |= resampled
        seconds = time.monotonic() - loaded
        check_judge(rollouts, self.scoring.reward.max_abstain_share)
        num_tokens = sum(len(scored.rollout.response_token_ids) for scored in rollouts)
        metrics |= rollout_metrics(rollouts) | {
            Name.TIME_LOAD_WEIGHTS_S: last(loaded - started),
            Name.TIME_ROLLOUT_S: last(seconds),
            Name.TIME_ROLLOUT_TOKENS_PER_S: last(num_tokens / seconds),
        }
        return RolloutBatch(step, rollouts, metrics)

    async def sample(self, requests: Sequence[RolloutRequest]) -> list[ScoredRollout]:
        """One scored rollout a request, in the order of the requests."""
        scored = await score_rollouts(
            self.scoring, self.generator, self.judge, requests, self.sampling
        )
        if self.rollout.both_orders:
            return reward_positions(scored, self.scoring.reward.position_weight)
        return scored

    async def resample(
        self, step: int, rollouts: Sequence[ScoredRollout]
    ) -> tuple[list[ScoredRollout], Metrics]:
        """Replace prompts whose samples all came out alike (dynamic sampling: DAPO, arXiv 2503.14476).

        They have no advantage within their group. Each round asks for as many new prompts as groups are
        left, from the round's own order; what is still alike after the last round stays. With both
        orders a group is a pair, and it stays if either order's samples differ.
        """
        settings = self.rollout
        assert settings.dynamic_sampling is not None
        size = settings.samples_per_prompt * (2 if settings.both_orders else 1)
        groups = chunks(rollouts, size)
        tried = {scored.rollout.request.prompt.prompt_id for scored in rollouts}
        num_resampled = 0
        for sampling_round in range(1, settings.dynamic_sampling.max_rounds + 1):
            uniform = [index for index, group in enumerate(groups) if all_alike(group)]
            if not uniform:
                break
            further = self.requests_for_step(step, sampling_round)
            new = [request for request in further if request.prompt.prompt_id not in tried]
            requests = new[: size * len(uniform)]
            if not requests:
                continue
            tried |= {request.prompt.prompt_id for request in requests}
            sampled = chunks(await self.sample(requests), size)
            num_resampled += len(requests) // settings.samples_per_prompt
            mixed = [group for group in sampled if not all_alike(group)]
            for index, group in zip(uniform, mixed, strict=False):
                groups[index] = group
        batch = [scored for group in groups for scored in group]
        return batch, {Name.ROLLOUT_NUM_RESAMPLED: total(num_resampled)}


def chunks(rollouts: Sequence[ScoredRollout], size: int) -> list[list[ScoredRollout]]:
    return [list(rollouts[start : start + size]) for start in range(0, len(rollouts), size)]


def all_alike(rollouts: Sequence[ScoredRollout]) -> bool:
    """Whether all samples of each prompt are right, or all wrong."""
    results = {(s.rollout.request.prompt.prompt_id, s.reward.result) for s in rollouts}
    return len(results) == len({prompt_id for prompt_id, _ in results})


async def score_rollouts(
    scoring: Scoring,
    generator: Generator,
    judge: Judge | None,
    requests: Sequence[RolloutRequest],
    sampling: Sampling,
) -> list[ScoredRollout]:
    """One scored rollout a request, in the order of the requests, which are all different samples."""
    index_of = {(r.prompt.prompt_id, r.sample_index): i for i, r in enumerate(requests)}
    assert len(index_of) == len(requests), "every request is a different sample"
    scored: list[ScoredRollout | None] = [None] * len(requests)

    def keep(item: ScoredRollout) -> None:
        request = item.rollout.request
        scored[index_of[request.prompt.prompt_id, request.sample_index]] = item

    await score_each(scoring, generator, judge, requests, sampling, keep)
    finished = [item for item in scored if item is not None]
    assert len(finished) == len(requests), "the generator answered every request"
    return finished


async def score_each(
    scoring: Scoring,
    generator: Generator,
    judge: Judge | None,
    requests: Sequence[RolloutRequest],
    sampling: Sampling,
    keep: Callable[[ScoredRollout], None],
) -> None:
    """Generate, parse, judge and reward; ``keep`` is called with each rollout the moment it is done."""

    async def finish(rollout: Rollout) -> None:
        trace = whole_trace(rollout)
        verdict = parse_verdict(trace, scoring.tags, scoring.prompt.format_mode)
        word = await judge_word(scoring.reward.judged_wrong_share, judge, rollout, verdict)
        reward = score(verdict, rollout.request.prompt.label, word, scoring.reward)
        keep(ScoredRollout(rollout, verdict, reward))

    async with asyncio.TaskGroup() as tasks:
        async for rollout in generator.generate(requests, sampling):
            tasks.create_task(finish(rollout))


async def judge_word(
    judged_wrong_share: float, judge: Judge | None, rollout: Rollout, verdict: Verdict
) -> JudgeWord:
    """Ask only where the word can matter, and for a sampled share of the wrong answers.

    Consistency multiplies the result, so the word on a wrong answer never changes a reward. A trace
    without a readable answer or without an analysis has nothing to compare: a mismatch.
    """
    if judge is None or verdict.choice is None:
        return "skipped"
    if not is_right(verdict, rollout.request.prompt.label):
        draw = derive_seed("judge", rollout.request.seed) / 2**48
        if draw >= judged_wrong_share:
            return "skipped"
    if verdict.analysis is None:
        return "mismatch"
    return await judge.judge(verdict.analysis, verdict.choice)


def check_judge(rollouts: Sequence[ScoredRollout], max_abstain_share: float) -> None:
    words = Counter(scored.reward.judge_word for scored in rollouts)
    asked = sum(words.values()) - words["skipped"]
    if asked and words["abstain"] / asked > max_abstain_share:
        raise JudgeUnavailableError(
            f"the judge failed on {words['abstain']} of {asked} traces, more than "
            f"reward.max_abstain_share ({max_abstain_share}): check the judge and resume the run"
        )


def rollout_metrics(rollouts: Sequence[ScoredRollout]) -> Metrics:
    """What the batch looks like before any training: rewards, form, length, slots, judge."""
    rewards = [scored.reward for scored in rollouts]
    words = Counter(reward.judge_word for reward in rewards)
    consistency = [reward.consistency for reward in rewards if reward.consistency is not None]
    choices = [scored.verdict.choice for scored in rollouts]
    lengths = [float(len(scored.rollout.response_token_ids)) for scored in rollouts]
    totals = [reward.total for reward in rewards]
    groups: dict[str, list[ScoredRollout]] = defaultdict(list)
    for scored in rollouts:
        groups[scored.rollout.request.prompt.prompt_id].append(scored)
    centre = sum(totals) / len(totals)
    spread = (sum((value - centre) ** 2 for value in totals) / len(totals)) ** 0.5
    return {
        Name.REWARD_TOTAL: mean(totals),
        Name.REWARD_STD: last(spread),
        Name.REWARD_RESULT: mean([reward.result for reward in rewards]),
        Name.REWARD_FORMAT: mean([reward.format for reward in rewards]),
        Name.REWARD_CONSISTENCY: mean(consistency),
        Name.REWARD_POSITION: mean([r.position for r in rewards if r.position is not None]),
        Name.JUDGE_MATCH_SHARE: mean([float(value == 1.0) for value in consistency]),
        Name.JUDGE_NUM_ASKED: total(len(rewards) - words["skipped"]),
        Name.JUDGE_NUM_ABSTAINED: total(words["abstain"]),
        Name.JUDGE_NUM_UNDECIDED: total(words["undecided"]),
        Name.ROLLOUT_LENGTH_MEAN: mean(lengths),
        Name.ROLLOUT_LENGTH_MAX: maximum(max(lengths)),
        Name.ROLLOUT_NUM_TOKENS: total(sum(lengths)),
        Name.ROLLOUT_TRUNCATED_SHARE: mean(
            [float(scored.rollout.finish_reason == "length") for scored in rollouts]
        ),
        Name.ROLLOUT_UNIFORM_GROUP_SHARE: mean(
            [float(all_alike(group)) for group in groups.values() if len(group) > 1]
        ),
        Name.ROLLOUT_UNPARSED_SHARE: mean([float(choice is None) for choice in choices]),
        Name.ROLLOUT_SLOT_1_SHARE: mean([float(c == 1) for c in choices if c is not None]),
    }
