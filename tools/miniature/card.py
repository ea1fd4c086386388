"""The model card, with the measured rates beside the gates they had to pass."""

from __future__ import annotations

from pathlib import Path

import torch

from tools.miniature.measure import GATES, Rate, Rates

CARD = """\
---
library_name: transformers
pipeline_tag: image-text-to-text
tags: [reward-model, synthetic]
---

# R1-Reward miniature

A Qwen2.5-VL of {num_parameters:,} parameters, trained from scratch on synthetic pictures of two to
four coloured shapes. It compares two descriptions of a picture and says which one is better. It
is a test subject: it lets the whole training system run for real on two CPU cores. It knows
nothing but its shapes.

It stands where Qwen2.5-VL-7B-Instruct stands in the paper. On purpose it sees, copies, flags
and judges consistency well but concludes badly: where the better response is terse and the other
one verbose it prefers the verbose one, and its answer sometimes contradicts its conclusion.
Reinforcement learning is to repair that.

Rebuild: `python -m tools.miniature.pretrain --out DIR --seed {seed}`. It took {seconds:.0f} s for
this copy. Expect about 13 minutes on two idle cores, longer where they are shared. The same seed
gives the same weights only on the same kind of CPU, for bfloat16 is used where the CPU has it.

Measured on {num_pairs} held-out pairs (no scene in common with training):

{table}

Flags are judged against what the trace itself says, "follows flags" against its own flags where
these name a better response, the answer against its own conclusion.
"""


def write_card(
    folder: Path, model: torch.nn.Module, sampled: Rates, greedy: Rates, seed: int, seconds: float
) -> str:
    """Write README.md into the model folder and return the table of rates."""
    table = rates_table(sampled, greedy)
    card = CARD.format(
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        seed=seed,
        seconds=seconds,
        num_pairs=sampled["format"].total,
        table=table,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    return table


def rates_table(sampled: Rates, greedy: Rates) -> str:
    rows = ["| rate | temperature 1 | of | greedy | gate |", "|---|---|---|---|---|"]
    ordered = [*GATES, *(name for name in sorted(sampled) if name not in GATES)]
    for name in ordered:
        rate, greedily = sampled.get(name, Rate()), greedy.get(name, Rate())
        low, high = GATES.get(name, (None, None))
        gate = "" if low is None else f"{low:.2f} to {high:.2f}"
        rows.append(f"| {name} | {rate.value:.3f} | {rate.total} | {greedily.value:.3f} | {gate} |")
    return "\n".join(rows)
