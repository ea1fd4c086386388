"""Every family on the real engines: a tiny random model each, a table of what was measured.

    python -m studies.families.run --out docs/models.md [FAMILY ...]

Each family is measured in a process of its own, and what it found stays in a folder: the same command
goes on with those that are missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from r1reward.pipeline.check_cells import Cell
from studies.document_tables import check_marks, fill
from studies.families.tiny_models import TINY_MODELS, build_tiny_model

FOLDER = Path("runs/families")
TABLE = "families"
COLUMNS = (
    "image, learner",
    "image, engine",
    "learner as transformers",
    "expanded as the engine",
    "engine and learner",
    "after a publish",
    "packing",
    "right padding",
    "a rank without images",
    "LoRA merged",
    "export",
)


def measure(name: str, folder: Path) -> list[Cell]:
    """All cells of one family, in this process."""
    from r1reward.pipeline.engine_check import EngineCheck
    from r1reward.pipeline.learner_check import LearnerCheck
    from r1reward.pipeline.model_check import section_to_check
    from r1reward.recipe.engine_sections import PlacementSection

    model = section_to_check(str(build_tiny_model(name, folder / name / "model")))
    cells = LearnerCheck(model).cells()
    placement = PlacementSection(device="cpu", threads=1, object_store_mb=256)
    return cells + asyncio.run(EngineCheck(model, placement).cells())


def measure_apart(name: str, folder: Path) -> None:
    """In a process of its own: engines leave threads and settings behind."""
    command = [sys.executable, "-m", "studies.families.run", "--measure", name]
    done = subprocess.run([*command, "--folder", str(folder)], check=False)
    if done.returncode:
        logging.error("%s: measuring it failed", name)


def read_cells(folder: Path) -> dict[str, list[Cell]]:
    """What was measured so far, by family."""
    return {
        name: [Cell(**cell) for cell in json.loads(path.read_text(encoding="utf-8"))]
        for name in TINY_MODELS
        if (path := folder / name / "cells.json").is_file()
    }


def table_of(measured: Mapping[str, Sequence[Cell]]) -> str:
    """A row a family, a column a measurement; what is wrong stands in bold."""
    lines = ["| family | " + " | ".join(COLUMNS) + " |", "| --- " * (len(COLUMNS) + 1) + "|"]
    for name, cells in measured.items():
        by_name = {cell.name: cell for cell in cells}
        # An engine that did not start leaves one cell, which stands for all of its columns.
        broken = by_name.get("engine")
        shown = [shown_cell(by_name.get(column, broken)) for column in COLUMNS]
        lines.append(f"| `{name}` | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def shown_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    text = cell.found.replace("|", "/")
    return text if cell.is_right else f"**{text}**"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="default: all")
    parser.add_argument("--out", type=Path, help="the document whose table is filled")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--measure", metavar="FAMILY", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if arguments.measure:
        cells = measure(arguments.measure, folder)
        path = folder / arguments.measure / "cells.json"
        path.write_text(json.dumps([asdict(cell) for cell in cells], indent=1), encoding="utf-8")
        return 0
    if arguments.out is not None:
        check_marks(arguments.out, TABLE)
    missing = [n for n in arguments.families or TINY_MODELS if n not in read_cells(folder)]
    for name in missing:
        measure_apart(name, folder)
    table = table_of(read_cells(folder))
    print(table)
    if arguments.out is not None:
        fill(arguments.out, table, TABLE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
