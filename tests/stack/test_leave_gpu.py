"""Parts of a learner leave the device and come back, with DeepSpeed as it is; the device is a CPU here.

What DeepSpeed cannot move is what ``recipe/checks.py: check_colocation`` refuses.
"""

from __future__ import annotations

import asyncio
import gc

import pytest
import torch

from r1reward.engines.deepspeed_engine import DeepSpeedRank
from r1reward.engines.learner_group import LearnerGroup
from r1reward.recipe.components import training_learner
from tests.samples import local_recipe, made_up_samples
from tests.stack.forked import result

LORA = "learner.lora={rank: 2}"
FROZEN = "learner.parts.vision.trainable=false"


class Started:
    """A learner of one rank in this process, after an update. It patches its process."""

    def __init__(self, overrides: tuple[str, ...]) -> None:
        from r1reward.engines.in_process import InProcessSync, in_process_learner

        rules = ("placement.mode=in_process", "judge={type: rule}")
        self.recipe = local_recipe(*rules, *overrides)
        self.learner: LearnerGroup = in_process_learner(training_learner(self.recipe))
        assert isinstance(self.learner.weight_sync, InProcessSync)
        self.rank: DeepSpeedRank = self.learner.weight_sync.rank
        self.samples = made_up_samples(self.recipe, [9, 5, 7])
        self.update()

    def update(self) -> None:
        asyncio.run(self.learner.update(self.samples))

    def move(self, method: str) -> None:
        asyncio.run(self.learner.on_all_ranks(method))

    def logprobs(self) -> list[float]:
        rows = asyncio.run(self.learner.logprobs(self.samples, "policy"))
        return [float(value) for row in rows for value in row]

    def dtypes(self, trained: bool) -> set[torch.dtype]:
        """Of what is trained, or of what is not, buffers included."""
        module = self.rank.engine.module
        tensors = [tensor for tensor in module.parameters() if tensor.requires_grad is trained]
        return {tensor.dtype for tensor in [*tensors, *([] if trained else module.buffers())]}


def come_back(*overrides: str) -> tuple[int, bool, bool]:
    """How many reduce buckets are left; whether the log-probs are the same, and change by an update."""
    started = Started(overrides)
    bucket = 5e8 * (4 if started.recipe.model.dtype == "float32" else 2)
    tensors = [t for t in gc.get_objects() if isinstance(t, torch.Tensor)]
    buckets = [
        t for t in tensors if t.device.type == "cpu" and t.untyped_storage().nbytes() >= bucket
    ]
    before = started.logprobs()
    started.move("leave_gpu")
    started.move("come_to_gpu")
    after = started.logprobs()
    started.update()
    return len(buckets), before == after, after != started.logprobs()


def moved(*overrides: str) -> tuple[list[set[torch.dtype]], list[set[torch.dtype]], bool]:
    """A number format in the place of the host shows who moved, frozen and trained."""
    from r1reward.engines import deepspeed_engine

    started = Started(overrides)
    before = started.logprobs()
    deepspeed_engine.HOST = torch.float64  # type: ignore[assignment]
    started.move("leave_gpu")
    left = [started.dtypes(False), started.dtypes(True)]
    started.rank.device = torch.float32  # type: ignore[assignment]
    started.move("come_to_gpu")
    come = [started.dtypes(False), started.dtypes(True)]
    started.rank.device = torch.device("cpu")
    return left, come, before == started.logprobs()


def leave(*overrides: str) -> None:
    Started(overrides).move("leave_gpu")


def overrides_of(stage: int, dtype: str) -> tuple[str, str]:
    return f"learner.zero_stage={stage}", f"model.dtype={dtype}"


@pytest.mark.parametrize(
    ("stage", "dtype", "parts"),
    [
        (1, "float32", LORA),
        (2, "float32", FROZEN),
        (2, "bfloat16", LORA),
        (2, "bfloat16", "seed=0"),
    ],
)
def test_a_learner_comes_back_as_it_left_and_learns_on(stage: int, dtype: str, parts: str) -> None:
    num_buckets, same, learned = result(come_back, *overrides_of(stage, dtype), parts)
    assert num_buckets == 0, "DeepSpeed keeps its reduce bucket between updates"
    assert same, "the learner came back with other weights"
    assert learned


@pytest.mark.parametrize("parts", [LORA, FROZEN])
def test_frozen_weights_move_too(parts: str) -> None:
    left, come, same = result(moved, *overrides_of(2, "float32"), parts)
    assert left == [{torch.float64}, {torch.float32}]
    assert come == [{torch.float32}, {torch.float32}]
    assert same, "the learner came back with other weights"


@pytest.mark.parametrize(
    ("stage", "dtype"), [(0, "float32"), (1, "bfloat16"), (3, "float32"), (3, "bfloat16")]
)
def test_what_the_recipe_refuses_deepspeed_cannot_move(stage: int, dtype: str) -> None:
    with pytest.raises((AttributeError, AssertionError), match=r"FusedAdam|offload_states"):
        result(leave, *overrides_of(stage, dtype))
