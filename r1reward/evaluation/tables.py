"""Evaluations as tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from r1reward.evaluation.benchmarks.recombine import recombine
from r1reward.evaluation.benchmarks.vl_rewardbench import PUBLISHED_COUNTS
from r1reward.evaluation.compare import Comparison
from r1reward.evaluation.conditions import Conditions
from r1reward.evaluation.evaluation import CategoryScore, Evaluation, MappingScores
from r1reward.evaluation.number_format import bare_points, percent, points, signed_points

# R1-Reward (arXiv 2505.02835), table of VL-RewardBench; its overall accuracy there is 71.92.
R1_REWARD_PUBLISHED = {"general": 63.84, "hallucination": 85.71, "reasoning": 64.78}


def describe(conditions: Conditions) -> str:
    """One line without which no number can be quoted."""
    how = "sampling not known"
    if conditions.temperature is not None:
        hot = f"temperature {conditions.temperature:g}, seed {conditions.seed}"
        how = hot if conditions.temperature else f"greedy, seed {conditions.seed}"
    template = (
        "prompt not known" if conditions.template is None else f"template {conditions.template}"
    )
    orders = {
        "both": "both orders",
        "single": "one seeded order a row",
        "stored": "stored order",
        "authors": "preferred response first",
        "random": "a seeded order a sample",
    }[conditions.orders]
    voting = f"K = {conditions.num_samples}"
    if conditions.adaptive is not None:
        voting += f" at most (adaptive, error {conditions.adaptive:g})"
    return (
        f"{conditions.model} on {conditions.benchmark}: {conditions.num_rows} rows, {orders}, "
        f"{voting}, {how}, {template}; "
        "an unreadable answer is wrong and no vote"
    )


def print_evaluation(console: Console, evaluation: Evaluation) -> None:
    """Scores under every mapping, votes, audit, official score, warnings."""
    console.print(describe(evaluation.conditions), highlight=False)
    for mapping in evaluation.mappings:
        console.print(mapping_table(evaluation, mapping))
    if len(evaluation.voting) > 1:
        console.print(voting_table(evaluation))
    console.print(audit_table(evaluation))
    for lines in (adaptive_lines, official_lines, recombination_lines):
        for line in lines(evaluation):
            console.print(line, highlight=False)
    for warning in evaluation.warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False)


def new_table(title: str, *columns: str) -> Table:
    """An empty table whose first column holds labels and whose other columns hold numbers."""
    table = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    label, *numbers = columns
    table.add_column(label)
    for column in numbers:
        table.add_column(column, justify="right")
    return table


def mapping_table(evaluation: Evaluation, mapping: MappingScores) -> Table:
    """The scores of every category under one mapping, their mean, and those of all rows."""
    num_samples = evaluation.conditions.num_samples
    has_votes = num_samples > 1
    columns = ["category", "rows", "one sample [95 %]"]
    columns += [f"vote of {num_samples}"] * has_votes
    if evaluation.num_groups is not None:
        columns.append(f"Acc+, {evaluation.num_groups} groups")
    table = new_table(f"mapping {mapping.mapping}: {mapping.source}", *columns)
    for category in mapping.categories:
        cells = score_cells(category, has_votes)
        table.add_row(category.category, str(category.num_rows), *cells)
    table.add_section()
    macro = [percent(mapping.macro), *[percent(mapping.macro_voted)] * has_votes]
    table.add_row("macro (mean of categories)", "", *macro)
    num_rows = str(evaluation.conditions.num_rows)
    table.add_row("all rows", num_rows, *score_cells(evaluation, has_votes))
    return table


def score_cells(scores: CategoryScore | Evaluation, has_votes: bool) -> list[str]:
    """The accuracy of one sample, of the vote and of whole groups, where there is one."""
    intervals = [scores.accuracy, *[scores.voted] * has_votes, scores.group_accuracy]
    return [points(interval) for interval in intervals if interval is not None]


def voting_table(evaluation: Evaluation) -> Table:
    """Votes of K samples for every K, and what a coin would reach."""
    title = "votes from one pool of samples, % [95 %]"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    weighted = any(point.weighted is not None for point in evaluation.voting)
    columns = ["K", "voting@K", *["by confidence"] * weighted, "tied", "any correct", "coin's"]
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for point in evaluation.voting:
        cells = [str(point.num_votes), bare_points(point.accuracy)]
        if weighted:
            cells.append("-" if point.weighted is None else bare_points(point.weighted))
        shares = [f"{100 * share:.1f}" for share in (point.tied_share, point.chance)]
        table.add_row(*cells, shares[0], bare_points(point.any_correct), shares[1])
    table.caption = "\n".join(
        f"voting@{point.num_votes} minus one sample: {signed_points(point.gain)} points"
        for point in evaluation.voting
        if point.num_votes in (5, evaluation.conditions.num_samples)
    )
    table.caption_justify = "left"
    return table


def audit_table(evaluation: Evaluation) -> Table:
    """What the score may owe to slots, lengths and unreadable answers."""
    table = new_table("audit", "of answers and rows", "share")
    audit, lengths = evaluation.audit, evaluation.audit.by_length
    rows = [
        ("slot-1 rate", percent(audit.slot_1_rate)),
        ("flip rate after swap", percent(audit.flip_rate)),
        ("right in both orders (chance 25 %)", percent(audit.both_right_share)),
        ("unreadable", percent(audit.unparsed_share)),
        ("cut off at the token limit", percent(audit.truncated_share)),
        ("accuracy, preferred response longer", percent(lengths.accuracy_preferred_longer)),
        ("accuracy, preferred response shorter", percent(lengths.accuracy_preferred_shorter)),
        ("picking the longer response scores", percent(lengths.pick_longer)),
        ("picking the shorter response scores", percent(lengths.pick_shorter)),
        ("answer follows analysis (judge)", percent(evaluation.parts.consistency)),
    ]
    if evaluation.missing is not None:
        missing = evaluation.missing
        rows.append(("rows without an answer", f"{missing.num_rows} of {missing.num_rows_asked}"))
    if evaluation.image_off_drop is not None:
        rows.append(("lost without the images, points", signed_points(evaluation.image_off_drop)))
    for label, value in rows:
        table.add_row(label, value)
    return table


def adaptive_lines(evaluation: Evaluation) -> Iterator[str]:
    """What adaptive voting saved, where rows could stop early."""
    summary = evaluation.adaptive
    if summary is None:
        return
    kind = "would use" if summary.replayed else "used"
    yield (
        f"adaptive voting {kind} {percent(summary.used_share)} of the samples; the mean majority "
        f"share is {percent(summary.majority_share)}, which predicts "
        f"{percent(summary.predicted_share)}"
    )


def recombination_lines(evaluation: Evaluation) -> Iterator[str]:
    """How category scores add up under each mapping, ours and the published ones."""
    if evaluation.conditions.benchmark != "vl-rewardbench":
        return
    yield "how categories add up (expected rows right of rows):"
    for mapping in evaluation.mappings:
        parts = [(c.accuracy.value * c.num_rows, c.num_rows) for c in mapping.categories]
        terms = " + ".join(f"{right:.1f} of {count}" for right, count in parts)
        num_right, num_rows = (sum(column) for column in zip(*parts, strict=True))
        yield f"  {mapping.mapping}: {terms} = {num_right:.1f} of {num_rows}"
    published = ", ".join(f"{name} {value}" for name, value in R1_REWARD_PUBLISHED.items())
    yield f"R1-Reward's published {published} add up to"
    for name, counts in PUBLISHED_COUNTS.items():
        sums = recombine(R1_REWARD_PUBLISHED, counts)
        terms = " + ".join(f"{sums.num_right[c]} of {counts[c]}" for c in counts)
        fits = "" if all(sums.fits.values()) else ", but these rows do not give those percentages"
        yield (
            f"  {name}: {terms} = {sum(sums.num_right.values())} of {sum(counts.values())} "
            f"= {100 * sums.overall:.2f} %{fits}"
        )


def official_lines(evaluation: Evaluation) -> Iterator[str]:
    """The score by the benchmark's own rule, where it was asked for."""
    if evaluation.official is None:
        return
    score = evaluation.official
    yield f"official scoring: {score.rule}"
    for part in score.parts:
        yield f"  {part.name}: {part.num_right} of {part.num_counted}, {percent(part.share)}"
    yield f"  overall {percent(score.overall)}" + (
        "" if score.macro is None else f", macro {percent(score.macro)}"
    )
    if score.num_left_out:
        yield f"  left out: {score.num_left_out} rows"
    for note in score.notes:
        yield f"  {note}"


