"""The recipe of one evaluation: what is set for it, over what the model and the benchmark bring."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1reward.evaluation.benchmarks.official import Protocol, protocol_of
from r1reward.recipe.files import build_recipe, merge
from r1reward.recipe.model_settings import read_model_settings
from r1reward.recipe.recipe import EvalRecipe

# On a CPU vLLM runs prompts unchunked and would set aside gigabytes for its cache.
CPU_SETTINGS: dict[str, Any] = {
    "model": {"dtype": "float32"},
    "placement": {"device": "cpu", "mode": "colocate", "object_store_mb": 512},
    "rollout": {
        "engine": {
            "kv_cache_memory_mb": 1024,
            "max_num_batched_tokens": 32768,
            "enforce_eager": True,
            "block_size": 32,
            "mm_processor_cache_gb": 0.5,
        }
    },
}


def eval_recipe(
    given: Mapping[str, Any], model_folder: str | None, overrides: Sequence[str]
) -> EvalRecipe:
    """Builds the recipe of evaluating one model on one benchmark.

    ``given`` holds sections and settings of an ``EvalRecipe``; ``name`` and ``run_dir`` are made from
    model and benchmark where they are missing. Below it come the protocol that ``bench.official`` or
    ``bench.suite`` asks for, the settings in ``model_folder`` (None for a server and for
    predictions), and defaults for a machine without a GPU. ``overrides`` are dotted and win.

    Raises ``InputError``.
    """
    import torch

    from r1reward.models.model_folder import resolve_model_path

    bench = given["bench"]
    label = f"{bench['name']}-{Path(given['model']['path']).name}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-.")
    settings: dict[str, Any] = {} if torch.cuda.is_available() else CPU_SETTINGS
    if model_folder is not None:
        own = read_model_settings(Path(resolve_model_path(model_folder)))
        settings = merge(settings, own)
    protocol = protocol_of(bench["name"], bench["official"], bench.get("suite"))
    if protocol is not None:
        settings = merge(settings, asking_settings(protocol))
    settings = merge(settings, {"name": name, "run_dir": f"runs/eval-{name}"})
    return build_recipe(EvalRecipe, merge(settings, given), overrides, "r1reward eval")


def asking_settings(protocol: Protocol) -> dict[str, Any]:
    """Returns how a protocol asks a model, as settings of a recipe."""
    evaluate = {
        "samples": protocol.num_samples,
        "temperature": protocol.temperature,
        "top_p": protocol.top_p,
        "orders": protocol.orders,
    }
    if protocol.template is None:
        return {"evaluate": evaluate}
    return {
        "evaluate": evaluate,
        "prompt": {
            "template": protocol.template,
            "format_mode": protocol.template,
            "images_last": protocol.images_last,
        },
        "model": {"max_new_tokens": protocol.max_new_tokens},
    }
