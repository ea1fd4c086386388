"""The study's outcomes as Markdown: every cell, and what each part contributes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from r1reward.evaluation.compare import compare_evaluations
from r1reward.evaluation.intervals import bare_points, signed_points
from r1reward.metrics import Name
from studies.stability.outcome import Outcome

# What each variant leaves out of StableReinforce, for the table of contributions.
PARTS = {
    "no_pre_clip": "Pre-Clip",
    "no_filter": "advantage filter",
    "no_consistency": "consistency reward",
    "ppo_clip": "Pre-Clip and filter",
    "reinforce_pp": "all three",
}

COLUMNS = (
    "variant",
    "seed",
    "right before, %",
    "right after, %",
    "largest fall, points",
    "collapsed at step",
    "not finite",
    "loss spikes",
    "gradient norm, max",
    "KL to start, end",
    "entropy, end",
    "length, end",
    "unreadable, end, %",
    "follows analysis, %",
    "ratio, max",
    "Pre-Clip, max % of tokens",
    "filtered, % of tokens",
    "wrong answers filtered, %",
)


def cells_table(outcomes: Sequence[Outcome]) -> str:
    """Every cell of one stress, a row each."""
    rows = [list(COLUMNS), ["---"] * len(COLUMNS)]
    rows += [cell_row(outcome) for outcome in outcomes]
    return markdown(rows)


def cell_row(outcome: Outcome) -> list[str]:
    cell, after = outcome.cell, outcome.after
    collapsed = outcome.collapsed_at
    return [
        cell.variant + (" (full stack)" if cell.full_stack else ""),
        str(cell.seed),
        f"{100 * outcome.before.accuracy.value:.1f}",
        "-" if after is None else bare_points(after.accuracy),
        f"{100 * outcome.fall:.1f}",
        "-" if collapsed is None else str(collapsed),
        "yes" if outcome.broken else "no",
        str(outcome.num_spikes),
        number(outcome.largest(Name.LEARNER_GRAD_NORM), 1),
        number(outcome.at_end(Name.POLICY_REFERENCE_KL), 3),
        number(outcome.at_end(Name.POLICY_ENTROPY), 3),
        number(outcome.at_end(Name.ROLLOUT_LENGTH_MEAN), 1),
        number(100 * outcome.at_end(Name.ROLLOUT_UNPARSED_SHARE), 1),
        number(100 * outcome.at_end(Name.JUDGE_MATCH_SHARE), 1),
        number(outcome.largest(Name.POLICY_RATIO_MAX), 1),
        number(100 * outcome.largest(Name.POLICY_PRE_CLIP_SHARE), 2),
        number(100 * outcome.average(Name.ADVANTAGE_FILTERED_TOKEN_SHARE), 1),
        number(100 * outcome.average(Name.ADVANTAGE_FILTERED_WRONG_SHARE), 1),
    ]


def number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def contributions_table(outcomes: Sequence[Outcome]) -> str:
    """StableReinforce minus each variant on the same held-out pairs and seed, in points."""
    seeds = sorted({outcome.cell.seed for outcome in outcomes})
    found = {(o.cell.variant, o.cell.seed): o for o in outcomes if not o.cell.full_stack}
    names = [
        name
        for name in dict.fromkeys(o.cell.variant for o in outcomes)
        if name != "paper" and (name, seeds[0]) in found
    ]
    rows = [
        ["StableReinforce minus", "leaves out", *(f"seed {seed}" for seed in seeds)],
        ["---"] * (2 + len(seeds)),
    ]
    for name in names:
        cells = [name, PARTS.get(name, "")]
        for seed in seeds:
            other, full = found[name, seed].after, found["paper", seed].after
            if other is None or full is None:
                cells.append("-")
            else:
                compared = compare_evaluations(other, full)
                cells.append(signed_points(compared.accuracy))
        rows.append(cells)
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
