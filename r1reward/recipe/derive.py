"""The stages of a pipeline recipe: their folders, and the recipe that each of them runs.

run_dir/annotate  attempts.jsonl                 the teacher's every answer
run_dir/sft       a training run with a model/   learned from the agreeing traces
run_dir/select    pairs/                         the pairs that RL trains on
run_dir/train     a training run with a model/   RL from the SFT's model
run_dir/eval      BENCH/base, BENCH/sft, BENCH/rl

Every recipe that is made here is validated as one that was read from a file.
"""

from pathlib import Path
from typing import Literal

from r1reward.recipe.engine_sections import JudgeSection, VllmJudge
from r1reward.recipe.pipeline_sections import FinalSection, SftSection
from r1reward.recipe.recipe import EvalRecipe, Recipe, SftRecipe
from r1reward.recipe.sections import BenchSection, FileSource, Section, changed

StageName = Literal["annotate", "sft", "select", "train", "eval"]
ModelName = Literal["base", "sft", "rl"]
STAGE_SECTIONS = ("annotate", "sft", "select", "final")


def is_pipeline(recipe: Recipe) -> bool:
    """Whether RL is one stage of several; a recipe without other stages runs in its run folder itself."""
    return any((recipe.annotate, recipe.sft, recipe.select, recipe.final))


def planned_stages(recipe: Recipe) -> list[StageName]:
    """The stages that the recipe has sections for, in the order they run."""
    sections: dict[StageName, Section | None] = {
        "annotate": recipe.annotate,
        "sft": recipe.sft,
        "select": recipe.select,
        "train": recipe.train,
        "eval": recipe.final,
    }
    return [stage for stage, section in sections.items() if section is not None]


def stage_folder(recipe: Recipe, stage: StageName) -> Path:
    """The folder that a stage writes; RL alone writes into the run folder itself."""
    if stage == "train" and not is_pipeline(recipe):
        return recipe.run_dir
    return recipe.run_dir / stage


def stage_location(recipe: Recipe, stage: StageName) -> dict[str, object]:
    """The stage's folder and its copy in object storage, as settings of the stage's own recipe."""
    folder = stage_folder(recipe, stage)
    url = recipe.run_url
    if url is not None and folder != recipe.run_dir:
        url = f"{url}/{stage}"
    return {"run_dir": folder, "run_url": url}


def attempts_file(recipe: Recipe) -> Path:
    """The ledger of the teacher's attempts."""
    return stage_folder(recipe, "annotate") / "attempts.jsonl"


def selected_pairs(recipe: Recipe) -> Path:
    """The store of pairs that the selection writes."""
    return stage_folder(recipe, "select") / "pairs"


def model_path(recipe: Recipe, model: ModelName) -> str:
    """Where a model of the pipeline is: the base's folder or name, or a folder that a stage writes."""
    if model == "base":
        return recipe.model.path
    return str(stage_folder(recipe, "sft" if model == "sft" else "train") / "model")


def models(recipe: Recipe) -> list[ModelName]:
    """The models that the last stage compares."""
    return ["base", "sft", "rl"] if recipe.sft else ["base", "rl"]


def starting_model(recipe: Recipe) -> ModelName:
    """The model that RL starts from."""
    return "sft" if recipe.sft else "base"


def pipeline_judge(judge: JudgeSection, base_path: str) -> JudgeSection:
    """The judge of every stage: one that is the frozen policy is the pipeline's base model (paper)."""
    if isinstance(judge, VllmJudge) and judge.path == "policy":
        return changed(judge, path=base_path)
    return judge


def with_model(recipe: Recipe, path: str) -> Recipe:
    """The recipe for another starting model. The judge stays what it was."""
    judge = pipeline_judge(recipe.judge, recipe.model.path)
    return changed(recipe, model=changed(recipe.model, path=path), judge=judge)


def sft_recipe(recipe: Recipe, sft: SftSection, num_steps: int) -> SftRecipe:
    """The SFT stage: the learner as in RL, but for batch and learning rate.

    A step is one batch, so the learning rate's schedule is ``num_steps`` long.
    """
    shared = {"seed", "model", "prompt", "placement", "learner", "tracking", "alerts"}
    settings = recipe.model_dump(include=shared) | stage_location(recipe, "sft")
    settings |= {"name": f"{recipe.name}-sft", "sft": sft, "num_steps": num_steps}
    settings["learner"] |= sft.model_dump(include={"lr", "warmup_share", "min_lr_ratio"})
    settings["learner"]["train_batch_size"] = sft.batch_size
    return SftRecipe.model_validate(settings)


def rl_recipe(recipe: Recipe) -> Recipe:
    """The RL stage as a training run of its own: from the SFT's model, on the selected pairs."""
    if not is_pipeline(recipe):
        return recipe
    data = recipe.data
    if recipe.select is not None:
        data = changed(data, train=FileSource(type="file", path=selected_pairs(recipe)))
    started = with_model(recipe, model_path(recipe, starting_model(recipe)))
    without_stages = dict.fromkeys(STAGE_SECTIONS)
    return changed(started, data=data, **stage_location(recipe, "train"), **without_stages)


def final_recipe(
    recipe: Recipe, final: FinalSection, model: ModelName, bench: BenchSection
) -> EvalRecipe:
    """The evaluation of one model on one benchmark."""
    shared = {"seed", "prompt", "rollout", "reward", "placement"}
    return EvalRecipe.model_validate(
        recipe.model_dump(include=shared)
        | {
            "name": f"{recipe.name}-{bench.name}-{model}",
            "run_dir": stage_folder(recipe, "eval") / bench.name / model,
            "model": changed(recipe.model, path=model_path(recipe, model)),
            "judge": pipeline_judge(recipe.judge, recipe.model.path),
            "bench": bench,
            "evaluate": final.model_dump(exclude={"benches"}),
        }
    )
