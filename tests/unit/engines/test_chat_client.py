"""The chat client against a real local server that misbehaves in the usual ways."""

import asyncio
import threading
import time

import httpx
import pytest

from r1reward.engines.chat_client import (
    ChatClient,
    ChatReply,
    ChatRequest,
    EndpointError,
    EndpointRefusedError,
    retry_after_s,
)
from r1reward.interfaces import Sampling
from r1reward.recipe.engine_sections import EndpointSection
from tests.chat_server import HANG, ChatServer, completion

KEY_ENV = "R1REWARD_TEST_KEY"


def ask(
    server: ChatServer,
    *texts: str,
    url: str = "",
    extra_body: dict[str, int | float] | None = None,
    timeout_s: float = 5,
    max_concurrent: int = 4,
    max_retries: int = 2,
) -> list[str]:
    async def run() -> list[str]:
        endpoint = EndpointSection(
            url=url or server.url,
            model="some-model",
            api_key_env=KEY_ENV,
            timeout_s=timeout_s,
            max_concurrent=max_concurrent,
            extra_body=extra_body or {},
        )
        client = ChatClient(endpoint, max_retries=max_retries, backoff_s=0.01)
        try:
            requests = [ChatRequest(text, Sampling(0.1, 8), seed=5) for text in texts]
            replies = await asyncio.gather(*map(client.complete, requests))
            return [reply.text for reply in replies]
        finally:
            await client.http.aclose()

    return asyncio.run(run())


def failure(server: ChatServer, url: str = "", timeout_s: float = 5, max_retries: int = 2) -> str:
    with pytest.raises(EndpointError) as caught:
        ask(server, "hello", url=url, timeout_s=timeout_s, max_retries=max_retries)
    return str(caught.value)


def test_a_reply_is_the_content_of_the_first_choice(server: ChatServer) -> None:
    server.replies = [(200, completion("1"))]
    assert ask(server, "hello") == ["1"]
    assert len(server.requests) == 1


def test_sampling_settings_and_extra_fields_are_always_sent(server: ChatServer) -> None:
    server.replies = [(200, completion("1"))]
    ask(server, "Grüße", extra_body={"top_k": 0, "repetition_penalty": 1.0})
    path, _, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "some-model",
        "messages": [{"role": "user", "content": "Grüße"}],
        "temperature": 0.1,
        "top_p": 1.0,
        "max_tokens": 8,
        "seed": 5,
        "top_k": 0,
        "repetition_penalty": 1.0,
    }


def test_a_base_address_may_end_in_a_slash(server: ChatServer) -> None:
    server.replies = [(200, completion("1"))]
    ask(server, "hello", url=server.url + "/")
    assert server.requests[0][0] == "/v1/chat/completions"


