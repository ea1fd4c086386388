"""Evaluation of one model on one benchmark, by engines of our own or by a server."""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial

from rich.console import Console

from r1reward.actors.launch import judge_system, sampling_system
from r1reward.data.video import FrameRules
from r1reward.engines.chat_generator import ChatGenerator, chat_prompt
from r1reward.engines.endpoint_errors import EndpointError
from r1reward.errors import InputError
from r1reward.evaluation.answers import Answer, append_answers, read_answers
from r1reward.evaluation.benchmarks.load import load_benchmark, refuse_unusable
from r1reward.evaluation.benchmarks.official import Protocol, protocol_of
from r1reward.evaluation.benchmarks.rows import MediaOptions
from r1reward.evaluation.conditions import (
    Asking,
    Conditions,
    build_conditions,
    predicted_conditions,
)
from r1reward.evaluation.counting import count_answers
from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.evaluation.evaluation import Evaluation
from r1reward.evaluation.items import Benchmark
from r1reward.evaluation.missing_answers import CountedRows, leave_out_missing
from r1reward.evaluation.predictions import read_predictions
from r1reward.evaluation.sampler import EvaluationSampler, is_finished, sample_answers
from r1reward.evaluation.shown_pairs import write_shown_pairs
from r1reward.evaluation.tables import print_evaluation
from r1reward.models.processor import PolicyProcessor
from r1reward.pipeline.assembly import evaluation_sampler
from r1reward.pipeline.printing import print_named
from r1reward.recipe.components import (
    JudgeSettings,
    RolloutSettings,
    judge_settings,
    rollout_settings,
)
from r1reward.recipe.engine_sections import PolicyEndpoint
from r1reward.recipe.recipe import EvalRecipe
from r1reward.recipe.sections import BenchSection, PromptSection, changed
from r1reward.report.build import build_report
from r1reward.runs.progress import counting_bar


async def evaluate_model(recipe: EvalRecipe, console: Console) -> None:
    """Ask, count, print. Goes on where an earlier run in the same folder stopped."""
    benchmark = load_bench(recipe.bench)
    recipe = with_room_for_images(recipe, benchmark)
    answers: Sequence[Answer] = []
    blind: Sequence[Answer] = []
    # A file shows its orders and samples only once it is read; a model is asked as the recipe says.
    conditions = build_conditions(
        str(recipe.predictions or recipe.model.path),
        benchmark,
        str(recipe.bench.path or recipe.bench.name),
        Asking(recipe.evaluate, recipe.prompt, recipe.model.max_new_tokens, recipe.seed),
    )
    conditions = as_sent(conditions, recipe.endpoint)
    if recipe.predictions is not None:
        refuse_unusable(benchmark, "predictions name rows by their number")
        answers = read_predictions(recipe.predictions, benchmark.items)
        conditions = predicted_conditions(conditions, benchmark, answers)
    protocol = protocol_of(recipe.bench.name, recipe.bench.official, recipe.bench.suite)
    if protocol is not None:
        check_single(protocol, conditions)
    folder = EvalFolder(recipe.run_dir)
    folder.prepare(recipe)
    write_shown_pairs(folder.rows, benchmark.items)
    if recipe.predictions is not None:
        folder.answers.unlink(missing_ok=True)
        append_answers(folder.answers, answers)
    else:
        answers, blind = await answers_of_model(recipe, benchmark, folder)
    counted = leave_out_missing(benchmark, answers, blind)
    evaluation = count(recipe, conditions, protocol, counted)
    folder.write_result(evaluation)
    print_evaluation(console, evaluation)
    report = build_report(folder.root, None)
    print_named(console, result=folder.result, answers=folder.answers, report=report)
    if evaluation.missing is not None and evaluation.missing.num_failed and recipe.endpoint:
        raise EndpointError(
            f"no answer came for {evaluation.missing.num_failed} samples, so their rows are not in the "
            f"result; the same command asks for them again. The first: {evaluation.missing.example}"
        )


def count(
    recipe: EvalRecipe, conditions: Conditions, protocol: Protocol | None, counted: CountedRows
) -> Evaluation:
    """The evaluation of the rows that have their answers, and what is missing beside them.

    Raises ``EndpointError`` if no row has.
    """
    missing, rows = counted.missing, counted.benchmark
    if missing is not None and not rows.items:
        raise EndpointError(
            f"none of the {missing.num_rows_asked} rows has its answers, so there is nothing to count "
            f"(refused: {missing.num_refused} samples, failed: {missing.num_failed}); the same command "
            f"asks again. The first: {missing.example}"
        )
    evaluation = count_answers(
        rows,
        counted.answers,
        replace(conditions, num_rows=len(rows.items)),
        prompt=recipe.prompt,
        protocol=protocol,
        image_off=counted.blind,
        scheduled=recipe.predictions is None,
    )
    if missing is None:
        return evaluation
    told = missing.sentence(evaluation.accuracy.value)
    return replace(evaluation, missing=missing, warnings=(told, *evaluation.warnings))


