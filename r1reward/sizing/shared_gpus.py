"""One GPU that engines and a learner rank use in turn: what it holds while the engines are awake."""

from __future__ import annotations

from collections.abc import Sequence

from r1reward.sizing.engine_memory import CONTEXT_GB, GB
from r1reward.sizing.memory_plan import Holder, Line


def sampling_holder(engines: Sequence[Holder], gpu_bytes: int) -> Holder:
    """The engines of a shared GPU, and what its learner rank leaves there: CUDA and no tensor."""
    left = int(CONTEXT_GB * GB)
    awake = sum(engine.peak for engine in engines)
    lines = (
        *(Line(engine.title, engine.peak) for engine in engines),
        Line("learner asleep", left, "CUDA stays", True),
    )
    problem = ""
    if awake + left > gpu_bytes:
        problem = (
            f"the engines of a shared GPU take {awake / GB:.1f} GB and its sleeping learner keeps "
            f"{left / GB:.1f}, of {gpu_bytes / GB:g}: lower gpu_memory_utilization of rollout.engine "
            "or judge.engine"
        )
    return Holder("shared GPU, sampling", lines, awake + left, gpu_bytes, problem)
