"""The sections of a recipe for the stages around RL: cold start, selection, final evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

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


class VllmTeacher(Section):
    """A teacher in engines of this cluster."""

    type: Literal["vllm"]
    path: str = Field(description="a Hugging Face folder or name, or 'shapes'")
    num_actors: PositiveInt = 1
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
    noise_easy: Share = 0.05
    noise_medium: Share = 0.25
    noise_hard: Share = 0.5
    max_concurrent: PositiveInt = 16


Teacher = Annotated[EndpointTeacher | VllmTeacher | ShapesTeacher, Field(discriminator="type")]


class AnnotateSection(Section):
    """Cold start: a teacher writes analysis and answer for training pairs.

    Temperature 1 as in the published descriptions of the method; at 0 attempts are hardly independent.
    """

    teacher: Teacher
    prompt: PromptSection | None = Field(
        default=None, description="how the teacher is asked; None: as the policy is"
    )
    temperature: float = Field(default=1.0, ge=0)
    max_attempts: PositiveInt = Field(
        default=3, description="attempts at a pair until the teacher agrees with its label"
    )
    max_tokens: PositiveInt = Field(default=1024, description="of one attempt")
    requests_per_minute: float | None = Field(
        default=None, gt=0, description="the teacher's limit, retries included"
    )
    price_per_million_prompt_tokens: float | None = Field(default=None, ge=0)
    price_per_million_completion_tokens: float | None = Field(default=None, ge=0)
    max_cost: float | None = Field(
        default=None,
        gt=0,
        description="stop before the attempts cost more, in the prices' currency",
    )

    @model_validator(mode="after")
    def cost_can_be_told(self) -> AnnotateSection:
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
        return self

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

    num_traces: PositiveInt | None = Field(
        default=None, description="how many agreeing traces are learned, drawn by seed; None: all"
    )
    num_epochs: PositiveInt = 1
    batch_size: PositiveInt = 256
    lr: float = Field(default=1e-5, gt=0)
    warmup_share: Share = 0.03
    min_lr_ratio: Share = 0.1
    well_formed_only: bool = Field(
        default=True, description="leave out agreeing traces that break the form or were cut off"
    )
    heldout_share: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="share of the agreeing pairs whose traces only measure the validation loss",
    )
    max_heldout: PositiveInt = Field(default=512, description="traces of the validation loss")
    evaluate_every: PositiveInt = Field(default=50, description="steps between validation losses")
    checkpoint_every: PositiveInt = 50
    keep_checkpoints: PositiveInt = 1


class Selection(Section):
    """What every selection can limit."""

    num_pairs: PositiveInt | None = Field(
        default=None, description="at most this many of the pairs that qualify, drawn by seed"
    )
    quotas: dict[str, PositiveInt] | None = Field(
        default=None,
        description="at most this many pairs of each source; sources that are not named are left out",
    )


Level = PositiveInt | Literal["failed"]


class AttemptsSelection(Selection):
    """By the teacher's number of attempts. The paper's rule: two or more, and failed."""

    type: Literal["attempts"]
    levels: tuple[Level, ...] = Field(default=(2, 3, "failed"), min_length=1)


class RecordedSelection(Selection):
    """By the difficulty that the data itself records."""

    type: Literal["recorded"]
    levels: tuple[int, ...] = Field(min_length=1)


class PassRateSelection(Selection):
    """By how often the policy that RL starts from is right, over both orders of a pair."""

    type: Literal["pass_rate"]
    samples: PositiveInt = Field(
        default=8, description="answers a pair, half of them in each order"
    )
    min_rate: Share = 0.0
    max_rate: Share = Field(default=0.9, description="pairs that are right more often are left out")

    @model_validator(mode="after")
    def rates_in_order(self) -> PassRateSelection:
        if self.min_rate > self.max_rate:
            raise ValueError(
                f"select.min_rate ({self.min_rate}) is above select.max_rate ({self.max_rate}): "
                "no pair could be selected; swap them"
            )
        return self


SelectSection = Annotated[
    AttemptsSelection | RecordedSelection | PassRateSelection, Field(discriminator="type")
]


class FinalSection(EvaluateSection):
    """The last stage: every model of the pipeline on the same benchmarks."""

    samples: PositiveInt = Field(default=15, description="K of voting@K: samples of a row")
    benches: tuple[BenchSection, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def benches_differ(self) -> FinalSection:
        names = [bench.name for bench in self.benches]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"final.benches names {name} twice: remove one of them")
        return self
