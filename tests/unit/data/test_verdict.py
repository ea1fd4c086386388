"""The parser against traces written by hand, in every mode."""

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1reward.data.benchmark_forms import judged_answer
from r1reward.data.markup import has_words
from r1reward.data.prompt import Tags
from r1reward.data.verdict import answer_spans, compose_trace, parse_verdict
from r1reward.recipe.choices import FormatMode
from r1reward.types import Slot, Verdict

FORMS: tuple[FormatMode, ...] = ("vl-rewardbench", "multimodal-rewardbench")
MODES: tuple[FormatMode, ...] = tuple(mode for mode in get_args(FormatMode) if mode not in FORMS)
TAGS = Tags()

# (trace, strict verdict, tolerant verdict or None where it is the same)
TRACES: dict[str, tuple[str, Verdict, Verdict | None]] = {
    "well formed": (
        "<think>Cats.</think><answer>1</answer>",
        Verdict("Cats.", 1, True),
        None,
    ),
    "well formed, answer 2, several lines": (
        "<think>\nOne.\nTwo.\n</think><answer>2</answer>",
        Verdict("One.\nTwo.", 2, True),
        None,
    ),
    "whitespace around the trace": (
        " \n<think>a</think><answer>1</answer>\n",
        Verdict("a", 1, True),
        None,
    ),
    "whitespace around the digit": (
        "<think>a</think><answer> 2\n</answer>",
        Verdict("a", 2, True),
        None,
    ),
    "whitespace between the blocks": (
        "<think>a</think>\n\n<answer>1</answer>",
        Verdict("a", 1, False),
        Verdict("a", 1, True),
    ),
    "words between the blocks": (
        "<think>a</think> so <answer>1</answer>",
        Verdict("a so", 1, False),
        None,
    ),
    "words after the answer": (
        "<think>a</think><answer>1</answer> I am sure.",
        Verdict("a", 1, False),
        None,
    ),
    "words before the analysis": (
        "Well. <think>a</think><answer>1</answer>",
        Verdict("Well. a", 1, False),
        None,
    ),
    "two answers that agree": (
        "<think>a</think><answer>2</answer><answer>2</answer>",
        Verdict("a", None, False),
        Verdict("a", 2, False),
    ),
    "two answers that disagree": (
        "<think>a</think><answer>1</answer><answer>2</answer>",
        Verdict("a", None, False),
        None,
    ),
    "a readable and an unreadable answer": (
        "<think>a</think><answer>1</answer><answer>both</answer>",
        Verdict("a", None, False),
        None,
    ),
    "no such slot": ("<think>a</think><answer>3</answer>", Verdict("a", None, False), None),
    "both slots": ("<think>a</think><answer>1 2</answer>", Verdict("a", None, False), None),
    "two digits": ("<think>a</think><answer>12</answer>", Verdict("a", None, False), None),
    "a decimal": ("<think>a</think><answer>1.0</answer>", Verdict("a", None, False), None),
    "a full-width digit": (
        "<think>a</think><answer>\uff11</answer>",
        Verdict("a", None, False),
        None,
    ),
    "a sentence": (
        "<think>a</think><answer>Response 1</answer>",
        Verdict("a", None, False),
        None,
    ),
    "the skeleton itself": (
        "<think>analysis</think><answer>1 or 2</answer>",
        Verdict("analysis", None, False),
        None,
    ),
    "empty answer": ("<think>a</think><answer></answer>", Verdict("a", None, False), None),
    "answer never closed": ("<think>a</think><answer>1", Verdict("a", None, False), None),
    "analysis never closed": (
        "<think>a<answer>1</answer>",
        Verdict("a", 1, False),
        None,
    ),
    "no think tags": ("a<answer>1</answer>", Verdict("a", 1, False), None),
    "nested answer tags": (
        "<think>a</think><answer><answer>1</answer></answer>",
        Verdict("a", None, False),
        None,
    ),
    "answer inside the analysis": (
        "<think>a<answer>1</answer></think>",
        Verdict("a", 1, False),
        None,
    ),
    "nested think tags": (
        "<think><think>a</think></think><answer>1</answer>",
        Verdict("a", 1, False),
        None,
    ),
    "two analyses": (
        "<think>a</think><think>b</think><answer>1</answer>",
        Verdict("ab", 1, False),
        None,
    ),
    "answer first": ("<answer>1</answer><think>a</think>", Verdict(None, 1, False), None),
    "a stray closing tag": (
        "<think>a</think><answer>1</answer></answer>",
        Verdict("a", 1, False),
        None,
    ),
    "empty analysis": ("<think></think><answer>1</answer>", Verdict(None, 1, False), None),
    "upper-case tags": (
        "<THINK>a</THINK><ANSWER>1</ANSWER>",
        Verdict("<THINK>a</THINK><ANSWER>1</ANSWER>", None, False),
        None,
    ),
    "other tag names": (
        "<analysis>a</analysis><verdict>1</verdict>",
        Verdict("<analysis>a</analysis><verdict>1</verdict>", None, False),
        None,
    ),
    "cut off in the analysis": ("<think>One cat", Verdict("One cat", None, False), None),
    "prose only": ("Response 1 is better.", Verdict("Response 1 is better.", None, False), None),
    "whitespace only": (" \n", Verdict(None, None, False), None),
    "nothing": ("", Verdict(None, None, False), None),
}


