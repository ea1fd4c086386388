"""Supervised fine-tuning on the traces that agree with their labels; RL starts from its model."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from rich.console import Console

from r1reward.actors.launch import running_system
from r1reward.data.attempts import Annotation, Attempt, read_annotations
from r1reward.data.order import derive_seed
from r1reward.data.stores.pair_store import distinct_pairs
from r1reward.errors import InputError
from r1reward.models.model_folder import resolve_model_path
from r1reward.models.processor import PolicyProcessor
from r1reward.pipeline.sources import load_pairs
from r1reward.recipe.derive import attempts_file, sft_recipe
from r1reward.recipe.model_settings import write_model_settings
from r1reward.recipe.recipe import Recipe
from r1reward.report.build import build_report
from r1reward.runs.checkpoint import resume
from r1reward.runs.folder import RunFolder
from r1reward.runs.manifest import content_hash, pairs_hash, stage_record
from r1reward.runs.recorder import RunRecorder
from r1reward.runs.signals import stop_on_signal
from r1reward.runs.trackers import Trackers
from r1reward.sft_loop import fit_traces
from r1reward.types import Order, PreferencePair, TraceSample

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenTrace:
    """A teacher's trace: the pair's place in the data, the order it was written for, and the text."""

    place: int
    order: Order
    text: str


class TraceSamples(Sequence[TraceSample]):
    """Traces as samples, each encoded when it is asked for: images stay on disk until then."""

    def __init__(
        self, traces: Sequence[WrittenTrace], encode: Callable[[WrittenTrace], TraceSample]
    ) -> None:
        self.traces = traces
        self.encode = encode

    def __len__(self) -> int:
        return len(self.traces)

    @overload
    def __getitem__(self, index: int) -> TraceSample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TraceSample]: ...
    def __getitem__(self, index: int | slice) -> TraceSample | Sequence[TraceSample]:
        if isinstance(index, slice):
            return TraceSamples(self.traces[index], self.encode)
        return self.encode(self.traces[index])


@dataclass(frozen=True)
class SftInputs:
    """Everything that can be wrong with the traces has been checked once this exists.

    ``dropped`` counts agreeing traces that cannot be learned, by reason.
    """

    train: TraceSamples
    heldout: TraceSamples
    dropped: Counter[str]


async def sft_stage(recipe: Recipe, console: Console) -> None:
    """Fit or go on fitting, export the model."""
    assert recipe.sft is not None
    attempts = attempts_file(recipe)
    pairs = load_pairs(recipe.data.train)
    inputs = {
        "annotate/attempts.jsonl": stage_record(recipe, "annotate").output(attempts.name),
        "data.train": pairs_hash(pair.pair_id for pair in pairs),
        "model.path": model_hash(recipe.model.path),
    }
    record = stage_record(recipe, "sft")
    if record.begin(settings_of(recipe), inputs):
        console.print(f"sft is complete: {record.folder}", highlight=False)
        return
    traces = load_traces(recipe, pairs, attempts)
    num_steps = recipe.sft.num_epochs * len(traces.train) // recipe.sft.batch_size
    run = sft_recipe(recipe, num_steps)
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
    await fit(recipe, run, folder, traces, console)
    record.finish(["model"])
    for what, path in (("model", folder.model), ("report", build_report(folder.root, None))):
        console.print(f"{what:9}{path}", highlight=False)


async def fit(
    recipe: Recipe, run: Recipe, folder: RunFolder, traces: SftInputs, console: Console
) -> None:
    assert recipe.sft is not None
    started = time.monotonic()
    async with running_system(run, None, ["learner"]) as system:
        learner = system.learner
        assert learner is not None
        logger.info("learner ready after %.0f s", time.monotonic() - started)
        start_step = await resume(folder.checkpoints, learner, folder.remote_checkpoints)
        # A run that has no checkpoint yet measures the first held-out loss, step 0, again as well.
        folder.forget_after(start_step or -1)
        if start_step:
            logger.info("resuming after step %d", start_step)
        with Trackers(run, folder.root, console, start_step) as trackers:
            recorder = RunRecorder(folder, run, trackers.opened)
            with stop_on_signal() as stop:
                await fit_traces(
                    run,
                    traces.train,
                    traces.heldout,
                    recipe.sft.evaluate_every,
                    learner,
                    recorder,
                    start_step,
                    stop,
                )
        await learner.export(folder.model)
        write_model_settings(folder.model, run)


def settings_of(recipe: Recipe) -> dict[str, object]:
    """What the SFT's model depends on."""
    run = sft_recipe(recipe, num_steps=1)
    used = {"seed", "model", "prompt", "learner", "placement"}
    assert recipe.sft is not None
    return run.model_dump(mode="json", include=used) | {"sft": recipe.sft.model_dump(mode="json")}


