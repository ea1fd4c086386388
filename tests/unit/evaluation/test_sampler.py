"""Asking: every planned sample once, whatever happens in between."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from r1reward.data.order import derive_seed
from r1reward.errors import InputError
from r1reward.evaluation import sampler as sampling
from r1reward.evaluation.answers import Answer, append_answers, read_answers
from r1reward.evaluation.image_off import grey_image
from r1reward.evaluation.items import Item, make_items
from r1reward.evaluation.sampler import EvaluationSampler, SampleKey, sample_answers
from r1reward.evaluation.voting.schedule import sample_schedule
from r1reward.recipe.choices import OrderMode
from r1reward.types import Order, PreferencePair, Prompt, RolloutRequest, Slot
from tests.fakes import (
    FakeGenerator,
    FakeJudge,
    make_pair,
    make_prompt,
    make_recipe,
    right_answer,
    wrong_answer,
)
from tests.recipes import evaluation_sampler
from tests.rows import make_item

LIMIT = 64
ITEMS = make_items((make_pair(n, 1 if n % 2 else 2), f"row {n}", {}) for n in range(6))


def encode(pair: PreferencePair, order: Order) -> Prompt:
    """Questions that begin with "long" are one token over the limit."""
    num_tokens = LIMIT + 1 if pair.question.startswith("long") else LIMIT
    return replace(make_prompt(pair, order), num_tokens=num_tokens)


def draw(request: RolloutRequest) -> int:
    """0 to 9, a function of row, order and index alone."""
    return derive_seed("draw", request.prompt.prompt_id, request.sample_index) % 10


def drawn_answer(request: RolloutRequest) -> str:
    """Right seven times in ten, wrong twice, unreadable once."""
    number = draw(request)
    if number == 9:
        return "Ich wähle keine."
    return (right_answer if number < 7 else wrong_answer)(request)


def make_sampler(
    generator: FakeGenerator,
    judge: FakeJudge | None = None,
    progress: Callable[[int, int], None] = lambda done, planned: None,
    **evaluate: object,
) -> EvaluationSampler:
    changes = {f"evaluate__{name}": value for name, value in evaluate.items()}
    recipe = make_recipe(**changes)
    return evaluation_sampler(recipe, encode, generator, judge, progress)


def places(requests: Sequence[RolloutRequest]) -> list[SampleKey]:
    found: list[SampleKey] = []
    for request in requests:
        key, _, order = request.prompt.prompt_id.rpartition("-")
        assert order == request.prompt.order
        found.append((key, request.prompt.order, request.sample_index))
    return found


def by_place(answers: Sequence[Answer]) -> dict[SampleKey, Answer]:
    found = {answer.sample_key: answer for answer in answers}
    assert len(found) == len(answers)
    return found


BOTH_OF_1 = {("stored", 0), ("swapped", 0)}
BOTH_OF_2 = BOTH_OF_1 | {("stored", 1), ("swapped", 1)}


@pytest.mark.parametrize(
    ("orders", "num_samples", "planned"),
    [
        ("both", 1, BOTH_OF_1),
        ("both", 2, BOTH_OF_1),
        ("both", 3, BOTH_OF_2),
        ("both", 4, BOTH_OF_2),
        ("stored", 1, {("stored", 0)}),
        ("stored", 3, {("stored", 0), ("stored", 1), ("stored", 2)}),
    ],
)
def test_every_planned_sample_is_asked_exactly_once(
    orders: OrderMode, num_samples: int, planned: set[tuple[Order, int]], tmp_path: Path
) -> None:
    generator = FakeGenerator(drawn_answer)
    path = tmp_path / "answers.jsonl"
    answers = asyncio.run(
        sample_answers(make_sampler(generator, orders=orders, samples=num_samples), ITEMS, path)
    )
    wanted = {(item.key, order, index) for item in ITEMS for order, index in planned}
    assert Counter(places(generator.asked)) == Counter(wanted)
    assert by_place(answers).keys() == wanted
    assert by_place(read_answers(path)) == by_place(answers)


@pytest.mark.parametrize("num_samples", [1, 4, 5])
@pytest.mark.parametrize("orders", ["single", "authors", "random"])
def test_orders_of_a_row_are_those_of_the_mode(
    orders: OrderMode, num_samples: int, tmp_path: Path
) -> None:
    generator = FakeGenerator(drawn_answer)
    sampler = make_sampler(generator, orders=orders, samples=num_samples)
    asyncio.run(sample_answers(sampler, ITEMS, tmp_path / "answers.jsonl"))
    assert len(generator.asked) == len(ITEMS) * num_samples
    mixed = 0
    for item in ITEMS:
        asked = [(order, index) for key, order, index in places(generator.asked) if key == item.key]
        counts = Counter(order for order, _ in asked)
        assert set(asked) == {(order, i) for order, n in counts.items() for i in range(n)}
        mixed += len(counts) == 2
        if orders == "authors":
            shown = [
                r.prompt.label for r in generator.asked if r.prompt.pair.question == item.row_id
            ]
            assert set(shown) <= {1}
            assert set(counts) == {item.preferred_first}
    assert (mixed > 0) == (orders == "random" and num_samples > 1)
    if orders == "single":
        assert {order for _, order, _ in places(generator.asked)} == {"stored", "swapped"}


def test_seeds_depend_on_row_order_and_sample_only(tmp_path: Path) -> None:
    def seeds(
        items: Sequence[Item], name: str, samples: int, orders: OrderMode = "both"
    ) -> dict[SampleKey, int]:
        generator = FakeGenerator(drawn_answer, backwards=name == "other")
        sampler = make_sampler(generator, samples=samples, orders=orders)
        asyncio.run(sample_answers(sampler, items, tmp_path / name))
        asked = generator.asked
        return dict(zip(places(asked), (request.seed for request in asked), strict=True))

    first = seeds(ITEMS, "first", samples=4)
    assert len(set(first.values())) == len(first) == 24
    other = seeds(ITEMS[:0:-1], "other", samples=8)
    assert other.items() >= {p: s for p, s in first.items() if p[0] != ITEMS[0].key}.items()
    stored = seeds(ITEMS, "stored", samples=2, orders="stored")
    assert stored.items() == {p: s for p, s in first.items() if p[1] == "stored"}.items()


@pytest.mark.parametrize("adaptive", [None, 0.0])
@pytest.mark.parametrize("num_answered", [0, 1, 13])
def test_a_killed_evaluation_asks_only_for_what_is_missing(
    num_answered: int, adaptive: float | None, tmp_path: Path
) -> None:
    def settings(generator: FakeGenerator) -> EvaluationSampler:
        return make_sampler(generator, samples=5, adaptive=adaptive)

    whole = asyncio.run(
        sample_answers(settings(FakeGenerator(drawn_answer)), ITEMS, tmp_path / "whole")
    )
    path = tmp_path / "answers.jsonl"
    dying = FakeGenerator(drawn_answer, fails_after=num_answered)
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(sample_answers(settings(dying), ITEMS, path))
    assert caught.group_contains(OSError, match="the engine died")
    # What the kill cut short: the middle of the last line.
    if path.is_file():
        text = path.read_bytes()
        path.write_bytes(text[: text.rstrip().rfind(b"\n") + 40])
    kept = read_answers(path)
    assert len(kept) < max(1, num_answered)
    resumed = FakeGenerator(drawn_answer)
    answers = asyncio.run(sample_answers(settings(resumed), ITEMS, path))
    assert by_place(answers) == by_place(whole)
    assert by_place(read_answers(path)) == by_place(whole)
    missing = by_place(whole).keys() - by_place(kept).keys()
    assert Counter(places(resumed.asked)) == Counter(missing)


def test_a_finished_evaluation_asks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    first = asyncio.run(sample_answers(make_sampler(FakeGenerator(drawn_answer)), ITEMS, path))
    again = FakeGenerator(drawn_answer)
    assert asyncio.run(sample_answers(make_sampler(again), ITEMS, path)) == first
    assert again.asked == []


@pytest.mark.parametrize("adaptive", [None, 0.0])
def test_an_evaluation_is_finished_when_nothing_would_be_asked(
    tmp_path: Path, adaptive: float | None
) -> None:
    path = tmp_path / "answers.jsonl"
    sampler = make_sampler(FakeGenerator(drawn_answer), samples=3, adaptive=adaptive)
    items = [make_item("a"), make_item("b")]

    def finished(rows: Sequence[Item]) -> bool:
        return sampling.is_finished(sampler.evaluate, sampler.seed, rows, path)

    assert not finished(items)
    asyncio.run(sample_answers(sampler, items, path))
    assert finished(items)
    assert not finished([*items, make_item("c")])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert not finished(items)


def test_answers_about_other_rows_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    asyncio.run(sample_answers(make_sampler(FakeGenerator(drawn_answer)), ITEMS, path))
    fewer = asyncio.run(sample_answers(make_sampler(FakeGenerator(drawn_answer)), ITEMS[:2], path))
    assert {answer.item for answer in fewer} == {item.key for item in ITEMS[:2]}


@pytest.mark.parametrize(("adaptive", "num_refused"), [(None, 6), (0.0, 5)])
def test_rows_too_long_are_unreadable_and_stall_nobody(
    adaptive: float | None, num_refused: int, tmp_path: Path
) -> None:
    long = replace(make_pair(9), question="long question 9")
    items = (*make_items([(long, "long", {})]), *ITEMS)
    generator = FakeGenerator(drawn_answer)
    sampler = make_sampler(generator, samples=5, adaptive=adaptive)
    answers = asyncio.run(sample_answers(sampler, items, tmp_path / "answers.jsonl"))
    refused = [answer for answer in answers if answer.status == "too_long"]
    assert len(refused) == num_refused
    assert {answer.item for answer in refused} == {items[0].key}
    assert {answer.choice for answer in refused} == {None}
    reason = "prompt of 65 tokens, model.max_prompt_tokens is 64"
    assert {answer.reason for answer in refused} == {reason}
    assert items[0].key not in {key for key, _, _ in places(generator.asked)}
    alone = asyncio.run(
        sample_answers(
            make_sampler(FakeGenerator(drawn_answer), samples=5, adaptive=adaptive),
            ITEMS,
            tmp_path / "alone",
        )
    )
    assert by_place([a for a in answers if a.status == "answered"]) == by_place(alone)


def test_a_row_that_is_there_twice_is_asked_twice(tmp_path: Path) -> None:
    items = make_items([(make_pair(1), "a", {}), (make_pair(1), "b", {})])
    generator = FakeGenerator(drawn_answer)
    answers = asyncio.run(
        sample_answers(make_sampler(generator), items, tmp_path / "answers.jsonl")
    )
    key = make_pair(1).pair_id
    assert Counter(answer.item for answer in answers) == {key: 2, f"{key}-2": 2}
    assert len({request.seed for request in generator.asked}) == 4


def majority(votes: Sequence[Slot | None]) -> int:
    """1 or 2, 0 for a tie."""
    lead = votes.count(1) - votes.count(2)
    return 0 if not lead else 1 if lead > 0 else 2


def test_adaptive_voting_has_the_verdicts_of_full_voting_for_fewer_samples(tmp_path: Path) -> None:
    items = make_items((make_pair(n, 1 if n % 2 else 2), f"row {n}", {}) for n in range(40))
    full = by_place(
        asyncio.run(
            sample_answers(
                make_sampler(FakeGenerator(drawn_answer), samples=7), items, tmp_path / "full"
            )
        )
    )
    generator = FakeGenerator(drawn_answer)
    sampler = make_sampler(generator, samples=7, adaptive=0.0)
    found = by_place(asyncio.run(sample_answers(sampler, items, tmp_path / "adaptive")))
    assert found.items() <= full.items()
    for item in items:
        schedule = [(item.key, *place) for place in sample_schedule(item, 7, "both", 0)]
        asked = [place for place in schedule if place in found]
        assert asked == schedule[: len(asked)]
        assert majority([found[place].response for place in asked]) == majority(
            [full[place].response for place in schedule]
        )
    # Four votes of seven settle a row; only rows whose first four differ are asked on.
    rounds = [call for call in generator.calls if call]
    assert len(rounds[0]) == 4 * 40
    assert len(rounds) > 2
    assert sum(map(len, rounds)) == len(found) < 0.9 * 7 * 40
    unanimous = {
        item.key
        for item in items
        if abs(
            sum(
                {1: 1, 2: -1, None: 0}[full[item.key, *place].response]
                for place in sample_schedule(item, 4, "both", 0)
            )
        )
        == 4
    }
    assert {key for key, _, _ in places(rounds[1])} == {item.key for item in items} - unanimous


@pytest.mark.parametrize("chunk_rows", [2, 512])
@pytest.mark.parametrize("adaptive", [None, 0.0])
def test_progress_counts_up_to_what_is_planned(
    adaptive: float | None, chunk_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "CHUNK_ROWS", chunk_rows)
    told: list[tuple[int, int]] = []
    long = replace(make_pair(9), question="long question 9")
    items = (*ITEMS, *make_items([(long, "long", {})]))
    sampler = make_sampler(
        FakeGenerator(drawn_answer),
        progress=lambda done, planned: told.append((done, planned)),
        samples=5,
        adaptive=adaptive,
    )
    answers = asyncio.run(sample_answers(sampler, items, tmp_path / "answers.jsonl"))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert [planned for _, planned in told] == sorted(planned for _, planned in told)
    assert told[-1] == (len(answers), len(answers))
    if adaptive is None:
        assert {planned for _, planned in told} == {7 * 6}
    else:
        assert told[0][1] == 7 * 3
        assert told[-1][1] < 7 * 5


def test_progress_goes_on_where_a_killed_run_stopped(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    whole = asyncio.run(
        sample_answers(make_sampler(FakeGenerator(drawn_answer)), ITEMS, tmp_path / "whole")
    )
    append_answers(path, whole[:5])
    told: list[tuple[int, int]] = []
    sampler = make_sampler(
        FakeGenerator(drawn_answer), progress=lambda done, planned: told.append((done, planned))
    )
    asyncio.run(sample_answers(sampler, ITEMS, path))
    assert told == [(done, 12) for done in range(6, 13)]


def red_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(buffer, format="PNG")
    return buffer.getvalue()


def test_blind_sampling_greys_the_images_and_files_answers_under_the_same_rows(
    tmp_path: Path,
) -> None:
    pairs = [replace(make_pair(n), images=(red_png(),)) for n in range(2)]
    items = make_items((pair, pair.question, {}) for pair in pairs)
    seeing, blind = FakeGenerator(drawn_answer), FakeGenerator(drawn_answer)
    seen = asyncio.run(sample_answers(make_sampler(seeing), items, tmp_path / "seen"))
    off = asyncio.run(sample_answers(make_sampler(blind), items, tmp_path / "blind", blind=True))
    assert {request.prompt.pair.images for request in seeing.asked} == {(red_png(),)}
    assert {request.prompt.pair.images for request in blind.asked} == {(grey_image(6, 4),)}
    assert by_place(off).keys() == by_place(seen).keys()
    assert [r.seed for r in blind.asked] == [r.seed for r in seeing.asked]
    assert [r.prompt.text for r in blind.asked] == [r.prompt.text for r in seeing.asked]


def test_an_answer_keeps_what_was_said_judged_and_rewarded(tmp_path: Path) -> None:
    judge = FakeJudge("mismatch")
    items = (make_item("row", label=2),)
    generator = FakeGenerator(wrong_answer)
    sampler = make_sampler(generator, judge, orders="stored", samples=1, temperature=0.5, top_p=0.9)
    (answer,) = asyncio.run(sample_answers(sampler, items, tmp_path / "answers.jsonl"))
    (request,) = generator.asked
    text = "<think>Response 1 is better.</think><answer>1</answer>"
    assert answer == Answer(
        item="row",
        order="stored",
        sample_index=0,
        seed=request.seed,
        choice=1,
        text=text,
        num_tokens=3 + request.seed % 5,
        well_formed=True,
        judge_word="mismatch",
        # Wrong but well formed: half the format weight of 0.5 times one.
        reward=0.5,
        consistency=-1.0,
    )
    # Judged though wrong: consistency describes all readable answers.
    assert judge.asked == [("Response 1 is better.", 1)]
    (sampling,) = {generator.samplings[0]}
    assert (sampling.temperature, sampling.top_p, sampling.max_new_tokens) == (0.5, 0.9, 32)


def test_without_a_judge_nothing_is_judged(tmp_path: Path) -> None:
    answers = asyncio.run(
        sample_answers(make_sampler(FakeGenerator(right_answer)), ITEMS, tmp_path / "a")
    )
    assert {answer.judge_word for answer in answers} == {"skipped"}
    assert {answer.consistency for answer in answers} == {None}


def test_half_a_surrogate_pair_is_kept(tmp_path: Path) -> None:
    """A server's JSON may hold one. Regression: it could not be written, on every resume again."""
    generator = FakeGenerator(lambda request: "\ud83d" + right_answer(request))
    path = tmp_path / "answers.jsonl"
    answers = asyncio.run(sample_answers(make_sampler(generator), ITEMS, path))
    assert {answer.text[0] for answer in answers} == {"\ud83d"}
    assert read_answers(path) == answers


