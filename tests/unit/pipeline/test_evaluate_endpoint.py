"""``r1reward eval --endpoint`` from the command to its status, against servers that refuse or fail."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from r1reward.cli.main import main
from tests.chat_server import GOOD, ChatServer, Reply

pytestmark = pytest.mark.slow  # writes a whole report
SIX = Path(__file__).parents[2] / "cases" / "six.jsonl"
REFUSAL = Reply(400, b"policy")
DOWN = Reply(503, b"down", {"x-should-retry": "false"})


def evaluate(server: ChatServer, out: Path, *overrides: str) -> int:
    bench = ["--bench", "pairs", "--data", str(SIX)]
    command = ["eval", "--endpoint", server.url, "--model", "m", *bench, "--out", str(out)]
    return main([*command, "endpoint.max_concurrent=1", *overrides])


def result(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / "result.json").read_text())
    return read


def test_refused_rows_are_told_left_out_and_asked_again(
    server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.replies = [*[Reply(200, GOOD)] * 10, REFUSAL, REFUSAL]
    assert evaluate(server, tmp_path / "out") == 0
    told = capsys.readouterr().out
    found = result(tmp_path / "out")
    missing = found["missing"]
    assert missing["num_refused"] == 2 and missing["num_failed"] == 0
    assert len(found["rows"]) == found["conditions"]["num_rows"] == 6 - missing["num_rows"]
    assert found["accuracy"]["value"] == 0.5
    (warning,) = found["warnings"]
    assert warning.startswith(f"{missing['num_rows']} of 6 rows are left out")
    assert "rows without an answer" in told and f"{missing['num_rows']} of 6" in told
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"{missing['num_rows']} of 6 rows are left out" in page
    server.replies = [Reply(200, GOOD)]
    server.requests.clear()
    assert evaluate(server, tmp_path / "out") == 0
    assert len(server.requests) == 2
    found = result(tmp_path / "out")
    assert found["missing"] is None and found["warnings"] == []
    assert len(found["rows"]) == 6 and found["accuracy"]["value"] == 0.5
    server.requests.clear()
    assert evaluate(server, tmp_path / "out") == 0
    assert server.requests == []


def test_failed_rows_are_status_1_with_a_result_and_asked_again(
    server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.replies = [*[Reply(200, GOOD)] * 11, DOWN]
    assert evaluate(server, tmp_path / "out") == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("no answer came for 1 samples") and "HTTP 503: down" in told
    assert result(tmp_path / "out")["missing"]["num_failed"] == 1
    # A server that was started again may have another port.
    server.replies = [Reply(200, GOOD)]
    assert evaluate(server, tmp_path / "out", f"endpoint.url={server.url}/") == 0
    assert result(tmp_path / "out")["missing"] is None


def test_twelve_refusals_of_twelve_are_an_error_and_no_score(
    server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: they were published as 0.0 % with status 0."""
    message = b"Unsupported parameter: 'max_tokens' is not supported with this model."
    server.replies = [Reply(400, message)]
    assert evaluate(server, tmp_path / "out") == 1
    assert len(server.requests) == 12
    assert not (tmp_path / "out" / "result.json").exists()
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("none of the 6 rows has its answers")
    assert "set max_tokens_field: max_completion_tokens" in told
    # What was never answered may be asked in another way.
    server.replies = [Reply(200, GOOD)]
    field = "endpoint.max_tokens_field=max_completion_tokens"
    assert evaluate(server, tmp_path / "out", field, "endpoint.leave_out=[temperature]") == 0
    found = result(tmp_path / "out")
    assert found["conditions"]["temperature"] is None
    assert len(found["rows"]) == 6
    sent = server.requests[-1][2]
    assert "temperature" not in sent and "max_completion_tokens" in sent


def test_a_bad_row_of_the_benchmark_is_told_and_the_others_are_counted(
    server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: it ended the evaluation."""
    rows = SIX.read_text(encoding="utf-8").splitlines()
    bad = json.dumps(json.loads(rows[2]) | {"response_1": "cut \ud83d"})
    bench = tmp_path / "bench.jsonl"
    bench.write_text("\n".join([*rows, bad]), encoding="utf-8")
    shutil.copy(SIX.with_name("plain.jpg"), tmp_path)
    server.replies = [Reply(200, GOOD)]
    command = ["eval", "--endpoint", server.url, "--model", "m", "--bench", "pairs"]
    out = tmp_path / "out"
    assert main([*command, "--data", str(bench), "--out", str(out)]) == 0
    found = result(out)
    assert len(found["rows"]) == found["conditions"]["num_rows"] == 6
    assert found["conditions"]["num_dropped"] == {"half a character": 1}
    counted, named = found["warnings"]
    assert counted == "1 rows of the benchmark were left out: half a character."
    assert named.startswith(f"{bench} row 7: response_1 holds half a character")
    assert counted in capsys.readouterr().out.replace("\n", " ")


def test_rows_are_asked_once_more_with_the_images_off(server: ChatServer, tmp_path: Path) -> None:
    server.replies = [Reply(200, GOOD)]
    assert evaluate(server, tmp_path / "out", "evaluate.image_off=true") == 0
    assert len(server.requests) == 24
    for name in ("answers.jsonl", "answers_image_off.jsonl"):
        assert len((tmp_path / "out" / name).read_text().splitlines()) == 12
    drop = result(tmp_path / "out")["image_off_drop"]
    assert drop is not None and drop["value"] == 0.0
    server.requests.clear()
    assert evaluate(server, tmp_path / "out", "evaluate.image_off=true") == 0
    assert server.requests == []
