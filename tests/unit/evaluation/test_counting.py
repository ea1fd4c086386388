"""From answers to an evaluation, with every number counted by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.stored_pairs import pairs_benchmark
from r1reward.evaluation.compare import compare_evaluations
from r1reward.evaluation.conditions import Conditions
from r1reward.evaluation.counting import Scored, count_answers
from r1reward.evaluation.evaluation import Evaluation, read_evaluation
from r1reward.evaluation.intervals import Interval
from r1reward.evaluation.items import Benchmark, Item
from r1reward.evaluation.tables import mapping_table
from r1reward.evaluation.voting.curves import vote_odds
from r1reward.evaluation.voting.schedule import sample_schedule
from r1reward.recipe.choices import OrderMode
from r1reward.types import Order, Slot
from tests.fakes import make_pair
from tests.rows import make_answer, make_answers, make_item, make_row


def make_benchmark(*items: Item, mappings: Sequence[str] = ()) -> Benchmark:
    sources = {name: f"source of {name}" for name in mappings}
    return Benchmark("pairs", items, sources, scores_groups=True)


def value(interval: Interval | None) -> float:
    assert interval is not None
    return interval.value


def make_conditions(
    orders: OrderMode = "both",
    num_samples: int = 1,
    adaptive: float | None = None,
    seed: int = 0,
    dropped: Mapping[str, int] | None = None,
) -> Conditions:
    return Conditions(
        model="model",
        benchmark="pairs",
        data="pairs.jsonl",
        num_rows=0,
        num_dropped=dropped or {},
        orders=orders,
        num_samples=num_samples,
        temperature=1.0,
        top_p=1.0,
        seed=seed,
        template="standard",
        adaptive=adaptive,
    )


def count(
    benchmark: Benchmark,
    answers: Sequence[Answer],
    conditions: Conditions,
    image_off: Sequence[Answer] = (),
) -> Evaluation:
    conditions = replace(conditions, num_rows=len(benchmark.items))
    return count_answers(benchmark, answers, conditions, image_off=image_off)


def categorised(key: str, label: Slot, topic: str, kind: str, group: str = "") -> Item:
    item = make_item(key, label, group=group)
    return replace(item, categories={"topic": topic, "kind": kind})


FOUR = make_benchmark(
    categorised("r1", 1, "a", "x", "question"),
    categorised("r2", 2, "a", "y", "question"),
    categorised("r3", 1, "a", "y"),
    categorised("r4", 2, "b", "x"),
    mappings=["topic", "kind"],
)
# Right in both orders; in the stored one only; in none; in both.
FOUR_ANSWERS = [
    *make_answers("r1", [1], [2]),
    *make_answers("r2", [2], [2]),
    *make_answers("r3", [2], [1]),
    *make_answers("r4", [2], [1]),
]


def four() -> Evaluation:
    return count(FOUR, FOUR_ANSWERS, make_conditions())


def test_accuracy_is_the_mean_over_rows_and_orders() -> None:
    found = four()
    assert found.row_accuracies == (1.0, 0.5, 0.0, 1.0)
    assert found.accuracy.value == 0.625
    assert found.accuracy.low <= 0.625 <= found.accuracy.high
    # One vote is one sample.
    assert found.row_scores == found.row_accuracies
    assert found.voted.value == 0.625
    assert [point.num_votes for point in found.voting] == [1]


def test_categories_are_counted_under_every_mapping() -> None:
    topic, kind = four().mappings
    assert (topic.mapping, topic.source) == ("topic", "source of topic")
    assert [(c.category, c.num_rows, c.accuracy.value) for c in topic.categories] == [
        ("a", 3, 0.5),
        ("b", 1, 1.0),
    ]
    assert [(c.category, c.num_rows, c.accuracy.value) for c in kind.categories] == [
        ("x", 2, 1.0),
        ("y", 2, 0.25),
    ]


def test_macro_is_the_mean_of_categories_not_of_rows() -> None:
    found = four()
    topic, kind = found.mappings
    assert (topic.macro, kind.macro, found.accuracy.value) == (0.75, 0.625, 0.625)
    assert (topic.macro_voted, kind.macro_voted) == (0.75, 0.625)


def test_group_accuracy_asks_for_every_row_of_a_group() -> None:
    """Rows 1 and 2 are one group, row 2 half right: of three groups only row 4's is right."""
    found = four()
    assert found.num_groups == 3
    assert value(found.group_accuracy) == pytest.approx(1 / 3)
    topic, kind = found.mappings
    assert [value(c.group_accuracy) for c in topic.categories] == [0.0, 1.0]
    # Split over categories, row 1 stands for its group alone.
    assert [value(c.group_accuracy) for c in kind.categories] == [1.0, 0.0]


