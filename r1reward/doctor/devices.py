"""GPUs, torchvision beside this torch, and the compiler that one setting needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from r1reward.doctor.finding import Finding

TIMEOUT_S = 300


def check_gpus(wanted: int) -> Finding:
    """``wanted`` GPUs on this machine; 0: a recipe for CPUs, or none was given."""
    import torch

    cards = nvidia_cards()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        size = torch.cuda.get_device_properties(0).total_memory / 1e9
        what = f"{count} x {torch.cuda.get_device_name(0)}, {size:.0f} GB"
        if count >= wanted:
            return Finding("GPUs", "ok", what)
        return Finding(
            "GPUs",
            "problem",
            f"{what}; the recipe wants {wanted}",
            "set RAY_ADDRESS to a cluster that has them, or shrink rollout.num_actors, "
            "placement.num_judge_actors or learner.num_ranks",
        )
    if cards and torch.version.cuda is None:
        return Finding(
            "GPUs",
            "problem" if wanted else "note",
            f"{cards} in this machine, but torch {torch.__version__} is built for CPUs",
            "rm -rf .venv && R1REWARD_EXTRA=gpu make setup",
        )
    if cards:
        return Finding(
            "GPUs",
            "problem",
            f"{cards} in this machine, but torch {torch.__version__} cannot use them",
            f"install a driver for CUDA {torch.version.cuda}, and see what CUDA_VISIBLE_DEVICES "
            f"hides (it is {os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')})",
        )
    if wanted:
        return Finding(
            "GPUs",
            "problem",
            f"none; the recipe has placement.device cuda and wants {wanted}",
            "set RAY_ADDRESS to a cluster that has them, or use a recipe for CPUs",
        )
    return Finding("GPUs", "ok", "none, and none is needed")


def nvidia_cards() -> int:
    """How many the driver lists; 0 without a driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60)
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())


def check_torchvision() -> Finding:
    """In a new process, as vLLM inspects models in."""
    script = "import torchvision; from torchvision.transforms.v2 import functional"
    found = run_python(script)
    if found is None:
        return Finding("torchvision", "ok", "loads beside this torch")
    return Finding(
        "torchvision",
        "problem",
        f"does not load beside this torch: {found}",
        f"`{short_python()} -m r1reward.engines.torchvision_repair` (on CPUs), or `make setup`",
    )


def check_compiler(offload: bool) -> Finding:
    """DeepSpeed compiles Adam for the host when the optimizer is offloaded, and nothing else."""
    if not offload:
        return Finding("compiler", "ok", "not needed (only learner.offload_optimizer compiles)")
    missing = [
        name
        for name, found in (
            ("a C++ compiler", shutil.which(os.environ.get("CXX", "c++"))),
            ("ninja", shutil.which("ninja")),
        )
        if found is None
    ]
    if missing:
        return Finding(
            "compiler",
            "problem",
            f"learner.offload_optimizer compiles Adam for the host, without {' and '.join(missing)}",
            "install g++ and ninja (apt-get install g++ ninja-build), or do not offload",
        )
    return Finding("compiler", "ok", "there, for learner.offload_optimizer")


def check_imports() -> list[Finding]:
    """The engines load, each in a process of its own. Takes about a minute."""
    findings = []
    for name in ("vllm", "deepspeed", "ray"):
        found = run_python(f"import {name}")
        state: tuple[str, str] = ("loads", "") if found is None else (found, "run `make setup`")
        findings.append(Finding(f"import {name}", "ok" if found is None else "problem", *state))
    return findings


def run_python(script: str) -> str | None:
    """None when it runs; else its last line."""
    environment = os.environ | {"DS_ACCELERATOR": "cpu"} if "deepspeed" in script else os.environ
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {TIMEOUT_S} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"


def short_python() -> str:
    return ".venv/bin/python" if ".venv" in sys.executable else "python"
