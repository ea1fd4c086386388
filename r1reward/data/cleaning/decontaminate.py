"""Training pairs that leak the rows of a benchmark.

A pair leaks a row by its text or by an image:

- exact text: the question and both responses are equal in normal form, in either order.
- near text: the question and both responses are similar; or the question and one response are
  (``text="one"``), for who has trained on one answer to a question knows half of the row.
- exact image: an image has the same bytes or the same pixels as an image of the row.
- near image: re-encoded, resized, slightly cropped or made grey.

A question alone is no leak: "Describe this image in detail." is asked of a third of VL-RewardBench.
Responses of few words coincide too ("There are two people in the image."), so where both pairs show
images, a text whose similar responses have fewer than ``min_words`` words leaks only if an image
agrees. Without images (or with ``image="off"``) nothing speaks against a short text, and it counts.
An image alone is a leak, as its answers are in the benchmark; ``image_alone=False`` asks for a similar
question too, for sources that share public photos.

The index holds the benchmarks; pairs are looked up one by one, in memory that does not grow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Literal, get_args

from r1reward.data.cleaning.image_match import ImageIndex, ImageMatch
from r1reward.data.cleaning.text_match import ShingleIndex, jaccard, normalise, shingles, words_of
from r1reward.recipe.choices import SimilarImages, SimilarTexts
from r1reward.types import PreferencePair

LeakKind = Literal["exact-text", "near-text", "exact-image", "near-image"]
NUM_EXAMPLES = 20
UNNAMED = "unnamed"


@dataclass(frozen=True)
class LeakSettings:
    """How strict to be. Similarities are Jaccard similarities of word trigrams.

    ``max_residual`` bounds what may differ in an image (``image_match.residual``), of those whose
    perceptual hashes differ in at most ``max_hash_distance`` of 64 bits.
    """

    text: SimilarTexts = "one"
    image: SimilarImages = "near"
    image_alone: bool = True
    question_similarity: float = 0.7
    response_similarity: float = 0.7
    min_words: int = 50
    max_hash_distance: int = 20
    max_residual: float = 0.3

    def __post_init__(self) -> None:
        for name in ("question_similarity", "response_similarity"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0, at most 1")
        if self.text == self.image == "off":
            raise ValueError("text and image are both off, so nothing is compared; turn one on")


@dataclass(frozen=True)
class Leak:
    """A benchmark's row that a pair gives away: the benchmark, the row's file and number, and its
    ``pair_id``.

    ``similarity`` of texts is the mean over question and responses; of images, 1 less the residual.
    """

    kind: LeakKind
    similarity: float
    benchmark: str
    origin: str
    key: str


@dataclass(frozen=True)
class Text:
    """What is compared of one text; ``normal`` is its normal form."""

    normal: str
    shingles: frozenset[str]
    num_words: int

    @classmethod
    def of(cls, text: str) -> Text:
        """Returns what is compared of ``text``."""
        normal = normalise(text)
        return cls(normal, shingles(normal), len(words_of(normal)))

    def similarity(self, other: Text) -> float:
        """Returns 1 for texts that are equal in normal form, else their Jaccard similarity."""
        return 1.0 if self.normal == other.normal else jaccard(self.shingles, other.shingles)


@dataclass(frozen=True)
class Row:
    """A benchmark's row in the index; no image is kept but in the image index."""

    benchmark: str
    origin: str
    key: str
    question: Text
    responses: tuple[Text, Text]

    def leak(self, kind: LeakKind, similarity: float) -> Leak:
        """Returns a leak of this row."""
        return Leak(kind, similarity, self.benchmark, self.origin, self.key)


