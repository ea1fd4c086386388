"""Run and evaluation folders as the system writes them, with made-up answers of a plausible model."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from r1reward.data.attempts import Attempt, append_attempt
from r1reward.data.stores.rollout_store import rollout_path, write_rollouts
from r1reward.evaluation.answers import Answer, append_answers
from r1reward.evaluation.intervals import bootstrap_by_group
from r1reward.evaluation.items import Item, make_items
from r1reward.evaluation.shown_pairs import write_shown_pairs
from r1reward.evaluation.voting.votes import RowVotes, count_votes
from r1reward.runs.alerts import ALERTS
from r1reward.shapes.pairs import make_pairs
from r1reward.types import (
    Order,
    PreferencePair,
    Prompt,
    Reward,
    Rollout,
    RolloutRequest,
    ScoredRollout,
    Slot,
    Verdict,
)

ORDERS: tuple[Order, Order] = ("stored", "swapped")
HOSTILE = (
    '</script><script>document.title = "pwned"</script><img src=x onerror="document.title=\'pwned\'">'
    " <!-- &lt;b&gt; {{ 7 * 7 }} \u202eright to left\u202c \x00\x07\x1b[31m \u2028\u2029 \ufeff "
    "\u0627\u0644\u0633\u0644\u0627\u0645 " + "w" * 10_000
)


@dataclass(frozen=True)
class Skill:
    """How good the made-up model is, and how much it sticks to slot 1."""

    right: float = 0.85
    slot_1: float = 0.05
    unreadable: float = 0.03


def make_rows(num_rows: int, seed: int = 2) -> tuple[Item, ...]:
    """Miniature pairs; every fourth row shares its question's group with the one before."""
    pairs = make_pairs("heldout", num_rows, seed)
    rows = []
    for number, pair in enumerate(pairs):
        group = f"question {number - (number % 4 == 3)}"
        hardness = "easy" if pair.difficulty < 2 else "hard"
        rows.append(
            (
                replace(pair, group=group),
                f"heldout-{number:04d}",
                {"objects": pair.category, "difficulty": hardness},
            )
        )
    return make_items(rows)


def hostile_item() -> Item:
    """Texts that would break a careless page. JSON may hold half a surrogate pair, too."""
    pair = replace(
        make_pairs("heldout", 2, seed=77)[0],
        question=HOSTILE,
        response_1="one\ud800 " + HOSTILE,
        response_2="two " + HOSTILE,
        preferred=1,
    )
    return Item("hostile", pair, "<b>hostile</b>", {"objects": "</script><i>category</i>"})


