"""How sure a model was of its answer: the probability of the token that holds the digit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import exp

from r1reward.data.prompt import Tags
from r1reward.data.verdict import answer_spans, read_choice


def answer_confidence(
    token_texts: Sequence[str], logprobs: Sequence[float], tags: Tags
) -> float | None:
    """Returns the probability in [0, 1] of the token that the answer's digit is in, under the sampler's
    log-probs.

    ``token_texts`` and ``logprobs`` [R] are those of the response, in order; the texts joined are the
    trace. A token may hold more than the digit. Of several answer blocks that agree (the tolerant
    parser reads them) it is the first one, where the choice was made. None if no answer can be read.
    """
    assert len(token_texts) == len(logprobs)
    text = "".join(token_texts)
    blocks = list(answer_spans(text, tags))
    choices = {read_choice(text[begin:end]) for begin, end in blocks}
    if len(choices) != 1 or choices == {None}:
        return None
    begin, end = blocks[0]
    position = end - len(text[begin:end].lstrip())
    ends = accumulate(len(text) for text in token_texts)
    holder = next(index for index, end in enumerate(ends) if end > position)
    return min(1.0, exp(logprobs[holder]))
