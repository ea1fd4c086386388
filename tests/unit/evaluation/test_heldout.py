"""Held-out evaluation of a run: what it writes, what it keeps, what a kill leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from r1reward.evaluation.answers import read_answers
from r1reward.evaluation.benchmarks.stored_pairs import pairs_benchmark
from r1reward.evaluation.evaluation import Evaluation
from r1reward.evaluation.heldout import HeldoutEvaluator, HeldoutPlan, read_run_evaluation
from r1reward.evaluation.image_off import grey_image
from r1reward.evaluation.shown_pairs import read_shown_pairs
from r1reward.recipe.model_settings import read_model_settings
from r1reward.recipe.recipe import Recipe
from r1reward.runs.folder import RunFolder
from r1reward.types import RolloutRequest, StepReport, WeightsHandle
from tests.fakes import (
    FakeGenerator,
    FakeJudge,
    FakeLearner,
    MemoryTracker,
    make_pair,
    make_prompt,
    make_recipe,
    right_answer,
    wrong_answer,
)
from tests.recipes import evaluation_sampler, live_source

# The only picture that the small decoder needs to see: white would do as well.
PICTURE = grey_image(4, 2)
PAIRS = [replace(make_pair(n, 1 if n % 2 else 2), images=(PICTURE,)) for n in range(4)]


def held_out(
    root: Path,
    answer: Callable[[RolloutRequest], str] = right_answer,
    num_steps: int = 6,
    **evaluate: object,
) -> tuple[HeldoutEvaluator, FakeGenerator, FakeLearner, MemoryTracker]:
    changes = {f"evaluate__{name}": value for name, value in evaluate.items()}
    recipe: Recipe = make_recipe(train__num_steps=num_steps, **changes)
    generator, learner, tracker = FakeGenerator(answer), FakeLearner(), MemoryTracker()
    judge = FakeJudge()
    evaluator = HeldoutEvaluator(
        HeldoutPlan(recipe.name, recipe.evaluate, num_steps, pairs_benchmark("heldout", PAIRS, {})),
        RunFolder(root),
        evaluation_sampler(recipe, make_prompt, generator, judge),
        live_source(recipe, generator, judge, lambda step, sampling_round=0: []),
        learner,
        [tracker],
    )
    return evaluator, generator, learner, tracker


def evaluate(evaluator: HeldoutEvaluator, step: int) -> Evaluation:
    asyncio.run(evaluator.evaluate(WeightsHandle(step, (), ())))
    found = read_run_evaluation(evaluator.folder, step)
    assert found is not None
    return found


def right_on(*numbers: int) -> Callable[[RolloutRequest], str]:
    """Right on these questions, in both orders."""

    def answer(request: RolloutRequest) -> str:
        number = int(request.prompt.pair.question.split()[1])
        return (right_answer if number in numbers else wrong_answer)(request)

    return answer


@pytest.mark.parametrize(("every", "due"), [(0, [0, 5]), (2, [0, 2, 4, 5]), (5, [0, 5])])
def test_due_before_and_after_and_at_the_interval(
    every: int, due: list[int], tmp_path: Path
) -> None:
    evaluator, *_ = held_out(tmp_path, num_steps=5, every=every)
    assert [step for step in range(6) if evaluator.due(step)] == due


def test_an_evaluation_writes_its_answers_and_result_and_the_rows_once(tmp_path: Path) -> None:
    evaluator, generator, _, _ = held_out(tmp_path, right_on(0, 1, 2))
    found = evaluate(evaluator, 2)
    evaluate(evaluator, 4)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "eval/pairs.parquet",
        "eval/step-000002/answers.jsonl",
        "eval/step-000002/result.json",
        "eval/step-000004/answers.jsonl",
        "eval/step-000004/result.json",
    ]
    assert generator.version == 4
    assert set(generator.versions_used) == {2, 4}
    assert len(generator.asked) == 2 * 2 * 4
    assert found.accuracy.value == 0.75
    assert found.conditions.model == "test after step 2"
    assert found.conditions.num_rows == 4
    assert found.conditions.temperature == 1.0
    answers = read_answers(tmp_path / "eval" / "step-000002" / "answers.jsonl")
    assert {answer.item for answer in answers} == {pair.pair_id for pair in PAIRS}
    shown = read_shown_pairs(tmp_path / "eval" / "pairs.parquet")
    assert [row.key for row in shown] == [pair.pair_id for pair in PAIRS]


def test_an_evaluation_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    first, *_ = held_out(tmp_path)
    found = evaluate(first, 2)
    again, generator, learner, tracker = held_out(tmp_path, wrong_answer, keep_best="accuracy")
    assert evaluate(again, 2) == found
    assert generator.versions_used == []
    assert tracker.evaluations == []
    assert not (tmp_path / "best").exists()
    assert learner.published == []


def test_a_killed_evaluation_goes_on(tmp_path: Path) -> None:
    dying, generator, _, tracker = held_out(tmp_path)
    generator.fails_after = 3
    with pytest.raises(ExceptionGroup):
        evaluate(dying, 2)
    assert not (tmp_path / "eval" / "step-000002" / "result.json").exists()
    assert tracker.evaluations == []
    kept = len(read_answers(tmp_path / "eval" / "step-000002" / "answers.jsonl"))
    resumed, generator, _, _ = held_out(tmp_path)
    assert evaluate(resumed, 2).accuracy.value == 1.0
    assert len(generator.asked) == 8 - kept


def test_trackers_get_the_numbers(tmp_path: Path) -> None:
    """Question 3 wrong: 3 of 4. Slot 1 half of the time, as every row is asked in both orders."""
    evaluator, _, _, tracker = held_out(tmp_path, right_on(0, 1, 2))
    evaluate(evaluator, 2)
    numbers = {
        "eval/accuracy": 0.75,
        "eval/both_right": 0.75,
        "eval/slot_1_rate": 0.5,
        "eval/flip_rate": 0.0,
        "eval/unparsed_share": 0.0,
        "eval/consistency": 1.0,
    }
    assert tracker.evaluations == [StepReport(2, numbers)]


def test_the_vote_is_tracked_where_there_is_one(tmp_path: Path) -> None:
    evaluator, _, _, tracker = held_out(tmp_path, right_on(0, 1, 2), samples=3)
    evaluate(evaluator, 2)
    assert tracker.evaluations[0].metrics["eval/voted"] == 0.75


def best(root: Path) -> tuple[int, float]:
    record = json.loads((root / "best" / "best.json").read_text())
    return record["step"], float((root / "best" / "level").read_text())


@pytest.mark.parametrize("metric", ["accuracy", "voted", "both_right"])
def test_the_best_model_is_kept_and_the_first_of_equals(metric: str, tmp_path: Path) -> None:
    """Right on 2, 3, 3 and 1 questions: the model of step 2 stays, with its weights."""
    evaluator, generator, learner, _ = held_out(tmp_path, keep_best=metric, samples=3)
    kept = []
    for step, numbers in enumerate([(0, 1), (0, 1, 2), (1, 2, 3), (3,)], start=1):
        generator.answer, learner.level = right_on(*numbers), float(step)
        evaluate(evaluator, step)
        kept.append(best(tmp_path))
    assert kept == [(1, 1.0), (2, 2.0), (2, 2.0), (2, 2.0)]
    record = json.loads((tmp_path / "best" / "best.json").read_text())
    assert record == {"step": 2, "metric": metric, "value": 0.75}
    assert read_model_settings(tmp_path / "best")["model"]["max_prompt_tokens"] == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "eval"]


def test_what_is_best_is_the_metric_that_is_named(tmp_path: Path) -> None:
    """Always 1 has 50 % of samples right and no row in both orders; one row right has 25 %."""
    evaluator, generator, _, _ = held_out(tmp_path, keep_best="both_right")
    generator.answer = lambda request: "<think>So.</think><answer>1</answer>"
    evaluate(evaluator, 1)
    assert best(tmp_path)[0] == 1
    generator.answer = right_on(0)
    evaluate(evaluator, 2)
    assert best(tmp_path)[0] == 2


def test_without_keep_best_nothing_is_exported(tmp_path: Path) -> None:
    evaluator, *_ = held_out(tmp_path)
    evaluate(evaluator, 2)
    assert not (tmp_path / "best").exists()


def test_a_model_that_could_not_be_kept_is_kept_on_resume(tmp_path: Path) -> None:
    """Regression: the result was written first, so the evaluation counted as done without a model."""
    evaluator, _, learner, tracker = held_out(tmp_path, keep_best="accuracy")
    learner.fails_at_export = True
    with pytest.raises(OSError, match="the disk is full"):
        evaluate(evaluator, 2)
    assert tracker.evaluations == []
    resumed, generator, _, tracker = held_out(tmp_path, keep_best="accuracy")
    evaluate(resumed, 2)
    assert best(tmp_path)[0] == 2
    assert generator.asked == []
    assert len(tracker.evaluations) == 1


def test_a_kill_between_two_renames_does_not_lose_the_best_model(tmp_path: Path) -> None:
    """Regression: the next evaluation, however bad, took the place of the model set aside."""
    evaluator, generator, _, _ = held_out(tmp_path, keep_best="accuracy")
    evaluate(evaluator, 2)
    (tmp_path / "best").rename(tmp_path / ".best.old")
    generator.answer = right_on(0)
    evaluate(evaluator, 4)
    assert best(tmp_path)[0] == 2
    assert not (tmp_path / ".best.old").exists()


def test_leftovers_of_a_kill_are_in_nobodys_way(tmp_path: Path) -> None:
    evaluator, generator, _, _ = held_out(tmp_path, right_on(0), keep_best="accuracy")
    evaluate(evaluator, 2)
    for name in (".best.partial", ".best.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("")
    generator.answer = right_answer
    evaluate(evaluator, 4)
    assert best(tmp_path)[0] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "eval"]
    assert not (tmp_path / "best" / "half").exists()


def test_image_off_asks_again_with_grey_images_and_tells_the_drop(tmp_path: Path) -> None:
    """Right everywhere, with grey images on questions 0 and 1 only: half is lost."""
    evaluator, generator, _, _ = held_out(tmp_path, image_off=True)
    benchmark = pairs_benchmark(
        "heldout", [replace(pair, images=(PICTURE + b"\0",)) for pair in PAIRS], {}
    )

    def answer(request: RolloutRequest) -> str:
        sees = request.prompt.pair.images != (PICTURE,)
        return (right_answer if sees else right_on(0, 1))(request)

    generator.answer = answer
    found = evaluate(replace(evaluator, plan=replace(evaluator.plan, benchmark=benchmark)), 2)
    assert found.accuracy.value == 1.0
    assert found.image_off_drop is not None
    assert found.image_off_drop.value == 0.5
    assert len(generator.asked) == 16
    blind = read_answers(tmp_path / "eval" / "step-000002" / "answers_image_off.jsonl")
    assert len(blind) == 8