@dataclass(frozen=True)
class BenchmarkIndex:
    """The rows of the benchmarks, to look pairs up in."""

    settings: LeakSettings
    rows: tuple[Row, ...]
    rows_with_images: frozenset[int]
    texts: ShingleIndex
    images: ImageIndex | None

    @classmethod
    def build(cls, pairs: Iterable[PreferencePair], settings: LeakSettings) -> BenchmarkIndex:
        """Returns the index of the benchmarks' rows; a pair's ``source`` names its benchmark.

        Raises ``ValueError`` for an unreadable image.
        """
        pairs = tuple(pairs)
        rows = tuple(
            Row(
                benchmark=pair.source or UNNAMED,
                origin=pair.origin,
                key=pair.pair_id,
                question=Text.of(pair.question),
                responses=(Text.of(pair.response_1), Text.of(pair.response_2)),
            )
            for pair in pairs
        )
        texts = ShingleIndex(settings.response_similarity)
        for index, row in enumerate(rows):
            for slot, response in enumerate(row.responses):
                texts.add((index, slot), response.shingles)
        if settings.image == "off":
            return cls(settings, rows, frozenset(), texts, None)
        images = ImageIndex(
            ((index, image) for index, pair in enumerate(pairs) for image in pair.images),
            settings.image,
            settings.max_hash_distance,
            settings.max_residual,
        )
        shown = frozenset().union(*images.rows_of.values())
        return cls(settings, rows, shown, texts, images)

    def leaks(self, pair: PreferencePair) -> list[Leak]:
        """Returns every row that the pair leaks, by text and by image: texts first, then by row.

        Raises ``ValueError`` for an unreadable image.
        """
        shows_images, matches = self.match_images(pair)
        question = Text.of(pair.question)
        leaks = []
        if self.settings.text != "off":
            leaks = self.text_leaks(pair, question, shows_images, matches)
        for index, match in sorted(matches.items()):
            row = self.rows[index]
            if self.settings.image_alone or self.asks_the_same(row, question):
                kind: LeakKind = "exact-image" if match.exact else "near-image"
                leaks.append(row.leak(kind, match.similarity))
        return leaks

    def match_images(self, pair: PreferencePair) -> tuple[bool, Mapping[int, ImageMatch]]:
        """Returns whether the pair shows anything, and the best match of each row that one of its
        images has.
        """
        if self.images is None:
            return False, {}
        found = [self.images.find(image) for image in pair.images]
        best: dict[int, ImageMatch] = {}
        for match in chain.from_iterable(filter(None, found)):
            known = best.get(match.row, match)
            best[match.row] = max(known, match, key=lambda one: (one.exact, one.similarity))
        return any(matches is not None for matches in found), best

    def text_leaks(
        self,
        pair: PreferencePair,
        question: Text,
        shows_images: bool,
        matches: Mapping[int, ImageMatch],
    ) -> list[Leak]:
        """Returns the rows that the pair leaks by its texts, in the order of the rows."""
        responses = (Text.of(pair.response_1), Text.of(pair.response_2))
        candidates = {key[0] for text in responses for key in self.texts.propose(text.shingles)}
        leaks = []
        for index in sorted(candidates):
            row = self.rows[index]
            images_differ = shows_images and index in self.rows_with_images and index not in matches
            least_words = self.settings.min_words if images_differ else 0
            if sum(text.num_words for text in row.responses) < least_words:
                continue
            if (leak := self.text_leak(row, question, responses, least_words)) is not None:
                leaks.append(leak)
        return leaks

    def text_leak(
        self, row: Row, question: Text, responses: tuple[Text, Text], least_words: int
    ) -> Leak | None:
        """Returns the row's leak by its texts, under the better assignment of the responses; None if it
        leaks nothing.
        """
        if not self.asks_the_same(row, question):
            return None
        asked = question.similarity(row.question)
        similarities = max(
            (
                tuple(a.similarity(b) for a, b in zip(row.responses, ordered, strict=True))
                for ordered in (responses, responses[::-1])
            ),
            key=lambda both: (max(both) if self.settings.text == "one" else min(both), sum(both)),
        )
        similar = [
            text
            for text, similarity in zip(row.responses, similarities, strict=True)
            if similarity >= self.settings.response_similarity
        ]
        if len(similar) < (1 if self.settings.text == "one" else 2):
            return None
        if sum(text.num_words for text in similar) < least_words:
            return None
        texts = {text.normal for text in responses}
        is_exact = question.normal == row.question.normal and texts == {
            text.normal for text in row.responses
        }
        return row.leak("exact-text" if is_exact else "near-text", (asked + sum(similarities)) / 3)

    def asks_the_same(self, row: Row, question: Text) -> bool:
        """Returns whether two questions are similar enough."""
        return question.similarity(row.question) >= self.settings.question_similarity


@dataclass
class LeakReport:
    """Counts of the pairs that leak, by kind and benchmark, and the first examples of each kind."""

    num_pairs: int = 0
    num_leaking: int = 0
    num_pairs_by_kind: dict[str, Counter[LeakKind]] = field(default_factory=dict)
    leaked_rows: dict[str, set[str]] = field(default_factory=dict)
    examples: dict[LeakKind, list[dict[str, object]]] = field(
        default_factory=lambda: {kind: [] for kind in get_args(LeakKind)}
    )

    def add(self, pair: PreferencePair, leaks: Iterable[Leak]) -> None:
        """Counts one pair and its leaks."""
        leaks = list(leaks)
        self.num_pairs += 1
        self.num_leaking += bool(leaks)
        for benchmark, kind in {(leak.benchmark, leak.kind) for leak in leaks}:
            self.num_pairs_by_kind.setdefault(benchmark, Counter())[kind] += 1
        for leak in leaks:
            self.leaked_rows.setdefault(leak.benchmark, set()).add(leak.key)
            examples = self.examples[leak.kind]
            if len(examples) < NUM_EXAMPLES:
                shown = {"pair_origin": pair.origin, "pair_id": pair.pair_id}
                examples.append(shown | {"question": pair.question, "leak": asdict(leak)})

    def to_json(self) -> dict[str, object]:
        """Counts of pairs by benchmark and kind, of distinct benchmark rows, and examples."""
        by_benchmark = sorted(self.num_pairs_by_kind.items())
        return {
            "num_pairs": self.num_pairs,
            "num_leaking": self.num_leaking,
            "num_pairs_by_kind": {
                name: dict(sorted(kinds.items())) for name, kinds in by_benchmark
            },
            "num_rows_leaked": {name: len(keys) for name, keys in sorted(self.leaked_rows.items())},
            "examples": self.examples,
        }
