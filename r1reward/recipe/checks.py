"""What must hold between the sections of a recipe. Each check says which setting to change.

Every function raises ``ValueError`` with one sentence, or returns nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1reward.recipe.engine_sections import VllmJudge
from r1reward.recipe.pipeline_sections import AttemptsSelection, ShapesTeacher
from r1reward.recipe.sections import ShapesSource

if TYPE_CHECKING:
    from r1reward.recipe.recipe import EvalRecipe, Recipe, SftRecipe


def check_engines(recipe: Recipe | EvalRecipe) -> None:
    """On a CPU a whole prompt must fit into one of vLLM's batches.

    With ``placement.mode: in_process`` there is one of everything, and no vLLM.
    """
    model, rollout, placement = recipe.model, recipe.rollout, recipe.placement
    budget = rollout.engine.max_num_batched_tokens
    if placement.device == "cpu" and (budget or 0) < model.max_prompt_tokens:
        raise ValueError(
            "on a CPU vLLM runs prompts unchunked, so rollout.engine.max_num_batched_tokens "
            f"({budget}) must be at least model.max_prompt_tokens "
            f"({model.max_prompt_tokens}): raise the first or lower the second"
        )
    if placement.mode != "in_process":
        return
    for name, value in (
        ("rollout.num_actors", rollout.num_actors),
        ("rollout.engine.tensor_parallel_size", rollout.engine.tensor_parallel_size),
        ("placement.num_judge_actors", placement.num_judge_actors),
    ):
        if value != 1:
            raise ValueError(
                f"placement.mode in_process has one of everything, but {name} is {value}: set it "
                "to 1, or placement.mode to split or colocate"
            )
    if isinstance(recipe.judge, VllmJudge):
        raise ValueError(
            "placement.mode in_process runs without vLLM, but judge.type is vllm: set judge to "
            "{type: rule} or to an endpoint, or placement.mode to split or colocate"
        )


def check_learner(recipe: Recipe | SftRecipe) -> None:
    """The learner can run this model, its batches and its ranks where it is placed."""
    model, learner, placement = recipe.model, recipe.learner, recipe.placement
    if learner.train_batch_size < learner.num_ranks:
        raise ValueError(
            f"learner.train_batch_size ({learner.train_batch_size}) is below "
            f"learner.num_ranks ({learner.num_ranks}): every rank needs a sequence"
        )
    longest = model.max_sequence_tokens
    if learner.micro_batch_tokens < longest:
        raise ValueError(
            f"learner.micro_batch_tokens ({learner.micro_batch_tokens}) cannot hold one "
            f"sequence of model.max_prompt_tokens + model.max_new_tokens ({longest}): raise it"
        )
    if placement.mode == "in_process" and learner.num_ranks != 1:
        raise ValueError(
            "placement.mode in_process has one learner rank, but learner.num_ranks is "
            f"{learner.num_ranks}: set it to 1, or placement.mode to split or colocate"
        )
    if learner.packing is True and model.attention != "sdpa":
        raise ValueError(
            "learner.packing cuts sdpa's attention between samples, but model.attention is "
            f"{model.attention}: set model.attention to sdpa or learner.packing to false"
        )
    if learner.zero_stage == 0 and model.dtype == "bfloat16":
        raise ValueError(
            "learner.zero_stage 0 would sum gradients in bfloat16, where small ones vanish: set "
            "learner.zero_stage to 1, 2 or 3, or model.dtype to float32"
        )
    if learner.offload_optimizer and placement.device == "cpu":
        raise ValueError(
            "learner.offload_optimizer moves the optimizer from GPU to host memory, but with "
            "placement.device cpu it is there already: set learner.offload_optimizer to false"
        )
    if learner.offload_optimizer and learner.zero_stage == 0:
        raise ValueError(
            "learner.offload_optimizer needs ZeRO, but learner.zero_stage is 0: "
            "set learner.zero_stage to 1, 2 or 3"
        )


def check_colocation(recipe: Recipe) -> None:
    """Engines and learner can take turns on the same GPUs."""
    model, learner = recipe.model, recipe.learner
    if not recipe.placement.takes_turns:
        return
    engines = [("rollout.engine", recipe.rollout.engine)]
    if isinstance(recipe.judge, VllmJudge):
        engines.append(("judge.engine", recipe.judge.engine))
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
    if recipe.train.max_policy_lag > 0:
        raise ValueError(
            "placement.mode colocate lets sampling and learning take turns, so nothing overlaps: "
            "set train.max_policy_lag to 0, or placement.mode to split"
        )
    # In bfloat16 stage 1 is DeepSpeed's BF16_Optimizer, which has no ``offload_states``; that of stage 3
    # asserts DeepSpeed's own fused Adam, and leaves frozen weights broken behind.
    can_leave = (1, 2) if model.dtype == "float32" else (2,)
    if learner.zero_stage not in can_leave or learner.offload_optimizer:
        raise ValueError(
            "placement.mode colocate moves the learner's states between GPU and host memory, which "
            f"DeepSpeed does in {model.dtype} for learner.zero_stage {' or '.join(map(str, can_leave))} "
            f"without learner.offload_optimizer, but they are {learner.zero_stage} and "
            f"{str(learner.offload_optimizer).lower()}: set them to 2 and false, or placement.mode to "
            "split"
        )


def check_step(recipe: Recipe) -> None:
    """A step's rollouts are a whole number of train batches.

    Baselines and rewards that compare rollouts have something to compare, on policy.
    """
    rollout, learner, algorithm = recipe.rollout, recipe.learner, recipe.algorithm
    if rollout.rollouts_per_step % learner.train_batch_size:
        raise ValueError(
            f"rollout.prompts_per_step * rollout.samples_per_prompt ({rollout.rollouts_per_step}) "
            f"must be a multiple of learner.train_batch_size ({learner.train_batch_size}): "
            "change one of the three"
        )
    if algorithm.baseline != "none" and rollout.samples_per_prompt == 1:
        raise ValueError(
            f"algorithm.baseline {algorithm.baseline} compares the samples of one prompt, but "
            "rollout.samples_per_prompt is 1: raise it, or set algorithm.baseline to none"
        )
    if recipe.reward.position_weight > 0 and not rollout.both_orders:
        raise ValueError(
            "reward.position_weight rewards pairs that are right in both orders: set "
            "rollout.both_orders to true, or reward.position_weight to 0"
        )
    if rollout.temperature != 1.0:
        raise ValueError(
            f"rollout.temperature is {rollout.temperature}, but the engine reports "
            "log-probs before temperature, so training needs 1.0: set it back to 1.0"
        )


def check_stages(recipe: Recipe) -> None:
    """Every stage has the stage before it that it builds on."""
    annotate, sft, select = recipe.annotate, recipe.sft, recipe.select
    num_ranks = recipe.learner.num_ranks
    if annotate is None and sft is not None:
        raise ValueError("sft learns a teacher's traces: add the section annotate")
    if isinstance(select, AttemptsSelection):
        if annotate is None:
            raise ValueError(
                "select.type attempts counts a teacher's attempts: add the section annotate, or "
                "choose another select.type"
            )
        for level in select.levels:
            if level != "failed" and level > annotate.max_attempts:
                raise ValueError(
                    f"select.levels has {level}, but annotate.max_attempts is "
                    f"{annotate.max_attempts}: pairs without an agreeing attempt have the level "
                    "'failed'"
                )
    if sft is not None and sft.batch_size < num_ranks:
        raise ValueError(
            f"sft.batch_size ({sft.batch_size}) is below learner.num_ranks ({num_ranks}): every "
            "rank needs a sequence"
        )


def check_teacher(recipe: Recipe) -> None:
    """What the teacher writes can be read and learned by the policy."""
    annotate, prompt, train = recipe.annotate, recipe.prompt, recipe.data.train
    if annotate is None:
        return
    asked = annotate.prompt or prompt
    if (asked.think_tag, asked.answer_tag) != (prompt.think_tag, prompt.answer_tag):
        raise ValueError(
            "annotate.prompt and prompt have different tags, so the policy would learn traces "
            "that it is not read by: give both the same think_tag and answer_tag"
        )
    if not isinstance(annotate.teacher, ShapesTeacher):
        return
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
