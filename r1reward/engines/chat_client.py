"""A client for OpenAI-compatible chat endpoints: eval, annotate and the judge ask through it.

``openai`` sends the request and names what went wrong with it, ``tenacity`` repeats it. Ours are the
reading of replies (``chat_reply.py``), which error means what (``endpoint_errors.py``), and the limits:
on the time of a whole request, on the size of a reply, on requests at a time and on failures in a row.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
from pydantic import ValidationError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from r1reward.data.images import data_url
from r1reward.data.texts import refuse_half_characters
from r1reward.engines.chat_reply import ChatReply, load_json, read_completion
from r1reward.engines.endpoint_errors import (
    FILTERED,
    Breaker,
    EndpointError,
    EndpointGoneError,
    PromptRefusedError,
    RetriedError,
    UnsendableError,
    error_of_status,
)
from r1reward.engines.proxies import masked, proxy_of
from r1reward.engines.whole_replies import http_client
from r1reward.errors import DataError, InputError
from r1reward.interfaces import Sampling
from r1reward.recipe.engine_sections import EndpointSection

LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True)
class ChatRequest:
    """One user turn, images before text or behind it."""

    text: str
    sampling: Sampling
    seed: int
    images: Sequence[bytes] = ()
    logprobs: bool = False
    images_last: bool = False

    @property
    def content(self) -> str | list[dict[str, Any]]:
        """Plain text without images: not every server takes a list of parts."""
        if not self.images:
            return self.text
        shown = [{"type": "image_url", "image_url": {"url": data_url(i)}} for i in self.images]
        text = {"type": "text", "text": self.text}
        return [text, *shown] if self.images_last else [*shown, text]


def read_key(variable: str) -> str:
    """Returns the key in an environment variable, empty without one. Raises ``InputError``."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"{variable} holds characters that no key has: copy the key into it anew")
    return key


async def at_once() -> None:
    """Requests go out as they come."""


class ChatClient:
    """One endpoint, a bounded number of requests at a time, patient with overload.

    Sampling settings are always sent, but for those in ``leave_out``: a server's own defaults may come
    from the model's generation config. ``extra_body`` carries fields outside OpenAI's API (vLLM's top_k,
    for example). ``has_answered`` says that the endpoint answered an earlier run.
    """

    def __init__(
        self,
        endpoint: EndpointSection,
        max_retries: int = 4,
        backoff_s: float = 0.5,
        has_answered: bool = False,
    ) -> None:
        key = read_key(endpoint.api_key_env)
        proxy = proxy_of(endpoint.url)
        self.endpoint = endpoint
        self.address = f"{endpoint.url.rstrip('/')}/"
        if proxy is not None:
            self.address += f" (through the proxy {masked(proxy)})"
        # One try a call: retries must give their slot away while they wait, and know more errors.
        self.service = openai.AsyncOpenAI(
            base_url=endpoint.url,
            api_key=key or "none",
            max_retries=0,
            http_client=http_client(proxy),
        )
        self.headers: dict[str, openai.Omit] = {} if key else {"Authorization": openai.Omit()}
        self.slots = asyncio.Semaphore(endpoint.max_concurrent)
        self.max_retries = max_retries
        self.backoff = wait_exponential_jitter(backoff_s, LONGEST_PAUSE_S, jitter=backoff_s)
        self.breaker = Breaker(has_answered)

    async def close(self) -> None:
        await self.service.close()

    async def complete(
        self, request: ChatRequest, before_request: Callable[[], Awaitable[None]] = at_once
    ) -> ChatReply:
        """Returns the reply to one user turn.

        ``before_request`` is awaited before every request, retries included: it may wait or raise.

        Raises ``PromptRefusedError`` where this prompt gets no answer, ``EndpointRefusedError`` where
        none will, ``EndpointGoneError`` after too many calls without an answer, and ``EndpointError``
        when this call failed, after every retry that was worth it.
        """
        tries = AsyncRetrying(
            stop=stop_after_attempt(self.max_retries + 1),
            wait=self.pause_s,
            retry=retry_if_exception_type(RetriedError),
            reraise=True,
        )
        try:
            reply: ChatReply = await tries(self.ask_once, request, before_request)
        except (EndpointGoneError, UnsendableError):
            raise
        except EndpointError as error:
            raise self.breaker.count_error(self.with_address(error)) from error
        self.breaker.count_answer()
        return reply

    def with_address(self, error: EndpointError) -> EndpointError:
        """Returns the error of a call as its caller sees it."""
        if isinstance(error, RetriedError):
            tried = f"no answer after {self.max_retries + 1} tries"
            return error.in_the_end(f"{self.address}: {tried}; {error}")
        return type(error)(f"{self.address}: {error}")

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """Returns the request's JSON. Raises ``UnsendableError`` for what no server can be sent."""
        try:
            refuse_half_characters(request.text, "the prompt")
            content = request.content
        except DataError as error:
            raise UnsendableError(f"not sent: {error}") from error
        sampling = request.sampling
        settings: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": request.seed,
        }
        if request.logprobs:
            settings["logprobs"] = True
        for name in self.endpoint.leave_out:
            settings.pop(name, None)
        if "max_tokens" in settings:
            settings[self.endpoint.max_tokens_field] = settings.pop("max_tokens")
        messages = [{"role": "user", "content": content}]
        return {
            **self.endpoint.extra_body,
            "model": self.endpoint.model,
            "messages": messages,
            **settings,
        }

    def pause_s(self, state: RetryCallState) -> float:
        """Returns how long to wait before the next try: ever longer, and as long as the server asks."""
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait_s if isinstance(error, RetriedError) else 0.0
        return max(self.backoff(state), asked)

    async def ask_once(
        self, request: ChatRequest, before_request: Callable[[], Awaitable[None]]
    ) -> ChatReply:
        """Sends one request, in one of the slots, and reads the reply. Raises ``EndpointError``."""
        async with self.slots:
            self.breaker.check()
            # In a thread: a photo becomes a PNG in seconds, and other requests go on meanwhile.
            body = await asyncio.to_thread(self.body, request)
            await before_request()
            reply = await self.send(body)
        return read_reply(reply, [name for name in body if name not in ("model", "messages")])

    async def send(self, body: dict[str, Any]) -> httpx2.Response:
        """Returns the whole reply, whatever its status. Raises ``RetriedError`` if there is none."""
        limit_s = self.endpoint.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self.service.post(
                    "/chat/completions",
                    cast_to=httpx2.Response,
                    body=body,
                    options={"headers": self.headers, "timeout": None},
                )
        except TimeoutError as error:
            raise RetriedError(f"no whole reply within {limit_s:g} s (timeout_s)") from error
        except openai.APIStatusError as error:
            return error.response
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise RetriedError(f"{type(cause).__name__}: {cause}") from error


