"""Calls into libraries that not every version of them answers, looked at before a run depends on them.

Versions are pinned, but an image of a cluster or a machine of its own kind may bring others. What they
lack would otherwise be noticed in the first step, or, as a setting that DeepSpeed does not know, never.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from operator import attrgetter

from packaging.requirements import Requirement

from r1reward.errors import InputError
from r1reward.recipe.components import LearnerSettings


@dataclass(frozen=True)
class LibraryCall:
    """A function of a package as ``module:name``, arguments that it must know, and who needs it."""

    package: str
    path: str
    needed_by: str
    arguments: tuple[str, ...] = ()


PACKING = LibraryCall(
    "torch",
    "torch.nn.attention.varlen:varlen_attn",
    "learner.packing on GPUs",
    ("scale", "window_size", "enable_gqa"),
)
# One that is older takes the setting without a word and sums micro-batches otherwise.
ACCUMULATION = LibraryCall(
    "deepspeed", "deepspeed.runtime.config:get_managed_gradient_accumulation", "the learner"
)
OFFLOAD = tuple(
    LibraryCall("deepspeed", f"deepspeed.runtime.{name}", "placement.mode colocate")
    for name in (
        "zero.stage_1_and_2:DeepSpeedZeroOptimizer.offload_states",
        "zero.stage_1_and_2:DeepSpeedZeroOptimizer.reload_states",
    )
)
DEEPSPEED = (ACCUMULATION, *OFFLOAD)
VLLM = (
    *(
        LibraryCall(
            "vllm", f"vllm.v1.worker.gpu_worker:Worker.{name}", "a weight update", arguments
        )
        for name, arguments in (
            ("init_weight_transfer_engine", ("init_info",)),
            ("start_weight_update", ()),
            ("update_weights", ("update_info",)),
            ("finish_weight_update", ()),
        )
    ),
    LibraryCall("vllm", "vllm:LLM.sleep", "placement.mode colocate", ("level",)),
    LibraryCall("vllm", "vllm:LLM.wake_up", "placement.mode colocate"),
)


def learner_calls(settings: LearnerSettings) -> list[LibraryCall]:
    """What a learner rank of these settings depends on."""
    needs_packing = settings.learner.packing and settings.placement.device == "cuda"
    return [
        *([PACKING] if needs_packing else []),
        ACCUMULATION,
        *(OFFLOAD if settings.placement.takes_turns else []),
    ]


def require_calls(calls: Sequence[LibraryCall]) -> None:
    """Imports where the calls lead. Raises ``InputError`` for the first that is not as it must be."""
    for call in calls:
        lacking = what_lacks(call)
        if lacking is not None:
            raise InputError(
                f"{installed(call.package)} has no {lacking}, which {call.needed_by} needs: "
                f"install {pinned(call.package)} (`make setup`)"
            )


def what_lacks(call: LibraryCall) -> str | None:
    """The function, or its first argument, that the installed package has not; None if all is there."""
    module, _, name = call.path.partition(":")
    try:
        function = attrgetter(name)(import_module(module))
    except (ModuleNotFoundError, AttributeError):
        return f"{module}.{name}"
    known = inspect.signature(function).parameters
    missing = [argument for argument in call.arguments if argument not in known]
    return f"argument {missing[0]} in {module}.{name}" if missing else None


def installed(package: str) -> str:
    """Name and version of what is installed; vLLM's build for CPUs has a name of its own."""
    for name in (package, f"{package}-cpu"):
        versions = [found.version for found in metadata.distributions(name=name)]
        if versions:
            return f"{name} {versions[0]}"
    return package


def pinned(package: str) -> str:
    """The requirement of r1reward's own metadata, such as ``torch==2.13.0``."""
    for distribution in metadata.distributions(name="r1reward"):
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.name == package:
                return f"{requirement.name}{requirement.specifier}"
    return f"the {package} that pyproject.toml pins"
