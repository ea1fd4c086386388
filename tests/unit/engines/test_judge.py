"""The consistency judge: how a reply is understood, what is asked once, and when it abstains."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1reward.data.prompt import build_judge_prompt
from r1reward.engines.judge import (
    ConsistencyJudge,
    RuleJudgeEngine,
    endpoint_ask,
    parse_judge_reply,
    question_seed,
)
from r1reward.recipe.engine_sections import OpenAIJudge, VllmJudge
from r1reward.types import JudgeWord, Slot
from tests.chat_server import ChatServer, completion

SETTINGS = VllmJudge(type="vllm", max_tries=3)


@pytest.mark.parametrize(
    ("analysis", "choice", "word"),
    [
        ("Response 1 is better.", 1, "match"),
        ("Response 1 is better.", 2, "mismatch"),
        ("So RESPONSE  2\tIS better!", 2, "match"),
        ("Response 1 is better.\nNo: response 2 is better.", 2, "match"),
        ("Response 1 is better.\nThat is all.", 1, "match"),
        ("Response 1 is better, or response 2 is better.", 1, "undecided"),
        ("Response 1 is better.\nResponse 1 is better, response 2 is better.", 1, "undecided"),
        ("Response 2 is better. I say response 2 is better.", 2, "match"),
        ("Both are fine.", 1, "undecided"),
        ("Response 3 is better.", 1, "undecided"),
        ("Response 12 is better.", 1, "undecided"),
        ("Response 1 is bettered.", 1, "undecided"),
        ("", 1, "undecided"),
    ],
)
def test_rule_judge_reads_the_last_line_that_concludes(
    analysis: str, choice: Slot, word: JudgeWord
) -> None:
    assert asyncio.run(RuleJudgeEngine().judge(analysis, choice)) == word


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        ("1", "match"),
        ("0", "mismatch"),
        (" 1\n", "match"),
        ("Output: 0.", "mismatch"),
        ("Output: 1.", "match"),
        ("**Output:** 1", "match"),
        ("Verdict: (0)", "mismatch"),
        ("Answer: yes", "match"),
        ("1.0", "match"),
        ("0.0", "mismatch"),
        ("**1**", "match"),
        ("`0`", "mismatch"),
        ("[[1]]", "match"),
        (r"$\boxed{0}$", "mismatch"),
        ("\uff11", "match"),
        ("Yes.", "match"),
        ("No", "mismatch"),
        ("MISMATCH", "mismatch"),
        ("same", "match"),
        ("Different", "mismatch"),
        ("false", "mismatch"),
        ("<think>Response 2 is better, 0 or 1?</think>\n\n1", "match"),
        ("Response 1 it is.</think>0", "mismatch"),
        ("[THINK]1[/THINK]0", "mismatch"),
        ("\u25c1think\u25b70\u25c1/think\u25b71", "match"),
        ("<think></think><think>0</think> Output: 1", "match"),
    ],
)
def test_a_reply_that_is_nothing_but_a_verdict_is_read(reply: str, word: JudgeWord) -> None:
    assert parse_judge_reply(reply) == word


@pytest.mark.parametrize(
    "reply",
    [
        *(
            "",
            " \n",
            "2",
            "10",
            "11",
            "100%",
            "100 %",
            "-1",
            "+1",
            "0.9",
            "1/0",
            "1 0",
            "1)",
            "#1",
            "01",
        ),
        *(
            "1, not 0",
            "0 or 1",
            "not 1",
            "1?",
            "yes and no",
            "no match",
            "I cannot reply with 1 or 0",
        ),
        *(
            "Yes, it says Response 2 is better",
            "It says Response 1 is better",
            "Response 1",
            "1 is better",
        ),
        # A policy that judges writes what it was trained to write: the number of a response.
        *("Answer: 1", "Answer: 0", "answer: [1]", "<answer>1</answer>"),
        "<think>The same.</think><answer>1</answer>",
        *("<think>1", "<think>\n1\n", "1 <think>", "1</think>", "\ufffd1", "1" * 100),
    ],
)
def test_every_other_reply_is_asked_again(reply: str) -> None:
    assert parse_judge_reply(reply) is None


VERDICTS_AND_SLOTS = st.lists(
    st.sampled_from(
        [
            *(
                "1",
                "0",
                "yes",
                "no",
                "match",
                "Output:",
                "Answer:",
                "**",
                "(",
                ")",
                ".",
                " ",
                "\n",
                ", ",
            ),
            *("[response]", "[response] is better", "it says", "<think>", "</think>", "not "),
        ]
    )
).map("".join)


@given(reply=VERDICTS_AND_SLOTS)
def test_swapping_the_responses_never_changes_the_word(reply: str) -> None:
    words = {
        parse_judge_reply(reply.replace("[response]", f"{name} {slot}"))
        for slot in (1, 2)
        for name in ("Response", "response", "RESPONSE")
    }
    assert len(words) == 1


@given(reply=st.text())
def test_no_reply_raises(reply: str) -> None:
    assert parse_judge_reply(reply) in ("match", "mismatch", None)


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        ("1", "match"),
        ("0", "mismatch"),
        ("Output: 0.", "mismatch"),
        ("1, not 0", "mismatch"),
        ("10", "mismatch"),
        ("11", "match"),
        ("It says Response 1 is better", "match"),
        ("yes", None),
        ("2", None),
        ("", None),
    ],
)
def test_the_authors_take_any_digit_for_the_word(reply: str, word: JudgeWord | None) -> None:
    assert parse_judge_reply(reply, "authors") == word


@pytest.mark.parametrize(
    "flood", ["</think>", "<think>", "(", "**", "1 ", " ", "Output: ", "\\boxed{"]
)
def test_a_flood_is_no_verdict(flood: str) -> None:
    assert parse_judge_reply(flood * 100_000) is None
    assert asyncio.run(RuleJudgeEngine().judge(flood * 100_000, 1)) == "undecided"


class Scripted:
    """An endpoint that gives its replies in turn; an exception among them is raised."""

    def __init__(self, *replies: str | Exception) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, prompt: str, seed: int) -> str:
        self.asked.append((prompt, seed))
        reply = self.replies.pop(0)
        await asyncio.sleep(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


def judged(
    ask: Scripted, *questions: tuple[str, Slot], settings: VllmJudge = SETTINGS
) -> list[JudgeWord]:
    """The words for the questions, asked one after the other."""

    async def run() -> list[JudgeWord]:
        judge = ConsistencyJudge(settings, ask)
        return [await judge.judge(analysis, choice) for analysis, choice in questions]

    return asyncio.run(run())


def test_the_prompt_is_the_judge_template_of_the_settings() -> None:
    ask = Scripted("1")
    assert judged(ask, ("one\ntwo\nthree\nfour", 2)) == ["match"]
    assert ask.asked[0][0] == build_judge_prompt("two\nthree\nfour", 2, "standard", 3)


def test_an_unparsable_reply_is_asked_again_with_another_seed() -> None:
    ask = Scripted("hm", "", "0")
    assert judged(ask, ("a", 1)) == ["mismatch"]
    prompts, seeds = zip(*ask.asked, strict=True)
    assert len(set(prompts)) == 1
    assert seeds == tuple(question_seed(prompts[0], attempt) for attempt in range(3))
    assert len(set(seeds)) == 3


def test_after_every_try_the_judge_abstains() -> None:
    ask = Scripted("hm", "hm", "hm", "1")
    assert judged(ask, ("a", 1)) == ["abstain"]
    assert len(ask.asked) == 3


def test_a_judge_that_names_a_response_pays_for_neither_slot() -> None:
    """Regression: it was a match for slot 1 and an abstention for slot 2."""
    for slot in (1, 2):
        ask = Scripted(*[f"Yes, it says Response {slot} is better"] * 3)
        assert judged(ask, (f"Response {slot} is better.", slot)) == ["abstain"]  # type: ignore[arg-type]


def test_the_reading_of_replies_is_a_setting() -> None:
    settings = VllmJudge(type="vllm", reply="authors")
    assert judged(Scripted("a 1 it is"), ("a", 1), settings=settings) == ["match"]


def test_the_log_says_what_was_no_verdict(caplog: pytest.LogCaptureFixture) -> None:
    judged(Scripted("hm", "hm", "<think>Let me"), ("a", 1))
    assert "no verdict in 3 replies, the last is '<think>Let me'" in caplog.text
    assert "larger judge.max_tokens (8)" in caplog.text


def test_a_judge_behind_an_endpoint_has_the_tokens_that_the_recipe_gives_it(
    server: ChatServer,
) -> None:
    server.replies = [(200, completion("<think>Hm.</think>1"))]
    settings = OpenAIJudge(type="openai", url=server.url, model="m", max_tokens=300)
    judge = ConsistencyJudge(settings, endpoint_ask(settings))
    assert asyncio.run(judge.judge("Response 1 is better.", 1)) == "match"
    ((_, _, body),) = server.requests
    assert body["max_tokens"] == 300


def test_a_failed_call_is_an_abstention_and_no_error() -> None:
    ask = Scripted(RuntimeError("no route"))
    assert judged(ask, ("a", 1)) == ["abstain"]


def test_an_abstention_is_not_remembered() -> None:
    ask = Scripted(TimeoutError(), "1")
    assert judged(ask, ("a", 1), ("a", 1)) == ["abstain", "match"]


def test_a_word_is_remembered_for_the_same_question_only() -> None:
    ask = Scripted("1", "0", "1")
    words = judged(ask, ("a", 1), ("a", 1), ("a", 2), ("b", 1), ("a", 2))
    assert words == ["match", "match", "mismatch", "match", "mismatch"]
    assert len(ask.asked) == 3


def test_analyses_with_the_same_end_are_one_question() -> None:
    ask = Scripted("1")
    words = judged(ask, ("start\nx\ny\nz", 1), ("another start\nx\ny\nz", 1))
    assert words == ["match", "match"]


def in_flight(
    ask: Scripted, act: Callable[[list[asyncio.Task[JudgeWord]]], None] = lambda tasks: None
) -> list[JudgeWord | BaseException]:
    """The same question three times at once; ``act`` runs while the call is under way."""

    async def run() -> list[JudgeWord | BaseException]:
        judge = ConsistencyJudge(SETTINGS, ask)
        tasks = [asyncio.create_task(judge.judge("a", 1)) for _ in range(3)]
        while not ask.asked:
            await asyncio.sleep(0)
        act(tasks)
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(run())


def test_equal_questions_in_flight_share_one_call() -> None:
    ask = Scripted("1")
    assert in_flight(ask) == ["match", "match", "match"]
    assert len(ask.asked) == 1


def test_equal_questions_in_flight_share_one_failure() -> None:
    ask = Scripted(RuntimeError("down"))
    assert in_flight(ask) == ["abstain", "abstain", "abstain"]
    assert len(ask.asked) == 1


def test_whoever_stops_waiting_does_not_stop_the_call_of_the_others() -> None:
    def cancel_first(tasks: list[asyncio.Task[JudgeWord]]) -> None:
        tasks[0].cancel()

    words = in_flight(Scripted("0"), cancel_first)
    assert isinstance(words[0], asyncio.CancelledError)
    assert words[1:] == ["mismatch", "mismatch"]


def test_seeds_of_a_question_repeat_and_differ_between_questions() -> None:
    assert question_seed("a", 0) == question_seed("a", 0)
    assert len({question_seed(q, n) for q in ("a", "b", "0\x00a") for n in range(3)}) == 9
    assert 0 <= question_seed("a", 0) < 2**32
