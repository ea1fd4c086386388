"""The chat client against a real local server that misbehaves in the usual ways."""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenacity import AsyncRetrying, RetryCallState

from r1reward.data.prompt import Tags
from r1reward.engines import endpoint_errors, whole_replies
from r1reward.engines.chat_client import ChatClient, ChatRequest, read_reply
from r1reward.engines.chat_reply import ChatReply
from r1reward.engines.endpoint_errors import (
    MAX_FAILED_IN_A_ROW,
    MAX_FIRST_REFUSALS,
    EndpointError,
    EndpointGoneError,
    EndpointRefusedError,
    PromptRefusedError,
    RetriedError,
)
from r1reward.errors import InputError
from r1reward.interfaces import Sampling
from r1reward.recipe.engine_sections import EndpointSection
from tests.chat_server import (
    GOOD,
    HANG,
    MISBEHAVIOURS,
    TRACE,
    ChatServer,
    Reply,
    completion,
    running_chat_server,
)
from tests.image_files import encoded, noise

KEY_ENV = "R1REWARD_TEST_KEY"


def ask(
    server: ChatServer,
    *texts: str,
    url: str = "",
    extra_body: dict[str, Any] | None = None,
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
            await client.close()

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


class WaitingImages(list[bytes]):
    """Images that take until ``others`` is set to be looked at."""

    def __init__(self, images: list[bytes], others: threading.Event) -> None:
        super().__init__(images)
        self.others = others
        self.were_served = False

    def __iter__(self) -> Iterator[bytes]:
        self.were_served = self.others.wait(5)
        return super().__iter__()


def test_a_large_image_does_not_hold_up_the_other_requests(server: ChatServer) -> None:
    """Regression: 12 megapixels of PNG stopped every request for 2.5 seconds."""
    server.replies = [(200, completion("1"))]
    answered = threading.Event()
    photo = WaitingImages([encoded(noise("RGB", 8, 6), "BMP")], answered)

    async def run() -> None:
        client = ChatClient(EndpointSection(url=server.url, model="m"))
        shown = ChatRequest("photo", Sampling(0.1, 8), 5, photo)
        try:
            first = asyncio.create_task(client.complete(shown))
            await asyncio.sleep(0)
            await client.complete(ChatRequest("text", Sampling(0.1, 8), 5))
            answered.set()
            await first
        finally:
            await client.close()

    asyncio.run(run())
    assert photo.were_served
    text, photo_sent = (body["messages"][0]["content"] for _, _, body in server.requests)
    assert text == "text"
    assert photo_sent[0]["image_url"]["url"].startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ChatRequest("cut \ud83d", Sampling(0.1, 8), 5), "the prompt holds half a character"),
        (ChatRequest("look", Sampling(0.1, 8), 5, [b"GIF8"]), "not a readable image"),
    ],
)
def test_what_cannot_be_sent_is_one_refused_prompt(
    server: ChatServer, request_: ChatRequest, reason: str
) -> None:
    """Regression: half a surrogate pair ended the run with a UnicodeEncodeError. However many there are,
    they are not the server's refusals.
    """
    server.replies = [(200, completion("1"))]

    async def run() -> str:
        client = ChatClient(EndpointSection(url=server.url, model="m"))
        try:
            for _ in range(MAX_FIRST_REFUSALS + 1):
                with pytest.raises(PromptRefusedError, match=reason):
                    await client.complete(request_)
            return (await client.complete(ChatRequest("hello", Sampling(0.1, 8), 5))).text
        finally:
            await client.close()

    assert asyncio.run(run()) == "1"
    assert len(server.requests) == 1


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


def test_a_server_that_fails_for_ever_is_an_error_after_every_retry(server: ChatServer) -> None:
    server.replies = [(500, b"broken")]
    message = failure(server, max_retries=2)
    assert message == f"{server.url}/: no answer after 3 tries; HTTP 500: broken"
    assert len(server.requests) == 3


def test_a_server_that_hangs_is_given_up_after_the_timeout(server: ChatServer) -> None:
    server.replies = [(HANG, b"")]
    message = failure(server, timeout_s=0.1, max_retries=1)
    assert message.endswith("no answer after 2 tries; no whole reply within 0.1 s (timeout_s)")
    assert len(server.requests) == 2


