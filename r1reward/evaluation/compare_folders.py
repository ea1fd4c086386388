"""Two evaluations of the same rows, compared from their folders and printed."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from r1reward.errors import InputError, as_input_error
from r1reward.evaluation.compare import compare_evaluations
from r1reward.evaluation.evaluation import Evaluation, read_evaluation
from r1reward.evaluation.tables import comparison_table, describe


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
