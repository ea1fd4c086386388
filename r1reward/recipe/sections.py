"""The sections of a recipe: frozen, unknown keys refused, each checking what it can check alone.

Engines and judge are in ``engine_sections.py``, the learner and its loss in ``learner_sections.py``,
the stages around RL in ``pipeline_sections.py``.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Dtype = Literal["float32", "bfloat16"]
PositiveInt = Annotated[int, Field(ge=1)]
# Of one frame of a video. Pixels and not a model's tokens: frames are cut when rows are read, and two
# models that are compared on a benchmark must see the same ones.
FRAME_PIXELS = 100_352
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelSection(Section):
    """The policy: where its weights are and what fits into it."""

    path: str = Field(
        description="'shapes' (the built-in miniature), a Hugging Face folder or name, or an fsspec URL"
    )
    dtype: Dtype = "bfloat16"
    min_image_tokens: PositiveInt = Field(
        default=4, description="an image of fewer tokens (after merging) is enlarged"
    )
    max_image_tokens: PositiveInt = Field(
        default=640, description="an image of more tokens (after merging) is made smaller"
    )
    max_prompt_tokens: PositiveInt = 20480
    max_new_tokens: PositiveInt = 1024
    max_images: PositiveInt = Field(default=8, description="images (or video frames) of one pair")
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"

    @model_validator(mode="after")
    def image_token_bounds(self) -> ModelSection:
        if self.min_image_tokens > self.max_image_tokens:
            raise ValueError(
                f"model.min_image_tokens ({self.min_image_tokens}) is above model.max_image_tokens "
                f"({self.max_image_tokens}): lower the first or raise the second"
            )
        return self

    @property
    def max_sequence_tokens(self) -> int:
        """Tokens of prompt and response together, at most."""
        return self.max_prompt_tokens + self.max_new_tokens


class ShapesSource(Section):
    """Pairs drawn from the built-in miniature."""

    type: Literal["shapes"]
    split: Literal["train", "heldout", "hard_train", "hard_heldout"]
    num_pairs: PositiveInt
    seed: int = 0


class FileSource(Section):
    """Pairs in a store, a Parquet or a JSONL file; ``num_pairs`` takes the first ones only."""

    type: Literal["file"]
    path: Path
    images: Path | None = Field(default=None, description="folder that image paths are relative to")
    num_pairs: PositiveInt | None = None


Source = Annotated[ShapesSource | FileSource, Field(discriminator="type")]


class DataSection(Section):
    train: Source
    heldout: Source | None = None


class PromptSection(Section):
    template: Literal["standard", "authors", "short"] = "standard"
    think_tag: str = Field(default="think", pattern=r"^[A-Za-z][\w-]*$")
    answer_tag: str = Field(default="answer", pattern=r"^[A-Za-z][\w-]*$")
    format_mode: Literal["strict", "tolerant"] = "strict"

    @model_validator(mode="after")
    def tags_differ(self) -> PromptSection:
        if self.think_tag == self.answer_tag:
            raise ValueError(
                f"prompt.think_tag and prompt.answer_tag are both {self.think_tag!r}: "
                "no trace could be read; make them differ"
            )
        return self


class RewardSection(Section):
    """Reward = result * (1 + w_c * consistency) + w_f * format (paper, section 4.2).

    ``position_weight`` is ours and adds w_p * result * partner's result, off by default.
    """

    consistency_weight: float = Field(default=0.5, ge=0)
    format_weight: float = Field(default=0.5, ge=0)
    position_weight: float = Field(
        default=0.0, ge=0, description="for a pair that is right in both orders; needs both_orders"
    )
    consistency_range: Literal["signed", "binary"] = Field(
        default="signed", description="signed: mismatch is -1, undecided 0; binary: both are 0"
    )
    judged_wrong_share: Share = Field(
        default=0.1,
        description="share of wrong answers still judged, for the metric; never changes a reward",
    )
    max_abstain_share: Share = Field(
        default=0.2, description="a step with a larger share of failed judge calls stops the run"
    )


class TrainSection(Section):
    num_steps: PositiveInt
    max_policy_lag: int = Field(default=0, ge=0, description="0 is synchronous")
    checkpoint_every: PositiveInt = 25
    keep_checkpoints: PositiveInt = 2
    from_rollouts: Path | None = Field(
        default=None, description="train on saved rollouts (Parquet folder) without engines"
    )


OrderMode = Literal["both", "single", "stored", "authors", "random"]


class EvaluateSection(Section):
    """How a model is evaluated."""

    samples: PositiveInt = Field(default=1, description="K of voting@K: samples of a row")
    orders: OrderMode = Field(
        default="both",
        description="both; single: one seeded order a row; stored; authors: preferred response "
        "first; random: a seeded order a sample",
    )
    temperature: float | None = Field(
        default=None, ge=0, description="None: greedy for one sample, 1.0 for several"
    )
    top_p: float = Field(default=1.0, gt=0, le=1)
    adaptive: float | None = Field(
        default=None,
        ge=0,
        lt=0.5,
        description="stop sampling a row once the chance that its vote comes out otherwise is at "
        "most this; 0: once it cannot; None: draw every sample",
    )
    image_off: bool = Field(default=False, description="ask once more with grey images")
    bootstrap_samples: PositiveInt = 10000

    @property
    def sampling_temperature(self) -> float:
        if self.temperature is not None:
            return self.temperature
        return 1.0 if self.samples > 1 else 0.0

    @model_validator(mode="after")
    def samples_differ(self) -> EvaluateSection:
        if self.samples > 2 and self.sampling_temperature == 0:
            raise ValueError(
                f"evaluate.samples is {self.samples} at temperature 0: greedy samples are all alike; "
                "set evaluate.temperature to 1, or evaluate.samples to 1"
            )
        return self


class TrainingEvaluation(EvaluateSection):
    """Held-out evaluation before, during and after training."""

    temperature: float | None = Field(default=1.0, ge=0, description="1.0 is what RL trains")
    every: int = Field(
        default=0, ge=0, description="steps between evaluations; 0: before and after"
    )
    keep_best: Literal["accuracy", "voted", "both_right"] | None = Field(
        default=None, description="export the model of the best evaluation by this to run_dir/best"
    )

    @model_validator(mode="after")
    def best_can_be_told(self) -> TrainingEvaluation:
        if self.keep_best == "both_right" and self.orders != "both":
            raise ValueError(
                f"evaluate.keep_best both_right needs both orders, but evaluate.orders is "
                f"{self.orders}: set one of the two"
            )
        return self


class BenchSection(Section):
    """Rows to evaluate on, and how they are scored."""

    name: Literal[
        "vl-rewardbench",
        "mm-rlhf-rewardbench",
        "multimodal-rewardbench",
        "pairs",
        "shapes",
        "shapes-hard",
    ]
    path: Path | None = Field(default=None, description="the benchmark's file or folder")
    images: Path | None = Field(default=None, description="folder that media paths are relative to")
    missing: Literal["refuse", "drop"] = Field(
        default="refuse", description="rows whose image or video is not there"
    )
    num_rows: PositiveInt | None = Field(default=None, description="the first rows only")
    num_frames: PositiveInt = Field(default=32, description="evenly spaced frames of a video")
    frame_max_pixels: PositiveInt = Field(default=FRAME_PIXELS, description="of one video frame")
    official: bool = Field(default=False, description="add the benchmark's official scoring")


class TrackingSection(Section):
    """Views beside metrics.jsonl. W&B's key is read from the environment, never stored."""

    wandb_project: str | None = None
    tensorboard: bool = False
    samples_every: PositiveInt = Field(default=10, description="steps between shown rollouts")
    num_samples: int = Field(default=8, ge=0, description="rollouts shown each time; 0 for none")


