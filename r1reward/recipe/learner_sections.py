"""The sections of a recipe for what learns: the loss, the parts that train, the learner."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from r1reward.recipe.choices import FilterRule
from r1reward.recipe.sections import PositiveInt, Section, Share


class AutoCorrection(Section):
    """``token_is`` when train.max_policy_lag is above 0 and the learner recomputes; else ``none``."""

    type: Literal["auto"]
    """Chosen by the lag."""


class NoCorrection(Section):
    """Every token counts as it is."""

    type: Literal["none"]
    """No correction."""


class TokenIs(Section):
    """Truncated importance sampling: each token's surrogate times
    min(pi_old / pi_rollout, cap).
    """

    type: Literal["token_is"]
    """A weight for every token."""

    cap: float = Field(default=2.0, ge=1)
    """Largest weight of a token."""


class SequenceMask(Section):
    """No surrogate from a sequence whose geometric mean of pi_old / pi_rollout is outside [low, high]."""

    type: Literal["sequence_mask"]
    """Whole sequences are left out."""

    low: float = Field(default=0.5, gt=0, lt=1)
    """Smallest geometric mean of pi_old / pi_rollout that is trained on."""

    high: float = Field(default=2.0, gt=1)
    """Largest geometric mean of pi_old / pi_rollout that is trained on."""


RolloutCorrection = Annotated[
    AutoCorrection | NoCorrection | TokenIs | SequenceMask, Field(discriminator="type")
]


class AlgorithmSection(Section):
    """StableReinforce. None switches a part off."""

    kl_beta: float = Field(default=0.0, ge=0)
    """Weight of the KL to the model that training starts from; 0: no such term."""

    normalize: bool = True
    """Normalise advantages by mean and standard deviation, over what normalize_scope says."""

    filter_sigma: float | None = Field(default=3.0, gt=0)
    """Advantages further than this many standard deviations from the mean are filtered (the
    3-sigma filter); None: no filter."""

    filter_rule: FilterRule = "sigma"
    """What the filter does: sigma sets them to 0; authors has the released code's fault, for
    comparison only; keep_both_signs clips a sign that would vanish from the batch at
    filter_sigma instead."""

    baseline: Literal["none", "group_mean", "leave_one_out"] = "none"
    """What is subtracted from a trace's reward, over the samples of its prompt: nothing,
    their mean (GRPO), or the mean of the others (RLOO)."""

    normalize_scope: Literal["batch", "group"] = "batch"
    """batch: divide by the spread over the batch; group: by the spread of a prompt's rewards instead."""

    mask_truncated: bool = False
    """Give traces that are cut off at the token limit the advantage 0."""

    pre_clip_min: float | None = Field(default=1e-3, gt=0)
    """Pre-Clip: smallest ratio of new to old probability, applied before the loss; None: no
    lower bound."""

    pre_clip_max: float | None = Field(default=1e3, gt=0)
    """Pre-Clip: largest ratio of new to old probability, applied before the loss; None: no
    upper bound."""

    clip_epsilon: float = Field(default=0.2, gt=0, lt=1)
    """PPO's clip: the ratio counts between 1 - this and 1 + this."""

    clip_epsilon_high: float | None = Field(default=None, gt=0)
    """Clip-higher (DAPO, arXiv 2503.14476): the ratio is clipped above at 1 + this; None: at
    1 + clip_epsilon."""

    dual_clip: float | None = Field(default=None, gt=1)
    """Dual-clip PPO (arXiv 1912.09729): for a negative advantage the ratio counts at most
    this much; None: no such bound."""

    ratio: Literal["token", "sequence", "cispo"] = "token"
    """What the ratio is of: token, as in PPO; sequence, the geometric mean over the response
    (GSPO, arXiv 2507.18071); cispo, where the clipped ratio only weighs log pi (MiniMax-M1,
    arXiv 2506.13585)."""

    loss_mean: Literal["sequence", "token"] = "sequence"
    """sequence: the mean over each sequence's tokens, then over sequences; token: over all
    tokens of the train batch (DAPO, arXiv 2503.14476)."""

    kl_placement: Literal["reward", "loss"] = "reward"
    """Where kl_beta * KL goes: taken off every token's reward, or added to every token's loss
    (GRPO, arXiv 2402.03300)."""

    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    """Estimator of the KL, by the names of Schulman's note on approximating KL; in the loss
    it must be k2 or k3."""

    rollout_correction: RolloutCorrection = AutoCorrection(type="auto")
    """Correction of the difference between the learner's old log-probs and the engine's:
    auto, none, token_is or sequence_mask; a name alone takes its defaults."""

    old_logprobs: Literal["learner", "rollout"] = "learner"
    """Whose log-probs the ratio starts from: a pass of the learner before the first update,
    or those of the engine at sampling."""

    log_reference_kl: bool = False
    """Load the reference model for its metric even when kl_beta is 0."""

    def check(self) -> None:
        low, high = self.pre_clip_min, self.pre_clip_max
        if (low is not None and low >= 1) or (high is not None and high <= 1):
            raise ValueError(
                f"algorithm.pre_clip_min ({low}) and pre_clip_max ({high}) must lie on either side "
                "of 1, the ratio of an unchanged policy"
            )
        if self.dual_clip is not None and self.ratio == "cispo":
            raise ValueError(
                "algorithm.dual_clip bounds PPO's surrogate, but with algorithm.ratio cispo the ratio "
                "is clipped for both signs already: set algorithm.dual_clip to null"
            )
        if self.kl_placement == "loss" and self.kl_estimator == "k1":
            raise ValueError(
                "algorithm.kl_placement loss with kl_estimator k1 would do nothing on average: the "
                "gradient of k1 is that of log pi, whose expectation is 0; set "
                "algorithm.kl_estimator to k2 or k3"
            )
        correction = self.rollout_correction.type
        if self.old_logprobs == "rollout" and correction in ("token_is", "sequence_mask"):
            raise ValueError(
                f"algorithm.rollout_correction {correction} weighs old log-probs against the "
                "rollout's, but algorithm.old_logprobs rollout makes them the same and every weight "
                "1: set algorithm.old_logprobs to learner or algorithm.rollout_correction to none"
            )
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

    @field_validator("rollout_correction", mode="before")
    @classmethod
    def name_alone(cls, value: object) -> object:
        return {"type": value or "none"} if value is None or isinstance(value, str) else value

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
    """Whether this part is trained; false freezes it."""

    lr_scale: float = Field(default=1.0, gt=0)
    """Factor on learner.lr for this part."""


