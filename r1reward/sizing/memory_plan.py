"""A recipe's memory, part by part: what each GPU and each node holds, what does not fit, what to turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from r1reward.models.sizes import (
    ITEM_BYTES,
    MicroBatchShape,
    ModelShape,
    longest_sequence,
    trained,
    widest_micro_batch,
)
from r1reward.recipe.engine_sections import EngineSection
from r1reward.recipe.recipe import Recipe
from r1reward.recipe.sections import ModelSection
from r1reward.sizing.activations import activations
from r1reward.sizing.engine_memory import CONTEXT_GB, GB, PROCESS_GB, EngineMemory, engine_memory
from r1reward.sizing.learner_memory import learner_states

EngineRole = Literal["rollout", "judge"]


@dataclass(frozen=True)
class Line:
    """One part: bytes, and a word on what they depend on. Estimates are not measured anywhere."""

    name: str
    num_bytes: int
    note: str = ""
    estimate: bool = False


@dataclass(frozen=True)
class Holder:
    """What one GPU of a role (or a node) holds. ``peak`` is the most at any one moment."""

    title: str
    lines: tuple[Line, ...]
    peak: int
    limit: int | None
    problem: str = ""


def engine_holder(
    role: EngineRole,
    model: ModelShape,
    limits: ModelSection,
    engine: EngineSection,
    room: int,
    cuda: bool = True,
) -> Holder:
    """One GPU of a vLLM engine (or, on CPUs, its process). What it does not need becomes KV cache."""
    found = engine_memory(model, limits, engine, room, cuda)
    wanted = found.bytes_per_token * found.max_len
    fitting = found.num_sequences
    lines = (
        Line("parameters", found.parameters, shared(engine)),
        Line("prefill", found.prefill, "activations of one batch of prompt tokens", True),
        Line("vision tower", found.vision, "before prefill, not beside it", True),
        Line("logits of sampling", found.sampling, f"max_num_seqs {engine.max_num_seqs}", True),
        Line("CUDA, graphs" if cuda else "process", found.graphs + found.context, "", True),
        Line(
            "KV cache",
            max(0, found.cache),
            f"room for {fitting} of {found.max_len:,} tokens, {found.bytes_per_token:,} B each",
        ),
    )
    busy = found.parameters + max(found.prefill + found.sampling, found.vision)
    peak = busy + found.graphs + found.context + max(0, found.cache)
    problem = ""
    if found.cache < wanted or peak > room:
        problem = engine_problem(role, found, engine, limits, wanted)
    return Holder(title(role), lines, peak, room if cuda else None, problem)


def title(role: str) -> str:
    return {"rollout": "rollout engine", "judge": "judge engine"}.get(role, role)


def shared(engine: EngineSection) -> str:
    shards = engine.tensor_parallel_size
    return f"1/{shards} of the weights" if shards > 1 else ""


def engine_problem(
    role: EngineRole, found: EngineMemory, engine: EngineSection, limits: ModelSection, wanted: int
) -> str:
    if engine.kv_cache_memory_mb is not None:
        return (
            f"the {title(role)} wants {wanted / 2**20:.0f} MB of KV cache for one sequence of "
            f"{found.max_len:,} tokens, and {role}.engine.kv_cache_memory_mb is "
            f"{engine.kv_cache_memory_mb}: change it, or lower model.max_prompt_tokens"
        )
    return (
        f"the {title(role)} has {max(0, found.cache) / GB:.1f} GB left for its KV cache, and one "
        f"sequence of {found.max_len:,} tokens takes {wanted / GB:.1f} GB: raise "
        f"{role}.engine.tensor_parallel_size (now {engine.tensor_parallel_size}) or "
        f"gpu_memory_utilization (now {engine.gpu_memory_utilization:g}), or lower "
        f"{role}.engine.max_num_batched_tokens or model.max_prompt_tokens"
    )


def learner_holder(
    recipe: Recipe, model: ModelShape, images_per_pair: int | None, gpu_bytes: int | None
) -> Holder:
    """One GPU of the learner. Without a limit (on CPUs) nothing is too much."""
    batch = widest_micro_batch(recipe, model, images_per_pair)
    lines, peak = learner_lines(recipe, model, batch)
    problem = ""
    if gpu_bytes is not None and peak > gpu_bytes:
        tried = " ".join(knobs(recipe, model, images_per_pair, gpu_bytes))
        problem = f"a learner rank needs {peak / GB:.1f} GB of {gpu_bytes / GB:.0f}: " + (
            tried or "no setting of learner makes it fit; take more ranks or larger GPUs"
        )
    return Holder("learner rank", tuple(lines), peak, gpu_bytes, problem)


def learner_lines(
    recipe: Recipe, model: ModelShape, batch: MicroBatchShape
) -> tuple[list[Line], int]:
    """The parts, and the most that is there at once: in a backward pass or in the step after it."""
    settings = recipe.learner
    count = trained(model, settings)
    held, found = learner_states(recipe, count), activations(recipe, model, batch)
    context = int(CONTEXT_GB * GB) if recipe.placement.device == "cuda" else int(PROCESS_GB * GB)
    learning = "" if count.num_trainable == count.num_held else billions(count.num_trainable)
    split = f"ZeRO {settings.zero_stage} over {settings.num_ranks}"
    lines = [
        Line("parameters", held.parameters, split if settings.zero_stage == 3 else "whole"),
        Line("reference model", held.reference, "whole on every rank"),
        Line("master weights", held.master_weights, f"float32, {split}"),
        Line("optimizer state", held.optimizer_state, f"two moments, {split}"),
        Line("gradients", held.gradients, f"{learning} learn" if learning else ""),
        Line("reduce bucket", held.reduce_bucket, "DeepSpeed's 5e8 values"),
        Line("gathered weights", held.gathered, "for a moment"),
        Line(
            "activations",
            found.kept,
            f"{batch.slots:,} tokens, {batch.patches // model.vision.merge:,} of images"
            + (", checkpointing" if settings.gradient_checkpointing else ""),
        ),
        Line("one layer at work", found.working, "for a moment"),
        Line("chunk of logits", found.logits, f"{settings.logprob_chunk_tokens} tokens, a moment"),
        Line("optimizer step", held.step, "temporaries, after the activations"),
        Line("CUDA" if recipe.placement.device == "cuda" else "process", context, "", True),
    ]
    backward = found.kept + max(found.working, found.logits) + held.gathered
    peak = held.lasting + held.gradients + held.reduce_bucket + context + max(backward, held.step)
    return [line for line in lines if line.num_bytes], peak


def billions(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e8 else f"{number / 1e6:.1f} M"


def knobs(
    recipe: Recipe, model: ModelShape, images_per_pair: int | None, gpu_bytes: int
) -> Iterator[str]:
    """Settings that make the learner fit, one after the other, each with what it leads to.

    Yields nothing when all of them together do not help enough.
    """
    steps: list[str] = []
    now = peak = learner_peak(recipe, model, images_per_pair)
    for change in changes(recipe):
        settings = recipe.learner.model_copy(update=change)
        tried = recipe.model_copy(update={"learner": settings})
        peak = learner_peak(tried, model, images_per_pair)
        if peak > 0.98 * now:
            continue
        recipe, now = tried, peak
        for name, value in change.items():
            steps.append(f"learner.{name}={str(value).lower()} ({peak / GB:.1f} GB)")
        if peak <= gpu_bytes:
            yield "set " + ", then ".join(steps)
            return


def learner_peak(recipe: Recipe, model: ModelShape, images_per_pair: int | None) -> int:
    return learner_lines(recipe, model, widest_micro_batch(recipe, model, images_per_pair))[1]


def changes(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Cheapest first: what costs time, then what costs accuracy of nothing, then what needs GPUs."""
    settings = recipe.learner
    longest = longest_sequence(recipe.model)
    if not settings.gradient_checkpointing:
        yield {"gradient_checkpointing": True}
    if settings.micro_batch_tokens > longest:
        yield {"micro_batch_tokens": longest}
    if not settings.packing and recipe.model.attention == "sdpa":
        yield {"packing": True}
    if settings.logprob_chunk_tokens > 512:
        yield {"logprob_chunk_tokens": 512}
    if settings.zero_stage < 3 and settings.num_ranks > 1:
        yield {"zero_stage": 3}
    if not settings.offload_optimizer and recipe.placement.device == "cuda":
        yield {"offload_optimizer": True}
    for factor in (2, 4, 8):
        if settings.num_ranks * factor <= settings.train_batch_size:
            yield {"num_ranks": settings.num_ranks * factor}


