"""Settings of version 0.1 are read under their names of today."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from r1reward.errors import RecipeError
from r1reward.recipe.diff import recipe_changes, setting_changes
from r1reward.recipe.files import dump_recipe, load_recipe
from r1reward.recipe.model_settings import FILE_NAME, read_model_settings

LOCAL = Path(__file__).parents[3] / "recipes" / "local.yaml"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The local recipe as version 0.1 wrote it."""
    settings = yaml.safe_load(LOCAL.read_text())
    for name in ("min_image_tokens", "max_image_tokens"):
        del settings["model"][name]
    settings["model"] |= {"min_pixels": 12000, "max_pixels": 13000}
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_a_recipe_of_0_1_is_read_and_the_log_says_how(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_recipe(old) == load_recipe(LOCAL)
    assert [record.message for record in caplog.records] == [
        f"{old}: model.min_pixels is now model.min_image_tokens: 12000 is read as 15",
        f"{old}: model.max_pixels is now model.max_image_tokens: 13000 is read as 17",
    ]


@pytest.mark.parametrize(
    ("pixels", "tokens"), [(501760, 640), (501759, 640), (501761, 641), (784, 1), (100, 1)]
)
def test_an_override_of_0_1_is_read_too(pixels: int, tokens: int) -> None:
    recipe = load_recipe(LOCAL, ["model.min_image_tokens=1", f"model.max_pixels={pixels}"])
    assert recipe.model.max_image_tokens == tokens
    recipe = load_recipe(LOCAL, ["model.max_image_tokens=9999", f"model.min_pixels={pixels}"])
    assert recipe.model.min_image_tokens == max(1, pixels // 784)


def test_an_old_name_overrides_a_base_with_the_new_one(tmp_path: Path) -> None:
    child = tmp_path / "child.yaml"
    child.write_text(yaml.safe_dump({"base": str(LOCAL), "model": {"max_pixels": 501760}}))
    assert load_recipe(child).model.max_image_tokens == 640


def test_a_setting_that_is_gone_is_left_out_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    child = tmp_path / "child.yaml"
    settings = {"base": str(LOCAL), "evaluate": {"bootstrap_samples": 400, "samples": 4}}
    child.write_text(yaml.safe_dump(settings))
    recipe = load_recipe(child)
    assert recipe.evaluate.samples == 4
    assert [record.message for record in caplog.records] == [
        f"{child}: evaluate.bootstrap_samples is gone: intervals are computed, not drawn any more"
    ]
    # As an override it leaves the rest of its section alone.
    assert load_recipe(child, ["evaluate.bootstrap_samples=10"]) == recipe


def test_a_folder_of_a_run_that_knew_it_is_the_same_runs(tmp_path: Path) -> None:
    recipe = load_recipe(LOCAL)
    kept = yaml.safe_load(dump_recipe(recipe))
    kept["evaluate"]["bootstrap_samples"] = 10_000
    assert recipe_changes(yaml.safe_dump(kept), recipe) == []
    # A stage's record holds settings by dotted names, as they were then.
    for section in ("evaluate", "final"):
        assert setting_changes({f"{section}.bootstrap_samples": 10_000}, {}) == {}


def test_both_names_at_once_and_no_number_are_refused(tmp_path: Path) -> None:
    child = tmp_path / "child.yaml"
    settings = {"base": str(LOCAL), "model": {"max_pixels": 501760, "max_image_tokens": 640}}
    child.write_text(yaml.safe_dump(settings))
    with pytest.raises(RecipeError, match=r"model\.max_pixels: unknown key"):
        load_recipe(child)
    with pytest.raises(RecipeError, match=r"model\.max_pixels: unknown key"):
        load_recipe(LOCAL, ["model.max_pixels=many"])


def test_a_run_folder_of_0_1_is_that_of_the_same_recipe(old: Path) -> None:
    recipe = load_recipe(LOCAL)
    kept = yaml.safe_load(dump_recipe(recipe))
    kept["model"] = yaml.safe_load(old.read_text())["model"]
    assert recipe_changes(yaml.safe_dump(kept), recipe) == []
    assert recipe_changes("", recipe) != []


def test_a_model_folder_of_0_1_is_read_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_text(
        "model: {dtype: bfloat16, min_pixels: 3136, max_pixels: 501760}"
    )
    assert read_model_settings(tmp_path) == {
        "model": {"dtype": "bfloat16", "min_image_tokens": 4, "max_image_tokens": 640}
    }
    assert caplog.records == []
