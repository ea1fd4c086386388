"""Libraries that lack what is called are named before a run depends on them."""

from __future__ import annotations

from importlib import metadata

import pytest

from r1reward.engines.library_calls import (
    ACCUMULATION,
    OFFLOAD,
    PACKING,
    LibraryCall,
    learner_calls,
    require_calls,
)
from r1reward.errors import InputError
from r1reward.recipe.components import training_learner
from tests.samples import local_recipe

CUDA = ("placement.device=cuda", "model.dtype=bfloat16", "learner.packing=true")


def lacking(call: LibraryCall) -> str:
    with pytest.raises(InputError) as error:
        require_calls([PACKING, call])
    return str(error.value)


def test_what_is_installed_here_has_what_packing_calls() -> None:
    require_calls([PACKING])


# Regression: torch 2.11 has the function without this argument, and the first step raised a TypeError.
def test_a_function_without_the_argument_is_named_with_both_versions() -> None:
    older = LibraryCall(
        "torch", "torch:nn.Linear.forward", "learner.packing on GPUs", ("input", "x")
    )
    version = metadata.version("torch")
    assert lacking(older) == (
        f"torch {version} has no argument x in torch.nn.Linear.forward, which learner.packing on "
        "GPUs needs: install torch==2.13.0 (`make setup`)"
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("torch.nn.attention.none:varlen_attn", "torch.nn.attention.none.varlen_attn"),
        ("torch.nn.attention:none", "torch.nn.attention.none"),
        ("torch.optim:AdamW.offload_states", "torch.optim.AdamW.offload_states"),
    ],
)
def test_a_function_that_is_not_there_is_named(path: str, name: str) -> None:
    assert f"has no {name}, which a test needs: install torch==2.13.0" in lacking(
        LibraryCall("torch", path, "a test")
    )


def test_a_learner_depends_on_what_its_settings_use() -> None:
    def calls(*overrides: str) -> list[LibraryCall]:
        return learner_calls(training_learner(local_recipe(*overrides)))

    assert calls("learner.packing=true") == [ACCUMULATION]
    assert calls(*CUDA, "placement.mode=split") == [PACKING, ACCUMULATION]
    assert calls(*CUDA, "placement.mode=colocate", "judge={type: rule}") == [
        PACKING,
        ACCUMULATION,
        *OFFLOAD,
    ]
