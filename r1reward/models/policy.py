"""The policy as a Hugging Face model, and the one function that gives log-probs.

Old, new and reference log-probs all come from ``PolicyModel.forward``, on the token ids the engine
sampled and with the images in. Shape legend: B sequences, L positions of prompt and response,
T positions of the longest response, S slots of the rows the language model really runs (B * L when
padded, the tokens when packed), N response tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import GenerationConfig, Qwen2_5_VLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from r1reward.models.image_cache import remembering
from r1reward.models.packing import PACKED_ATTENTION
from r1reward.models.processor import PolicyProcessor, resolve_model_path
from r1reward.recipe.sections import ModelSection
from r1reward.types import TraceSample

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class MicroBatch:
    """Samples padded on the right. ``pixel_values`` is None only when no sample has an image.

    ``response_at_BT`` is the position whose hidden state predicts each response token;
    ``targets_BT`` those tokens; ``mask_BT`` which of them are real.
    """

    input_ids_BL: torch.Tensor
    attention_mask_BL: torch.Tensor
    mm_token_type_ids_BL: torch.Tensor
    pixel_values: torch.Tensor | None
    image_grid_thw: torch.Tensor | None
    response_at_BT: torch.Tensor
    targets_BT: torch.Tensor
    mask_BT: torch.Tensor

    def to(self, device: torch.device | str) -> MicroBatch:
        moved = {
            name: None if value is None else value.to(device) for name, value in vars(self).items()
        }
        return MicroBatch(**moved)


class MicroBatchBuilder:
    """Builds micro-batches and remembers the patches of recently seen images.

    ``dtype`` is the model's: it rounds patches to that before it looks at them, so that rounding them
    here changes nothing and takes half the memory for bfloat16.
    """

    def __init__(
        self,
        processor: PolicyProcessor,
        dtype: torch.dtype = torch.float32,
        image_cache_mb: int = 0,
    ) -> None:
        self.processor = processor
        self.pixels = remembering(processor.pixels, dtype, image_cache_mb)

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
        patches, grids = [], []
        for i, (row, sample) in enumerate(zip(rows, samples, strict=True)):
            start, count = len(sample.prompt_token_ids), len(sample.response_token_ids)
            input_ids_BL[i, : len(row)] = torch.tensor(row)
            attention_mask_BL[i, : len(row)] = 1
            response_at_BT[i, :count] = torch.arange(start - 1, start - 1 + count)
            targets_BT[i, :count] = torch.tensor(sample.response_token_ids)
            mask_BT[i, :count] = True
            images = [self.pixels(image) for image in sample.images]
            self.check_image_tokens(sample, [grid for _, grid in images])
            patches += [pixel_values for pixel_values, _ in images]
            grids += [grid for _, grid in images]
        is_image_BL = (input_ids_BL == self.processor.image_token_id) & attention_mask_BL.bool()
        # Only the prompt holds images: a pad token sampled into a response is text.
        prompt_lengths = torch.tensor([[len(s.prompt_token_ids)] for s in samples])
        is_image_BL &= torch.arange(length)[None, :] < prompt_lengths
        return MicroBatch(
            input_ids_BL=input_ids_BL,
            attention_mask_BL=attention_mask_BL,
            mm_token_type_ids_BL=is_image_BL.long(),
            pixel_values=torch.cat(patches) if patches else None,
            image_grid_thw=torch.cat(grids) if grids else None,
            response_at_BT=response_at_BT,
            targets_BT=targets_BT,
            mask_BT=mask_BT,
        )

    def check_image_tokens(self, sample: TraceSample, grids: Sequence[torch.Tensor]) -> None:
        features = sum(int(grid.prod()) // self.processor.merge_area for grid in grids)
        pads = sample.prompt_token_ids.count(self.processor.image_token_id)
        if pads != features:
            raise ValueError(
                f"the prompt has {pads} image tokens but its {len(sample.images)} image(s) give "
                f"{features} features: engine and learner must use the same pixel bounds"
            )


class LogprobHead(nn.Linear):
    """The language-model head, returning log-probs and entropies of targets instead of logits.

    The loop over chunks is inside this one forward: under ZeRO-3 every module call is a collective,
    and ranks hold different numbers of tokens. Logits exist for one chunk at a time, in float32, and
    are recomputed in the backward pass.
    """

    chunk_tokens: int = 2048

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
        all_logprobs_NV = logits_NV.log_softmax(dim=-1)
        entropy_N = -(all_logprobs_NV.exp() * all_logprobs_NV).sum(dim=-1)
        return all_logprobs_NV.gather(1, targets_N[:, None]).squeeze(1), entropy_N.detach()

    @classmethod
    def replacing(cls, head: nn.Linear, chunk_tokens: int) -> LogprobHead:
        """Take over an existing head's parameters (tied embeddings stay tied)."""
        new = cls(1, 1, bias=False, device="meta")
        new.in_features, new.out_features = head.in_features, head.out_features
        new.weight, new.bias = head.weight, head.bias
        new.chunk_tokens = chunk_tokens
        return new