def as_sent(conditions: Conditions, endpoint: PolicyEndpoint | None) -> Conditions:
    """What is not sent to a server is not known: it samples by its own settings then."""
    left_out = endpoint.leave_out if endpoint is not None else ()
    return replace(
        conditions,
        temperature=None if "temperature" in left_out else conditions.temperature,
        top_p=None if "top_p" in left_out else conditions.top_p,
    )


def load_bench(bench: BenchSection) -> Benchmark:
    """Raises ``InputError`` naming file and row for what cannot be used."""
    frames = FrameRules(bench.num_frames, bench.frame_max_pixels)
    media = MediaOptions(bench.images, bench.missing, frames, bench.links)
    return load_benchmark(bench.name, bench.path, media, bench.num_rows)


def with_room_for_images(recipe: EvalRecipe, benchmark: Benchmark) -> EvalRecipe:
    """Engines set aside memory for as many images as a prompt may hold: no more than are needed."""
    most = max(len(item.pair.images) for item in benchmark.items)
    return changed(recipe, model=changed(recipe.model, max_images=max(1, most)))


def check_single(protocol: Protocol, conditions: Conditions) -> None:
    """Raises ``InputError`` where the rule takes one answer a row and there are to be more."""
    if protocol.num_samples == 1 and (conditions.orders == "both" or conditions.num_samples > 1):
        raise InputError(
            f"{protocol.owner} scoring of {conditions.benchmark} takes one answer a row, in one order: "
            "leave out --samples and --orders, or leave out --official or --suite"
        )


async def answers_of_model(
    recipe: EvalRecipe, benchmark: Benchmark, folder: EvalFolder
) -> tuple[list[Answer], list[Answer]]:
    """The answers, and those with the images switched off where the recipe wants them.

    An evaluation that is finished is counted again without starting an engine.
    """
    labels = {folder.answers: "evaluating"}
    if recipe.evaluate.image_off:
        labels[folder.blind_answers] = "images off"
    answers = {file: read_answers(file) for file in labels}
    if not all(is_finished(recipe.evaluate, recipe.seed, benchmark.items, file) for file in labels):
        has_answered = any(a.status == "answered" for kept in answers.values() for a in kept)
        async with running_sampler(recipe, has_answered) as sampler:
            for file, label in labels.items():
                with progress_bar(sampler, label) as shown:
                    blind = file == folder.blind_answers
                    answers[file] = await sample_answers(shown, benchmark.items, file, blind)
    return answers[folder.answers], answers.get(folder.blind_answers, [])


@asynccontextmanager
async def running_sampler(
    recipe: EvalRecipe, has_answered: bool
) -> AsyncIterator[EvaluationSampler]:
    """The model behind its endpoint, or in engines of our own, and a judge where there is one.

    ``has_answered``: the endpoint did in an earlier run.
    """
    judge = None
    if recipe.judge is not None:
        judge = judge_settings(recipe.judge, recipe.model, recipe.placement)
    build = partial(evaluation_sampler, recipe)
    if recipe.endpoint is None:
        rollout = rollout_settings(recipe.model, recipe.rollout, recipe.placement)
        async with engine_sampler(build, recipe.prompt, rollout, judge) as sampler:
            yield sampler
        return
    encode = partial(chat_prompt, settings=recipe.prompt)
    generator = ChatGenerator(recipe.endpoint, recipe.prompt, has_answered)
    async with AsyncExitStack() as at_end:
        at_end.push_async_callback(generator.client.close)
        running_judge = None
        if judge is not None:
            running_judge = await at_end.enter_async_context(judge_system(recipe.placement, judge))
        # A server gives no token ids.
        yield build(encode, generator, running_judge, lambda token_ids: ())


@asynccontextmanager
async def engine_sampler(
    build: Callable[..., EvaluationSampler],
    prompt: PromptSection,
    rollout: RolloutSettings,
    judge: JudgeSettings | None,
) -> AsyncIterator[EvaluationSampler]:
    """A sampler over engines that run while it is used.

    ``build`` takes what only running parts have: encode, generator, judge, token texts.
    """
    processor = PolicyProcessor(rollout.engine.model)
    async with sampling_system(rollout.engine.placement, rollout, judge) as system:
        encode = partial(processor.encode, settings=prompt)
        yield build(encode, system.generator, system.judge, processor.token_texts)


@contextmanager
def progress_bar(sampler: EvaluationSampler, label: str) -> Iterator[EvaluationSampler]:
    """The same sampler, reporting to a bar with rate and time left on standard error."""
    started, first = time.monotonic(), -1
    with counting_bar(label) as move:

        def progress(done: int, planned: int) -> None:
            nonlocal first
            if first < 0:
                first = done
            rate = (done - first) / max(time.monotonic() - started, 1e-9)
            move(done, planned, f"{rate:.1f}/s")

        yield replace(sampler, progress=progress)
