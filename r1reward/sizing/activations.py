"""What a forward pass of the learner keeps for the backward pass, in bytes.

Layers of other architectures keep other things: ``models/activation_probe.py`` says how much more or
less than these. Counted operation by operation from what autograd saves in transformers' models: a
linear layer keeps its input if its weight learns, a product both factors, RMSNorm its input in float32,
and attention q, k, v and its result (with flash or memory-efficient kernels, never the L x L weights).
Letters: e bytes of a value, D hidden size.
"""

from dataclasses import dataclass

from r1reward.models.activation_probe import layer_bytes_per_token
from r1reward.models.family import Config, VisionShape
from r1reward.models.model_shape import ITEM_BYTES, ModelShape, TextShape
from r1reward.models.packing_rules import is_packed
from r1reward.recipe.learner_sections import LearnerSection
from r1reward.recipe.sections import Dtype, ModelSection

ATTENTION_INPUTS = {"q_proj", "k_proj", "v_proj"}
MLP_INPUTS = {"gate_proj", "up_proj"}
# float32 values that backward of one chunk of log-probs holds for every logit: the logits, their
# log-softmax, its exponential and their product for the entropy.
LOGIT_FLOATS = 4


@dataclass(frozen=True)
class MicroBatchShape:
    """One forward pass of the learner.

    ``rows`` sequences of at most ``length`` tokens; ``slots`` is what the language model runs: all
    tokens when packed, rows times length when padded. ``padded`` says that attention needs a mask.
    """

    rows: int
    length: int
    slots: int
    response_tokens: int
    patches: int
    packed: bool
    padded: bool


