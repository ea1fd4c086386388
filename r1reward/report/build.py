"""`r1reward report`: a run, a pipeline or an evaluation as one HTML file that needs nothing else.

Texts of models and data are untrusted. They travel as JSON, escaped so that no browser can read markup
in it, and reach the page as text nodes only; a content security policy forbids any request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from r1reward import __version__
from r1reward.errors import InputError
from r1reward.evaluation.answers import read_answers
from r1reward.evaluation.shown_pairs import read_shown_pairs
from r1reward.report import results
from r1reward.report import training_curves as training
from r1reward.report.charts import Chart, accuracy_over_steps, calibration_chart, voting_chart
from r1reward.report.embed import script_json
from r1reward.report.facts import Estimate, Fact, Section, plain, setting, shown_setting
from r1reward.report.pipeline_page import PipelineView, is_pipeline, pipeline_view
from r1reward.report.samples import Samples, collect_samples, training_rollouts
from r1reward.runs.folder import RunFolder

MAX_SAMPLE_BYTES = 19_000_000  # beside Plotly's 4.8 MB: the file stays under 25 MB
MAX_ROWS = 2500
RL_FACTS = {
    "Model": "model.path",
    "Trained on": "data.train",
    "Steps planned": "train.num_steps",
    "Prompts a step": "rollout.prompts_per_step",
    "Learning rate": "learner.lr",
    "KL weight": "algorithm.kl_beta",
    "Policy lag": "train.max_policy_lag",
    "Seed": "seed",
}
SFT_FACTS = {
    "Model": "model.path",
    "Traces for": "data.train",
    "Steps planned": "train.num_steps",
    "Traces a step": "learner.train_batch_size",
    "Learning rate": "learner.lr",
    "Seed": "seed",
}


@dataclass(frozen=True)
class EvaluationView:
    """One evaluation as the page shows it. ``has_pairs`` is False where pairs.parquet is missing."""

    result: Section
    samples: Samples
    charts: dict[str, Chart]
    has_pairs: bool


@dataclass(frozen=True)
class RunView:
    """A run: its curves, alerts and rollouts. ``evaluated`` maps steps to results, in order.

    ``loss_words`` tells what fine-tuning on traces came to, and is empty for a run of RL.
    """

    name: str
    recipe_text: str
    recipe_facts: list[Fact]
    num_steps_done: int
    charts: list[Chart]
    alerts: list[training.AlertSpan]
    metrics: list[training.MetricSummary]
    rollouts: list[dict[str, object]]
    evaluated: dict[int, Section]
    is_supervised: bool
    loss_words: str


@dataclass(frozen=True)
class Content:
    """What a page shows: a run with its newest evaluation, an evaluation alone, or a pipeline.

    A pipeline's ``run`` is its RL, None before that has started. ``evaluation_of`` says in words
    which of its evaluations is shown.
    """

    run: RunView | None = None
    evaluation: EvaluationView | None = None
    evaluation_of: str = ""
    pipeline: PipelineView | None = None
    sft: RunView | None = None


def build_report(root: Path, out: Path | None) -> Path:
    """Write the report of a run, a pipeline or an evaluation folder, by default into that folder.

    Raises ``InputError`` if ``root`` is none of them.
    """
    out = out or root / "report.html"
    if (root / "result.json").is_file():
        content = Content(evaluation=evaluation_view(root))
    elif (root / "recipe.yaml").is_file() and not (root / "answers.jsonl").exists():
        text = (root / "recipe.yaml").read_text()
        recipe = yaml.safe_load(text)
        content = pipeline_content(root, text) if is_pipeline(recipe) else run_content(root)
    else:
        raise InputError(
            f"{root} is neither a run folder (recipe.yaml) nor a finished evaluation (result.json): "
            "name one, or let the evaluation finish"
        )
    html = page(content)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(html, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}") from error
    return out


def run_content(root: Path, prefix: str = "train") -> Content:
    found = evaluated_folders(root)
    newest = max(found, default=None)
    return Content(
        run=run_view(root, found, prefix),
        evaluation=None if newest is None else evaluation_view(found[newest]),
        evaluation_of=""
        if newest is None
        else f"the newest evaluation during RL, at step {newest}",
    )


def pipeline_content(root: Path, text: str) -> Content:
    """RL's final evaluation on the first benchmark that has one, or else the newest in training."""
    view = pipeline_view(root, yaml.safe_load(text), text)
    sft, rl = (root / name for name in ("sft", "train"))
    content = run_content(rl) if (rl / "recipe.yaml").is_file() else Content()
    final = [root / "eval" / bench.name / "rl" for bench in view.benches]
    shown = next((folder for folder in final if (folder / "result.json").is_file()), None)
    if shown is not None:
        content = replace(
            content,
            evaluation=evaluation_view(shown),
            evaluation_of=f"the model after RL on {shown.parent.name}",
        )
    learned = run_view(sft, {}, "sft") if (sft / "recipe.yaml").is_file() else None
    return replace(content, pipeline=view, sft=learned)


