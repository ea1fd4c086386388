"""Cold start: a teacher writes traces, and the number of its attempts tells how hard a pair is."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import cycle

from rich.console import Console

from r1reward.actors.launch import sampling_system
from r1reward.actors.rollout import RolloutGroup
from r1reward.data.attempts import (
    Annotation,
    count_levels,
    put_in_order,
    read_annotations,
    read_attempts,
)
from r1reward.engines.chat_client import ChatClient
from r1reward.engines.endpoint_errors import Breaker
from r1reward.engines.teachers import EndpointClient, EngineTeacher, Teacher
from r1reward.errors import ServiceError
from r1reward.interfaces import Generator, Sampling
from r1reward.models.processor import PolicyProcessor
from r1reward.pipeline.annotation import Annotating, annotate
from r1reward.pipeline.printing import print_named
from r1reward.pipeline.sources import training_pairs
from r1reward.recipe.components import rollout_settings
from r1reward.recipe.derive import attempts_file
from r1reward.recipe.engine_sections import RolloutSection
from r1reward.recipe.pipeline_sections import (
    AnnotateSection,
    EndpointTeacher,
    ShapesTeacher,
    VllmTeacher,
)
from r1reward.recipe.recipe import Recipe
from r1reward.recipe.sections import PromptSection, ShapesSource, changed
from r1reward.runs.manifest import pairs_hash, stage_record
from r1reward.runs.progress import counting_bar

# What may be changed between two runs without making the answers that are there worthless.
HOW_IT_IS_ASKED = {
    *("url", "api_key_env", "timeout_s", "max_concurrent", "max_tokens_field"),
    *("engine", "num_actors"),
}


class AnnotationStoppedError(ServiceError):
    """The stage ended before every pair was annotated; what was answered is kept."""


async def annotate_stage(recipe: Recipe, section: AnnotateSection, console: Console) -> None:
    """Ask until every pair has a difficulty, and print how many pairs have which.

    Raises ``AnnotationStoppedError`` with the reason when pairs are left, or all of them were refused.
    """
    pairs = training_pairs(recipe.data)
    pair_ids = [pair.pair_id for pair in pairs]
    record = stage_record(recipe, "annotate")
    path = attempts_file(recipe)
    has_answered = bool(read_attempts(path))
    if not has_answered and path.is_file():
        # The teacher never answered: it may be asked in another way now.
        record.path.unlink(missing_ok=True)
        path.unlink()
    if record.begin(settings_of(recipe, section), {"data.train": pairs_hash(pair_ids)}):
        return
    started = time.monotonic()
    async with running_teacher_of(recipe, section, has_answered) as teacher:
        with counting_bar("annotating") as move:

            def progress(outcome: Annotating) -> None:
                spent = f"cost {outcome.spent:.2f}" if outcome.spent else ""
                move(outcome.num_known + outcome.num_pairs, len(set(pair_ids)), spent)

            done = await annotate(section, teacher, pairs, path, recipe.seed, progress)
    annotations = read_annotations(path, section.max_attempts)
    ours = [annotations[pair_id] for pair_id in dict.fromkeys(pair_ids) if pair_id in annotations]
    num_left = len(set(pair_ids)) - sum(result.difficulty is not None for result in ours)
    print_levels(console, section, ours, done, time.monotonic() - started)
    if done.stopped:
        raise AnnotationStoppedError(done.stopped)
    num_askable = num_left - done.num_refused
    if num_askable > 0:
        raise AnnotationStoppedError(
            f"{num_askable} pairs got no answer from the teacher; run it again to ask for them"
        )
    if not ours:
        raise AnnotationStoppedError(
            f"the teacher refused all {num_left} pairs, the last with: {done.last_refusal}"
        )
    put_in_order(path, pair_ids)
    record.finish([path.name])
    print_named(console, attempts=path)


def settings_of(recipe: Recipe, section: AnnotateSection) -> dict[str, object]:
    """What the answers depend on."""
    kept = section.model_dump(mode="json", include={"temperature", "max_attempts", "max_tokens"})
    kept["teacher"] = section.teacher.model_dump(mode="json", exclude=HOW_IT_IS_ASKED)
    kept["prompt"] = (section.prompt or recipe.prompt).model_dump(mode="json")
    return {"seed": recipe.seed, "annotate": kept}


@asynccontextmanager
async def running_teacher_of(
    recipe: Recipe, section: AnnotateSection, has_answered: bool
) -> AsyncIterator[Teacher]:
    """The teacher that the recipe names, while it is needed; ``has_answered``: in an earlier run."""
    prompt = section.prompt or recipe.prompt
    sampling = Sampling(section.temperature, section.max_tokens)
    match section.teacher:
        case EndpointTeacher() as endpoint:
            client = ChatClient(endpoint, has_answered=has_answered)
            yield EndpointClient(client, prompt, sampling)
        case ShapesTeacher() as scripted:
            with scripted_endpoint(recipe, scripted, prompt) as endpoint:
                yield EndpointClient(ChatClient(endpoint), prompt, sampling)
        case VllmTeacher() as settings:
            breaker = Breaker(has_answered)
            async with engine_teacher(recipe, settings, prompt, sampling, breaker) as teacher:
                yield teacher


@contextmanager
def scripted_endpoint(
    recipe: Recipe, teacher: ShapesTeacher, prompt: PromptSection
) -> Iterator[EndpointTeacher]:
    """The miniature's teacher behind a real endpoint on a free port of this machine."""
    from r1reward.shapes.pairs import make_scenes_and_pairs
    from r1reward.shapes.teacher import make_book, running_teacher

    source = recipe.data.train
    assert isinstance(source, ShapesSource) and source.split in ("train", "heldout")
    made = make_scenes_and_pairs(source.split, source.num_pairs, source.seed)
    noise = {3: teacher.noise_easy, 2: teacher.noise_medium, 1: teacher.noise_hard}
    with running_teacher(make_book(made, prompt.template), noise) as url:
        yield EndpointTeacher(
            type="openai", url=url, model="shapes-teacher", max_concurrent=teacher.max_concurrent
        )