def test_groups_are_no_score_where_the_benchmark_does_not_say_so() -> None:
    answers = make_answers("p", [1], [2])
    benchmark = replace(make_benchmark(make_item("p"), mappings=["m"]), scores_groups=False)
    benchmark = replace(benchmark, items=(replace(make_item("p"), categories={"m": "c"}),))
    found = count(benchmark, answers, make_conditions())
    assert (found.group_accuracy, found.num_groups) == (None, None)
    assert found.mappings[0].categories[0].group_accuracy is None


def test_a_vote_that_is_sure_to_be_right_is_right_for_its_group() -> None:
    """Regression: its odds, summed, are 1 but for rounding, and its group counted as wrong."""
    row = make_row((1, 1, 4), (3, 1, 2))
    score = vote_odds(row, 11).score
    assert 1 - 1e-9 < score < 1
    assert Scored([row], [0.5], [score]).group_interval().value == 1.0
    assert Scored([row], [0.5], [0.999]).group_interval().value == 0.0


def test_slots_flips_and_both_orders() -> None:
    """Slot 1 in 3 of 8 answers; row 2 flips; rows 1 and 4 are right in both orders."""
    audit = four().audit
    assert audit.slot_1_rate == 0.375
    assert audit.flip_rate == 0.25
    assert audit.both_right_share == 0.5


THREE = make_benchmark(make_item("p"), make_item("q"), make_item("u"), mappings=())
THREE_ANSWERS = [
    *make_answers("p", [1, 1], [2, 1]),  # votes for response 1: 1, 1 and 1, 2
    *make_answers("q", [1, 2], [2, 1]),  # 1, 2 and 1, 2
    *make_answers("u", [None, None], [None, None]),
]


def test_voting_of_three_takes_two_of_one_order_and_one_of_the_other() -> None:
    """p: two of three votes are right in either split; q: a coin; u: no vote, which is wrong."""
    found = count(THREE, THREE_ANSWERS, make_conditions(num_samples=3))
    assert found.row_accuracies == (0.75, 0.5, 0.0)
    assert found.row_scores == (1.0, 0.5, 0.0)
    assert found.voted.value == 0.5
    assert found.accuracy.value == pytest.approx(1.25 / 3)
    assert value(found.group_accuracy) == pytest.approx(1 / 3)
    assert [point.num_votes for point in found.voting] == [1, 2, 3]
    assert found.voting[-1].accuracy.value == 0.5
    assert found.voting[-1].no_vote_share == pytest.approx(1 / 3)
    # Of two votes p has one right for sure and one in two more: 1/2 right, 1/2 tied.
    assert found.voting[1].accuracy.value == pytest.approx((0.75 + 0.5 + 0) / 3)
    assert found.audit.unparsed_share == pytest.approx(1 / 3)
    # Every row has all its votes: what stopping early would have saved is worked out.
    assert found.adaptive is not None
    assert found.adaptive.replayed


def scheduled(item: Item, responses: Sequence[Slot], orders: OrderMode, seed: int) -> list[Answer]:
    """The answers that vote for these stored responses, in the sequence of the schedule."""
    schedule = sample_schedule(item, len(responses), orders, seed)
    return [
        make_answer(item.key, order, index, response if order == "stored" else swap(response))
        for (order, index), response in zip(schedule, responses, strict=True)
    ]


def swap(slot: Slot) -> Slot:
    return 1 if slot == 2 else 2


def test_orders_by_coin_vote_from_one_pool() -> None:
    """Two right votes in one order and a wrong one in the other win; balanced, they would tie."""
    item = make_item("row")
    wanted: list[Order] = ["stored", "stored", "swapped"]
    seed = next(
        seed
        for seed in range(100)
        if [order for order, _ in sample_schedule(item, 3, "random", seed)] == wanted
    )
    answers = scheduled(item, [1, 1, 2], "random", seed)
    found = count(make_benchmark(item), answers, make_conditions("random", 3, seed=seed))
    assert found.voted.value == 1.0
    assert [point.num_votes for point in found.voting] == [1, 2, 3]
    # Accuracy of one sample weighs the orders alike, however often the coin showed them.
    assert found.accuracy.value == 0.5


ADAPTIVE = make_benchmark(make_item("a"), make_item("b"), mappings=())
# K = 5, exact: row a is settled by three votes, row b by four. First order 1 1, second 2 1.
ADAPTIVE_ANSWERS = [
    *scheduled(ADAPTIVE.items[0], [1, 1, 1], "both", 0),
    *scheduled(ADAPTIVE.items[1], [1, 2, 1, 1], "both", 0),
]


