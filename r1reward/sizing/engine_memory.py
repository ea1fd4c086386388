"""What one GPU of a vLLM engine holds: weights, prefill, and the KV cache that fits beside them."""

from dataclasses import dataclass

from r1reward.models.model_shape import ITEM_BYTES, ModelShape
from r1reward.recipe.engine_sections import EngineSection
from r1reward.recipe.sections import Dtype, ModelSection

GB = 10**9
# vLLM's own choice for offline use (vllm/engine/arg_utils.py): by the size of the GPU.
LARGE_GPU_GB = 70
BATCHED_TOKENS = {True: 16384, False: 8192}
# Estimates, in GB: what CUDA, NCCL and the captured graphs take beside tensors.
CONTEXT_GB = 0.6
GRAPHS_GB = 1.0
# A Python process with torch and an engine in it.
PROCESS_GB = 3.0


@dataclass(frozen=True)
class EngineMemory:
    """Bytes on each GPU of one engine.

    ``process`` is what CUDA and its graphs take, ``busy`` the most that is there at once, and
    ``cache`` what is left for keys and values.
    """

    parameters: int
    prefill: int
    vision: int
    sampling: int
    process: int
    busy: int
    cache: int
    bytes_per_token: int
    max_len: int

    @property
    def sequence_bytes(self) -> int:
        """Keys and values of one sequence of full length."""
        return self.bytes_per_token * self.max_len

    @property
    def num_sequences(self) -> int:
        """How many sequences of full length the cache holds at once."""
        return max(0, self.cache) // self.sequence_bytes


def cache_bytes_per_token(model: ModelShape, dtype: Dtype, tensor_parallel: int) -> int:
    """Keys and values of all layers on one GPU. A key head is never split, only repeated."""
    heads = max(1, model.text.num_kv_heads // tensor_parallel)
    return 2 * model.text.num_cache_layers * heads * model.text.head * ITEM_BYTES[dtype]


def process_bytes(engine: EngineSection, cuda: bool = True) -> tuple[int, int]:
    """What CUDA (or on CPUs the process) and the captured graphs take: asleep an engine keeps both."""
    graphs = 0 if engine.enforce_eager or not cuda else int(GRAPHS_GB * GB)
    return int((CONTEXT_GB if cuda else PROCESS_GB) * GB), graphs


def engine_memory(
    model: ModelShape, limits: ModelSection, engine: EngineSection, room: int, cuda: bool = True
) -> EngineMemory:
    """One engine with the recipe's limits. Prefill, vision and sampling are estimates of vLLM's peak.

    ``room`` is the memory of one GPU, or of the machine where engines run on CPUs.
    vLLM runs a batch of ``max_num_batched_tokens`` and the largest images before it sizes the cache,
    so their activations are taken from the cache whether or not such a batch ever comes.
    """
    e, shards = ITEM_BYTES[limits.dtype], engine.tensor_parallel_size
    text, vision = model.text, model.vision
    large = room >= LARGE_GPU_GB * GB
    tokens = engine.max_num_batched_tokens or BATCHED_TOKENS[large]
    # Hidden states and residual whole on each GPU; the MLP's two inputs and product split.
    prefill = tokens * e * (4 * text.hidden + 3 * text.intermediate // shards)
    image = limits.max_image_tokens
    patches = max(tokens, image) // image * image * vision.merge
    seen = patches * e * (8 * vision.hidden + 3 * vision.intermediate // shards)
    # Logits of every sequence in float32: raw, log-probs, and the sampler's copy.
    sampling = 3 * 4 * min(engine.max_num_seqs, tokens) * text.vocab
    parameters = model.num_parameters * e // shards
    context, graphs = process_bytes(engine, cuda)
    # The vision tower and the language model run one after the other.
    busy = parameters + max(prefill + sampling, seen) + context
    if engine.kv_cache_memory_mb is not None:
        cache = engine.kv_cache_memory_mb * 2**20
    else:
        cache = int(engine.gpu_memory_utilization * room) - busy - graphs
    a_token = cache_bytes_per_token(model, limits.dtype, shards)
    sizes = (parameters, prefill, seen, sampling, graphs + context, busy + graphs)
    return EngineMemory(*sizes, cache, a_token, limits.max_sequence_tokens)
