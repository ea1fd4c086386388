"""The recipe: one frozen pydantic tree, loaded from YAML with dotted overrides.

A recipe may name one ``base:`` recipe, whose settings it inherits and overrides. Unknown keys are
refused with the nearest known one. Every cross-field error says what to change. Reading a recipe
imports neither torch nor an engine.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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
    """Pairs in a Parquet or JSONL file; ``num_pairs`` takes the first ones only."""

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


class RolloutSection(Section):
    num_actors: PositiveInt = 1
    prompts_per_step: PositiveInt = 256
    samples_per_prompt: PositiveInt = 1
    temperature: float = Field(default=1.0, ge=0)
    max_retries: int = Field(default=3, ge=0, description="restarts of a dead rollout actor")
    engine: EngineSection = EngineSection()


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


class OpenAIJudge(Section):
    """Any OpenAI-compatible endpoint. The key is read from an environment variable, never stored."""

    type: Literal["openai"]
    url: str = Field(description="base address, for example http://127.0.0.1:8000/v1")
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    template: Literal["standard", "short"] = "standard"
    num_lines: PositiveInt = 3
    temperature: float = Field(default=0.1, ge=0)
    max_tries: PositiveInt = 3
    timeout_s: float = Field(default=60, gt=0)
    max_concurrent: PositiveInt = 32
    extra_body: dict[str, int | float] = Field(
        default={"top_k": 0, "repetition_penalty": 1.0},
        description="fields outside OpenAI's API, as vLLM takes them; {} for servers that refuse them",
    )


JudgeSection = Annotated[RuleJudge | VllmJudge | OpenAIJudge, Field(discriminator="type")]


class RewardSection(Section):
    """Reward = result * (1 + w_c * consistency) + w_f * format (paper, section 4.2)."""

    consistency_weight: float = Field(default=0.5, ge=0)
    format_weight: float = Field(default=0.5, ge=0)
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


class AlgorithmSection(Section):
    """StableReinforce. None switches a part off."""

    kl_beta: float = Field(default=0.0, ge=0, description="weight of the k1 KL to the base model")
    normalize: bool = True
    filter_sigma: float | None = Field(default=3.0, gt=0, description="3-sigma advantage filter")
    pre_clip_min: float | None = Field(default=1e-3, gt=0, description="smallest ratio, Pre-Clip")
    pre_clip_max: float | None = Field(default=1e3, gt=0, description="largest ratio, Pre-Clip")
    clip_epsilon: float = Field(default=0.2, gt=0, lt=1)
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

    @property
    def needs_reference(self) -> bool:
        return self.kl_beta > 0 or self.log_reference_kl


class LearnerSection(Section):
    """The DeepSpeed group. Batch sizes count sequences over all ranks."""

    num_ranks: PositiveInt = 1
    zero_stage: Literal[0, 1, 2, 3] = 2
    train_batch_size: PositiveInt = 128
    micro_batch_tokens: PositiveInt = 32768
    lr: float = Field(default=1e-6, gt=0)
    warmup_share: Share = 0.03
    min_lr_ratio: Share = 0.1
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.95, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    gradient_checkpointing: bool = False
    logprob_chunk_tokens: PositiveInt = Field(
        default=2048, description="response tokens whose logits are held in float32 at once"
    )
    bucket_mb: PositiveInt = Field(default=256, description="size of one published weight bucket")
    timeout_s: PositiveInt = Field(default=1800, description="limit of one collective")


class PlacementSection(Section):
    """Who runs where. ``split``: every actor owns its GPUs. On CPUs the actors share the cores."""

    device: Literal["cpu", "cuda"] = "cuda"
    mode: Literal["split", "colocate"] = "split"
    threads: PositiveInt = Field(default=2, description="CPU threads of each engine and rank")
    num_judge_actors: PositiveInt = 1
    object_store_mb: PositiveInt | None = None
    wait_s: PositiveInt = Field(
        default=600, description="how long to wait for the cluster's resources"
    )

    @model_validator(mode="after")
    def supported(self) -> PlacementSection:
        if self.device == "cuda" and self.mode == "colocate":
            raise ValueError(
                "placement.mode colocate needs engines that give their GPU memory back between "
                "phases, which this version does not do: set placement.mode to split"
            )
        return self


class TrainSection(Section):
    num_steps: PositiveInt
    max_policy_lag: int = Field(default=0, ge=0, description="0 is synchronous")
    checkpoint_every: PositiveInt = 25
    keep_checkpoints: PositiveInt = 2
    from_rollouts: Path | None = Field(
        default=None, description="train on saved rollouts (Parquet folder) without engines"
    )


class EvaluateSection(Section):
    temperature: float = Field(default=1.0, ge=0)
    bootstrap_samples: PositiveInt = 10000


class TrackingSection(Section):
    wandb_project: str | None = None
    tensorboard: bool = False


class Recipe(Section):
    """Everything a run depends on. Never mutated after load."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = 0
    run_dir: Path
    model: ModelSection
    data: DataSection
    prompt: PromptSection = PromptSection()
    rollout: RolloutSection = RolloutSection()
    judge: JudgeSection
    reward: RewardSection = RewardSection()
    algorithm: AlgorithmSection = AlgorithmSection()
    learner: LearnerSection = LearnerSection()
    placement: PlacementSection = PlacementSection()
    train: TrainSection
    evaluate: EvaluateSection = EvaluateSection()
    tracking: TrackingSection = TrackingSection()

    @property
    def rollouts_per_step(self) -> int:
        return self.rollout.prompts_per_step * self.rollout.samples_per_prompt

    @property
    def num_optimizer_steps(self) -> int:
        return self.train.num_steps * (self.rollouts_per_step // self.learner.train_batch_size)

    @model_validator(mode="after")
    def batches_fit(self) -> Recipe:
        if self.rollouts_per_step % self.learner.train_batch_size:
            raise ValueError(
                f"rollout.prompts_per_step * rollout.samples_per_prompt ({self.rollouts_per_step}) "
                f"must be a multiple of learner.train_batch_size ({self.learner.train_batch_size}): "
                "change one of the three"
            )
        if self.learner.train_batch_size < self.learner.num_ranks:
            raise ValueError(
                f"learner.train_batch_size ({self.learner.train_batch_size}) is below "
                f"learner.num_ranks ({self.learner.num_ranks}): every rank needs a sequence"
            )
        longest = self.model.max_prompt_tokens + self.model.max_new_tokens
        if self.learner.micro_batch_tokens < longest:
            raise ValueError(
                f"learner.micro_batch_tokens ({self.learner.micro_batch_tokens}) cannot hold one "
                f"sequence of model.max_prompt_tokens + model.max_new_tokens ({longest}): raise it"
            )
        return self

    @model_validator(mode="after")
    def sampling_is_on_policy(self) -> Recipe:
        if self.rollout.temperature != 1.0:
            raise ValueError(
                f"rollout.temperature is {self.rollout.temperature}, but the engine reports "
                "log-probs before temperature, so training needs 1.0: set it back to 1.0"
            )
        return self

    @model_validator(mode="after")
    def engines_fit(self) -> Recipe:
        budget = self.rollout.engine.max_num_batched_tokens
        if self.placement.device == "cpu" and (budget or 0) < self.model.max_prompt_tokens:
            raise ValueError(
                "on a CPU vLLM runs prompts unchunked, so rollout.engine.max_num_batched_tokens "
                f"({budget}) must be at least model.max_prompt_tokens "
                f"({self.model.max_prompt_tokens}): raise the first or lower the second"
            )
        return self


class InputError(ValueError):
    """Something the user gave cannot be used; the message says where and what to do."""


class RecipeError(InputError):
    """A recipe that cannot be used."""


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe with its base and apply ``section.key=value`` overrides, last wins.

    Raises ``RecipeError`` naming the file and every setting that is wrong.
    """
    settings = read_settings(Path(path), seen=())
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise RecipeError(f"{override!r} is not of the form section.key=value")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"the value of {override!r} is not valid YAML") from error
        set_dotted(settings, key, parsed)
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        problems = "\n".join(f"  {describe_error(item)}" for item in error.errors())
        raise RecipeError(f"{path}:\n{problems}") from None


def read_settings(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The settings of a recipe file merged over those of its base."""
    if path.resolve() in seen:
        raise RecipeError(f"{path}: its chain of base recipes comes back to itself")
    try:
        settings = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe file") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise RecipeError(f"{path}: not a YAML file: {error}") from None
    if not isinstance(settings, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of sections, this is not")
    base = settings.pop("base", None)
    if base is None:
        return settings
    if not isinstance(base, str):
        raise RecipeError(f"{path}: base names one recipe file, not {base!r}")
    return merge(read_settings(path.parent / base, (*seen, path.resolve())), settings)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge; a section that changes its ``type``, or an empty one, replaces the base's whole."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            same_type = value.get("type", old.get("type")) == old.get("type")
            merged[key] = merge(old, value) if value and same_type else dict(value)
        else:
            merged[key] = value
    return merged


def set_dotted(settings: dict[str, Any], key: str, value: object) -> None:
    """Apply one override by the rules of ``merge``."""
    nested: object = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    assert isinstance(nested, dict)
    merged = merge(settings, nested)
    settings.clear()
    settings.update(merged)


def describe_error(item: Mapping[str, Any]) -> str:
    """One pydantic error as a sentence, with the nearest known key for an unknown one."""
    location = [part for part in item["loc"] if isinstance(part, str)]
    if item["type"] == "extra_forbidden":
        known = known_keys(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"{dotted(location)}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{dotted(location)}: missing, and it has no default"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "value_error":
        return message
    return f"{dotted(location)}: {message}, got {item['input']!r}"


def dotted(location: Sequence[str]) -> str:
    """The setting's name as it is written, without pydantic's union tags."""
    kept: list[str] = []
    section: Any = Recipe
    for part in location:
        if not is_section(section) and variants(section):
            # A union of sections: pydantic puts the chosen tag here.
            section = next((s for s in variants(section) if variant_tag(s) == part), object)
            continue
        kept.append(part)
        field = getattr(section, "model_fields", {}).get(part)
        section = object if field is None else field.annotation
    return ".".join(kept) or "recipe"


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def known_keys(location: Sequence[str]) -> list[str]:
    """Field names of the section at a pydantic error location (union tags included)."""
    section: Any = Recipe
    for part in location:
        if not is_section(section):
            section = next(s for s in variants(section) if variant_tag(s) == part)
        else:
            section = section.model_fields[part].annotation
    return sorted(section.model_fields)


def variants(union: Any) -> tuple[type[Section], ...]:
    found: list[type[Section]] = []
    for argument in get_args(union):
        if isinstance(argument, type) and issubclass(argument, Section):
            found.append(argument)
        else:
            found.extend(variants(argument))
    return tuple(found)


def variant_tag(section: type[Section]) -> str:
    return str(get_args(section.model_fields["type"].annotation)[0])


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML; ``load_recipe`` reads it back to an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
