"""Alerts in a whole run with fakes: in the metrics, in the log, and as the end of a run."""

import asyncio
import json
import logging
from functools import partial
from pathlib import Path

import pytest

from r1reward import loop
from r1reward.recipe.recipe import Recipe
from r1reward.runs.alerts import AlertError
from r1reward.runs.folder import RunFolder
from r1reward.types import RolloutRequest
from tests.fakes import (
    FakeGenerator,
    FakeJudge,
    FakeLearner,
    make_recipe,
    requests_for_step,
    right_answer,
)
from tests.recipes import live_source, loop_settings
from tests.recipes import recorder as recorder_of


def garbled(request: RolloutRequest) -> str:
    return "neither one thing nor the other"


def run(recipe: Recipe, root: Path, generator: FakeGenerator, start_step: int = 0) -> FakeLearner:
    folder, learner = RunFolder(root), FakeLearner()
    folder.prepare(recipe)
    folder.forget_after(start_step)
    recorder = recorder_of(folder, recipe, [])
    source = live_source(recipe, generator, FakeJudge(), partial(requests_for_step, recipe))
    asyncio.run(loop.run(loop_settings(recipe), source, learner, recorder, start_step))
    return learner


def flags(root: Path, name: str) -> list[float]:
    return [step[f"alert/{name}"] for step in RunFolder(root).read_metrics()]


def test_an_alert_is_a_metric_of_every_step_and_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "r1reward.runs.alerts"):
        run(make_recipe(train__num_steps=4), tmp_path, FakeGenerator(garbled))
    assert flags(tmp_path, "unparsed") == [1, 1, 1, 1]
    assert flags(tmp_path, "length_at_cap") == [0, 0, 0, 0]
    assert [record.getMessage()[:23] for record in caplog.records] == ["step 1: alert unparsed:"]


@pytest.mark.parametrize("lag", [0, 2])
def test_a_run_that_stops_on_an_alert_keeps_the_step_and_no_later_checkpoint(
    tmp_path: Path, lag: int
) -> None:
    recipe = make_recipe(
        train__num_steps=50,
        train__checkpoint_every=2,
        train__max_policy_lag=lag,
        alerts__stop_on=["unparsed"],
    )
    asked = 0

    def garbled_from_the_fourth_step(request: RolloutRequest) -> str:
        nonlocal asked
        asked += 1
        return (right_answer if asked <= 12 else garbled)(request)

    with pytest.raises(ExceptionGroup) as caught:
        run(recipe, tmp_path, FakeGenerator(garbled_from_the_fourth_step))
    assert caught.group_contains(AlertError, match="step 4: alert unparsed")
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()] == [
        1,
        2,
        3,
        4,
    ]
    assert flags(tmp_path, "unparsed") == [0, 0, 0, 1]
    assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == ["step-000002"]


def test_a_resumed_run_alerts_as_the_uninterrupted_one(tmp_path: Path) -> None:
    def always_1(request: RolloutRequest) -> str:
        return "<think>x</think><answer>1</answer>"

    recipe = make_recipe(train__num_steps=6, alerts__window=4)
    run(recipe, tmp_path / "whole", FakeGenerator(always_1))
    assert flags(tmp_path / "whole", "slot_drift") == [0, 0, 0, 1, 1, 1]
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (resumed / "metrics.jsonl").write_text("".join(lines[:3]))
    run(recipe, resumed, FakeGenerator(always_1), start_step=2)
    assert flags(resumed, "slot_drift") == [0, 0, 0, 1, 1, 1]
