"""Selection: by attempts, by recorded difficulty, with limits; what is written loads as pairs."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from r1reward.data.attempts import Attempt, append_attempt
from r1reward.data.stores.store import write_pairs
from r1reward.errors import InputError
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.sampler import EvaluationSampler
from r1reward.pipeline.select import Graded, count_right, draw, select_stage
from r1reward.pipeline.sources import load_pairs
from r1reward.recipe.derive import attempts_file, selected_pairs
from r1reward.recipe.files import build_recipe
from r1reward.recipe.recipe import Recipe
from r1reward.recipe.sections import FileSource
from r1reward.runs.manifest import stage_record
from r1reward.shapes.scene import encode_png
from r1reward.types import PreferencePair, Slot
from tests.fakes import FakeGenerator, make_pair, make_prompt

TEACHER = {"type": "openai", "url": "http://127.0.0.1:9/v1", "model": "t"}
SOURCES = ("alpha", "alpha", "beta")


@pytest.fixture
def pairs() -> list[PreferencePair]:
    """Twelve pairs of two sources, each with a picture of its own."""
    changes = [
        {
            "images": (encode_png(Image.new("RGB", (4, 4), (number, 0, 0))),),
            "source": SOURCES[number % 3],
            "difficulty": number % 4,
        }
        for number in range(12)
    ]
    return [replace(make_pair(number), **change) for number, change in enumerate(changes)]  # type: ignore[arg-type]


def recipe_of(
    tiny_recipe: Recipe, tmp_path: Path, pairs: list[PreferencePair], **select: object
) -> Recipe:
    """A pipeline over these pairs with the section ``select``."""
    file = tmp_path / "pairs.parquet"
    write_pairs(file, pairs)
    settings = tiny_recipe.model_dump(mode="json") | {
        "data": {"train": {"type": "file", "path": str(file)}},
        "annotate": {"teacher": TEACHER},
        "select": {"type": "attempts", **select},
    }
    return build_recipe(Recipe, settings, (), "test")


def annotated(recipe: Recipe, pairs: list[PreferencePair]) -> None:
    """The n-th pair agrees at attempt 1, 2, 3 or never, in turn; the last one was never answered."""
    record = stage_record(recipe, "annotate")
    record.begin({}, {})
    path = attempts_file(recipe)
    for number, pair in enumerate(pairs[:-1]):
        for attempt in range(1, 4):
            agrees = attempt == number % 4 + 1
            append_attempt(path, Attempt(pair.pair_id, attempt, "stored", 1, "t", 1, agrees))
            if agrees:
                break
    record.finish([path.name])


def select(recipe: Recipe) -> list[PreferencePair]:
    assert recipe.select is not None
    asyncio.run(select_stage(recipe, recipe.select, Console(quiet=True)))
    return list(load_pairs(FileSource(type="file", path=selected_pairs(recipe))))


def questions(pairs: list[PreferencePair]) -> list[str]:
    return [pair.question for pair in pairs]


def test_two_attempts_or_more_and_failed_are_the_default(
    tiny_recipe: Recipe, tmp_path: Path, pairs: list[PreferencePair]
) -> None:
    recipe = recipe_of(tiny_recipe, tmp_path, pairs)
    annotated(recipe, pairs)
    chosen = select(recipe)
    hard = [pair for number, pair in enumerate(pairs[:-1]) if number % 4]
    assert questions(chosen) == questions(hard), "in the order of the data"
    assert [pair.difficulty for pair in chosen] == [n % 4 + 1 for n in range(11) if n % 4]
    assert [pair.pair_id for pair in chosen] == [pair.pair_id for pair in hard]
    assert all(pair.images for pair in chosen)


def test_counts_by_level_and_source_are_written(
    tiny_recipe: Recipe, tmp_path: Path, pairs: list[PreferencePair]
) -> None:
    recipe = recipe_of(tiny_recipe, tmp_path, pairs, levels=["failed"])
    annotated(recipe, pairs)
    select(recipe)
    counts = json.loads((selected_pairs(recipe).parent / "counts.json").read_text())
    by_level = Counter[str]()
    chosen = Counter[str]()
    for row in counts:
        by_level[row["level"]] += row["pairs"]
        chosen[row["level"]] += row["selected"]
    assert by_level == {
        "1 attempt": 3,
        "2 attempts": 3,
        "3 attempts": 3,
        "failed": 2,
        "not annotated": 1,
    }
    assert {level: number for level, number in chosen.items() if number} == {"failed": 2}
    assert {row["source"] for row in counts} == {"alpha", "beta"}


def test_recorded_difficulty_needs_no_teacher(
    tiny_recipe: Recipe, tmp_path: Path, pairs: list[PreferencePair]
) -> None:
    recipe = recipe_of(tiny_recipe, tmp_path, pairs)
    settings = recipe.model_dump(mode="json") | {
        "annotate": None,
        "select": {"type": "recorded", "levels": [1, 3]},
    }
    chosen = select(build_recipe(Recipe, settings, (), "test"))
    assert questions(chosen) == questions([pair for pair in pairs if pair.difficulty in (1, 3)])
    assert {pair.difficulty for pair in chosen} == {1, 3}


def test_the_pass_rate_is_of_both_orders(
    tiny_recipe: Recipe,
    tmp_path: Path,
    pairs: list[PreferencePair],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A policy that always answers 1 is right in one order of every pair, which is 2 of 4 samples."""

    @asynccontextmanager
    async def fake_engines(
        build: Callable[..., EvaluationSampler], *_: object
    ) -> AsyncIterator[EvaluationSampler]:
        generator = FakeGenerator(lambda _: "<think>it is red</think><answer>1</answer>")
        yield build(make_prompt, generator, None, lambda _: ())

    monkeypatch.setattr("r1reward.pipeline.select.engine_sampler", fake_engines)
    mixed = [replace(p, preferred=1 if n % 3 else 2) for n, p in enumerate(pairs)]
    recipe = recipe_of(tiny_recipe, tmp_path, mixed)
    settings = recipe.model_dump(mode="json") | {
        "annotate": None,
        "select": {"type": "pass_rate", "samples": 4, "min_rate": 0.4, "max_rate": 0.6},
    }
    recipe = build_recipe(Recipe, settings, (), "test")
    assert questions(select(recipe)) == questions(mixed)
    counts = json.loads((selected_pairs(recipe).parent / "counts.json").read_text())
    assert {row["level"] for row in counts} == {"right 2 of 4"}


