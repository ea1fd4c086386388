"""Annotation against real local servers, good and bad: what was answered is kept, and asked once."""

import asyncio
import base64
import io
import logging
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from r1reward.data.attempts import (
    Attempt,
    append_attempt,
    count_levels,
    difficulty_of,
    put_in_order,
    read_annotations,
    read_attempts,
)
from r1reward.engines.chat_client import ChatClient
from r1reward.engines.endpoint_errors import (
    MAX_FAILED_IN_A_ROW,
    MAX_FIRST_REFUSALS,
    EndpointError,
    EndpointRefusedError,
)
from r1reward.engines.teachers import EndpointClient
from r1reward.errors import InputError, RecipeError
from r1reward.interfaces import Sampling
from r1reward.pipeline.annotate import AnnotationStoppedError, annotate_stage
from r1reward.pipeline.annotation import Annotating, annotate
from r1reward.pipeline.request_limits import RateLimiter
from r1reward.recipe.pipeline_sections import AnnotateSection, EndpointTeacher
from r1reward.recipe.recipe import Recipe
from r1reward.recipe.sections import PromptSection
from r1reward.shapes.scene import encode_png
from r1reward.types import PreferencePair, Slot
from tests.chat_server import HANG, ChatServer, Reply, completion, message

pytestmark = pytest.mark.slow  # waits for servers that hang

TRACE = "<think>Response 1 is better.</think><answer>1</answer>"
USAGE = {"prompt_tokens": 100, "completion_tokens": 10}
# With these prices and max_tokens 10 every call costs, and reserves, 0.3.
PRICES = {"price_per_million_prompt_tokens": 2000, "price_per_million_completion_tokens": 10000}


def says(choice: Slot, usage: object = USAGE) -> tuple[int, bytes]:
    text = f"<think>Response {choice} is better.</think><answer>{choice}</answer>"
    return 200, completion(text, usage)


def make_pairs(num_pairs: int, images: tuple[bytes, ...] = ()) -> list[PreferencePair]:
    return [
        PreferencePair(f"question {i}", images, "first", "second", preferred=1)
        for i in range(num_pairs)
    ]


def settings(
    url: str, timeout_s: float = 5, max_concurrent: int = 1, **own: Any
) -> AnnotateSection:
    teacher = {
        "type": "openai",
        "url": url,
        "model": "t",
        "timeout_s": timeout_s,
        "max_concurrent": max_concurrent,
    }
    return AnnotateSection.model_validate({"teacher": teacher, "max_tokens": 10, **own})


def run(section: AnnotateSection, pairs: list[PreferencePair], path: Path) -> Annotating:
    teacher = client(section, has_answered=bool(read_attempts(path)))
    return asyncio.run(annotate(section, teacher, pairs, path, seed=7))


def client(section: AnnotateSection, has_answered: bool = False) -> EndpointClient:
    assert isinstance(section.teacher, EndpointTeacher)
    sampling = Sampling(section.temperature, section.max_tokens)
    return EndpointClient(
        ChatClient(section.teacher, 1, 0.01, has_answered), PromptSection(), sampling
    )


def shown_label(pair: PreferencePair, path: Path) -> Slot:
    """The right slot in the order that the pair is shown in."""
    return 1 if read_attempts(path)[pair.pair_id][0].order == "stored" else 2


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def attempt(number: int, agreed: bool, pair_id: str = "p") -> Attempt:
    return Attempt(pair_id, number, "stored", 1, "text", 1, agreed)


def labelled(server: ChatServer, pairs: list[PreferencePair], path: Path) -> dict[str, Slot]:
    """The right slot of each pair in the order it will be shown in, found out on another file."""
    server.replies = [says(1)]
    scout = path.with_name("scout.jsonl")
    run(settings(server.url, max_attempts=1), pairs, scout)
    found = {pair.pair_id: shown_label(pair, scout) for pair in pairs}
    server.requests.clear()
    return found


def other(slot: Slot) -> Slot:
    return 1 if slot == 2 else 2


