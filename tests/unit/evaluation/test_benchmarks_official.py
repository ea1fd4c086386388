"""Official asking and official scoring: which of the two a score is, in every place that shows it."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from r1reward.data.prompt import TEMPLATES
from r1reward.errors import InputError
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.official import (
    PROTOCOLS,
    SUITES,
    Protocol,
    protocol_of,
    score_by_protocol,
)
from r1reward.evaluation.conditions import Conditions, condition_facts, predicted_conditions
from r1reward.evaluation.counting import count_answers
from r1reward.evaluation.evaluation import Evaluation
from r1reward.evaluation.items import Benchmark, Item
from r1reward.evaluation.tables import official_lines, print_evaluation
from r1reward.evaluation.voting.schedule import sample_schedule
from r1reward.recipe.choices import SuiteName
from r1reward.types import Slot
from tests.rows import make_item

CATEGORIES = ("general", "hallucination", "reasoning")


def categorised(key: str, label: Slot, category: str, response_1: str) -> Item:
    item = make_item(key, label, response_1=response_1)
    names = dict.fromkeys(("official", "authors", "unifiedreward"), category)
    return replace(item, categories=names)


# Lengths of odd and even sums, so that the order by parity is not the stored one throughout.
ITEMS = tuple(
    categorised(f"r{number}", 1 if number < 3 else 2, CATEGORIES[number % 3], "left" + "x" * number)
    for number in range(6)
)
BENCHMARK = Benchmark("vl-rewardbench", ITEMS, {"official": "", "authors": ""})


def conditions_of(protocol: Protocol, benchmark: str = "vl-rewardbench") -> Conditions:
    """How a model is asked that is asked in the protocol's own way."""
    return Conditions(
        *("model", benchmark, "data", len(ITEMS), {}, protocol.orders, protocol.num_samples),
        temperature=protocol.temperature,
        top_p=protocol.top_p,
        seed=0,
        template=protocol.template,
        format_mode=protocol.template,
        images_last=protocol.images_last,
        max_new_tokens=protocol.max_new_tokens,
    )


def answers_in(conditions: Conditions) -> list[Answer]:
    """Every sample of the plan names slot 1."""
    return [
        Answer(item.key, order, index, 0, 1)
        for item in ITEMS
        for order, index in sample_schedule(item, conditions.num_samples, conditions.orders, 0)
    ]


def evaluated(protocol: Protocol, conditions: Conditions) -> Evaluation:
    return count_answers(BENCHMARK, answers_in(conditions), conditions, protocol=protocol)


VL = PROTOCOLS["vl-rewardbench"]


def test_asked_and_scored_as_the_script_does() -> None:
    found = evaluated(VL, conditions_of(VL)).official
    assert found is not None
    assert found.name == "official asking and scoring"
    assert not any("asked otherwise" in note for note in found.notes)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"template": "standard"}, "prompt standard, theirs vl-rewardbench"),
        ({"format_mode": "loose"}, "answers read as loose, theirs vl-rewardbench"),
        ({"images_last": False}, "images last False, theirs True"),
        ({"max_new_tokens": 512}, "new tokens at most 512, theirs 2048"),
        ({"temperature": 1.0}, "temperature 1.0, theirs 0.2"),
        ({"temperature": None}, "temperature not known, theirs 0.2"),
        ({"top_p": 1.0}, "top-p 1.0, theirs 0.2"),
        ({"orders": "single"}, "orders single, theirs random"),
        ({"num_samples": 9}, "samples 9, theirs 10"),
    ],
)
def test_answers_made_otherwise_are_only_scored_officially(
    changes: dict[str, object], difference: str
) -> None:
    conditions = replace(conditions_of(VL), **changes)  # type: ignore[arg-type]
    found = evaluated(VL, conditions).official
    assert found is not None
    assert found.name == "official scoring"
    assert found.notes[-1] == f"asked otherwise: {difference}"


def test_predictions_do_not_say_how_they_were_asked_for() -> None:
    planned = conditions_of(VL)
    answers = answers_in(planned)
    conditions = predicted_conditions(planned, BENCHMARK, answers)
    found = score_by_protocol(VL, BENCHMARK, answers, conditions)
    assert found.name == "official scoring"
    assert "prompt not known, theirs vl-rewardbench" in found.notes[-1]
    assert "new tokens at most not known" in found.notes[-1]