@pytest.mark.parametrize("name", TRACES)
def test_strict_verdict(name: str) -> None:
    trace, strict, _ = TRACES[name]
    assert parse_verdict(trace, TAGS, "strict") == strict


@pytest.mark.parametrize("name", TRACES)
def test_tolerant_verdict(name: str) -> None:
    trace, strict, tolerant = TRACES[name]
    assert parse_verdict(trace, TAGS, "tolerant") == (tolerant or strict)


@pytest.mark.parametrize("name", TRACES)
def test_loose_reads_what_tolerant_reads(name: str) -> None:
    trace, strict, tolerant = TRACES[name]
    verdict = tolerant or strict
    if verdict.choice is not None:
        assert parse_verdict(trace, TAGS, "loose") == verdict


@pytest.mark.parametrize("name", TRACES)
def test_the_authors_reading_is_strict_but_for_an_empty_analysis(name: str) -> None:
    trace, strict, _ = TRACES[name]
    expected = Verdict(None, 1, True) if name == "empty analysis" else strict
    assert parse_verdict(trace, TAGS, "authors") == expected


BLANK = [
    "",
    " \n\t",
    "\u00a0\u3000",
    "\u200b",
    "...",
    "\u2026",
    "**",
    "---",
    "<b></b>",
    "<br/>",
    "&nbsp;",
]


@pytest.mark.parametrize("analysis", BLANK)
@pytest.mark.parametrize("mode", ["strict", "tolerant", "loose"])
def test_an_analysis_without_a_word_has_no_form(mode: FormatMode, analysis: str) -> None:
    trace = f"<think>{analysis}</think><answer>2</answer>"
    assert parse_verdict(trace, TAGS, mode) == Verdict(None, 2, False)


@pytest.mark.parametrize("analysis", BLANK)
def test_the_authors_pay_for_the_form_of_any_analysis(analysis: str) -> None:
    trace = f"<think>{analysis}</think><answer>2</answer>"
    assert parse_verdict(trace, TAGS, "authors") == Verdict(None, 2, True)


@pytest.mark.parametrize("analysis", ["1 < 2", "<b>x</b>", "\u732b", "7", "<Response 1 is better>"])
def test_an_analysis_with_a_word_is_kept_as_it_is(analysis: str) -> None:
    trace = f"<think>{analysis}</think><answer>2</answer>"
    assert parse_verdict(trace, TAGS, "strict") == Verdict(analysis, 2, True)


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "**2**",
            "2.",
            "(2)",
            '"2"',
            "Response 2",
            "\\boxed{2}",
            "\uff12",
            "\u200b2",
            "[[2]]",
            "$2$",
        ),
        *("Response 2 is better.", "The better response is **Response 2**.", "Final answer: 2"),
    ],
)
def test_loose_reads_a_digit_in_markup_or_in_a_few_words(answer: str) -> None:
    between_tags = f"<think>a</think><answer>{answer}</answer>"
    assert parse_verdict(between_tags, TAGS, "tolerant").choice is None
    assert parse_verdict(between_tags, TAGS, "loose") == Verdict("a", 2, True)
    assert parse_verdict(f"<think>a</think>\n{answer}", TAGS, "loose").choice == 2
    assert parse_verdict(f"Both are fine.\n\n{answer}\n", TAGS, "loose") == Verdict(
        f"Both are fine.\n\n{answer}".strip(), 2, False
    )


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "1 or 2",
            "12",
            "1.0",
            "-1",
            "3",
            "1/2",
            "Response 1 is worse",
            "not 1",
            "1 > 2",
            "",
            "A",
        ),
        *("Response 1 is better than Response 2", "1. Response 2 is better", "x" * 60 + "1"),
    ],
)
def test_loose_never_guesses(answer: str) -> None:
    trace = f"<think>a</think><answer>{answer}</answer>"
    assert parse_verdict(trace, TAGS, "loose").choice is None
    assert parse_verdict(f"Well.\n{answer}", TAGS, "loose").choice is None


def test_loose_reads_no_answer_out_of_an_analysis_that_is_not_closed() -> None:
    assert parse_verdict("<think>a\nResponse 1 is better.", TAGS, "loose").choice is None


