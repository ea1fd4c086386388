"""The page of a pipeline: its models, its stages, and what is not there yet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from r1reward.errors import InputError
from r1reward.evaluation.evaluation import read_evaluation
from r1reward.evaluation.side_by_side import lines
from r1reward.recipe.pipeline_sections import (
    AttemptsSelection,
    EndpointTeacher,
    PassRateSelection,
    ShapesTeacher,
)
from r1reward.report.build import build_report
from r1reward.report.pipeline_charts import attempts_chart
from r1reward.report.pipeline_page import Cell, cell
from r1reward.report.recipe_view import setting_text
from tests.report_folders import (
    HOSTILE,
    make_rows,
    write_pipeline,
    write_recipe,
    write_run,
    write_sft_run,
)
from tests.unit.report.test_report import Elements, resolved

ITEMS = make_rows(16)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("runs") / "whole", ITEMS)


@pytest.fixture(scope="module")
def page(pipeline: Path) -> Elements:
    return Elements(build_report(pipeline, None).read_text(encoding="utf-8"))


def charts_of(page: Elements) -> dict[str, Any]:
    return {chart["name"]: chart for chart in page.report["charts"]}


def named(chart: Any, name: str) -> Any:
    (found,) = [trace for trace in chart["data"] if trace.get("name") == name]
    return found


def test_the_table_is_that_of_the_summary(pipeline: Path, page: Elements) -> None:
    folder = pipeline / "eval" / "shapes"
    models = ("base", "sft", "rl")
    found = {model: read_evaluation(folder / model / "result.json") for model in models}
    assert "16 pairs of shapes, both orders base SFT only RL accuracy, one sample" in page.text
    for label, cells in lines(found):  # type: ignore[arg-type]
        shown = " ".join(filter(None, cells)).replace("-", "\N{MINUS SIGN}")
        assert f"{label} {shown}" in page.text
    assert "5 of 5 stages complete." in page.text
    assert "yet" not in page.text


def test_tiles_tell_what_each_stage_added(pipeline: Path, page: Elements) -> None:
    folder = pipeline / "eval" / "shapes"
    base, rl = (read_evaluation(folder / model / "result.json") for model in ("base", "rl"))
    gain = 100 * (rl.accuracy.value - base.accuracy.value)
    assert f"RL over base +{gain:.1f} points" in page.text
    assert f"RL, voting@6 {100 * rl.voted.value:.1f} %" in page.text


def test_charts_of_the_models(pipeline: Path, page: Elements) -> None:
    charts = charts_of(page)
    one = named(charts["models-0"], "one sample")
    assert one["x"] == ["base", "SFT only", "RL"]
    result = read_evaluation(pipeline / "eval" / "shapes" / "sft" / "result.json").accuracy
    assert one["y"][1] == result.value
    assert one["error_y"]["array"][1] == pytest.approx(result.high - result.value)
    assert one["error_y"]["arrayminus"][1] == pytest.approx(result.value - result.low)
    votes = [trace["name"] for trace in charts["models-votes-0"]["data"] if trace.get("name")]
    assert votes == ["base", "SFT only", "RL"]
    assert named(charts["models-votes-0"], "RL")["x"] == [1, 2, 3, 4, 5, 6]


def test_cold_start_counts_and_sample_attempts(page: Elements) -> None:
    bars = charts_of(page)["attempts"]["data"][0]
    assert bars["x"] == ["1 attempt", "2 attempts", "3 attempts", "failed"]
    assert bars["y"] == [2, 1, 1, 1]
    shown = [(a["pair_id"], a["number"], a["agreed"], a["failed"]) for a in page.report["attempts"]]
    assert shown == [
        ("pair0", 1, True, False),
        ("pair1", 1, False, False),
        ("pair1", 2, True, False),
        ("pair2", 3, True, False),
        ("pair3", 3, False, True),
    ]
    assert page.report["attempts"][-1]["text"] == HOSTILE
    assert "pwned" not in page.text
    # Ten answers, of which only those of pairs with one attempt tell tokens and cost.
    assert (
        "Answers 10 Pairs that the teacher agreed with 4 (80.0 %) Unreadable answers 3" in page.text
    )
    assert "Prompt tokens 1 000 Written tokens 40, of 2 answers" in page.text
    assert "Cost 0.50, of 2 answers" in page.text


def test_selection_by_level_and_source(page: Elements) -> None:
    assert "2 attempts <i>other</i> 30 25 failed shapes 4 4 All 1 234 29" in page.text


def test_sft_and_rl_have_curves_of_their_own(page: Elements) -> None:
    charts = charts_of(page)
    heldout = named(charts["sft-supervised"], "held out")
    assert heldout["x"] == [0, 8, 16, 24, 32]
    assert heldout["y"][0] == pytest.approx(0.52)
    assert named(charts["sft-supervised"], "learned")["x"] == list(range(33))
    assert {"sft-lr", "train-lr", "train-reward", "accuracy-over-steps"} <= charts.keys()
    assert len({chart["name"] for chart in page.report["charts"]}) == len(page.report["charts"])
    assert "32 steps done; held-out loss 0.52 at step 0, 0.117 at step 32." in page.text
    assert len(page.report["rollouts"]) == 12


def test_samples_are_those_of_the_last_model(pipeline: Path, page: Elements) -> None:
    assert len(page.report["samples"]["rows"]) == len(ITEMS)
    assert "Shown here and below: the model after RL on shapes." in page.text
    first = json.loads((pipeline / "eval" / "shapes" / "rl" / "answers.jsonl").open().readline())
    votes = {row["key"]: row["votes"] for row in page.report["samples"]["rows"]}[first["item"]]
    assert first["seed"] in [vote["seed"] for vote in votes]


def test_plotly_accepts_every_chart_of_a_pipeline(page: Elements) -> None:
    for chart in page.report["charts"]:
        go.Figure(data=resolved(chart["data"]), layout=resolved(chart["layout"]))


# What is not there yet


def test_models_that_are_not_evaluated_yet(tmp_path: Path) -> None:
    root = write_pipeline(tmp_path / "run", ITEMS, evaluated=("base", "sft"))
    page = Elements(build_report(root, None).read_text(encoding="utf-8"))
    assert "4 of 5 stages complete." in page.text
    assert "Final evaluation unfinished" in page.text
    assert "Not evaluated on shapes yet: RL." in page.text
    assert "SFT only over base" in page.text
    assert "Shown here and below: the newest evaluation during RL, at step 20." in page.text


def test_a_pipeline_in_its_first_stage(tmp_path: Path) -> None:
    root = write_pipeline(tmp_path / "run", ITEMS, evaluated=())
    for name in ("sft", "select", "train", "eval"):
        shutil.rmtree(root / name)
    (root / "annotate" / "stage.json").write_text('{"settings": {}, "inputs": {}, "outputs": {}}')
    with (root / "annotate" / "attempts.jsonl").open("a") as lines_left:
        fields = {"pair_id": "open", "number": 1, "order": "stored", "seed": 0, "text": ""}
        lines_left.write(json.dumps(fields | {"choice": 2, "agreed": False}) + "\n")
        lines_left.write('{"pair_id": "cut sh')
    page = Elements(build_report(root, None).read_text(encoding="utf-8"))
    assert "0 of 5 stages complete." in page.text
    assert "The cold start is not finished yet." in page.text
    for name in ("SFT", "The selection", "RL"):
        assert f"{name} has not started yet." in page.text
    assert "Not evaluated on shapes yet: base, SFT only, RL." in page.text
    charts = charts_of(page)
    assert list(charts) == ["attempts"]
    assert charts["attempts"]["data"][0]["x"][-1] == "not done yet"
    assert page.report["samples"]["rows"] == []


def test_stages_that_the_recipe_does_not_have_are_not_missed(tmp_path: Path) -> None:
    root = tmp_path / "run"
    write_run(root / "train", ITEMS[:4], num_steps=4, num_samples=2, every=2)
    write_recipe(root, 4, name="chosen", select={"type": "recorded", "levels": [2, 3]})
    page = Elements(build_report(root, None).read_text(encoding="utf-8"))
    assert "0 of 2 stages complete." in page.text
    assert "The selection has not started yet." in page.text
    assert "Cold start" not in page.text and "SFT" not in page.text
    assert "RL is not finished yet." in page.text


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    root = write_pipeline(tmp_path / "run", ITEMS[:4])
    (root / "eval" / "shapes" / "sft" / "result.json").write_text("{}")
    with pytest.raises(InputError, match=r"sft/result\.json: not the result of an evaluation"):
        build_report(root, None)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("select/counts.json", '[{"level": "failed"}]', "not the counts of a selection"),
        ("select/counts.json", "[", "not the counts of a selection"),
        ("sft/stage.json", "{", "cannot be read"),
        ("sft/stage.json", "[]", "cannot be read"),
        ("annotate/attempts.jsonl", '{"pair_id": "a"}\n', "line 1: not an attempt of a teacher"),
    ],
)
def test_a_broken_file_of_a_stage_is_one_sentence(
    path: str, text: str, message: str, tmp_path: Path
) -> None:
    root = write_pipeline(tmp_path / "run", ITEMS[:4], evaluated=("base",))
    (root / path).write_text(text)
    with pytest.raises(InputError, match=f"{path}:? {message}") as error:
        build_report(root, None)
    assert "\n" not in str(error.value)


def test_a_recipe_of_another_version_is_shown_as_its_text(tmp_path: Path) -> None:
    root = write_pipeline(tmp_path / "old", ITEMS[:4])
    for folder in (root, root / "train"):
        (folder / "recipe.yaml").write_text("name: whole\nsetting_of_old: 7\n")
    page = Elements(build_report(root, None).read_text(encoding="utf-8"))
    assert "setting_of_old: 7" in page.text
    assert "5 of 5 stages complete." in page.text
    assert "RL over base" in page.text
    run = Elements(build_report(root / "train", None).read_text(encoding="utf-8"))
    assert "setting_of_old: 7" in run.text
    assert "20 steps done" in run.text


# Parts


def test_a_run_on_traces_alone_shows_its_losses(tmp_path: Path) -> None:
    """Regression: the page of an SFT had a gradient norm and settings of RL, but no loss."""
    root = write_sft_run(tmp_path / "sft", num_steps=16, every=8)
    page = Elements(build_report(root, None).read_text(encoding="utf-8"))
    charts = charts_of(page)
    assert named(charts["train-supervised"], "held out")["x"] == [0, 8, 16]
    assert "train-reward" not in charts
    assert "r1reward fine-tuning on traces" in page.text
    assert "16 steps done; held-out loss 0.52 at step 0" in page.text
    assert "Traces a step 32" in page.text
    assert "KL weight" not in page.text and "not evaluated" not in page.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-", ("\N{EN DASH}", "")),
        ("", ("", "")),
        ("46.2 %", ("46.2 %", "")),
        ("65.5 % [62.6, 68.5]", ("65.5 %", "[62.6, 68.5]")),
        ("-1.2 [-3.0, +0.6]", ("\N{MINUS SIGN}1.2", "[\N{MINUS SIGN}3.0, +0.6]")),
        ("54.1 (-2 %)", ("54.1", "(\N{MINUS SIGN}2 %)")),
    ],
)
def test_a_cell_is_a_number_and_what_stands_behind_it(text: str, expected: Cell) -> None:
    assert cell(text) == expected


def test_selections_in_words() -> None:
    by_attempts = AttemptsSelection(type="attempts", levels=(2, 3, "failed"))
    assert setting_text(by_attempts) == "agreed after 2, 3 attempts, or failed"
    assert setting_text(AttemptsSelection(type="attempts", levels=("failed",))) == "failed"
    by_rate = PassRateSelection(type="pass_rate", min_rate=0.0, max_rate=0.9)
    assert setting_text(by_rate) == "right in 0 to 90 % of the policy's own samples"


def test_the_teacher_is_named_but_not_how_it_is_reached() -> None:
    teacher = EndpointTeacher(type="openai", model="gpt-4o", url="http://secret.host/v1")
    assert setting_text(teacher) == "openai, gpt-4o"
    assert setting_text(ShapesTeacher(type="shapes")) == "shapes"


def test_bars_without_any_pair() -> None:
    chart = attempts_chart({1: 0, 2: 0, None: 0}, 1)
    assert chart.traces[0]["y"] == [0, 0]
