"""The sections of a recipe: frozen, unknown keys refused, each checking what it can check alone.

Engines and judge are in ``engine_sections.py``, the learner and its loss in ``learner_sections.py``,
the stages around RL in ``pipeline_sections.py``.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from r1reward.recipe import choices

Dtype = Literal["float32", "bfloat16"]
PositiveInt = Annotated[int, Field(ge=1)]
# Of one frame of a video. Pixels and not a model's tokens: frames are cut when rows are read, and two
# models that are compared on a benchmark must see the same ones.
FRAME_PIXELS = 100_352
Share = Annotated[float, Field(ge=0, le=1)]
SectionKind = TypeVar("SectionKind", bound="Section")


class Section(BaseModel):
    """Settings that belong together: frozen, and unknown keys are refused.

    The string under a field is its description, which docs/settings.md shows.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True
    )

    @model_validator(mode="after")
    def settings_fit(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Raises ``ValueError`` with one sentence if the settings do not fit together.

        Runs whenever a section is made; a section that inherits checks calls ``super().check()``.
        """


def nearest(name: str, known: Sequence[str], label: str = "known") -> str:
    """The end of a sentence about a name that is not known."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"{label}: {', '.join(known)}"


def changed(section: SectionKind, **settings: object) -> SectionKind:
    """The section with other settings, validated anew."""
    return type(section).model_validate(section.model_dump() | settings)


class ModelSection(Section):
    """The policy: where its weights are and what fits into it."""

    path: str
    """Where the weights are: 'shapes' (the built-in miniature), a Hugging Face folder or
    name, or an fsspec URL."""

    dtype: Dtype = "bfloat16"
    """Number format of the weights in engines and learner."""

    min_image_tokens: PositiveInt = 4
    """Images of fewer tokens (as the language model sees them) are enlarged to this many."""

    max_image_tokens: PositiveInt = 640
    """Images of more tokens (as the language model sees them) are shrunk to this many."""

    max_prompt_tokens: PositiveInt = 20480
    """Longest prompt in tokens, image tokens included; training leaves out pairs with longer
    ones and counts them."""

    max_new_tokens: PositiveInt = 1024
    """Longest answer in tokens; a longer one is cut off there."""

    max_images: PositiveInt = 8
    """Most images (or video frames) of one pair that an engine accepts."""

    template_arguments: dict[str, bool | str] = {}
    """Arguments of the model's chat template, such as enable_thinking: false, where it knows them."""

    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention implementation of transformers in the learner; packing needs sdpa."""

    def check(self) -> None:
        if self.min_image_tokens > self.max_image_tokens:
            raise ValueError(
                f"model.min_image_tokens ({self.min_image_tokens}) is above model.max_image_tokens "
                f"({self.max_image_tokens}): lower the first or raise the second"
            )

    @property
    def max_sequence_tokens(self) -> int:
        """Tokens of prompt and response together, at most."""
        return self.max_prompt_tokens + self.max_new_tokens


class ShapesSource(Section):
    """Pairs drawn from the built-in miniature."""

    type: Literal["shapes"]
    """Pairs drawn from the built-in miniature."""

    split: choices.ShapesSplit
    """Which of its four sets the pairs are drawn from; the hard ones have crowded scenes,
    near colours, counting, two images or no image."""

    num_pairs: PositiveInt
    """Number of pairs."""

    seed: int = 0
    """Seed of the drawing."""


class FileSource(Section):
    """Pairs in a store, a Parquet, JSONL or JSON file; ``num_pairs`` takes the first ones only."""

    type: Literal["file"]
    """Pairs in a store, or in a Parquet, JSONL or JSON file."""

    path: Path
    """The store's folder or the file."""

    images: Path | None = None
    """Folder that image paths are relative to; None: the one that the store names, or the file's."""

    links: tuple[Path, ...] = ()
    """Further folders that links among the images may lead into, and absolute paths may begin with."""

    num_pairs: PositiveInt | None = None
    """Take the first pairs only, this many; None: all."""


Source = Annotated[ShapesSource | FileSource, Field(discriminator="type")]


class DataSection(Section):
    """The pairs of preferences."""

    train: Source
    """The pairs that the policy is trained on."""

    heldout: Source | None = None
    """The pairs of the held-out evaluation; None: no held-out evaluation."""

    contradictions: choices.Contradictions = "drop"
    """What happens to training pairs that stand in the data with both labels: drop leaves out both and
    counts them; keep trains on them. Without effect on the built-in miniature."""


class PromptSection(Section):
    """How the policy is asked, and in which form it answers."""

    template: choices.TemplateName = "standard"
    """Wording of the prompt: standard; authors: the structure that the paper's authors
    published; short: for models of a few million parameters; vl-rewardbench and
    multimodal-rewardbench: the structure of that benchmark's own prompt, without tags."""

    images_last: bool = False
    """Show the images behind the text; false: before it."""

    think_tag: str = Field(default="think", pattern=r"^[A-Za-z][\w-]*$")
    """Name of the tags around the analysis, without brackets."""

    answer_tag: str = Field(default="answer", pattern=r"^[A-Za-z][\w-]*$")
    """Name of the tags around the answer, without brackets."""

    format_mode: choices.FormatMode = "strict"
    """How a trace is read: strict allows nothing between analysis and answer and only one
    answer; tolerant allows whitespace there and several answers that agree; loose also reads
    a digit in markup or in a few words (Response 1) and a last line without tags, for models that
    were trained on other prompts; authors is strict, but rewards the form of an empty analysis;
    vl-rewardbench (Overall Judgment: Answer 1 is better.) and multimodal-rewardbench ([[A]]) read
    what the benchmark's own prompt asks for, in evaluations."""

    def check(self) -> None:
        if self.think_tag == self.answer_tag:
            raise ValueError(
                f"prompt.think_tag and prompt.answer_tag are both {self.think_tag!r}: "
                "no trace could be read; make them differ"
            )


class RewardSection(Section):
    """Reward = result * (1 + w_c * consistency) + w_f * format (paper, section 4.2).

    ``position_weight`` is ours and adds w_p * result * partner's result, off by default.
    """

    consistency_weight: float = Field(default=0.5, ge=0)
    """w_c: how much the judge's word changes the reward of a right answer."""

    format_weight: float = Field(default=0.5, ge=0)
    """w_f: the reward of a well-formed trace."""

    position_weight: float = Field(default=0.0, ge=0)
    """w_p: extra reward for a pair that is right in both orders; above 0 it needs rollout.both_orders."""

    consistency_range: Literal["signed", "binary"] = "signed"
    """What a judge's word counts: signed gives 1 for a match, 0 for undecided and -1 for a
    mismatch; binary gives 0 for both of the last two."""

    judged_wrong_share: Share = 0.1
    """Share of wrong answers that are judged as well, for the metric only; they never change a reward."""

    max_abstain_share: Share = 0.2
    """A step in which a larger share of the judge's calls fails stops the run."""


class TrainSection(Section):
    """The length of training and its checkpoints."""

    num_steps: PositiveInt
    """Steps of the run; a step samples one rollout batch and trains on it."""

    max_policy_lag: int = Field(default=0, ge=0)
    """How many steps sampling may run ahead of learning; 0: they alternate (synchronous)."""

    checkpoint_every: PositiveInt = 25
    """Steps between two checkpoints."""

    keep_checkpoints: PositiveInt = 2
    """How many of the newest checkpoints are kept."""

    from_rollouts: Path | None = None
    """Folder of saved rollouts (Parquet) to train on without engines; None: sample with engines."""


class EvaluateSection(Section):
    """How a model is evaluated."""

    samples: PositiveInt = 1
    """Answers drawn for each row in all: the K of voting@K."""

    orders: choices.OrderMode = "both"
    """In which orders the responses of a row are shown: both; single: one seeded order a row;
    stored: as the data has them; authors: the preferred response first; random: a seeded
    order a sample; parity: stored where the two responses have an even number of characters
    together, else swapped."""

    temperature: float | None = Field(default=None, ge=0)
    """Sampling temperature; None: 0 (greedy) for one sample, 1.0 for several."""

    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the likeliest tokens that hold this much probability; 1: from all."""

    adaptive: float | None = Field(default=None, ge=0, lt=0.5)
    """Stop sampling a row once its vote is as good as known: whatever its share of votes, the verdict
    differs from that of all K samples with a chance of at most this; 0: once it cannot change;
    None: draw every sample."""

    image_off: bool = False
    """Ask every row once more with grey images, to see how much the images matter."""

    @property
    def sampling_temperature(self) -> float:
        if self.temperature is not None:
            return self.temperature
        return 1.0 if self.samples > 1 else 0.0

    def check(self) -> None:
        if self.samples > 2 and self.sampling_temperature == 0:
            raise ValueError(
                f"evaluate.samples is {self.samples} at temperature 0: greedy samples are all alike; "
                "set evaluate.temperature to 1, or evaluate.samples to 1"
            )


class TrainingEvaluation(EvaluateSection):
    """Held-out evaluation before, during and after training."""

    temperature: float | None = Field(default=1.0, ge=0)
    """Sampling temperature; 1.0 is what RL trains; None: 0 (greedy) for one sample, 1.0 for several."""

    every: int = Field(default=0, ge=0)
    """Steps between two held-out evaluations; 0: only before and after training."""

    keep_best: Literal["accuracy", "voted", "both_right"] | None = None
    """Export the model of the evaluation that is best by this measure to run_dir/best; None:
    no such export."""

    def check(self) -> None:
        super().check()
        if self.keep_best == "both_right" and self.orders != "both":
            raise ValueError(
                f"evaluate.keep_best both_right needs both orders, but evaluate.orders is "
                f"{self.orders}: set one of the two"
            )


class BenchSection(Section):
    """Rows to evaluate on, and how they are scored."""

    name: choices.BenchmarkName
    """Which benchmark; pairs is any file or store of pairs."""

    path: Path | None = None
    """The benchmark's file or folder; None for shapes and shapes-hard, which are built in."""

    images: Path | None = None
    """Folder that media paths are relative to; None: the folder of the file."""

    links: tuple[Path, ...] = ()
    """Further folders that links among the media may lead into, and absolute paths may begin with."""

    missing: choices.MissingMedia = "refuse"
    """What happens to rows whose image or video is not there: refuse to start, or drop and count them."""

    num_rows: PositiveInt | None = None
    """Take the first rows only, this many; None: all."""

    num_frames: PositiveInt = 32
    """Evenly spaced frames that a video is shown as."""

    frame_max_pixels: PositiveInt = FRAME_PIXELS
    """Video frames with more pixels are shrunk to this many."""

    official: bool = False
    """Ask as the benchmark's own scripts do, where nothing else is set; score by their rules as well."""

    suite: choices.SuiteName | None = None
    """Ask and score as this suite of benchmarks does, in the same way; None: as none does."""

    def check(self) -> None:
        if self.official and self.suite is not None:
            raise ValueError(
                f"bench.official and bench.suite ({self.suite}) are two ways to ask: leave out one"
            )


class TrackingSection(Section):
    """Views beside metrics.jsonl. W&B's key is read from the environment, never stored."""

    wandb_project: str | None = None
    """Project of Weights & Biases that follows the run; None: none does."""

    tensorboard: bool = False
    """Write TensorBoard's files into the run folder."""

    samples_every: PositiveInt = 10
    """Steps between two sets of shown rollouts."""

    num_samples: int = Field(default=8, ge=0)
    """Rollouts that are shown each time; 0: none."""


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

    window: PositiveInt = 5
    """Steps of the window that alerts look at."""

    min_slot_1_share: Share = 0.4
    """slot_drift: the smallest healthy share of answers that choose response 1, mean over the window."""

    max_slot_1_share: Share = 0.6
    """slot_drift: the largest healthy share of answers that choose response 1, mean over the window."""

    max_truncated_share: Share = 0.2
    """length_at_cap: the largest healthy share of traces that are cut off."""

    max_logprob_gap: float = Field(default=0.015, gt=0)
    """logprob_gap: the largest healthy difference of engine and learner in nats, mean over
    tokens, at lag 0."""

    max_abstain_share: Share = 0.05
    """judge_abstaining: the largest healthy share of the judge's calls that fail."""

    max_unparsed_share: Share = 0.2
    """unparsed: the largest healthy share of traces without a readable answer."""

    min_entropy: float | None = Field(default=None, gt=0)
    """entropy_collapse: the smallest healthy entropy in nats a token, mean over the window;
    None: no alert, because what is low depends on the model (the miniature is healthy at
    0.006 after its SFT)."""

    max_kl: float | None = Field(default=None, gt=0)
    """kl_above_bound: the largest healthy KL in nats a token, from the reference or from the
    sampling policy; None: no alert."""

    max_match_rise: Share = 0.1
    """consistent_but_not_better: the rise of the judge's share of matches between two windows
    from which on it alerts, when right answers do not rise."""

    max_spike: float = Field(default=10, gt=1)
    """loss_spike: the largest healthy loss or gradient norm, in medians of the window before."""

    stop_on: tuple[AlertName, ...] = ()
    """Alerts that end the run; none of them by default."""

    @field_validator("stop_on", mode="before")
    @classmethod
    def known_alerts(cls, names: object) -> object:
        known = get_args(AlertName)
        for name in names if isinstance(names, list | tuple) else ():
            if name not in known:
                hint = nearest(str(name), known)
                raise ValueError(f"alerts.stop_on: there is no alert {name!r}; {hint}")
        return names

    def check(self) -> None:
        if self.min_slot_1_share >= self.max_slot_1_share:
            raise ValueError(
                f"alerts.min_slot_1_share ({self.min_slot_1_share}) must be below "
                f"alerts.max_slot_1_share ({self.max_slot_1_share})"
            )
