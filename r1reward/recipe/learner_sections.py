"""The sections of a recipe for what learns: the loss, the parts that train, the learner."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from r1reward.recipe.choices import FilterRule
from r1reward.recipe.sections import PositiveInt, Section, Share


class AutoCorrection(Section):
    """``token_is`` when train.max_policy_lag is above 0 and the learner recomputes; else ``none``."""

    type: Literal["auto"]


class NoCorrection(Section):
    type: Literal["none"]


class TokenIs(Section):
    """Truncated importance sampling: each token's surrogate times
    min(pi_old / pi_rollout, cap).
    """

    type: Literal["token_is"]
    cap: float = Field(default=2.0, ge=1)


class SequenceMask(Section):
    """No surrogate from a sequence whose geometric mean of pi_old / pi_rollout is outside [low, high]."""

    type: Literal["sequence_mask"]
    low: float = Field(default=0.5, gt=0, lt=1)
    high: float = Field(default=2.0, gt=1)


RolloutCorrection = Annotated[
    AutoCorrection | NoCorrection | TokenIs | SequenceMask, Field(discriminator="type")
]


class AlgorithmSection(Section):
    """StableReinforce. None switches a part off."""

    kl_beta: float = Field(default=0.0, ge=0, description="weight of the KL to the base model")
    normalize: bool = True
    filter_sigma: float | None = Field(default=3.0, gt=0, description="3-sigma advantage filter")
    filter_rule: FilterRule = Field(
        default="sigma",
        description="authors: the released code's fault, for comparison only; keep_both_signs: a "
        "sign that would vanish from the batch is clipped at filter_sigma instead",
    )
    baseline: Literal["none", "group_mean", "leave_one_out"] = Field(
        default="none", description="taken off a trace's reward, over the samples of its prompt"
    )
    normalize_scope: Literal["batch", "group"] = Field(
        default="batch",
        description="group: divide by the spread of a prompt's rewards instead of the batch's",
    )
    mask_truncated: bool = Field(
        default=False, description="traces cut off at the token limit get advantage 0"
    )
    pre_clip_min: float | None = Field(default=1e-3, gt=0, description="smallest ratio, Pre-Clip")
    pre_clip_max: float | None = Field(default=1e3, gt=0, description="largest ratio, Pre-Clip")
    clip_epsilon: float = Field(default=0.2, gt=0, lt=1)
    clip_epsilon_high: float | None = Field(
        default=None,
        gt=0,
        description="clip-higher (DAPO, arXiv 2503.14476): the ratio is clipped above at 1 + this; "
        "None: at 1 + clip_epsilon",
    )
    dual_clip: float | None = Field(
        default=None,
        gt=1,
        description="dual-clip PPO (arXiv 1912.09729): for A < 0 the ratio counts at most this much",
    )
    ratio: Literal["token", "sequence", "cispo"] = Field(
        default="token",
        description="token: PPO; sequence: the geometric mean over the response (GSPO, arXiv "
        "2507.18071); cispo: the clipped ratio only weighs log pi (MiniMax-M1, arXiv 2506.13585)",
    )
    loss_mean: Literal["sequence", "token"] = Field(
        default="sequence",
        description="sequence: over each one's tokens, then over sequences; token: over all tokens "
        "of the train batch (DAPO, arXiv 2503.14476)",
    )
    kl_placement: Literal["reward", "loss"] = Field(
        default="reward",
        description="loss: kl_beta * KL is added to every token's loss (GRPO, arXiv 2402.03300)",
    )
    kl_estimator: Literal["k1", "k2", "k3"] = Field(
        default="k1", description="of Schulman's note on approximating KL; in the loss k2 or k3"
    )
    rollout_correction: RolloutCorrection = Field(
        default=AutoCorrection(type="auto"),
        description="of old log-probs against the engine's (rollout correction in verl's words): "
        "auto, none, token_is or sequence_mask; a name alone takes its defaults",
    )
    old_logprobs: Literal["learner", "rollout"] = "learner"
    log_reference_kl: bool = Field(
        default=False, description="load the reference model for the metric even when kl_beta is 0"
    )

    @model_validator(mode="after")
    def pre_clip_bounds(self) -> AlgorithmSection:
        low, high = self.pre_clip_min, self.pre_clip_max
        if (low is not None and low >= 1) or (high is not None and high <= 1):
            raise ValueError(
                f"algorithm.pre_clip_min ({low}) and pre_clip_max ({high}) must lie on either side "
                "of 1, the ratio of an unchanged policy"
            )
        return self

    @field_validator("rollout_correction", mode="before")
    @classmethod
    def name_alone(cls, value: object) -> object:
        return {"type": value or "none"} if value is None or isinstance(value, str) else value

    @model_validator(mode="after")
    def dual_clip_has_a_surrogate(self) -> AlgorithmSection:
        if self.dual_clip is not None and self.ratio == "cispo":
            raise ValueError(
                "algorithm.dual_clip bounds PPO's surrogate, but with algorithm.ratio cispo the ratio "
                "is clipped for both signs already: set algorithm.dual_clip to null"
            )
        return self

    @model_validator(mode="after")
    def kl_in_the_loss_has_a_gradient(self) -> AlgorithmSection:
        if self.kl_placement == "loss" and self.kl_estimator == "k1":
            raise ValueError(
                "algorithm.kl_placement loss with kl_estimator k1 would do nothing on average: the "
                "gradient of k1 is that of log pi, whose expectation is 0; set "
                "algorithm.kl_estimator to k2 or k3"
            )
        return self

    @model_validator(mode="after")
    def correction_has_two_policies(self) -> AlgorithmSection:
        correction = self.rollout_correction.type
        if self.old_logprobs == "rollout" and correction in ("token_is", "sequence_mask"):
            raise ValueError(
                f"algorithm.rollout_correction {correction} weighs old log-probs against the "
                "rollout's, but algorithm.old_logprobs rollout makes them the same and every weight "
                "1: set algorithm.old_logprobs to learner or algorithm.rollout_correction to none"
            )
        return self

    @model_validator(mode="after")
    def advantages_are_defined(self) -> AlgorithmSection:
        if self.normalize_scope == "group" and (self.baseline == "none" or not self.normalize):
            raise ValueError(
                "algorithm.normalize_scope group divides what a baseline leaves by the spread of the "
                "prompt's rewards: set algorithm.baseline to group_mean and algorithm.normalize to "
                "true, or normalize_scope to batch"
            )
        if self.filter_rule != "sigma" and (self.filter_sigma is None or not self.normalizes_batch):
            raise ValueError(
                f"algorithm.filter_rule {self.filter_rule} works on advantages normalised over the "
                "batch: set algorithm.filter_sigma, normalize to true and normalize_scope to batch, "
                "or filter_rule to sigma"
            )
        return self

    @property
    def clip_bounds(self) -> tuple[float, float]:
        high = self.clip_epsilon if self.clip_epsilon_high is None else self.clip_epsilon_high
        return 1 - self.clip_epsilon, 1 + high

    @property
    def kl_in_loss(self) -> bool:
        return self.kl_placement == "loss" and self.kl_beta > 0

    @property
    def normalizes_batch(self) -> bool:
        return self.normalize and self.normalize_scope == "batch"

    @property
    def needs_reference(self) -> bool:
        return self.kl_beta > 0 or self.log_reference_kl


class PartSection(Section):
    """How one part of the policy learns."""

    trainable: bool = True
    lr_scale: float = Field(default=1.0, gt=0, description="factor on learner.lr for this part")


class PartsSection(Section):
    """Vision tower, the merger behind it, and the language model with its embeddings and head."""

    vision: PartSection = PartSection()
    merger: PartSection = PartSection()
    language: PartSection = PartSection()

    @model_validator(mode="after")
    def something_trains(self) -> PartsSection:
        if not (self.vision.trainable or self.merger.trainable or self.language.trainable):
            raise ValueError(
                "learner.parts freezes vision, merger and language: nothing is left to train; "
                "set trainable to true for one of them"
            )
        return self


Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class LoraSection(Section):
    """Low-rank adapters on the language model. All other weights are frozen."""

    rank: PositiveInt = 16
    alpha: float = Field(default=32.0, gt=0, description="the adapters are scaled by alpha / rank")
    targets: tuple[Projection, ...] = Field(
        default=get_args(Projection), min_length=1, description="which projections of each layer"
    )


class LearnerSection(Section):
    """The DeepSpeed group. Batch sizes count sequences over all ranks."""

    num_ranks: PositiveInt = 1
    zero_stage: Literal[0, 1, 2, 3] = 2
    train_batch_size: PositiveInt = 128
    micro_batch_tokens: PositiveInt = Field(
        default=32768,
        description="limit of one forward pass: rows times the longest, or the tokens when packing",
    )
    packing: bool = Field(
        default=False, description="run a micro-batch's samples in one row, without padding"
    )
    lr: float = Field(default=1e-6, gt=0)
    warmup_share: Share = 0.03
    min_lr_ratio: Share = 0.1
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.95, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    parts: PartsSection = PartsSection()
    lora: LoraSection | None = Field(
        default=None, description="train adapters instead of the weights; published merged"
    )
    gradient_checkpointing: bool = Field(
        default=False, description="keep one activation a layer and recompute the rest"
    )
    offload_optimizer: bool = Field(
        default=False, description="keep the optimizer's state in host memory (GPUs, ZeRO 1 to 3)"
    )
    logprob_chunk_tokens: PositiveInt = Field(
        default=2048, description="response tokens whose logits are held in float32 at once"
    )
    # A step of 256 images of 640 tokens each, patches in bfloat16, is 1,470 MB. A rank can meet all of
    # them in one step, and what is used in turn and does not fit is never there when it is wanted.
    image_cache_mb: int = Field(
        default=2048,
        ge=0,
        description="host memory of a rank for processed images, which a step needs many times; 0: none",
    )
    bucket_mb: PositiveInt = Field(default=256, description="size of one published weight bucket")
    timeout_s: PositiveInt = Field(default=1800, description="limit of one collective")

    @model_validator(mode="after")
    def adapters_or_parts(self) -> LearnerSection:
        if self.lora is not None and self.parts != PartsSection():
            raise ValueError(
                "learner.lora freezes every weight and trains adapters only, so learner.parts has "
                "nothing to say: remove one of the two"
            )
        return self
