"""`r1reward run` as a user runs it: killed in every stage it goes on, and ends as if it had not been."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file

from r1reward.data.attempts import read_annotations
from r1reward.errors import InputError
from r1reward.evaluation.answers import read_answers
from r1reward.evaluation.evaluation import read_evaluation
from r1reward.pipeline.run import run_stage
from r1reward.pipeline.sources import load_pairs
from r1reward.recipe.derive import StageName, planned_stages
from r1reward.recipe.files import load_recipe
from r1reward.recipe.recipe import Recipe
from r1reward.recipe.sections import FileSource
from tests.stack.command_line import finish, started
from tests.stack.conftest import LOCAL, Stack

PIPELINE = LOCAL.with_name("pipeline_local.yaml")
SMALL = (
    "judge={type: rule}",
    "data.train.num_pairs=400",
    "data.heldout.num_pairs=8",
    "annotate.teacher.max_concurrent=4",
    "sft.num_traces=64",
    "sft.batch_size=16",
    "sft.max_heldout=8",
    "sft.evaluate_every=2",
    "sft.checkpoint_every=2",
    "rollout.prompts_per_step=16",
    "learner.train_batch_size=16",
    "train.num_steps=4",
    "train.checkpoint_every=2",
    "evaluate.every=0",
    "final.samples=3",
    "final.benches=[{name: shapes, num_rows: 8}]",
)


def command(run_dir: Path) -> list[str]:
    return ["run", str(PIPELINE), *SMALL, f"run_dir={run_dir}"]


def recipe_of(run_dir: Path, *overrides: str) -> Recipe:
    return load_recipe(PIPELINE, [*SMALL, f"run_dir={run_dir}", *overrides])


def kill_when(run_dir: Path, is_time: Callable[[], bool]) -> str:
    """Start the whole pipeline and kill it, hard, soon after the condition holds; what it printed."""
    with started(command(run_dir), run_dir.with_name("printed.log")) as running:
        running.wait_until(is_time, "the moment to kill it")
        time.sleep(random.uniform(0, 0.3))
        running.kill()
        return running.printed()


def num_lines(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def step_metrics(path: Path) -> list[dict[str, float]]:
    lines = (path / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if not name.startswith("time/")}
        for line in lines
    ]


def run_here(recipe: Recipe, *stages: StageName) -> None:
    """Stages in this process, in the Ray session that all stack tests share."""
    for stage in stages:
        asyncio.run(run_stage(recipe, stage, Console(quiet=True)))


@pytest.fixture(scope="module")
def whole(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first three stages one by one, never interrupted."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    run_here(recipe_of(run_dir), "annotate", "sft", "select")
    return run_dir


def test_killed_in_every_stage_that_takes_long_it_ends_as_if_it_had_not_been(
    whole: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    attempts, partly = run_dir / "annotate" / "attempts.jsonl", random.randint(20, 200)
    kill_when(run_dir, lambda: num_lines(attempts) >= partly)
    paid = attempts.read_bytes().splitlines()
    kill_when(run_dir, (run_dir / "sft" / "checkpoints" / "step-000002").is_dir)
    after_sft = kill_when(run_dir, (run_dir / "train" / "checkpoints" / "step-000002").is_dir)
    # An evaluation that is killed has its own test, in test_evaluate.py.
    printed = finish(command(run_dir), tmp_path / "printed.log")

    # Annotations: the same file, and whatever was answered before the kill is in it unchanged.
    for name in ("annotate/attempts.jsonl", "select/counts.json"):
        assert (run_dir / name).read_bytes() == (whole / name).read_bytes(), name
    kept = set(attempts.read_bytes().splitlines())
    assert set(paid[:-1]) <= kept and len(kept) == num_lines(attempts)
    # Selection: the same store.
    stores = [sorted((root / "select" / "pairs").iterdir()) for root in (run_dir, whole)]
    assert [p.name for p in stores[0]] == [p.name for p in stores[1]]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*stores, strict=True))
    # SFT and RL went on from a checkpoint instead of beginning anew.
    assert re.search(r"resuming after step [24]", after_sft), after_sft
    assert re.search(r"resuming after step [24]", printed), printed
    # SFT: every step once, with the numbers of the uninterrupted run, and its weights.
    assert step_metrics(run_dir / "sft") == step_metrics(whole / "sft")
    weights = [load_file(root / "sft" / "model" / "model.safetensors") for root in (run_dir, whole)]
    assert weights[0].keys() == weights[1].keys()
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])
    # RL: every step once.
    assert [step["step"] for step in step_metrics(run_dir / "train")] == [1, 2, 3, 4]
    # Evaluation: every answer once, and the table of the paper in small.
    root = run_dir / "eval" / "shapes"
    for model in ("base", "sft", "rl"):
        answers = read_answers(root / model / "answers.jsonl")
        assert len({answer.sample_key for answer in answers}) == len(answers) == 8 * 2 * 2
        assert read_evaluation(root / model / "result.json").conditions.num_rows == 8
    written = (run_dir / "eval" / "summary.md").read_text()
    assert "| base | SFT only | RL |" in written and "voting@3 minus one sample" in written
    assert "SFT only" in printed and str(run_dir / "report.html") in printed.replace("\n", "")

    # Everything is there: nothing is made again.
    made = {path: path.stat().st_mtime_ns for path in run_dir.glob("*/*")}
    run_here(recipe_of(run_dir), *planned_stages(recipe_of(run_dir)))
    assert {path: path.stat().st_mtime_ns for path in run_dir.glob("*/*")} == made

    # Neither is it under another name: what was made is known by its content.
    moved = run_dir.rename(run_dir.with_name("moved"))
    run_here(recipe_of(moved), *planned_stages(recipe_of(moved)))
    assert {p: p.stat().st_mtime_ns for p in moved.glob("*/*")} == {
        moved / path.relative_to(run_dir): when for path, when in made.items()
    }


def test_a_stage_that_is_not_complete_is_named(whole: Path) -> None:
    with pytest.raises(InputError, match="run `r1reward train RECIPE` first"):
        run_here(recipe_of(whole), "eval")


def test_a_changed_setting_of_a_complete_stage_is_refused(whole: Path) -> None:
    with pytest.raises(InputError, match=r"sft\.lr was 0\.0001, now it is 0\.001"):
        run_here(recipe_of(whole, "sft.lr=1e-3"), "sft")


def test_engines_of_the_cluster_teach_and_the_policy_selects_by_its_pass_rate(
    stack: Stack, tmp_path: Path
) -> None:
    """Without SFT the policy is the base, which is right on some pairs only."""
    recipe = recipe_of(
        tmp_path,
        "sft=null",
        "data.train.num_pairs=24",
        "annotate.teacher={type: vllm, path: shapes}",
        "annotate.teacher.engine={kv_cache_memory_mb: 64, max_num_batched_tokens: 16384, "
        "enforce_eager: true, block_size: 32, mm_processor_cache_gb: 0.1, max_num_seqs: 32}",
        "select={type: pass_rate, samples: 4, max_rate: 0.6}",
    )
    run_here(recipe, "annotate", "select")
    found = read_annotations(tmp_path / "annotate" / "attempts.jsonl", 3)
    assert len(found) == 24 and all(one.difficulty is not None for one in found.values())
    first = [one.attempts[0] for one in found.values()]
    assert sum(attempt.well_formed for attempt in first) >= 22
    assert all(attempt.prompt_tokens and attempt.completion_tokens for attempt in first)
    seeds = [attempt.seed for one in found.values() for attempt in one.attempts]
    assert len(set(seeds)) == len(seeds)

    counts = json.loads((tmp_path / "select" / "counts.json").read_text())
    assert "right 4 of 4" in {row["level"] for row in counts}
    chosen = load_pairs(FileSource(type="file", path=tmp_path / "select" / "pairs"))
    right: Counter[str] = Counter()
    labels = {pair.pair_id: pair.preferred for pair in load_pairs(recipe.data.train)}
    for answer in read_answers(tmp_path / "select" / "answers.jsonl"):
        right[answer.item] += answer.response == labels[answer.item]
    assert {pair.pair_id for pair in chosen} == {key for key in labels if right[key] <= 2}
    assert 0 < len(chosen) < 24
