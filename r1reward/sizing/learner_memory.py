"""What a learner rank holds from one step to the next, as DeepSpeed 0.19 really lays it out.

P values are in the model, T of them learn, N ranks share, e is the bytes of a value; for bfloat16
the bytes are

    stage   parameters   master weights   gradients            moments
    1       2 P          4 T / N          2 T + 4 T            8 T / N
    2       2 P          4 T / N          4 T / N              8 T / N
    3       2 P / N      4 T / N          4 T / N              8 T / N

with a reduce bucket of 5e8 values beside stages 2 and 3. Stage 1 in bfloat16 is DeepSpeed's
``BF16_Optimizer``, which keeps float32 gradients of every weight on every rank. In float32 stage 0 is
plain AdamW (4 P, 0, 4 T, 8 T); stages 1 to 3 keep a second float32 copy of the shard as master weights.
"""

from dataclasses import dataclass

from r1reward.models.family import Part
from r1reward.models.lora import is_target
from r1reward.models.model_shape import ITEM_BYTES, ModelShape
from r1reward.recipe.learner_sections import LearnerSection
from r1reward.recipe.sections import Dtype

# DeepSpeed's defaults (deepspeed/runtime/zero/config.py), which the learner does not change.
REDUCE_BUCKET = 500_000_000
MAX_LIVE_PARAMETERS = 1_000_000_000
PREFETCH_BUCKET = 50_000_000
SUB_GROUP = 1_000_000_000
# Pinned host memory of an offloaded optimizer, bytes a value of the shard: master weights, their
# gradients, the accumulated ones, two moments, and the bfloat16 shard on its way back.
OFFLOADED_BYTES = 4 + 4 + 4 + 8 + 2


@dataclass(frozen=True)
class LearnerStates:
    """Bytes on the device of one rank, and ``host`` beside it."""

    parameters: int
    reference: int
    master_weights: int
    gradients: int
    optimizer_state: int
    reduce_bucket: int
    gathered: int
    step: int
    host: int

    @property
    def lasting(self) -> int:
        """From one step to the next; gradients are there whenever activations are."""
        return self.parameters + self.reference + self.master_weights + self.optimizer_state


@dataclass(frozen=True)
class Trained:
    """How many values the optimizer moves, and how they lie in DeepSpeed's groups."""

    num_base: int
    num_adapter: int
    num_trainable: int
    largest_weight: int
    largest_group: int

    @property
    def num_held(self) -> int:
        """All values in the learner's copy of the model."""
        return self.num_base + self.num_adapter


def trained(model: ModelShape, settings: LearnerSection) -> Trained:
    """Counts what the learner trains: whole weights by part, or adapters."""
    lora = settings.lora
    if lora is not None:
        sizes = [
            lora.rank * sum(weight.shape)
            for weight in model.weights
            if weight.layer is not None and is_target(weight.layer, lora)
        ]
        return Trained(model.num_parameters, sum(sizes), sum(sizes), max(sizes), sum(sizes))
    groups: dict[Part, int] = {}
    largest = 0
    for weight in model.weights:
        if getattr(settings.parts, weight.part).trainable:
            groups[weight.part] = groups.get(weight.part, 0) + weight.numel
            largest = max(largest, weight.numel)
    return Trained(
        model.num_parameters, 0, sum(groups.values()), largest, max(groups.values(), default=0)
    )


def learner_states(
    settings: LearnerSection, dtype: Dtype, needs_reference: bool, count: Trained
) -> LearnerStates:
    """What one rank holds. ``gathered`` and ``step`` are alive for a moment only."""
    e, stage, ranks = ITEM_BYTES[dtype], settings.zero_stage, settings.num_ranks
    shard = -(-count.num_trainable // ranks)
    offload = settings.offload_optimizer
    return LearnerStates(
        parameters=count.num_held * e // (ranks if stage == 3 else 1),
        reference=count.num_base * e if needs_reference else 0,
        master_weights=0 if stage == 0 or offload else 4 * shard,
        gradients=gradient_bytes(settings, e, count),
        optimizer_state=0 if offload else 8 * (shard if stage else count.num_trainable),
        reduce_bucket=reduce_bucket_bytes(settings, e, count),
        gathered=gathered_bytes(settings, e, count),
        step=0 if offload else step_bytes(settings, count),
        host=OFFLOADED_BYTES * shard if offload else 0,
    )


def gradient_bytes(settings: LearnerSection, e: int, count: Trained) -> int:
    """Between the last backward and the step."""
    whole, shard = count.num_trainable, -(-count.num_trainable // settings.num_ranks)
    if settings.offload_optimizer:
        return e * (whole if settings.zero_stage == 1 else count.largest_weight)
    match settings.zero_stage:
        case 0:
            return 4 * whole
        case 1:
            return (e + 4) * whole if e == 2 else e * whole + 4 * shard
        case _:
            return 4 * shard


def reduce_bucket_bytes(settings: LearnerSection, e: int, count: Trained) -> int:
    """Stages 2 and 3 allocate the whole bucket; the others copy what they reduce between ranks."""
    if settings.zero_stage >= 2 or (settings.zero_stage == 1 and e == 4):
        return e * REDUCE_BUCKET
    return e * min(REDUCE_BUCKET, count.num_trainable) if settings.num_ranks > 1 else 0


def gathered_bytes(settings: LearnerSection, e: int, count: Trained) -> int:
    """Whole weights around the layer at work, and the gradient on its way into the bucket."""
    live = min(MAX_LIVE_PARAMETERS + PREFETCH_BUCKET, count.num_held)
    return e * (count.largest_weight + (live if settings.zero_stage == 3 else 0))


def step_bytes(settings: LearnerSection, count: Trained) -> int:
    """Temporaries of AdamW, one of DeepSpeed's groups at a time; stage 3 copies the gradient too."""
    stage, ranks = settings.zero_stage, settings.num_ranks
    if stage == 0:
        return 8 * count.num_trainable
    group = count.largest_group
    if stage == 3:
        return 12 * min(group, SUB_GROUP + count.largest_weight) // ranks
    return 8 * -(-group // ranks)
