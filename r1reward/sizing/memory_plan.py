"""A recipe's memory, part by part: what each GPU and each node holds, what does not fit, what to turn."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from r1reward.models.model_shape import ITEM_BYTES, ModelShape
from r1reward.models.packing_rules import may_pack
from r1reward.recipe.engine_sections import EngineSection, PlacementSection
from r1reward.recipe.learner_sections import LearnerSection
from r1reward.recipe.sections import Dtype, ModelSection, changed
from r1reward.sizing.activations import activations, widest_micro_batch
from r1reward.sizing.engine_memory import (
    CONTEXT_GB,
    GB,
    PROCESS_GB,
    EngineMemory,
    engine_memory,
    process_bytes,
)
from r1reward.sizing.learner_memory import LearnerStates, learner_states, trained

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
    memory = engine_memory(model, limits, engine, room, cuda)
    shards = engine.tensor_parallel_size
    lines = (
        Line("parameters", memory.parameters, f"1/{shards} of the weights" if shards > 1 else ""),
        Line("prefill", memory.prefill, "activations of one batch of prompt tokens", True),
        Line("vision tower", memory.vision, "before prefill, not beside it", True),
        Line("logits of sampling", memory.sampling, f"max_num_seqs {engine.max_num_seqs}", True),
        Line("CUDA, graphs" if cuda else "process", memory.process, "", True),
        Line(
            "KV cache",
            max(0, memory.cache),
            f"room for {memory.num_sequences} of {memory.max_len:,} tokens, "
            f"{memory.bytes_per_token:,} B each",
        ),
    )
    peak = memory.busy + max(0, memory.cache)
    problem = ""
    if memory.cache < memory.sequence_bytes or peak > room:
        problem = engine_problem(role, memory, engine)
    return Holder(f"{role} engine", lines, peak, room if cuda else None, problem)


def engine_problem(role: EngineRole, memory: EngineMemory, engine: EngineSection) -> str:
    wanted = memory.sequence_bytes
    if engine.kv_cache_memory_mb is not None:
        return (
            f"the {role} engine wants {wanted / 2**20:.0f} MB of KV cache for one sequence of "
            f"{memory.max_len:,} tokens, and {role}.engine.kv_cache_memory_mb is "
            f"{engine.kv_cache_memory_mb}: change it, or lower model.max_prompt_tokens"
        )
    return (
        f"the {role} engine has {max(0, memory.cache) / GB:.1f} GB left for its KV cache, and one "
        f"sequence of {memory.max_len:,} tokens takes {wanted / GB:.1f} GB: raise "
        f"{role}.engine.tensor_parallel_size (now {engine.tensor_parallel_size}) or "
        f"gpu_memory_utilization (now {engine.gpu_memory_utilization:g}), or lower "
        f"{role}.engine.max_num_batched_tokens or model.max_prompt_tokens"
    )


@dataclass(frozen=True)
class LearnerCase:
    """All that the memory of a learner's ranks depends on.

    ``images_per_pair`` None counts on as many as ``limits.max_images``. ``sleeping`` are the engines that
    sleep on the learner's GPU while it works.
    """

    shape: ModelShape
    limits: ModelSection
    learner: LearnerSection
    needs_reference: bool
    placement: PlacementSection
    images_per_pair: int | None = None
    sleeping: tuple[EngineSection, ...] = ()

    @property
    def states(self) -> LearnerStates:
        """What one rank holds from one step to the next."""
        count = trained(self.shape, self.learner)
        return learner_states(self.learner, self.limits.dtype, self.needs_reference, count)


def store_bytes(shape: ModelShape, dtype: Dtype) -> int:
    """Ray's object store on every node with engines: the newest bundle of weights and the one before."""
    return 2 * shape.num_bytes(dtype)


