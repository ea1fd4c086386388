"""What `r1reward plan` predicts against what the engines really hold, for three sizes of random models.

Each case runs in a process of its own: a Qwen2.5-VL with random weights is written to a folder, the
learner takes one step on it while torch's allocator is watched, and vLLM starts on it and is asked for
its key-value cache. Prints predicted, measured and their ratio; the claim is within 15 %.

    python benchmarks/plan_memory.py [--sizes 1M 100M 500M] [--out plan_memory.json]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_ERROR = 0.15
ROOT = Path(__file__).parents[1]
LOCAL = ROOT / "recipes" / "local.yaml"
# Learner settings of each case, dtype first.
CASES = {
    "float32, ZeRO 0": ("float32", "zero_stage=0", "packing=false"),
    "float32, ZeRO 0, checkpointing": ("float32", "zero_stage=0", "gradient_checkpointing=true"),
    "bfloat16, ZeRO 2": ("bfloat16", "zero_stage=2"),
    "bfloat16, ZeRO 2, checkpointing": ("bfloat16", "zero_stage=2", "gradient_checkpointing=true"),
    "bfloat16, ZeRO 3": ("bfloat16", "zero_stage=3"),
    "bfloat16, ZeRO 2, LoRA": ("bfloat16", "zero_stage=2", "lora={rank: 8}"),
    "bfloat16, ZeRO 2, LoRA, checkpointing": (
        *("bfloat16", "zero_stage=2", "lora={rank: 8}"),
        "gradient_checkpointing=true",
    ),
}
FEW = ("float32, ZeRO 0, checkpointing", "bfloat16, ZeRO 2")


@dataclass(frozen=True)
class Size:
    """Text: hidden, intermediate, layers, heads, key heads, vocabulary; vision: hidden, intermediate,
    layers, heads. ``rows`` sequences with ``response`` tokens each are trained on.
    """

    text: tuple[int, int, int, int, int, int]
    vision: tuple[int, int, int, int]
    rows: int
    response: int


SIZES = {
    "1M": Size((128, 352, 4, 4, 2, 494), (64, 160, 2, 2), 16, 156),
    "100M": Size((768, 2048, 12, 12, 4, 16384), (256, 704, 4, 4), 4, 96),
    "500M": Size((1280, 3456, 20, 20, 4, 32768), (640, 1728, 8, 8), 2, 96),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--cases", nargs="+", choices=CASES, help="default: all; the largest: two")
    parser.add_argument("--measure", nargs=2, metavar=("SIZE", "CASE"), help="in this process")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    chosen = parser.parse_args()
    if chosen.measure:
        size, case = chosen.measure
        measure = measure_cache if case == "cache" else measure_learner
        print(json.dumps(measure(size, case)))
        return 0
    rows: list[dict[str, Any]] = []
    print(
        "| size | case | part | predicted | measured | ratio |\n| --- | --- | --- | --- | --- | --- |"
    )
    for size in chosen.sizes:
        for case in (*(chosen.cases or (FEW if size == "500M" else CASES)), "cache"):
            for part, (predicted, measured) in in_own_process(size, case).items():
                rows.append({"size": size, "case": case, "part": part})
                rows[-1] |= {"predicted": predicted, "measured": measured}
                print(table_line(rows[-1]), flush=True)
    if chosen.out:
        chosen.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    worst = max(abs(row["predicted"] / row["measured"] - 1) for row in rows if row["measured"])
    print(f"\nlargest error: {worst:.1%} (at most {MAX_ERROR:.0%})")
    return 0 if worst <= MAX_ERROR else 1


def table_line(row: dict[str, Any]) -> str:
    predicted, measured = row["predicted"], row["measured"]
    ratio = f"{predicted / measured:.3f}" if measured else "-"
    unit, scale = ("B", 1.0) if "token" in row["part"] else ("MB", 1e6)
    amounts = f"{predicted / scale:,.1f} {unit} | {measured / scale:,.1f} {unit}"
    return f"| {row['size']} | {row['case']} | {row['part']} | {amounts} | {ratio} |"


def in_own_process(size: str, case: str) -> dict[str, tuple[float, float]]:
    command = [sys.executable, __file__, "--measure", size, case]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "TRANSFORMERS_VERBOSITY": "error",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "DS_ACCELERATOR": "cpu",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{size}, {case}:\n{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


@contextmanager
def model_folder(size: str, dtype: str) -> Iterator[Path]:
    """A model with random weights and the miniature's processor."""
    import torch
    from transformers import Qwen2_5_VLConfig

    from tools.miniature.network import build_config, build_model, build_processor, save

    processor = build_processor()
    settings = build_config(processor.tokenizer).to_dict()
    text, vision = settings["text_config"], settings["vision_config"]
    hidden, intermediate, layers, heads, key_heads, vocabulary = SIZES[size].text
    text |= {"hidden_size": hidden, "intermediate_size": intermediate, "vocab_size": vocabulary}
    text |= {"num_hidden_layers": layers, "max_window_layers": layers, "layer_types": None}
    text |= {"num_attention_heads": heads, "num_key_value_heads": key_heads}
    half = hidden // heads // 2
    text["rope_parameters"]["mrope_section"] = [half // 4, 3 * half // 8, half - 5 * half // 8]
    hidden_v, intermediate_v, layers_v, heads_v = SIZES[size].vision
    vision |= {"hidden_size": hidden_v, "intermediate_size": intermediate_v, "depth": layers_v}
    vision |= {"num_heads": heads_v, "out_hidden_size": hidden}
    vision |= {"fullatt_block_indexes": [layers_v - 1]}
    torch.set_default_dtype(getattr(torch, dtype))
    model = build_model(Qwen2_5_VLConfig(**settings), seed=0)
    torch.set_default_dtype(torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        save(model, processor, Path(folder))
        del model
        yield Path(folder)


def measure_learner(size: str, case: str) -> dict[str, tuple[float, float]]:
    """Bytes of every part of a rank that takes one step: (predicted, measured)."""
    import torch

    from r1reward.algorithm.batch import BatchSize
    from r1reward.engines.deepspeed_engine import DeepSpeedRank
    from r1reward.engines.deepspeed_setup import RankAddress, free_port
    from r1reward.models.model_shape import read_model_shape
    from r1reward.recipe.components import training_learner
    from r1reward.recipe.files import load_recipe
    from r1reward.sizing.activations import activations
    from r1reward.sizing.learner_memory import learner_states, trained
    from tests.samples import made_up_samples

    dtype, *settings = CASES[case]
    with model_folder(size, dtype) as folder, tempfile.TemporaryDirectory() as run_dir:
        chosen = (f"learner.{setting}" for setting in settings)
        recipe = load_recipe(
            LOCAL,
            (
                "judge={type: rule}",
                *chosen,
                f"model.path={folder}",
                f"model.dtype={dtype}",
                f"run_dir={run_dir}",
            ),
        )
        model = read_model_shape(str(folder))
        rank = DeepSpeedRank(
            training_learner(recipe), RankAddress(0, 1, "127.0.0.1", free_port("127.0.0.1"))
        )
        samples = made_up_samples(recipe, [SIZES[size].response] * SIZES[size].rows)
    batch = batch_shape(rank, samples)  # also fills the builder's cache of patches
    before = living_bytes(rank)
    with watched_allocator() as forward:
        loss, _ = rank.policy_share(samples, BatchSize(len(samples), batch.response_tokens))
    rank.engine.backward(loss)
    del loss
    left = living_bytes(rank) - before
    # By itself: in a small model other things are as large while the forward pass is at its highest.
    head = rank.engine.module.hf.lm_head
    hidden_ND = torch.zeros(batch.response_tokens, model.text.hidden, dtype=getattr(torch, dtype))
    targets_N = torch.zeros(batch.response_tokens, dtype=torch.long)
    with torch.no_grad(), watched_allocator() as chunk:
        kept = head(hidden_ND, targets_N)
    del kept
    base = getattr(rank.engine.optimizer, "optimizer", rank.engine.optimizer)
    parameters = list(rank.engine.module.parameters())
    own = storages(getattr(p, "ds_tensor", p.data) for p in parameters)
    masters = masters_of(rank.engine.optimizer)
    # What backward left behind, or fills that DeepSpeed had allocated before.
    buffers = storages(preallocated_gradients(rank.engine.optimizer))
    gradients = left + sum(buffers.values())
    rank.optimizer.param_groups[0]["lr"] = 1e-4
    rank.engine.step()
    moments = storages(value for state in base.state.values() for value in state.values())
    dtype, reference = recipe.model.dtype, recipe.algorithm.needs_reference
    held = learner_states(recipe.learner, dtype, reference, trained(model, recipe.learner))
    found = activations(recipe.learner, dtype, model, batch)
    return {
        "parameters": (held.parameters, sum(own.values())),
        "master weights": (
            held.master_weights,
            sum(n for at, n in storages(masters).items() if at not in own),
        ),
        "gradients": (held.gradients, gradients),
        "optimizer state": (held.optimizer_state, sum(moments.values())),
        "activations": (found.kept, forward["live"]),
        "logits": (found.logits, chunk["peak"] - chunk["live"]),
    }


def batch_shape(rank: Any, samples: list[Any]) -> Any:
    from r1reward.sizing.activations import MicroBatchShape

    batch, packed = rank.builder.build(samples), rank.settings.learner.packing
    rows, length = batch.input_ids_BL.shape
    tokens = int(batch.attention_mask_BL.sum())
    return MicroBatchShape(
        rows=rows,
        length=length,
        slots=tokens if packed else rows * length,
        response_tokens=int(batch.mask_BT.sum()),
        patches=len(batch.images["pixel_values"]),
        packed=packed,
        padded=not packed and tokens < rows * length,
    )


@contextmanager
def watched_allocator() -> Iterator[dict[str, int]]:
    """Bytes that torch's CPU allocator gave out and did not get back: at the end, and at most."""
    from torch.profiler import ProfilerActivity, profile

    found: dict[str, int] = {}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        yield found
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    found |= {"live": live, "peak": peak}


def living_bytes(rank: Any) -> int:
    """Bytes of every tensor that somebody holds.

    Not by the allocator's events: gloo's thread may be the last to let go of what was reduced, and the
    profiler does not see what other threads give back.
    """
    import torch

    gc.collect()
    tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
    gradients = [p.grad for p in rank.engine.module.parameters() if p.grad is not None]
    return sum(storages([*tensors, *gradients]).values())


def storages(tensors: Iterable[Any]) -> dict[int, int]:
    """Bytes by address, each storage once."""
    found = (tensor.untyped_storage() for tensor in tensors if tensor.numel())
    return {storage.data_ptr(): storage.nbytes() for storage in found}


def masters_of(optimizer: Any) -> list[Any]:
    """The float32 copies of the weights that DeepSpeed's optimizer steps."""
    for name in (
        "single_partition_of_fp32_groups",
        "fp32_partitioned_groups_flat",
        "fp32_groups_flat_partition",
    ):
        if hasattr(optimizer, name):
            return list(getattr(optimizer, name))
    return []


def preallocated_gradients(optimizer: Any) -> list[Any]:
    buffer = getattr(optimizer, "grad_partitions_flat_buffer", None)
    return [buffer] if buffer is not None else getattr(optimizer, "fp32_groups_gradients_flat", [])


def measure_cache(size: str, case: str) -> dict[str, tuple[float, float]]:
    """Bytes that vLLM holds for a token of context: (predicted, measured)."""
    from r1reward.models.model_shape import read_model_shape
    from r1reward.recipe.components import EngineSettings
    from r1reward.recipe.files import load_recipe
    from r1reward.sizing.engine_memory import cache_bytes_per_token

    with model_folder(size, "bfloat16") as folder:
        chosen = ("judge={type: rule}", f"model.path={folder}", "model.dtype=bfloat16")
        recipe = load_recipe(LOCAL, (*chosen, "rollout.engine.kv_cache_memory_mb=64"))
        predicted = cache_bytes_per_token(read_model_shape(str(folder)), "bfloat16", 1)
        from r1reward.engines.vllm_engine import VllmEngine

        engine = VllmEngine(EngineSettings(recipe.model, recipe.rollout.engine, recipe.placement))
        caches = engine.llm.collective_rpc(lambda worker: cache_sizes(worker))[0]
        settings = engine.core.vllm_config.cache_config
        tokens = settings.num_gpu_blocks * settings.block_size
        engine.stop()
    return {"bytes a token of KV cache": (predicted, caches / tokens)}


def cache_sizes(worker: Any) -> int:
    return sum(storages(worker.model_runner.kv_caches).values())


if __name__ == "__main__":
    sys.exit(main())
