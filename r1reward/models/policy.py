"""The policy as a Hugging Face model, and the one function that gives log-probs.

Old, new and reference log-probs all come from ``PolicyModel.forward``, on the token ids the engine
sampled and with the images in. Shape legend: B sequences, L positions of prompt and response,
T positions of the longest response, S slots of the rows the language model really runs (B * L when
padded, the tokens when packed), N response tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import GenerationConfig

from r1reward.models.family import HfModel, ImageTensors, family_of, is_measured, load_config
from r1reward.models.generic import (
    encoded_images,
    joined,
    packed_positions,
    positions,
    token_type_arguments,
)
from r1reward.models.image_cache import remembering
from r1reward.models.image_check import require_image_argument
from r1reward.models.model_folder import resolve_model_path
from r1reward.models.packing import Cuts
from r1reward.models.packing_rules import pack
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.sections import ModelSection
from r1reward.types import TraceSample

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# No token has this id.
NO_TOKEN = -1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MicroBatch:
    """Samples padded on the right.

    ``is_image_BL`` marks the tokens that are image features. ``images`` holds what the image encoder is
    called with; when no sample has an image, that of a blank one, and ``has_images`` is False. It is
    empty for a model of text.
    ``response_at_BT`` is the position whose hidden state predicts each response token;
    ``targets_BT`` those tokens; ``mask_BT`` which of them are real. ``lengths`` are the samples' tokens.
    """

    input_ids_BL: torch.Tensor
    attention_mask_BL: torch.Tensor
    is_image_BL: torch.Tensor
    images: ImageTensors
    has_images: bool
    response_at_BT: torch.Tensor
    targets_BT: torch.Tensor
    mask_BT: torch.Tensor
    lengths: tuple[int, ...]

    def to(self, device: torch.device | str) -> MicroBatch:
        tensors = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        images = {name: value.to(device) for name, value in self.images.items()}
        return replace(self, **tensors, images=images)


class MicroBatchBuilder:
    """Builds micro-batches and remembers the tensors of recently seen images.

    ``dtype`` is the model's: it rounds pixels to that before it looks at them, so that rounding them
    here changes nothing and takes half the memory for bfloat16.
    """

    def __init__(
        self,
        processor: PolicyProcessor,
        dtype: torch.dtype = torch.float32,
        image_cache_mb: int = 0,
    ) -> None:
        self.processor = processor
        self.image_tensors = remembering(processor.image_tensors, dtype, image_cache_mb)
        self.prepare_images_s = 0.0

    def build(self, samples: Sequence[TraceSample]) -> MicroBatch:
        """Raises ``ValueError`` when a sample's image tokens do not match its images."""
        rows = [list(s.prompt_token_ids) + list(s.response_token_ids) for s in samples]
        length = max(len(row) for row in rows)
        longest_response = max(len(s.response_token_ids) for s in samples)
        shape_BL, shape_BT = (len(rows), length), (len(rows), longest_response)
        input_ids_BL = torch.full(shape_BL, self.processor.pad_token_id, dtype=torch.long)
        attention_mask_BL = torch.zeros(shape_BL, dtype=torch.long)
        response_at_BT = torch.zeros(shape_BT, dtype=torch.long)
        targets_BT = torch.zeros(shape_BT, dtype=torch.long)
        mask_BT = torch.zeros(shape_BT, dtype=torch.bool)
        images: list[ImageTensors] = []
        for i, (row, sample) in enumerate(zip(rows, samples, strict=True)):
            start, count = len(sample.prompt_token_ids), len(sample.response_token_ids)
            input_ids_BL[i, : len(row)] = torch.tensor(row)
            attention_mask_BL[i, : len(row)] = 1
            response_at_BT[i, :count] = torch.arange(start - 1, start - 1 + count)
            targets_BT[i, :count] = torch.tensor(sample.response_token_ids)
            mask_BT[i, :count] = True
            self.check_image_tokens(sample)
            images += self.prepared(sample.images)
        image_token_id = self.processor.image_token_id
        if image_token_id is None:
            image_token_id = NO_TOKEN
        is_image_BL = (input_ids_BL == image_token_id) & attention_mask_BL.bool()
        # Only the prompt holds images: a pad token sampled into a response is text.
        prompt_lengths = torch.tensor([[len(s.prompt_token_ids)] for s in samples])
        is_image_BL &= torch.arange(length)[None, :] < prompt_lengths
        return MicroBatch(
            input_ids_BL=input_ids_BL,
            attention_mask_BL=attention_mask_BL,
            is_image_BL=is_image_BL,
            images=joined(images or [self.processor.blank_image]),
            has_images=bool(images),
            response_at_BT=response_at_BT,
            targets_BT=targets_BT,
            mask_BT=mask_BT,
            lengths=tuple(map(len, rows)),
        )

    def prepared(self, images: Sequence[bytes]) -> list[ImageTensors]:
        """Decoded and resized on the CPU, unless they are remembered."""
        started = time.monotonic()
        tensors = [self.image_tensors(image) for image in images]
        self.prepare_images_s += time.monotonic() - started
        return tensors

    def take_prepare_images_s(self) -> float:
        """The seconds that images have taken since this was asked last."""
        seconds, self.prepare_images_s = self.prepare_images_s, 0.0
        return seconds

    def check_image_tokens(self, sample: TraceSample) -> None:
        features = sum(self.processor.num_image_tokens(image) for image in sample.images)
        image_token_id = self.processor.image_token_id
        pads = 0 if image_token_id is None else sample.prompt_token_ids.count(image_token_id)
        if pads != features:
            raise ValueError(
                f"the prompt has {pads} image tokens but its {len(sample.images)} image(s) give "
                f"{features} features: engine and learner must use the same bounds on image tokens"
            )