def learner_holder(case: LearnerCase, gpu_bytes: int | None) -> Holder:
    """One GPU of the learner. Without a limit (on CPUs) nothing is too much."""
    lines, peak = learner_lines(case)
    problem = ""
    if gpu_bytes is not None and peak > gpu_bytes:
        needed = f"a learner rank needs {peak / GB:.1f} GB of {gpu_bytes / GB:.0f}"
        problem = f"{needed}: {settings_that_fit(case, gpu_bytes)}"
    return Holder("learner rank", tuple(lines), peak, gpu_bytes, problem)


def learner_lines(case: LearnerCase) -> tuple[list[Line], int]:
    """The lines, and the most that is there at once: in a backward pass or in the step after it."""
    learner, shape = case.learner, case.shape
    batch = widest_micro_batch(case.limits, learner, shape, case.images_per_pair)
    count, held = trained(shape, learner), case.states
    passing = activations(learner, case.limits.dtype, shape, batch)
    cuda = case.placement.device == "cuda"
    context = int((CONTEXT_GB if cuda else PROCESS_GB) * GB)
    asleep = sum(sum(process_bytes(engine)) for engine in case.sleeping)
    learning = "" if count.num_trainable == count.num_held else billions(count.num_trainable)
    split = f"ZeRO {learner.zero_stage} over {learner.num_ranks}"
    lines = [
        Line("parameters", held.parameters, split if learner.zero_stage == 3 else "whole"),
        Line("reference model", held.reference, "whole on every rank"),
        Line("master weights", held.master_weights, f"float32, {split}"),
        Line("optimizer state", held.optimizer_state, f"two moments, {split}"),
        Line("gradients", held.gradients, f"{learning} learn" if learning else ""),
        Line("reduce bucket", held.reduce_bucket, "DeepSpeed's 5e8 values"),
        Line("gathered weights", held.gathered, "for a moment"),
        Line(
            "activations",
            passing.kept,
            f"{batch.slots:,} tokens, {batch.patches // shape.vision.merge:,} of images"
            + (", checkpointing" if learner.gradient_checkpointing else ""),
        ),
        Line("one layer at work", passing.working, "for a moment"),
        Line("chunk of logits", passing.logits, f"{learner.logprob_chunk_tokens} tokens, a moment"),
        Line("optimizer step", held.step, "temporaries, after the activations"),
        Line("CUDA" if cuda else "process", context, "", True),
        Line("engines asleep", asleep, "CUDA and graphs stay", True),
    ]
    backward = passing.kept + max(passing.working, passing.logits) + held.gathered
    peak = held.lasting + held.gradients + held.reduce_bucket + max(backward, held.step)
    peak += context + asleep
    return [line for line in lines if line.num_bytes], peak


