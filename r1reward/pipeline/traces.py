"""The traces that SFT learns: a teacher's agreeing attempts, encoded when they are needed."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1reward.data.attempts import Annotation, Attempt, read_annotations
from r1reward.data.order import derive_seed
from r1reward.data.prompt import Tags
from r1reward.data.stores.pair_store import LazySequence, distinct_pairs
from r1reward.data.verdict import parse_verdict
from r1reward.errors import InputError
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.pipeline_sections import SftSection
from r1reward.recipe.recipe import Recipe
from r1reward.types import Order, PreferencePair, TraceSample

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenTrace:
    """A teacher's trace: the pair's index in the data, the order it was written for, and the text."""

    pair_index: int
    order: Order
    text: str


@dataclass(frozen=True)
class SftInputs:
    """Everything that can be wrong with the traces has been checked once this exists.

    ``dropped`` counts agreeing traces that cannot be learned, by reason.
    """

    train: LazySequence[WrittenTrace, TraceSample]
    heldout: LazySequence[WrittenTrace, TraceSample]
    dropped: Counter[str]


def load_traces(
    recipe: Recipe,
    sft: SftSection,
    pairs: Sequence[PreferencePair],
    attempts: Path,
    max_attempts: int,
) -> SftInputs:
    """The traces to learn and those that only measure, drawn by seed. Raises ``InputError``."""
    processor = PolicyProcessor(recipe.model)

    def encode(trace: WrittenTrace) -> TraceSample:
        prompt = processor.encode(pairs[trace.pair_index], trace.order, recipe.prompt)
        if prompt.num_tokens > recipe.model.max_prompt_tokens:
            raise InputError(f"{prompt.pair.origin}: longer than model.max_prompt_tokens")
        return processor.encode_trace(prompt, trace.text)

    annotations = read_annotations(attempts, max_attempts)
    tags = Tags(recipe.prompt.think_tag, recipe.prompt.answer_tag)
    dropped: Counter[str] = Counter()
    train: list[tuple[int, WrittenTrace]] = []
    heldout: list[tuple[int, WrittenTrace]] = []
    for index, pair, attempt in agreeing(pairs, annotations):
        if sft.well_formed_only and (attempt.truncated or not attempt.well_formed):
            dropped["badly formed"] += 1
            continue
        if parse_verdict(attempt.text, tags, recipe.prompt.format_mode).analysis is None:
            dropped["without an analysis"] += 1
            continue
        # Pairs of one question stay on one side.
        side = derive_seed(recipe.seed, "sft held out", pair.group or attempt.pair_id) / 2**48
        rank = derive_seed(recipe.seed, "sft", attempt.pair_id)
        trace = WrittenTrace(index, attempt.order, attempt.text)
        (heldout if side < sft.heldout_share else train).append((rank, trace))

    def usable(traces: list[tuple[int, WrittenTrace]], limit: int | None) -> list[WrittenTrace]:
        kept: list[WrittenTrace] = []
        for _, trace in sorted(traces, key=lambda item: item[0]):
            if len(kept) == limit:
                break
            try:
                encode(trace)
            except InputError as error:
                logger.debug("%s", error)
                dropped["too long or not encodable"] += 1
                continue
            kept.append(trace)
        return kept

    learned = usable(train, sft.num_traces)
    measured = usable(heldout, sft.max_heldout)
    if len(learned) < sft.batch_size:
        raise InputError(
            f"{attempts}: {len(learned)} agreeing traces can be learned, fewer than sft.batch_size "
            f"({sft.batch_size}): annotate more pairs, or lower it"
        )
    if sft.num_traces and len(learned) < sft.num_traces:
        logger.warning("sft.num_traces is %d, there are %d", sft.num_traces, len(learned))
    if len(measured) < recipe.learner.num_ranks:
        measured = []  # every rank needs one
    return SftInputs(LazySequence(learned, encode), LazySequence(measured, encode), dropped)


def agreeing(
    pairs: Sequence[PreferencePair], annotations: dict[str, Annotation]
) -> Iterator[tuple[int, PreferencePair, Attempt]]:
    """Every pair once that the teacher agreed with: its index, the pair, the attempt that agrees."""
    for index, pair_id, pair in distinct_pairs(pairs):
        annotation = annotations.get(pair_id)
        if annotation is not None and annotation.agreeing is not None:
            yield index, pair, annotation.agreeing