class PolicyModel(nn.Module):
    """A Qwen2.5-VL that answers with the log-probs and entropies of the response tokens.

    With ``packing`` the language model sees the samples one after the other in a single row.
    """

    def __init__(
        self, model: Qwen2_5_VLForConditionalGeneration, chunk_tokens: int, packing: bool = False
    ) -> None:
        super().__init__()
        model.lm_head = LogprobHead.replacing(model.lm_head, chunk_tokens)
        self.hf = model
        self.packing = packing

    def forward(self, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs and entropies in float32, both [B, T] and 0 where ``batch.mask_BT`` is False."""
        # The vision tower goes first, whether there are images or not: under ZeRO-3 all ranks must
        # call the same modules in the same order.
        features = BaseModelOutputWithPooling(pooler_output=(self.image_features(batch),))
        inputs, slots_BL = self.packed(batch) if self.packing else self.padded(batch)
        output: Any = self.hf.model(
            **inputs, mm_encoder_outputs={"image": features}, use_cache=False
        )
        hidden_SD = output.last_hidden_state.flatten(0, 1)
        slots_BT = slots_BL.gather(1, batch.response_at_BT)
        hidden_ND = hidden_SD[slots_BT[batch.mask_BT]]
        logprobs_N, entropies_N = self.hf.lm_head(hidden_ND, batch.targets_BT[batch.mask_BT])
        shape, device = batch.mask_BT.shape, hidden_SD.device
        logprobs_BT = torch.zeros(shape, dtype=torch.float32, device=device)
        entropies_BT = torch.zeros(shape, dtype=torch.float32, device=device)
        logprobs_BT = logprobs_BT.masked_scatter(batch.mask_BT, logprobs_N)
        return logprobs_BT, entropies_BT.masked_scatter(batch.mask_BT, entropies_N)

    def image_features(self, batch: MicroBatch) -> torch.Tensor:
        """Features [image tokens, D]. Without images the tower sees one black token, then dropped."""
        visual = self.hf.model.visual
        if batch.pixel_values is not None:
            return visual(
                batch.pixel_values.to(visual.dtype), grid_thw=batch.image_grid_thw
            ).pooler_output
        vision, device = visual.config, batch.input_ids_BL.device
        side = vision.spatial_merge_size
        patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        pixels = torch.zeros(side**2, patch, dtype=visual.dtype, device=device)
        grid = torch.tensor([[1, side, side]], device=device)
        return visual(pixels, grid_thw=grid).pooler_output[:0]

    def padded(self, batch: MicroBatch) -> tuple[dict[str, Any], torch.Tensor]:
        """What the language model is called with, and the slot of every position, [B, L]."""
        slots_BL = torch.arange(batch.input_ids_BL.numel(), device=batch.input_ids_BL.device)
        inputs = {
            "input_ids": batch.input_ids_BL,
            "attention_mask": batch.attention_mask_BL,
            "position_ids": self.positions(batch),
        }
        return inputs, slots_BL.view_as(batch.input_ids_BL)

    def packed(self, batch: MicroBatch) -> tuple[dict[str, Any], torch.Tensor]:
        """The same for one row of all tokens. Positions are [4, 1, S]: in the text, then M-RoPE's."""
        is_token_BL = batch.attention_mask_BL.bool()
        text_positions_BL = batch.attention_mask_BL.cumsum(dim=1) - 1
        positions_4BL = torch.cat([text_positions_BL[None], self.positions(batch)])
        inputs = {
            "input_ids": batch.input_ids_BL[is_token_BL][None],
            "attention_mask": None,
            "position_ids": positions_4BL[:, is_token_BL][:, None],
        }
        slots_BL = batch.attention_mask_BL.flatten().cumsum(dim=0) - 1
        return inputs, slots_BL.view_as(batch.input_ids_BL)

    def positions(self, batch: MicroBatch) -> torch.Tensor:
        """M-RoPE positions [3, B, L]: time, row, column."""
        positions_3BL, _ = self.hf.model.get_rope_index(
            batch.input_ids_BL,
            batch.mm_token_type_ids_BL,
            image_grid_thw=batch.image_grid_thw,
            attention_mask=batch.attention_mask_BL,
        )
        return positions_3BL


def load_policy_model(
    model: ModelSection,
    chunk_tokens: int,
    gradient_checkpointing: bool = False,
    packing: bool = False,
) -> PolicyModel:
    """Load weights from a folder or the hub, with dropout off (old and new log-probs must agree)."""
    attention: Any = model.attention
    if packing:
        attention = {"": attention, "text_config": PACKED_ATTENTION, "vision_config": attention}
    hf = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        resolve_model_path(model.path),
        dtype=DTYPES[model.dtype],
        attn_implementation=attention,
    )
    if gradient_checkpointing:
        hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        # transformers also makes embeddings ask for gradients, of the vision tower too, which only the
        # reentrant kind needs: a frozen tower would keep activations and run backwards for nothing.
        hf.disable_input_require_grads()
    hf.eval()
    return PolicyModel(hf, chunk_tokens, packing)


def neutral_generation_config(old: GenerationConfig) -> GenerationConfig:
    """``vllm serve`` takes its default sampling from this file; it must not bend the policy."""
    return GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        repetition_penalty=1.0,
        eos_token_id=old.eos_token_id,
        pad_token_id=old.pad_token_id,
        bos_token_id=old.bos_token_id,
    )