AlertName = Literal[
    "negatives_vanished",
    "slot_drift",
    "length_at_cap",
    "logprob_gap",
    "judge_abstaining",
    "unparsed",
    "entropy_collapse",
    "kl_above_bound",
    "consistent_but_not_better",
    "loss_spike",
]


class AlertsSection(Section):
    """When a step's metrics call for a look; ``runs/alerts.py`` says what each alert means."""

    window: PositiveInt = Field(
        default=5, description="steps that slot_drift and entropy_collapse are averaged over"
    )
    min_slot_1_share: Share = 0.4
    max_slot_1_share: Share = 0.6
    max_truncated_share: Share = 0.2
    max_logprob_gap: float = Field(default=0.015, gt=0, description="mean over tokens, at lag 0")
    max_abstain_share: Share = Field(default=0.05, description="of the judge's calls")
    max_unparsed_share: Share = 0.2
    min_entropy: float | None = Field(
        default=None,
        gt=0,
        description="nats a token, mean over the window; None: no alert, because what is low depends "
        "on the model (the miniature is healthy at 0.006 after its SFT)",
    )
    max_kl: float | None = Field(
        default=None,
        gt=0,
        description="nats a token, from the reference or the sampling policy; None: no alert",
    )
    max_match_rise: Share = Field(
        default=0.1,
        description="of the judge's matches between two windows, when right answers do not rise",
    )
    max_spike: float = Field(
        default=10, gt=1, description="loss or gradient norm, in medians of the window before"
    )
    stop_on: tuple[AlertName, ...] = Field(default=(), description="alerts that end the run")

    @field_validator("stop_on", mode="before")
    @classmethod
    def known_alerts(cls, names: object) -> object:
        known = get_args(AlertName)
        for name in names if isinstance(names, list | tuple) else ():
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                raise ValueError(f"alerts.stop_on: there is no alert {name!r}; {hint}")
        return names

    @model_validator(mode="after")
    def slot_bounds(self) -> AlertsSection:
        if self.min_slot_1_share >= self.max_slot_1_share:
            raise ValueError(
                f"alerts.min_slot_1_share ({self.min_slot_1_share}) must be below "
                f"alerts.max_slot_1_share ({self.max_slot_1_share})"
            )
        return self