def store_bytes(recipe: Recipe, model: ModelShape) -> int:
    """Ray's object store on every node with engines: the newest bundle of weights and the one before."""
    return 2 * model.num_parameters * ITEM_BYTES[recipe.model.dtype]


def host_holder(
    recipe: Recipe, model: ModelShape, processes: dict[str, int], host_bytes: int | None
) -> Holder:
    """Memory of one node with GPUs, where ``processes`` counts the actors of each role on it."""
    ranks = processes.get("learner", 0)
    engines = processes.get("rollout", 0) + processes.get("judge", 0)
    weights = model.num_parameters * ITEM_BYTES[recipe.model.dtype]
    states = learner_states(recipe, trained(model, recipe.learner))
    offloaded = states.host
    # Of engines and learner one side is in host memory; its buffers stay there when it goes back.
    asleep = engines * weights + ranks * states.lasting if recipe.placement.takes_turns else 0
    lines = [
        Line("object store", store_bytes(recipe, model), "two bundles of weights"),
        Line("loading", ranks * weights, "every rank reads the whole model first"),
        Line("offloaded optimizer", ranks * offloaded, "pinned"),
        Line("asleep", asleep, "engines, or the learner, while the other side has the GPUs"),
        *image_lines(recipe, model, ranks, engines),
        Line(
            "processes", int((ranks + engines) * PROCESS_GB * GB), f"{PROCESS_GB:g} GB each", True
        ),
    ]
    return node_holder(recipe, lines, host_bytes)


