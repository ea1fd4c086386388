"""How a rank starts: its accelerator, its process group, its optimizer, DeepSpeed's configuration.

DeepSpeed chooses its accelerator once, when it is first imported. So it is imported inside of functions,
after ``join_process_group`` has chosen it.
"""

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from r1reward.recipe.components import LearnerSettings
from r1reward.recipe.learner_sections import LearnerSection


@dataclass(frozen=True)
class RankAddress:
    """The number of this rank in the group, and where rank 0 listens."""

    rank: int
    num_ranks: int
    host: str
    port: int


def free_port(host: str) -> int:
    """A port of this machine that nothing listens on now; ``host`` may be empty for all addresses."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def join_process_group(settings: LearnerSettings, address: RankAddress) -> None:
    """Meet the other ranks. Returns when all of them are there."""
    device = settings.placement.device
    os.environ |= {
        "MASTER_ADDR": address.host,
        "MASTER_PORT": str(address.port),
        "RANK": str(address.rank),
        "WORLD_SIZE": str(address.num_ranks),
        "LOCAL_RANK": "0",  # every rank is an actor that sees only its own GPU
        "DS_ACCELERATOR": device,  # by itself DeepSpeed looks at what the machine has
    }
    import deepspeed

    if not settings.learner.offload_optimizer:
        # DeepSpeed otherwise compiles a C++ op at start that nothing here uses (a minute, and a
        # compiler). Offloading does compile one: Adam on the host.
        deepspeed.ops.__compatible_ops__ = {}
    torch.set_num_threads(settings.placement.threads)
    torch.manual_seed(settings.seed)
    deepspeed.init_distributed(
        dist_backend="nccl" if device == "cuda" else "gloo",
        timeout=timedelta(seconds=settings.learner.timeout_s),
        verbose=False,
    )


def build_optimizer(groups: list[dict[str, Any]], settings: LearnerSection) -> Any:
    """AdamW, on the host when it is offloaded."""
    arguments: dict[str, Any] = {
        "lr": settings.lr,
        "betas": (settings.adam_beta1, settings.adam_beta2),
        "weight_decay": settings.weight_decay,
    }
    if settings.offload_optimizer:
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return DeepSpeedCPUAdam(groups, adamw_mode=True, **arguments)
    return torch.optim.AdamW(groups, **arguments)


def steps_plain_optimizer(settings: LearnerSettings) -> bool:
    """Stage 0 in float32 steps the plain optimizer; DeepSpeed would clip but not tell the norm."""
    return settings.learner.zero_stage == 0 and settings.model.dtype == "float32"


def deepspeed_config(settings: LearnerSettings) -> dict[str, Any]:
    """DeepSpeed's configuration for these settings."""
    learner = settings.learner
    bfloat16 = settings.model.dtype == "bfloat16"
    zero: dict[str, Any] = {"stage": learner.zero_stage, "overlap_comm": False}
    if learner.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    return {
        "train_micro_batch_size_per_gpu": 1,  # unused: the caller owns micro-batches
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": 0.0 if steps_plain_optimizer(settings) else learner.max_grad_norm,
        "zero_optimization": zero,
        "bf16": {"enabled": bfloat16},
        # In bfloat16 the hundredth micro-batch would be rounded away.
        "data_types": {"grad_accum_dtype": "fp32" if bfloat16 else None},
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
