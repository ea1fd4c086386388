"""A pipeline's folder for the page: its stages, its models side by side, and the selection.

A stage may be missing or unfinished. Then the page says so, and shows the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from r1reward.errors import InputError
from r1reward.evaluation.compare import compare_evaluations
from r1reward.evaluation.evaluation import Evaluation, read_evaluation
from r1reward.evaluation.side_by_side import HEADINGS, lines, title
from r1reward.recipe.derive import ModelName, StageName
from r1reward.report.charts import Chart
from r1reward.report.cold_start import ColdStart, cold_start
from r1reward.report.facts import NOTHING, Fact, setting, shown_setting
from r1reward.report.pipeline_charts import accuracy_of_models, shown_interval, votes_of_models
from r1reward.report.results import MINUS, NUM_BOOTSTRAP, Tile

TITLES: Mapping[StageName, str] = {
    "annotate": "Cold start",
    "sft": "SFT",
    "select": "Selection",
    "train": "RL",
    "eval": "Final evaluation",
}
SECTIONS: Mapping[StageName, str] = {
    "annotate": "annotate",
    "sft": "sft",
    "select": "select",
    "eval": "final",
}

Recipe = Mapping[str, Any]


@dataclass(frozen=True)
class StageState:
    name: StageName
    state: Literal["complete", "unfinished", "not started"]

    @property
    def title(self) -> str:
        return TITLES[self.name]


@dataclass(frozen=True)
class Cell:
    """A cell of the table of models: a number, and its interval where it has one."""

    number: str
    range: str


@dataclass(frozen=True)
class BenchView:
    """The models on one benchmark. ``missing`` names those that are not evaluated yet."""

    name: str
    title: str
    heads: list[str]
    rows: list[tuple[str, list[Cell]]]
    charts: list[Chart]
    missing: list[str]
    tiles: list[Tile]
    warnings: list[str]


@dataclass(frozen=True)
class SelectionRow:
    level: str
    source: str
    num_pairs: int
    num_selected: int


@dataclass(frozen=True)
class PipelineView:
    """Everything but the SFT's and the RL's own curves, which are runs."""

    name: str
    recipe_text: str
    facts: list[Fact]
    stages: dict[StageName, StageState]
    benches: list[BenchView]
    cold_start: ColdStart | None
    selection: list[SelectionRow]

    @property
    def num_complete(self) -> int:
        return sum(stage.state == "complete" for stage in self.stages.values())

    @property
    def num_pairs(self) -> int:
        return sum(row.num_pairs for row in self.selection)

    @property
    def num_selected(self) -> int:
        return sum(row.num_selected for row in self.selection)


def is_pipeline(recipe: object) -> bool:
    """Whether RL is one stage of several, from the recipe as YAML gives it."""
    return isinstance(recipe, Mapping) and any(recipe.get(each) for each in SECTIONS.values())


def pipeline_view(root: Path, recipe: Recipe, text: str) -> PipelineView:
    planned: list[StageName] = [
        name for name in TITLES if name == "train" or recipe.get(SECTIONS[name])
    ]
    return PipelineView(
        name=recipe["name"],
        recipe_text=text,
        facts=recipe_facts(recipe),
        stages={name: StageState(name, stage_state(root / name)) for name in planned},
        benches=bench_views(root / "eval", recipe),
        cold_start=cold_start(root / "annotate" / "attempts.jsonl", recipe),
        selection=selection(root / "select" / "counts.json"),
    )


def stage_state(folder: Path) -> Literal["complete", "unfinished", "not started"]:
    """As its stage.json tells, which names the outputs once they are whole."""
    if not folder.is_dir():
        return "not started"
    path = folder / "stage.json"
    outputs = read_json(path).get("outputs") if path.is_file() else None
    return "complete" if outputs else "unfinished"


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def recipe_facts(recipe: Recipe) -> list[Fact]:
    """The settings that tell one pipeline from another, of the stages that it has."""
    sft, annotate = recipe.get("sft"), recipe.get("annotate")
    found = {"Base model": setting(recipe, "model.path"), "Pairs": setting(recipe, "data.train")}
    if annotate:
        teacher = annotate["teacher"]
        named = teacher.get("model") or teacher.get("path")
        found["Teacher"] = f"{teacher['type']}, {named}" if named else teacher["type"]
        found["Attempts a pair at most"] = annotate["max_attempts"]
    if sft:
        found["Traces for SFT at most"] = sft["num_traces"] or "all that agree"
        found["Learning rate of SFT"] = sft["lr"]
    if recipe.get("select"):
        found["Pairs for RL"] = selection_words(recipe["select"])
    found |= {
        "RL steps planned": setting(recipe, "train.num_steps"),
        "Prompts a step": setting(recipe, "rollout.prompts_per_step"),
        "Learning rate of RL": setting(recipe, "learner.lr"),
    }
    if recipe.get("final"):
        found["Benchmarks"] = ", ".join(bench["name"] for bench in recipe["final"]["benches"])
    found["Seed"] = setting(recipe, "seed")
    return [Fact(label, shown_setting(value)) for label, value in found.items()]


def selection_words(section: Mapping[str, Any]) -> str:
    match section["type"]:
        case "attempts":
            levels = [str(level) for level in section["levels"]]
            tried = [level for level in levels if level != "failed"]
            words = f"agreed after {', '.join(tried)} attempts" if tried else ""
            return ", or ".join(filter(None, [words, "failed" if "failed" in levels else ""]))
        case "pass_rate":
            low, high = (100 * section[end] for end in ("min_rate", "max_rate"))
            return f"right in {low:g} to {high:g} % of the policy's own samples"
    return shown_setting({name: value for name, value in section.items() if value is not None})


# The models side by side


def bench_views(folder: Path, recipe: Recipe) -> list[BenchView]:
    final = recipe.get("final")
    if not final:
        return []
    models: list[ModelName] = [m for m in HEADINGS if m != "sft" or recipe.get("sft")]
    names = [bench["name"] for bench in final["benches"]]
    return [
        bench_view(place, name, evaluations(folder / name, models), models, final)
        for place, name in enumerate(names)
    ]


def evaluations(folder: Path, models: Sequence[ModelName]) -> dict[ModelName, Evaluation]:
    """The finished ones. Raises ``InputError`` for a file that is none."""
    found: dict[ModelName, Evaluation] = {}
    for model in models:
        path = folder / model / "result.json"
        if not path.is_file():
            continue
        try:
            found[model] = read_evaluation(path)
        except ValidationError as error:
            raise InputError(f"{path}: not the result of an evaluation: {error}") from error
    return found


def bench_view(
    place: int,
    name: str,
    found: Mapping[ModelName, Evaluation],
    models: Sequence[ModelName],
    final: Mapping[str, Any],
) -> BenchView:
    missing = [HEADINGS[model] for model in models if model not in found]
    if not found:
        return BenchView(name, name, [], [], [], missing, [], [])
    table = lines(found, int(final.get("bootstrap_samples", NUM_BOOTSTRAP)))
    charts = [accuracy_of_models(place, found)]
    if any(len(one.voting) > 1 for one in found.values()):
        charts.append(votes_of_models(place, found))
    warnings = [text for one in found.values() for text in one.warnings]
    return BenchView(
        name=name,
        title=title(name, next(iter(found.values())).conditions),
        heads=[HEADINGS[model] for model in found],
        rows=[(line.label, [cell(text) for text in line.cells]) for line in table],
        charts=charts,
        missing=missing,
        tiles=tiles(found, name),
        warnings=[f"{name}: {text}" for text in dict.fromkeys(warnings)],
    )


def cell(text: str) -> Cell:
    if text == "-":
        return Cell(NOTHING, "")
    number, _, rest = text.replace("-", MINUS).partition(" ")
    if rest.startswith("% "):
        number, rest = f"{number} %", rest.removeprefix("% ")
    return Cell(f"{number} %", "") if rest == "%" else Cell(number, rest)


def tiles(found: Mapping[ModelName, Evaluation], bench: str) -> list[Tile]:
    """One sample of every model, the vote of the last, and what the pipeline added to the base."""
    note = f"one sample, {bench}"
    shown = [
        Tile(HEADINGS[model], shown_interval(one.accuracy), note, chance=0.5)
        for model, one in found.items()
    ]
    last = list(found)[-1]
    num_samples = found[last].conditions.num_samples
    if num_samples > 1:
        label = f"{HEADINGS[last]}, voting@{num_samples}"
        shown.append(Tile(label, shown_interval(found[last].voted), bench, chance=0.5))
    if "base" in found and last != "base":
        gain = compare_evaluations(found["base"], found[last], NUM_BOOTSTRAP).accuracy
        label = f"{HEADINGS[last]} over base"
        shown.append(Tile(label, shown_interval(gain), "one sample, paired", is_difference=True))
    return shown


def selection(path: Path) -> list[SelectionRow]:
    """The counts of the stage, hardest level last as it wrote them; none where it has not yet."""
    if not path.is_file():
        return []
    try:
        return [
            SelectionRow(row["level"], row["source"], row["pairs"], row["selected"])
            for row in read_json(path)
        ]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not the counts of a selection") from error
