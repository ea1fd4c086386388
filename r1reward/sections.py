"""The sections of a recipe: frozen, unknown keys refused, each checking what it can check alone."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Dtype = Literal["float32", "bfloat16"]
PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelSection(Section):
    """The policy: where its weights are and what fits into it."""

    path: str = Field(
        description="'shapes' (the built-in miniature), a Hugging Face folder or name"
    )
    dtype: Dtype = "bfloat16"
    min_pixels: PositiveInt = 4 * 28 * 28
    max_pixels: PositiveInt = 640 * 28 * 28
    max_prompt_tokens: PositiveInt = 20480
    max_new_tokens: PositiveInt = 1024
    max_images: PositiveInt = Field(default=8, description="images (or video frames) of one pair")
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"

    @model_validator(mode="after")
    def pixel_bounds(self) -> ModelSection:
        if self.min_pixels > self.max_pixels:
            raise ValueError(
                f"model.min_pixels ({self.min_pixels}) is above model.max_pixels "
                f"({self.max_pixels}): lower the first or raise the second"
            )
        return self


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


class EngineSection(Section):
    """One vLLM engine. What is None is left to vLLM."""

    tensor_parallel_size: PositiveInt = 1
    gpu_memory_utilization: Share = 0.9
    kv_cache_memory_mb: PositiveInt | None = None
    max_num_seqs: PositiveInt = 256
    max_num_batched_tokens: PositiveInt | None = None
    enforce_eager: bool = False
    block_size: PositiveInt | None = None
    mm_processor_cache_gb: float = Field(default=4, ge=0)


class DynamicSamplingSection(Section):
    """Prompts whose samples all came out alike are replaced by others (DAPO, arXiv 2503.14476)."""

    max_rounds: PositiveInt = Field(
        description="sampling rounds beyond the first; then the batch is trained on as it is"
    )


class RolloutSection(Section):
    num_actors: PositiveInt = 1
    prompts_per_step: PositiveInt = 256
    samples_per_prompt: PositiveInt = 1
    both_orders: bool = Field(
        default=False,
        description="show every pair of a step in both orders; prompts_per_step still counts prompts",
    )
    dynamic_sampling: DynamicSamplingSection | None = None
    temperature: float = Field(default=1.0, ge=0)
    max_retries: int = Field(default=3, ge=0, description="restarts of a dead rollout actor")
    engine: EngineSection = EngineSection()

    @property
    def pairs_per_step(self) -> int:
        return self.prompts_per_step // 2 if self.both_orders else self.prompts_per_step

    @model_validator(mode="after")
    def groups_can_be_formed(self) -> RolloutSection:
        if self.both_orders and self.prompts_per_step % 2:
            raise ValueError(
                f"rollout.both_orders shows every pair twice, but rollout.prompts_per_step is "
                f"{self.prompts_per_step}: make it even"
            )
        if self.dynamic_sampling is not None and self.samples_per_prompt == 1:
            raise ValueError(
                "rollout.dynamic_sampling replaces prompts whose samples all came out alike, and a "
                "single one always does: raise rollout.samples_per_prompt above 1"
            )
        return self


class RuleJudge(Section):
    """Reads the conclusion with a regular expression; for the miniature and for tests."""

    type: Literal["rule"]


class VllmJudge(Section):
    """A model served by vLLM in its own actor. ``path: policy`` is the frozen starting policy."""

    type: Literal["vllm"]
    path: str = "policy"
    template: Literal["standard", "short"] = "standard"
    num_lines: PositiveInt = 3
    temperature: float = Field(default=0.1, ge=0)
    max_tries: PositiveInt = 3
    engine: EngineSection = EngineSection()


class EndpointSection(Section):
    """Any OpenAI-compatible endpoint. The key is read from an environment variable, never stored."""

    url: str = Field(description="base address, for example http://127.0.0.1:8000/v1")
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    timeout_s: float = Field(default=60, gt=0)
    max_concurrent: PositiveInt = 32
    extra_body: dict[str, int | float] = Field(
        default={"top_k": 0, "repetition_penalty": 1.0},
        description="fields outside OpenAI's API, as vLLM takes them; {} for servers that refuse them",
    )

    @model_validator(mode="after")
    def is_plain_address(self) -> Self:
        """With nothing secret in it: a recipe is written into the run folder and sent to trackers."""
        address = urlsplit(self.url)
        if address.scheme not in ("http", "https") or not address.netloc:
            raise ValueError(
                f"the endpoint's url is {self.url!r}: it must begin with http:// or https:// and "
                "name a host"
            )
        if "@" in address.netloc or address.query:
            raise ValueError(
                "the endpoint's url carries a user name, password or query: give only the address, "
                "and put the key into the environment variable that api_key_env names"
            )
        return self


class OpenAIJudge(EndpointSection):
    """A judge behind an endpoint."""

    type: Literal["openai"]
    template: Literal["standard", "short"] = "standard"
    num_lines: PositiveInt = 3
    temperature: float = Field(default=0.1, ge=0)
    max_tries: PositiveInt = 3


class PolicyEndpoint(EndpointSection):
    """The model that is evaluated, behind an endpoint."""

    timeout_s: float = Field(default=600, gt=0)
    logprobs: bool = Field(
        default=True,
        description="ask for the answer token's probability; false for servers without",
    )


JudgeSection = Annotated[RuleJudge | VllmJudge | OpenAIJudge, Field(discriminator="type")]


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
    filter_rule: Literal["sigma", "authors", "keep_both_signs"] = Field(
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


RoleName = Literal["rollout", "judge", "learner"]


class PlacementSection(Section):
    """Who runs where. ``split``: every actor owns its GPUs. On CPUs the actors share the cores.

    ``colocate``: engine, judge and learner rank of the same number share a GPU. Engines sleep while the
    learner works, and its states are in host memory while they sample.

    ``in_process``: no actors. Sampler and learner take turns in the process of the loop, without Ray
    and vLLM: for studies of many small runs and for a debugger.
    """

    device: Literal["cpu", "cuda"] = "cuda"
    mode: Literal["split", "colocate", "in_process"] = "split"
    threads: PositiveInt = Field(default=2, description="CPU threads of each engine and rank")
    num_judge_actors: PositiveInt = 1
    object_store_mb: PositiveInt | None = None
    wait_s: PositiveInt = Field(
        default=600,
        description="how long to wait for the cluster's resources, and for an engine whose node died",
    )
    strategy: Literal["pack", "spread"] = Field(
        default="pack", description="actors on few nodes, or on as many as there are"
    )
    resources: dict[RoleName, dict[str, Annotated[float, Field(gt=0)]]] = Field(
        default={},
        description="what an actor of a role takes of Ray's custom resources, which nodes offer with "
        "`ray start --resources`: {judge: {judge_node: 1}} keeps judges to such nodes",
    )

    @field_validator("resources")
    @classmethod
    def are_custom(cls, by_role: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for role, wanted in by_role.items():
            for name in wanted:
                if name.lower() in ("cpu", "gpu", "memory", "object_store_memory"):
                    raise ValueError(
                        f"placement.resources.{role} names {name!r}, which every node of Ray has by "
                        "itself: name a resource that only the wanted nodes are started with"
                    )
        return by_role

    @property
    def takes_turns(self) -> bool:
        """Whether engines and learner have the same GPUs, one side at a time."""
        return self.device == "cuda" and self.mode == "colocate"


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
    frame_max_pixels: PositiveInt = Field(default=128 * 28 * 28, description="of one video frame")
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
    """When a step's metrics call for a look; ``alerts.py`` says what each alert means."""

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
