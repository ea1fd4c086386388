"""Pre-train the miniature from scratch: ``python -m tools.miniature.pretrain --out DIR --seed 0``.

Two phases. In the first every conclusion is right: captions teach seeing, responses about
something else teach copying, and counting errors is learned without noise. The second brings in
the faults of ``corpus.BASE_FAULTS`` while the learning rate falls to zero. The loss is taken on
the response only. Exits with 1 when a gate of ``measure.GATES`` does not hold.
"""

from __future__ import annotations

import argparse
import logging
import math
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import Qwen2_5_VLForConditionalGeneration

from r1reward.shapes.scene import seeded
from tools.miniature.batches import Batch, Encoder, response_logits
from tools.miniature.card import write_card
from tools.miniature.corpus import BASE_FAULTS, FAULTLESS, Faults, Kind, sample_example
from tools.miniature.measure import failed_gates, measure
from tools.miniature.network import build_config, build_model, build_processor, save

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """What a step is made of while ``steps`` last."""

    steps: int
    num_each: dict[Kind, int]
    hard_copy: float
    faults: Faults


@dataclass(frozen=True)
class Plan:
    phases: tuple[Phase, ...]
    lr: float = 2e-3
    matrix_lr: float = 2e-2
    warmup_steps: int = 50
    final_lr_share: float = 0.02
    weight_decay: float = 0.01
    micro_batch: int = 32
    decision_weight: float = 6.0

    @property
    def num_steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


PLAN = Plan(
    phases=(
        Phase(700, {"caption": 32, "trace": 64, "judge": 8}, 0.5, FAULTLESS),
        Phase(600, {"caption": 8, "trace": 64, "judge": 16}, 0.15, BASE_FAULTS),
    )
)


def draw_batches(
    phase: Phase, encoder: Encoder, micro_batch: int, rng: random.Random
) -> Iterator[tuple[Kind, Batch]]:
    """One step's micro-batches: each of one kind, and of like lengths so that little is padding."""
    for kind, count in phase.num_each.items():
        examples = [sample_example(kind, phase.faults, phase.hard_copy, rng) for _ in range(count)]
        sequences = encoder.encode(examples, rng)
        sequences.sort(key=lambda sequence: len(sequence.token_ids))
        for start in range(0, count, micro_batch):
            yield kind, encoder.collate(sequences[start : start + micro_batch])


