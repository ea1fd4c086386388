"""Trackers write what they are given: TensorBoard and W&B (offline) into the run folder."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from r1reward.data.images import decode_image
from r1reward.errors import RecipeError
from r1reward.recipe.files import dump_recipe, load_recipe
from r1reward.recipe.recipe import Recipe
from r1reward.recipe.sections import TrackingSection
from r1reward.runs.trackers import (
    TensorBoardTracker,
    WandbTracker,
    headline,
    image_strip,
    opened_trackers,
    sample_fields,
)
from r1reward.types import (
    PreferencePair,
    Reward,
    RolloutRequest,
    ScoredRollout,
    StepReport,
    Verdict,
)
from tests.fakes import make_prompt, make_rollout
from tests.recipes import tracked_run


def encoded(width: int, height: int, colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, format="PNG")
    return buffer.getvalue()


TRACE = "<think># because\n* two</think><answer>2</answer>"


def scored(*images: bytes) -> ScoredRollout:
    pair = PreferencePair("which?", images, "left", "right", preferred=1)
    request = RolloutRequest(make_prompt(pair, "swapped"), 0, 0)
    return ScoredRollout(
        make_rollout(request, TRACE),
        Verdict("because", 2, True),
        Reward(2.0, 1.0, 1.0, 1.0, "match"),
    )


def test_a_sample_shows_the_slots_as_the_policy_saw_them() -> None:
    assert sample_fields(scored()) == {
        "question": "which?",
        "response 1": "right",
        "response 2": "left",
        "preferred": 2,
        "trace": TRACE,
        "choice": 2,
        "reward": 2.0,
        "result": 1.0,
        "consistency": 1.0,
        "format": 1.0,
        "judge": "match",
    }


def test_images_stand_side_by_side_and_are_bounded() -> None:
    strip = image_strip([encoded(20, 10, "red"), encoded(2048, 1024, "blue")])
    assert strip is not None
    assert strip.size == (20 + 512, 256)
    assert strip.getpixel((0, 0)) == (255, 0, 0)
    assert strip.getpixel((0, 200)) == (255, 255, 255)
    assert strip.getpixel((25, 200)) == (0, 0, 255)
    assert image_strip([]) is None


def test_tensorboard_gets_numbers_and_texts(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = TensorBoardTracker(tmp_path)
    tracker.samples(1, [scored(), scored()])
    tracker.step(StepReport(1, {"reward/total": 0.5}))
    tracker.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (number,) = events.Scalars("reward/total")
    assert (number.step, number.value) == (1, 0.5)
    assert sorted(events.Tags()["tensors"]) == [
        "rollouts/0/text_summary",
        "rollouts/1/text_summary",
    ]
    (text,) = events.Tensors("rollouts/0/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    assert "**trace**\n\n    <think># because\n    * two</think>" in shown


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_API_KEY", "not-a-key-0123456789")
    monkeypatch.setenv("WANDB_DATA_DIR", "")  # so that what the tracker sets is undone
    monkeypatch.delenv("WANDB_DATA_DIR")


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_wandb_keeps_numbers_a_sample_table_and_its_run_id(
    tmp_path: Path, tiny_recipe: Recipe
) -> None:
    images = encoded(30, 20, "red"), encoded(30, 20, "blue")
    for step in (1, 1):  # interrupted after its first step, and resumed
        tracker = WandbTracker(tracked_run(tiny_recipe), "p", tmp_path)
        tracker.samples(step, [scored(*images), scored()])
        tracker.step(StepReport(step, {"reward/total": 0.5}))
        assert tracker.run.summary["reward/total"] == 0.5
        tracker.close()
    run_id = (tmp_path / "wandb_run_id").read_text()
    # W&B names folders by the second; the second one of a second has a number behind the id.
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    files = [path for folder in folders for path in folder.glob("run-*.wandb")]
    assert [path.name for path in files] == [f"run-{run_id}.wandb"] * 2
    assert all(path.stat().st_size for path in files)
    (table, *_) = (folders[-1] / "files" / "media" / "table").rglob("*.table.json")
    content = json.loads(table.read_text())
    assert content["columns"] == ["step", *sample_fields(scored()), "image"]
    first, second = content["data"]
    assert first[:-1] == [1, *sample_fields(scored(*images)).values()]
    assert second[:-1] == [1, *sample_fields(scored()).values()]
    staged = [p.read_bytes() for p in (tmp_path / "wandb" / "artifacts" / "staging").iterdir()]
    pictures = [decode_image(content) for content in staged if content.startswith(b"\x89PNG")]
    assert len(pictures) == 2  # one a run: the second sample has no image
    for picture in pictures:
        assert np.asarray(picture)[0, [0, 30]].tolist() == [[255, 0, 0], [0, 0, 255]]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"not-a-key-0123456789" not in written


@pytest.mark.parametrize(
    "url", ["http://me:secret@host/v1", "http://token@host/v1", "http://host/v1?api_key=secret"]
)
def test_a_judge_address_with_a_secret_is_refused_without_repeating_it(
    tmp_path: Path, tiny_recipe: Recipe, url: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(tiny_recipe))
    judge = ["judge.type=openai", "judge.model=m"]
    assert load_recipe(path, [*judge, "judge.url=http://host:8000/v1"]).judge.type == "openai"
    with pytest.raises(RecipeError, match=r"api_key_env names") as caught:
        load_recipe(path, [*judge, f"judge.url={url}"])
    assert "secret" not in str(caught.value)
    assert "token" not in str(caught.value)


def test_trackers_open_what_the_recipe_asks_for(tmp_path: Path, tiny_recipe: Recipe) -> None:
    tracking = TrackingSection(tensorboard=True)
    console = Console(file=io.StringIO())
    with opened_trackers(tracked_run(tiny_recipe), tracking, tmp_path, console, 0) as trackers:
        for tracker in trackers:
            tracker.samples(1, [scored()])
            tracker.step(StepReport(1, {"reward/total": 0.5}))
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]


def test_terminal_line_shows_what_there_is() -> None:
    metrics = {
        "reward/result": 0.65,
        "reward/total": 1.45,
        "judge/match_share": 0.93,
        "rollout/length_mean": 1024.0,
        "policy/logprob_gap_max": 6e-6,
        "time/step_s": 112.3,
    }
    line = headline(StepReport(943, metrics), 943)
    assert line == (
        "step 943/943  right 0.65  reward 1.45  consistent 0.93  length 1024  gap 6e-06  112.3 s"
    )
    assert headline(StepReport(1, {}), 2) == "step 1/2"