class LogprobHead(nn.Linear):
    """The language-model head, returning log-probs and entropies of targets instead of logits.

    The loop over chunks is inside this one forward: under ZeRO-3 every module call is a collective,
    and ranks hold different numbers of tokens. Logits exist for one chunk at a time, in float32, and
    are recomputed in the backward pass. ``softcap`` bounds logits by a hyperbolic tangent, ``scale`` is a
    factor on them, where the model has either.
    """

    chunk_tokens: int = 2048
    softcap: float | None = None
    scale: float = 1.0

    def forward(
        self, hidden_ND: torch.Tensor, targets_N: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        parts = [
            checkpoint(self.chunk, hidden, targets, use_reentrant=False)
            for hidden, targets in zip(
                hidden_ND.split(self.chunk_tokens), targets_N.split(self.chunk_tokens), strict=True
            )
        ]
        logprobs, entropies = zip(*parts, strict=True)
        return torch.cat(logprobs), torch.cat(entropies)

    def chunk(
        self, hidden_ND: torch.Tensor, targets_N: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits_NV = F.linear(hidden_ND, self.weight, self.bias).float()
        if self.scale != 1.0:
            logits_NV = logits_NV * self.scale
        if self.softcap is not None:
            logits_NV = torch.tanh(logits_NV / self.softcap) * self.softcap
        all_logprobs_NV = logits_NV.log_softmax(dim=-1)
        entropy_N = -(all_logprobs_NV.exp() * all_logprobs_NV).sum(dim=-1)
        return all_logprobs_NV.gather(1, targets_N[:, None]).squeeze(1), entropy_N.detach()

    @classmethod
    def replacing(
        cls, head: nn.Linear, chunk_tokens: int, softcap: float | None = None, scale: float = 1.0
    ) -> LogprobHead:
        """Take over an existing head's parameters (tied embeddings stay tied)."""
        new = cls(1, 1, bias=False, device="meta")
        new.in_features, new.out_features = head.in_features, head.out_features
        new.weight, new.bias = head.weight, head.bias
        new.chunk_tokens = chunk_tokens
        new.softcap, new.scale = softcap, scale
        return new


def logprob_head(model: HfModel, chunk_tokens: int) -> LogprobHead:
    """In place of a model's own head, with what its configuration does to logits."""
    text = model.config.get_text_config()
    # Cohere multiplies logits by one setting, Granite divides them by another.
    scale = getattr(text, "logit_scale", None) or 1.0
    scale /= getattr(text, "logits_scaling", None) or 1.0
    softcap = getattr(text, "final_logit_softcapping", None)
    return LogprobHead.replacing(model.lm_head, chunk_tokens, softcap, scale)


class PolicyModel(nn.Module):
    """A Hugging Face model that answers with the log-probs and entropies of the response tokens.

    With ``packing`` the language model sees the samples one after the other in a single row. Raises
    ``InputError`` for a model that would not see its images.
    """

    def __init__(self, model: HfModel, chunk_tokens: int, packing: bool = False) -> None:
        super().__init__()
        require_image_argument(model)
        self.sees_images = family_of(model.config).sees_images
        self.token_types = token_type_arguments(model)
        model.lm_head = logprob_head(model, chunk_tokens)
        self.hf = model
        self.packing = packing

    def forward(self, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs and entropies in float32, both [B, T] and 0 where ``batch.mask_BT`` is False."""
        # The vision tower goes first, whether there are images or not: under ZeRO-3 all ranks must
        # call the same modules in the same order.
        encoded: dict[str, Any] = {}
        if self.sees_images:
            features = encoded_images(self.hf, batch.images, not batch.has_images)
            encoded = {"mm_encoder_outputs": {"image": features}}
        inputs, slots_BL = self.packed(batch) if self.packing else self.padded(batch)
        output = self.hf.model(**inputs, **encoded, use_cache=False)
        hidden_SD = output.last_hidden_state.flatten(0, 1)
        slots_BT = slots_BL.gather(1, batch.response_at_BT)
        hidden_ND = hidden_SD[slots_BT[batch.mask_BT]]
        logprobs_N, entropies_N = self.hf.lm_head(hidden_ND, batch.targets_BT[batch.mask_BT])
        zeros_BT = torch.zeros(batch.mask_BT.shape, dtype=torch.float32, device=hidden_SD.device)
        logprobs_BT = zeros_BT.masked_scatter(batch.mask_BT, logprobs_N)
        return logprobs_BT, zeros_BT.masked_scatter(batch.mask_BT, entropies_N)

    def padded(self, batch: MicroBatch) -> tuple[dict[str, Any], torch.Tensor]:
        """What the language model is called with, and the slot of every position, [B, L]."""
        slots_BL = torch.arange(batch.input_ids_BL.numel(), device=batch.input_ids_BL.device)
        inputs = {
            "input_ids": batch.input_ids_BL,
            "attention_mask": batch.attention_mask_BL,
            "position_ids": positions(self.hf, batch),
            **dict.fromkeys(self.token_types, batch.is_image_BL.long()),
        }
        return inputs, slots_BL.view_as(batch.input_ids_BL)

    def packed(self, batch: MicroBatch) -> tuple[dict[str, Any], torch.Tensor]:
        """The same for one row of all tokens."""
        is_token_BL = batch.attention_mask_BL.bool()
        inputs = {
            "input_ids": batch.input_ids_BL[is_token_BL][None],
            "attention_mask": None,
            "position_ids": packed_positions(self.hf, batch),
            "packed_cuts": Cuts.of(batch.lengths, batch.input_ids_BL.device),
            **dict.fromkeys(self.token_types, batch.is_image_BL[is_token_BL][None].long()),
        }
        slots_BL = batch.attention_mask_BL.flatten().cumsum(dim=0) - 1
        return inputs, slots_BL.view_as(batch.input_ids_BL)


def load_hf_model(model: ModelSection, packing: bool = False) -> HfModel:
    """The Hugging Face model with its weights, from a folder or the hub.

    Raises ``InputError`` if it is to be packed and cannot be.
    """
    config = load_config(model.path)
    if not is_measured(config):
        logger.warning(
            "r1reward has not been measured with %s models: `r1reward model check %s` says whether "
            "engine and learner agree on this one",
            config.model_type,
            model.path,
        )
    attention: dict[str, str] = dict.fromkeys(("", *config.sub_configs), model.attention)
    hf = family_of(config).auto_class.from_pretrained(
        resolve_model_path(model.path),
        dtype=DTYPES[model.dtype],
        attn_implementation=attention,
        trust_remote_code=False,
    )
    if packing:
        pack(hf)
    return hf


def load_policy_model(
    model: ModelSection,
    chunk_tokens: int,
    gradient_checkpointing: bool = False,
    packing: bool = False,
) -> PolicyModel:
    """The model with its weights, and with dropout off (old and new log-probs must agree)."""
    hf = load_hf_model(model, packing)
    if gradient_checkpointing:
        hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        # transformers also makes embeddings ask for gradients, of the vision tower too, which only the
        # reentrant kind needs: a frozen tower would keep activations and run backwards for nothing.
        hf.disable_input_require_grads()
    hf.eval()
    return PolicyModel(hf, chunk_tokens, packing)


def neutral_generation_config(old: GenerationConfig) -> GenerationConfig:
    """``vllm serve`` takes its default sampling from this file; it must not bend the policy."""
    ids = {name: getattr(old, name) for name in ("eos_token_id", "pad_token_id", "bos_token_id")}
    return GenerationConfig(
        do_sample=True, temperature=1.0, top_p=1.0, top_k=0, repetition_penalty=1.0, **ids
    )