class PartsSection(Section):
    """Vision tower, the merger behind it, and the language model with its embeddings and head."""

    vision: PartSection = PartSection()
    """The vision tower."""

    merger: PartSection = PartSection()
    """The merger between vision tower and language model."""

    language: PartSection = PartSection()
    """The language model with its embeddings and head."""

    def check(self) -> None:
        if not (self.vision.trainable or self.merger.trainable or self.language.trainable):
            raise ValueError(
                "learner.parts freezes vision, merger and language: nothing is left to train; "
                "set trainable to true for one of them"
            )


class LoraSection(Section):
    """Low-rank adapters on the language model. All other weights are frozen."""

    rank: PositiveInt = 16
    """Rank of the adapters."""

    alpha: float = Field(default=32.0, gt=0)
    """The adapters are scaled by alpha / rank."""

    targets: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Which linear layers of each layer of the language model get adapters, by their names, such as
    q_proj; None: all."""


class LearnerSection(Section):
    """The DeepSpeed group. Batch sizes count sequences over all ranks."""

    num_ranks: PositiveInt = 1
    """Learner processes; each has a GPU of its own, or on a CPU its threads."""

    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO: 0 shards nothing, 1 the optimizer's state, 2 also gradients, 3 also weights."""

    train_batch_size: PositiveInt = 128
    """Sequences of one optimizer step, over all ranks; a step's rollouts must be a multiple of it."""

    micro_batch_tokens: PositiveInt = 32768
    """Most tokens of one forward pass of a rank: rows times the longest, or the tokens
    themselves when packing."""

    packing: bool | Literal["auto"] = False
    """Run the samples of a micro-batch in one row, without padding; auto: where it changes no number,
    which the kinds of the model's layers decide."""

    lr: float = Field(default=1e-6, gt=0)
    """Peak learning rate of AdamW."""

    warmup_share: Share = 0.03
    """Share of all optimizer steps in which the learning rate rises from 0 to its peak; 0: no warm-up."""

    min_lr_ratio: Share = 0.1
    """The learning rate falls by a cosine to this share of its peak; 1: it stays constant."""

    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of Adam's mean of gradients."""

    adam_beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of Adam's mean of squared gradients."""

    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of AdamW; 0: none."""

    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients with a larger norm are scaled down to it."""

    parts: PartsSection = PartsSection()
    lora: LoraSection | None = None
    """Train low-rank adapters instead of the weights, published merged; None: train the weights."""

    gradient_checkpointing: bool = False
    """Keep one activation a layer and recompute the rest in the backward pass: less memory, more time."""

    offload_optimizer: bool = False
    """Keep the optimizer's state in host memory (GPUs, ZeRO 1 to 3)."""

    logprob_chunk_tokens: PositiveInt = 2048
    """Response tokens whose logits are held in float32 at once."""

    # A step of 256 images of 640 tokens each, patches in bfloat16, is 1,470 MB. A rank can meet all of
    # them in one step, and what is used in turn and does not fit is never there when it is wanted.
    image_cache_mb: int = Field(default=2048, ge=0)
    """Host memory of a rank for processed images in MB, which a step needs many times; 0: none."""

    bucket_mb: PositiveInt = 256
    """Size of one published weight bucket in MB."""

    timeout_s: PositiveInt = 1800
    """Seconds until a collective operation of the ranks counts as failed."""

    def check(self) -> None:
        if self.lora is not None and self.parts != PartsSection():
            raise ValueError(
                "learner.lora freezes every weight and trains adapters only, so learner.parts has "
                "nothing to say: remove one of the two"
            )