def make_answers(items: Sequence[Item], num_samples: int, skill: Skill, seed: int) -> list[Answer]:
    rng = random.Random(seed)
    answers = []
    for item in items:
        # Rows differ in how hard they are; a few are nearly always wrong.
        chance = min(0.99, max(0.02, rng.betavariate(8 * skill.right, 8 * (1 - skill.right))))
        for order in ORDERS:
            answers += [
                make_answer(item, order, index, chance, skill, rng)
                for index in range(num_samples // 2)
            ]
    return answers


def make_answer(
    item: Item, order: Order, index: int, chance: float, skill: Skill, rng: random.Random
) -> Answer:
    label = item.pair.preferred if order == "stored" else item.pair.swapped().preferred
    readable = rng.random() >= skill.unreadable
    choice: Slot = label if rng.random() < chance else (1 if label == 2 else 2)
    if rng.random() < skill.slot_1:
        choice = 1
    consistent = rng.random() < 0.93
    right = readable and choice == label
    consistency = (1.0 if consistent else 0.0) if readable else None
    return Answer(
        item=item.key,
        order=order,
        sample_index=index,
        seed=rng.randrange(2**40),
        choice=choice if readable else None,
        text=trace_text(choice if readable else None, rng),
        num_tokens=rng.randrange(48, 96),
        truncated=not readable and rng.random() < 0.5,
        well_formed=readable,
        confidence=min(0.999, max(0.5, rng.gauss(0.45 + chance / 2, 0.08))) if readable else None,
        judge_word=("match" if consistent else "mismatch") if readable else "skipped",
        reward=right * (1 + 0.5 * (consistency or 0)) + 0.5 * readable,
        consistency=consistency,
    )


def trace_text(choice: Slot | None, rng: random.Random) -> str:
    lines = [
        f"{where}: {rng.choice(('red', 'blue', 'green'))} {rng.choice(('circle', 'square'))}. "
        "1 red circle ok. 2 blue circle wrong."
        for where in ("northwest", "northeast", "southwest", "southeast")
    ]
    if choice is None:
        return "<think>" + "\n".join(lines[:2]) + "\nnorthwest:"
    analysis = "\n".join([*lines, f"Response {choice} is better."])
    return f"<think>{analysis}</think><answer>{choice}</answer>"


def interval(values: Sequence[float], groups: Sequence[str]) -> dict[str, float]:
    return asdict(bootstrap_by_group(values, groups, 400, seed=0))


def voted(row: RowVotes) -> float:
    right = row.stored.votes_for(row.label) + row.swapped.votes_for(row.label)
    unreadable = row.stored.unreadable + row.swapped.unreadable
    wrong = row.stored.num_samples + row.swapped.num_samples - unreadable - right
    return 0.5 if right == wrong else float(right > wrong)


def evaluation_json(
    items: Sequence[Item], answers: Sequence[Answer], num_samples: int, warnings: Sequence[str] = ()
) -> dict[str, object]:
    """The shape of ``Evaluation.to_json``. Curves and calibration are made up, scores are counted."""
    rows = count_votes(items, answers)
    accuracy = {row.key: row.accuracy for row in rows}
    votes = {row.key: voted(row) for row in rows}
    groups = {row.key: row.group for row in rows}

    def scores(keys: Sequence[str]) -> dict[str, dict[str, float]]:
        of = [groups[key] for key in keys]
        acc_plus = interval([votes[key] == 1 for key in keys], of)
        return {
            "accuracy": interval([accuracy[key] for key in keys], of),
            "voted": interval([votes[key] for key in keys], of),
            "group_accuracy": acc_plus,
        }

    total = scores([row.key for row in rows])
    mappings = []
    for name in ("objects", "difficulty"):
        by_category: dict[str, list[str]] = {}
        for item in items:
            by_category.setdefault(item.categories.get(name, "none"), []).append(item.key)
        categories = [
            {"category": category, "num_rows": len(keys), **scores(keys)}
            for category, keys in sorted(by_category.items())
        ]
        mappings.append(
            {
                "mapping": name,
                "source": "the generator's own labels",
                "categories": categories,
                "macro": float(np.mean([c["accuracy"]["value"] for c in categories])),  # type: ignore[index]
                "macro_voted": float(np.mean([c["voted"]["value"] for c in categories])),  # type: ignore[index]
            }
        )
    readable = [answer for answer in answers if answer.choice is not None]
    return {
        "conditions": {
            "model": "runs/local/model",
            "benchmark": "shapes-heldout",
            "data": "shapes heldout, seed 2",
            "num_rows": len(items),
            "num_dropped": {"no_image": 2},
            "orders": "both",
            "num_samples": num_samples,
            "temperature": 1.0,
            "top_p": 1.0,
            "seed": 0,
            "template": "short",
            "adaptive": None,
            "image_off": False,
        },
        **total,
        "num_groups": len(set(groups.values())),
        "mappings": mappings,
        "audit": {
            "num_rows": len(rows),
            "num_rows_both_orders": len(rows),
            "num_answers": len(answers),
            "num_unparsed": len(answers) - len(readable),
            "num_truncated": sum(answer.truncated for answer in answers),
            "slot_1_rate": sum(a.choice == 1 for a in readable) / len(readable),
            "flip_rate": sum(row.flip for row in rows) / len(rows),
            "both_right_share": sum(row.both_right for row in rows) / len(rows),
            "unparsed_share": 1 - len(readable) / len(answers),
            "truncated_share": sum(answer.truncated for answer in answers) / len(answers),
            "by_length": {
                "num_preferred_longer": sum(row.extra_chars > 0 for row in rows),
                "num_preferred_shorter": sum(row.extra_chars < 0 for row in rows),
                "num_equal": sum(row.extra_chars == 0 for row in rows),
                "accuracy_preferred_longer": 0.84,
                "accuracy_preferred_shorter": None,
                "pick_longer": 0.51,
                "pick_shorter": 0.49,
            },
        },
        "parts": {"consistency": 0.93, "reward": 1.7, "well_formed": 0.97, "num_tokens": 71.5},
        "voting": voting_points(total["accuracy"]["value"], num_samples),
        "adaptive": {
            "num_rows": len(rows),
            "num_samples": num_samples,
            "error": 0.0,
            "replayed": True,
            "used_share": 0.61,
            "predicted_share": 0.6,
            "majority_share": 0.84,
            "num_changed": 0,
        },
        "calibration": {
            "confidence": reliability([0.55, 0.7, 0.8, 0.88, 0.94, 0.98], -0.07),
            "vote_share": reliability([0.52, 0.64, 0.78, 0.9, 1.0], 0.03),
        },
        "official": {
            "rule": "A row is right if its only answer names the preferred response.",
            "parts": [
                {"name": "two objects", "num_right": 90, "num_counted": 100},
                {"name": "<i>none</i>", "num_right": 0, "num_counted": 0},
            ],
            "overall": 0.9,
            "macro": None,
            "num_left_out": 3,
            "notes": ["Counted from the first sample of each row."],
        },
        "image_off_drop": {"value": 0.31, "low": 0.26, "high": 0.36},
        "warnings": list(warnings),
        "rows": [asdict(row) for row in rows],
        "row_accuracies": list(accuracy.values()),
        "row_scores": list(votes.values()),
    }


def voting_points(accuracy: float, num_samples: int) -> list[dict[str, object]]:
    def around(value: float) -> dict[str, float]:
        return {"value": value, "low": max(0.0, value - 0.03), "high": min(1.0, value + 0.03)}

    gained = {k: accuracy + (1 - accuracy) * 0.45 * (1 - 1 / k) for k in range(1, num_samples + 1)}
    return [
        {
            "num_votes": k,
            "accuracy": around(value),
            "gain": around(0.02 * (k - 1)),
            "weighted": around(value + 0.01) if k > 1 else around(value),
            "tied_share": 0.02 if k % 2 == 0 else 0.0,
            "no_vote_share": 0.001,
            "any_correct": around(1 - (1 - accuracy) ** k),
            "chance": 1 - 0.5**k,
        }
        for k, value in gained.items()
    ]


def reliability(confidences: Sequence[float], bias: float) -> dict[str, object]:
    bins = [
        {
            "low": confidence - 0.02,
            "high": confidence,
            "num_samples": 100,
            "confidence": confidence,
            "accuracy": max(0.0, min(1.0, confidence + bias)),
        }
        for confidence in confidences
    ]
    return {"num_samples": 100 * len(bins), "expected_error": abs(bias), "bins": bins}


def write_evaluation(
    folder: Path,
    items: Sequence[Item],
    answers: Sequence[Answer],
    num_samples: int,
    *,
    pairs_at: Path | None = None,
    warnings: Sequence[str] = (),
) -> Path:
    folder.mkdir(parents=True)
    append_answers(folder / "answers.jsonl", answers)
    result = evaluation_json(items, answers, num_samples, warnings)
    (folder / "result.json").write_text(json.dumps(result))
    write_shown_pairs(pairs_at or folder / "pairs.parquet", items)
    return folder


def write_run(
    root: Path, items: Sequence[Item], num_steps: int, num_samples: int, every: int
) -> Path:
    """A run that learns, loses its negatives near the end, and was evaluated every few steps."""
    root.mkdir(parents=True)
    (root / "recipe.yaml").write_text(
        "name: local\nseed: 0\nmodel:\n  path: shapes\ndata:\n  train:\n    type: shapes\n"
        "    split: train\n    num_pairs: 4096\nrollout:\n  prompts_per_step: 256\n"
        f"learner:\n  lr: 1.0e-4\ntrain:\n  num_steps: {num_steps}\n  max_policy_lag: 0\n"
    )
    rng = random.Random(1)
    lines = [step_metrics(step, num_steps, rng) for step in range(1, num_steps + 1)]
    (root / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rollouts = [scored_rollout(item.pair, index) for index, item in enumerate(items[:16])]
    for step in (0, num_steps // 2, num_steps - 1):
        write_rollouts(rollout_path(root / "rollouts", step), rollouts)
    for step in range(0, num_steps + 1, every):
        skill = Skill(0.62 + 0.28 * step / num_steps, 0.15 * (1 - step / num_steps))
        answers = make_answers(items, num_samples, skill, seed=step)
        folder = root / "eval" / f"step-{step:06d}"
        write_evaluation(
            folder, items, answers, num_samples, pairs_at=root / "eval" / "pairs.parquet"
        )
    return root


def step_metrics(step: int, num_steps: int, rng: random.Random) -> Mapping[str, float]:
    done = step / num_steps
    right = min(0.99, 0.6 + 0.33 * done + rng.gauss(0, 0.02))
    match = min(1.0, 0.84 + 0.13 * done + rng.gauss(0, 0.015))
    blind = done > 0.9
    metrics = {
        "step": step,
        "reward/total": right * (1 + 0.5 * match) + 0.48,
        "reward/std": 0.5,
        "reward/result": right,
        "reward/format": 0.98,
        "reward/consistency": match,
        "judge/match_share": match,
        "judge/num_asked": 180,
        "rollout/length_mean": 70 + 8 * done + rng.gauss(0, 1),
        "rollout/length_max": 94 + rng.randrange(3),
        "rollout/truncated_share": max(0.0, rng.gauss(0.01, 0.008)),
        "rollout/unparsed_share": max(0.0, 0.04 * (1 - done) + rng.gauss(0, 0.006)),
        "rollout/slot_1_share": 0.54 - 0.04 * done + rng.gauss(0, 0.02),
        "advantage/filtered_token_share": 0.01 + 0.03 * done,
        "advantage/filtered_wrong_share": 1.0 if blind else 0.1 * done,
        "policy/behaviour_kl": 1e-8 * rng.random(),
        "policy/logprob_gap_mean": 4e-8 * (1 + rng.random()),
        "policy/logprob_gap_max": 1e-4 * (0.3 + rng.random()),
        "policy/clip_share": 0.01 * rng.random(),
        "policy/pre_clip_share": 0.0,
        "policy/entropy": 0.35 - 0.2 * done,
        "learner/grad_norm": float("nan") if step == 3 else 1.2 - 0.5 * done + rng.gauss(0, 0.1),
        "learner/lr": 1e-4 * min(1, step / 5),
        "time/wait_for_rollouts_s": 9 + rng.random(),
        "time/train_s": 14 + rng.random(),
        "time/publish_s": 0.4 + 0.1 * rng.random(),
    }
    alerts = {f"alert/{alert.name}": 0.0 for alert in ALERTS}
    return metrics | alerts | {"alert/negatives_vanished": float(blind)}


def scored_rollout(pair: PreferencePair, index: int) -> ScoredRollout:
    order = ORDERS[index % 2]
    shown = pair if order == "stored" else pair.swapped()
    text = f"{shown.question}\n1: {shown.response_1}\n2: {shown.response_2}"
    request = RolloutRequest(
        Prompt(f"{pair.pair_id}-{order}", shown, order, text, (1,), 1), 0, index
    )
    choice: Slot = shown.preferred if index % 3 else (1 if shown.preferred == 2 else 2)
    trace = trace_text(choice, random.Random(index))
    rollout = Rollout(request, (1,), (2, 3), trace, np.zeros(2), np.zeros(2), "stop")
    right = float(choice == shown.preferred)
    return ScoredRollout(
        rollout, Verdict(trace, choice, True), Reward(right * 1.5 + 0.5, right, 1.0, 1.0, "match")
    )


def write_pipeline(
    root: Path,
    items: Sequence[Item],
    evaluated: Sequence[str] = ("base", "sft", "rl"),
    num_steps: int = 20,
    num_samples: int = 6,
) -> Path:
    """Every stage complete, but for the models that are not ``evaluated``: then the last is not."""
    root.mkdir(parents=True)
    (root / "recipe.yaml").write_text(yaml.safe_dump(pipeline_recipe(num_steps, num_samples)))
    annotate = root / "annotate"
    annotate.mkdir()
    for number, outcome in enumerate(("y", "ny", "nny", "nnn", "y")):
        write_attempts(annotate / "attempts.jsonl", number, outcome)
    finish_stage(annotate)
    write_sft_run(root / "sft", num_steps=32, every=8)
    finish_stage(root / "sft")
    (root / "select").mkdir()
    counts = [
        {"level": "1 attempt", "source": "shapes", "pairs": 1200, "selected": 0},
        {"level": "2 attempts", "source": "<i>other</i>", "pairs": 30, "selected": 25},
        {"level": "failed", "source": "shapes", "pairs": 4, "selected": 4},
    ]
    (root / "select" / "counts.json").write_text(json.dumps(counts))
    finish_stage(root / "select")
    write_run(root / "train", items[:6], num_steps, num_samples, every=num_steps // 2)
    finish_stage(root / "train")
    (root / "eval").mkdir()
    for number, model in enumerate(("base", "sft", "rl")):
        if model in evaluated:
            skill = Skill(0.6 + 0.15 * number, 0.1)
            answers = make_answers(items, num_samples, skill, seed=number)
            write_evaluation(root / "eval" / "shapes" / model, items, answers, num_samples)
    if len(evaluated) == 3:
        finish_stage(root / "eval")
    else:
        (root / "eval" / "stage.json").write_text('{"settings": {}, "inputs": {}, "outputs": {}}')
    return root


def pipeline_recipe(num_steps: int, num_samples: int) -> dict[str, object]:
    """As a run writes it, in the settings that the report reads."""
    return {
        "name": "whole",
        "seed": 0,
        "model": {"path": "shapes"},
        "data": {"train": {"type": "shapes", "split": "train", "num_pairs": 4096}},
        "rollout": {"prompts_per_step": 256},
        "learner": {"lr": 1e-4},
        "train": {"num_steps": num_steps},
        "annotate": {"teacher": {"type": "openai", "model": "gpt-4o"}, "max_attempts": 3},
        "sft": {"num_traces": None, "lr": 2e-5},
        "select": {"type": "attempts", "levels": [2, 3, "failed"], "num_pairs": None},
        "final": {
            "samples": num_samples,
            "bootstrap_samples": 400,
            "benches": [{"name": "shapes"}],
        },
    }


def finish_stage(folder: Path) -> None:
    stage = {"settings": {}, "inputs": {}, "outputs": {"all": "hash"}}
    (folder / "stage.json").write_text(json.dumps(stage))


def write_attempts(path: Path, number: int, outcome: str) -> None:
    """A pair's attempts, one letter each: y agreed, n did not."""
    for place, letter in enumerate(outcome, start=1):
        text = f"<think>{number} {letter}</think><answer>1</answer>"
        attempt = Attempt(
            pair_id=f"pair{number}",
            number=place,
            order=ORDERS[number % 2],
            seed=10 * number + place,
            text=HOSTILE if outcome == "nnn" else text,
            choice=None if outcome == "nnn" else 1,
            agreed=letter == "y",
            well_formed=outcome != "nnn",
            prompt_tokens=100,
            completion_tokens=20 if outcome == "y" else None,
            cost=0.25 if outcome == "y" else None,
        )
        append_attempt(path, attempt)


def write_sft_run(root: Path, num_steps: int, every: int) -> Path:
    """Fine-tuning on traces: no rollouts, and a held-out loss that begins before the first step."""
    root.mkdir(parents=True)
    (root / "recipe.yaml").write_text(
        "name: whole-sft\nseed: 0\nmodel:\n  path: shapes\ndata:\n  train:\n    type: shapes\n"
        f"learner:\n  lr: 2.0e-5\n  train_batch_size: 32\ntrain:\n  num_steps: {num_steps}\n"
    )
    lines = []
    for step in range(num_steps + 1):
        loss = 0.5 * 0.95**step
        metrics: dict[str, float] = {"step": step}
        if step:
            metrics |= {"supervised/loss": loss, "supervised/above_half_share": 1 - loss / 4}
            metrics |= {"learner/lr": 2e-5, "learner/grad_norm": 1.0 + loss}
        if step % every == 0:
            metrics |= {"supervised/heldout_loss": loss + 0.02}
        lines.append(json.dumps(metrics) + "\n")
    (root / "metrics.jsonl").write_text("".join(lines))
    return root
