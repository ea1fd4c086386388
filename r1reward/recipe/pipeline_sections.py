"""The sections of a recipe for the stages around RL: cold start, selection, final evaluation."""

from typing import Annotated, Literal

from pydantic import Field

from r1reward.recipe.engine_sections import EngineSection, PolicyEndpoint
from r1reward.recipe.sections import (
    BenchSection,
    EvaluateSection,
    PositiveInt,
    PromptSection,
    Section,
    Share,
)


class EndpointTeacher(PolicyEndpoint):
    """A teacher behind an endpoint: GPT-4o, or a vLLM server."""

    type: Literal["openai"]
    """A teacher behind any OpenAI-compatible endpoint."""


class VllmTeacher(Section):
    """A teacher in engines of this cluster."""

    type: Literal["vllm"]
    """A teacher in vLLM engines of this cluster."""

    path: str
    """The teacher's model: a Hugging Face folder or name, or 'shapes'."""

    num_actors: PositiveInt = 1
    """Number of the teacher's engines."""

    engine: EngineSection = EngineSection()

    @property
    def max_concurrent(self) -> int:
        return self.num_actors * self.engine.max_num_seqs


class ShapesTeacher(Section):
    """The miniature's scripted teacher, served over HTTP on this machine while it is needed.

    It decides wrongly more often the harder a pair is: ``noise`` by the pairs' own measure, from a
    wide gap between the responses (easy) to a narrow one.
    """

    type: Literal["shapes"]
    """The miniature's scripted teacher."""

    noise_easy: Share = 0.05
    """Share of wrong decisions on pairs whose responses differ most."""

    noise_medium: Share = 0.25
    """Share of wrong decisions on pairs in between."""

    noise_hard: Share = 0.5
    """Share of wrong decisions on pairs whose responses differ least."""

    max_concurrent: PositiveInt = 16
    """Most requests that wait for the teacher at the same time."""


Teacher = Annotated[EndpointTeacher | VllmTeacher | ShapesTeacher, Field(discriminator="type")]