def test_the_key_comes_from_the_environment(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.replies = [(200, completion("1"))]
    monkeypatch.setenv(KEY_ENV, "secret")
    ask(server, "hello")
    monkeypatch.delenv(KEY_ENV)
    ask(server, "hello")
    (_, with_key, _), (_, without_key, _) = server.requests
    assert with_key["Authorization"] == "Bearer secret"
    assert "Authorization" not in without_key


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_an_overloaded_server_is_asked_again(server: ChatServer, status: int) -> None:
    server.replies = [(status, b"busy"), (status, b"busy"), (200, completion("0"))]
    assert ask(server, "hello") == ["0"]
    assert len(server.requests) == 3
    assert server.requests[0][2] == server.requests[2][2]


def test_a_server_that_fails_for_ever_is_an_error_after_every_retry(server: ChatServer) -> None:
    server.replies = [(500, b"broken")]
    message = failure(server, max_retries=2)
    assert message == f"{server.url}/: no answer after 3 tries; HTTP 500"
    assert len(server.requests) == 3


def test_a_server_that_hangs_is_given_up_after_the_timeout(server: ChatServer) -> None:
    server.replies = [(HANG, b"")]
    message = failure(server, timeout_s=0.1, max_retries=1)
    assert "no answer after 2 tries; ReadTimeout" in message
    assert len(server.requests) == 2


def test_a_server_that_hangs_once_is_asked_again(server: ChatServer) -> None:
    server.replies = [(HANG, b""), (200, completion("1"))]
    assert ask(server, "hello", timeout_s=0.3) == ["1"]


def test_nobody_listening_is_an_error(server: ChatServer) -> None:
    # Port 9 of the loopback device: nothing listens there.
    message = failure(server, url="http://127.0.0.1:9/v1", max_retries=1)
    assert "no answer after 2 tries; ConnectError" in message


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_refusal_is_not_asked_again(server: ChatServer, status: int) -> None:
    server.replies = [(status, b"top_k is unknown")]
    assert failure(server) == f"{server.url}/: HTTP {status}: top_k is unknown"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"text": "1"}]}',
        b'{"choices": [{"message": null}]}',
        # Regression: an absent text becomes the word "None".
        completion(None),
    ],
)
def test_a_reply_that_is_no_completion_is_an_error(server: ChatServer, content: bytes) -> None:
    server.replies = [(200, content)]
    assert failure(server).startswith("not a chat completion: ")
    assert len(server.requests) == 1


def test_as_many_requests_at_once_as_allowed_and_no_more(server: ChatServer) -> None:
    server.replies = [(200, completion("1"))]
    server.pairs_only = threading.Barrier(2)
    assert ask(server, *"abcdefgh", max_concurrent=2) == ["1"] * 8
    assert len(server.requests) == 8
    assert server.most_open == 2


def complete_once(server: ChatServer) -> ChatReply:
    async def run() -> ChatReply:
        client = ChatClient(EndpointSection(url=server.url, model="m"))
        try:
            return await client.complete(ChatRequest("hello", Sampling(1.0, 8), seed=5))
        finally:
            await client.http.aclose()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 11, "completion_tokens": 0, "total_tokens": 11}, (11, 0)),
        ({"prompt_tokens": "11", "completion_tokens": None}, (None, None)),
        (None, (None, None)),
        ([], (None, None)),
    ],
)
def test_token_counts_are_what_the_server_says_if_it_does(
    server: ChatServer, usage: object, expected: tuple[int | None, int | None]
) -> None:
    server.replies = [(200, completion("1", usage))]
    reply = complete_once(server)
    assert (reply.prompt_tokens, reply.completion_tokens) == expected


def test_every_request_waits_for_its_turn_retries_too(server: ChatServer) -> None:
    server.replies = [(503, b"busy"), (200, completion("1"))]
    turns: list[int] = []

    async def before_request() -> None:
        turns.append(len(server.requests))

    async def run() -> None:
        endpoint = EndpointSection(url=server.url, model="m")
        client = ChatClient(endpoint, backoff_s=0.01)
        await client.complete(ChatRequest("hello", Sampling(1.0, 8), seed=5), before_request)
        await client.http.aclose()

    asyncio.run(run())
    assert turns == [0, 1]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_address_is_no_matter_of_the_prompt(server: ChatServer, status: int) -> None:
    server.replies = [(status, b"no")]
    with pytest.raises(EndpointRefusedError):
        complete_once(server)


def test_a_server_that_asks_for_time_gets_it(server: ChatServer) -> None:
    server.headers = {"Retry-After": "1"}
    server.replies = [(429, b"slow down"), (200, completion("1"))]
    started = time.monotonic()
    assert ask(server, "hello") == ["1"]
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize(
    ("asked", "expected"), [("7", 7), ("86400", 60), ("soon", 0), ("-5", 0), ("", 0)]
)
def test_no_server_can_ask_for_more_than_a_minute(asked: str, expected: float) -> None:
    assert retry_after_s(httpx.Response(429, headers={"Retry-After": asked})) == expected