def test_a_server_that_trickles_is_given_up_after_the_timeout(server: ChatServer) -> None:
    """Regression: the limit was one on every read, and a byte a second kept a request for ever."""
    server.replies = [Reply(200, GOOD, delivery="trickle")]
    message = failure(server, timeout_s=0.2, max_retries=0)
    assert message.endswith("no whole reply within 0.2 s (timeout_s)")


def test_a_server_that_hangs_once_is_asked_again(server: ChatServer) -> None:
    server.replies = [(HANG, b""), (200, completion("1"))]
    assert ask(server, "hello", timeout_s=0.3) == ["1"]


def test_nobody_listening_is_an_error(server: ChatServer) -> None:
    # Port 9 of the loopback device: nothing listens there.
    message = failure(server, url="http://127.0.0.1:9/v1", max_retries=1)
    assert "no answer after 2 tries; ConnectError" in message


@dataclass
class Asker:
    """A server and a client of it that keep their connections from one question to the next."""

    server: ChatServer
    client: ChatClient
    runner: asyncio.Runner

    def ask(self, *replies: Reply | tuple[int, bytes]) -> ChatReply:
        """Raises ``EndpointError``, and nothing else."""
        self.server.replies = list(replies)
        self.server.requests.clear()
        self.client.breaker = endpoint_errors.Breaker()
        return self.runner.run(self.client.complete(ChatRequest("hello", Sampling(0, 8), seed=5)))


@pytest.fixture(scope="module")
def asker() -> Iterator[Asker]:
    with running_chat_server() as server, asyncio.Runner() as runner:

        async def start() -> ChatClient:
            endpoint = EndpointSection(url=server.url, model="m", timeout_s=20, max_concurrent=1)
            return ChatClient(endpoint, max_retries=1, backoff_s=0)

        client = runner.run(start())
        yield Asker(server, client, runner)
        runner.run(client.close())


KINDS = {
    "refused": PromptRefusedError,
    "refused in the end": PromptRefusedError,
    "retried": EndpointError,
    "failed": EndpointError,
    "endpoint": EndpointRefusedError,
}


