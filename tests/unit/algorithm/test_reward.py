"""The reward table of the paper, and that nothing unread or unjudged ever earns."""

from typing import get_args

import pytest

from r1reward.algorithm.reward import is_right, reward_positions, score
from r1reward.recipe.sections import RewardSection
from r1reward.types import JudgeWord, Order, RolloutRequest, ScoredRollout, Slot, Verdict
from tests.fakes import make_pair, make_prompt, make_rollout

SIGNED = RewardSection()
BINARY = RewardSection(consistency_range="binary")
JUDGE_WORDS: tuple[JudgeWord, ...] = get_args(JudgeWord)


def verdict(choice: Slot | None, well_formed: bool) -> Verdict:
    return Verdict("Response 1 is better.", choice, well_formed)


@pytest.mark.parametrize(
    ("choice", "word", "plain", "with_format"),
    [
        (2, "match", 0.0, 0.5),
        (1, "mismatch", 0.5, 1.0),
        (1, "undecided", 1.0, 1.5),
        (1, "match", 1.5, 2.0),
        (1, "abstain", 1.0, 1.5),
        (1, "skipped", 1.0, 1.5),
    ],
)
def test_totals_are_the_papers_table(
    choice: Slot, word: JudgeWord, plain: float, with_format: float
) -> None:
    assert score(verdict(choice, False), 1, word, SIGNED).total == plain
    assert score(verdict(choice, True), 1, word, SIGNED).total == with_format


@pytest.mark.parametrize(
    ("word", "total"), [("mismatch", 1.0), ("undecided", 1.0), ("match", 1.5), ("abstain", 1.0)]
)
def test_in_the_binary_range_a_mismatch_earns_what_an_undecided_one_earns(
    word: JudgeWord, total: float
) -> None:
    assert score(verdict(1, False), 1, word, BINARY).total == total


@pytest.mark.parametrize("settings", [SIGNED, BINARY], ids=["signed", "binary"])
@pytest.mark.parametrize("well_formed", [False, True])
def test_a_wrong_answers_reward_does_not_depend_on_the_judge(
    settings: RewardSection, well_formed: bool
) -> None:
    totals = {score(verdict(2, well_formed), 1, w, settings).total for w in JUDGE_WORDS}
    assert totals == {0.5 if well_formed else 0.0}


@pytest.mark.parametrize("label", [1, 2])
@pytest.mark.parametrize("word", JUDGE_WORDS)
def test_an_answer_that_cannot_be_read_earns_nothing(label: Slot, word: JudgeWord) -> None:
    reward = score(Verdict(None, None, False), label, word, SIGNED)
    assert (reward.total, reward.result, reward.format) == (0.0, 0.0, 0.0)
    assert not is_right(Verdict(None, None, False), label)


@pytest.mark.parametrize("word", ["abstain", "skipped"])
def test_a_judge_that_gave_no_word_leaves_consistency_out(word: JudgeWord) -> None:
    reward = score(verdict(1, True), 1, word, SIGNED)
    assert reward.consistency is None
    assert reward.total == score(verdict(1, True), 1, "undecided", SIGNED).total
    assert reward.judge_word == word


@pytest.mark.parametrize(
    ("word", "signed", "binary"),
    [("match", 1.0, 1.0), ("mismatch", -1.0, 0.0), ("undecided", 0.0, 0.0)],
)
def test_parts_are_reported_beside_the_total(word: JudgeWord, signed: float, binary: float) -> None:
    wrong = score(verdict(2, True), 1, word, SIGNED)
    assert (wrong.result, wrong.consistency, wrong.format) == (0.0, signed, 1.0)
    right = score(verdict(1, False), 1, word, BINARY)
    assert (right.result, right.consistency, right.format) == (1.0, binary, 0.0)


def test_the_label_may_be_in_either_slot() -> None:
    assert is_right(verdict(2, True), 2)
    assert not is_right(verdict(1, True), 2)


def test_weights_scale_their_terms() -> None:
    settings = RewardSection(consistency_weight=0.25, format_weight=2.0)
    assert score(verdict(1, True), 1, "match", settings).total == 3.25
    assert score(verdict(1, True), 1, "mismatch", settings).total == 2.75


def scored(number: int, order: Order, sample: int, right: bool) -> ScoredRollout:
    prompt = make_prompt(make_pair(number), order)
    choice: Slot = prompt.label if right else (2 if prompt.label == 1 else 1)
    read = verdict(choice, well_formed=False)
    rollout = make_rollout(RolloutRequest(prompt, sample, 0), "an answer")
    return ScoredRollout(rollout, read, score(read, prompt.label, "skipped", SIGNED))


def test_only_a_sample_that_is_right_in_both_orders_earns_the_position_weight() -> None:
    """Pair 1: sample 0 is right in both, sample 1 in one; pair 2 is right in the other order alone."""
    rollouts = [
        scored(1, "stored", 0, True),
        scored(1, "stored", 1, True),
        scored(1, "swapped", 0, True),
        scored(1, "swapped", 1, False),
        scored(2, "swapped", 0, True),
        scored(2, "stored", 0, False),
    ]
    rewards = [item.reward for item in reward_positions(rollouts, 0.25)]
    assert [reward.position for reward in rewards] == [1, 0, 1, 0, 0, 0]
    assert [reward.total for reward in rewards] == [1.25, 1, 1.25, 0, 1, 0]
