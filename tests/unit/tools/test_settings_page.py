"""docs/settings.md is what the recipe's fields say, and every field says something."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from r1reward.recipe.recipe import EvalRecipe, Recipe, SftRecipe
from r1reward.recipe.sections import Section
from tools.settings_page import PAGE, Tables, page


def undescribed(recipe: type[Section]) -> Iterator[str]:
    """Fields without a description. A section that stands in a field alone describes the field."""
    schema = recipe.model_json_schema()
    sections = schema.pop("$defs", {}) | {recipe.__name__: schema}
    sections.pop("JsonValue", None)  # what any JSON is
    for name, section in sections.items():
        if not section.get("description"):
            yield f"{name} has no docstring"
        for field, of_field in section["properties"].items():
            options = of_field.get("anyOf", [of_field])
            is_section = any("$ref" in option for option in options)
            if not (is_section or of_field.get("description", "").endswith(".")):
                yield f"{name}.{field} has no description that ends with a full stop"


def test_the_page_is_made_from_the_fields() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


@pytest.mark.parametrize("recipe", [Recipe, EvalRecipe, SftRecipe])
def test_every_field_and_section_is_described(recipe: type[Section]) -> None:
    assert list(undescribed(recipe)) == []


class Rule(Section):
    """By a rule."""

    type: Literal["rule"]
    """A rule."""


class Model(Section):
    """By a model."""

    path: str = "policy"
    """Where it is."""

    type: Literal["model"]
    """A model."""


class Inner(Section):
    size: Annotated[int, Field(ge=1)] | None = 4
    """Size in MB; None: no limit."""


class Outer(Section):
    """Something."""

    share: float = Field(default=0.5, ge=0, le=1)
    """A share."""

    inner: Inner = Inner(size=8)
    judge: Annotated[Rule | Model, Field(discriminator="type")]
    """Who judges."""

    many: tuple[Inner, ...]
    silent: int


def test_a_field_without_description_is_seen() -> None:
    assert list(undescribed(Outer)) == [
        "Inner has no docstring",
        "Outer.many has no description that ends with a full stop",
        "Outer.silent has no description that ends with a full stop",
    ]


def test_types_bounds_defaults_and_sections_are_in_words() -> None:
    schema: dict[str, Any] = Outer.model_json_schema()
    text = "\n".join(Tables(schema["$defs"], "").of("", schema, {}))
    for line in (
        "| `share` | number from 0 to 1 | `0.5` | A share. |",
        "| `inner.size` | whole number, at least 1, or None | `8` | Size in MB; None: no limit. |",
        "| `judge` | section [judge: type model](#judge-type-model) or "
        "[judge: type rule](#judge-type-rule) | required | Who judges. |",
        "### judge: type rule",
        "| `judge.path` | text | `policy` | Where it is. |",
        "### many, each",
        "| `many.size` | whole number, at least 1, or None | `4` | Size in MB; None: no limit. |",
    ):
        assert line in text.splitlines()