def test_a_row_that_the_model_cannot_be_given_is_refused_and_the_others_are_asked(
    tmp_path: Path,
) -> None:
    """Regression: it ended the evaluation."""

    def encode_most(pair: PreferencePair, order: Order) -> Prompt:
        if pair.question == ITEMS[2].pair.question:
            raise InputError("row 2: image 1 is 1 x 201")
        return encode(pair, order)

    sampler = replace(make_sampler(FakeGenerator(right_answer)), encode=encode_most)
    answers = asyncio.run(sample_answers(sampler, ITEMS, tmp_path / "answers.jsonl"))
    refused = [answer for answer in answers if answer.status == "refused"]
    assert {answer.item for answer in refused} == {ITEMS[2].key}
    assert {answer.reason for answer in refused} == {"row 2: image 1 is 1 x 201"}
    assert Counter(answer.status for answer in answers) == {"answered": 10, "refused": 2}


def test_an_answer_is_kept_with_the_tag_that_its_prompt_opened(tmp_path: Path) -> None:
    def opened(pair: PreferencePair, order: Order) -> Prompt:
        prompt = make_prompt(pair, order)
        return replace(prompt, text=f"{prompt.text}<think>\n")

    generator = FakeGenerator(lambda request: right_answer(request).removeprefix("<think>"))
    asking = evaluation_sampler(make_recipe(), opened, generator, None)
    answers = asyncio.run(sample_answers(asking, ITEMS, tmp_path / "answers.jsonl"))
    assert {answer.text.partition(" is better")[0] for answer in answers} == {
        "<think>Response 1",
        "<think>Response 2",
    }
    assert all(answer.well_formed for answer in answers)
