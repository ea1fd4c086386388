"""Which pairs RL trains on: by default the hard ones, which took the teacher more than one attempt."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from r1reward.data.atomic import write_whole
from r1reward.data.attempts import read_annotations
from r1reward.data.order import derive_seed
from r1reward.data.stores.pair_store import distinct_pairs
from r1reward.data.stores.pair_writer import PairWriter
from r1reward.data.stores.store import Header, pair_row
from r1reward.errors import InputError
from r1reward.evaluation.answers import read_answers
from r1reward.evaluation.benchmarks.stored_pairs import pairs_benchmark
from r1reward.evaluation.sampler import ask, is_finished
from r1reward.pipeline.evaluate import asker, progress_bar
from r1reward.pipeline.sft import model_hash
from r1reward.pipeline.sources import load_pairs
from r1reward.recipe.derive import (
    attempts_file,
    model_path,
    plain,
    selected_pairs,
    stage_folder,
    starting_model,
)
from r1reward.recipe.pipeline_sections import (
    AttemptsSelection,
    PassRateSelection,
    RecordedSelection,
)
from r1reward.recipe.recipe import EngineRecipe, Recipe
from r1reward.recipe.sections import EvaluateSection
from r1reward.runs.manifest import pairs_hash, stage_record
from r1reward.types import PreferencePair

COUNTS = "counts.json"
UNKNOWN = "not annotated"


@dataclass(frozen=True)
class Graded:
    """A pair, by its place in the data. ``level`` is its difficulty in words."""

    place: int
    pair_id: str
    source: str
    level: str
    qualifies: bool
    difficulty: int | None = None


async def select_stage(recipe: Recipe, console: Console) -> None:
    """Grade, choose, write the chosen pairs as a store, and print counts by level and source."""
    section = recipe.select
    assert section is not None
    pairs = load_pairs(recipe.data.train)
    inputs = {"data.train": pairs_hash(pair.pair_id for pair in pairs)}
    settings: dict[str, object] = {"seed": recipe.seed, "select": section.model_dump(mode="json")}
    if isinstance(section, AttemptsSelection):
        inputs["annotate/attempts.jsonl"] = stage_record(recipe, "annotate").output(
            "attempts.jsonl"
        )
    if isinstance(section, PassRateSelection):
        inputs["model"] = policy_hash(recipe)
        settings |= recipe.model_dump(mode="json", include={"prompt", "model"})
    record = stage_record(recipe, "select")
    if record.begin(settings, inputs):
        console.print(f"select is complete: {record.folder}", highlight=False)
        return
    match section:
        case AttemptsSelection():
            graded = by_attempts(recipe, section, pairs)
        case RecordedSelection():
            graded = by_record(section, pairs)
        case PassRateSelection():
            graded = await by_pass_rate(recipe, section, pairs)
    chosen = draw(graded, section.quotas, section.num_pairs, recipe.seed)
    counts = count(graded, chosen)
    print_counts(console, counts)
    if not chosen:
        raise InputError(
            "select: no pair qualifies; choose other levels or rates (see the counts above)"
        )
    write_selected(recipe, pairs, chosen)
    write_whole(record.folder / COUNTS, json.dumps(counts, indent=1) + "\n")
    record.finish(["pairs", COUNTS])
    console.print(f"pairs    {selected_pairs(recipe)}", highlight=False)


def policy_hash(recipe: Recipe) -> str:
    """Of the model that RL starts from."""
    if starting_model(recipe) == "sft":
        return stage_record(recipe, "sft").output("model")
    return model_hash(recipe.model.path)


def by_attempts(
    recipe: Recipe, section: AttemptsSelection, pairs: Sequence[PreferencePair]
) -> list[Graded]:
    """A pair that still waits for an attempt has no level, and does not qualify."""
    assert recipe.annotate is not None
    most = recipe.annotate.max_attempts
    annotations = read_annotations(attempts_file(recipe), most)
    levels = {most + 1 if level == "failed" else level for level in section.levels}
    graded = []
    for place, pair_id, pair in distinct_pairs(pairs):
        found = annotations.get(pair_id)
        difficulty = None if found is None else found.difficulty
        level = UNKNOWN if difficulty is None else attempts_level(difficulty, most)
        graded.append(Graded(place, pair_id, pair.source, level, difficulty in levels, difficulty))
    return graded


def attempts_level(difficulty: int, max_attempts: int) -> str:
    if difficulty > max_attempts:
        return "failed"
    return "1 attempt" if difficulty == 1 else f"{difficulty} attempts"


def by_record(section: RecordedSelection, pairs: Sequence[PreferencePair]) -> list[Graded]:
    return [
        Graded(
            place,
            pair_id,
            pair.source,
            f"difficulty {pair.difficulty}",
            pair.difficulty in section.levels,
        )
        for place, pair_id, pair in distinct_pairs(pairs)
    ]


async def by_pass_rate(
    recipe: Recipe, section: PassRateSelection, pairs: Sequence[PreferencePair]
) -> list[Graded]:
    """Asks the policy in both orders of every pair, as an evaluation does, and goes on after a kill."""
    once = list(distinct_pairs(pairs))
    benchmark = pairs_benchmark("select", [pair for _, _, pair in once], {})
    base = plain(recipe)
    path = model_path(recipe, starting_model(recipe))
    # The judge's word changes no answer; the policy is asked alone.
    engines = EngineRecipe(
        name=f"{recipe.name}-select",
        seed=recipe.seed,
        run_dir=stage_folder(recipe, "select"),
        model=base.model.model_copy(update={"path": path}),
        prompt=base.prompt,
        rollout=base.rollout,
        placement=base.placement,
    )
    settings = EvaluateSection(samples=section.samples, orders="both", temperature=1.0)
    file = stage_folder(recipe, "select") / "answers.jsonl"
    if is_finished(settings, recipe.seed, benchmark.items, file):
        answers = read_answers(file)
    else:
        async with asker(engines, settings) as parts:
            with progress_bar(parts, "passing") as shown:
                answers = await ask(shown, benchmark.items, file)
    labels = {item.key: item.pair.preferred for item in benchmark.items}
    right, asked = Counter[str](), Counter[str]()
    for answer in answers:
        asked[answer.item] += 1
        right[answer.item] += answer.response == labels[answer.item]
    graded = []
    for place, pair_id, pair in once:
        rate = right[pair_id] / asked[pair_id]
        level = f"right {right[pair_id]} of {asked[pair_id]}"
        fits = section.min_rate <= rate <= section.max_rate
        graded.append(Graded(place, pair_id, pair.source, level, fits))
    return graded


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
    return sorted(chosen, key=lambda item: item.place)


def count(graded: Sequence[Graded], chosen: Sequence[Graded]) -> list[dict[str, object]]:
    """How many pairs each level and source has, and how many of them were chosen."""
    there = Counter((item.level, item.source) for item in graded)
    taken = Counter((item.level, item.source) for item in chosen)
    return [
        {
            "level": level,
            "source": source,
            "pairs": there[level, source],
            "selected": taken[level, source],
        }
        for level, source in sorted(there)
    ]


def print_counts(console: Console, counts: Sequence[Mapping[str, object]]) -> None:
    table = Table(box=SIMPLE_HEAD)
    for name in ("level", "source"):
        table.add_column(name)
    for name in ("pairs", "selected"):
        table.add_column(name, justify="right")
    for row in counts:
        table.add_row(
            *(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values())
        )
    table.add_section()
    sums = [sum(int(str(row[name])) for row in counts) for name in ("pairs", "selected")]
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
        pair = pairs[item.place]
        difficulty = pair.difficulty if item.difficulty is None else item.difficulty
        writer.add(pair_row(replace(pair, difficulty=difficulty)))
    writer.finish({"num_pairs": len(chosen)})
