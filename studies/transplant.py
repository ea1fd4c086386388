"""The transplant test: does the answer follow the analysis, or is the analysis decoration?

Each prompt is continued after the analysis of another pair that argues for the response this
prompt's own trace did not choose. A model whose answer follows its analysis changes its answer
(share near 1); one that decides from the pair and writes the analysis beside it does not (near 0).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from r1reward.data.order import derive_seed
from r1reward.data.prompt import Tags, sanitize
from r1reward.data.verdict import parse_verdict
from r1reward.recipe.choices import FormatMode
from r1reward.types import Prompt, Rollout, Slot

Tokenize = Callable[[str], tuple[int, ...]]


@dataclass(frozen=True)
class Trace:
    """An answer that was given, with the prompt it was given to.

    ``consistent``: the judge found that the analysis concludes what was answered.
    """

    prompt: Prompt
    analysis: str | None
    choice: Slot | None
    consistent: bool


@dataclass(frozen=True)
class Transplant:
    """A prompt that ends inside the answer block, and what its borrowed analysis concludes."""

    prompt: Prompt
    opening: str
    conclusion: Slot


@dataclass(frozen=True)
class FollowRate:
    """How often the answer was the analysis's conclusion; an unreadable answer follows nothing."""

    num_transplants: int
    follow_share: float
    unparsed_share: float


def transplant(
    prompt: Prompt, analysis: str, conclusion: Slot, tags: Tags, tokenize: Tokenize
) -> Transplant:
    """The prompt with ``<think>analysis</think><answer>`` already written.

    The prompt's token ids stay as they were and the opening's are added, as in generation. Control
    tokens inside the analysis are defused: it must not bring an image of its own.
    """
    opening = f"<{tags.think}>{sanitize(analysis)}</{tags.think}><{tags.answer}>"
    added = tokenize(opening)
    continued = replace(
        prompt,
        prompt_id=f"{prompt.prompt_id}-transplant",
        text=prompt.text + opening,
        token_ids=prompt.token_ids + added,
        num_tokens=prompt.num_tokens + len(added),
    )
    return Transplant(continued, opening, conclusion)


def build_transplants(
    traces: Sequence[Trace], tags: Tags, tokenize: Tokenize, seed: int
) -> list[Transplant]:
    """One for every readable trace that has a donor; one trace a prompt.

    A donor is a trace about another pair whose analysis the judge found to match its answer, and
    whose answer is the other slot. Which one is drawn depends on the seed and the prompt only.
    """
    donors: dict[Slot, list[Trace]] = {1: [], 2: []}
    for trace in traces:
        if trace.consistent and trace.choice is not None:
            donors[trace.choice].append(trace)
    transplants = []
    for trace in traces:
        prompt, choice = trace.prompt, trace.choice
        if choice is None:
            continue
        conclusion: Slot = 1 if choice == 2 else 2
        own = (prompt.pair, prompt.pair.swapped())
        others = [donor for donor in donors[conclusion] if donor.prompt.pair not in own]
        if not others:
            continue
        donor = random.Random(derive_seed(seed, "transplant", prompt.prompt_id)).choice(others)
        assert donor.analysis is not None, "the judge has read it"
        transplants.append(transplant(prompt, donor.analysis, conclusion, tags, tokenize))
    ids = {item.prompt.prompt_id for item in transplants}
    assert len(ids) == len(transplants), "one trace a prompt"
    return transplants


def follow_rate(
    transplants: Sequence[Transplant], rollouts: Sequence[Rollout], tags: Tags, mode: FormatMode
) -> FollowRate:
    """Compare the continuations with the conclusions; rollouts come in any order, one a prompt.

    Raises ``ValueError`` when there is nothing to compare.
    """
    if not transplants:
        raise ValueError("no transplants: no readable trace has a donor that argues otherwise")
    texts = {rollout.request.prompt.prompt_id: rollout.text for rollout in rollouts}
    assert len(texts) == len(rollouts) == len(transplants), "one continuation a transplant"
    choices = [
        parse_verdict(item.opening + texts[item.prompt.prompt_id], tags, mode).choice
        for item in transplants
    ]
    follows = [choice == item.conclusion for choice, item in zip(choices, transplants, strict=True)]
    return FollowRate(
        num_transplants=len(transplants),
        follow_share=sum(follows) / len(follows),
        unparsed_share=choices.count(None) / len(choices),
    )
