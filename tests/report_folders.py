"""Run and evaluation folders as the system writes them, with made-up answers of a plausible model."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from r1reward.data.attempts import Attempt, append_attempt
from r1reward.data.level_counts import LevelCount
from r1reward.data.stores.rollout_store import rollout_path, write_rollouts
from r1reward.evaluation.answers import Answer, append_answers
from r1reward.evaluation.benchmarks.scores import OfficialScore, ScorePart, VoteScore
from r1reward.evaluation.conditions import Conditions
from r1reward.evaluation.counting import count_answers
from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.evaluation.evaluation import Evaluation
from r1reward.evaluation.intervals import Interval
from r1reward.evaluation.items import Benchmark, Item, make_items
from r1reward.evaluation.shown_pairs import write_shown_pairs
from r1reward.evaluation.voting.curves import VotingPoint
from r1reward.recipe.files import dump_recipe
from r1reward.recipe.recipe import Recipe, SftRecipe
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
from tests.fakes import make_recipe

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
    categories = {"objects": "</script><i>category</i>", "difficulty": "none"}
    return Item("hostile", pair, "<b>hostile</b>", categories)


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


def make_evaluation(
    items: Sequence[Item], answers: Sequence[Answer], num_samples: int, warnings: Sequence[str] = ()
) -> Evaluation:
    """Scores are counted. Curves, the official score and the drop without images are made up."""
    conditions = Conditions(
        model="runs/local/model",
        benchmark="shapes-heldout",
        data="shapes heldout, seed 2",
        num_rows=len(items),
        num_dropped={"no_image": 2},
        orders="both",
        num_samples=num_samples,
        temperature=1.0,
        top_p=1.0,
        seed=0,
        template="short",
    )
    mappings = dict.fromkeys(("objects", "difficulty"), "the generator's own labels")
    benchmark = Benchmark("shapes-heldout", tuple(items), mappings, scores_groups=True)
    counted = count_answers(benchmark, answers, conditions)
    official = OfficialScore(
        rule="A row is right if its only answer names the preferred response.",
        parts=(ScorePart("two objects", 90, 100), ScorePart("<i>none</i>", 0, 0)),
        overall=0.9,
        macro=None,
        num_left_out=3,
        notes=("Counted from the first sample of each row.",),
        curve=(VoteScore(1, 0.7123, None, 4), VoteScore(9, 0.9, 0.8765, 3)),
        name="official asking and scoring",
    )
    return replace(
        counted,
        voting=voting_points(counted.accuracy.value, num_samples),
        official=official,
        image_off_drop=Interval(0.31, 0.26, 0.36),
        warnings=tuple(warnings),
    )


def voting_points(accuracy: float, num_samples: int) -> tuple[VotingPoint, ...]:
    def around(value: float) -> Interval:
        return Interval(value, max(0.0, value - 0.03), min(1.0, value + 0.03))

    gained = {k: accuracy + (1 - accuracy) * 0.45 * (1 - 1 / k) for k in range(1, num_samples + 1)}
    return tuple(
        VotingPoint(
            num_votes=k,
            accuracy=around(value),
            gain=around(0.02 * (k - 1)),
            weighted=around(value + 0.01) if k > 1 else around(value),
            tied_share=0.02 if k % 2 == 0 else 0.0,
            no_vote_share=0.001,
            any_correct=around(1 - (1 - accuracy) ** k),
            chance=1 - 0.5**k,
        )
        for k, value in gained.items()
    )


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
    EvalFolder(folder).write_result(make_evaluation(items, answers, num_samples, warnings))
    write_shown_pairs(pairs_at or folder / "pairs.parquet", items)
    return folder


def write_run(
    root: Path, items: Sequence[Item], num_steps: int, num_samples: int, every: int
) -> Path:
    """A run that learns, loses its negatives near the end, and was evaluated every few steps."""
    root.mkdir(parents=True)
    write_recipe(root, num_steps, name="local")
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
    write_recipe(root, num_steps, name="whole", **pipeline_sections(num_samples))
    annotate = root / "annotate"
    annotate.mkdir()
    for number, outcome in enumerate(("y", "ny", "nny", "nnn", "y")):
        write_attempts(annotate / "attempts.jsonl", number, outcome)
    finish_stage(annotate)
    write_sft_run(root / "sft", num_steps=32, every=8)
    finish_stage(root / "sft")
    (root / "select").mkdir()
    counts = [
        LevelCount("1 attempt", "shapes", pairs=1200, selected=0),
        LevelCount("2 attempts", "<i>other</i>", pairs=30, selected=25),
        LevelCount("failed", "shapes", pairs=4, selected=4),
    ]
    (root / "select" / "counts.json").write_text(json.dumps([asdict(row) for row in counts]))
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


def write_recipe(root: Path, num_steps: int, **sections: object) -> None:
    """As a run writes it, with these sections in the place of a small recipe's."""
    settings = make_recipe(train__num_steps=num_steps).model_dump(mode="json") | sections
    (root / "recipe.yaml").write_text(dump_recipe(Recipe.model_validate(settings)))


def pipeline_sections(num_samples: int) -> dict[str, object]:
    teacher = {"type": "openai", "model": "gpt-4o", "url": "http://127.0.0.1/v1"}
    return {
        "annotate": {"teacher": teacher, "max_attempts": 3},
        "sft": {"num_traces": None, "lr": 2e-5},
        "select": {"type": "attempts", "levels": [2, 3, "failed"]},
        "final": {"samples": num_samples, "benches": [{"name": "shapes"}]},
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
    recipe = SftRecipe.model_validate(
        {
            "name": "whole-sft",
            "run_dir": root,
            "model": {"path": "shapes", "max_prompt_tokens": 64, "max_new_tokens": 32},
            "learner": {"lr": 2e-5, "train_batch_size": 32},
            "sft": {"batch_size": 32},
            "num_steps": num_steps,
        }
    )
    (root / "recipe.yaml").write_text(dump_recipe(recipe))
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
