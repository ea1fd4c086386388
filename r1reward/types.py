"""The words of the system. One idea, one word; everything else is built from these.

pair          a question, its images, two responses and which one people preferred
order         which response stands in slot 1: as stored, or swapped
prompt        a pair in one order, rendered and tokenised for the policy
rollout       one sampled analysis-and-answer trace for a prompt
verdict       what the parser read out of a rollout: the analysis and the choice
reward        the parts and the total that a verdict earned
advantage     the normalised, filtered return of every response token
sample        what the learner trains on: token ids and images; in RL, log-probs and advantages
micro-batch   samples padded together for one forward and backward pass
learner       the ranks that hold the optimizer; they publish weights
publish       hand the learner's weights to the object store under a policy version
policy version  number of completed training steps behind a set of weights
lag           training steps between the weights that sampled a rollout and those it trains

Imports the standard library only: reading a recipe must never pay for torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

Slot = Literal[1, 2]
Order = Literal["stored", "swapped"]
FinishReason = Literal["stop", "length"]
# Of a request to a server: refused for what it asks, or failed for other reasons.
AnswerStatus = Literal["answered", "refused", "failed"]
JudgeWord = Literal["match", "mismatch", "undecided", "abstain", "skipped"]
# A folder for the learner's state: a path that every rank sees, or an fsspec URL.
Location = str


@dataclass(frozen=True)
class PreferencePair:
    """A human preference between two responses of a multimodal model.

    ``images`` hold encoded image files (PNG, JPEG, ...), in the order they are shown.
    ``preferred`` says which stored response people preferred. Pairs of one question share a
    ``group``: they are not independent. ``origin`` names the file and row the pair came from, for
    error messages.
    """

    question: str
    images: tuple[bytes, ...]
    response_1: str
    response_2: str
    preferred: Slot
    source: str = ""
    category: str = ""
    group: str = ""
    difficulty: int = 0
    origin: str = ""

    @property
    def pair_id(self) -> str:
        """Hash of the content, so that equal pairs have equal ids wherever they are stored."""
        return self.content_hash(self.response_1, self.response_2, self.preferred)

    @cached_property
    def image_hashes(self) -> tuple[bytes, ...]:
        return tuple(hashlib.sha256(image).digest() for image in self.images)

    def content_hash(self, response_1: str, response_2: str, preferred: Slot) -> str:
        """Returns the ``pair_id`` of these responses to the same question about the same images."""
        digest = hashlib.sha256()
        for part in (self.question, response_1, response_2, str(preferred)):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\x00")
        for image_hash in self.image_hashes:
            digest.update(image_hash)
        return digest.hexdigest()[:16]

    def swapped(self) -> PreferencePair:
        """The same preference with the responses in the other slots."""
        return replace(
            self,
            response_1=self.response_2,
            response_2=self.response_1,
            preferred=1 if self.preferred == 2 else 2,
        )


@dataclass(frozen=True)
class Prompt:
    """A pair in one order, ready for the engines. The answer key travels with it.

    ``token_ids`` is the short form with one pad token an image, which vLLM expands;
    ``num_tokens`` is the length after expansion. ``pair`` is already in this ``order``.
    """

    prompt_id: str
    pair: PreferencePair
    order: Order
    text: str
    token_ids: tuple[int, ...]
    num_tokens: int

    @property
    def label(self) -> Slot:
        return self.pair.preferred

    @property
    def stored_pair(self) -> PreferencePair:
        """The pair as it is stored, whichever order is shown."""
        return self.pair if self.order == "stored" else self.pair.swapped()


@dataclass(frozen=True)
class RolloutRequest:
    """One sample to draw: the prompt, which sample of it this is, and its own seed."""

    prompt: Prompt
    sample_index: int
    seed: int


@dataclass(frozen=True)
class Rollout:
    """One sampled trace. Token ids are the engine's own; nothing is ever re-tokenised.

    ``prompt_token_ids`` is the expanded form (one pad per image feature). ``logprobs`` and
    ``policy_versions`` are per response token, shape [R]. A server behind an endpoint tells no ids:
    the ids are empty then, and ``token_texts`` holds what it calls its tokens. Only a server leaves a
    request without an answer: ``status`` says so, and ``reason`` why.
    """

    request: RolloutRequest
    prompt_token_ids: tuple[int, ...]
    response_token_ids: tuple[int, ...]
    text: str
    logprobs: np.ndarray
    policy_versions: np.ndarray
    finish_reason: FinishReason
    token_texts: tuple[str, ...] = ()
    status: AnswerStatus = "answered"
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a trace says. ``choice`` is None when no answer could be read."""

    analysis: str | None
    choice: Slot | None
    well_formed: bool


@dataclass(frozen=True)
class Reward:
    """Reward = result * (1 + w_c * consistency) + w_f * format (paper, section 4.2).

    ``consistency`` is None when the judge abstained or was not asked. ``position`` is 1 when the pair
    is answered rightly in both orders and None when it is shown in one only.
    """

    total: float
    result: float
    consistency: float | None
    format: float
    judge_word: JudgeWord
    position: float | None = None


@dataclass(frozen=True)
class ScoredRollout:
    rollout: Rollout
    verdict: Verdict
    reward: Reward


@dataclass(frozen=True)
class TraceSample:
    """A trace behind its prompt: all that scoring it, or supervised fine-tuning on it, needs.

    ``images`` is required: a sample that lost its images cannot exist. The prompt is in the expanded
    form (one pad per image feature).
    """

    prompt_token_ids: tuple[int, ...]
    response_token_ids: tuple[int, ...]
    images: tuple[bytes, ...]

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_token_ids) + len(self.response_token_ids)


@dataclass(frozen=True)
class TrainingSample(TraceSample):
    """A sampled trace to reinforce.

    Arrays are per response token, shape [R]. ``old_logprobs`` is None when the learner is to
    take them from its own forward pass (the ratio of that update is then exactly 1).
    ``reference_logprobs`` is None when the run has no reference model.
    """

    rollout_logprobs: np.ndarray
    old_logprobs: np.ndarray | None
    advantages: np.ndarray
    reference_logprobs: np.ndarray | None


@dataclass(frozen=True)
class WeightBucket:
    """A contiguous run of bytes holding whole tensors, and how to read them back."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    checksum: str
    num_bytes: int


@dataclass(frozen=True)
class WeightsHandle:
    """A published set of weights. ``refs`` are object-store references, one a bucket."""

    version: int
    buckets: tuple[WeightBucket, ...]
    refs: tuple[object, ...]

    @property
    def num_bytes(self) -> int:
        return sum(bucket.num_bytes for bucket in self.buckets)


@dataclass(frozen=True)
class StepReport:
    """What one training step did, as it is logged."""

    step: int
    metrics: Mapping[str, float]
