"""`placement.mode: in_process`, and the stability study that is made of such runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.stack.command_line import finish
from tests.stack.conftest import LOCAL, LOGPROB_BOUND
from tests.stack.test_train import command, metrics, rollouts, train, training

IN_PROCESS = ("placement.mode=in_process", "placement.threads=1", "evaluate.keep_best=null")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("in-process") / "run"
    train(run_dir, *IN_PROCESS)
    return run_dir


def test_the_sampler_follows_the_learner(whole_run: Path) -> None:
    """Every step samples with the weights of the step before: the gap stays at rounding."""
    steps = metrics(whole_run)
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5]
    assert all(0 < step["policy/logprob_gap_mean"] < LOGPROB_BOUND for step in steps[:1])
    # The second update of a step holds old log-probs of before the first one, as the engine does.
    assert all(step["policy/logprob_gap_max"] < LOGPROB_BOUND for step in steps)
    assert all(step["policy/ratio_max"] > 1 for step in steps)
    assert (whole_run / "model" / "model.safetensors").is_file()


def test_no_cluster_is_started(whole_run: Path, tmp_path: Path) -> None:
    """Ray would find none: its address leads nowhere."""
    run_dir = tmp_path / "run"
    overrides = [*IN_PROCESS, f"train.from_rollouts={whole_run / 'rollouts'}", "train.num_steps=1"]
    overrides += ["data.heldout=null", "evaluate.every=0"]
    printed = tmp_path / "printed.log"
    finish(command(run_dir, *overrides), printed, {"RAY_ADDRESS": "127.0.0.1:1"})
    assert len(metrics(run_dir)) == 1


def test_a_killed_run_equals_the_uninterrupted_one(whole_run: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "killed"
    with training(run_dir, *IN_PROCESS) as running:
        running.wait_until((run_dir / "checkpoints" / "step-000002").is_dir, "its checkpoint")
        running.kill()
    assert "resuming after step" in train(run_dir, *IN_PROCESS)
    assert metrics(run_dir) == metrics(whole_run)
    assert rollouts(run_dir, 5) == rollouts(whole_run, 5)


GRID = {
    "seeds": [0],
    "set": [
        *IN_PROCESS,
        "judge={type: rule}",
        "rollout.prompts_per_step=16",
        "learner.train_batch_size=8",
        "learner.warmup_share=0",
        "algorithm.log_reference_kl=true",
        "data.heldout.num_pairs=6",
        "evaluate.every=0",
        "train.num_steps=2",
    ],
    "variants": {
        "paper": {"recipe": str(LOCAL)},
        # The first update throws every weight out of range.
        "broken": {"recipe": str(LOCAL), "set": ["learner.lr=1.0e+30"]},
    },
    "stresses": {
        "plain": {"variants": ["paper", "broken"]},
        "stale": {"weights_behind": 1, "variants": ["paper"]},
        "late": {"wrong_per_batch": 1, "starts_trained": True, "variants": ["paper"]},
    },
    "start": {"recipe": str(LOCAL), "set": ["train.num_steps=1"]},
}


def study(folder: Path) -> str:
    verb = [sys.executable, "-m", "studies.stability.run", str(folder / "grid.yaml")]
    done = subprocess.run(
        [*verb, "--runs", str(folder / "runs"), "--out", str(folder / "page.md")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_the_study_fills_its_page_and_keeps_what_has_ended(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(GRID))
    marks = [
        f"<!-- table {stress} {kind} -->\n<!-- end of table -->\n"
        for stress in ("plain", "stale", "late")
        for kind in ("cells", "contributions")
    ]
    (tmp_path / "page.md").write_text("".join(marks))
    printed = study(tmp_path)
    page = (tmp_path / "page.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| paper | 0")]
    assert len(rows) == 3, "one cell of every stress"
    (broken,) = [line.split(" | ") for line in page.splitlines() if line.startswith("| broken | 0")]
    assert "not finite" in printed
    # After, collapsed, not finite.
    assert (broken[3], broken[6]) == ("-", "yes")
    assert broken[5] in ("1", "2")
    stale = metrics(tmp_path / "runs" / "stale" / "paper" / "seed-0")
    assert [step["rollout/policy_lag"] for step in stale] == [0, 1]
    late = metrics(tmp_path / "runs" / "late" / "paper" / "seed-0")
    assert all(step["reward/result"] == pytest.approx(15 / 16) for step in late)
    for stress in ("plain", "stale", "late"):
        assert "<svg" in (tmp_path / "images" / f"stability-{stress}.svg").read_text()
    endings = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*/*/*/ending.json")}
    assert len(endings) == 4
    study(tmp_path)
    assert (tmp_path / "page.md").read_text() == page
    assert {path: path.stat().st_mtime_ns for path in endings} == endings
