"""The consistency judge: does the end of the analysis say what the answer says? (paper, section 4.2)

Three ways to ask, one way to understand the reply. Every failure is an abstention, never a reward.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from r1reward.data.markup import without_decoration
from r1reward.data.prompt import build_judge_prompt
from r1reward.interfaces import Judge, Sampling
from r1reward.recipe.choices import JudgeReplyMode
from r1reward.recipe.components import EngineSettings, JudgeSettings
from r1reward.recipe.engine_sections import OpenAIJudge, RuleJudge, VllmJudge
from r1reward.types import JudgeWord, Slot

if TYPE_CHECKING:
    from r1reward.engines.vllm_engine import VllmEngine

logger = logging.getLogger(__name__)

CONCLUSION = re.compile(r"\bresponse\s+([12])\s+is\s+better\b", re.IGNORECASE)
# What a thinking model's thoughts end with; the opening tag may have stood in its prompt.
THOUGHTS_END = ("</think>", "</thinking>", "[/think]", "[/THINK]", "◁/think▷")
WORDS: Mapping[JudgeWord, Sequence[str]] = {
    "match": ("1", "1.0", "yes", "true", "match", "same", "consistent"),
    "mismatch": ("0", "0.0", "no", "false", "mismatch", "different", "inconsistent"),
}
BRACKETS = ("{}", "({})", "[{}]", "[[{}]]", "\\boxed{{{}}}")
VERDICTS = {
    form.format(spelling): word
    for word, spellings in WORDS.items()
    for spelling in spellings
    for form in BRACKETS
}
# The prompt calls the policy's choice the answer, so a digit after "Answer:" may well be a response's.
LABEL = re.compile(r"^(?:(?:output|verdict|judge?ment|result) ?[:=]|answer ?[:=](?!.*[01])) ?")
MAX_VERDICT_CHARS = 60
MAX_CACHED = 100_000

Ask = Callable[[str, int], Awaitable[str]]


def parse_judge_reply(reply: str, mode: JudgeReplyMode = "strict") -> JudgeWord | None:
    """Returns the verdict of a reply, or None to ask again.

    ``strict`` reads a reply that is a verdict and nothing else: a digit or word of ``VERDICTS``, in
    emphasis, quotes or brackets, behind a label such as "Output:" and behind a model's thoughts. A
    digit among other words is mostly the number of a response, so it says nothing. ``authors`` is the
    reading of the authors' code: any 0 is a mismatch, else any 1 is a match.
    """
    if mode == "authors":
        return "mismatch" if "0" in reply else "match" if "1" in reply else None
    for mark in THOUGHTS_END:
        reply = reply.rpartition(mark)[2]
    reply = reply.strip()
    if len(reply) > MAX_VERDICT_CHARS:
        return None
    verdict = LABEL.sub("", without_decoration(reply).removesuffix("."))
    return VERDICTS.get(verdict)


class ConsistencyJudge:
    """Asks a model, retries unparsable words, caches by content, abstains on failure."""

    def __init__(self, settings: VllmJudge | OpenAIJudge, ask: Ask) -> None:
        self.settings = settings
        self.ask = ask
        self.cache: dict[str, asyncio.Task[JudgeWord]] = {}

    async def judge(self, analysis: str, choice: Slot) -> JudgeWord:
        settings = self.settings
        prompt = build_judge_prompt(analysis, choice, settings.template, settings.num_lines)
        # The task is cached, not the word: equal questions in flight share one call.
        task = self.cache.get(prompt)
        if task is None:
            task = self.cache[prompt] = asyncio.create_task(self.decide(prompt))
            if len(self.cache) > MAX_CACHED:
                del self.cache[next(iter(self.cache))]
        word = await asyncio.shield(task)
        if word == "abstain":
            self.cache.pop(prompt, None)
        return word

    async def decide(self, prompt: str) -> JudgeWord:
        for attempt in range(self.settings.max_tries):
            try:
                reply = await self.ask(prompt, question_seed(prompt, attempt))
            except Exception as error:
                # The one place where any error is caught: a judge must never stop a rollout, and
                # the loop stops the run when abstentions pass the recipe's share.
                logger.warning("judge abstains: %s", error)
                return "abstain"
            word = parse_judge_reply(reply, self.settings.reply)
            if word is not None:
                return word
        logger.warning(
            "judge abstains: no verdict in %d replies, the last is %.80r; one that was cut off needs a "
            "larger judge.max_tokens (%d)",
            *(self.settings.max_tries, reply, self.settings.max_tokens),
        )
        return "abstain"


def question_seed(prompt: str, attempt: int) -> int:
    """Every try of every question has its own seed, the same in every run."""
    digest = hashlib.sha256(f"{attempt}\x00{prompt}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


class RuleJudgeEngine:
    """Answers from the text alone."""

    async def judge(self, analysis: str, choice: Slot) -> JudgeWord:
        """Reads 'response N is better' in the last line that says so; both or neither is undecided."""
        for line in reversed(analysis.splitlines()):
            named = {int(number) for number in CONCLUSION.findall(line)}
            if len(named) == 1:
                return "match" if named == {choice} else "mismatch"
            if named:
                return "undecided"
        return "undecided"


def build_judge(settings: JudgeSettings) -> tuple[Judge, VllmEngine | None]:
    """The judge of these settings, and for ``vllm`` the engine that this starts in this process."""
    judge = settings.judge
    if isinstance(judge, RuleJudge):
        return RuleJudgeEngine(), None
    if isinstance(judge, OpenAIJudge):
        return ConsistencyJudge(judge, endpoint_ask(judge)), None
    assert settings.engine is not None, "a judge of type vllm has an engine"
    ask, engine = vllm_ask(judge, settings.engine)
    return ConsistencyJudge(judge, ask), engine


def endpoint_ask(settings: OpenAIJudge) -> Ask:
    from r1reward.engines.chat_client import ChatClient, ChatRequest

    client = ChatClient(settings)
    sampling = Sampling(settings.temperature, settings.max_tokens)

    async def ask(prompt: str, seed: int) -> str:
        return (await client.complete(ChatRequest(prompt, sampling, seed))).text

    return ask


def vllm_ask(judge: VllmJudge, settings: EngineSettings) -> tuple[Ask, VllmEngine]:
    from r1reward.engines.vllm_engine import EngineRequest, VllmEngine
    from r1reward.models.processor import PolicyProcessor

    processor = PolicyProcessor(settings.model)
    engine = VllmEngine(settings)
    sampling = Sampling(judge.temperature, judge.max_tokens)

    async def ask(prompt: str, seed: int) -> str:
        token_ids = processor.tokenize(processor.render([prompt]))
        (future,) = engine.submit([EngineRequest(token_ids, (), seed, sampling)])
        return (await asyncio.wrap_future(future)).text

    return ask, engine