def test_adaptive_accuracy_is_of_the_samples_that_are_asked_for_in_any_case() -> None:
    """Of row b the first three: one order right twice, the other one wrong: 0.5, not 0.75."""
    found = count(ADAPTIVE, ADAPTIVE_ANSWERS, make_conditions(num_samples=5, adaptive=0.0))
    assert found.row_accuracies == (1.0, 0.5)
    assert found.accuracy.value == 0.75
    assert found.audit.num_answers == 6
    assert found.row_scores == (1.0, 1.0)
    assert found.voted.value == 1.0
    assert value(found.group_accuracy) == 1.0
    # Three samples: two of one order, one of the other; no more than 2 votes can be balanced.
    assert [point.num_votes for point in found.voting] == [1, 2]
    assert found.adaptive is not None
    assert not found.adaptive.replayed
    assert found.adaptive.used_share == pytest.approx(7 / 10)


def test_the_same_answers_without_images_lost_nothing_in_adaptive_voting() -> None:
    """Regression: seen accuracies were of the first samples, blind ones of all: -0.125 here."""
    conditions = make_conditions(num_samples=5, adaptive=0.0)
    found = count(ADAPTIVE, ADAPTIVE_ANSWERS, conditions, image_off=ADAPTIVE_ANSWERS)
    assert found.image_off_drop is not None
    assert found.image_off_drop.value == 0.0


def test_what_is_lost_without_images_is_paired_by_row() -> None:
    """Blind: rows 1 and 4 half right, rows 2 and 3 as before. (0.5 + 0.5) / 4 is lost."""
    blind = [
        *make_answers("r1", [1], [1]),
        *make_answers("r2", [2], [2]),
        *make_answers("r3", [2], [1]),
        *make_answers("r4", [1], [1]),
    ]
    found = count(FOUR, FOUR_ANSWERS, make_conditions(), image_off=blind)
    assert found.image_off_drop is not None
    assert found.image_off_drop.value == 0.25
    assert four().image_off_drop is None


def test_parts_are_means_over_the_answers_that_have_them() -> None:
    answers = [
        replace(FOUR_ANSWERS[0], judge_word="match", consistency=1.0, reward=2.0, num_tokens=10),
        replace(FOUR_ANSWERS[1], judge_word="mismatch", consistency=-1.0, reward=1.0),
        replace(FOUR_ANSWERS[2], judge_word="undecided", consistency=0.0, num_tokens=20),
        # The judge failed: no word on consistency.
        replace(FOUR_ANSWERS[3], judge_word="abstain", well_formed=True),
        *FOUR_ANSWERS[4:],
    ]
    parts = count(FOUR, answers, make_conditions()).parts
    assert parts.consistency == pytest.approx(1 / 3)
    assert parts.reward == 1.5
    assert parts.num_tokens == 15.0
    assert parts.well_formed == 0.125
    bare = four().parts
    assert (bare.consistency, bare.reward, bare.num_tokens) == (None, None, None)


@pytest.mark.parametrize(
    ("orders", "labels", "warned"),
    [
        ("authors", (1, 2), True),
        ("stored", (1, 1), True),
        ("stored", (1, 2), False),
        ("both", (1, 1), False),
        ("single", (1, 1), False),
        ("random", (1, 1), False),
    ],
)
def test_a_preferred_response_always_first_is_warned_of(
    orders: OrderMode, labels: tuple[Slot, Slot], warned: bool
) -> None:
    items = [make_item(f"r{n}", label) for n, label in enumerate(labels)]
    answers = [
        answer
        for item in items
        for answer in scheduled(item, [1] * (2 if orders == "both" else 1), orders, 0)
    ]
    warnings = count(make_benchmark(*items), answers, make_conditions(orders)).warnings
    beginnings = ["The preferred response is always shown first"] * warned
    beginnings += ["The authors' script takes the first answer block"] * (orders == "authors")
    assert len(warnings) == len(beginnings)
    assert all(map(str.startswith, warnings, beginnings))


def test_rows_too_long_and_dropped_rows_are_warned_of() -> None:
    answers = [
        replace(a, choice=None, status="too_long", reason="65 tokens") for a in FOUR_ANSWERS[:2]
    ]
    conditions = make_conditions(dropped={"no image": 3})
    found = count(FOUR, [*answers, *FOUR_ANSWERS[2:]], conditions)
    assert found.row_accuracies[0] == 0.0
    too_long, dropped, unreadable = found.warnings
    assert too_long.startswith("1 of 4 rows were too long for the model and count as unreadable")
    assert dropped == "3 rows of the benchmark were left out: no image."
    assert unreadable == "2 of 8 answers (25.0 %) could not be read and count as wrong."
    assert four().warnings == ()


