"""Which pairs RL trains on: by default the hard ones, which took the teacher more than one attempt."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from rich.console import Console

from r1reward.data.atomic import write_whole
from r1reward.data.attempts import read_annotations
from r1reward.data.level_counts import LevelCount
from r1reward.data.order import derive_seed
from r1reward.data.stores.pair_store import distinct_pairs
from r1reward.data.stores.pair_writer import PairWriter
from r1reward.data.stores.store import Header, pair_row
from r1reward.errors import InputError
from r1reward.evaluation.answers import Answer, read_answers
from r1reward.evaluation.benchmarks.stored_pairs import pairs_benchmark
from r1reward.evaluation.sampler import (
    EvaluationSampler,
    is_finished,
    sample_answers,
    scoring_of_answers,
)
from r1reward.evaluation.tables import new_table
from r1reward.pipeline.evaluate import engine_sampler, progress_bar
from r1reward.pipeline.printing import print_named
from r1reward.pipeline.sources import model_hash, training_pairs
from r1reward.recipe.components import rollout_settings
from r1reward.recipe.derive import (
    attempts_file,
    model_path,
    selected_pairs,
    stage_folder,
    starting_model,
)
from r1reward.recipe.pipeline_sections import (
    AttemptsSelection,
    PassRateSelection,
    RecordedSelection,
    SelectSection,
)
from r1reward.recipe.recipe import Recipe
from r1reward.recipe.sections import EvaluateSection, RewardSection, changed
from r1reward.runs.manifest import pairs_hash, stage_record
from r1reward.runs.names import ANSWERS, ATTEMPTS, COUNTS
from r1reward.types import PreferencePair, Slot

UNKNOWN = "not annotated"


# Of a pair: its level in words, whether that qualifies it, and its difficulty.
Grade = tuple[str, bool, int]
Grader = Callable[[str, PreferencePair], Grade]


@dataclass(frozen=True)
class Graded:
    """A pair, by its index in the data. ``level`` is its difficulty in words."""

    pair_index: int
    pair_id: str
    source: str
    level: str
    qualifies: bool
    difficulty: int = 0


async def select_stage(recipe: Recipe, section: SelectSection, console: Console) -> None:
    """Grade, choose, write the chosen pairs as a store, and print counts by level and source."""
    pairs = training_pairs(recipe.data)
    inputs = {"data.train": pairs_hash(pair.pair_id for pair in pairs)}
    settings: dict[str, object] = {"seed": recipe.seed, "select": section.model_dump(mode="json")}
    if isinstance(section, AttemptsSelection):
        inputs[f"annotate/{ATTEMPTS}"] = stage_record(recipe, "annotate").output(ATTEMPTS)
    if isinstance(section, PassRateSelection):
        inputs["model"] = model_hash(recipe, starting_model(recipe))
        settings |= recipe.model_dump(mode="json", include={"prompt", "model"})
    record = stage_record(recipe, "select")
    if record.begin(settings, inputs):
        return
    match section:
        case AttemptsSelection():
            grade = by_attempts(recipe, section)
        case RecordedSelection():
            grade = partial(by_record, section)
        case PassRateSelection():
            grade = await by_pass_rate(recipe, section, pairs)
    graded = [
        Graded(index, pair_id, pair.source, *grade(pair_id, pair))
        for index, pair_id, pair in distinct_pairs(pairs)
    ]
    chosen = draw(graded, section.quotas, section.num_pairs, recipe.seed)
    counts = count(graded, chosen)
    print_counts(console, counts)
    if not chosen:
        raise InputError(
            "select: no pair qualifies; choose other levels or rates (see the counts above)"
        )
    write_selected(recipe, pairs, chosen)
    text = json.dumps([asdict(row) for row in counts], indent=1)
    write_whole(record.folder / COUNTS, f"{text}\n")
    record.finish(["pairs", COUNTS])
    print_named(console, pairs=selected_pairs(recipe))


def by_attempts(recipe: Recipe, section: AttemptsSelection) -> Grader:
    """A pair that still waits for an attempt has no level, and does not qualify."""
    assert recipe.annotate is not None  # checked with the recipe
    most = recipe.annotate.max_attempts
    annotations = read_annotations(attempts_file(recipe), most)
    levels = {most + 1 if level == "failed" else level for level in section.levels}

    def grade(pair_id: str, pair: PreferencePair) -> Grade:
        annotation = annotations.get(pair_id)
        difficulty = None if annotation is None else annotation.difficulty
        if difficulty is None:
            return UNKNOWN, False, pair.difficulty
        tried = "1 attempt" if difficulty == 1 else f"{difficulty} attempts"
        return "failed" if difficulty > most else tried, difficulty in levels, difficulty

    return grade


def by_record(section: RecordedSelection, pair_id: str, pair: PreferencePair) -> Grade:
    return f"difficulty {pair.difficulty}", pair.difficulty in section.levels, pair.difficulty


async def by_pass_rate(
    recipe: Recipe, section: PassRateSelection, pairs: Sequence[PreferencePair]
) -> Grader:
    """Samples the policy in both orders of every pair, as an evaluation does; goes on after a kill."""
    distinct = [pair for _, _, pair in distinct_pairs(pairs)]
    benchmark = pairs_benchmark("select", distinct, {})
    settings = EvaluateSection(samples=section.samples, orders="both", temperature=1.0)
    file = stage_folder(recipe, "select") / ANSWERS
    if is_finished(settings, recipe.seed, benchmark.items, file):
        answers = read_answers(file)
    else:
        path = model_path(recipe, starting_model(recipe))
        model = changed(recipe.model, path=path)
        rollout = rollout_settings(model, recipe.rollout, recipe.placement)
        scoring = scoring_of_answers(recipe.prompt, RewardSection())
        build = partial(EvaluationSampler, settings, recipe.seed, model, scoring)
        # The judge's word changes no answer; the policy is sampled alone.
        async with engine_sampler(build, recipe.prompt, rollout, None) as sampler:
            with progress_bar(sampler, "passing") as shown:
                answers = await sample_answers(shown, benchmark.items, file)
    labels = {item.key: item.pair.preferred for item in benchmark.items}
    right, asked = count_right(answers, labels)

    def grade(pair_id: str, pair: PreferencePair) -> Grade:
        fits = section.min_rate <= right[pair_id] / asked[pair_id] <= section.max_rate
        return f"right {right[pair_id]} of {asked[pair_id]}", fits, pair.difficulty

    return grade


def count_right(
    answers: Sequence[Answer], labels: Mapping[str, Slot]
) -> tuple[Counter[str], Counter[str]]:
    """Returns how often each pair was answered rightly, and how often it was asked.

    Raises ``InputError`` for a pair that the policy cannot be given: training would end at it.
    """
    right, asked = Counter[str](), Counter[str]()
    for answer in answers:
        if answer.is_missing:
            raise InputError(answer.reason)
        asked[answer.item] += 1
        right[answer.item] += answer.response == labels[answer.item]
    return right, asked


def draw(
    graded: Sequence[Graded], quotas: Mapping[str, int] | None, num_pairs: int | None, seed: int
) -> list[Graded]:
    """The qualifying pairs within the quotas and the limit, chosen by seed and content, in data order."""
    turns = sorted(
        (item for item in graded if item.qualifies),
        key=lambda item: derive_seed(seed, "select", item.pair_id),
    )
    chosen: list[Graded] = []
    taken: Counter[str] = Counter()
    for item in turns:
        if len(chosen) == num_pairs:
            break
        if quotas is not None and taken[item.source] >= quotas.get(item.source, 0):
            continue
        taken[item.source] += 1
        chosen.append(item)
    return sorted(chosen, key=lambda item: item.pair_index)


def count(graded: Sequence[Graded], chosen: Sequence[Graded]) -> list[LevelCount]:
    """How many pairs each level and source has, and how many of them were chosen."""
    there = Counter((item.level, item.source) for item in graded)
    taken = Counter((item.level, item.source) for item in chosen)
    return [
        LevelCount(level, source, there[level, source], taken[level, source])
        for level, source in sorted(there)
    ]


def print_counts(console: Console, counts: Sequence[LevelCount]) -> None:
    table = new_table("", "level", "source", "pairs", "selected")
    table.columns[1].justify = "left"
    for row in counts:
        table.add_row(row.level, row.source, f"{row.pairs:,}", f"{row.selected:,}")
    table.add_section()
    sums = [sum(row.pairs for row in counts), sum(row.selected for row in counts)]
    table.add_row("all", "", *(f"{value:,}" for value in sums))
    console.print(table)


def write_selected(
    recipe: Recipe, pairs: Sequence[PreferencePair], chosen: Sequence[Graded]
) -> None:
    """A store in the order of the data. The number of attempts becomes the pairs' difficulty."""
    folder = selected_pairs(recipe)
    # Of a run that was killed here: it is quickly made again.
    shutil.rmtree(folder, ignore_errors=True)
    writer = PairWriter(folder, Header(), {"command": "select"})
    writer.claim(resume=False)
    for item in chosen:
        writer.add(pair_row(replace(pairs[item.pair_index], difficulty=item.difficulty)))
    writer.finish({"num_pairs": len(chosen)})
