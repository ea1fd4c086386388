"""The table of families: every measurement in its column, what is wrong in bold."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from r1reward.pipeline.check_cells import Cell, change_cell, equal_cell, failed
from studies.families.run import COLUMNS, read_cells, table_of


def row(cells: list[Cell]) -> list[str]:
    line = table_of({"qwen3_vl": cells}).splitlines()[-1]
    return [part.strip() for part in line.strip("|").split("|")]


def test_each_measurement_stands_in_its_column_and_a_wrong_one_is_bold() -> None:
    cells = [
        equal_cell("engine and learner", 3e-6, 2e-5),
        equal_cell("after a publish", 3e-5, 2e-5),
        change_cell("image, learner", 0.5, 2e-5),
        change_cell("image, engine", 3e-4, 2e-5),
    ]
    shown = dict(zip(("family", *COLUMNS), row(cells), strict=True))
    assert shown["family"] == "`qwen3_vl`"
    assert shown["engine and learner"] == "3.0e-06"
    assert shown["after a publish"] == "**3.0e-05**"
    assert shown["image, learner"] == "0.5"
    assert shown["image, engine"] == "**0.0003**"
    assert shown["export"] == ""


def test_an_engine_that_does_not_start_stands_in_all_of_its_columns() -> None:
    cells = [
        equal_cell("right padding", 1e-6, 2e-5),
        failed("engine", RuntimeError("no kernel\nfor this")),
    ]
    shown = dict(zip(("family", *COLUMNS), row(cells), strict=True))
    assert shown["right padding"] == "1.0e-06"
    assert shown["export"] == shown["engine and learner"] == "**RuntimeError: no kernel**"


def test_measured_families_are_read_in_the_order_of_the_list(tmp_path: Path) -> None:
    for name in ("llama", "qwen2_vl"):
        (tmp_path / name).mkdir()
        cells = [asdict(equal_cell("export", 0.0, 2e-5))]
        (tmp_path / name / "cells.json").write_text(json.dumps(cells))
    assert list(read_cells(tmp_path)) == ["qwen2_vl", "llama"]
