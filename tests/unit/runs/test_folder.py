"""The run folder: whose it is, and what a resume forgets."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from r1reward.errors import RecipeError
from r1reward.interfaces import RolloutBatch
from r1reward.recipe.diff import MAY_CHANGE, recipe_changes
from r1reward.recipe.files import dump_recipe, load_recipe, variants
from r1reward.recipe.recipe import EvalRecipe, Recipe
from r1reward.recipe.sections import TrackingSection
from r1reward.runs.folder import RunFolder
from r1reward.types import (
    PreferencePair,
    Prompt,
    Reward,
    Rollout,
    RolloutRequest,
    ScoredRollout,
    StepReport,
    Verdict,
)
from tests.recipes import recorder as recorder_of


class ListTracker:
    def __init__(self) -> None:
        self.reports: list[StepReport] = []
        self.shown: list[tuple[int, int]] = []

    def samples(self, step: int, rollouts: Sequence[ScoredRollout]) -> None:
        self.shown.append((step, len(rollouts)))

    def step(self, report: StepReport) -> None:
        self.reports.append(report)

    def evaluation(self, report: StepReport) -> None:
        self.reports.append(report)

    def close(self) -> None:
        pass


def metrics_of(folder: RunFolder, *lines: str) -> None:
    folder.root.mkdir(parents=True, exist_ok=True)
    folder.metrics.write_text("".join(lines))


def steps_in(folder: RunFolder) -> list[int]:
    return [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines()]


def test_prepare_keeps_the_resolved_recipe(tiny_recipe: Recipe) -> None:
    folder = RunFolder(tiny_recipe.run_dir)
    folder.prepare(tiny_recipe)
    assert load_recipe(folder.recipe) == tiny_recipe


def test_the_same_recipe_may_come_back(tiny_recipe: Recipe) -> None:
    folder = RunFolder(tiny_recipe.run_dir)
    folder.prepare(tiny_recipe)
    metrics_of(folder, '{"step": 1}\n')
    folder.prepare(tiny_recipe)
    assert steps_in(folder) == [1]


def test_another_recipe_is_refused_and_nothing_is_overwritten(tiny_recipe: Recipe) -> None:
    folder = RunFolder(tiny_recipe.run_dir)
    folder.prepare(tiny_recipe)
    metrics_of(folder, '{"step": 1}\n')
    with pytest.raises(RecipeError, match=r"made otherwise \(seed was 0, now it is 1\): choose"):
        folder.prepare(tiny_recipe.model_copy(update={"seed": 1}))
    assert load_recipe(folder.recipe) == tiny_recipe


def test_a_run_goes_on_where_its_actors_are_placed_otherwise(tiny_recipe: Recipe) -> None:
    folder = RunFolder(tiny_recipe.run_dir)
    folder.prepare(tiny_recipe)
    metrics_of(folder, '{"step": 1}\n')
    overrides = ("rollout.num_actors=3", "placement={wait_s: 9, resources: {judge: {node: 1}}}")
    other = load_recipe(folder.recipe, [*overrides, "tracking.wandb_project=mine"])
    folder.prepare(other)
    assert load_recipe(folder.recipe) == other
    with pytest.raises(RecipeError, match=r"placement\.threads was 2, now it is 1\)"):
        folder.prepare(load_recipe(folder.recipe, ["placement.threads=1"]))


def test_every_setting_that_may_change_is_one() -> None:
    """Of a recipe, or of one of its sections."""
    for name in MAY_CHANGE:
        assert any(has_setting(kind, name.split(".")) for kind in (Recipe, EvalRecipe)), name


def has_setting(annotation: object, names: Sequence[str]) -> bool:
    """Whether a section, or one of a union, has the setting of this dotted name."""
    if not names:
        return True
    settings = [getattr(kind, "model_fields", {}) for kind in (annotation, *variants(annotation))]
    return any(
        has_setting(fields[names[0]].annotation, names[1:])
        for fields in settings
        if names[0] in fields
    )


def test_a_folder_may_be_moved_and_know_fewer_settings(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """One of an older version, whose missing settings count as their defaults."""
    kept = yaml.safe_load(dump_recipe(tiny_recipe))
    del kept["run_url"], kept["learner"]["min_lr_ratio"]
    folder = RunFolder(tmp_path / "moved")
    metrics_of(folder, '{"step": 1}\n')
    folder.recipe.write_text(yaml.safe_dump(kept))
    moved = tiny_recipe.model_copy(update={"run_dir": folder.root})
    folder.prepare(moved)
    assert load_recipe(folder.recipe) == moved
    folder.recipe.write_text(yaml.safe_dump(kept | {"no such setting": 1}))
    with pytest.raises(RecipeError, match="of another version of r1reward, or changed by hand"):
        folder.prepare(moved)


def test_a_pipelines_folder_may_be_moved(tiny_recipe: Recipe) -> None:
    """Its stages' recipes name what other stages made, by where that was."""

    def stage(run_dir: str, model: str) -> Recipe:
        made = {"path": model}
        changes = {"run_dir": Path(run_dir), "model": tiny_recipe.model.model_copy(update=made)}
        return tiny_recipe.model_copy(update=changes)

    kept = dump_recipe(stage("/a/run/train", "/a/run/sft/model"))
    assert recipe_changes(kept, stage("/b/run/train", "/b/run/sft/model")) == []
    assert recipe_changes(kept, stage("/b/run/train", "/a/run/sft/model")) == []  # not a part of it
    for elsewhere in ("/c/run/sft/model", "/b/run/model"):
        (said,) = recipe_changes(kept, stage("/b/run/train", elsewhere))
        assert "model.path was" in said
    other = dump_recipe(stage("/a/run/train", "/a/model"))
    assert recipe_changes(other, stage("/b/run/train", "/b/model"))