def shared_holder(
    recipe: Recipe,
    model: ModelShape,
    holders: list[tuple[Holder, int]],
    host_bytes: int | None,
) -> Holder:
    """The one machine of a recipe for CPUs, where all actors share the memory."""
    lines = [
        Line("object store", store_bytes(recipe, model), "two bundles of weights"),
        *(Line(f"{h.title} x {count}", h.peak * count, "", True) for h, count in holders),
        *image_lines(
            recipe,
            model,
            recipe.learner.num_ranks,
            sum(count for holder, count in holders if "engine" in holder.title),
        ),
    ]
    return node_holder(recipe, lines, host_bytes)


def image_lines(recipe: Recipe, model: ModelShape, ranks: int, engines: int) -> list[Line]:
    """Processed images that learner and engines remember, once those caches are full."""
    patches = model.tokens_of_image(recipe.model.max_pixels) * model.vision.merge
    an_image = ITEM_BYTES[recipe.model.dtype] * model.vision.patch * patches
    a_rank = recipe.learner.image_cache_mb * 2**20
    cache = recipe.rollout.engine.mm_processor_cache_gb
    return [
        Line("images, learner", ranks * a_rank, f"{a_rank // an_image:,} of max_pixels a rank"),
        Line("images, engines", int(engines * cache * GB), f"{cache:g} GB each"),
    ]


def node_holder(recipe: Recipe, lines: list[Line], host_bytes: int | None) -> Holder:
    peak = sum(line.num_bytes for line in lines)
    problem = ""
    if host_bytes is not None and peak > host_bytes:
        problem = (
            f"a node needs {peak / GB:.0f} GB of host memory and has {host_bytes / GB:.0f}: put "
            "fewer actors on it (smaller --gpus-per-node), or lower learner.image_cache_mb, "
            "rollout.engine.mm_processor_cache_gb or learner.num_ranks"
        )
    store_mb = recipe.placement.object_store_mb
    if not problem and store_mb is not None and store_mb * 2**20 < lines[0].num_bytes:
        problem = (
            f"two bundles of weights take {lines[0].num_bytes / 2**20:,.0f} MB, and "
            f"placement.object_store_mb is {store_mb:,}: raise it, or Ray spills them to disk"
        )
    kept = tuple(line for line in lines if line.num_bytes)
    return Holder("node", kept, peak, host_bytes, problem)