def test_a_benchmark_without_a_prompt_for_pairs_is_only_scored() -> None:
    protocol = PROTOCOLS["mm-rlhf-rewardbench"]
    conditions = conditions_of(protocol, "mm-rlhf-rewardbench")
    found = score_by_protocol(protocol, BENCHMARK, answers_in(conditions), conditions)
    assert found.name == "official scoring"


def test_a_suite_has_its_own_name_order_and_rule() -> None:
    protocol = SUITES["lmms-eval", "vl-rewardbench"]
    conditions = conditions_of(protocol)
    found = evaluated(protocol, conditions).official
    assert found is not None
    assert found.name == "lmms-eval's asking and scoring"
    seen = {item.key: item.parity_order for item in ITEMS}
    assert set(seen.values()) == {"stored", "swapped"}
    answers = answers_in(conditions)
    assert {answer.item: answer.order for answer in answers} == seen
    assert seen["r0"] == "swapped"  # left and right: 9 characters
    assert predicted_conditions(conditions, BENCHMARK, answers).orders == "parity"


def test_terminal_and_result_say_which_it_is_and_show_the_curve() -> None:
    evaluation = evaluated(VL, replace(conditions_of(VL), template="standard"))
    lines = list(official_lines(evaluation))
    assert lines[0].startswith("official scoring: majority of more than half of a row's first 9")
    assert [line.split(":")[0].strip() for line in lines[-5:]] == [
        f"K = {k}" for k in (1, 3, 5, 7, 9)
    ]
    out = io.StringIO()
    print_evaluation(Console(file=out, width=200), evaluation)
    assert "asked otherwise: prompt standard, theirs vl-rewardbench" in out.getvalue()
    stored = evaluation.to_json()["official"]
    assert isinstance(stored, dict)
    assert stored["name"] == "official scoring"
    assert [point["num_votes"] for point in stored["curve"]] == [1, 3, 5, 7, 9]


def test_conditions_say_how_answers_are_read_and_how_long_they_may_be() -> None:
    facts = condition_facts(conditions_of(VL))
    assert facts["Answers are read"] == "vl-rewardbench"
    assert facts["New tokens at most"] == "2048"
    assert facts["Image place"] == "behind the text"


@pytest.mark.parametrize(
    ("bench", "official", "suite", "sentence"),
    [
        ("pairs", True, None, "pairs has no published scoring rule: leave out --official"),
        ("pairs", False, "lmms-eval", "lmms-eval has no rules for pairs: leave out --suite"),
        (
            "multimodal-rewardbench",
            False,
            "vlmevalkit",
            "vlmevalkit has no rules for multimodal-rewardbench: leave out --suite",
        ),
    ],
)
def test_a_protocol_that_is_not_there_is_refused(
    bench: str, official: bool, suite: SuiteName | None, sentence: str
) -> None:
    with pytest.raises(InputError) as caught:
        protocol_of(bench, official, suite)
    assert str(caught.value) == sentence


def test_nothing_is_scored_where_nothing_was_asked_for() -> None:
    assert protocol_of("vl-rewardbench", False, None) is None


def test_the_prompts_have_the_structure_of_the_scripts() -> None:
    """Question, then both answers, then what to do; and the form of the verdict word for word."""
    text = TEMPLATES["vl-rewardbench"]
    marks = ["Question: {question}", "Answer 1: {response_1}", "Answer 2: {response_2}"]
    marks += ["1. Accuracy", "2. Completeness", "3. Clarity", "4. Relevance"]
    marks += ["Overall Judgment: Answer X is better."]
    assert sorted(marks, key=text.index) == marks
    text = TEMPLATES["multimodal-rewardbench"]
    marks = ['"[[A]]"', '"[[B]]"', "[User Question]\n{question}", "{response_1}", "{response_2}"]
    assert sorted(marks, key=text.index) == marks
    assert "[The Start of Assistant A's Answer]\n{response_1}\n[The End of Assistant A's" in text
