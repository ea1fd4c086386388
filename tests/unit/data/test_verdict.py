"""The parser against traces written by hand, in both modes."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1reward.data.prompt import Tags
from r1reward.data.verdict import compose_trace, parse_verdict
from r1reward.recipe.choices import FormatMode
from r1reward.types import Slot, Verdict

MODES: tuple[FormatMode, ...] = get_args(FormatMode)
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
    "empty analysis": ("<think></think><answer>1</answer>", Verdict(None, 1, True), None),
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


@given(text=TAG_SOUP)
def test_what_strict_reads_tolerant_reads_the_same(text: str) -> None:
    strict, tolerant = (parse_verdict(text, TAGS, mode) for mode in ("strict", "tolerant"))
    if strict.choice is not None:
        assert tolerant.choice == strict.choice
    assert tolerant.well_formed or not strict.well_formed


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tags", [TAGS, Tags("analysis", "verdict")], ids=["default", "renamed"])
@given(
    analysis=st.text().filter(lambda text: "<" not in text),
    choice=st.sampled_from([1, 2]),
)
def test_a_composed_trace_is_read_back(
    mode: FormatMode, tags: Tags, analysis: str, choice: Slot
) -> None:
    verdict = parse_verdict(compose_trace(analysis, choice, tags), tags, mode)
    assert verdict == Verdict(analysis.strip() or None, choice, True)
