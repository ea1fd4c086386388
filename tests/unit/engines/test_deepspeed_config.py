"""What DeepSpeed is told, for devices that are not at hand."""

import os
import subprocess
import sys

import pytest

from r1reward.engines.deepspeed_setup import deepspeed_config
from r1reward.recipe.components import LearnerSettings, training_learner
from tests.samples import local_recipe


def local_learner(*overrides: str) -> LearnerSettings:
    return training_learner(local_recipe(*overrides))


def cuda_learner(*overrides: str) -> LearnerSettings:
    cuda = ("placement.device=cuda", "placement.mode=split", "model.dtype=bfloat16")
    return local_learner(*cuda, *overrides)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_optimizer_is_offloaded_when_the_recipe_says_so(stage: int) -> None:
    config = deepspeed_config(
        cuda_learner(f"learner.zero_stage={stage}", "learner.offload_optimizer=true")
    )
    assert config["zero_optimization"] == {
        "stage": stage,
        "overlap_comm": False,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
    }
    kept = deepspeed_config(cuda_learner(f"learner.zero_stage={stage}"))
    assert kept["zero_optimization"] == {"stage": stage, "overlap_comm": False}


def test_bfloat16_accumulates_in_float32() -> None:
    config = deepspeed_config(cuda_learner())
    assert config["bf16"] == {"enabled": True}
    assert config["data_types"] == {"grad_accum_dtype": "fp32"}
    assert deepspeed_config(local_learner())["bf16"] == {"enabled": False}


def test_deepspeed_clips_unless_the_plain_optimizer_steps() -> None:
    limit = "learner.max_grad_norm=0.25"
    assert deepspeed_config(local_learner(limit))["gradient_clipping"] == 0.25
    stage_0 = deepspeed_config(local_learner(limit, "learner.zero_stage=0"))
    assert stage_0["gradient_clipping"] == 0.0


# On a machine without CUDA the rank fails at its process group, after DeepSpeed has chosen.
START = """
import os
from r1reward.engines.deepspeed_engine import DeepSpeedRank
from r1reward.engines.deepspeed_setup import RankAddress, free_port
from r1reward.recipe.components import training_learner
from tests.samples import local_recipe

settings = training_learner(local_recipe("placement.device={device}", *{overrides}))
try:
    DeepSpeedRank(settings, RankAddress(0, 1, "127.0.0.1", free_port("127.0.0.1")))
except RuntimeError as error:
    assert "NCCL" in str(error), error
from deepspeed.accelerator import get_accelerator
print(os.environ["DS_ACCELERATOR"], get_accelerator().device_name())
"""


# Regression: it looked at CUDA_VISIBLE_DEVICES when its module was imported, and put the optimizer of a
# model on a GPU on the CPU where that was not set.
@pytest.mark.slow
@pytest.mark.parametrize(("device", "visible"), [("cpu", "0"), ("cuda", None)])
def test_deepspeed_computes_where_the_settings_say(device: str, visible: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "DS_ACCELERATOR"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    overrides = ("placement.mode=in_process", "judge={type: rule}")
    program = START.format(device=device, overrides=overrides)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == [device, device]