def test_a_row_that_was_never_asked_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="every row was asked"):
        count(FOUR, FOUR_ANSWERS[2:], make_conditions())


def confident() -> Evaluation:
    answers = [
        replace(answer, confidence=0.5 + index / 20, num_tokens=7)
        for index, answer in enumerate(THREE_ANSWERS)
    ]
    return count(THREE, answers, make_conditions(num_samples=3), image_off=answers)


def adaptive() -> Evaluation:
    return count(
        ADAPTIVE,
        ADAPTIVE_ANSWERS,
        make_conditions(num_samples=5, adaptive=0.0, dropped={"lost": 1}),
    )


def of_a_store() -> Evaluation:
    benchmark = pairs_benchmark("pairs", [make_pair(n) for n in range(3)], {"gone": 2})
    answers = [a for item in benchmark.items for a in make_answers(item.key, [1], [1])]
    return count(benchmark, answers, make_conditions())


@pytest.mark.parametrize("made", [four, confident, adaptive, of_a_store])
def test_an_evaluation_is_read_back_from_json_as_it_was(made: object, tmp_path: Path) -> None:
    assert callable(made)
    found = made()
    path = tmp_path / "result.json"
    path.write_text(json.dumps(found.to_json()))
    assert read_evaluation(path) == found


def half_right(before: bool = False, *, grouped: bool) -> Evaluation:
    """Forty rows, the first twenty right (``before``: none), alone or in groups of ten."""
    group = "group {}".format if grouped else "".format
    items = [
        replace(make_item(f"p{i:02}", group=group(i // 10)), categories={"m": "all"})
        for i in range(40)
    ]
    answers = []
    for number, item in enumerate(items):
        right = number < 20 and not before
        answers += make_answers(item.key, [1 if right else 2], [2 if right else 1])
    return count(make_benchmark(*items, mappings=["m"]), answers, make_conditions())


def width(interval: Interval | None) -> float:
    assert interval is not None
    return interval.high - interval.low


def test_rows_of_a_group_rise_and_fall_together_in_every_interval() -> None:
    """Rows of a group are all right or all wrong: four independent facts and not forty."""
    grouped, alone = half_right(grouped=True), half_right(grouped=False)
    category, other = grouped.mappings[0].categories[0], alone.mappings[0].categories[0]
    for wide, narrow in (
        (grouped.accuracy, alone.accuracy),
        (grouped.voted, alone.voted),
        (category.accuracy, other.accuracy),
        (category.voted, other.voted),
    ):
        assert wide.value == narrow.value == 0.5
        assert width(wide) > 2 * width(narrow) > 0


def test_rows_of_a_group_rise_and_fall_together_in_a_comparison() -> None:
    wide, narrow = (
        compare_evaluations(half_right(before=True, grouped=grouped), half_right(grouped=grouped))
        for grouped in (True, False)
    )
    assert wide.accuracy.value == narrow.accuracy.value == 0.5
    assert width(wide.accuracy) > 2 * width(narrow.accuracy) > 0
    assert width(wide.voted) > 2 * width(narrow.voted) > 0


def test_the_table_of_a_benchmark_with_groups_says_how_many() -> None:
    found = half_right(grouped=True)
    columns = mapping_table(found, found.mappings[0]).columns
    assert [column.header for column in columns] == [
        "category",
        "rows",
        "one sample [95 %]",
        "Acc+, 4 groups",
    ]


def test_rows_of_a_group_rise_and_fall_together_without_images_too() -> None:
    widths = []
    for group in ("group {}".format, "".format):
        items = [make_item(f"p{i:02}", group=group(i // 10)) for i in range(40)]
        seen: list[Answer] = []
        blind: list[Answer] = []
        for number, item in enumerate(items):
            for answers, right in ((seen, number < 20), (blind, number % 20 < 10)):
                answers += make_answers(item.key, [1 if right else 2], [2 if right else 1])
        found = count(make_benchmark(*items), seen, make_conditions(), image_off=blind)
        assert value(found.image_off_drop) == 0
        widths.append([width(found.image_off_drop), width(found.voting[0].any_correct)])
    assert all(wide > 2 * narrow > 0 for wide, narrow in zip(*widths, strict=True))
