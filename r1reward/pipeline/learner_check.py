"""Does the learner see what transformers' own model sees? Measured without an engine, on any model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from r1reward.data.images import decode_image
from r1reward.models.family import HfModel
from r1reward.models.generic import token_type_arguments
from r1reward.models.lora import add_lora, merged, with_adapters
from r1reward.models.packing_rules import packing_refusal
from r1reward.models.policy import MicroBatchBuilder, PolicyModel, load_hf_model, load_policy_model
from r1reward.models.processor import PolicyProcessor
from r1reward.pipeline.check_cells import (
    ARRIVES,
    BOUNDS,
    PROMPT,
    Cell,
    change_cell,
    equal_cell,
    gap,
    measured,
    picture,
    prompts_with_pictures,
)
from r1reward.recipe.learner_sections import LoraSection
from r1reward.recipe.sections import ModelSection
from r1reward.types import Prompt, TraceSample

NUM_RESPONSE_TOKENS = 12
CHUNK_TOKENS = 512


class LearnerCheck:
    """The learner's model of a recipe, and transformers' own of the same weights."""

    def __init__(self, model: ModelSection) -> None:
        self.model = model
        self.bound = BOUNDS[model.dtype]
        self.processor = PolicyProcessor(model)
        self.builder = MicroBatchBuilder(self.processor)
        self.policy = load_policy_model(model, CHUNK_TOKENS)
        self.prompts = prompts_with_pictures(self.processor)
        self.samples = self.written(self.prompts)

    def written(self, prompts: Sequence[Prompt]) -> list[TraceSample]:
        """Each prompt with a made-up response; of the same tokens for the same place in the list."""
        ordinary = sorted(
            set(range(len(self.processor.tokenizer))) - self.processor.control_token_ids
        )
        generator = np.random.default_rng(0)
        return [
            TraceSample(
                self.processor.expand(prompt),
                tuple(generator.choice(ordinary, NUM_RESPONSE_TOKENS + number).tolist()),
                prompt.pair.images,
            )
            for number, prompt in enumerate(prompts)
        ]

    def logprobs(
        self, samples: Sequence[TraceSample], policy: PolicyModel | None = None
    ) -> list[np.ndarray]:
        """Of the samples in one micro-batch, arrays [R]."""
        return logprobs_of(policy or self.policy, self.builder, samples)

    def alone(
        self, samples: Sequence[TraceSample], policy: PolicyModel | None = None
    ) -> list[np.ndarray]:
        """Each in a micro-batch of its own."""
        return [self.logprobs([sample], policy)[0] for sample in samples]

    def cells(self, names: Collection[str] = ()) -> list[Cell]:
        """All that can be said without an engine, or only what has these names."""
        checks = {
            "learner as transformers": self.as_transformers,
            "right padding": self.right_padding,
            "packing": self.packing,
            "LoRA merged": self.lora,
        }
        if self.processor.family.sees_images:
            checks |= {"image, learner": self.image, "order of images": self.order_of_images}
        return [
            measured(name, partial(check, name))
            for name, check in checks.items()
            if not names or name in names
        ]

    def as_transformers(self, name: str) -> Cell:
        hf = load_hf_model(self.model).eval()
        own = [
            transformers_logprobs(hf, self.processor, prompt, sample)
            for prompt, sample in zip(self.prompts, self.samples, strict=True)
        ]
        return equal_cell(name, gap(self.alone(self.samples), own), self.bound)

    def right_padding(self, name: str) -> Cell:
        difference = gap(self.logprobs(self.samples), self.alone(self.samples))
        return equal_cell(name, difference, self.bound)

    def packing(self, name: str) -> Cell:
        refusal = packing_refusal(self.policy.hf)
        if refusal is not None:
            return Cell(name, f"refused: {refusal}", True)
        packed = load_policy_model(self.model, CHUNK_TOKENS, packing=True)
        difference = gap(self.logprobs(self.samples, packed), self.alone(self.samples))
        return equal_cell(name, difference, self.bound)

    def image(self, name: str) -> Cell:
        """Other pictures of the same sizes; the words are the same."""
        others = self.written(prompts_with_pictures(self.processor, seed=1))
        seen = [number for number, sample in enumerate(self.samples) if sample.images]
        differences = [
            gap(self.logprobs([self.samples[number]]), self.logprobs([others[number]]))
            for number in seen
        ]
        return change_cell(name, min(differences), self.bound)

    def order_of_images(self, name: str) -> Cell:
        """Two images of one size, exchanged: the same tokens, and nothing but the order tells."""
        prompt = next(prompt for prompt in self.prompts if prompt.pair.images)
        images = (picture(100, 80, seed=7), picture(100, 80, seed=8))
        pairs = [replace(prompt.pair, images=order) for order in (images, images[::-1])]
        prompts = [self.processor.encode(pair, "stored", PROMPT) for pair in pairs]
        one, two = (self.written([prompt])[0] for prompt in prompts)
        return change_cell(name, gap(self.logprobs([one]), self.logprobs([two])), self.bound)

    def lora(self, name: str) -> Cell:
        """Adapters that have learned, against a model that they are merged into."""
        settings = LoraSection(rank=4, alpha=8)
        adapted = load_policy_model(self.model, CHUNK_TOKENS)
        add_lora(adapted.hf, settings, seed=0)
        generator = torch.Generator().manual_seed(0)
        parameters = dict(adapted.hf.named_parameters())
        for key, parameter in parameters.items():
            if key.endswith("lora_b"):
                parameter.data.normal_(std=0.02, generator=generator)
        whole = load_policy_model(self.model, CHUNK_TOKENS)
        for key, parameter in whole.hf.named_parameters():
            parameter.data = merged(with_adapters(key, parameters), settings)
        moved = gap(self.alone(self.samples, adapted), self.alone(self.samples))
        if moved < ARRIVES * self.bound:
            raise ValueError(f"adapters change no log-prob by more than {moved:.1e}")
        difference = gap(self.alone(self.samples, adapted), self.alone(self.samples, whole))
        return equal_cell(name, difference, self.bound)


def logprobs_of(
    policy: PolicyModel, builder: MicroBatchBuilder, samples: Sequence[TraceSample]
) -> list[np.ndarray]:
    """Of the samples in one micro-batch, arrays [R]."""
    batch = builder.build(samples)
    with torch.no_grad():
        logprobs_BT, _ = policy(batch)
    rows = zip(logprobs_BT, batch.mask_BT, strict=True)
    return [row[mask].float().numpy() for row, mask in rows]


def transformers_logprobs(
    hf: HfModel, processor: PolicyProcessor, prompt: Prompt, sample: TraceSample
) -> np.ndarray:
    """Of the response, by the plain model on what its own processor makes of text and images."""
    images = [decode_image(image) for image in prompt.pair.images]
    made: dict[str, Any] = dict(
        processor.processor(
            text=[prompt.text],
            return_tensors="pt",
            add_special_tokens=False,
            **({"images": images} if images else {}),
        )
    )
    if made["input_ids"][0].tolist() != list(sample.prompt_token_ids):
        raise ValueError("the processor expands this prompt to other tokens")
    count = len(sample.response_token_ids)
    response_1R = torch.tensor([sample.response_token_ids])
    made["input_ids"] = torch.cat([made["input_ids"], response_1R], dim=1)
    made["attention_mask"] = torch.ones_like(made["input_ids"])
    for kind in token_type_arguments(hf):
        types = made.get(kind, torch.zeros_like(made["input_ids"][:, :-count]))
        made[kind] = torch.cat([types, torch.zeros_like(response_1R)], dim=1)
    with torch.no_grad():
        logits_RV = hf(**made).logits[0, -count - 1 : -1].float()
    logprobs_R1 = logits_RV.log_softmax(dim=-1).gather(1, response_1R[0][:, None])
    logprobs_R: np.ndarray = logprobs_R1[:, 0].numpy()
    return logprobs_R
