"""What is worth saying of pairs that are kept: one that stands there with both labels, two responses that
a model cannot tell apart.
"""

from array import array
from collections.abc import Iterable

import numpy as np

from r1reward.data.stores.key_set import KeySet
from r1reward.data.stores.row_files import Row

CONTRADICTS = "contradicts an earlier pair"
ALIKE = "responses differ in white space only"


def are_alike(response_1: str, response_2: str) -> bool:
    """Returns whether two responses are the same but for white space."""
    return response_1.split() == response_2.split()


def contradicted(keys: Iterable[tuple[str, str]]) -> list[bool]:
    """Returns of every pair whether another one says the opposite. Each is given by its key and the key
    that it would have with the other label.
    """
    own, opposite = array("Q"), array("Q")
    for key, other in keys:
        own.append(int(key, 16))
        opposite.append(int(other, 16))
    return [bool(value) for value in np.isin(np.asarray(own), np.asarray(opposite))]


class Remarks:
    """Says what is worth saying of rows as they pass."""

    def __init__(self) -> None:
        self.seen = KeySet()

    def of(self, row: Row, key: str, opposite: str) -> list[str]:
        """Returns the remarks on a row that ``check_row`` passed."""
        remarks = {
            CONTRADICTS: opposite in self.seen,
            ALIKE: are_alike(row["response_1"], row["response_2"]),
        }
        self.seen.add(key)
        return [remark for remark, holds in remarks.items() if holds]