def billions(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e8 else f"{number / 1e6:.1f} M"


def settings_that_fit(case: LearnerCase, gpu_bytes: int) -> str:
    """Settings that make the learner fit, one after the other, each with what it leads to."""
    steps: list[str] = []
    now = learner_peak(case)
    for name, value in changes(case):
        helped = replace(case, learner=changed(case.learner, **{name: value}))
        peak = learner_peak(helped)
        if peak > 0.98 * now:
            continue
        case, now = helped, peak
        steps.append(f"learner.{name}={str(value).lower()} ({peak / GB:.1f} GB)")
        if peak <= gpu_bytes:
            return "set " + ", then ".join(steps)
    return "no setting of learner makes it fit; take more ranks or larger GPUs"


def learner_peak(case: LearnerCase) -> int:
    return learner_lines(case)[1]


def changes(case: LearnerCase) -> Iterator[tuple[str, int]]:
    """Cheapest first: what costs time, then what costs accuracy of nothing, then what needs GPUs."""
    learner = case.learner
    longest = case.limits.max_sequence_tokens
    if not learner.gradient_checkpointing:
        yield "gradient_checkpointing", True
    if learner.micro_batch_tokens > longest:
        yield "micro_batch_tokens", longest
    if not learner.packing and may_pack(case.limits, case.shape.packing_refusal):
        yield "packing", True
    if learner.logprob_chunk_tokens > 512:
        yield "logprob_chunk_tokens", 512
    # A learner that takes turns can do neither (recipe/checks.py: check_colocation).
    stays = not case.placement.takes_turns
    if learner.zero_stage < 3 and learner.num_ranks > 1 and stays:
        yield "zero_stage", 3
    if not learner.offload_optimizer and case.placement.device == "cuda" and stays:
        yield "offload_optimizer", True
    for factor in (2, 4, 8):
        if learner.num_ranks * factor <= learner.train_batch_size:
            yield "num_ranks", learner.num_ranks * factor


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


def host_holder(
    case: LearnerCase,
    processor_cache_gb: float,
    processes: Counter[str],
    host_bytes: int | None,
) -> Holder:
    """Memory of one node with GPUs, where ``processes`` counts the actors of each role on it.

    ``processor_cache_gb`` is an engine's cache of processed images.
    """
    ranks, engines = processes["learner"], processes["rollout"] + processes["judge"]
    weights, states = case.shape.num_bytes(case.limits.dtype), case.states
    # Of engines and learner one side is in host memory; its buffers stay there when it goes back.
    asleep = engines * weights + ranks * states.lasting if case.placement.takes_turns else 0
    num_processes = ranks + engines
    lines = [
        Line("loading", ranks * weights, "every rank reads the whole model first"),
        Line("offloaded optimizer", ranks * states.host, "pinned"),
        Line("asleep", asleep, "engines, or the learner, while the other side has the GPUs"),
        *image_lines(case, processor_cache_gb, ranks, engines),
        Line("processes", int(num_processes * PROCESS_GB * GB), f"{PROCESS_GB:g} GB each", True),
    ]
    return node_holder(case, lines, host_bytes)


def shared_holder(
    case: LearnerCase,
    processor_cache_gb: float,
    holders: list[tuple[Holder, int]],
    host_bytes: int | None,
) -> Holder:
    """The one machine of a recipe for CPUs, where all actors share the memory."""
    engines = sum(count for holder, count in holders if "engine" in holder.title)
    lines = [
        *(Line(f"{h.title} x {count}", h.peak * count, "", True) for h, count in holders),
        *image_lines(case, processor_cache_gb, case.learner.num_ranks, engines),
    ]
    return node_holder(case, lines, host_bytes)


def image_lines(
    case: LearnerCase, processor_cache_gb: float, ranks: int, engines: int
) -> list[Line]:
    """Processed images that learner and engines remember, once those caches are full."""
    vision = case.shape.vision
    patches = case.limits.max_image_tokens * vision.merge
    an_image = ITEM_BYTES[case.limits.dtype] * vision.patch * patches
    if an_image == 0:
        return []
    a_rank = case.learner.image_cache_mb * 2**20
    engines_bytes = int(engines * processor_cache_gb * GB)
    return [
        Line(
            "images, learner", ranks * a_rank, f"{a_rank // an_image:,} of max_image_tokens a rank"
        ),
        Line("images, engines", engines_bytes, f"{processor_cache_gb:g} GB each"),
    ]


def node_holder(case: LearnerCase, lines: list[Line], host_bytes: int | None) -> Holder:
    """A node with Ray's object store and these lines."""
    store = store_bytes(case.shape, case.limits.dtype)
    lines = [Line("object store", store, "two bundles of weights"), *lines]
    peak = sum(line.num_bytes for line in lines)
    store_mb, object_store_mb = store / 2**20, case.placement.object_store_mb
    problem = ""
    if host_bytes is not None and peak > host_bytes:
        problem = (
            f"a node needs {peak / GB:.0f} GB of host memory and has {host_bytes / GB:.0f}: put "
            "fewer actors on it (smaller --gpus-per-node), or lower learner.image_cache_mb, "
            "rollout.engine.mm_processor_cache_gb or learner.num_ranks"
        )
    elif object_store_mb is not None and object_store_mb < store_mb:
        problem = (
            f"two bundles of weights take {store_mb:,.0f} MB, and "
            f"placement.object_store_mb is {object_store_mb:,}: raise it, or Ray spills them to disk"
        )
    kept = tuple(line for line in lines if line.num_bytes)
    return Holder("node", kept, peak, host_bytes, problem)