def test_folder_of_a_run_that_never_got_going_may_be_used_again(tiny_recipe: Recipe) -> None:
    folder = RunFolder(tiny_recipe.run_dir)
    folder.prepare(tiny_recipe)
    folder.prepare(tiny_recipe.model_copy(update={"seed": 1}))
    assert load_recipe(folder.recipe).seed == 1


def test_forget_after_drops_the_steps_that_will_be_done_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    metrics_of(folder, *(f'{{"step": {step}, "x": 0.5}}\n' for step in range(1, 6)))
    folder.forget_after(3)
    assert folder.metrics.read_text() == "".join(
        f'{{"step": {step}, "x": 0.5}}\n' for step in (1, 2, 3)
    )


def test_a_run_is_not_started_in_an_evaluations_folder(tiny_recipe: Recipe) -> None:
    folder = RunFolder(tiny_recipe.run_dir)
    folder.root.mkdir(parents=True)
    (folder.root / "answers.jsonl").touch()
    with pytest.raises(RecipeError, match="holds an evaluation: choose another run_dir"):
        folder.prepare(tiny_recipe)
    assert not folder.recipe.exists()


def test_forget_after_drops_evaluations_of_weights_that_may_come_out_otherwise(
    tmp_path: Path,
) -> None:
    folder = RunFolder(tmp_path)
    for step in (0, 2, 4):
        folder.evaluation(step).mkdir(parents=True)
        (folder.evaluation(step) / "answers.jsonl").write_text("half\n")
    folder.forget_after(2)
    assert sorted(path.name for path in folder.evaluations.iterdir()) == [
        "step-000000",
        "step-000002",
    ]


def test_forget_after_zero_forgets_everything(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    metrics_of(folder, '{"step": 0}\n', '{"step": 1}\n', '{"step": 2}\n')
    folder.forget_after(0)
    assert folder.metrics.read_text() == ""


@pytest.mark.parametrize("cut", ['{"step": 2, "x": 0.', '{"step"', ""])
def test_forget_after_survives_a_line_that_a_kill_cut_short(tmp_path: Path, cut: str) -> None:
    folder = RunFolder(tmp_path)
    metrics_of(folder, '{"step": 1}\n', cut)
    folder.forget_after(9)
    assert folder.metrics.read_text() == '{"step": 1}\n'


def test_forget_after_without_metrics_does_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.forget_after(3)
    assert list(tmp_path.iterdir()) == []


def test_a_step_is_one_line_and_reaches_every_tracker(tiny_recipe: Recipe) -> None:
    folder = RunFolder(tiny_recipe.run_dir)
    folder.prepare(tiny_recipe)
    trackers = [ListTracker(), ListTracker()]
    recorder = recorder_of(folder, tiny_recipe, [*trackers])
    reports = [StepReport(1, {"loss/x": 0.5}), StepReport(2, {"loss/x": 0.25})]
    for report in reports:
        recorder.record_step(report)
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [(line["step"], line["loss/x"]) for line in lines] == [(1, 0.5), (2, 0.25)]
    assert trackers[0].reports == trackers[1].reports
    assert [{"step": r.step, **r.metrics} for r in trackers[0].reports] == lines


def batch_of(step: int, size: int) -> RolloutBatch:
    prompt = Prompt("p", PreferencePair("q", (), "a", "b", 1), "stored", "", (), 0)
    rollout = Rollout(
        RolloutRequest(prompt, 0, 0), (), (1,), "", np.zeros(1), np.zeros(1, dtype=int), "stop"
    )
    scored = ScoredRollout(rollout, Verdict(None, 1, True), Reward(1, 1, None, 1, "skipped"))
    return RolloutBatch(step, [scored] * size, {})


def test_rollouts_of_step_0_are_in_the_file_of_step_1(tiny_recipe: Recipe) -> None:
    folder = RunFolder(tiny_recipe.run_dir)
    recorder_of(folder, tiny_recipe, []).record_rollouts(batch_of(0, 1))
    assert [path.name for path in folder.rollouts.iterdir()] == ["step-000001.parquet"]


@pytest.mark.parametrize(("num_samples", "shown"), [(2, [(1, 2), (4, 2)]), (9, [(1, 3), (4, 3)])])
def test_some_rollouts_are_shown_every_few_steps(
    tiny_recipe: Recipe, num_samples: int, shown: list[tuple[int, int]]
) -> None:
    tracking = TrackingSection(samples_every=3, num_samples=num_samples)
    recipe = tiny_recipe.model_copy(update={"tracking": tracking})
    tracker = ListTracker()
    recorder = recorder_of(RunFolder(recipe.run_dir), recipe, [tracker])
    for step in range(5):
        recorder.record_rollouts(batch_of(step, size=3))
    assert tracker.shown == shown


def test_no_samples_asked_for_means_none_shown(tiny_recipe: Recipe) -> None:
    recipe = tiny_recipe.model_copy(update={"tracking": TrackingSection(num_samples=0)})
    tracker = ListTracker()
    recorder_of(RunFolder(recipe.run_dir), recipe, [tracker]).record_rollouts(batch_of(0, 3))
    assert tracker.shown == []
