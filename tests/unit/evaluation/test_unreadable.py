"""What is said of answers that could not be read, wherever an evaluation is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from r1reward.data.prompt import Tags
from r1reward.data.verdict import parse_verdict
from r1reward.evaluation.answers import Answer, append_answers
from r1reward.evaluation.benchmarks.stored_pairs import pairs_benchmark
from r1reward.evaluation.conditions import Asking, build_conditions
from r1reward.evaluation.counting import count_answers
from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.evaluation.evaluation import Evaluation, read_evaluation
from r1reward.evaluation.tables import print_evaluation
from r1reward.evaluation.unreadable import UnreadableForm, unreadable_forms
from r1reward.recipe.sections import EvaluateSection, PromptSection
from r1reward.report.build import build_report
from tests.fakes import make_pair

PROMPT = PromptSection()
LOOSE, TOLERANT = "prompt.format_mode=loose", "prompt.format_mode=tolerant"


def trace(*answers: str) -> str:
    return "<think>a</think>" + "".join(f"<answer>{answer}</answer>" for answer in answers)


def answered(texts: Sequence[str], **fields: object) -> list[Answer]:
    """Answers of rows of their own with these texts, read as the default reads them."""
    answers = []
    for number, text in enumerate(texts):
        choice = parse_verdict(text, Tags(), "strict").choice
        answers.append(Answer(f"r{number}", "stored", 0, 0, choice, text=text))
    return [replace(answer, **fields) for answer in answers]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "form", "setting"),
    [
        (trace("**1**"), "**1**", LOOSE),
        (trace(" 1.\n"), "1.", LOOSE),
        (trace("Response 1"), "Response 1", LOOSE),
        (trace("1", "1"), "1 | 1", TOLERANT),
        (trace("1", "2"), "1 | 2", None),
        (trace("Response\n1 or 2"), "Response 1 or 2", None),
        (trace(""), "(empty)", None),
        (trace("both " * 30), "both " * 11 + "both…", None),
        ("Fine.\nI prefer the\tsecond one.", "I prefer the second one.", None),
        ("So:\n**Response 2**", "**Response 2**", LOOSE),
        ("<think>So 1.\nResponse 1 it is.", "Response 1 it is.", None),
        (trace("\ud83d[bold]"), "\ufffd[bold]", None),
        ("", "(nothing)", None),
    ],
)
def test_a_form_and_what_reads_it(text: str, form: str, setting: str | None) -> None:
    assert unreadable_forms(answered([text]), PROMPT) == (UnreadableForm(form, 1, setting),)


def test_the_setting_that_is_named_reads_the_answer() -> None:
    for text in (trace("**1**"), trace("1", "1"), "So:\n**Response 1**"):
        (form,) = unreadable_forms(answered([text]), PROMPT)
        assert form.setting is not None
        mode = form.setting.removeprefix("prompt.format_mode=")
        assert parse_verdict(text, Tags(), mode).choice == 1  # type: ignore[arg-type]


def test_the_most_frequent_forms_come_first_and_readable_answers_do_not_count() -> None:
    texts = [trace("A"), *[trace("**1**")] * 3, *[trace("1")] * 9, *[trace("B")] * 2]
    texts += [trace(f"{number}th") for number in range(3, 9)]
    forms = unreadable_forms(answered(texts), PROMPT)
    assert [(form.form, form.count) for form in forms[:3]] == [("**1**", 3), ("B", 2), ("A", 1)]
    assert len(forms) == 5


def test_rows_that_were_not_put_to_the_model_have_no_form() -> None:
    assert unreadable_forms(answered([""], status="too_long", reason="too long"), PROMPT) == ()


def test_a_text_that_was_cut_off_before_its_answer_says_so() -> None:
    forms = unreadable_forms(answered(["<think>1. On the"], truncated=True), PROMPT)
    assert forms == (UnreadableForm("(cut off at the token limit)", 1, None),)


def test_the_tags_are_those_of_the_recipe() -> None:
    prompt = PromptSection(answer_tag="verdict")
    forms = unreadable_forms(answered(["<verdict>**2**</verdict>"]), prompt)
    assert forms == (UnreadableForm("**2**", 1, LOOSE),)


def evaluated(num_unreadable: int, form: str = "**1**") -> tuple[Evaluation, list[Answer]]:
    """Ten rows, of which so many have an answer in this form."""
    benchmark = pairs_benchmark("pairs", [make_pair(number) for number in range(10)], {})
    keys = [item.key for item in benchmark.items]
    texts = [trace(form)] * num_unreadable + [trace("1")] * (10 - num_unreadable)
    answers = [replace(answer, item=key) for key, answer in zip(keys, answered(texts), strict=True)]
    asking = Asking(EvaluateSection(orders="stored"), PROMPT, 1024, 0)
    conditions = build_conditions("m[/]odel", benchmark, "pairs", asking)
    return count_answers(benchmark, answers, conditions, prompt=PROMPT), answers


def unreadable_warnings(evaluation: Evaluation) -> list[str]:
    return [warning for warning in evaluation.warnings if "could not be read" in warning]


def test_a_share_of_more_than_a_fifth_is_a_warning() -> None:
    assert unreadable_warnings(evaluated(0)[0]) == []
    assert unreadable_warnings(evaluated(2)[0]) == []
    assert unreadable_warnings(evaluated(3)[0]) == [
        "3 of 10 answers (30.0 %) could not be read and count as wrong: '**1**' 3 times "
        "(prompt.format_mode=loose reads it)."
    ]


def test_table_result_and_report_say_it(tmp_path: Path) -> None:
    """A form may hold what a terminal or a page would take for markup."""
    form = "[/red]<b>1</b>"
    evaluation, answers = evaluated(4, form)
    output = StringIO()
    print_evaluation(Console(file=output, width=200), evaluation)
    assert f"4 of 10 answers (40.0 %) could not be read and count as wrong: '{form}' 4" in (
        output.getvalue()
    )
    assert any(
        line.split() == [form, "4", "no", "setting"] for line in output.getvalue().splitlines()
    )
    folder = EvalFolder(tmp_path)
    folder.write_result(evaluation)
    append_answers(folder.answers, answers)
    assert read_evaluation(folder.result) == evaluation
    page = build_report(tmp_path, None).read_text()
    escaped = "[/red]&lt;b&gt;1&lt;/b&gt;"
    assert f'<dt>{escaped}</dt><dd dir="auto">4 times, no setting reads it</dd>' in page
    assert f"count as wrong: &#39;{escaped}&#39; 4 times" in page
    assert form not in page


def test_nothing_is_said_where_every_answer_was_read() -> None:
    output = StringIO()
    print_evaluation(Console(file=output, width=200), evaluated(0)[0])
    assert "could not be read" not in output.getvalue()