def widest_micro_batch(
    limits: ModelSection,
    learner: LearnerSection,
    model: ModelShape,
    images_per_pair: int | None,
) -> MicroBatchShape:
    """The micro-batch that takes most memory: full, and with as many image tokens as can be.

    ``images_per_pair`` None counts on ``model.max_images``, each of ``model.max_image_tokens``.
    """
    budget = learner.micro_batch_tokens
    images = limits.max_images if images_per_pair is None else images_per_pair
    if model.vision.num_layers == 0:
        images = 0
    packed = is_packed(limits, learner, model.packing_refusal)
    image_tokens = min(images * limits.max_image_tokens, limits.max_prompt_tokens)
    shortest = image_tokens + limits.max_new_tokens
    longest = limits.max_sequence_tokens
    rows = max(1, budget // longest)
    return MicroBatchShape(
        rows=rows,
        length=min(longest, budget),
        slots=budget,
        response_tokens=budget * limits.max_new_tokens // longest,
        patches=budget * image_tokens // shortest * model.vision.merge,
        packed=packed,
        padded=rows > 1 and not packed,
    )


@dataclass(frozen=True)
class Activations:
    """``kept``: alive from forward to backward. ``working``: the most that one layer, or one chunk of
    logits, needs on top for a moment.
    """

    kept: int
    working: int
    logits: int


@dataclass(frozen=True)
class Learns:
    """Which inputs and gradients the backward pass needs."""

    projections: frozenset[str]
    language: bool
    vision: bool
    merger: bool


def learns(settings: LearnerSection) -> Learns:
    everything = frozenset({*ATTENTION_INPUTS, *MLP_INPUTS, "o_proj", "down_proj"})
    # ZeRO-3 replaces torch's linear by one that keeps its input whether or not the weight learns.
    always = settings.zero_stage == 3
    if settings.lora is not None:
        kept = everything if always else frozenset(settings.lora.targets or everything)
        return Learns(kept, False, False, False)
    parts = settings.parts
    return Learns(
        everything if parts.language.trainable or always else frozenset(),
        parts.language.trainable,
        parts.vision.trainable,
        parts.merger.trainable,
    )


def norm_bytes(width: int, e: int, weight_learns: bool, output_kept: bool) -> int:
    """RMSNorm of one token: the input in float32 and 1/rms; what the weight multiplies; the result."""
    return 4 * width + 4 + e * width * (weight_learns + output_kept)


def decoder_layer_bytes(
    text: TextShape, batch: MicroBatchShape, e: int, learn: Learns, adapters: int
) -> int:
    """One layer of the language model, for the whole micro-batch."""
    # Without a mask grouped-query attention reads the few key heads; with one they are repeated.
    keys = text.hidden if batch.padded else text.kv_width
    # Packed samples attend one by one: their results are kept, and the row they are joined to.
    results = 2 if batch.packed and "o_proj" in learn.projections else 1
    products = 3 + ("down_proj" in learn.projections)
    a_token = (
        norm_bytes(text.hidden, e, learn.language, bool(learn.projections & ATTENTION_INPUTS))
        + norm_bytes(text.hidden, e, learn.language, bool(learn.projections & MLP_INPUTS))
        + e * (text.hidden * (1 + results) + 2 * keys)
        + 4 * text.num_heads
        + e * products * text.intermediate
        + e * adapters
    )
    mask = e * batch.rows * batch.length**2 if batch.padded else 0
    return a_token * batch.slots + mask


def layer_factor(config: Config, text: TextShape) -> float:
    """What a layer of this architecture keeps, against one that has the operations counted above."""
    batch = MicroBatchShape(1, 1, 1, 1, 0, packed=False, padded=False)
    everything = frozenset({*ATTENTION_INPUTS, *MLP_INPUTS, "o_proj", "down_proj"})
    learn = Learns(everything, language=True, vision=True, merger=True)
    return layer_bytes_per_token(config) / decoder_layer_bytes(text, batch, 2, learn, 0)


def vision_layer_bytes(vision: VisionShape, patches: int, e: int) -> int:
    """One block of the vision tower: q, k and the joint qkv; results by window, and joined."""
    norm = norm_bytes(vision.hidden, e, weight_learns=True, output_kept=True)
    attention = e * vision.hidden * (2 + 3 + 2) + 4 * vision.num_heads
    return patches * (2 * norm + attention + 4 * e * vision.intermediate)


def merger_bytes(vision: VisionShape, patches: int, e: int, input_learns: bool) -> int:
    norm = norm_bytes(vision.hidden, e, weight_learns=True, output_kept=True)
    if not input_learns:
        norm -= 4 * vision.hidden
    return patches * (norm + 2 * e * vision.hidden)


def activations(
    settings: LearnerSection, dtype: Dtype, model: ModelShape, batch: MicroBatchShape
) -> Activations:
    """Of one micro-batch with these settings of the learner."""
    learn, e = learns(settings), ITEM_BYTES[dtype]
    text, vision = model.text, model.vision
    adapters = 0
    if settings.lora is not None:
        adapters = settings.lora.rank * len(settings.lora.targets or learn.projections)
    layer = round(
        decoder_layer_bytes(text, batch, e, learn, adapters) * layer_factor(model.config, text)
    )
    block = vision_layer_bytes(vision, batch.patches, e)
    # Token ids, mask, types and positions; rotary tables of the text, shared by all layers.
    kept = batch.slots * (6 * 8 + 2 * e * text.head)
    if learn.vision:
        kept += batch.patches * (e * vision.patch + 2 * 4 * vision.hidden // vision.num_heads)
    if learn.vision or learn.merger:
        kept += merger_bytes(vision, batch.patches, e, learn.vision)
    working = layer
    if settings.gradient_checkpointing:
        kept += text.num_layers * e * text.hidden * batch.slots
        kept += batch.rows * batch.length**2 if batch.padded else 0
        if learn.vision:
            kept += vision.num_layers * e * vision.hidden * batch.patches
            working = max(layer, block)
    else:
        kept += text.num_layers * layer + learn.vision * vision.num_layers * block
        # Gradients of one MLP's products on their way back.
        working = 3 * e * text.intermediate * batch.slots
    # The last norm, and the hidden states that are turned into log-probs.
    kept += batch.slots * norm_bytes(text.hidden, e, learn.language, output_kept=False)
    kept += batch.response_tokens * e * text.hidden
    # One chunk of logits. In the model's dtype they are gone once they are cast.
    chunk = min(settings.logprob_chunk_tokens, batch.response_tokens)
    return Activations(kept, working, chunk * text.vocab * 4 * LOGIT_FLOATS)