def comparison_table(
    names: tuple[str, str], before: Evaluation, after: Evaluation, comparison: Comparison
) -> Table:
    """Two evaluations side by side, and the paired difference."""
    title = f"{before.conditions.num_rows} rows of {before.conditions.benchmark}"
    table = new_table(title, "", *names)
    table.add_row("one sample [95 %]", points(before.accuracy), points(after.accuracy))
    if max(before.conditions.num_samples, after.conditions.num_samples) > 1:
        votes = [f"{points(e.voted)} (K = {e.conditions.num_samples})" for e in (before, after)]
        table.add_row("vote", *votes)
    cells = comparison_cells(after)
    for label, cell in comparison_cells(before).items():
        table.add_row(label, cell, cells[label])
    table.caption = caption(before, after, comparison)
    return table


def comparison_cells(evaluation: Evaluation) -> dict[str, str]:
    """One evaluation's column of the comparison, by the labels of the lines."""
    audit, answers = evaluation.audit, evaluation.parts
    numbers = {"reward": answers.reward, "response length, tokens": answers.num_tokens}
    return {
        "  preferred longer": percent(audit.by_length.accuracy_preferred_longer),
        "  preferred shorter": percent(audit.by_length.accuracy_preferred_shorter),
        "right in both orders (chance 25 %)": percent(audit.both_right_share),
        "slot-1 rate": percent(audit.slot_1_rate),
        "flip rate after swap": percent(audit.flip_rate),
        "answer follows analysis": percent(answers.consistency),
        "well formed": percent(answers.well_formed),
        "unreadable": percent(audit.unparsed_share),
        "cut off at the token limit": percent(audit.truncated_share),
        **{name: "-" if value is None else f"{value:.3g}" for name, value in numbers.items()},
    }


def caption(before: Evaluation, after: Evaluation, comparison: Comparison) -> str:
    """Differences, tests and what picking by length would score, a line each."""
    lines = [f"paired difference, one sample: {signed_points(comparison.accuracy)} points"]
    if max(before.conditions.num_samples, after.conditions.num_samples) > 1:
        lines.append(f"paired difference, vote: {signed_points(comparison.voted)} points")
    for order, test in comparison.mcnemar.items():
        if test is None:
            continue
        lines.append(
            f"McNemar, {order} order: {test.num_gained} rows gained, {test.num_lost} lost, "
            f"p = {test.p_value:.2g}"
        )
    longer = percent(after.audit.by_length.pick_longer)
    lines.append(f"always picking the longer response would score {longer}")
    return "\n".join(lines)