@pytest.mark.parametrize("mode", MODES)
def test_tag_names_are_a_setting(mode: FormatMode) -> None:
    trace = "<analysis>a</analysis><verdict>2</verdict>"
    assert parse_verdict(trace, Tags("analysis", "verdict"), mode) == Verdict("a", 2, True)


@pytest.mark.parametrize("mode", MODES)
def test_tag_names_are_no_regular_expressions(mode: FormatMode) -> None:
    tags = Tags("th.nk", "a+")
    assert parse_verdict("<th.nk>x</th.nk><a+>1</a+>", tags, mode) == Verdict("x", 1, True)
    assert parse_verdict("<think>x</think><aa>1</aa>", tags, mode).choice is None


TAG_SOUP = st.lists(
    st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "1", "2", " ", "\n", "a<"])
).map("".join)


def parsed_with_a_regex(text: str, mode: FormatMode) -> Verdict:
    """The parser of 0.2, which takes time with the square of what opens and never closes."""
    answers = re.findall("<answer>(.*?)</answer>", text, re.DOTALL)
    choices = {int(answer) if answer.strip() in ("1", "2") else None for answer in answers}
    readable = len(answers) == 1 if mode == "authors" else len(choices) == 1
    choice = choices.pop() if readable else None
    head = text.split("<answer>")[0]
    analysis = head.replace("<think>", "").replace("</think>", "").strip()
    between = "" if mode == "authors" else r"\s*"
    pattern = rf"\s*<think>.*</think>{between}<answer>.*</answer>\s*"
    once_each = all(
        text.count(tag) == 1 for tag in ("<think>", "</think>", "<answer>", "</answer>")
    )
    well_formed = once_each and re.fullmatch(pattern, text, re.DOTALL) is not None
    return Verdict(analysis or None, choice, well_formed and choice is not None)  # type: ignore[arg-type]


@given(text=TAG_SOUP)
def test_tag_soup_is_read_as_the_regular_expression_read_it(text: str) -> None:
    for mode in ("authors", "tolerant"):
        old = parsed_with_a_regex(text, mode)
        words = old.analysis is not None and has_words(old.analysis)
        expected = Verdict(
            analysis=old.analysis if words else None,
            choice=old.choice,
            well_formed=old.well_formed and (words or mode == "authors"),
        )
        assert parse_verdict(text, TAGS, mode) == expected


class CountedText(str):
    """A text that counts the characters that searching it passes over."""

    num_passed = 0

    def find(self, sub: str, start: int = 0, /) -> int:  # type: ignore[override]
        found = super().find(sub, start)
        self.num_passed += (len(self) if found < 0 else found + len(sub)) - start
        return found


FLOODS = [
    "<answer>",
    "</answer>",
    "<answer>1</answer>",
    "<answer></think>",
    "<think>",
    "a<",
    "<a ",
    "&",
]


@pytest.mark.parametrize("flood", FLOODS)
def test_answers_are_found_in_two_passes_at_most(flood: str) -> None:
    for num_repeats in (10, 1000):
        text = CountedText(flood * num_repeats)
        list(answer_spans(text, TAGS))
        assert text.num_passed <= 2 * len(text)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_tags_is_read(flood: str, mode: FormatMode) -> None:
    """Regression: 8,000 open tags took two seconds, so this many would take an hour."""
    verdict = parse_verdict(flood * 100_000, TAGS, mode)
    agreeing = flood == "<answer>1</answer>" and mode in ("tolerant", "loose")
    assert verdict.choice == (1 if agreeing else None)


@pytest.mark.parametrize("mode", MODES)
@given(text=st.text() | TAG_SOUP)
def test_no_text_raises_and_only_a_readable_trace_is_well_formed(
    mode: FormatMode, text: str
) -> None:
    verdict = parse_verdict(text, TAGS, mode)
    assert verdict.choice in (1, 2, None)
    assert verdict.analysis is None or verdict.analysis.strip() == verdict.analysis != ""
    if verdict.well_formed:
        assert verdict.choice is not None
        assert text.strip().startswith("<think>")
        assert text.strip().endswith("</answer>")
        assert verdict.analysis is not None or mode == "authors"


