"""What the miniature can do, measured on held-out pairs from the traces it writes.

Every rate has its own denominator, so a fault upstream is not counted again downstream: flags
are judged against what the trace itself says, the conclusion against its own flags, the answer
against its own conclusion.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration

from r1reward.data.prompt import build_prompt
from r1reward.shapes.pairs import make_scenes_and_pairs, read_claims
from r1reward.shapes.scene import Scene, seeded
from r1reward.shapes.trace import TAGS
from r1reward.types import PreferencePair
from tools.miniature.batches import Encoder
from tools.miniature.corpus import FAULTLESS, sample_example
from tools.miniature.network import NUM_IMAGE_TOKENS
from tools.miniature.trace_reader import Trace, is_verbose, read_trace

log = logging.getLogger(__name__)

Decoding = Literal["sampled", "greedy"]
# Name -> lowest and highest rate at temperature 1 that the base model may have.
GATES: dict[str, tuple[float, float]] = {
    "format": (0.98, 1.0),
    "sees/object": (0.95, 1.0),
    "copies/response": (0.90, 1.0),
    "flags": (0.95, 1.0),
    "conclusion follows flags": (0.60, 0.80),
    "answer follows conclusion": (0.82, 0.90),
    "accuracy": (0.60, 0.75),
    "slot 1 chosen": (0.45, 0.55),
    "judge accuracy": (0.97, 1.0),
}


@dataclass
class Rate:
    """A share with its denominator."""

    hits: int = 0
    total: int = 0

    def add(self, hit: bool) -> None:
        self.hits += hit
        self.total += 1

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else float("nan")


Rates = dict[str, Rate]


def failed_gates(rates: Rates) -> list[str]:
    """Names of the gates that do not hold. A rate without a denominator fails."""
    return [
        name
        for name, (low, high) in GATES.items()
        if not low <= rates.get(name, Rate()).value <= high
    ]


def measure(
    model: Qwen2_5_VLForConditionalGeneration,
    encoder: Encoder,
    num_pairs: int,
    decoding: Decoding,
    seed: int,
) -> Rates:
    """Write one trace for each held-out pair, and one answer for as many judge drills."""
    torch.manual_seed(seed)
    made = make_scenes_and_pairs("heldout", num_pairs, seed)
    texts = [build_prompt(pair, "short", TAGS) for _, pair in made]
    images = [Image.open(io.BytesIO(pair.images[0])).convert("RGB") for _, pair in made]
    traces = generate(model, encoder, texts, images, decoding, max_new_tokens=96)
    rates: Rates = {}
    for (scene, pair), text in zip(made, traces, strict=True):
        score_trace(rates, scene, pair, read_trace(text))
    rng = seeded("judge", seed)
    drills = [sample_example("judge", FAULTLESS, 0.0, rng, "heldout") for _ in range(num_pairs)]
    answers = generate(model, encoder, [d.text for d in drills], None, decoding, 4)
    rates["judge accuracy"] = Rate()
    for drill, answer in zip(drills, answers, strict=True):
        rates["judge accuracy"].add(answer == drill.response)
    return rates


@torch.inference_mode()
def generate(
    model: Qwen2_5_VLForConditionalGeneration,
    encoder: Encoder,
    texts: list[str],
    images: list[Image.Image] | None,
    decoding: Decoding,
    max_new_tokens: int,
    batch_size: int = 100,
) -> list[str]:
    """Responses without their end token, from transformers' own generation."""
    encoder.tokenizer.padding_side = "left"
    responses: list[str] = []
    for start in range(0, len(texts), batch_size):
        chunk = slice(start, start + batch_size)
        prompts = [
            encoder.prompt_text(text, images is not None).replace(
                "<|image_pad|>" * NUM_IMAGE_TOKENS, "<|image_pad|>"
            )
            for text in texts[chunk]
        ]
        inputs = encoder.processor(
            text=prompts,
            images=None if images is None else images[chunk],
            padding=True,
            return_tensors="pt",
        )
        tokens = model.generate(
            **inputs,
            do_sample=decoding == "sampled",
            max_new_tokens=max_new_tokens,
            eos_token_id=encoder.end_id,
            pad_token_id=encoder.pad_id,
            **({"top_k": 0} if decoding == "sampled" else {}),
        )
        new_tokens = tokens[:, inputs["input_ids"].shape[1] :]
        responses += encoder.tokenizer.batch_decode(new_tokens, skip_special_tokens=True)
    return responses


def score_trace(rates: Rates, scene: Scene, pair: PreferencePair, trace: Trace) -> None:
    """Add one trace to the rates."""

    def add(name: str, hit: bool) -> None:
        rates.setdefault(name, Rate()).add(hit)

    seen = {finding.quadrant: finding.seen for finding in trace.findings}
    add("format", trace.well_formed)
    for quadrant, look in scene.objects:
        add("sees/object", seen.get(quadrant) == look)
    add("sees/trace", seen == dict(scene.objects))
    for i, response in enumerate((pair.response_1, pair.response_2)):
        claimed = {finding.quadrant: finding.claims[i] for finding in trace.findings}
        truth = read_claims(response)
        add("copies/response", claimed == truth)
        for quadrant, look in truth.items():
            add("copies/object", claimed.get(quadrant) == look)
    for finding in trace.findings:
        for i in (0, 1):
            add("flags", finding.flags_ok[i] == (finding.claims[i] == finding.seen))
    better = trace.better_by_flags
    if better is not None:
        follows = trace.conclusion == better
        verbose = {1: is_verbose(pair.response_1), 2: is_verbose(pair.response_2)}
        biased = verbose[3 - better] and not verbose[better]
        add("conclusion follows flags", follows)
        add(f"follows flags, {'terse one better' if biased else 'other pairs'}", follows)
    if trace.conclusion is not None:
        add("answer follows conclusion", trace.choice == trace.conclusion)
    add("conclusion readable", trace.conclusion is not None)
    add("accuracy", trace.choice == pair.preferred)
    add("flags name the preferred", better == pair.preferred)
    if trace.choice is not None:
        add("slot 1 chosen", trace.choice == 1)
