"""The terminal, `r1reward compare` and the page say the same digits of the same two evaluations."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from r1reward.evaluation.tables import compare_folders
from r1reward.pipeline.train import print_closing
from r1reward.report.build import build_report
from r1reward.runs.folder import RunFolder
from tests.fakes import make_recipe
from tests.report_folders import make_rows, write_pipeline, write_run
from tests.unit.report.test_report import Elements

pytestmark = pytest.mark.slow  # whole pages are built

NUM_STEPS = 20
NUMBERS = r"([+-][\d.]+)(?: points)? \[([+-][\d.]+), ([+-][\d.]+)\]"


def numbers_after(label: str, text: str) -> tuple[str | None, ...]:
    """The difference behind a label and both ends of its interval, as they are written."""
    match = re.search(rf"{re.escape(label)} {NUMBERS}", text.replace("\N{MINUS SIGN}", "-"))
    assert match is not None, f"no signed interval behind {label!r}"
    return match.groups()


def printed(write: Callable[[Console], None]) -> str:
    out = io.StringIO()
    write(Console(file=out, width=200))
    return out.getvalue()


def page_text(root: Path) -> str:
    return Elements(build_report(root, None).read_text(encoding="utf-8")).text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "run"
    return write_run(root, make_rows(60), num_steps=NUM_STEPS, num_samples=4, every=NUM_STEPS)


def test_the_difference_of_a_run(run: Path) -> None:
    """Regression: +22.2 [+22.2, +32.2] in the terminal, [22.0, 32.3] on the page."""
    recipe = make_recipe(train__num_steps=NUM_STEPS)
    closing = printed(lambda console: print_closing(recipe, RunFolder(run), console))
    first, last = (run / "eval" / f"step-{step:06d}" for step in (0, NUM_STEPS))
    compared = printed(lambda console: compare_folders(first, last, console))
    label = "paired difference, one sample:"
    assert numbers_after(label, closing) == numbers_after(label, compared)
    assert numbers_after("Since step 0", page_text(run)) == numbers_after(label, closing)


def test_the_difference_of_a_pipeline(tmp_path: Path) -> None:
    root = write_pipeline(tmp_path / "whole", make_rows(60))
    bench = root / "eval" / "shapes"
    compared = printed(lambda console: compare_folders(bench / "base", bench / "rl", console))
    expected = numbers_after("paired difference, one sample:", compared)
    assert numbers_after("RL over base", page_text(root)) == expected
