"""Batches and a fast forward pass for the miniature's own training and sampling.

Every image of the miniature has the same 8 x 8 patches and stands at the same place of the
prompt. That allows what the general code of transformers cannot assume: vision as one batched
attention without Python loops over images, and position ids without a search. The results equal
the general forward pass (``tests/unit/shapes/test_shapes_model.py``).

Shape legend: N images, B sequences, T tokens, R trained positions, V vocabulary, D hidden size.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from r1reward.shapes.scene import render
from tools.miniature.corpus import Example
from tools.miniature.network import GRID, MERGE_SIZE, NUM_IMAGE_TOKENS, PATCH_SIZE

IGNORED = -100
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Sequence:
    """A tokenised example; ``num_prompt`` tokens come before the response."""

    token_ids: tuple[int, ...]
    num_prompt: int
    image: np.ndarray | None  # uint8 [112, 112, 3]


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences that either all have an image or all have none."""

    token_ids_BT: torch.Tensor
    targets_BT: torch.Tensor
    patches: torch.Tensor | None  # [N, 64, 588]
    image_start: int  # position of the first image token


class Encoder:
    """Tokenises examples the way the chat template and the processor do."""

    def __init__(self, processor: Qwen2_5_VLProcessor) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.end_id = self.tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.pad_id = self.tokenizer.convert_tokens_to_ids("<|endoftext|>")
        self.image_id = self.tokenizer.convert_tokens_to_ids("<|image_pad|>")

    def prompt_text(self, text: str, with_image: bool) -> str:
        content = [{"type": "image"}] if with_image else []
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
        rendered: str = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return rendered.replace("<|image_pad|>", "<|image_pad|>" * NUM_IMAGE_TOKENS)

    def encode(self, examples: list[Example], rng: random.Random) -> list[Sequence]:
        prompts = [self.prompt_text(e.text, e.scene is not None) for e in examples]
        prompt_ids = self.tokenizer(prompts)["input_ids"]
        response_ids = self.tokenizer([e.response for e in examples])["input_ids"]
        images = [None if e.scene is None else np.asarray(render(e.scene, rng)) for e in examples]
        return [
            Sequence((*prompt, *response, self.end_id), len(prompt), image)
            for prompt, response, image in zip(prompt_ids, response_ids, images, strict=True)
        ]

    def collate(self, sequences: list[Sequence]) -> Batch:
        length = max(len(s.token_ids) for s in sequences)
        tokens = np.full((len(sequences), length), self.pad_id)
        targets = np.full((len(sequences), length), IGNORED)
        for row, sequence in enumerate(sequences):
            num_tokens = len(sequence.token_ids)
            tokens[row, :num_tokens] = sequence.token_ids
            start = sequence.num_prompt
            targets[row, start - 1 : num_tokens - 1] = sequence.token_ids[start:]
        images = [s.image for s in sequences if s.image is not None]
        assert len(images) in (0, len(sequences)), "a batch is with images or without"
        starts = (tokens == self.image_id).argmax(axis=1)
        assert (starts == starts[0]).all(), "one offset serves every row of the batch"
        start = int(starts[0])
        patches = to_patches(np.stack(images)) if images else None
        return Batch(torch.from_numpy(tokens), torch.from_numpy(targets), patches, start)


