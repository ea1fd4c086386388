"""A run as the page shows it: its curves, its alerts and a few of its rollouts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.evaluation.evaluation import Evaluation, read_evaluation
from r1reward.evaluation.intervals import Interval
from r1reward.recipe.recipe import Recipe, SftRecipe
from r1reward.report import training_curves as training
from r1reward.report.charts import Chart, accuracy_over_steps
from r1reward.report.recipe_view import RecipeView, run_recipe
from r1reward.report.samples import training_rollouts
from r1reward.runs.folder import RunFolder


@dataclass(frozen=True)
class RunView:
    """A run as the page shows it. ``evaluated`` has the results by step, in order.

    ``loss_text`` tells what fine-tuning on traces came to, and is empty for a run of RL.
    """

    recipe: RecipeView
    num_steps_done: int
    charts: list[Chart]
    alerts: list[training.AlertSpan]
    metrics: Mapping[str, tuple[float, ...]]
    rollouts: list[dict[str, object]]
    evaluated: Mapping[int, Evaluation]
    is_supervised: bool
    loss_text: str


def run_view(root: Path, prefix: str) -> RunView:
    """Reads a run's folder. ``prefix`` tells the charts of one run of a page from another's."""
    folder = RunFolder(root)
    metrics = folder.read_metrics()
    folders = evaluation_folders(root)
    evaluated = {step: read_evaluation(path.result) for step, path in folders.items()}
    charts = training.training_charts(metrics, prefix)
    if evaluated:
        charts.insert(0, accuracy_over_steps(list(evaluated), evaluation_curves(evaluated)))
    is_supervised = training.is_supervised(metrics)
    return RunView(
        recipe=run_recipe(root, SftRecipe if is_supervised else Recipe),
        num_steps_done=int(metrics[-1]["step"]) if metrics else 0,
        charts=charts,
        alerts=training.alert_spans(metrics),
        metrics=training.metric_summaries(metrics),
        rollouts=training_rollouts(folder.rollouts),
        evaluated=evaluated,
        is_supervised=is_supervised,
        loss_text=training.loss_text(metrics),
    )


def evaluation_folders(root: Path) -> dict[int, EvalFolder]:
    """The run's finished evaluations by step, in order."""
    folders = [EvalFolder(path) for path in sorted(RunFolder(root).evaluations.glob("step-*"))]
    return {
        int(folder.root.name.removeprefix("step-")): folder
        for folder in folders
        if folder.result.is_file()
    }


def evaluation_curves(evaluated: Mapping[int, Evaluation]) -> dict[str, list[Interval]]:
    """Accuracy of one sample and, where there were several, of the vote, by step."""
    results = list(evaluated.values())
    curves = {"one sample": [result.accuracy for result in results]}
    votes = {result.conditions.num_samples for result in results}
    if votes != {1}:
        name = f"voting@{votes.pop()}" if len(votes) == 1 else "voting"
        curves[name] = [result.voted for result in results]
    return curves
