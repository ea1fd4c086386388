"""Who writes the traces: a chat endpoint, or engines of this cluster."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from r1reward.data.prompt import Tags, build_prompt, whole_trace
from r1reward.engines.chat_client import ChatClient, ChatRequest
from r1reward.engines.chat_reply import ChatReply, without_own_thoughts
from r1reward.engines.endpoint_errors import Breaker, PromptRefusedError
from r1reward.errors import InputError
from r1reward.interfaces import Generator, Sampling
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.sections import PromptSection
from r1reward.types import PreferencePair, Prompt, RolloutRequest

Admit = Callable[[], Awaitable[None]]


class Teacher(Protocol):
    """``prompt`` says how it is asked, and so how its answers are read."""

    prompt: PromptSection

    async def answer(self, shown: PreferencePair, seed: int, admit: Admit) -> ChatReply:
        """The reply about a pair whose responses stand in the slots as they are here.

        Its text is the whole trace: what a thinking model thought before its analysis is left out, and
        reasoning that a server tells apart is the analysis of a text without one.

        ``admit`` is awaited before every request; it may wait or raise. Raises ``EndpointError`` and
        its kinds.
        """
        ...

    async def close(self) -> None: ...


@dataclass
class EndpointClient:
    """A teacher behind an OpenAI-compatible endpoint. Images travel as data URLs."""

    client: ChatClient
    prompt: PromptSection
    sampling: Sampling

    async def answer(self, shown: PreferencePair, seed: int, admit: Admit) -> ChatReply:
        tags = Tags(self.prompt.think_tag, self.prompt.answer_tag)
        text = build_prompt(shown, self.prompt.template, tags)
        asked = ChatRequest(
            text, self.sampling, seed, shown.images, images_last=self.prompt.images_last
        )
        reply = await self.client.complete(asked, admit)
        return replace(reply, text=reply.trace(tags))

    async def close(self) -> None:
        await self.client.close()


@dataclass
class EngineTeacher:
    """A teacher in engines of our own: ``generators`` says which one is asked next, without end."""

    generators: Iterator[Generator]
    processor: PolicyProcessor
    prompt: PromptSection
    sampling: Sampling
    max_prompt_tokens: int
    breaker: Breaker

    async def answer(self, shown: PreferencePair, seed: int, admit: Admit) -> ChatReply:
        await admit()
        try:
            prompt = self.encode(shown)
        except PromptRefusedError as error:
            raise self.breaker.count_error(error) from error
        request = RolloutRequest(prompt, 0, seed)
        [done] = [item async for item in next(self.generators).generate([request], self.sampling)]
        self.breaker.count_answer()
        return ChatReply(
            text=without_own_thoughts(
                whole_trace(done), Tags(self.prompt.think_tag, self.prompt.answer_tag)
            ),
            finish_reason=done.finish_reason,
            prompt_tokens=len(done.prompt_token_ids),
            completion_tokens=len(done.response_token_ids),
        )

    def encode(self, shown: PreferencePair) -> Prompt:
        """Raises ``PromptRefusedError`` for a pair that the teacher cannot take."""
        try:
            prompt = self.processor.encode(shown, "stored", self.prompt)
        except InputError as error:
            raise PromptRefusedError(str(error)) from error
        if prompt.num_tokens > self.max_prompt_tokens:
            raise PromptRefusedError(
                f"{shown.origin}: a prompt of {prompt.num_tokens} tokens, more than "
                f"model.max_prompt_tokens ({self.max_prompt_tokens})"
            )
        return prompt

    async def close(self) -> None:
        """The engines belong to whoever started them."""