@pytest.mark.parametrize("name", MISBEHAVIOURS)
def test_every_reply_is_worth_what_it_is(
    asker: Asker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_replies, "MAX_BODY_BYTES", 2**20)
    reply, worth = MISBEHAVIOURS[name]
    is_retried = worth in ("retried", "refused in the end")
    if worth == "answer" or is_retried:
        assert asker.ask(reply, (200, GOOD)).text == TRACE
        assert len(asker.server.requests) == (1 if worth == "answer" else 2)
    if worth == "answer":
        return
    with pytest.raises(EndpointError) as caught:
        asker.ask(reply)
    assert type(caught.value) is KINDS[worth]
    assert str(caught.value).startswith(f"{asker.server.url}/: ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert len(asker.server.requests) == (2 if is_retried else 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def either(due: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What is due in most cases, anything else in the others."""
    return due | due | due | JSON


def fields_of(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={n: either(due) for n, due in fields.items()})


TEXT = st.text(max_size=9) | st.none()
PARTS = st.lists(either(fields_of(type=TEXT, text=TEXT, thinking=TEXT, refusal=TEXT)), max_size=3)
LOGPROB = fields_of(token=st.text(max_size=3), logprob=st.floats())
COMPLETION = fields_of(
    error=st.none() | fields_of(code=st.integers(399, 601) | TEXT, message=TEXT),
    choices=st.lists(
        either(
            fields_of(
                message=fields_of(
                    content=TEXT | PARTS, refusal=TEXT, reasoning_content=TEXT, reasoning=TEXT
                ),
                finish_reason=st.sampled_from(["stop", "length", "content_filter", "error", None]),
                logprobs=fields_of(content=st.lists(either(LOGPROB), max_size=3)),
            )
        ),
        min_size=1,
        max_size=2,
    ),
    usage=fields_of(prompt_tokens=st.integers(), completion_tokens=st.integers()),
)


@st.composite
def any_reply(draw: st.DrawFn) -> httpx2.Response:
    body = draw(st.binary(max_size=40) | either(COMPLETION).map(json.dumps).map(str.encode))
    if draw(st.integers(0, 4)) == 0:
        body = body[: draw(st.integers(0, len(body)))]
    waits = st.sampled_from(["", "1", "-1.5", "nan", "1e999", "Wed, 21 Oct 2015 07:28:00 GMT"])
    headers = {
        "retry-after": draw(waits | st.text("0123456789 :,GMTWedOct", max_size=30)),
        "retry-after-ms": draw(waits),
        "content-type": draw(st.sampled_from(["application/json", "text/html; charset=x", ""])),
        "x-should-retry": draw(st.sampled_from(["true", "false", ""])),
    }
    status = draw(st.sampled_from([200, 200, 200, 400, 429]) | st.integers(200, 999))
    return httpx2.Response(status, headers=headers, content=body)


@settings(max_examples=60)
@given(any_reply())
def test_any_reply_is_an_answer_or_an_error_of_the_endpoint(reply: httpx2.Response) -> None:
    try:
        answer = read_reply(reply, ["temperature", "seed"])
    except RetriedError as error:
        assert 0 <= error.wait_s <= 60
    except EndpointError as error:
        assert type(error) in KINDS.values()
        str(error).encode()
    else:
        answer.trace(Tags()).encode()
        assert len(answer.token_texts) == len(answer.logprobs)
        assert all(-inf < logprob <= 0 for logprob in answer.logprobs)
        assert (answer.prompt_tokens or 0) >= 0


def test_a_reply_with_every_part_is_an_answer() -> None:
    """So that the property above has answers to look at: this is what it starts from."""
    body = {
        "choices": [
            {
                "message": {"content": "b", "reasoning": "a"},
                "finish_reason": "length",
                "logprobs": {"content": [{"token": "b", "logprob": -0.5}]},
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
    reply = httpx2.Response(200, content=json.dumps(body).encode())
    assert read_reply(reply, []) == ChatReply("b", "length", ("b",), (-0.5,), 3, 1, "a")


def test_half_a_surrogate_pair_becomes_a_replacement_character(asker: Asker) -> None:
    assert asker.ask((200, completion("a \ud83d b \U0001f600"))).text == "a \ufffd b \U0001f600"


def test_what_cannot_be_a_log_prob_is_left_out(asker: Asker) -> None:
    for logprob in ("NaN", "-Infinity", '"x"', "null"):
        entry = b'{"content": [{"token": "1", "logprob": ' + logprob.encode() + b"}]}"
        body = (
            GOOD[:-1].replace(b'"choices": [{', b'"choices": [{"logprobs": ' + entry + b", ") + b"}"
        )
        assert json.loads(body)["choices"][0]["logprobs"]
        assert asker.ask((200, body)).logprobs == ()


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
            await client.close()

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
        await client.close()

    asyncio.run(run())
    assert turns == [0, 1]


def test_a_call_that_backs_off_gives_its_slot_away(server: ChatServer) -> None:
    """Regression: with one slot, a server's minute for one prompt was everybody's."""
    server.replies = [Reply(429, b"later", {"Retry-After": "60"}), (200, completion("1"))]

    async def run() -> list[str]:
        endpoint = EndpointSection(url=server.url, model="m", max_concurrent=1)
        client = ChatClient(endpoint)
        requests = [ChatRequest(text, Sampling(1.0, 8), seed=5) for text in "ab"]
        calls = [asyncio.create_task(client.complete(request)) for request in requests]
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        for call in waiting:
            call.cancel()
        await client.close()
        return [call.result().text for call in done]

    assert asyncio.run(run()) == ["1"]
    assert len(server.requests) == 2


def test_a_pause_is_as_long_as_the_server_asks_and_grows_otherwise() -> None:
    client = ChatClient(EndpointSection(url="http://127.0.0.1:9/v1", model="m"), backoff_s=0.5)
    state = RetryCallState(AsyncRetrying(), None, (), {})
    pauses = []
    for attempt, asked in ((1, 0.0), (3, 0.0), (1, 12.0)):
        state.attempt_number = attempt
        error = RetriedError("busy", asked)
        state.set_exception((type(error), error, None))
        pauses.append(client.pause_s(state))
    assert 0.5 <= pauses[0] <= 1.0
    assert 2.0 <= pauses[1] <= 2.5
    assert pauses[2] == 12.0


def run_calls(server: ChatServer, count: int, has_answered: bool = False) -> list[EndpointError]:
    """Calls one after the other, without retries: the error of each."""

    async def run() -> list[EndpointError]:
        endpoint = EndpointSection(url=server.url, model="m")
        client = ChatClient(endpoint, max_retries=0, has_answered=has_answered)
        errors = []
        for _ in range(count):
            try:
                await client.complete(ChatRequest("hello", Sampling(1.0, 8), seed=5))
            except EndpointError as error:
                errors.append(error)
        await client.close()
        return errors

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "number", "said"),
    [
        (503, MAX_FAILED_IN_A_ROW, "left 16 calls in a row without an answer"),
        (400, MAX_FIRST_REFUSALS, "refused the first 16 prompts"),
    ],
)
def test_a_server_that_never_answers_is_not_asked_for_ever(
    server: ChatServer, status: int, number: int, said: str
) -> None:
    server.replies = [(status, b"no")]
    errors = run_calls(server, number + 5)
    assert [isinstance(error, EndpointGoneError) for error in errors] == [
        *[False] * (number - 1),
        *[True] * 6,
    ]
    assert said in str(errors[-1]) and f"HTTP {status}: no" in str(errors[-1])
    assert len(server.requests) == number


def test_a_server_that_is_gone_is_tried_again_after_a_while(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_errors, "TRIED_AGAIN_AFTER_S", 0.0)
    server.replies = [*[(503, b"no")] * MAX_FAILED_IN_A_ROW, (200, GOOD)]
    assert len(run_calls(server, MAX_FAILED_IN_A_ROW + 2)) == MAX_FAILED_IN_A_ROW


def test_refusals_are_never_too_many_for_a_server_that_has_answered(server: ChatServer) -> None:
    server.replies = [(400, b"no")]
    errors = run_calls(server, MAX_FIRST_REFUSALS + 2, has_answered=True)
    assert {type(error) for error in errors} == {PromptRefusedError}


def sent_by(**endpoint: Any) -> dict[str, Any]:
    """What an endpoint of these settings is sent beside the model's name and the messages."""
    client = ChatClient(EndpointSection(url="http://127.0.0.1:9/v1", model="m", **endpoint))
    body = client.body(ChatRequest("hello", Sampling(0.5, 8), 5, logprobs=True))
    return {name: value for name, value in body.items() if name not in ("model", "messages")}


def test_fields_that_a_server_refuses_are_left_out_or_named_otherwise() -> None:
    every = {"temperature": 0.5, "top_p": 1.0, "max_tokens": 8, "seed": 5, "logprobs": True}
    assert sent_by(extra_body={}) == every
    for name in every:
        left = {field: value for field, value in every.items() if field != name}
        assert sent_by(extra_body={}, leave_out=(name,)) == left
    renamed = sent_by(extra_body={}, max_tokens_field="max_completion_tokens")
    assert "max_tokens" not in renamed and renamed["max_completion_tokens"] == 8


def test_extra_fields_are_any_json_and_override_nothing() -> None:
    thinking: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False, "stop": [None]}}
    sent = sent_by(extra_body={**thinking, "reasoning_effort": "low", "seed": 0})
    assert sent["chat_template_kwargs"] == thinking["chat_template_kwargs"]
    assert (sent["reasoning_effort"], sent["seed"]) == ("low", 5)