@pytest.mark.parametrize(
    ("agreed", "expected"),
    [
        ([], None),
        ([True], 1),
        ([False], None),
        ([False, True], 2),
        ([False, False], None),
        ([False, False, True], 3),
        ([False, False, False], 4),
        # Attempts of an earlier, larger max_attempts do not count.
        ([False, False, False, False, True], 4),
    ],
)
def test_difficulty_is_the_first_attempt_that_agrees(
    agreed: list[bool], expected: int | None
) -> None:
    attempts = [attempt(i, ok) for i, ok in enumerate(agreed, start=1)]
    assert difficulty_of(attempts, max_attempts=3) == expected


def test_levels_are_counted_and_torn_lines_are_not(tmp_path: Path) -> None:
    path = tmp_path / "attempts.jsonl"
    append_attempt(path, attempt(2, True, "two"))
    append_attempt(path, attempt(1, False, "two"))
    append_attempt(path, attempt(1, True, "one"))
    append_attempt(path, attempt(1, False, "open"))
    with path.open("ab") as file:
        file.write(b'{"pair_id": "open", "numb')
    append_attempt(path, attempt(1, True, "uno"))
    found = read_annotations(path, max_attempts=3)
    assert {key: result.difficulty for key, result in found.items()} == {
        "two": 2,
        "one": 1,
        "open": None,
        "uno": 1,
    }
    assert found["two"].agreeing == attempt(2, True, "two")
    assert found["open"].agreeing is None
    assert count_levels(found.values(), 3) == {1: 2, 2: 1, 3: 0, 4: 0, None: 1}


def test_attempts_go_on_until_one_agrees(server: ChatServer, tmp_path: Path) -> None:
    path, pairs = tmp_path / "attempts.jsonl", make_pairs(1)
    label = labelled(server, pairs, path)[pairs[0].pair_id]
    server.replies = [says(other(label)), says(label)]
    done = run(settings(server.url, **PRICES), pairs, path)
    first, second = read_attempts(path)[pairs[0].pair_id]
    assert (first.number, first.agreed, second.number, second.agreed) == (1, False, 2, True)
    assert first.choice == other(label) and second.well_formed
    assert first.seed != second.seed
    assert (second.prompt_tokens, second.completion_tokens) == (100, 10)
    assert second.cost == pytest.approx(0.3)
    assert done.spent == pytest.approx(0.6)
    assert read_annotations(path, 3)[pairs[0].pair_id].difficulty == 2
    bodies = [body for _, _, body in server.requests]
    assert [body["seed"] for body in bodies] == [first.seed, second.seed]
    assert {body["temperature"] for body in bodies} == {1.0}


def test_the_order_of_a_pair_is_a_coin_and_stays(server: ChatServer, tmp_path: Path) -> None:
    path, pairs = tmp_path / "attempts.jsonl", make_pairs(40)
    server.replies = [(200, completion("no idea"))]
    run(settings(server.url, max_concurrent=4), pairs, path)
    orders = [{a.order for a in attempts} for attempts in read_attempts(path).values()]
    assert all(len(used) == 1 for used in orders)
    assert 10 < sum(used == {"swapped"} for used in orders) < 30
    texts = [body["messages"][0]["content"] for _, _, body in server.requests]
    swapped = [
        text.index("second") < text.index("first", text.index("### Response 1")) for text in texts
    ]
    assert sum(swapped) == 3 * sum(used == {"swapped"} for used in orders)


