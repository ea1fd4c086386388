"""`r1reward train` as a user runs it: determinism, kill and resume, replay, asynchrony."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.stack.command_line import LIMIT_S, Running, finish, started
from tests.stack.conftest import LOCAL

SMALL = (
    "judge={type: rule}",
    "data.train.num_pairs=64",
    "data.heldout.num_pairs=8",
    "rollout.prompts_per_step=32",
    "learner.train_batch_size=16",
    "train.num_steps=5",
    "train.checkpoint_every=2",
    "evaluate.every=2",
    "evaluate.keep_best=accuracy",
)
EVALUATED = (0, 2, 4, 5)


def command(run_dir: Path, *overrides: str) -> list[str]:
    return ["train", str(LOCAL), *SMALL, f"run_dir={run_dir}", *overrides]


def train(run_dir: Path, *overrides: str) -> str:
    """Run to the end; returns what was printed."""
    run_dir.parent.mkdir(exist_ok=True)
    return finish(command(run_dir, *overrides), run_dir.with_name("printed.log"))


@contextmanager
def training(run_dir: Path, *overrides: str) -> Iterator[Running]:
    """A run that goes on while this is open."""
    with started(command(run_dir, *overrides), run_dir.with_name("killed.log")) as running:
        yield running


def metrics(run_dir: Path) -> list[dict[str, float]]:
    """Every step's numbers but the timings."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if not name.startswith("time/")}
        for line in lines
    ]


def rollouts(run_dir: Path, step: int) -> list[dict[str, object]]:
    rows = pq.read_table(run_dir / "rollouts" / f"step-{step:06d}.parquet").to_pylist()
    return [{k: v for k, v in row.items() if k != "logprobs"} for row in rows]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One uninterrupted run that several tests compare with, started as a user starts it."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    done = subprocess.run(
        [sys.executable, "-m", "r1reward", *command(run_dir)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    assert "paired difference, one sample" in done.stdout
    return run_dir


def test_run_leaves_everything_it_promises(whole_run: Path) -> None:
    assert [line["step"] for line in metrics(whole_run)] == [1, 2, 3, 4, 5]
    assert sorted(p.name for p in (whole_run / "checkpoints").iterdir()) == [
        "step-000004",
        "step-000005",
    ]
    assert len(rollouts(whole_run, 5)) == 32
    for step in EVALUATED:
        assert (whole_run / "eval" / f"step-{step:06d}" / "result.json").is_file()
    assert (whole_run / "best" / "model.safetensors").is_file()
    assert (whole_run / "best" / "best.json").is_file()
    assert (whole_run / "model" / "r1reward.yaml").is_file()
    first = metrics(whole_run)[0]
    assert first["policy/ratio_max"] >= 1.0
    assert 0 < first["policy/logprob_gap_max"] < 1e-4
    assert first["sync/published_bytes"] > 4e6


def test_killed_run_resumes_from_its_checkpoint_and_equals_the_uninterrupted_one(
    whole_run: Path, tmp_path: Path
) -> None:
    """Two runs of one seed, one of them killed: same tokens, rewards, losses, every metric."""
    run_dir = tmp_path / "killed"
    with training(run_dir) as running:
        running.wait_until((run_dir / "checkpoints" / "step-000002").exists, "its checkpoint")
        running.wait_until((run_dir / "rollouts" / "step-000004.parquet").exists, "step 4")
        running.kill(whole_group=False)
    assert len(metrics(run_dir)) < 5
    printed = train(run_dir)
    assert "resuming after step" in printed
    assert metrics(run_dir) == metrics(whole_run)
    for step in range(1, 6):
        assert rollouts(run_dir, step) == rollouts(whole_run, step)
    for step in EVALUATED:
        name = Path("eval") / f"step-{step:06d}" / "result.json"
        assert (run_dir / name).read_text() == (whole_run / name).read_text()
    kept = Path("best") / "best.json"
    assert (run_dir / kept).read_text() == (whole_run / kept).read_text()


@pytest.mark.parametrize("mode", ["colocate", "in_process"])
def test_saved_rollouts_train_without_engines_to_the_same_losses(
    whole_run: Path, tmp_path: Path, mode: str
) -> None:
    """Whether the learner is an actor or lives in the loop's process."""
    run_dir = tmp_path / "replayed"
    train(run_dir, f"train.from_rollouts={whole_run / 'rollouts'}", f"placement.mode={mode}")
    again, live = metrics(run_dir), metrics(whole_run)
    for name in ("learner/loss", "learner/grad_norm", "reward/total", "advantage/std"):
        assert [step[name] for step in again] == [step[name] for step in live]


def test_bounded_lag_with_two_engines_and_two_ranks_overlaps_and_finishes(tmp_path: Path) -> None:
    run_dir = tmp_path / "asynchronous"
    train(
        run_dir,
        "train.max_policy_lag=1",
        "rollout.num_actors=2",
        "learner.num_ranks=2",
        "learner.zero_stage=3",
        "placement.threads=1",
    )
    lags = [step["rollout/policy_lag"] for step in metrics(run_dir)]
    assert lags[0] == 0
    assert max(lags) == 1
    assert all(step["policy/logprob_gap_max"] < 2 for step in metrics(run_dir))
