"""Supervised fine-tuning on the traces that agree with their labels; RL starts from its model."""

import logging
import time

from rich.console import Console

from r1reward.actors.launch import learner_system
from r1reward.pipeline.learning import resumed
from r1reward.pipeline.printing import print_named
from r1reward.pipeline.sources import model_hash, training_pairs
from r1reward.pipeline.traces import SftInputs, load_traces
from r1reward.recipe.components import sft_learner
from r1reward.recipe.derive import attempts_file, sft_recipe
from r1reward.recipe.pipeline_sections import AnnotateSection, SftSection
from r1reward.recipe.recipe import Recipe, SftRecipe
from r1reward.report.build import build_report
from r1reward.runs.folder import RunFolder
from r1reward.runs.manifest import pairs_hash, stage_record
from r1reward.sft_loop import SftSettings, fit_traces

logger = logging.getLogger(__name__)


async def sft_stage(
    recipe: Recipe, sft: SftSection, annotate: AnnotateSection, console: Console
) -> None:
    """Fit or go on fitting, export the model."""
    attempts = attempts_file(recipe)
    pairs = training_pairs(recipe.data)
    inputs = {
        "annotate/attempts.jsonl": stage_record(recipe, "annotate").output(attempts.name),
        "data.train": pairs_hash(pair.pair_id for pair in pairs),
        "model.path": model_hash(recipe, "base"),
    }
    record = stage_record(recipe, "sft")
    if record.begin(settings_of(recipe, sft), inputs):
        return
    traces = load_traces(recipe, sft, pairs, attempts, annotate.max_attempts)
    num_steps = sft.num_epochs * len(traces.train) // sft.batch_size
    run = sft_recipe(recipe, sft, num_steps)
    folder = RunFolder.of(run)
    folder.prepare(run)
    dropped = "".join(f", {count} {reason}" for reason, count in traces.dropped.items())
    logger.info(
        "SFT on %d traces in %d steps, %d held out%s",
        len(traces.train),
        num_steps,
        len(traces.heldout),
        dropped,
    )
    await fit(run, folder, traces, console)
    record.finish(["model"])
    print_named(console, model=folder.model, report=build_report(folder.root, None))


async def fit(run: SftRecipe, folder: RunFolder, traces: SftInputs, console: Console) -> None:
    """Run or resume the fine-tuning to its end and export the model."""
    started = time.monotonic()
    async with learner_system(run.placement, sft_learner(run)) as learner:
        logger.info("learner ready after %.0f s", time.monotonic() - started)
        settings = SftSettings(
            num_steps=run.num_steps,
            batch_size=run.learner.train_batch_size,
            seed=run.seed,
            evaluate_every=run.sft.evaluate_every,
            checkpoint_every=run.sft.checkpoint_every,
        )
        keep = run.sft.keep_checkpoints
        async with resumed(run, folder, learner, console, run.num_steps, keep) as at:
            data = traces.train, traces.heldout
            await fit_traces(settings, *data, learner, at.recorder, at.start_step, at.stop)


def settings_of(recipe: Recipe, sft: SftSection) -> dict[str, object]:
    """What the SFT's model depends on."""
    run = sft_recipe(recipe, sft, num_steps=1)
    return run.model_dump(
        mode="json", include={"seed", "model", "prompt", "learner", "placement", "sft"}
    )
