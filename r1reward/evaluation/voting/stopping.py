"""When the vote of a row is settled: the rule that adaptive voting stops by, and what it costs.

The question is always what the majority of all K samples will be. The samples still to come are taken
as readable and as draws from an urn (Polya) that holds one ball for each response and one more for
every vote so far: the posterior predictive of a uniform prior, a beta-binomial. Rows that crowd at
50 % are no uniform prior, so the error that is allowed is not held against this chance itself: the
largest chance is taken under which a row of *any* share errs no more often than allowed
(``stopping_chance``). The rule never looks at the label.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import comb

import numpy as np

from r1reward.types import Slot

Tally = tuple[int, int, int]  # samples for response 1, for response 2, unreadable
# Of votes for the response that has more of them; the other half mirrors it.
SHARES = np.linspace(0.5, 1.0, 51)


@cache
def chance_of_change(leading: int, trailing: int, num_left: int) -> Fraction:
    """Returns the probability that ``num_left`` votes more undo a lead, to a tie or beyond. Exact.

    k of them go to the trailing side with C(trailing + k, k) C(leading + left - k, left - k) of
    C(leading + trailing + left + 1, left) ways. It is 0 only where the lead is larger than what is left.
    """
    assert leading > trailing
    least = (leading - trailing + num_left + 1) // 2
    ways = sum(
        comb(trailing + k, k) * comb(leading + num_left - k, num_left - k)
        for k in range(least, num_left + 1)
    )
    return Fraction(ways, comb(leading + trailing + num_left + 1, num_left))


@cache
def stopping_chance(num_samples: int, error: float) -> Fraction:
    """Returns the chance of a change up to which a vote of K counts as settled.

    The largest one with which the verdict of no row, whatever its share of votes, differs from that of
    all K samples with a probability above ``error``. 0 where there is none: a vote is then settled once
    it cannot change.
    """
    chances = {
        chance_of_change(leading, drawn - leading, num_samples - drawn)
        for drawn in range(1, num_samples)
        for leading in range(drawn // 2 + 1, drawn + 1)
    }
    allowed = sorted(chance for chance in chances if 0 < chance <= error)
    # A larger chance stops more rows, so the worst error rises with it.
    num_kept = bisect_right(allowed, error, key=lambda chance: worst_error(num_samples, chance))
    return allowed[num_kept - 1] if num_kept else Fraction(0)


def worst_error(num_samples: int, chance: Fraction) -> float:
    """Returns how often stopping at this chance of a change gives another verdict than all K samples, for
    rows of the share of votes where that is most often.

    Exact for each of 51 shares: the distribution of votes is followed sample by sample, apart for rows
    that go on and for those that stopped with either response in the lead. A tie is another verdict.
    """
    going = np.zeros((len(SHARES), num_samples + 1))
    going[:, 0] = 1.0
    stopped_1, stopped_2 = np.zeros_like(going), np.zeros_like(going)
    for drawn in range(1, num_samples + 1):
        going, stopped_1, stopped_2 = map(one_more_vote, (going, stopped_1, stopped_2))
        for for_1 in range(drawn + 1):
            leading, trailing = max(for_1, drawn - for_1), min(for_1, drawn - for_1)
            if leading > trailing and (
                chance_of_change(leading, trailing, num_samples - drawn) <= chance
            ):
                stopped = stopped_1 if for_1 == leading else stopped_2
                stopped[:, for_1] += going[:, for_1]
                going[:, for_1] = 0.0
    votes = np.arange(num_samples + 1)
    errors = stopped_1[:, 2 * votes <= num_samples].sum(axis=1)
    errors += stopped_2[:, 2 * votes >= num_samples].sum(axis=1)
    return float(errors.max())


def one_more_vote(odds: np.ndarray) -> np.ndarray:
    """Returns the odds [S, K + 1] of every number of votes for response 1 after one more sample."""
    share = SHARES[:, None]
    following = odds * (1 - share)
    following[:, 1:] += odds[:, :-1] * share
    return following


def settled(tally: Tally, num_samples: int, error: float) -> bool:
    """Returns whether the majority of K samples is as good as known: stopping now gives another verdict
    for at most this share of rows of any kind.

    ``error`` = 0: where it cannot change any more, nor become a tie. A tie is settled by K only.
    """
    num_left = num_samples - sum(tally)
    leading, trailing = max(tally[:2]), min(tally[:2])
    if not num_left or leading == trailing:
        return not num_left
    return chance_of_change(leading, trailing, num_left) <= stopping_chance(num_samples, error)


def next_samples(votes: Sequence[Slot | None], num_samples: int, error: float) -> int:
    """Returns how many of the K samples of a row to ask for now, after these; 0: the vote is settled.

    The smallest number that settles the vote if all are for the response in the lead. No other
    answers could settle it sooner, so asking for them at once takes no sample more than asking for
    one at a time. Raises ``ValueError`` if ``error`` is not in [0, 0.5).
    """
    if not 0 <= error < 0.5:
        raise ValueError(f"the error allowed to adaptive voting is in [0, 0.5), not {error}")
    num_left = num_samples - len(votes)
    assert num_left >= 0, "a row has no more than K samples"
    one, two, unreadable = tally(votes)
    leading, trailing = max(one, two), min(one, two)
    return next(
        more
        for more in range(num_left + 1)
        if settled((leading + more, trailing, unreadable), num_samples, error)
    )


def tally(votes: Sequence[Slot | None]) -> Tally:
    """Returns the votes for response 1, for response 2, and the unreadable ones."""
    return votes.count(1), votes.count(2), votes.count(None)


def samples_needed(votes: Sequence[Slot | None], error: float) -> int:
    """Returns how many of all K votes of a row, in their sequence, adaptive voting would have asked
    for.
    """
    num_drawn = 0
    while more := next_samples(votes[:num_drawn], len(votes), error):
        num_drawn += more
    return num_drawn


@cache
def expected_samples(counts: tuple[float, float, float], error: float) -> float:
    """Returns the mean number of samples until the vote is settled if K samples come in random sequence.

    ``counts`` of K samples: for response 1, for response 2, unreadable; they may be estimates, hence
    not whole. Without an error and unreadable samples it is r (K + 1) / (a + 1), the negative
    hypergeometric mean, where a >= r = K // 2 + 1 is the majority; a tie takes all K.
    """
    num_samples = round(sum(counts))
    expected = 0.0
    reached: dict[Tally, float] = {(0, 0, 0): 1.0}
    for _ in range(num_samples):
        following: dict[Tally, float] = defaultdict(float)
        for state, odds in reached.items():
            if settled(state, num_samples, error):
                continue
            expected += odds
            left = [max(0.0, count - drawn) for count, drawn in zip(counts, state, strict=True)]
            for kind, num_left in enumerate(left):
                if num_left:
                    following[step(state, kind, 1)] += odds * num_left / sum(left)
        reached = following
    return expected


def shares_at_stop(stop: Tally, num_samples: int, error: float) -> tuple[float, float, float]:
    """Returns unbiased estimates of a row's shares (for 1, for 2, unreadable) from where its vote
    stopped.

    The shares of the samples drawn are biased towards the winner, whose vote ended the draw. Unbiased
    is the share of the sequences leading here that begin with each kind (Girshick, Mosteller and Savage
    1946). Without an error and unreadable samples that is (r - 1) / (n - 1) for the winner, after n
    samples and r = K // 2 + 1 votes for it.
    """
    begun = num_sequences(stop, num_samples, error)
    one, two, unreadable = (count / sum(begun) for count in begun)
    return one, two, unreadable


@cache
def num_sequences(stop: Tally, num_samples: int, error: float) -> Tally:
    """Returns the number of sequences of samples that end here unsettled before, by their first kind."""
    if sum(stop) == 1:
        return stop
    begun = [0, 0, 0]
    for kind in range(3):
        before = step(stop, kind, -1)
        if before[kind] >= 0 and not settled(before, num_samples, error):
            for first, count in enumerate(num_sequences(before, num_samples, error)):
                begun[first] += count
    return begun[0], begun[1], begun[2]


def step(state: Tally, kind: int, change: int) -> Tally:
    """Returns the tally with one sample of a kind more or less."""
    one, two, unreadable = (n + change * (kind == index) for index, n in enumerate(state))
    return one, two, unreadable