def test_a_repeated_pair_is_selected_once(
    tiny_recipe: Recipe, tmp_path: Path, pairs: list[PreferencePair]
) -> None:
    twice = [pairs[1], *pairs]
    recipe = recipe_of(tiny_recipe, tmp_path, twice)
    annotated(recipe, pairs)
    assert len(select(recipe)) == 8


def test_nothing_to_select_is_one_sentence(
    tiny_recipe: Recipe, tmp_path: Path, pairs: list[PreferencePair]
) -> None:
    recipe = recipe_of(tiny_recipe, tmp_path, pairs[:1], levels=[3])
    annotated(recipe, [*pairs[:1], pairs[1]])
    with pytest.raises(InputError, match="no pair qualifies"):
        select(recipe)


def test_selection_by_attempts_wants_complete_annotations(
    tiny_recipe: Recipe, tmp_path: Path, pairs: list[PreferencePair]
) -> None:
    recipe = recipe_of(tiny_recipe, tmp_path, pairs)
    with pytest.raises(InputError, match="`r1reward annotate RECIPE`"):
        select(recipe)


def test_a_selection_that_was_cut_short_is_made_again_alike(
    tiny_recipe: Recipe, tmp_path: Path, pairs: list[PreferencePair]
) -> None:
    recipe = recipe_of(tiny_recipe, tmp_path, pairs)
    annotated(recipe, pairs)
    select(recipe)
    folder = selected_pairs(recipe)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = folder.parent / "stage.json"
    cut = json.loads(manifest.read_text()) | {"outputs": {}}
    manifest.write_text(json.dumps(cut))
    (folder / ".pairs-00000.partial").write_bytes(b"half")
    select(recipe)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def graded(number: int, source: str = "a", qualifies: bool = True) -> Graded:
    return Graded(number, f"id {number}", source, "level", qualifies)


def test_limits_draw_by_seed_and_keep_the_order_of_the_data() -> None:
    items = [graded(number) for number in range(50)]
    drawn = [item.pair_index for item in draw(items, None, 10, seed=1)]
    assert len(drawn) == 10 and drawn == sorted(drawn)
    assert drawn != [item.pair_index for item in draw(items, None, 10, seed=2)]
    # By content: a pair's turn does not depend on what else is there.
    fewer = [item.pair_index for item in draw(items[:40], None, 10, seed=1)]
    assert {place for place in drawn if place < 40} <= set(fewer)


def test_quotas_hold_and_leave_other_sources_out() -> None:
    items = [graded(n, "abc"[n % 3]) for n in range(30)]
    drawn = draw(items, {"a": 3, "b": 20}, None, seed=0)
    assert Counter(item.source for item in drawn) == {"a": 3, "b": 10}


def test_what_does_not_qualify_is_never_drawn() -> None:
    items = [graded(n, qualifies=n % 2 == 0) for n in range(10)]
    assert [item.pair_index for item in draw(items, None, None, seed=0)] == [0, 2, 4, 6, 8]


def test_pass_rates_count_every_answer_and_take_none_for_granted() -> None:
    choices: tuple[Slot | None, ...] = (1, 2, None)
    answers = [Answer("a", "stored", n, 5, choice) for n, choice in enumerate(choices)]
    answers.append(Answer("b", "swapped", 0, 5, 1))
    right, asked = count_right(answers, {"a": 1, "b": 2})
    assert (right, asked) == ({"a": 1, "b": 1}, {"a": 3, "b": 1})
    refused = Answer("b", "stored", 0, 5, None, status="refused", reason="row 2: too thin")
    with pytest.raises(InputError, match="row 2: too thin"):
        count_right([*answers, refused], {"a": 1, "b": 2})