def test_a_key_is_sent_without_the_line_break_of_its_file(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_ENV, "secret\n")
    server.replies = [(200, completion("1"))]
    ask(server, "hello")
    assert server.requests[0][1]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
def test_a_key_that_no_header_can_carry_is_named_and_not_shown(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(KEY_ENV, key)
    with pytest.raises(InputError, match=KEY_ENV) as caught:
        ask(server, "hello")
    assert key not in str(caught.value)


def test_an_error_names_the_proxy_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    endpoint = EndpointSection(url="http://models.invalid/v1", model="m")
    client = ChatClient(endpoint, max_retries=0)
    with pytest.raises(EndpointError) as caught:
        asyncio.run(client.complete(ChatRequest("hello", Sampling(1.0, 8), seed=5)))
    address = r"http://models.invalid/v1/ (through the proxy http://***@127.0.0.1:9): "
    assert str(caught.value).startswith(address)
    assert "secret" not in str(caught.value)


def test_this_machine_is_not_asked_through_a_proxy(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: with HTTP_PROXY set, the built-in teacher could not be reached."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.replies = [(200, completion("1"))]
    assert ask(server, "hello") == ["1"]
    assert ask(server, "hello", url=server.url.replace("127.0.0.1", "localhost")) == ["1"]


def test_a_proxy_that_cannot_be_used_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "gopher://me:secret@proxy")
    with pytest.raises(InputError, match=r"the proxy gopher://\*\*\*@proxy of the environment"):
        ChatClient(EndpointSection(url="http://models.invalid/v1", model="m"))
