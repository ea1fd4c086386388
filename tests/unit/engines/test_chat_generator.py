"""A policy behind an endpoint, against a real local server."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import log
from pathlib import Path

import pytest
from PIL import Image
from tenacity import wait_none

from r1reward.data.stores.store import read_pairs
from r1reward.engines.chat_generator import ChatGenerator, chat_prompt
from r1reward.engines.endpoint_errors import (
    MAX_FIRST_REFUSALS,
    EndpointGoneError,
    EndpointRefusedError,
)
from r1reward.evaluation.answers import Answer, read_answers
from r1reward.evaluation.items import make_items
from r1reward.evaluation.sampler import sample_answers
from r1reward.interfaces import Sampling
from r1reward.recipe.engine_sections import PolicyEndpoint
from r1reward.recipe.recipe import EvalRecipe
from r1reward.recipe.sections import PromptSection
from r1reward.types import Order, PreferencePair, Prompt, Rollout, RolloutRequest, WeightsHandle
from tests.chat_server import ChatServer, Reply, completion, message
from tests.fakes import make_pair
from tests.recipes import evaluation_sampler

CASES = Path(__file__).parents[2] / "cases"
SAMPLING = Sampling(temperature=0.7, max_new_tokens=99, top_p=0.9)
TRACE = "<think>Response 2 is better.</think><answer>2</answer>"
REFUSAL = (400, b"maximum context length exceeded")


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), "blue").save(buffer, format=kind)
    return buffer.getvalue()


def endpoint(server: ChatServer, **settings: object) -> PolicyEndpoint:
    given = {"url": server.url, "model": "some-model", "api_key_env": "R1REWARD_TEST_KEY"}
    return PolicyEndpoint.model_validate({**given, **settings})


def requests_for(pairs: Sequence[PreferencePair], seed: int = 5) -> list[RolloutRequest]:
    return [RolloutRequest(chat_prompt(p, "stored", PromptSection()), 0, seed) for p in pairs]


def text_pairs(count: int) -> list[PreferencePair]:
    return [replace(make_pair(number), images=()) for number in range(count)]


async def collect(generator: ChatGenerator, requests: Sequence[RolloutRequest]) -> list[Rollout]:
    try:
        return [rollout async for rollout in generator.generate(requests, SAMPLING)]
    finally:
        await generator.client.close()


def generate(
    server: ChatServer, pairs: Sequence[PreferencePair], seed: int = 5, **settings: object
) -> list[Rollout]:
    async def run() -> list[Rollout]:
        generator = ChatGenerator(endpoint(server, **settings), PromptSection())
        return await collect(generator, requests_for(pairs, seed))

    return asyncio.run(run())


def with_logprobs(*tokens: tuple[str, float]) -> dict[str, object]:
    return {"logprobs": {"content": [{"token": t, "logprob": log(p)} for t, p in tokens]}}


def test_images_travel_as_data_urls_before_the_text(server: ChatServer) -> None:
    server.replies = [(200, completion(TRACE))]
    images = (picture("PNG"), picture("JPEG"))
    pair = replace(make_pair(1), images=images)
    (rollout,) = generate(server, [pair])
    ((_, _, body),) = server.requests
    first, second, text = body["messages"][0]["content"]
    for part, kind, image in ((first, "png", images[0]), (second, "jpeg", images[1])):
        assert part["type"] == "image_url"
        url = f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
        assert part["image_url"]["url"] == url
    assert text == {"type": "text", "text": rollout.request.prompt.text}
    assert "question 1" in text["text"]


def test_images_stand_behind_the_text_where_the_prompt_wants_it(server: ChatServer) -> None:
    server.replies = [(200, completion(TRACE))]
    pair = replace(make_pair(1), images=(picture("PNG"),))
    prompt = PromptSection(images_last=True)

    async def run() -> None:
        await collect(ChatGenerator(endpoint(server), prompt), requests_for([pair], 5))

    asyncio.run(run())
    ((_, _, body),) = server.requests
    assert [part["type"] for part in body["messages"][0]["content"]] == ["text", "image_url"]


def test_images_that_servers_refuse_travel_as_a_kind_that_they_take(server: ChatServer) -> None:
    server.replies = [(200, completion(TRACE))]
    rollouts = generate(server, read_pairs(CASES / "mimes.jsonl", None, None))
    assert [rollout.status for rollout in rollouts] == ["answered"] * 2
    for _, _, body in server.requests:
        assert re.match(
            "data:image/(png|jpeg|webp|gif);base64,",
            body["messages"][0]["content"][0]["image_url"]["url"],
        )


def test_sampling_is_sent_and_the_seed_fits_31_bits(server: ChatServer) -> None:
    server.replies = [(200, completion(TRACE))]
    generate(server, text_pairs(1), seed=2**40 + 7)
    ((_, _, body),) = server.requests
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.7, 0.9, 99)
    assert body["seed"] == 7
    assert body["logprobs"] is True
    assert isinstance(body["messages"][0]["content"], str)


def test_a_server_without_logprobs_is_not_asked_for_them(server: ChatServer) -> None:
    server.replies = [(200, completion(TRACE))]
    (rollout,) = generate(server, text_pairs(1), logprobs=False)
    ((_, _, body),) = server.requests
    assert "logprobs" not in body
    assert rollout.token_texts == ()
    assert len(rollout.logprobs) == 0


def test_a_rollout_is_the_text_with_its_tokens(server: ChatServer) -> None:
    tokens = with_logprobs(("<think>", 0.5), ("</think>", 0.25))
    server.replies = [(200, completion("<think></think>", finish_reason="length", **tokens))]
    (rollout,) = generate(server, text_pairs(1))
    assert rollout.text == "<think></think>"
    assert rollout.token_texts == ("<think>", "</think>")
    assert rollout.logprobs.tolist() == pytest.approx([log(0.5), log(0.25)])
    assert rollout.finish_reason == "length"
    assert rollout.response_token_ids == ()


def test_the_swapped_order_shows_the_responses_the_other_way_round() -> None:
    pair = replace(make_pair(1), response_1="apples", response_2="pears", preferred=1)
    stored, swapped = (chat_prompt(pair, order, PromptSection()) for order in ("stored", "swapped"))
    assert stored.text.index("apples") < stored.text.index("pears")
    assert swapped.text.index("pears") < swapped.text.index("apples")
    assert (stored.label, swapped.label) == (1, 2)
    assert swapped.prompt_id == f"{pair.pair_id}-swapped"


def test_a_refused_prompt_is_no_answer_and_ends_nothing(
    server: ChatServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.replies = [REFUSAL, (200, completion(TRACE))]
    with caplog.at_level(logging.WARNING):
        rollouts = generate(server, text_pairs(3), max_concurrent=1)
    found = sorted((rollout.status, rollout.text) for rollout in rollouts)
    assert found == [("answered", TRACE), ("answered", TRACE), ("refused", "")]
    (refused,) = (rollout for rollout in rollouts if rollout.status == "refused")
    reason = f"{server.url}/: HTTP 400: maximum context length exceeded"
    assert refused.reason == reason
    assert len(server.requests) == 3
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warned == [f"refused: {reason}"]


def test_a_prompt_that_fails_is_no_answer_and_ends_nothing(server: ChatServer) -> None:
    down = Reply(503, b"down", {"x-should-retry": "false"})
    server.replies = [down, (200, completion(TRACE))]
    rollouts = generate(server, text_pairs(3), max_concurrent=1)
    assert sorted(rollout.status for rollout in rollouts) == ["answered", "answered", "failed"]


@pytest.mark.parametrize(
    ("content", "beside", "expected"),
    [
        ("<answer>1</answer>", {"reasoning_content": "why"}, "<think>why</think><answer>1</answer>"),
        ("\n\n<answer>1</answer>", {"reasoning": "why\n"}, "<think>why</think><answer>1</answer>"),
        (TRACE, {"reasoning_content": "thoughts"}, TRACE),
        (f"<think>thoughts</think>\n{TRACE}", {}, TRACE),
        (f"thoughts</think>\n{TRACE}", {}, TRACE),
        (None, {"reasoning_content": "why"}, "<think>why"),
        ("", {"reasoning": TRACE}, TRACE),
        ("<answer>1</answer>", {"reasoning": None}, "<answer>1</answer>"),
        ([{"type": "thinking", "thinking": [{"text": "why"}]}, {"text": "<answer>1</answer>"}], {},
         "<think>why</think><answer>1</answer>"),
        ([{"type": "thinking", "thinking": "why"}, {"text": "<answer>1</answer>"}], {},
         "<think>why</think><answer>1</answer>"),
    ],
)  # fmt: skip
def test_reasoning_beside_the_text_is_its_analysis(
    server: ChatServer, content: object, beside: dict[str, object], expected: str
) -> None:
    server.replies = [(200, message(content=content, **beside))]
    (rollout,) = generate(server, text_pairs(1))
    assert rollout.text == expected


def test_a_reply_cut_off_before_any_answer_is_an_empty_trace(server: ChatServer) -> None:
    """A reasoning server that runs into the token limit has no content to give."""
    choice = {"message": {"content": None}, "finish_reason": "length"}
    server.replies = [(200, json.dumps({"choices": [choice]}).encode())]
    (rollout,) = generate(server, text_pairs(1))
    assert (rollout.text, rollout.finish_reason) == ("", "length")


def test_nothing_but_refusals_ends_it(server: ChatServer) -> None:
    server.replies = [REFUSAL]
    with pytest.raises(EndpointGoneError, match="HTTP 400: maximum context length"):
        generate(server, text_pairs(MAX_FIRST_REFUSALS + 8), max_concurrent=1)
    assert len(server.requests) == MAX_FIRST_REFUSALS


def test_after_one_answer_any_number_of_refusals_is_taken(server: ChatServer) -> None:
    server.replies = [(200, completion(TRACE)), REFUSAL]
    rollouts = generate(server, text_pairs(MAX_FIRST_REFUSALS + 4), max_concurrent=1)
    assert sorted(rollout.text for rollout in rollouts)[-2:] == ["", TRACE]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_wrong_for_every_prompt_ends_it_at_once(server: ChatServer, status: int) -> None:
    server.replies = [(200, completion(TRACE)), (status, b"invalid key")]
    with pytest.raises(EndpointRefusedError, match=f"HTTP {status}: invalid key"):
        generate(server, text_pairs(4), max_concurrent=1)
    assert len(server.requests) == 2


def test_an_endpoint_takes_no_weights(server: ChatServer) -> None:
    async def run() -> None:
        generator = ChatGenerator(endpoint(server), PromptSection())
        try:
            await generator.load_weights(WeightsHandle(0, (), ()))
        finally:
            await generator.client.close()

    with pytest.raises(NotImplementedError):
        asyncio.run(run())


def evaluate(server: ChatServer, path: Path, num_rows: int) -> list[Answer]:
    recipe = EvalRecipe.model_validate(
        {
            "name": "test",
            "run_dir": "runs/test",
            "model": {"path": "some-model"},
            "bench": {"name": "pairs"},
            "evaluate": {"orders": "stored"},
        }
    )

    def encode(pair: PreferencePair, order: Order) -> Prompt:
        return chat_prompt(pair, order, recipe.prompt)

    async def run() -> list[Answer]:
        generator = ChatGenerator(endpoint(server, max_concurrent=1), PromptSection())
        sampler = evaluation_sampler(recipe, encode, generator, None)
        items = make_items((pair, "row", {}) for pair in text_pairs(num_rows))
        try:
            return await sample_answers(sampler, items, path)
        finally:
            await generator.client.close()

    return asyncio.run(run())


def test_the_answers_confidence_is_its_tokens_probability(
    server: ChatServer, tmp_path: Path
) -> None:
    tokens = with_logprobs(
        ("<think>", 0.9), ("Response", 0.8), (" 2", 0.7), (" is better.", 0.6),
        ("</think><answer>", 0.5), ("2", 0.375), ("</answer>", 0.99),
    )  # fmt: skip
    server.replies = [(200, completion(TRACE, **tokens))]
    (answer,) = evaluate(server, tmp_path / "answers.jsonl", 1)
    assert answer.choice == 2
    assert answer.confidence == pytest.approx(0.375)
    assert answer.num_tokens == 7
    assert answer.well_formed


def test_without_logprobs_there_is_no_confidence_and_no_length(
    server: ChatServer, tmp_path: Path
) -> None:
    server.replies = [(200, completion(TRACE))]
    (answer,) = evaluate(server, tmp_path / "answers.jsonl", 1)
    assert (answer.choice, answer.confidence, answer.num_tokens) == (2, None, None)


def test_a_sample_without_an_answer_says_so_and_is_asked_again(
    server: ChatServer, tmp_path: Path
) -> None:
    """Regression: a refusal was kept as a wrong answer for ever."""
    path = tmp_path / "answers.jsonl"
    server.replies = [(200, completion(TRACE)), REFUSAL]
    answers = evaluate(server, path, 3)
    assert [answer.status for answer in answers] == ["answered", "refused", "refused"]
    assert read_answers(path) == answers
    reason = f"{server.url}/: HTTP 400: maximum context length exceeded"
    assert {answer.reason for answer in answers[1:]} == {reason}
    server.replies = [(200, completion(TRACE))]
    server.requests.clear()
    again = evaluate(server, path, 3)
    assert [answer.status for answer in again] == ["answered"] * 3
    assert len(server.requests) == 2
    assert {answer.sample_key for answer in read_answers(path)} == {a.sample_key for a in answers}
    assert len(read_answers(path)) == 3


async def statuses_of_six(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    pairs = read_pairs(CASES / "six.jsonl", None, None)
    generator = ChatGenerator(endpoint(server, max_concurrent=2), PromptSection())
    monkeypatch.setattr(generator.client, "backoff", wait_none())
    orders: tuple[Order, Order] = ("stored", "swapped")
    prompts = [chat_prompt(pair, order, PromptSection()) for pair in pairs for order in orders]
    requests = [RolloutRequest(prompt, 0, 5) for prompt in prompts]
    return Counter(rollout.status for rollout in await collect(generator, requests))


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        (completion(TRACE), {"answered": 12}),
        (completion(None, finish_reason="stop"), {"answered": 12}),
        (completion(None, finish_reason="tool_calls"), {"answered": 8, "refused": 4}),
        (message(content=[{"type": "text", "text": TRACE}]), {"answered": 12}),
        (b'{"choices": []}', {"answered": 12}),
        (b"<html>gateway</html>", {"answered": 12}),
        (Reply(529, b"overloaded"), {"answered": 12}),
    ],
)
def test_with_every_third_reply_odd_every_row_is_accounted_for(
    server: ChatServer,
    odd: bytes | Reply,
    expected: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = Reply(200, completion(TRACE))
    strange = Reply(200, odd) if isinstance(odd, bytes) else odd
    server.replies = [good, good, strange] * 8
    assert asyncio.run(statuses_of_six(server, monkeypatch)) == expected
