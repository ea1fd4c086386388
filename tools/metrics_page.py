"""Writes docs/metrics.md: every metric of a run, from ``r1reward/metrics.py``.

Run by ``make docs``; a test fails when the page is not what this prints.
"""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

from r1reward import metrics
from r1reward.metrics import Name

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
INTRODUCTION = """\
# Metrics

`metrics.jsonl` in a run folder has one line a step; Weights & Biases and TensorBoard show the same
numbers. Several values of a step (micro-batches, ranks, updates, engines) become one by the rule in the
second column: a mean weighs by what it is a mean over, and a mean over nothing is left out.

`make docs` makes this page from `r1reward/metrics.py`, where every name is declared once; a value that is
logged under another rule than its name declares is an error.

Images are decoded and resized in the processes of learner and engines, between steps of their GPUs.
`time/prepare_images_s` counts the learner's over a step, log-probs included,
`time/engine_prepare_images_s` an engine's since the weights before (with tokenizing, which takes next to
nothing). Remembered images take none (`learner.image_cache_mb`, `rollout.engine.mm_processor_cache_gb`).
Engines behind an endpoint tell nothing.
"""
AREAS = {
    "reward": "Reward",
    "judge": "Judge",
    "rollout": "Rollouts",
    "advantage": "Advantages",
    "policy": "Policy",
    "learner": "Learner",
    "supervised": "Supervised fine-tuning",
    "sync": "Weights",
    "time": "Seconds",
    "eval": "Held-out evaluation (trackers only; the run folder has the whole result)",
}
ALERTS = """\
## Alerts

`alert/NAME` is 1 in the steps in which the alert is on, else 0; `alerts` in [settings.md](settings.md)
has their names and bounds.
"""


def read_meanings() -> dict[str, str]:
    """The string below every member of ``Name``, by the member's name."""
    members = next(
        node.body
        for node in ast.parse(Path(metrics.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == Name.__name__
    )
    return {
        ast.unparse(member.targets[0]): ast.literal_eval(text.value)
        for member, text in pairwise(members)
        if isinstance(member, ast.Assign) and isinstance(text, ast.Expr)
    }


def metrics_page() -> str:
    """The whole page."""
    meanings = read_meanings()
    sections = []
    for area, title in AREAS.items():
        rows = [
            f"| `{name}` | {name.reduction} | {name.unit or 'number'} | {meanings[name.name]} |"
            for name in Name
            if name.startswith(f"{area}/")
        ]
        sections.append(
            "\n".join([f"## {title}\n", "| metric | rule | unit | |", "|---|---|---|---|", *rows])
        )
    return "\n\n".join([INTRODUCTION.rstrip(), *sections, ALERTS])


if __name__ == "__main__":
    PAGE.write_text(metrics_page(), encoding="utf-8")