@asynccontextmanager
async def engine_teacher(
    recipe: Recipe,
    teacher: VllmTeacher,
    prompt: PromptSection,
    sampling: Sampling,
    breaker: Breaker,
) -> AsyncIterator[EngineTeacher]:
    """Engines of this cluster that hold the teacher's weights."""
    model = changed(recipe.model, path=teacher.path, max_new_tokens=sampling.max_new_tokens)
    wanted = RolloutSection(num_actors=teacher.num_actors, engine=teacher.engine)
    rollout = rollout_settings(model, wanted, recipe.placement)
    processor = PolicyProcessor(model)
    async with sampling_system(recipe.placement, rollout, None) as system:
        generators: list[Generator] = [system.generator]
        if isinstance(system.generator, RolloutGroup):
            generators = [
                RolloutGroup([actor], rollout.max_retries) for actor in system.generator.actors
            ]
        limit = model.max_prompt_tokens
        yield EngineTeacher(cycle(generators), processor, prompt, sampling, limit, breaker)


def print_levels(
    console: Console,
    section: AnnotateSection,
    annotations: Sequence[Annotation],
    done: Annotating,
    seconds: float,
) -> None:
    counts = count_levels(annotations, section.max_attempts)
    num_failed = counts.pop(section.max_attempts + 1)
    levels = [f"{count} after {level}" for level, count in counts.items() if level]
    print_named(console, agreed=f"{', '.join([*levels, f'{num_failed} failed'])} (attempts)")
    billed = [a for annotation in annotations for a in annotation.attempts]
    tokens = sum((a.prompt_tokens or 0) + (a.completion_tokens or 0) for a in billed)
    cost = f", cost {done.spent:.2f} in all" if done.spent else ""
    answers = (
        f"{done.num_answers} new in {seconds:.0f} s, {len(billed)} in all, "
        f"{tokens:,} tokens{cost}; {done.num_failed_calls} calls failed, "
        f"{done.num_refused} prompts refused"
    )
    if done.num_refused:
        answers += f", the last with: {done.last_refusal}"
    print_named(console, answers=answers)