class AnnotateSection(Section):
    """Cold start: a teacher writes analysis and answer for training pairs.

    Temperature 1 as in the published descriptions of the method; at 0 attempts are hardly independent.
    """

    teacher: Teacher
    """Who writes the analyses that the cold start learns from."""

    prompt: PromptSection | None = None
    """How the teacher is asked; None: as the policy is."""

    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature of the teacher; at 0 its attempts are hardly independent."""

    max_attempts: PositiveInt = 3
    """Most attempts at a pair until the teacher agrees with its label."""

    max_tokens: PositiveInt = 1024
    """Longest answer of one attempt in tokens."""

    requests_per_minute: float | None = Field(default=None, gt=0)
    """The teacher's rate limit, retries included; None: no limit."""

    price_per_million_prompt_tokens: float | None = Field(default=None, ge=0)
    """Price of a million prompt tokens, in any currency; None: costs are not counted."""

    price_per_million_completion_tokens: float | None = Field(default=None, ge=0)
    """Price of a million tokens of answers, in the same currency; None: costs are not counted."""

    max_cost: float | None = Field(default=None, gt=0)
    """Stop before the attempts cost more than this, in the prices' currency; None: no budget."""

    def check(self) -> None:
        prompt = self.price_per_million_prompt_tokens
        completion = self.price_per_million_completion_tokens
        if (prompt is None) != (completion is None):
            raise ValueError(
                "annotate has one of price_per_million_prompt_tokens and "
                "price_per_million_completion_tokens: give both or neither"
            )
        if self.max_cost is not None and prompt is None:
            raise ValueError(
                "annotate.max_cost needs prices: set price_per_million_prompt_tokens and "
                "price_per_million_completion_tokens, or remove max_cost"
            )

    def cost(self, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
        """None without prices, or where the teacher told no token counts."""
        prompt = self.price_per_million_prompt_tokens
        completion = self.price_per_million_completion_tokens
        if prompt is None or completion is None:
            return None
        if prompt_tokens is None or completion_tokens is None:
            return None
        return (prompt_tokens * prompt + completion_tokens * completion) / 1e6


class SftSection(Section):
    """Supervised fine-tuning on the traces that agree with their labels.

    The learner's other settings (ranks, ZeRO, packing, parts, Adam) are those of ``learner``.
    """

    num_traces: PositiveInt | None = None
    """How many agreeing traces are learned, drawn by seed; None: all."""

    num_epochs: PositiveInt = 1
    """How often every trace is learned."""

    batch_size: PositiveInt = 256
    """Traces of one optimizer step, over all ranks."""

    lr: float = Field(default=1e-5, gt=0)
    """Peak learning rate of AdamW."""

    warmup_share: Share = 0.03
    """Share of all optimizer steps in which the learning rate rises from 0 to its peak; 0: no warm-up."""

    min_lr_ratio: Share = 0.1
    """The learning rate falls by a cosine to this share of its peak; 1: it stays constant."""

    well_formed_only: bool = True
    """Leave out agreeing traces that break the form or were cut off."""

    heldout_share: float = Field(default=0.02, ge=0, lt=1)
    """Share of the agreeing pairs whose traces only measure the validation loss; 0: none."""

    max_heldout: PositiveInt = 512
    """Most traces of the validation loss."""

    evaluate_every: PositiveInt = 50
    """Steps between two validation losses."""

    checkpoint_every: PositiveInt = 50
    """Steps between two checkpoints."""

    keep_checkpoints: PositiveInt = 1
    """How many of the newest checkpoints are kept."""


class Selection(Section):
    """What every selection can limit."""

    num_pairs: PositiveInt | None = None
    """At most this many of the pairs that qualify, drawn by seed; None: all."""

    quotas: dict[str, PositiveInt] | None = None
    """At most this many pairs of each source, and none of sources that are not named; None: no quotas."""


Level = PositiveInt | Literal["failed"]


class AttemptsSelection(Selection):
    """By the teacher's number of attempts. The paper's rule: two or more, and failed."""

    type: Literal["attempts"]
    """By the number of attempts that the teacher needed."""

    levels: tuple[Level, ...] = Field(default=(2, 3, "failed"), min_length=1)
    """Which numbers of attempts qualify; 'failed' is for pairs without an agreeing attempt."""


class RecordedSelection(Selection):
    """By the difficulty that the data itself records."""

    type: Literal["recorded"]
    """By the difficulty that the data records."""

    levels: tuple[int, ...] = Field(min_length=1)
    """Which difficulties qualify."""


class PassRateSelection(Selection):
    """By how often the policy that RL starts from is right, over both orders of a pair."""

    type: Literal["pass_rate"]
    """By how often the policy itself is right."""

    samples: PositiveInt = 8
    """Answers drawn for each pair, half of them in each order."""

    min_rate: Share = 0.0
    """Pairs that are right less often are left out."""

    max_rate: Share = 0.9
    """Pairs that are right more often are left out."""

    def check(self) -> None:
        if self.min_rate > self.max_rate:
            raise ValueError(
                f"select.min_rate ({self.min_rate}) is above select.max_rate ({self.max_rate}): "
                "no pair could be selected; swap them"
            )


SelectSection = Annotated[
    AttemptsSelection | RecordedSelection | PassRateSelection, Field(discriminator="type")
]


class FinalSection(EvaluateSection):
    """The last stage: every model of the pipeline on the same benchmarks."""

    samples: PositiveInt = 15
    """Answers drawn for each row in all: the K of voting@K."""

    benches: tuple[BenchSection, ...] = Field(min_length=1)
    """The benchmarks, each of them with the settings of a bench section."""

    def check(self) -> None:
        super().check()
        names = [bench.name for bench in self.benches]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"final.benches names {name} twice: remove one of them")