def learning_rate_share(step: int, plan: Plan) -> float:
    """Linear warm-up, then half a cosine down to ``final_lr_share``."""
    if step < plan.warmup_steps:
        return (step + 1) / plan.warmup_steps
    progress = (step - plan.warmup_steps) / max(1, plan.num_steps - plan.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return plan.final_lr_share + (1 - plan.final_lr_share) * cosine


def build_optimizers(
    model: Qwen2_5_VLForConditionalGeneration, plan: Plan
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between layers, AdamW for embeddings, head, biases and norms."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and "embed_tokens" not in name and "lm_head" not in name
        (matrices if inner else others).append(parameter)
    adamw = torch.optim.AdamW(others, lr=plan.lr, betas=(0.9, 0.98), weight_decay=0.0)
    muon = torch.optim.Muon(
        matrices, lr=plan.matrix_lr, weight_decay=plan.weight_decay, momentum=0.95
    )
    return [adamw, muon]


def train(
    model: Qwen2_5_VLForConditionalGeneration, encoder: Encoder, plan: Plan, seed: int
) -> None:
    optimizers = build_optimizers(model, plan)
    base_lrs = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    rng = seeded("pretrain", seed)
    phases = [phase for phase in plan.phases for _ in range(phase.steps)]
    started = time.monotonic()
    for step, phase in enumerate(phases):
        for optimizer, base_lr in zip(optimizers, base_lrs, strict=True):
            optimizer.param_groups[0]["lr"] = base_lr * learning_rate_share(step, plan)
        losses = train_step(model, encoder, phase, plan, rng)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if step % 25 == 0 or step + 1 == plan.num_steps:
            shown = ", ".join(f"{kind} {loss:.3f}" for kind, loss in losses.items())
            log.info("step %d, %.0f s: loss %s", step, time.monotonic() - started, shown)


def train_step(
    model: Qwen2_5_VLForConditionalGeneration,
    encoder: Encoder,
    phase: Phase,
    plan: Plan,
    rng: random.Random,
) -> dict[str, float]:
    """Accumulate the gradient of the weighted mean loss over all response tokens of the step.

    Returns the mean loss of each kind and, teacher-forced, how often each aspect is right.
    """
    batches = list(draw_batches(phase, encoder, plan.micro_batch, rng))
    weights = [decision_weights(kind, batch, plan.decision_weight) for kind, batch in batches]
    total_weight = sum(float(weight.sum()) for weight in weights)
    sums: dict[str, tuple[float, int]] = {}
    for (kind, batch), weight in zip(batches, weights, strict=True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast_bfloat16()):
            logits, targets = response_logits(model, batch)
        losses = F.cross_entropy(logits.float(), targets, reduction="none")
        ((losses * weight).sum() / total_weight).backward()
        add(sums, kind, losses.detach())
        if kind == "trace":
            hits = (logits.argmax(-1) == targets).float()
            for name, mask in trace_aspects(batch).items():
                add(sums, name, hits[mask])
    return {name: total / count for name, (total, count) in sums.items()}


def add(sums: dict[str, tuple[float, int]], name: str, values: torch.Tensor) -> None:
    total, count = sums.get(name, (0.0, 0))
    sums[name] = (total + values.sum().item(), count + len(values))


def decision_weights(kind: Kind, batch: Batch, weight: float) -> torch.Tensor:
    """Loss weights [R]: a conclusion is one token in fifty, and the one that is hard to learn."""
    weights = torch.ones(int((batch.targets_BT >= 0).sum()))
    if kind == "trace":
        aspects = trace_aspects(batch)
        weights[aspects["conclusion"] | aspects["answer"]] = weight
    return weights


def fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; weights and optimizer stay float32."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def trace_aspects(batch: Batch) -> dict[str, torch.Tensor]:
    """Masks [R] over the response tokens of traces: what a token decides, by its offset.

    A line is 15 tokens long: quadrant ``:`` colour shape ``.`` ``1`` colour shape flag ``.``
    ``2`` colour shape flag ``.``; one ``<think>`` comes before, ten tokens come after.
    """
    trained = batch.targets_BT >= 0
    offsets = (trained.cumsum(1) - 1)[trained] - 1
    num_lines = ((trained.sum(1) - 11) // 15)[:, None].expand_as(trained)[trained]
    in_line, offset = offsets < 15 * num_lines, offsets % 15
    rest = offsets - 15 * num_lines
    return {
        "seen": in_line & ((offset == 2) | (offset == 3)),
        "copied": in_line & ((offset == 6) | (offset == 7) | (offset == 11) | (offset == 12)),
        "flags": in_line & ((offset == 8) | (offset == 13)),
        "conclusion": rest == 1,
        "answer": rest == 7,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-pairs", type=int, default=600, help="held-out pairs to measure on")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(2)
    started = time.monotonic()
    processor = build_processor()
    encoder = Encoder(processor)
    model = build_model(build_config(processor.tokenizer), arguments.seed)
    train(model, encoder, PLAN, arguments.seed)
    seconds = time.monotonic() - started
    model.eval()
    save(model, processor, arguments.out)
    sampled = measure(model, encoder, arguments.num_pairs, "sampled", seed=1)
    greedy = measure(model, encoder, arguments.num_pairs, "greedy", seed=1)
    print(write_card(arguments.out, model, sampled, greedy, arguments.seed, seconds))
    failed = failed_gates(sampled)
    if failed:
        sys.exit(f"outside the gates, do not ship: {', '.join(failed)}")


if __name__ == "__main__":
    main()
