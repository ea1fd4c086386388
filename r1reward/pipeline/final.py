"""The last stage: every model of the pipeline on the same benchmarks, side by side."""

import json
import logging
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from r1reward.actors.placement import ray_session
from r1reward.data.atomic import write_whole
from r1reward.evaluation.evaluation import Evaluation
from r1reward.evaluation.side_by_side import HEADINGS, lines, title
from r1reward.evaluation.tables import new_table
from r1reward.pipeline.evaluate import evaluate_model, load_bench
from r1reward.pipeline.printing import print_named
from r1reward.pipeline.sources import model_hash
from r1reward.recipe.derive import ModelName, final_recipe, models
from r1reward.recipe.pipeline_sections import FinalSection
from r1reward.recipe.recipe import Recipe
from r1reward.report.pipeline_page import evaluations
from r1reward.runs.manifest import pairs_hash, stage_record
from r1reward.runs.names import RESULT, SUMMARY, SUMMARY_NUMBERS

logger = logging.getLogger(__name__)

Headed = tuple[list[str], list[list[str]]]  # a table's headings and its rows


async def final_stage(recipe: Recipe, final: FinalSection, console: Console) -> None:
    """Evaluate every model, write the table into the stage's folder, and print it."""
    benches = {str(bench.name): load_bench(bench) for bench in final.benches}
    inputs = {f"{model} model": model_hash(recipe, model) for model in models(recipe)}
    for name, bench in benches.items():
        inputs[f"benchmark {name}"] = pairs_hash(item.key for item in bench.items)
    used = {"seed", "model", "prompt", "judge", "reward", "final"}
    # Where links lead says nothing of the benchmarks, whose content is among the inputs.
    unused = {"final": {"benches": {"__all__": {"links"}}}}
    record = stage_record(recipe, "eval")
    settings = recipe.model_dump(mode="json", include=used, exclude=unused)
    is_complete = record.begin(settings, inputs)
    if not is_complete:
        with ray_session(recipe.placement):
            for bench_section in final.benches:
                for model in models(recipe):
                    logger.info("evaluating %s on %s", HEADINGS[model], bench_section.name)
                    one = final_recipe(recipe, final, model, bench_section)
                    await evaluate_model(one, Console(quiet=True))
    results = {name: evaluations(record.folder / name, models(recipe)) for name in benches}
    shown = [table(name, by_model) for name, by_model in results.items()]
    if not is_complete:
        write_whole(record.folder / SUMMARY, markdown(shown))
        write_whole(record.folder / SUMMARY_NUMBERS, f"{json.dumps(numbers(results), indent=1)}\n")
        files = [f"{name}/{model}/{RESULT}" for name in benches for model in models(recipe)]
        record.finish([SUMMARY, SUMMARY_NUMBERS, *files])
    for heads, rows in shown:
        console.print(terminal_table(heads, rows))
    print_named(console, summary=record.folder / SUMMARY)


def table(bench: str, by_model: Mapping[ModelName, Evaluation]) -> Headed:
    conditions = next(iter(by_model.values())).conditions
    heads = [title(bench, conditions), *(HEADINGS[model] for model in by_model)]
    return heads, [[label, *cells] for label, cells in lines(by_model)]


def markdown(shown: Sequence[Headed]) -> str:
    parts = []
    for heads, rows in shown:
        table = [heads, ["---"] * len(heads), *rows]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in table))
    return "\n\n".join(parts) + "\n"


def terminal_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Intervals stand below their numbers, so that the table fits a narrow terminal."""
    title, *models = heads
    table = new_table(title, "", *models)
    for label, *cells in rows:
        table.add_row(label, *(cell.replace(" [", "\n[") for cell in cells))
    return table


def numbers(results: Mapping[str, Mapping[ModelName, Evaluation]]) -> dict[str, object]:
    """The table's numbers for other programs: by benchmark and model, intervals as [low, high]."""
    return {
        bench: {
            model: {
                "accuracy": one.accuracy.value,
                "accuracy_interval": [one.accuracy.low, one.accuracy.high],
                "voting": {point.num_votes: point.accuracy.value for point in one.voting},
                "both_right": one.audit.both_right_share,
                "slot_1_rate": one.audit.slot_1_rate,
                "consistency": one.parts.consistency,
                "num_tokens": one.parts.num_tokens,
            }
            for model, one in by_model.items()
        }
        for bench, by_model in results.items()
    }
