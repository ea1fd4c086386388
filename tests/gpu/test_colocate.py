"""Engines and learner on one GPU in turn: what leaves comes back the same, its memory free meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

LOCAL = Path(__file__).parents[2] / "recipes" / "local.yaml"
COLOCATE = (
    "placement={device: cuda, mode: colocate, wait_s: 60}",
    "model.dtype=bfloat16",
    "rollout.engine={gpu_memory_utilization: 0.3, enforce_eager: true, max_num_seqs: 64}",
    "judge={type: rule}",
    "learner.zero_stage=2",
)
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

# An engine and a learner rank each patch the process they live in, so each has one of its own.
NAP = """
import torch
from r1reward.models.processor import PolicyProcessor
from r1reward.engines.vllm_engine import EngineRequest, VllmEngine
from r1reward.interfaces import Sampling
from r1reward.recipe.components import EngineSettings
from r1reward.recipe.files import load_recipe
from r1reward.shapes.pairs import make_pairs

recipe = load_recipe({recipe!r}, {overrides!r})
processor = PolicyProcessor(recipe.model)
engine = VllmEngine(EngineSettings(recipe.model, recipe.rollout.engine, recipe.placement))
prompts = [processor.encode(pair, "stored", recipe.prompt) for pair in make_pairs("heldout", 4, 0)]
requests = [EngineRequest(p.token_ids, p.pair.images, 7, Sampling(0.0, 32)) for p in prompts]
before = [f.result().response_token_ids for f in engine.submit(requests)]
free = torch.cuda.mem_get_info()[0]
engine.sleep().result()
freed = torch.cuda.mem_get_info()[0] - free
engine.wake_up().result()
after = [f.result().response_token_ids for f in engine.submit(requests)]
assert before == after, "the engine woke up with other weights"
total = torch.cuda.get_device_properties(0).total_memory
assert freed > 0.2 * total, f"only {{freed}} of {{total}} bytes were given back"
"""

LEAVE = """
import torch
from r1reward.engines.in_process import in_process_learner
from r1reward.recipe.components import training_learner
from r1reward.recipe.files import load_recipe
from tests.samples import made_up_samples
import asyncio

recipe = load_recipe({recipe!r}, {overrides!r})
learner = in_process_learner(training_learner(recipe))
samples = made_up_samples(recipe, [9, 5, 7])
asyncio.run(learner.update(samples))
before = asyncio.run(learner.logprobs(samples, "policy"))
held = torch.cuda.memory_allocated()
asyncio.run(learner.on_all_ranks("leave_gpu"))
left = torch.cuda.memory_allocated()
asyncio.run(learner.on_all_ranks("come_to_gpu"))
after = asyncio.run(learner.logprobs(samples, "policy"))
assert all((a == b).all() for a, b in zip(before, after)), "the learner came back with other weights"
assert left < 0.2 * held, f"{{left}} of {{held}} bytes stayed"
asyncio.run(learner.update(samples))
"""


@pytest.mark.parametrize(
    ("program", "override"),
    [(NAP, "seed=0"), (LEAVE, "seed=0"), (LEAVE, "learner.lora={rank: 2}")],
    ids=["engine", "learner", "adapters"],
)
def test_what_leaves_the_gpu_comes_back_the_same(program: str, override: str) -> None:
    text = program.format(recipe=str(LOCAL), overrides=(*COLOCATE, override))
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_run_on_one_gpu(tmp_path: Path) -> None:
    """Three steps and two evaluations: engine and learner agree after every change of sides."""
    run_dir = tmp_path / "run"
    small = ["data.train.num_pairs=64", "data.heldout.num_pairs=8", "rollout.prompts_per_step=32"]
    small += ["learner.train_batch_size=16", "train.num_steps=3", "train.checkpoint_every=1"]
    verb = [sys.executable, "-m", "r1reward", "train", str(LOCAL)]
    done = subprocess.run(
        [*verb, *COLOCATE, *small, f"run_dir={run_dir}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3]
    # bfloat16 on both sides: other kernels round otherwise.
    assert all(step["policy/logprob_gap_mean"] < 0.015 for step in steps)
