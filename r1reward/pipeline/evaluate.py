"""Evaluation of one model on one benchmark, by engines of our own or by a server."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial

from rich.console import Console

from r1reward.actors.launch import running_system
from r1reward.data.requests import Encode
from r1reward.data.video import FrameRules
from r1reward.engines.chat_generator import ChatGenerator, chat_prompt
from r1reward.errors import InputError
from r1reward.evaluation.answers import Answer, append_answers, read_answers
from r1reward.evaluation.benchmarks.load import load_benchmark
from r1reward.evaluation.benchmarks.official import official_protocol
from r1reward.evaluation.benchmarks.rows import MediaOptions
from r1reward.evaluation.counting import count_answers
from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.evaluation.evaluation import Conditions
from r1reward.evaluation.items import Benchmark
from r1reward.evaluation.predictions import read_predictions
from r1reward.evaluation.sampler import Asker, ask, is_finished
from r1reward.evaluation.shown_pairs import write_shown_pairs
from r1reward.evaluation.tables import print_evaluation
from r1reward.interfaces import Generator
from r1reward.models.processor import PolicyProcessor
from r1reward.pipeline.progress import counting_bar
from r1reward.recipe.choices import OrderMode
from r1reward.recipe.engine_sections import PolicyEndpoint
from r1reward.recipe.recipe import EngineRecipe, EvalRecipe
from r1reward.recipe.sections import BenchSection, EvaluateSection, PromptSection
from r1reward.report.build import build_report
from r1reward.sizing.bundles import Role
from r1reward.types import Order, PreferencePair, Prompt


async def evaluate_model(recipe: EvalRecipe, console: Console) -> None:
    """Ask, count, print. Goes on where an earlier run in the same folder stopped."""
    benchmark = load_bench(recipe.bench)
    recipe = with_room_for_images(recipe, benchmark)
    answers: Sequence[Answer] = []
    blind: Sequence[Answer] = []
    # A file shows its orders and samples only once it is read; a model is asked as the recipe says.
    found = conditions(recipe, benchmark)
    if recipe.predictions is not None:
        answers = read_predictions(recipe.predictions, benchmark.items)
        found = predicted_conditions(found, benchmark, answers)
    check_official(recipe, found)
    folder = EvalFolder(recipe.run_dir)
    folder.prepare(recipe)
    write_shown_pairs(folder.rows, benchmark.items)
    if recipe.predictions is not None:
        folder.answers.unlink(missing_ok=True)
        append_answers(folder.answers, answers)
    else:
        answers, blind = await ask_model(recipe, benchmark, folder)
    evaluation = count_answers(
        benchmark,
        answers,
        found,
        recipe.evaluate.bootstrap_samples,
        official=recipe.bench.official,
        image_off=blind,
        scheduled=recipe.predictions is None,
    )
    folder.write_result(evaluation)
    print_evaluation(console, evaluation)
    for what, path in (
        ("result", folder.result),
        ("answers", folder.answers),
        ("report", build_report(folder.root, None)),
    ):
        console.print(f"{what:9}{path}", highlight=False)


def load_bench(bench: BenchSection) -> Benchmark:
    """Raises ``InputError`` naming file and row for what cannot be used."""
    frames = FrameRules(bench.num_frames, bench.frame_max_pixels)
    media = MediaOptions(bench.images, bench.missing, frames)
    return load_benchmark(bench.name, bench.path, media, bench.num_rows)


def with_room_for_images(recipe: EvalRecipe, benchmark: Benchmark) -> EvalRecipe:
    """Engines set aside memory for as many images as a prompt may hold: no more than are needed."""
    most = max(len(item.pair.images) for item in benchmark.items)
    model = recipe.model.model_copy(update={"max_images": max(1, most)})
    return recipe.model_copy(update={"model": model})


def conditions(recipe: EvalRecipe, benchmark: Benchmark) -> Conditions:
    evaluate = recipe.evaluate
    return Conditions(
        model=str(recipe.predictions or recipe.model.path),
        benchmark=benchmark.name,
        data=str(recipe.bench.path or recipe.bench.name),
        num_rows=len(benchmark.items),
        num_dropped=benchmark.num_dropped,
        orders=evaluate.orders,
        num_samples=evaluate.samples,
        temperature=evaluate.sampling_temperature,
        top_p=evaluate.top_p,
        seed=recipe.seed,
        template=recipe.prompt.template,
        adaptive=evaluate.adaptive,
    )


def check_official(recipe: EvalRecipe, found: Conditions) -> None:
    """Raises ``InputError`` where the official rule takes one answer a row and there are to be more."""
    protocol = official_protocol(found.benchmark) if recipe.bench.official else None
    if protocol is None or protocol.num_samples > 1:
        return
    if found.orders == "both" or found.num_samples > 1:
        raise InputError(
            f"{found.benchmark}'s official scoring takes one answer a row, in one order: leave out "
            "--samples and --orders, or leave out --official"
        )


def predicted_conditions(
    planned: Conditions, benchmark: Benchmark, answers: Sequence[Answer]
) -> Conditions:
    """What a file of predictions shows of how it was made: orders and samples, nothing else."""
    planned = replace(planned, temperature=None, top_p=None, template=None, adaptive=None)
    asked = {(answer.item, answer.order) for answer in answers}
    per_order = Counter((answer.item, answer.order) for answer in answers)
    splits = [(per_order[i.key, "stored"], per_order[i.key, "swapped"]) for i in benchmark.items]
    orders: OrderMode = "single"
    if tossed_orders(splits):
        return replace(planned, orders="random", num_samples=sum(splits[0]))
    if len(asked) == 2 * len(benchmark.items):
        orders = "both"
    elif all(answer.order == "stored" for answer in answers):
        orders = "stored"
    elif asked == {(item.key, item.preferred_first) for item in benchmark.items}:
        orders = "authors"
    # The odd K that two pools of this size are the full plan of, as for a model that is asked.
    smallest = min(count for split in splits for count in split if count)
    return replace(
        planned,
        orders=orders,
        num_samples=2 * smallest - 1 if orders == "both" else smallest,
    )


def tossed_orders(splits: Sequence[tuple[int, int]]) -> bool:
    """Whether each sample's order was a coin's: as many samples a row, in halves of all sizes."""
    return (
        len({stored + swapped for stored, swapped in splits}) == 1
        and len(set(splits)) > 1
        and any(stored and swapped for stored, swapped in splits)
        and any(abs(stored - swapped) > 1 for stored, swapped in splits)
    )


async def ask_model(
    recipe: EvalRecipe, benchmark: Benchmark, folder: EvalFolder
) -> tuple[list[Answer], list[Answer]]:
    """The answers, and those with the images switched off where they are asked for.

    An evaluation that is finished is counted again without starting an engine.
    """
    files = [folder.answers, *[folder.blind_answers] * recipe.evaluate.image_off]
    if all(is_finished(recipe.evaluate, recipe.seed, benchmark.items, file) for file in files):
        answers = read_answers(folder.answers)
        return answers, read_answers(folder.blind_answers) if len(files) > 1 else []
    async with asker(recipe, recipe.evaluate, recipe.endpoint) as parts:
        with progress_bar(parts, "evaluating") as shown:
            answers = await ask(shown, benchmark.items, folder.answers)
        blind: list[Answer] = []
        if recipe.evaluate.image_off:
            with progress_bar(parts, "images off") as shown:
                blind = await ask(shown, benchmark.items, folder.blind_answers, blind=True)
    return answers, blind


@asynccontextmanager
async def asker(
    recipe: EngineRecipe, settings: EvaluateSection, endpoint: PolicyEndpoint | None = None
) -> AsyncIterator[Asker]:
    """Everything needed to ask: a server or engines of our own, and a judge where there is one."""
    roles: list[Role] = []
    processor = None
    if endpoint is None:
        processor = PolicyProcessor(recipe.model)
        roles.append("rollout")
    if recipe.judge is not None:
        roles.append("judge")
    async with AsyncExitStack() as stack:
        generator: Generator | None = None
        judge = None
        if roles:
            system = await stack.enter_async_context(running_system(recipe, processor, roles))
            generator, judge = system.generator, system.judge
        encode: Encode
        if endpoint is not None:
            encode, texts = partial(chat_pair, recipe.prompt), no_texts
            generator = ChatGenerator(endpoint)
        else:
            assert processor is not None
            encode, texts = partial(encode_pair, processor, recipe.prompt), processor.token_texts
        assert generator is not None
        yield Asker(recipe, settings, encode, generator, judge, texts)


def encode_pair(
    processor: PolicyProcessor, settings: PromptSection, pair: PreferencePair, order: Order
) -> Prompt:
    return processor.encode(pair, order, settings)


def chat_pair(settings: PromptSection, pair: PreferencePair, order: Order) -> Prompt:
    return chat_prompt(pair, order, settings)


def no_texts(token_ids: Sequence[int]) -> tuple[str, ...]:
    """A server tells no token ids."""
    return ()


@contextmanager
def progress_bar(parts: Asker, label: str) -> Iterator[Asker]:
    """The same parts, reporting to a bar with rate and time left on standard error."""
    started, first = time.monotonic(), -1
    with counting_bar(label) as move:

        def progress(done: int, planned: int) -> None:
            nonlocal first
            if first < 0:
                first = done
            rate = (done - first) / max(time.monotonic() - started, 1e-9)
            move(done, planned, f"{rate:.1f}/s")

        yield replace(parts, progress=progress)
