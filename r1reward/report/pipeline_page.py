"""A pipeline's folder for the page: its stages, its models side by side, and the selection.

A stage may be missing or unfinished. Then the page says so, and shows the others.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from r1reward.data.level_counts import LevelCount, read_level_counts
from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.evaluation.evaluation import Evaluation, read_evaluation
from r1reward.evaluation.side_by_side import HEADINGS, lines, title
from r1reward.recipe.derive import ModelName, StageName
from r1reward.report.charts import Chart
from r1reward.report.cold_start import ColdStart, cold_start
from r1reward.report.facts import typeset
from r1reward.report.pipeline_charts import accuracy_of_models, votes_of_models
from r1reward.report.recipe_view import PipelineRecipe
from r1reward.report.tiles import Tile, change_tile
from r1reward.runs import names
from r1reward.runs.manifest import StageRecord

State = Literal["complete", "unfinished", "not started"]
Cell = tuple[str, str]  # of the table of models: a number, and its interval where it has one


@dataclass(frozen=True)
class BenchView:
    """The models on one benchmark. ``missing`` names those that are not evaluated yet."""

    name: str
    missing: list[str]
    title: str = ""
    heads: Sequence[str] = ()
    rows: Sequence[tuple[str, list[Cell]]] = ()
    charts: Sequence[Chart] = ()
    tiles: Sequence[Tile] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class PipelineView:
    """Everything but the SFT's and the RL's own curves, which are runs."""

    recipe: PipelineRecipe
    stages: dict[StageName, State]
    benches: list[BenchView]
    cold_start: ColdStart | None
    selection: list[LevelCount]

    @property
    def num_complete(self) -> int:
        return list(self.stages.values()).count("complete")


def pipeline_view(root: Path, recipe: PipelineRecipe) -> PipelineView:
    """Reads what the stages have written so far. Raises ``InputError`` for a file that is broken."""
    counts = root / "select" / names.COUNTS
    models, folder = recipe.models, root / names.EVALUATIONS
    return PipelineView(
        recipe=recipe,
        stages={stage: stage_state(stage, root / stage) for stage in recipe.stages},
        benches=[
            bench_view(index, name, evaluations(folder / name, models), models)
            for index, name in enumerate(recipe.benches)
        ],
        cold_start=cold_start(root / "annotate" / names.ATTEMPTS, recipe.max_attempts),
        selection=read_level_counts(counts) if counts.is_file() else [],
    )


def stage_state(stage: StageName, folder: Path) -> State:
    """What its manifest tells, which names the outputs once they are whole."""
    if not folder.is_dir():
        return "not started"
    manifest = StageRecord(stage, folder).read()
    return "complete" if manifest is not None and manifest.outputs else "unfinished"


# The models side by side


def evaluations(folder: Path, models: Sequence[ModelName]) -> dict[ModelName, Evaluation]:
    """The finished evaluations on one benchmark, by model."""
    files = {model: EvalFolder(folder / model).result for model in models}
    return {model: read_evaluation(file) for model, file in files.items() if file.is_file()}


def bench_view(
    index: int, name: str, results: Mapping[ModelName, Evaluation], models: Sequence[ModelName]
) -> BenchView:
    """``index`` is the benchmark's in the recipe: it tells the charts of two benchmarks apart."""
    missing = [HEADINGS[model] for model in models if model not in results]
    if not results:
        return BenchView(name, missing)
    charts = [accuracy_of_models(index, results)]
    if any(len(result.voting) > 1 for result in results.values()):
        charts.append(votes_of_models(index, results))
    warnings = [text for result in results.values() for text in result.warnings]
    return BenchView(
        name=name,
        missing=missing,
        title=title(name, next(iter(results.values())).conditions),
        heads=[HEADINGS[model] for model in results],
        rows=[(label, [cell(text) for text in cells]) for label, cells in lines(results)],
        charts=charts,
        tiles=model_tiles(results, name),
        warnings=[f"{name}: {text}" for text in dict.fromkeys(warnings)],
    )


def cell(text: str) -> Cell:
    """A number of the terminal's table, cut where its interval begins."""
    number, *behind = re.split(r" (?=[[(])", typeset(text))
    return number, "".join(behind)


def model_tiles(results: Mapping[ModelName, Evaluation], bench: str) -> list[Tile]:
    """One sample of every model, the vote of the last, and what the pipeline added to the base."""
    note = f"one sample, {bench}"
    tiles = [Tile(HEADINGS[model], one.accuracy, note, 0.5) for model, one in results.items()]
    last = list(results)[-1]
    num_samples = results[last].conditions.num_samples
    if num_samples > 1:
        label = f"{HEADINGS[last]}, voting@{num_samples}"
        tiles.append(Tile(label, results[last].voted, bench, chance=0.5))
    if "base" in results and last != "base":
        label = f"{HEADINGS[last]} over base"
        gain = change_tile(label, results["base"], results[last], "one sample, paired")
        tiles += [gain] if gain else []
    return tiles
