"""What an import makes of every kind of row that people have; tests/stack/test_sixty_rows.py goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1reward.cli.main import main
from tests.sixty_rows import SOURCES, Source, write_source


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_row_is_kept_or_dropped_for_its_reason(source: Source, tmp_path: Path) -> None:
    out = tmp_path / "store"
    folder = write_source(source, tmp_path)
    assert main(["data", *source.arguments(folder, out)]) == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["num_read"] == source.num_rows
    assert (report["dropped"], report["notes"]) == (source.dropped, source.notes)
    assert report["num_written"] == source.kept
    assert main(["data", "validate", str(out)]) == 0
