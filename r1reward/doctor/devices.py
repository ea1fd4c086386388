"""GPUs, torchvision beside this torch, the compiler that one setting needs, the engines' libraries."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

from r1reward.doctor.finding import Finding, note, ok, problem

TIMEOUT_S = 300


def check_gpus(num_needed: int) -> Finding:
    """Whether torch sees ``num_needed`` GPUs; 0 for a recipe for CPUs, or for no recipe."""
    import torch

    num_visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    num_cards = num_nvidia_cards()
    if num_visible:
        gigabytes = torch.cuda.get_device_properties(0).total_memory / 1e9
        message = f"{num_visible} x {torch.cuda.get_device_name(0)}, {gigabytes:.0f} GB"
        if num_visible >= num_needed:
            return ok("GPUs", message)
        return problem(
            "GPUs",
            f"{message}; the recipe wants {num_needed}",
            "set RAY_ADDRESS to a cluster that has them, or shrink rollout.num_actors, "
            "placement.num_judge_actors or learner.num_ranks",
        )
    in_machine = f"{num_cards} in this machine, but torch {torch.__version__}"
    if num_cards and torch.version.cuda is None:
        return (problem if num_needed else note)(
            "GPUs",
            f"{in_machine} is built for CPUs",
            "rm -rf .venv && R1REWARD_EXTRA=gpu make setup",
        )
    if num_cards:
        return problem(
            "GPUs",
            f"{in_machine} cannot use them",
            f"install a driver for CUDA {torch.version.cuda}, and see what CUDA_VISIBLE_DEVICES "
            f"hides (it is {os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')})",
        )
    if num_needed:
        return problem(
            "GPUs",
            f"none; the recipe has placement.device cuda and wants {num_needed}",
            "set RAY_ADDRESS to a cluster that has them, or use a recipe for CPUs",
        )
    return ok("GPUs", "none, and none is needed")


def num_nvidia_cards() -> int:
    """Returns how many GPUs the driver lists, 0 without a driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60)
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())


def check_torchvision() -> Finding:
    """Whether torchvision loads in a new process, as vLLM inspects models in one."""
    error = run_python("import torchvision; from torchvision.transforms.v2 import functional")
    if error is None:
        return ok("torchvision", "loads beside this torch")
    python = ".venv/bin/python" if ".venv" in sys.executable else "python"
    return problem(
        "torchvision",
        f"does not load beside this torch: {error}",
        f"`{python} -m r1reward.engines.torchvision_repair` (on CPUs), or `make setup`",
    )


def check_compiler(offload: bool) -> Finding:
    """DeepSpeed compiles Adam for the host when the optimizer is offloaded, and nothing else."""
    if not offload:
        return ok("compiler", "not needed (only learner.offload_optimizer compiles)")
    programs = {"a C++ compiler": os.environ.get("CXX", "c++"), "ninja": "ninja"}
    missing = [name for name, program in programs.items() if shutil.which(program) is None]
    if not missing:
        return ok("compiler", "there, for learner.offload_optimizer")
    return problem(
        "compiler",
        f"learner.offload_optimizer compiles Adam for the host, without {' and '.join(missing)}",
        "install g++ and ninja (apt-get install g++ ninja-build), or do not offload",
    )


def check_imports() -> Iterator[Finding]:
    """Loads every engine's library in a process of its own, and looks for what is called there.

    Takes about a minute.
    """
    look = "; from r1reward.engines.library_calls import *; require_calls({})"
    for statement, calls in (
        ("import torch", "[PACKING]"),
        ("import vllm", "VLLM"),
        ("import deepspeed", "DEEPSPEED"),
        ("import ray", "[]"),
    ):
        error = run_python(statement + look.format(calls))
        yield problem(statement, error, "run `make setup`") if error else ok(statement, "loads")


def run_python(script: str) -> str | None:
    """Returns None when the script succeeds in a new process, else the last line of its error."""
    environment = os.environ | {"DS_ACCELERATOR": "cpu"} if "deepspeed" in script else os.environ
    command = [sys.executable, "-c", script]
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment
        )
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return lines[-1] if done.returncode else None
    return f"no answer within {TIMEOUT_S} s"
