"""The body of a reply to a chat completion, read as servers really write it.

Nothing but JSON with a choice is an answer. What stands beside the text (log-probs, token counts,
reasoning) never makes an answer unreadable: it is left out where it is not of the form that is due.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from r1reward.data.prompt import Tags
from r1reward.engines.endpoint_errors import FILTERED, PromptRefusedError, RetriedError
from r1reward.types import FinishReason

T = TypeVar("T")

CUT_OFF = {"length", "max_tokens", "MAX_TOKENS"}
TOOL_CALLS = {"tool_calls", "function_call"}
# The server gave up in the middle.
BROKEN_OFF = {"error", "abort", "network_error", "insufficient_system_resource"}


@dataclass(frozen=True)
class ChatReply:
    """``reasoning`` is what a server tells apart from the text.

    ``token_texts`` and ``logprobs`` are per token, empty where the server does not tell.
    ``prompt_tokens`` and ``completion_tokens`` are what it bills, None where it does not say.
    """

    text: str
    finish_reason: FinishReason
    token_texts: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning: str = ""

    def trace(self, tags: Tags) -> str:
        """Returns the text with the analysis in its tags, wherever the server put it.

        Reasoning that was told apart is the analysis of a text without one. A text with an analysis of
        its own stands as it is, without what a thinking model thought before it.
        """
        opened, closed = f"<{tags.think}>", f"</{tags.think}>"
        if not self.reasoning or opened in self.text:
            return without_own_thoughts(self.text, tags)
        analysis = opened + self.reasoning.removeprefix(opened).removesuffix(closed)
        if not self.text:  # cut off while it was still reasoning
            return analysis
        return analysis + closed + self.text.removeprefix(closed).lstrip()


def without_own_thoughts(text: str, tags: Tags) -> str:
    """Returns the text from its last think block on, if think blocks stand before that one.

    A thinking model closes a block of its own before it writes the one that it was asked for; where the
    chat template opens the model's block, the text holds only its end.
    """
    opened, closed = f"<{tags.think}>", f"</{tags.think}>"
    head, found, _ = text.rpartition(opened)
    return text[len(head) :] if found and head.rstrip().endswith(closed) else text


def or_none(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError:
        return None


# What an answer can do without.
Beside = Annotated[T | None, WrapValidator(or_none)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**53)]


class Part(BaseModel):
    """Of a text in parts. Thinking is a text, or in parts again."""

    text: Beside[str] = None
    refusal: Beside[str] = None
    thinking: Beside[str | list[Part]] = None


class Message(BaseModel):
    content: str | list[str | Part] | None = None
    refusal: Beside[str] = None
    reasoning_content: Beside[str] = None
    reasoning: Beside[str] = None


class TokenLogprob(BaseModel):
    token: str
    logprob: Annotated[float, Field(allow_inf_nan=False)]


class Logprobs(BaseModel):
    content: list[TokenLogprob] = []


class Choice(BaseModel):
    message: Message
    finish_reason: Beside[str] = None
    logprobs: Beside[Logprobs] = None


class Usage(BaseModel):
    prompt_tokens: Beside[Count] = None
    completion_tokens: Beside[Count] = None


class Completion(BaseModel):
    choices: Annotated[list[Choice], Field(min_length=1)]
    usage: Beside[Usage] = None


def load_json(body: bytes) -> Any:
    """Returns the JSON with every half of a surrogate pair replaced. Raises ``ValueError``."""
    try:
        return json.loads(body, object_hook=whole_characters)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def whole_characters(fields: dict[str, object]) -> dict[str, object]:
    """Returns the same object; no library takes text with half a surrogate pair."""
    return {
        name: value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if isinstance(value, str)
        else value
        for name, value in fields.items()
    }


def read_completion(body: Any) -> ChatReply:
    """Returns the answer in the JSON of a reply.

    Raises ``PromptRefusedError`` where there is none for this prompt, ``RetriedError`` where another
    try may bring one, and ``ValidationError`` for what is no chat completion.
    """
    completion = Completion.model_validate(body)
    choice = completion.choices[0]
    reason, message = choice.finish_reason or "", choice.message
    text, reasoning, refusal = read_message(message)
    if FILTERED.search(reason):
        raise PromptRefusedError(f"the answer was held back (finish_reason {reason})")
    if reason in BROKEN_OFF:
        raise RetriedError(f"the server broke off (finish_reason {reason})")
    if not text and refusal:
        raise PromptRefusedError(f"the model refused: {refusal[:200]}")
    is_cut = reason in CUT_OFF
    if message.content is None and not reasoning and not is_cut:
        problem = f"a reply without a text (finish_reason {reason or 'not given'})"
        if reason in TOOL_CALLS:
            raise PromptRefusedError(problem)
        raise RetriedError(problem, in_the_end=PromptRefusedError)
    tokens = choice.logprobs.content if choice.logprobs else []
    usage = completion.usage or Usage()
    return ChatReply(
        text=text,
        finish_reason="length" if is_cut else "stop",
        token_texts=tuple(token.token for token in tokens),
        logprobs=tuple(min(token.logprob, 0.0) for token in tokens),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning=reasoning,
    )


def read_message(message: Message) -> tuple[str, str, str]:
    """Returns text, reasoning and refusal, each of them empty where there is none."""
    content = message.content or ""
    parts = [content] if isinstance(content, str) else content
    own = [part for part in parts if isinstance(part, Part)]
    text = "".join(part if isinstance(part, str) else part.text or "" for part in parts)
    thinking = "".join(thinking_text(part.thinking or "") for part in own)
    reasoning = message.reasoning_content or message.reasoning or thinking
    refusal = message.refusal or "".join(part.refusal or "" for part in own)
    return text, reasoning.strip(), refusal


def thinking_text(thinking: str | Sequence[Part]) -> str:
    return thinking if isinstance(thinking, str) else "".join(p.text or "" for p in thinking)
