"""The stages of a pipeline recipe: their folders, and the recipe that each of them runs.

run_dir/annotate  attempts.jsonl                 the teacher's every answer
run_dir/sft       a training run with a model/   learned from the agreeing traces
run_dir/select    pairs/                         the pairs that RL trains on
run_dir/train     a training run with a model/   RL from the SFT's model
run_dir/eval      BENCH/base, BENCH/sft, BENCH/rl
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from r1reward.recipe.engine_sections import VllmJudge
from r1reward.recipe.recipe import EvalRecipe, Recipe
from r1reward.recipe.sections import BenchSection, FileSource, TrainSection

StageName = Literal["annotate", "sft", "select", "train", "eval"]
ModelName = Literal["base", "sft", "rl"]


def is_pipeline(recipe: Recipe) -> bool:
    """Whether RL is one stage of several; a recipe without other stages runs in its run folder itself."""
    return any((recipe.annotate, recipe.sft, recipe.select, recipe.final))


def planned_stages(recipe: Recipe) -> list[StageName]:
    """In the order they run."""
    optional: list[tuple[StageName, object]] = [
        ("annotate", recipe.annotate),
        ("sft", recipe.sft),
        ("select", recipe.select),
    ]
    last: list[StageName] = ["eval"] if recipe.final else []
    return [*(name for name, section in optional if section is not None), "train", *last]


def stage_folder(recipe: Recipe, stage: StageName) -> Path:
    if stage == "train" and not is_pipeline(recipe):
        return recipe.run_dir
    return recipe.run_dir / stage


def place_of(recipe: Recipe, stage: StageName) -> dict[str, object]:
    """The stage's folder and its copy in object storage, as settings of the stage's own recipe."""
    url = recipe.run_url
    below = (
        url if url is None or stage_folder(recipe, stage) == recipe.run_dir else f"{url}/{stage}"
    )
    return {"run_dir": stage_folder(recipe, stage), "run_url": below}


def attempts_file(recipe: Recipe) -> Path:
    return stage_folder(recipe, "annotate") / "attempts.jsonl"


def selected_pairs(recipe: Recipe) -> Path:
    return stage_folder(recipe, "select") / "pairs"


def model_path(recipe: Recipe, model: ModelName) -> str:
    """Where a model of the pipeline is: the base's folder or name, or a folder that a stage writes."""
    if model == "base":
        return recipe.model.path
    return str(stage_folder(recipe, "sft" if model == "sft" else "train") / "model")


def models(recipe: Recipe) -> list[ModelName]:
    return ["base", "sft", "rl"] if recipe.sft else ["base", "rl"]


def starting_model(recipe: Recipe) -> ModelName:
    """What RL starts from."""
    return "sft" if recipe.sft else "base"


def plain(recipe: Recipe) -> Recipe:
    """Without the other stages, and with the judge that the whole pipeline has.

    A judge that is the frozen policy is the pipeline's base model in every stage, as in the paper.
    """
    changes: dict[str, object] = dict.fromkeys(("annotate", "sft", "select", "final"))
    if isinstance(recipe.judge, VllmJudge) and recipe.judge.path == "policy":
        changes["judge"] = recipe.judge.model_copy(update={"path": recipe.model.path})
    return recipe.model_copy(update=changes)


def sft_recipe(recipe: Recipe, num_steps: int) -> Recipe:
    """The SFT in the words of a training run: the learner as in RL, but for batch and learning rate.

    A step is one batch, so the learning rate's schedule is as long as the SFT.
    """
    sft = recipe.sft
    assert sft is not None
    learner = {
        "lr": sft.lr,
        "train_batch_size": sft.batch_size,
        "warmup_share": sft.warmup_share,
        "min_lr_ratio": sft.min_lr_ratio,
    }
    rollout = {"prompts_per_step": sft.batch_size, "samples_per_prompt": 1}
    # No reference model: there is nothing to stay close to.
    algorithm = {"kl_beta": 0.0, "log_reference_kl": False}
    changes = {
        "name": f"{recipe.name}-sft",
        **place_of(recipe, "sft"),
        "learner": recipe.learner.model_copy(update=learner),
        "rollout": recipe.rollout.model_copy(update=rollout),
        "algorithm": recipe.algorithm.model_copy(update=algorithm),
        "train": TrainSection(
            num_steps=num_steps,
            checkpoint_every=sft.checkpoint_every,
            keep_checkpoints=sft.keep_checkpoints,
        ),
    }
    return plain(recipe).model_copy(update=changes)


def rl_recipe(recipe: Recipe) -> Recipe:
    """The RL stage as a training run of its own."""
    if not is_pipeline(recipe):
        return recipe
    path = model_path(recipe, starting_model(recipe))
    changes: dict[str, object] = {
        **place_of(recipe, "train"),
        "model": recipe.model.model_copy(update={"path": path}),
    }
    if recipe.select is not None:
        train = FileSource(type="file", path=selected_pairs(recipe))
        changes["data"] = recipe.data.model_copy(update={"train": train})
    return plain(recipe).model_copy(update=changes)


def final_recipe(recipe: Recipe, model: ModelName, bench: BenchSection) -> EvalRecipe:
    """The evaluation of one model on one benchmark."""
    assert recipe.final is not None
    base = plain(recipe)
    folder = stage_folder(recipe, "eval") / bench.name / model
    settings = {name: getattr(recipe.final, name) for name in type(recipe.final).model_fields}
    del settings["benches"]
    return EvalRecipe.model_validate(
        {
            "name": f"{recipe.name}-{bench.name}-{model}",
            "seed": recipe.seed,
            "run_dir": folder,
            "model": base.model.model_copy(update={"path": model_path(recipe, model)}),
            "prompt": base.prompt,
            "rollout": base.rollout,
            "judge": base.judge,
            "reward": base.reward,
            "placement": base.placement,
            "bench": bench,
            "evaluate": settings,
        }
    )
