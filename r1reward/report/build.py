"""`r1reward report`: a run, a pipeline or an evaluation as one HTML file that needs nothing else.

Texts of models and data are untrusted. They travel as JSON, escaped so that no browser can read markup
in it, and reach the page as text nodes only; a content security policy forbids any request.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from r1reward import __version__
from r1reward.errors import InputError, as_input_error
from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.report.charts import Chart
from r1reward.report.embed import page_part, page_template, script_json
from r1reward.report.evaluation_view import EvaluationView, evaluation_view
from r1reward.report.pipeline_page import PipelineView, pipeline_view
from r1reward.report.recipe_view import PipelineRecipe, pipeline_recipe
from r1reward.report.run_view import RunView, evaluation_folders, run_view
from r1reward.report.samples import Samples
from r1reward.report.tiles import Tile, change_tile, evaluation_tiles
from r1reward.runs import names
from r1reward.runs.folder import RunFolder


@dataclass(frozen=True)
class Content:
    """What a page shows: a run with its newest evaluation, an evaluation alone, or a pipeline.

    A pipeline's ``run`` is its RL, None before that has started.
    """

    run: RunView | None = None
    evaluation: EvaluationView | None = None
    pipeline: PipelineView | None = None
    sft: RunView | None = None


def build_report(root: Path, out: Path | None) -> Path:
    """Writes the report of a run, a pipeline or an evaluation folder, by default into that folder.

    Raises ``InputError`` if ``root`` is none of them or one of its files cannot be read.
    """
    out = out or root / names.REPORT
    folder = EvalFolder(root)
    if folder.result.is_file():
        content = Content(evaluation=evaluation_view(root))
    elif folder.recipe.is_file() and not folder.answers.exists():
        recipe = pipeline_recipe(root)
        if recipe is None:
            content = Content(run_view(root, "train"), newest_evaluation(root))
        else:
            content = pipeline_content(root, recipe)
    else:
        raise InputError(
            f"{root} is neither a run folder (recipe.yaml) nor a finished evaluation (result.json): "
            "name one, or let the evaluation finish"
        )
    html = page(content)
    with as_input_error(f"{out} cannot be written", OSError):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(html, encoding="utf-8")
    return out


def newest_evaluation(root: Path) -> EvaluationView | None:
    """The last evaluation of a run, None before the first."""
    folders = evaluation_folders(root)
    if not folders:
        return None
    step = max(folders)
    return evaluation_view(folders[step].root, f"the newest evaluation during RL, at step {step}")


def pipeline_content(root: Path, recipe: PipelineRecipe) -> Content:
    """RL's final evaluation on the first benchmark that has one, or else the newest in training."""
    sft, rl = RunFolder(root / "sft"), RunFolder(root / "train")
    final = [EvalFolder(root / names.EVALUATIONS / bench / "rl") for bench in recipe.benches]
    done = next((folder.root for folder in final if folder.result.is_file()), None)
    if done is None:
        evaluation = newest_evaluation(rl.root)
    else:
        evaluation = evaluation_view(done, f"the model after RL on {done.parent.name}")
    return Content(
        run=run_view(rl.root, "train") if rl.recipe.is_file() else None,
        evaluation=evaluation,
        pipeline=pipeline_view(root, recipe),
        sft=run_view(sft.root, "sft") if sft.recipe.is_file() else None,
    )


def page(content: Content) -> str:
    """The whole file. At least a run, an evaluation or a pipeline is there."""
    samples = content.evaluation.samples if content.evaluation else Samples()
    charts = list(charts_of(content))
    cold_start = content.pipeline.cold_start if content.pipeline else None
    data = {
        "charts": [chart.spec() for chart in charts],
        "samples": {"rows": samples.rows, "images": samples.images},
        "rollouts": content.run.rollouts if content.run else [],
        "attempts": cold_start.attempts if cold_start else [],
    }
    return page_template("page.html").render(
        **vars(content),
        tiles=tiles(content),
        warnings=warnings(content),
        version=__version__,
        css=page_part("page.css"),
        scripts=[page_part("charts.js"), page_part("samples.js")],
        plotly=Markup(get_plotlyjs() if charts else ""),
        data=Markup(script_json(data)),
    )


def charts_of(content: Content) -> Iterator[Chart]:
    """Every chart of the page, in its order."""
    if content.pipeline:
        for bench in content.pipeline.benches:
            yield from bench.charts
        if content.pipeline.cold_start:
            yield content.pipeline.cold_start.chart
    for run in (content.sft, content.run):
        yield from run.charts if run else []
    yield from content.evaluation.charts.values() if content.evaluation else []


def tiles(content: Content) -> list[Tile]:
    """The headline numbers; a pipeline's are of its models on the first benchmark that has any."""
    if content.pipeline:
        return next((list(bench.tiles) for bench in content.pipeline.benches if bench.tiles), [])
    shown = evaluation_tiles(content.evaluation.result) if content.evaluation else []
    evaluated = content.run.evaluated if content.run else {}
    if len(evaluated) > 1:
        first, last = min(evaluated), max(evaluated)
        label = f"Since step {first}"
        change = change_tile(label, evaluated[first], evaluated[last], "accuracy, paired")
        shown += [change] if change else []
    return shown


def warnings(content: Content) -> list[str]:
    """The warnings of every evaluation that the page shows."""
    benches = content.pipeline.benches if content.pipeline else []
    listed = [text for bench in benches for text in bench.warnings]
    own = content.evaluation.result.warnings if content.evaluation else ()
    return listed + [text for text in own if not any(each.endswith(text) for each in listed)]