@given(text=TAG_SOUP)
def test_what_strict_reads_tolerant_reads_the_same(text: str) -> None:
    strict, tolerant = (parse_verdict(text, TAGS, mode) for mode in ("strict", "tolerant"))
    loose = parse_verdict(text, TAGS, "loose")
    if strict.choice is not None:
        assert tolerant.choice == strict.choice
    if tolerant.choice is not None:
        assert loose == tolerant
    assert tolerant.well_formed or not strict.well_formed


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tags", [TAGS, Tags("analysis", "verdict")], ids=["default", "renamed"])
@given(
    analysis=st.text().filter(lambda text: "<" not in text and "&" not in text),
    choice=st.sampled_from([1, 2]),
)
def test_a_composed_trace_is_read_back(
    mode: FormatMode, tags: Tags, analysis: str, choice: Slot
) -> None:
    verdict = parse_verdict(compose_trace(analysis, choice, tags), tags, mode)
    read = analysis.strip() if any(map(str.isalnum, analysis)) else None
    assert verdict == Verdict(read, choice, read is not None or mode == "authors")


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("Overall Judgment: Answer 2 is better.", 2),
        ("**Overall Judgment:**\n\nAnswer 1 is the better one", 1),
        ("Therefore, Answer 2 is slightly better.", 2),
        ("overall judgment - answer 1 is the slightly better", 1),
        # The last sentence that follows the first opening.
        ("Therefore Answer 1 is better. No: Answer 2 is better.", 2),
        ("Answer 1 is better.\nOverall Judgment: Answer 2 is better.", 2),
        ("Answer 1 is better.", None),
        ("Overall Judgment: both are equal.", None),
        ("Overall Judgment: Answer 3 is better.", None),
        ("Overall\nJudgment: Answer 1 is better.", None),
        ("", None),
    ],
)
def test_the_sentence_of_vl_rewardbench_is_read(reply: str, choice: Slot | None) -> None:
    verdict = parse_verdict(f"Both are fine.\n{reply}", TAGS, "vl-rewardbench")
    assert (verdict.choice, verdict.well_formed) == (choice, choice is not None)
    assert parse_verdict(reply, TAGS, "strict").choice is None


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        *(("[[A]]", 1), ("So: [[B]].", 2), ("[[B]], not [[A]]", 1)),
        *(("[A]", None), ("[[C]]", None), ("Assistant A is better.", None), ("", None)),
    ],
)
def test_the_brackets_of_multimodal_rewardbench_are_read(reply: str, choice: Slot | None) -> None:
    verdict = parse_verdict(f"Well.\n{reply}", TAGS, "multimodal-rewardbench")
    assert verdict.choice == choice


@pytest.mark.parametrize("mode", FORMS)
def test_a_form_is_read_behind_what_a_model_thinks(mode: FormatMode) -> None:
    """Of reasoning that a server tells apart, the benchmark's script sees nothing."""
    thought = "Overall Judgment: Answer 1 is better. [[A]]"
    reply = "Overall Judgment: Answer 2 is better." if mode == "vl-rewardbench" else "[[B]]"
    verdict = parse_verdict(f"<think>{thought}</think>Fine.\n{reply}", TAGS, mode)
    assert verdict.choice == 2
    assert verdict.analysis is not None and "Fine." in verdict.analysis


@pytest.mark.parametrize(
    "reply",
    [
        *("Overall Judgment: Answer 2 is better.", "Answer 2 is better", "Response 2"),
        *("Therefore, answer 2 is slightly better.", "**Overall judgement: Response 2**"),
    ],
)
def test_loose_reads_the_sentence_as_well(reply: str) -> None:
    assert parse_verdict(f"Both are fine.\n{reply}", TAGS, "loose").choice == 2


@pytest.mark.parametrize(
    "flood", ["Answer 1 is the ", "Therefore ", "Answer" + 50 * " ", "[[", "Answer 1" * 9 + "is "]
)
@pytest.mark.parametrize("mode", FORMS)
def test_a_flood_of_half_sentences_is_read(flood: str, mode: FormatMode) -> None:
    """In time in proportion to its length: ten times as long would be an hour otherwise."""
    assert parse_verdict("Therefore " + flood * 100_000, TAGS, mode).choice is None


@pytest.mark.parametrize("number", ["0", "3", "10", "9" * 5000, "\u0663"])
def test_another_number_is_no_response(number: str) -> None:
    text = f"Therefore Answer {number} is better"
    assert judged_answer(text) == "other"
    assert parse_verdict(text, TAGS, "vl-rewardbench").choice is None


@pytest.mark.parametrize("mode", FORMS)
@given(text=st.text() | TAG_SOUP)
def test_no_text_raises_in_a_benchmarks_form(mode: FormatMode, text: str) -> None:
    verdict = parse_verdict(text, TAGS, mode)
    assert verdict.choice in (1, 2, None)
    assert not verdict.well_formed or verdict.choice is not None


def test_loose_reads_an_answer_of_sixty_characters_and_none_that_is_longer() -> None:
    for length, choice in ((60, 1), (61, None)):
        answer = f"**1{'*' * (length - 3)}"
        trace = f"<think>a</think><answer>{answer}</answer>"
        assert len(answer) == length
        assert parse_verdict(trace, TAGS, "loose").choice == choice