def model_hash(path: str) -> str:
    """Of a model's files; a hub's name stands for itself."""
    folder = Path(resolve_model_path(path))
    return content_hash(folder) if folder.is_dir() else path


def load_traces(recipe: Recipe, pairs: Sequence[PreferencePair], attempts: Path) -> SftInputs:
    """The traces to learn and those that only measure, drawn by seed. Raises ``InputError``."""
    assert recipe.sft is not None and recipe.annotate is not None
    sft = recipe.sft
    processor = PolicyProcessor(recipe.model)

    def encode(trace: WrittenTrace) -> TraceSample:
        prompt = processor.encode(pairs[trace.place], trace.order, recipe.prompt)
        if prompt.num_tokens > recipe.model.max_prompt_tokens:
            raise InputError(f"{prompt.pair.origin}: longer than model.max_prompt_tokens")
        return processor.encode_trace(prompt, trace.text)

    annotations = read_annotations(attempts, recipe.annotate.max_attempts)
    dropped: Counter[str] = Counter()
    train: list[tuple[int, WrittenTrace]] = []
    heldout: list[tuple[int, WrittenTrace]] = []
    for place, pair, attempt in agreeing(pairs, annotations):
        if sft.well_formed_only and (attempt.truncated or not attempt.well_formed):
            dropped["badly formed"] += 1
            continue
        # Pairs of one question stay on one side.
        side = derive_seed(recipe.seed, "sft held out", pair.group or attempt.pair_id) / 2**48
        turn = derive_seed(recipe.seed, "sft", attempt.pair_id)
        trace = WrittenTrace(place, attempt.order, attempt.text)
        (heldout if side < sft.heldout_share else train).append((turn, trace))

    def usable(traces: list[tuple[int, WrittenTrace]], limit: int | None) -> list[WrittenTrace]:
        kept: list[WrittenTrace] = []
        for _, trace in sorted(traces, key=lambda item: item[0]):
            if len(kept) == limit:
                break
            try:
                encode(trace)
            except InputError as error:
                logger.debug("%s", error)
                dropped["too long or not encodable"] += 1
                continue
            kept.append(trace)
        return kept

    learned = usable(train, sft.num_traces)
    measured = usable(heldout, sft.max_heldout)
    if len(learned) < sft.batch_size:
        raise InputError(
            f"{attempts}: {len(learned)} agreeing traces can be learned, fewer than sft.batch_size "
            f"({sft.batch_size}): annotate more pairs, or lower it"
        )
    if sft.num_traces and len(learned) < sft.num_traces:
        logger.warning("sft.num_traces is %d, there are %d", sft.num_traces, len(learned))
    if len(measured) < recipe.learner.num_ranks:
        measured = []  # every rank needs one
    return SftInputs(TraceSamples(learned, encode), TraceSamples(measured, encode), dropped)


def agreeing(
    pairs: Sequence[PreferencePair], annotations: dict[str, Annotation]
) -> Iterator[tuple[int, PreferencePair, Attempt]]:
    """Every pair once that the teacher agreed with, its place and the attempt that agrees."""
    for place, pair_id, pair in distinct_pairs(pairs):
        found = annotations.get(pair_id)
        if found is not None and found.agreeing is not None:
            yield place, pair, found.agreeing
