"""The recipe: one frozen pydantic tree that holds everything a run depends on.

The modules ``*sections.py`` have its parts, here are the trees and what must hold between parts: every
error of that kind says what to change. ``recipe/files.py`` reads recipes; none of these imports torch or
an engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from r1reward.recipe.engine_sections import (
    JudgeSection,
    PlacementSection,
    PolicyEndpoint,
    RolloutSection,
    VllmJudge,
)
from r1reward.recipe.learner_sections import (
    AlgorithmSection,
    LearnerSection,
    NoCorrection,
    SequenceMask,
    TokenIs,
)
from r1reward.recipe.location import checked_url, overlap, working_folder
from r1reward.recipe.pipeline_sections import (
    AnnotateSection,
    AttemptsSelection,
    FinalSection,
    SelectSection,
    SftSection,
    ShapesTeacher,
)
from r1reward.recipe.sections import (
    AlertsSection,
    BenchSection,
    DataSection,
    EvaluateSection,
    ModelSection,
    PromptSection,
    RewardSection,
    Section,
    ShapesSource,
    TrackingSection,
    TrainingEvaluation,
    TrainSection,
)


class EngineRecipe(Section):
    """What sampling and judging depend on, whether or not anything is trained."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; trackers and reports show it."""

    seed: int = 0
    """Seed of everything that is drawn: data order, sampling, bootstrap."""

    run_dir: Path
    """Folder of the run: a path, or an fsspec URL for a run in object storage."""

    run_url: str | None = None
    """Object storage (an fsspec URL) that run_dir is copied to and comes back from; None: no copy."""

    model: ModelSection
    prompt: PromptSection = PromptSection()
    rollout: RolloutSection = RolloutSection()
    judge: JudgeSection | None = None
    """Who says whether an answer follows from its analysis; None: nobody, and nothing is judged."""

    reward: RewardSection = RewardSection()
    placement: PlacementSection = PlacementSection()

    @model_validator(mode="before")
    @classmethod
    def run_dir_may_be_a_url(cls, settings: object) -> object:
        """A URL for ``run_dir`` is ``run_url``, and the folder is a temporary one of this machine."""
        if not isinstance(settings, dict) or "://" not in str(settings.get("run_dir")):
            return settings
        url = str(settings["run_dir"])
        checked_url(url)  # before it is shown
        if settings.get("run_url") not in (None, url):
            raise ValueError(
                f"run_dir is {url} and run_url is {settings['run_url']}: give one URL, or a path as "
                "run_dir"
            )
        return settings | {"run_dir": working_folder(url), "run_url": url}

    @field_validator("run_url")
    @classmethod
    def is_a_url(cls, value: str | None) -> str | None:
        return None if value is None else checked_url(value)

    @model_validator(mode="after")
    def copy_lies_elsewhere(self) -> Self:
        if self.run_url is not None and overlap(self.run_dir, self.run_url):
            raise ValueError(
                f"run_dir is {self.run_dir} and run_url is {self.run_url}, of which one lies in the "
                "other: give run_dir alone, or another run_url"
            )
        return self

    @model_validator(mode="after")
    def engines_fit(self) -> Self:
        budget = self.rollout.engine.max_num_batched_tokens
        if self.placement.device == "cpu" and (budget or 0) < self.model.max_prompt_tokens:
            raise ValueError(
                "on a CPU vLLM runs prompts unchunked, so rollout.engine.max_num_batched_tokens "
                f"({budget}) must be at least model.max_prompt_tokens "
                f"({self.model.max_prompt_tokens}): raise the first or lower the second"
            )
        return self

    @model_validator(mode="after")
    def one_process_holds_them(self) -> Self:
        if self.placement.mode != "in_process":
            return self
        rollout = self.rollout
        for name, value in (
            ("rollout.num_actors", rollout.num_actors),
            ("rollout.engine.tensor_parallel_size", rollout.engine.tensor_parallel_size),
            ("placement.num_judge_actors", self.placement.num_judge_actors),
        ):
            if value != 1:
                raise ValueError(
                    f"placement.mode in_process has one of everything, but {name} is {value}: set it "
                    "to 1, or placement.mode to split or colocate"
                )
        if isinstance(self.judge, VllmJudge):
            raise ValueError(
                "placement.mode in_process runs without vLLM, but judge.type is vllm: set judge to "
                "{type: rule} or to an endpoint, or placement.mode to split or colocate"
            )
        return self


