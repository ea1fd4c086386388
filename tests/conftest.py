"""What several test files share."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from r1reward.recipe.recipe import Recipe
from tests.chat_server import ChatServer, running_chat_server

# Thousands of modules and tests are no garbage, and looking through them again and again takes time.
gc.disable()

# No deadline: a shared machine is slow at times, and no test here is about speed.
settings.register_profile("r1reward", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("r1reward")


TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs an engine, a browser or a GPU is slow."""
    for item in items:
        if item.path.relative_to(TESTS).parts[0] not in ("unit", "loop"):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    gc.enable()


def pytest_unconfigure() -> None:
    """Otherwise libraries take what is frozen for leaks, and list it at the end."""
    gc.unfreeze()


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Recipe:
    """A valid recipe of 4 sequences a step, in a run folder that does not exist yet."""
    return Recipe.model_validate(
        {
            "name": "tiny",
            "run_dir": tmp_path / "run",
            "model": {"path": "shapes", "max_prompt_tokens": 64, "max_new_tokens": 16},
            "data": {"train": {"type": "shapes", "split": "train", "num_pairs": 8}},
            "rollout": {"prompts_per_step": 4},
            "judge": {"type": "rule"},
            "learner": {"train_batch_size": 2, "micro_batch_tokens": 80},
            "train": {"num_steps": 3},
        }
    )


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with running_chat_server() as running:
        yield running
