"""RL as a stage of a pipeline: from the SFT's model, on the selected pairs."""

from __future__ import annotations

from rich.console import Console

from r1reward.pipeline.select import policy_hash
from r1reward.pipeline.sources import load_pairs
from r1reward.pipeline.train import train
from r1reward.recipe.derive import rl_recipe
from r1reward.recipe.recipe import Recipe
from r1reward.runs.manifest import pairs_hash, stage_record


async def rl_stage(recipe: Recipe, console: Console) -> None:
    """``train`` with the recipe of this stage, unless its model is there already."""
    run = rl_recipe(recipe)
    inputs = {"model": policy_hash(recipe)}
    if recipe.select is not None:
        inputs["select/pairs"] = stage_record(recipe, "select").output("pairs")
    else:
        inputs["data.train"] = pairs_hash(pair.pair_id for pair in load_pairs(recipe.data.train))
    record = stage_record(recipe, "train")
    named = {"name", "run_dir", "run_url", "annotate", "sft", "select", "final"}
    settings = run.model_dump(mode="json", exclude=named)
    # Model and pairs are compared by content: where the pipeline's folder lies says nothing of them.
    del settings["model"]["path"], settings["data"]["train"]
    if record.begin(settings, inputs):
        console.print(f"train is complete: {record.folder}", highlight=False)
        return
    await train(run, console)
    record.finish(["model"])
