"""When two texts say the same: normal form, shingles, and MinHash to find the likely ones.

MinHash only proposes; what counts is the exact Jaccard similarity of the shingle sets, so that a
collision in the index never becomes a match.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterable
from functools import lru_cache

from datasketch import MinHash, MinHashLSH

SHINGLE_WORDS = 3
NUM_PERMUTATIONS = 128
# Of two texts that are exactly as similar as the threshold, the index proposes at least this share.
LEAST_RECALL = 0.99

# Where an image stands in a question is a matter of the source, not of what is asked.
PLACEHOLDER = re.compile(r"<\|?/?(?:image|video)[ _-]?\w*\|?>", re.IGNORECASE)
# Scripts without spaces between words (Thai to Lao, Khmer, Chinese, Japanese): a character is a word.
UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def normalise(text: str) -> str:
    """Returns a form that is equal for texts that differ in case, spacing, punctuation, symbols or
    Unicode form.

    A text of nothing but punctuation keeps it, so that "+" and "-" stay different answers.
    """
    folded = decomposed(PLACEHOLDER.sub(" ", text))
    words = "".join(map(kept_character, folded)).split()
    return unicodedata.normalize("NFC", " ".join(words or folded.split()))


def decomposed(text: str) -> str:
    """Returns the text case-folded and in NFKD. Folding makes more to decompose, hence twice."""
    for _ in range(2):
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return text


@lru_cache(maxsize=4096)
def kept_character(character: str) -> str:
    """Returns what stands for a character: nothing for an invisible one, a space for punctuation,
    symbols and controls.
    """
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    return " " if category[0] in "PSZC" else character


def words_of(normalised: str) -> list[str]:
    """Returns the words of a text in normal form."""
    return WORD.findall(normalised)


def shingles(normalised: str) -> frozenset[str]:
    """Returns all runs of three words; of a shorter text its words as one. The set is never empty."""
    words = words_of(normalised)
    if len(words) <= SHINGLE_WORDS:
        return frozenset((" ".join(words),))
    last = len(words) - SHINGLE_WORDS + 1
    return frozenset(" ".join(words[i : i + SHINGLE_WORDS]) for i in range(last))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Returns the size of the intersection over that of the union of two sets that are not both empty."""
    common = len(first & second)
    return common / (len(first) + len(second) - common)


def lsh_bands(threshold: float) -> tuple[int, int]:
    """Returns the number of bands and of rows a band: the most selective split that keeps
    ``LEAST_RECALL`` at the threshold.

    A pair with Jaccard similarity s is proposed with probability 1 - (1 - s^rows)^bands.
    """
    for rows in range(NUM_PERMUTATIONS // 2, 1, -1):
        bands = NUM_PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= LEAST_RECALL:
            return bands, rows
    return NUM_PERMUTATIONS, 1


class ShingleIndex:
    """Sets of shingles by (row, slot); proposes the keys of those that are likely similar to a set."""

    def __init__(self, threshold: float) -> None:
        self.empty = MinHash(NUM_PERMUTATIONS, hashfunc=zlib.crc32)
        self.lsh = MinHashLSH(num_perm=NUM_PERMUTATIONS, params=lsh_bands(threshold))

    def add(self, key: tuple[int, int], shingle_set: Iterable[str]) -> None:
        """Adds a set of shingles under a key of (row, slot)."""
        self.lsh.insert(key, self.sketch(shingle_set))

    def propose(self, shingle_set: Iterable[str]) -> list[tuple[int, int]]:
        """Returns the keys of the sets that are likely similar."""
        return list(self.lsh.query(self.sketch(shingle_set)))

    def sketch(self, shingle_set: Iterable[str]) -> MinHash:
        """Returns the MinHash of a set of shingles."""
        sketch = self.empty.copy()
        sketch.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in shingle_set])
        return sketch