def read_reply(reply: httpx2.Response, sent: Iterable[str]) -> ChatReply:
    """Returns the answer of a reply. Raises the ``EndpointError`` that any other reply is."""
    if not reply.is_success:
        raise error_of_status(reply.status_code, one_line(reply.text), reply.headers, sent)
    shown = one_line(reply.text)[:200]
    try:
        body = load_json(reply.content)
        error = error_in_body(body)
        if error is None:
            return read_completion(body)
    except ValidationError as problem:
        raise RetriedError(f"not a chat completion: {shown}") from problem
    except ValueError as problem:
        kind = reply.headers.get("content-type", "no content type")
        if "event-stream" in kind or shown.startswith("data:"):
            advice = "set extra_body: {stream: false} for this endpoint"
            raise RetriedError(f"an event stream that was not asked for: {advice}") from problem
        raise RetriedError(f"not JSON ({kind}): {shown}") from problem
    raise error_under_success(error, reply, sent)


def error_in_body(body: Any) -> Any:
    """Returns the error that stands in a reply instead of an answer; None if there is none."""
    if not isinstance(body, dict) or body.get("choices"):
        return None
    return body if body.get("object") == "error" else body.get("error")


def error_under_success(error: Any, reply: httpx2.Response, sent: Iterable[str]) -> EndpointError:
    """Returns what an error object in a reply with status 2xx means, by the code in it."""
    fields = error if isinstance(error, dict) else {}
    detail = one_line(str(fields.get("message") or error))
    code = str(fields.get("code"))
    if re.fullmatch("[45][0-9][0-9]", code):
        return error_of_status(int(code), detail, reply.headers, sent)
    if FILTERED.search(f"{code} {fields.get('type')} {detail}"):
        return PromptRefusedError(detail[:200])
    return RetriedError(f"HTTP {reply.status_code} with an error: {detail[:200]}")


def one_line(text: str) -> str:
    return " ".join(text.split())