def evaluated_folders(root: Path) -> dict[int, Path]:
    """The run's finished evaluations by step."""
    found = sorted(path.parent for path in (root / "eval").glob("step-*/result.json"))
    return {int(folder.name.removeprefix("step-")): folder for folder in found}


def evaluation_view(folder: Path) -> EvaluationView:
    result = results.read_result(folder / "result.json")
    stores = [folder / "pairs.parquet", folder.parent / "pairs.parquet"]
    store = next((path for path in stores if path.is_file()), None)
    pairs = read_shown_pairs(store) if store else []
    answers = read_answers(folder / "answers.jsonl")
    charts = {}
    if len(points := results.curve(result)) > 1:
        charts["voting"] = voting_chart(points)
    if curves := results.calibration_curves(result):
        charts["calibration"] = calibration_chart(curves)
    samples = collect_samples(pairs, answers, MAX_SAMPLE_BYTES, MAX_ROWS)
    return EvaluationView(result, samples, charts, store is not None)


def run_view(root: Path, folders: Mapping[int, Path], prefix: str) -> RunView:
    folder = RunFolder(root)
    metrics = folder.read_metrics()
    evaluated: dict[int, Section] = {
        step: results.read_result(path / "result.json") for step, path in folders.items()
    }
    charts = training.training_charts(metrics, prefix)
    if evaluated:
        charts.insert(0, accuracy_over_steps(list(evaluated), evaluation_curves(evaluated)))
    text = folder.recipe.read_text()
    recipe = yaml.safe_load(text)
    is_supervised = training.is_supervised(metrics)
    return RunView(
        name=recipe["name"],
        recipe_text=text,
        recipe_facts=recipe_facts(recipe, SFT_FACTS if is_supervised else RL_FACTS),
        num_steps_done=int(metrics[-1]["step"]) if metrics else 0,
        charts=charts,
        alerts=training.alert_spans(metrics),
        metrics=training.metric_summaries(metrics),
        rollouts=training_rollouts(folder.rollouts),
        evaluated=evaluated,
        is_supervised=is_supervised,
        loss_words=training.loss_words(metrics),
    )


def evaluation_curves(evaluated: Mapping[int, Section]) -> dict[str, list[Estimate]]:
    found = list(evaluated.values())
    curves = {"one sample": [results.needed(result["accuracy"]) for result in found]}
    votes = {result["conditions"]["num_samples"] for result in found}
    if votes != {1}:
        name = f"voting@{votes.pop()}" if len(votes) == 1 else "voting"
        curves[name] = [results.needed(result["voted"]) for result in found]
    return curves


def recipe_facts(recipe: Mapping[str, Any], places: Mapping[str, str]) -> list[Fact]:
    """The settings that tell one run from another; the page has the whole recipe, too."""
    return [Fact(label, shown_setting(setting(recipe, place))) for label, place in places.items()]


def page(content: Content) -> str:
    """The whole file. At least a run, an evaluation or a pipeline is there."""
    run, evaluation = content.run, content.evaluation
    charts = list(charts_of(content))
    cold_start = content.pipeline.cold_start if content.pipeline else None
    data = {
        "charts": [chart.spec() for chart in charts],
        "samples": (evaluation.samples if evaluation else Samples()).to_json(),
        "rollouts": run.rollouts if run else [],
        "attempts": cold_start.attempts if cold_start else [],
    }
    own = Path(str(files("r1reward.report")))
    read = partial(Path.read_text, encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(own),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        run=run,
        evaluation=evaluation,
        evaluation_of=content.evaluation_of,
        pipeline=content.pipeline,
        sft=content.sft,
        tiles=tiles(content),
        warnings=warnings(content),
        results=results,
        whole=partial(plain, "num"),
        version=__version__,
        css=Markup(read(own / "page.css")),
        scripts=[Markup(read(own / name)) for name in ("charts.js", "samples.js")],
        plotly=Markup(get_plotlyjs() if charts else ""),
        data=Markup(script_json(data)),
    )


def charts_of(content: Content) -> Iterator[Chart]:
    if content.pipeline:
        for bench in content.pipeline.benches:
            yield from bench.charts
        if content.pipeline.cold_start:
            yield content.pipeline.cold_start.chart
    for run in (content.sft, content.run):
        yield from run.charts if run else []
    yield from content.evaluation.charts.values() if content.evaluation else []


def tiles(content: Content) -> list[results.Tile]:
    """A pipeline's are of its models on the first benchmark that has any."""
    if content.pipeline:
        return next((bench.tiles for bench in content.pipeline.benches if bench.tiles), [])
    run, evaluation = content.run, content.evaluation
    found = results.headline(evaluation.result) if evaluation else []
    if run and len(run.evaluated) > 1:
        first, last = min(run.evaluated), max(run.evaluated)
        change = results.change_tile(run.evaluated[first], run.evaluated[last], first)
        found += [change] if change else []
    return found


def warnings(content: Content) -> list[str]:
    """Of every evaluation that the page shows."""
    benches = content.pipeline.benches if content.pipeline else []
    found = [text for bench in benches for text in bench.warnings]
    own = content.evaluation.result["warnings"] if content.evaluation else []
    return found + [text for text in own if not any(each.endswith(text) for each in found)]
