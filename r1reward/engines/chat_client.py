"""A client for OpenAI-compatible chat endpoints."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from r1reward.data.images import data_url
from r1reward.errors import ServiceError
from r1reward.interfaces import Sampling
from r1reward.recipe.engine_sections import EndpointSection
from r1reward.types import FinishReason

# The longest wait that a server may ask for with Retry-After.
MAX_RETRY_AFTER_S = 60.0
RETRIED_STATUS = {408, 409, 429, 500, 502, 503, 504}
# What servers answer when this one prompt is the trouble: too long, an image they do not take, a filter.
REFUSED_STATUS = {400, 413, 422}


class EndpointError(ServiceError):
    """The endpoint did not answer after every retry, or refused the request for good."""


@dataclass(frozen=True)
class ChatRequest:
    """One user turn, images before text."""

    text: str
    sampling: Sampling
    seed: int
    images: Sequence[bytes] = ()
    logprobs: bool = False

    @property
    def content(self) -> str | list[dict[str, Any]]:
        """Plain text without images: not every server takes a list of parts."""
        if not self.images:
            return self.text
        shown = [{"type": "image_url", "image_url": {"url": data_url(i)}} for i in self.images]
        return [*shown, {"type": "text", "text": self.text}]


@dataclass(frozen=True)
class ChatReply:
    """``token_texts`` and ``logprobs`` are per token, empty where the server does not tell.

    ``prompt_tokens`` and ``completion_tokens`` are what it bills, None where it does not say.
    """

    text: str
    finish_reason: FinishReason
    token_texts: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def read_reply(reply: httpx.Response) -> ChatReply:
    """Raises ``EndpointError`` for anything that is no chat completion."""
    try:
        body = reply.json()
        choice = body["choices"][0]
        is_cut = choice.get("finish_reason") == "length"
        content = choice["message"]["content"]
        if content is None:
            # Cut off while it was still reasoning: nothing can be read, nothing is wrong.
            content = choice["message"].get("refusal") or ("" if is_cut else None)
        entries = (choice.get("logprobs") or {}).get("content") or []
        tokens = [(str(entry["token"]), float(entry["logprob"])) for entry in entries]
        if not isinstance(content, str):
            raise TypeError("content is no text")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise EndpointError(f"not a chat completion: {reply.text[:200]}") from error
    return ChatReply(
        text=content,
        finish_reason="length" if is_cut else "stop",
        token_texts=tuple(text for text, _ in tokens),
        logprobs=tuple(logprob for _, logprob in tokens),
        prompt_tokens=read_count(body, "prompt_tokens"),
        completion_tokens=read_count(body, "completion_tokens"),
    )


def read_count(body: Mapping[str, Any], name: str) -> int | None:
    usage = body.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count >= 0 else None


def retry_after_s(reply: httpx.Response) -> float:
    """How long the server asks to be left alone; 0 where it does not say so in seconds."""
    seconds = reply.headers.get("Retry-After", "")
    return min(float(seconds), MAX_RETRY_AFTER_S) if seconds.isdecimal() else 0.0


class PromptRefusedError(EndpointError):
    """The endpoint will not answer this prompt; it may well answer others."""


class EndpointRefusedError(EndpointError):
    """The endpoint will answer nothing as it is asked: a wrong key, address or model."""


async def at_once() -> None:
    """Requests go out as they come."""


class ChatClient:
    """One endpoint, a bounded number of requests at a time, patient with overload.

    Sampling settings are always sent: a server's own defaults may come from the model's generation
    config. ``extra_body`` carries fields outside OpenAI's API (vLLM's top_k, for example).
    """

    def __init__(
        self, endpoint: EndpointSection, max_retries: int = 4, backoff_s: float = 0.5
    ) -> None:
        key = os.environ.get(endpoint.api_key_env)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.AsyncClient(
            base_url=endpoint.url.rstrip("/") + "/", headers=headers, timeout=endpoint.timeout_s
        )
        self.model = endpoint.model
        self.slots = asyncio.Semaphore(endpoint.max_concurrent)
        self.extra_body: Mapping[str, float] = endpoint.extra_body
        self.max_retries = max_retries
        self.backoff_s = backoff_s

    async def complete(
        self, request: ChatRequest, before_request: Callable[[], Awaitable[None]] = at_once
    ) -> ChatReply:
        """The reply to one user turn. Raises ``EndpointError``.

        ``before_request`` is awaited before every request, retries included: it may wait or raise.
        """
        body = {
            **self.extra_body,
            "model": self.model,
            "messages": [{"role": "user", "content": request.content}],
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            "max_tokens": request.sampling.max_new_tokens,
            "seed": request.seed,
        }
        if request.logprobs:
            body["logprobs"] = True
        async with self.slots:
            wait_s = 0.0
            for attempt in range(self.max_retries + 1):
                if attempt:
                    await asyncio.sleep(wait_s)
                wait_s = self.backoff_s * 2**attempt
                await before_request()
                try:
                    reply = await self.http.post("chat/completions", json=body)
                except httpx.TransportError as error:
                    problem = f"{type(error).__name__}: {error}"
                    continue
                if reply.status_code in RETRIED_STATUS:
                    problem = f"HTTP {reply.status_code}"
                    wait_s = max(wait_s, retry_after_s(reply))
                    continue
                if reply.is_error:
                    refused = reply.status_code in REFUSED_STATUS
                    kind = PromptRefusedError if refused else EndpointRefusedError
                    raise kind(
                        f"{self.http.base_url}: HTTP {reply.status_code}: {reply.text[:200]}"
                    )
                return read_reply(reply)
        raise EndpointError(f"{self.http.base_url}: no answer after {attempt + 1} tries; {problem}")
