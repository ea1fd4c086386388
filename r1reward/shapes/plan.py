"""What is decided about a pair before its words: which response is verbose, how many errors each has.

Verbosity is independent of the label: the preferred response is the longer one in half of the
pairs where lengths differ, so a judge that follows length is at chance.
"""

import random
from typing import Literal

Verbosity = Literal["preferred", "other", "both", "neither"]

FILLERS = (
    "The picture is bright, calm and very easy to read.",
    "Everything is drawn with care on a plain background.",
    "Each object stands clearly apart from the others.",
)
# Which response carries a filler sentence, in twentieths of all pairs.
VERBOSITY_PLAN: tuple[Verbosity, ...] = (
    *("preferred",) * 7,
    *("other",) * 7,
    *("both",) * 3,
    *("neither",) * 3,
)


def sample_error_counts(num_claims: int, rng: random.Random) -> tuple[int, int]:
    """Returns the numbers of wrong claims in the preferred and the other response; the first is
    smaller.
    """
    num_better = 0 if rng.random() < 0.6 else rng.randint(0, num_claims - 1)
    num_worse = min(num_claims, num_better + rng.choice((1, 1, 2)))
    return num_better, num_worse


def difficulty(num_better: int, num_worse: int) -> int:
    """Returns 1 (hard) if both have errors and differ by one, 2 for one error against none, 3 (easy)
    for a wide gap.
    """
    if num_worse - num_better >= 2:
        return 3
    return 2 if num_better == 0 else 1


def with_filler(listing: str, filler: str | None, filler_first: bool) -> str:
    """Returns the listing with the filler sentence before or behind it, if there is one."""
    if filler is None:
        return listing
    return f"{filler} {listing}" if filler_first else f"{listing} {filler}"
