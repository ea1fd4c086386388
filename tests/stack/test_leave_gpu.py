"""The learner's states leave a device and come back, with DeepSpeed as it is; the device is a CPU here.

What DeepSpeed cannot move is what ``recipe/checks.py: check_colocation`` refuses.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

# Each program runs in a process of its own, because a learner rank patches its process.
START = """
import asyncio, gc, json, sys
import torch
from r1reward.engines import deepspeed_engine
from r1reward.engines.in_process import in_process_learner
from r1reward.recipe.components import training_learner
from tests.samples import local_recipe, made_up_samples

recipe = local_recipe("placement.mode=in_process", "judge={{type: rule}}", *{overrides!r})
learner = in_process_learner(training_learner(recipe))
rank = learner.weight_sync.rank
samples = made_up_samples(recipe, [9, 5, 7])

def on_all_ranks(method):
    asyncio.run(learner.on_all_ranks(method))

def logprobs():
    return [row.tolist() for row in asyncio.run(learner.logprobs(samples, "policy"))]

def dtypes(trained):
    tensors = [t for t in rank.engine.module.parameters() if t.requires_grad is trained]
    tensors += [] if trained else list(rank.engine.module.buffers())
    return sorted({{str(tensor.dtype) for tensor in tensors}})

asyncio.run(learner.update(samples))
"""
COME_BACK = """
bucket = 5e8 * (4 if recipe.model.dtype == "float32" else 2)
tensors = [t for t in gc.get_objects() if isinstance(t, torch.Tensor)]
buckets = [t for t in tensors if t.device.type == "cpu" and t.untyped_storage().nbytes() >= bucket]
before = logprobs()
on_all_ranks("leave_gpu")
on_all_ranks("come_to_gpu")
after = logprobs()
asyncio.run(learner.update(samples))
print(json.dumps([len(buckets), before == after, after != logprobs()]))
"""
# A number format in the place of the host shows who moved.
MOVED = """
before = logprobs()
deepspeed_engine.HOST = torch.float64
on_all_ranks("leave_gpu")
left = [dtypes(False), dtypes(True)]
rank.device = torch.float32
on_all_ranks("come_to_gpu")
come = [dtypes(False), dtypes(True)]
rank.device = torch.device("cpu")
print(json.dumps([left, come, before == logprobs()]))
"""
LORA = "learner.lora={rank: 2}"
FROZEN = "learner.parts.vision.trainable=false"


def result(program: str, *overrides: str) -> Any:
    text = START.format(overrides=overrides) + program
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def overrides_of(stage: int, dtype: str) -> tuple[str, str]:
    return f"learner.zero_stage={stage}", f"model.dtype={dtype}"


@pytest.mark.parametrize(
    ("stage", "dtype", "parts"),
    [
        pytest.param(1, "float32", LORA, marks=pytest.mark.long),
        pytest.param(2, "float32", FROZEN, marks=pytest.mark.long),
        (2, "bfloat16", LORA),
        pytest.param(2, "bfloat16", "seed=0", marks=pytest.mark.long),
    ],
)
def test_a_learner_comes_back_as_it_left_and_learns_on(stage: int, dtype: str, parts: str) -> None:
    num_buckets, same, learned = result(COME_BACK, *overrides_of(stage, dtype), parts)
    assert num_buckets == 0, "DeepSpeed keeps its reduce bucket between updates"
    assert same, "the learner came back with other weights"
    assert learned


@pytest.mark.parametrize("parts", [LORA, pytest.param(FROZEN, marks=pytest.mark.long)])
def test_frozen_weights_move_too(parts: str) -> None:
    left, come, same = result(MOVED, *overrides_of(2, "float32"), parts)
    assert left == [["torch.float64"], ["torch.float32"]]
    assert come == [["torch.float32"], ["torch.float32"]]
    assert same, "the learner came back with other weights"


@pytest.mark.parametrize(
    ("stage", "dtype"),
    [
        pytest.param(0, "float32", marks=pytest.mark.long),
        pytest.param(1, "bfloat16", marks=pytest.mark.long),
        pytest.param(3, "float32", marks=pytest.mark.long),
        (3, "bfloat16"),
    ],
)
def test_what_the_recipe_refuses_deepspeed_cannot_move(stage: int, dtype: str) -> None:
    program = """
try:
    on_all_ranks("leave_gpu")
except (AttributeError, AssertionError) as error:
    print(json.dumps(str(error)))
"""
    error = result(program, *overrides_of(stage, dtype))
    assert "FusedAdam" in error or "offload_states" in error
