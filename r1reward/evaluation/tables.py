"""Evaluations as tables in the terminal."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from r1reward.errors import InputError, as_input_error
from r1reward.evaluation.benchmarks.recombine import recombine
from r1reward.evaluation.benchmarks.vl_rewardbench import PUBLISHED_COUNTS
from r1reward.evaluation.compare import Comparison, compare_evaluations
from r1reward.evaluation.conditions import Conditions, condition_facts
from r1reward.evaluation.evaluation import (
    CategoryScore,
    Evaluation,
    MappingScores,
    read_evaluation,
)
from r1reward.evaluation.intervals import bare_points, percent, points, signed_points
from r1reward.evaluation.unreadable import UnreadableForm

# R1-Reward (arXiv 2505.02835), table of VL-RewardBench; its overall accuracy there is 71.92.
R1_REWARD_PUBLISHED = {"general": 63.84, "hallucination": 85.71, "reasoning": 64.78}


def describe(conditions: Conditions) -> str:
    """One line without which no number can be quoted."""
    facts = [f"{name}: {value}" for name, value in condition_facts(conditions).items()]
    return f"{', '.join(facts)}; an unreadable answer is wrong and no vote"


def print_evaluation(console: Console, evaluation: Evaluation) -> None:
    """Scores under every mapping, votes, audit, official score, warnings."""
    console.print(describe(evaluation.conditions), markup=False, highlight=False)
    for mapping in evaluation.mappings:
        console.print(mapping_table(evaluation, mapping))
    if len(evaluation.voting) > 1:
        console.print(voting_table(evaluation))
    console.print(audit_table(evaluation))
    if evaluation.unreadable:
        console.print(unreadable_table(evaluation.unreadable))
    for lines in (adaptive_lines, official_lines, recombination_lines):
        for line in lines(evaluation):
            console.print(line, highlight=False)
    for warning in evaluation.warnings:
        # A warning may quote a model, and brackets would be read as styles.
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)


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
    for label, share in audit_shares(evaluation).items():
        table.add_row(label, percent(share))
    if (missing := evaluation.missing) is not None:
        table.add_row("rows without an answer", f"{missing.num_rows} of {missing.num_rows_asked}")
    if (drop := evaluation.image_off_drop) is not None:
        table.add_row("lost without the images, points", signed_points(drop))
    return table


def audit_shares(evaluation: Evaluation) -> dict[str, float | None]:
    """The shares of the audit under their names in every table; None where nothing was measured."""
    audit, lengths, answers = evaluation.audit, evaluation.audit.by_length, evaluation.parts
    return {
        "slot-1 rate": audit.slot_1_rate,
        "flip rate after swap": audit.flip_rate,
        "right in both orders (chance 25 %)": audit.both_right_share,
        "unreadable": audit.unparsed_share,
        "cut off at the token limit": audit.truncated_share,
        "accuracy, preferred response longer": lengths.accuracy_preferred_longer,
        "accuracy, preferred response shorter": lengths.accuracy_preferred_shorter,
        "picking the longer response scores": lengths.pick_longer,
        "picking the shorter response scores": lengths.pick_shorter,
        "answer follows analysis (judge)": answers.consistency,
        "well formed": answers.well_formed,
    }


def unreadable_table(forms: Sequence[UnreadableForm]) -> Table:
    """What stood where an answer was due, most frequent first, and the settings that read it."""
    table = new_table("answers that could not be read", "written", "answers", "read by")
    for form in forms:
        table.add_row(Text(form.form), str(form.count), form.setting or "no setting")
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
    yield f"{score.name}: {score.rule}"
    for part in score.parts:
        yield f"  {part.name}: {part.num_right} of {part.num_counted}, {percent(part.share)}"
    yield f"  overall {percent(score.overall)}" + (
        "" if score.macro is None else f", macro {percent(score.macro)}"
    )
    if score.num_left_out:
        yield f"  left out: {score.num_left_out} rows"
    for note in score.notes:
        yield f"  {note}"
    for vote in score.curve:
        yield (
            f"  K = {vote.num_votes}: overall {percent(vote.overall)}, macro {percent(vote.macro)}, "
            f"left out {vote.num_left_out}"
        )


def compare_folders(before: Path, after: Path, console: Console) -> None:
    """Prints the table. Raises ``InputError`` if a folder holds no result or the rows differ."""
    first, second = find_evaluation(before), find_evaluation(after)
    with as_input_error(f"{before} and {after}", ValueError):
        comparison = compare_evaluations(first, second)
    for evaluation in (first, second):
        console.print(describe(evaluation.conditions), highlight=False)
    if first.conditions.orders != second.conditions.orders:
        console.print(
            "warning: the two were asked in different orders; the difference mixes model and order",
            style="yellow",
        )
    console.print(comparison_table((before.name, after.name), first, second, comparison))


def find_evaluation(path: Path) -> Evaluation:
    """Returns the result in an evaluation's folder, or in a result file. Raises ``InputError``."""
    file = path / "result.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{path}: holds no result.json; give the folder of a finished evaluation")
    return read_evaluation(file)


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
    answers = evaluation.parts
    numbers = {"reward": answers.reward, "response length, tokens": answers.num_tokens}
    return {
        **{label: percent(share) for label, share in audit_shares(evaluation).items()},
        **{name: "-" if value is None else f"{value:.3g}" for name, value in numbers.items()},
    }


def caption(before: Evaluation, after: Evaluation, comparison: Comparison) -> str:
    """Differences and tests, a line each."""
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
    return "\n".join(lines)