def test_images_travel_as_data_urls(server: ChatServer, tmp_path: Path) -> None:
    from PIL import Image

    image = encode_png(Image.new("RGB", (4, 4)))
    server.replies = [says(1)]
    run(settings(server.url, max_attempts=1), make_pairs(1, (image,)), tmp_path / "a.jsonl")
    shown, text = server.requests[0][2]["messages"][0]["content"]
    kind, _, encoded = shown["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(encoded) == image
    assert text["type"] == "text"


def test_images_stand_behind_the_text_where_the_prompt_wants_it(
    server: ChatServer, tmp_path: Path
) -> None:
    from PIL import Image

    server.replies = [says(1)]
    section = settings(server.url, max_attempts=1)
    teacher = replace(client(section), prompt=PromptSection(images_last=True))
    pairs = make_pairs(1, (encode_png(Image.new("RGB", (4, 4))),))
    asyncio.run(annotate(section, teacher, pairs, tmp_path / "a.jsonl", seed=7))
    content = server.requests[0][2]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url"]


def test_garbage_is_a_wrong_attempt_and_is_kept(server: ChatServer, tmp_path: Path) -> None:
    path, pairs = tmp_path / "attempts.jsonl", make_pairs(1)
    server.replies = [(200, completion("\ud800 both are fine", USAGE))]
    done = run(settings(server.url, **PRICES), pairs, path)
    attempts = read_attempts(path)[pairs[0].pair_id]
    assert [a.choice for a in attempts] == [None] * 3
    assert attempts[0].text == "\ufffd both are fine"
    assert (done.num_answers, done.num_failed_calls) == (3, 0)
    assert done.spent == pytest.approx(0.9)
    assert read_annotations(path, 3)[pairs[0].pair_id].difficulty == 4
    run(settings(server.url, **PRICES), pairs, path)
    assert len(server.requests) == 3


def test_a_teacher_that_hangs_costs_no_attempt(server: ChatServer, tmp_path: Path) -> None:
    path, pairs = tmp_path / "attempts.jsonl", make_pairs(3)
    labels = labelled(server, pairs, path)
    right = [says(labels[pair.pair_id]) for pair in pairs]
    wrong = says(other(labels[pairs[1].pair_id]))
    # The second pair's second attempt hangs, in both tries.
    server.replies = [right[0], wrong, (HANG, b""), (HANG, b""), right[2]]
    done = run(settings(server.url, timeout_s=1), pairs, path)
    assert (done.num_answers, done.num_failed_calls) == (3, 1)
    assert read_annotations(path, 3)[pairs[1].pair_id].difficulty is None
    server.requests.clear()
    server.replies = [right[1]]
    run(settings(server.url), pairs, path)
    assert len(server.requests) == 1
    assert [a.number for a in read_attempts(path)[pairs[1].pair_id]] == [1, 2]
    assert [r.difficulty for r in read_annotations(path, 3).values()] == [1, 2, 1]


def test_a_teacher_at_its_rate_limit_is_asked_again(server: ChatServer, tmp_path: Path) -> None:
    path, pairs = tmp_path / "attempts.jsonl", make_pairs(2)
    labels = labelled(server, pairs, path)
    first, second = (says(labels[pair.pair_id]) for pair in pairs)
    server.replies = [(429, b"slow down"), first, (429, b""), second]
    done = run(settings(server.url), pairs, path)
    assert (done.num_answers, done.num_failed_calls) == (2, 0)
    assert [r.difficulty for r in read_annotations(path, 3).values()] == [1, 1]
    bodies = [body for _, _, body in server.requests]
    assert bodies[0] == bodies[1] and bodies[2] == bodies[3]


def test_a_teacher_that_dies_half_way_loses_nothing(server: ChatServer, tmp_path: Path) -> None:
    path, pairs = tmp_path / "attempts.jsonl", make_pairs(40)
    labels = labelled(server, pairs, path)
    right = [says(labels[pair.pair_id]) for pair in pairs]
    server.replies = [*right[:5], (503, b"gone")]
    with pytest.raises(EndpointError, match=r"16 calls in a row .* HTTP 503: gone; .* run again"):
        run(settings(server.url), pairs, path)
    assert len(server.requests) == 5 + 2 * MAX_FAILED_IN_A_ROW
    before = lines(path)
    assert len(before) == 5
    server.requests.clear()
    server.replies = [*right[5:]]
    done = run(settings(server.url), pairs, path)
    assert done.num_answers == len(server.requests) == 35
    assert lines(path)[:5] == before
    levels = count_levels(read_annotations(path, 3).values(), 3)
    assert levels == {1: 40, 2: 0, 3: 0, 4: 0, None: 0}


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_address_stops_at_once(
    server: ChatServer, tmp_path: Path, status: int
) -> None:
    path = tmp_path / "attempts.jsonl"
    server.replies = [says(1), (status, b"who are you")]
    with pytest.raises(EndpointRefusedError, match=f"HTTP {status}: who are you"):
        run(settings(server.url, max_attempts=1), make_pairs(10), path)
    assert len(server.requests) == 2
    assert len(lines(path)) == 1


def test_what_is_under_way_at_a_stop_is_kept(server: ChatServer, tmp_path: Path) -> None:
    path = tmp_path / "attempts.jsonl"
    server.replies, server.delays_s = [(401, b"no"), says(1)], [0.2, 0.5]
    with pytest.raises(EndpointRefusedError):
        run(settings(server.url, max_concurrent=2, max_attempts=1), make_pairs(9), path)
    assert len(server.requests) == 2
    assert len(lines(path)) == 1


def test_a_refused_prompt_is_no_attempt_and_does_not_stop_others(
    server: ChatServer, tmp_path: Path
) -> None:
    path, pairs = tmp_path / "attempts.jsonl", make_pairs(2)
    server.replies = [(400, b"filtered"), says(1)]
    done = run(settings(server.url, max_attempts=1), pairs, path)
    assert (done.num_refused, done.num_answers) == (1, 1)
    assert list(read_attempts(path)) == [pairs[1].pair_id]


def test_nothing_but_refusals_from_the_start_is_an_error(
    server: ChatServer, tmp_path: Path
) -> None:
    server.replies = [(400, b"top_k is unknown")]
    with pytest.raises(EndpointError, match="top_k is unknown"):
        run(settings(server.url), make_pairs(40), tmp_path / "attempts.jsonl")
    assert len(server.requests) == MAX_FIRST_REFUSALS


def test_many_refused_pairs_do_not_keep_a_resumed_run_from_the_others(
    server: ChatServer, tmp_path: Path
) -> None:
    path, pairs = tmp_path / "attempts.jsonl", make_pairs(40)
    server.replies = [says(1)]
    run(settings(server.url, max_attempts=1), pairs[:1], path)
    server.replies = [*[(400, b"filtered")] * 38, says(1)]
    done = run(settings(server.url, max_attempts=1), pairs, path)
    assert (done.num_refused, done.num_answers) == (38, 1)


def test_a_killed_run_goes_on_without_asking_again(server: ChatServer, tmp_path: Path) -> None:
    path, pairs = tmp_path / "attempts.jsonl", make_pairs(12)
    server.replies, server.delays_s = [(200, completion("no idea"))], [0.05] * 100
    section = settings(server.url, max_concurrent=3)
    # A fork has the imports that take seconds in a process of its own.
    process = multiprocessing.get_context("fork").Process(target=run, args=(section, pairs, path))
    process.start()
    while not (path.is_file() and len(lines(path)) >= 8):
        assert process.is_alive(), "the run ended before it was killed"
        time.sleep(0.005)
    process.kill()
    process.join()
    time.sleep(0.1)  # calls under way still arrive at the server
    kept, num_asked = lines(path), len(server.requests)
    assert len(kept) < 36
    assert num_asked - len(kept) <= 3
    done = run(section, pairs, path)
    assert lines(path)[: len(kept)] == kept
    assert done.num_answers == len(server.requests) - num_asked == 36 - len(kept)
    assert all([a.number for a in found] == [1, 2, 3] for found in read_attempts(path).values())


def test_a_pair_that_is_there_twice_is_asked_about_once(server: ChatServer, tmp_path: Path) -> None:
    server.replies = [says(1)]
    section = settings(server.url, max_attempts=1, max_concurrent=4)
    run(section, make_pairs(2) + make_pairs(2), tmp_path / "attempts.jsonl")
    assert len(server.requests) == 2


def test_calls_that_wait_for_their_turn_do_not_go_out_after_a_stop(
    server: ChatServer, tmp_path: Path
) -> None:
    server.replies = [(401, b"no")]
    section = settings(server.url, max_concurrent=2, requests_per_minute=40)
    with pytest.raises(EndpointRefusedError):
        run(section, make_pairs(9), tmp_path / "attempts.jsonl")
    assert len(server.requests) == 1


def test_only_failures_in_a_row_stop_a_run(server: ChatServer, tmp_path: Path) -> None:
    path, broken = tmp_path / "attempts.jsonl", [(503, b"")] * 2 * (MAX_FAILED_IN_A_ROW - 1)
    server.replies = [*broken, says(1), *broken, says(1)]
    pairs = make_pairs(2 * MAX_FAILED_IN_A_ROW)
    done = run(settings(server.url, max_attempts=1), pairs, path)
    assert (done.num_failed_calls, done.num_answers) == (2 * (MAX_FAILED_IN_A_ROW - 1), 2)


def test_a_spent_budget_stops_and_a_raised_one_goes_on(server: ChatServer, tmp_path: Path) -> None:
    path, pairs = tmp_path / "attempts.jsonl", make_pairs(5)
    server.replies = [says(1)]
    once = {"max_attempts": 1, **PRICES}
    done = run(settings(server.url, max_cost=1.0, **once), pairs, path)
    assert "0.9000 of annotate.max_cost 1.0 are spent" in done.stopped
    assert "raise max_cost" in done.stopped
    assert len(server.requests) == len(lines(path)) == 3
    again = run(settings(server.url, max_cost=1.0, **once), pairs, path)
    assert again.stopped and len(server.requests) == 3
    more = run(settings(server.url, max_cost=1.5, **once), pairs, path)
    assert not more.stopped
    assert more.spent == pytest.approx(1.5)
    assert len(server.requests) == 5


def test_a_budget_holds_with_many_calls_at_once(server: ChatServer, tmp_path: Path) -> None:
    path, pairs = tmp_path / "attempts.jsonl", make_pairs(30)
    server.replies = [says(1)]
    once = {"max_attempts": 1, **PRICES}
    done = run(settings(server.url, max_cost=2.0, max_concurrent=8, **once), pairs, path)
    assert done.stopped
    assert done.spent == pytest.approx(1.8)
    assert len(lines(path)) == 6


def test_a_budget_needs_token_counts(server: ChatServer, tmp_path: Path) -> None:
    path = tmp_path / "attempts.jsonl"
    server.replies = [says(1, usage=None)]
    section = settings(server.url, max_cost=1.0, **PRICES)
    for _ in range(2):
        with pytest.raises(InputError, match="tells no token counts"):
            run(section, make_pairs(3), path)
    assert len(server.requests) == len(lines(path)) == 1


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"max_cost": 1.0}, "max_cost needs prices"),
        ({"price_per_million_prompt_tokens": 1}, "give both or neither"),
        ({"max_attempts": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings("http://127.0.0.1:9/v1", **own)


def test_temperature_0_is_warned_about(
    server: ChatServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.replies = [says(1)]
    with caplog.at_level(logging.WARNING):
        run(settings(server.url), make_pairs(1), tmp_path / "a.jsonl")
        assert "temperature" not in caplog.text
        run(settings(server.url, temperature=0), make_pairs(1), tmp_path / "b.jsonl")
    assert "annotate.temperature is 0" in caplog.text


def test_requests_keep_to_the_rate(server: ChatServer, tmp_path: Path) -> None:
    server.replies = [says(1)]
    section = settings(server.url, max_concurrent=6, max_attempts=1, requests_per_minute=1200)
    started = time.monotonic()
    run(section, make_pairs(6), tmp_path / "attempts.jsonl")
    assert time.monotonic() - started >= 5 * 0.05
    assert len(server.requests) == 6


def test_an_unused_turn_is_not_saved_up() -> None:
    async def turns() -> list[float]:
        limiter = RateLimiter(per_minute=1200)
        await limiter.wait()
        await asyncio.sleep(0.2)
        times = []
        for _ in range(3):
            await limiter.wait()
            times.append(time.monotonic())
        return times

    times = asyncio.run(turns())
    assert times[2] - times[0] >= 0.1


def test_a_finished_file_does_not_show_the_order_of_the_answers(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    written = [attempt(1, False, "b"), attempt(1, True, "a"), attempt(2, True, "b")]
    for path, order in ((one, (0, 1, 2)), (two, (1, 2, 0))):
        for place in order:
            append_attempt(path, written[place])
    with two.open("ab") as file:
        file.write(b'{"pair_id": "a", "num')
    for path in (one, two):
        put_in_order(path, ["b", "gone", "a"])
    assert one.read_bytes() == two.read_bytes()
    assert [(a.pair_id, a.number) for found in read_attempts(one).values() for a in found] == [
        ("b", 1),
        ("b", 2),
        ("a", 1),
    ]


def test_progress_counts_what_was_known_and_what_is_new(server: ChatServer, tmp_path: Path) -> None:
    path, pairs, seen = tmp_path / "attempts.jsonl", make_pairs(5), []
    server.replies = [says(1)]
    section = settings(server.url, max_attempts=1)
    run(section, pairs[:2], path)

    def progress(outcome: Annotating) -> None:
        seen.append((outcome.num_known, outcome.num_pairs))

    asyncio.run(annotate(section, client(section), pairs, path, 7, progress))
    assert seen == [(2, 1), (2, 2), (2, 3)]


@pytest.mark.parametrize(
    "answered",
    [
        message(content="<answer>1</answer>", reasoning_content="Response 1 is better."),
        message(content="\n<answer>1</answer>", reasoning="Response 1 is better."),
        message(content="thoughts</think>\n\n" + TRACE),
        message(content=[{"type": "text", "text": TRACE}]),
    ],
)
def test_a_thinking_teachers_trace_has_its_analysis_in_the_tags(
    server: ChatServer, tmp_path: Path, answered: bytes
) -> None:
    """Regression: the answer was kept without the analysis beside it."""
    path = tmp_path / "attempts.jsonl"
    server.replies = [(200, answered)]
    run(settings(server.url, max_attempts=1), make_pairs(1), path)
    ((attempt,),) = read_attempts(path).values()
    assert (attempt.text, attempt.well_formed) == (TRACE, True)


def stage_recipe(server: ChatServer, folder: Path, **teacher: object) -> Recipe:
    given = {"type": "openai", "url": server.url, "model": "m", "max_concurrent": 1, **teacher}
    return Recipe.model_validate(
        {
            "name": "tiny",
            "run_dir": folder,
            "model": {"path": "shapes"},
            "data": {"train": {"type": "shapes", "split": "train", "num_pairs": 4}},
            "annotate": {"teacher": given, "max_attempts": 1},
            "judge": {"type": "rule"},
            "train": {"num_steps": 1},
        }
    )


def run_annotate(recipe: Recipe) -> str:
    """Returns what the stage printed."""
    assert recipe.annotate is not None
    printed = io.StringIO()
    asyncio.run(annotate_stage(recipe, recipe.annotate, Console(file=printed, width=400)))
    return printed.getvalue()


def test_a_teacher_that_refuses_every_pair_is_an_error(server: ChatServer, tmp_path: Path) -> None:
    """Regression: the stage was complete then, with nothing in it."""
    server.replies = [(400, b"top_k is unknown")]
    with pytest.raises(
        AnnotationStoppedError, match=r"refused all 4 pairs.*extra_body without top_k"
    ):
        run_annotate(stage_recipe(server, tmp_path / "run"))
    # What was never answered may be asked in another way.
    server.replies = [says(1)]
    run_annotate(stage_recipe(server, tmp_path / "run", extra_body={}))
    assert "top_k" not in server.requests[-1][2]
    with pytest.raises(RecipeError, match="made otherwise"):
        run_annotate(stage_recipe(server, tmp_path / "run", extra_body={"top_k": 1}))


def test_one_refused_pair_is_left_out_of_the_stage_and_counted(
    server: ChatServer, tmp_path: Path
) -> None:
    server.replies = [(400, b"filtered"), says(1)]
    told = run_annotate(stage_recipe(server, tmp_path / "run"))
    assert "1 prompts refused, the last with: " in told and "HTTP 400: filtered" in told
    assert len(read_attempts(tmp_path / "run" / "annotate" / "attempts.jsonl")) == 3


def test_one_failed_call_does_not_end_the_others(server: ChatServer, tmp_path: Path) -> None:
    """Regression: a status that was not known, as 529, ended the run."""
    server.replies = [Reply(529, b"", {"x-should-retry": "false"}), says(1)]
    with pytest.raises(AnnotationStoppedError, match="1 pairs got no answer"):
        run_annotate(stage_recipe(server, tmp_path / "run"))
    assert len(read_attempts(tmp_path / "run" / "annotate" / "attempts.jsonl")) == 3
    run_annotate(stage_recipe(server, tmp_path / "run"))
    assert len(read_attempts(tmp_path / "run" / "annotate" / "attempts.jsonl")) == 4
