"""From the command line of ``r1reward eval`` to one checked recipe."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from r1reward.errors import InputError
from r1reward.evaluation.benchmarks.official import official_protocol
from r1reward.models.model_folder import resolve_model_path
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


def eval_recipe(chosen: argparse.Namespace) -> EvalRecipe:
    """Defaults, then the model folder's own settings, then flags, then dotted overrides.

    Raises ``InputError``.
    """
    given = flags(chosen)
    settings = {} if torch.cuda.is_available() else CPU_SETTINGS
    if chosen.model and not chosen.endpoint:
        settings = merge(settings, read_model_settings(Path(resolve_model_path(chosen.model))))
    return build_recipe(EvalRecipe, merge(settings, given), chosen.overrides, "r1reward eval")


def flags(chosen: argparse.Namespace) -> Mapping[str, Any]:
    """What the flags say, in the recipe's words."""
    if chosen.predictions is None and chosen.model is None:
        raise InputError("--model (a folder or name) or --predictions (a JSONL file) is missing")
    refuse_unused(chosen)
    model = chosen.model or str(chosen.predictions)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{chosen.bench}-{Path(model).name}").strip("-.")
    bench = {
        "name": chosen.bench,
        "path": chosen.data,
        "images": chosen.images,
        "missing": chosen.missing,
        "num_rows": chosen.rows,
        "official": chosen.official,
    }
    settings: dict[str, Any] = {
        "name": name,
        "seed": chosen.seed,
        "run_dir": chosen.out or f"runs/eval-{name}",
        "model": {"path": model},
        "bench": bench,
        "evaluate": evaluate_flags(chosen),
    }
    if chosen.endpoint:
        settings["endpoint"] = {"url": chosen.endpoint, "model": model}
    if chosen.predictions:
        settings["predictions"] = chosen.predictions
    return settings


def refuse_unused(chosen: argparse.Namespace) -> None:
    """A flag that would change nothing is a misunderstanding."""
    unused: tuple[str, ...] = ()
    if chosen.predictions is not None:
        why = "--predictions are scored as they were made"
        unused = ("endpoint", "samples", "orders", "temperature", "adaptive", "image_off")
    elif chosen.bench.startswith("shapes"):
        why = f"{chosen.bench} is built in"
        unused = ("data", "images")
    for name in unused:
        if getattr(chosen, name) is not None:
            raise InputError(f"{why}: leave out --{name.replace('_', '-')}")


def evaluate_flags(chosen: argparse.Namespace) -> dict[str, Any]:
    """Official scoring brings the official way of asking, where no flag says otherwise."""
    protocol = official_protocol(chosen.bench) if chosen.official else None
    official: dict[str, Any] = {}
    if chosen.official:
        if protocol is None:
            raise InputError(f"{chosen.bench} has no published scoring rule: leave out --official")
        official = {
            "samples": protocol.num_samples,
            "temperature": protocol.temperature,
            "top_p": protocol.top_p,
            "orders": protocol.orders,
        }
    given = {
        "samples": chosen.samples,
        "temperature": chosen.temperature,
        "orders": chosen.orders,
        "adaptive": chosen.adaptive,
        "image_off": chosen.image_off,
    }
    return official | {name: value for name, value in given.items() if value is not None}
