"""The plan's memory against a real DeepSpeed rank and a real vLLM engine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "plan_memory.py"
# `make bench` has all cases and sizes.
CASES = ("float32, ZeRO 0, checkpointing", "bfloat16, ZeRO 2, LoRA, checkpointing")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    out = tmp_path_factory.mktemp("plan") / "rows.json"
    command = [
        sys.executable,
        str(BENCHMARK),
        "--sizes",
        "1M",
        "--out",
        str(out),
        "--cases",
        *CASES,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert out.is_file(), done.stderr
    return list(json.loads(out.read_text()))


def test_every_part_is_predicted_within_15_percent(rows: list[dict[str, Any]]) -> None:
    assert len(rows) == 6 * len(CASES) + 1
    wrong = [
        row
        for row in rows
        if abs(row["predicted"] - row["measured"]) > 0.15 * max(row["measured"], 1)
    ]
    assert wrong == []


def test_the_parts_are_really_measured(rows: list[dict[str, Any]]) -> None:
    """Only plain float32 training has no master weights; everything else is there."""
    empty = [(row["case"], row["part"]) for row in rows if not row["measured"]]
    assert empty == [("float32, ZeRO 0, checkpointing", "master weights")]