def to_patches(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, 112, 112, 3] to normalised patches [N, 64, 588], merge groups together.

    The processor repeats every frame to fill the temporal patch; here the repeat is folded into
    the weight instead (``encode_images``).
    """
    side = GRID // MERGE_SIZE
    split = torch.from_numpy(images).view(
        -1, side, MERGE_SIZE, PATCH_SIZE, side, MERGE_SIZE, PATCH_SIZE, 3
    )
    bytes_first = split.permute(0, 1, 4, 2, 5, 7, 3, 6).contiguous()
    mean, std = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return ((bytes_first / 255 - mean) / std).reshape(len(images), GRID * GRID, -1)


def patch_positions() -> torch.Tensor:
    """Row and column of every patch, [64, 2], in the order of ``to_patches``."""
    side = GRID // MERGE_SIZE
    grid = torch.arange(GRID).view(side, MERGE_SIZE)
    rows = grid[:, None, :, None].expand(side, side, MERGE_SIZE, MERGE_SIZE)
    columns = grid[None, :, None, :].expand(side, side, MERGE_SIZE, MERGE_SIZE)
    return torch.stack([rows.reshape(-1), columns.reshape(-1)], dim=1)


def encode_images(model: Qwen2_5_VLForConditionalGeneration, patches: torch.Tensor) -> torch.Tensor:
    """Image features [N, 16, D]: the vision tower, all images in one batched attention."""
    visual = model.model.visual
    weight = visual.patch_embed.proj.weight.sum(dim=2).flatten(1)
    hidden = F.linear(patches, weight)
    num_images, num_patches, _ = hidden.shape
    cos, sin = visual.rotary_pos_emb(hidden, patch_positions())
    cos, sin = cos.repeat(num_images, 1), sin.repeat(num_images, 1)
    for block in visual.blocks:
        attention = block.attn
        qkv = attention.qkv(block.norm1(hidden))
        shape = (num_images * num_patches, attention.num_heads, -1)
        query, key, value = qkv.chunk(3, dim=-1)
        query, key = apply_rotary_pos_emb_vision(query.reshape(shape), key.reshape(shape), cos, sin)
        heads = (num_images, num_patches, attention.num_heads, -1)
        mixed = F.scaled_dot_product_attention(
            *(part.reshape(heads).transpose(1, 2) for part in (query, key, value))
        )
        hidden = hidden + attention.proj(mixed.transpose(1, 2).reshape(hidden.shape))
        hidden = hidden + block.mlp(block.norm2(hidden))
    return visual.merger(hidden).view(num_images, NUM_IMAGE_TOKENS, -1)


def mrope_positions(num_tokens: int, image_start: int | None) -> torch.Tensor:
    """Position ids [3, T]: time, row, column. Text after an image goes on from its largest."""
    if image_start is None:
        return torch.arange(num_tokens).expand(3, -1)
    side = GRID // MERGE_SIZE
    cells = torch.arange(NUM_IMAGE_TOKENS)
    image = torch.stack([torch.zeros_like(cells), cells // side, cells % side]) + image_start
    before = torch.arange(image_start).expand(3, -1)
    num_after = num_tokens - image_start - NUM_IMAGE_TOKENS
    after = (torch.arange(num_after) + image_start + side).expand(3, -1)
    return torch.cat([before, image, after], dim=1)


def embed(
    model: Qwen2_5_VLForConditionalGeneration,
    token_ids_BT: torch.Tensor,
    patches: torch.Tensor | None,
    image_start: int,
) -> torch.Tensor:
    embeds = model.model.language_model.embed_tokens(token_ids_BT)
    if patches is None:
        return embeds
    image = encode_images(model, patches).to(embeds.dtype)
    end = image_start + NUM_IMAGE_TOKENS
    return torch.cat([embeds[:, :image_start], image, embeds[:, end:]], dim=1)


def response_logits(
    model: Qwen2_5_VLForConditionalGeneration, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [R, V] and targets [R] at the response positions. Padding sits on the right, where
    causal attention never looks from a real token, so no mask is needed.
    """
    num_rows, num_tokens = batch.token_ids_BT.shape
    start = None if batch.patches is None else batch.image_start
    positions = mrope_positions(num_tokens, start)[:, None].expand(3, num_rows, -1)
    embeds = embed(model, batch.token_ids_BT, batch.patches, batch.image_start)
    hidden = model.model.language_model(
        inputs_embeds=embeds, position_ids=positions, use_cache=False
    ).last_hidden_state
    trained = batch.targets_BT != IGNORED
    return model.lm_head(hidden[trained]), batch.targets_BT[trained]