class EvalRecipe(EngineRecipe):
    """One evaluation.

    ``endpoint`` replaces the engines by a server, ``predictions`` by a file of answers made elsewhere.
    """

    bench: BenchSection
    evaluate: EvaluateSection = EvaluateSection()
    endpoint: PolicyEndpoint | None = None
    predictions: Path | None = None
    """File of answers that were made elsewhere, scored instead of asking a model; None: ask."""


class Recipe(EngineRecipe):
    """Everything a run depends on. Never mutated after load.

    With ``annotate``, ``sft``, ``select`` or ``final`` it describes a pipeline of stages, of which the
    other sections are the RL stage's.
    """

    data: DataSection
    judge: JudgeSection
    """Who says whether an answer follows from its analysis."""

    algorithm: AlgorithmSection = AlgorithmSection()
    learner: LearnerSection = LearnerSection()
    train: TrainSection
    evaluate: TrainingEvaluation = TrainingEvaluation()
    tracking: TrackingSection = TrackingSection()
    alerts: AlertsSection = AlertsSection()
    annotate: AnnotateSection | None = None
    sft: SftSection | None = None
    select: SelectSection | None = None
    """Which of the training pairs RL learns from; None: all of them."""

    final: FinalSection | None = None

    @property
    def rollouts_per_step(self) -> int:
        return self.rollout.prompts_per_step * self.rollout.samples_per_prompt

    @property
    def num_optimizer_steps(self) -> int:
        return self.train.num_steps * (self.rollouts_per_step // self.learner.train_batch_size)

    @property
    def rollout_correction(self) -> NoCorrection | TokenIs | SequenceMask:
        """What ``auto`` means here: token_is for rollouts of older weights, nothing at lag 0."""
        chosen = self.algorithm.rollout_correction
        if chosen.type != "auto":
            return chosen
        if self.train.max_policy_lag > 0 and self.algorithm.old_logprobs == "learner":
            return TokenIs(type="token_is")
        return NoCorrection(type="none")

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
    def turns_can_be_taken(self) -> Recipe:
        if not self.placement.takes_turns:
            return self
        judge = self.judge.engine if isinstance(self.judge, VllmJudge) else None
        engines = [("rollout.engine", self.rollout.engine)]
        engines += [("judge.engine", judge)] if judge is not None else []
        for name, engine in engines:
            if engine.tensor_parallel_size > 1:
                raise ValueError(
                    f"placement.mode colocate puts a whole engine on each GPU, but {name}."
                    f"tensor_parallel_size is {engine.tensor_parallel_size}: set it to 1, or "
                    "placement.mode to split"
                )
        used = round(sum(engine.gpu_memory_utilization for _, engine in engines), 6)
        if used > 0.95:
            raise ValueError(
                "placement.mode colocate has rollout and judge engine awake on one GPU, but their "
                f"gpu_memory_utilization adds up to {used:g}: lower them to 0.95 in all"
            )
        if self.train.max_policy_lag > 0:
            raise ValueError(
                "placement.mode colocate lets sampling and learning take turns, so nothing overlaps: "
                "set train.max_policy_lag to 0, or placement.mode to split"
            )
        if self.learner.zero_stage == 0 or self.learner.offload_optimizer:
            raise ValueError(
                "placement.mode colocate moves ZeRO's states between GPU and host memory: set "
                "learner.zero_stage to 1, 2 or 3 and learner.offload_optimizer to false, or "
                "placement.mode to split"
            )
        return self

    @model_validator(mode="after")
    def one_process_is_one_rank(self) -> Recipe:
        if self.placement.mode == "in_process" and self.learner.num_ranks != 1:
            raise ValueError(
                "placement.mode in_process has one learner rank, but learner.num_ranks is "
                f"{self.learner.num_ranks}: set it to 1, or placement.mode to split or colocate"
            )
        return self

    @model_validator(mode="after")
    def groups_exist(self) -> Recipe:
        if self.algorithm.baseline != "none" and self.rollout.samples_per_prompt == 1:
            raise ValueError(
                f"algorithm.baseline {self.algorithm.baseline} compares the samples of one prompt, but "
                "rollout.samples_per_prompt is 1: raise it, or set algorithm.baseline to none"
            )
        if self.reward.position_weight > 0 and not self.rollout.both_orders:
            raise ValueError(
                "reward.position_weight rewards pairs that are right in both orders: set "
                "rollout.both_orders to true, or reward.position_weight to 0"
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
    def learner_can_run_the_model(self) -> Recipe:
        if self.learner.packing and self.model.attention != "sdpa":
            raise ValueError(
                "learner.packing cuts sdpa's attention between samples, but model.attention is "
                f"{self.model.attention}: set model.attention to sdpa or learner.packing to false"
            )
        if self.learner.zero_stage == 0 and self.model.dtype == "bfloat16":
            raise ValueError(
                "learner.zero_stage 0 would sum gradients in bfloat16, where small ones vanish: set "
                "learner.zero_stage to 1, 2 or 3, or model.dtype to float32"
            )
        return self

    @model_validator(mode="after")
    def offload_has_somewhere_to_go(self) -> Recipe:
        if self.learner.offload_optimizer and self.placement.device == "cpu":
            raise ValueError(
                "learner.offload_optimizer moves the optimizer from GPU to host memory, but with "
                "placement.device cpu it is there already: set learner.offload_optimizer to false"
            )
        if self.learner.offload_optimizer and self.learner.zero_stage == 0:
            raise ValueError(
                "learner.offload_optimizer needs ZeRO, but learner.zero_stage is 0: "
                "set learner.zero_stage to 1, 2 or 3"
            )
        return self

    @model_validator(mode="after")
    def stages_follow(self) -> Recipe:
        if self.annotate is None and self.sft is not None:
            raise ValueError("sft learns a teacher's traces: add the section annotate")
        if isinstance(self.select, AttemptsSelection):
            if self.annotate is None:
                raise ValueError(
                    "select.type attempts counts a teacher's attempts: add the section annotate, or "
                    "choose another select.type"
                )
            most = self.annotate.max_attempts
            for level in self.select.levels:
                if level != "failed" and level > most:
                    raise ValueError(
                        f"select.levels has {level}, but annotate.max_attempts is {most}: pairs "
                        "without an agreeing attempt have the level 'failed'"
                    )
        if self.sft is not None and self.sft.batch_size < self.learner.num_ranks:
            raise ValueError(
                f"sft.batch_size ({self.sft.batch_size}) is below learner.num_ranks "
                f"({self.learner.num_ranks}): every rank needs a sequence"
            )
        return self

    @model_validator(mode="after")
    def teacher_fits(self) -> Recipe:
        if self.annotate is None:
            return self
        asked = self.annotate.prompt or self.prompt
        if (asked.think_tag, asked.answer_tag) != (self.prompt.think_tag, self.prompt.answer_tag):
            raise ValueError(
                "annotate.prompt and prompt have different tags, so the policy would learn traces "
                "that it is not read by: give both the same think_tag and answer_tag"
            )
        if isinstance(self.annotate.teacher, ShapesTeacher):
            train = self.data.train
            if not isinstance(train, ShapesSource) or train.split not in ("train", "heldout"):
                raise ValueError(
                    "annotate.teacher of type shapes knows the built-in pairs only: set data.train to "
                    "{type: shapes, split: train, ...}, or choose another teacher"
                )
            if (asked.think_tag, asked.answer_tag) != ("think", "answer"):
                raise ValueError(
                    "annotate.teacher of type shapes writes the tags think and answer: leave "
                    "prompt.think_tag and prompt.answer_tag as they are"
                )
        return self
