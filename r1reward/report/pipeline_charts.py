"""The charts that only a pipeline has: its models side by side, and the teacher's attempts."""

from collections.abc import Collection, Mapping, Sequence

from r1reward.evaluation.evaluation import Evaluation
from r1reward.evaluation.intervals import Interval
from r1reward.evaluation.side_by_side import HEADINGS
from r1reward.recipe.derive import ModelName
from r1reward.report.charts import SHARES, Chart, Spec, banded_line, level, votes_layout
from r1reward.report.facts import brackets, whole

# A model has one colour in every chart; the base is grey.
COLOURS: Mapping[ModelName, int] = {"base": 4, "sft": 2, "rl": 1}


def accuracy_of_models(index: int, results: Mapping[ModelName, Evaluation]) -> Chart:
    """``index`` is the benchmark's in the recipe: a chart's name stands once on the page."""
    evaluations = list(results.values())
    singles = [one.accuracy for one in evaluations]
    voted = [one.voted for one in evaluations]
    traces = [intervals("one sample", results, singles, "circle")]
    num_samples = evaluations[0].conditions.num_samples
    if num_samples > 1:
        traces.append(intervals(f"voting@{num_samples}", results, voted, "diamond-open"))
    # Marks, not bars: from chance to the best, not from zero.
    lowest = min(0.5, *(interval.low for interval in singles + voted))
    layout: Spec = {
        "xaxis": {"type": "category", "range": [-0.5, len(results) - 0.5]},
        "yaxis": SHARES | {"range": [max(-0.02, lowest - 0.06), 1.04]},
        "shapes": [level(0.5, "chance")],
    }
    layout |= {"scattermode": "group", "scattergap": 0.7, "hovermode": "closest"}
    title, note = "Accuracy by model", "With 95 % intervals, on the same rows."
    return Chart(f"models-{index}", title, note, traces, layout, "medium")


def intervals(
    name: str, models: Collection[ModelName], values: Sequence[Interval], symbol: str
) -> Spec:
    """One mark for each model, with its interval as a bar."""
    names = [HEADINGS[model] for model in models]
    colours = [f"--series-{COLOURS[model]}" for model in models]
    outline = {"width": 2, "color": colours}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": names,
        "y": [value.value for value in values],
        "error_y": {
            "type": "data",
            "array": [value.high - value.value for value in values],
            "arrayminus": [value.value - value.low for value in values],
            **{"color": "--muted", "thickness": 1.5, "width": 5},
        },
        "marker": {"size": 9, "symbol": symbol, "color": colours, "line": outline},
        "text": [brackets(value) for value in values],
        "hovertemplate": "%{x}: %{y:.1%} %{text}",
    }


def votes_of_models(index: int, results: Mapping[ModelName, Evaluation]) -> Chart:
    """``index`` is the benchmark's in the recipe."""
    counts = [point.num_votes for point in next(iter(results.values())).voting]
    traces: list[Spec] = []
    for model, one in results.items():
        numbers = [point.num_votes for point in one.voting]
        accuracies = [point.accuracy for point in one.voting]
        traces += banded_line(HEADINGS[model], numbers, accuracies, COLOURS[model])
    title, note = "Voting by model", "Accuracy by number of votes, with 95 % intervals."
    layout = votes_layout(counts)
    return Chart(f"models-votes-{index}", title, note, traces, layout, "medium")


def attempts_chart(levels: Mapping[int | None, int], max_attempts: int) -> Chart:
    """A bar for every number of attempts; pairs with attempts left only where there are any."""
    names = ["1 attempt", *(f"{n} attempts" for n in range(2, max_attempts + 1)), "failed"]
    counts = [levels[number] for number in range(1, max_attempts + 2)]
    colours = [*["--series-1"] * max_attempts, "--series-2"]
    if levels[None]:
        names, counts = [*names, "not done yet"], [*counts, levels[None]]
        colours.append("--series-4")
    total = sum(counts) or 1
    axis: Spec = {"range": [0, 1.25 * max(*counts, 1)]}
    bars: Spec = {
        "type": "bar",
        "name": "pairs",
        "x": names,
        "y": counts,
        "text": [f"{whole(n)}<br>{100 * n / total:.1f} %" for n in counts],
        **{"textposition": "outside", "textangle": 0, "constraintext": "none"},
        "cliponaxis": False,
        "marker": {"color": colours},
        "hovertemplate": "%{x}: %{y} pairs<extra></extra>",
    }
    return Chart(
        "attempts",
        "Pairs by attempts",
        "Attempts until the teacher agreed with people: the more it took, the harder the pair.",
        [bars],
        {"xaxis": {"type": "category"}, "yaxis": axis, "hovermode": "closest"},
        "medium",
    )
