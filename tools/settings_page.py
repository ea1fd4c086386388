"""Writes docs/settings.md: every setting of a recipe, from the pydantic models and their descriptions.

Run by ``make docs``; a test fails when the page is not what this prints.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1reward.recipe.recipe import EvalRecipe, Recipe
from r1reward.recipe.sections import Section

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
INTRODUCTION = """\
# Settings

Every setting of a recipe under its dotted name, as it stands in a recipe file (`learner: {lr: 6e-5}`)
or on the command line (`learner.lr=6e-5`). None is written `null`. A section that has a type takes the
settings of that type only. Which settings need each other is checked when a recipe is read; try
`r1reward recipe validate recipes/local.yaml`.

`make docs` makes this page from the descriptions under the fields in `r1reward/recipe/`.
"""
# Title, what its sections' headings end with, and model. A recipe shows only what those before did not.
RECIPES: Sequence[tuple[str, str, type[Section]]] = (
    ("A recipe of training, or of a pipeline", "", Recipe),
    ("A recipe of one evaluation", " of an evaluation", EvalRecipe),
)
Schema = Mapping[str, Any]
REQUIRED = object()
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minItems": "at least {} of them",
    "pattern": "matching `{}`",
}
TYPES = {
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "string": "text",
    "null": "None",
}


@dataclass(frozen=True)
class Subsection:
    """A section that a field may hold: its heading, its JSON schema, and how its settings begin."""

    title: str
    schema: Schema
    prefix: str


@dataclass(frozen=True)
class Tables:
    """Makes the tables of one recipe. ``sections`` are its sections' JSON schemas by name."""

    sections: Schema
    ending: str

    def of(self, prefix: str, section: Schema, defaults: Schema) -> Iterator[str]:
        """Yields the table of a section, then those of the sections inside it.

        ``defaults`` are the values that the section around it gives it instead of its own.
        """
        rows = ["| setting | type | default | what it is |", "|---|---|---|---|"]
        inner: list[str] = []
        # A section's type stands first, as in a recipe file.
        for name, field in sorted(
            section["properties"].items(), key=lambda item: item[0] != "type"
        ):
            default = defaults.get(name, field.get("default", REQUIRED))
            below = list(self.subsections(prefix + name, field))
            rows.append(row(prefix + name, field, default, below))
            for sub in below:
                inner += [f"### {sub.title}\n", markdown(sub.schema.get("description"))]
                inner += self.of(
                    sub.prefix, sub.schema, default if isinstance(default, dict) else {}
                )
        yield "\n".join(rows) + "\n"
        yield from inner

    def subsections(self, dotted: str, field: Schema, kind: str = "") -> Iterator[Subsection]:
        if "items" in field:
            yield from self.subsections(dotted, field["items"], ", each")
        elif "discriminator" in field:
            for chosen, reference in field["discriminator"]["mapping"].items():
                yield from self.subsections(dotted, {"$ref": reference}, f": type {chosen}")
        elif "$ref" in field:
            schema = self.sections[field["$ref"].rpartition("/")[2]]
            yield Subsection(f"{dotted}{self.ending}{kind}", schema, f"{dotted}.")
        for option in field.get("anyOf", ()):
            yield from self.subsections(dotted, option)


def page() -> str:
    """Returns the text of docs/settings.md."""
    texts = [INTRODUCTION]
    shown: dict[str, object] = {}
    for title, ending, recipe in RECIPES:
        schema = recipe.model_json_schema()
        new = {n: field for n, field in schema["properties"].items() if shown.get(n) != field}
        shown |= new
        texts += [f"## {title}\n", markdown(recipe.__doc__)]
        texts += Tables(schema.get("$defs", {}), ending).of("", {"properties": new}, {})
    return "\n".join(texts)


def row(dotted: str, field: Schema, default: object, below: Sequence[Subsection]) -> str:
    """One line of a table; a section without words of its own has those of its docstring."""
    text: str = field.get("description", "")
    if below:
        links = [f"[{sub.title}](#{anchor(sub.title)})" for sub in below]
        kind = "section " + listed([*links, "None"] if default is None else links)
        text = text or markdown(below[0].schema.get("description")).partition("\n\n")[0]
    else:
        kind = type_in_words(field)
    cells = (f"`{dotted}`", kind, default_in_words(default, bool(below)), " ".join(text.split()))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def anchor(title: str) -> str:
    """The anchor that code hosts give to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def markdown(docstring: str | None) -> str:
    lines = [line.strip() for line in (docstring or "").strip().splitlines()]
    return "\n".join(lines).replace("``", "`") + "\n"


def type_in_words(field: Schema) -> str:
    """Type, choices and bounds of a value that is not a section."""
    if "anyOf" in field:
        return listed([type_in_words(option) for option in field["anyOf"]])
    if field.get("$ref", "").endswith("/JsonValue"):
        return "any JSON"
    if "const" in field or "enum" in field:
        return listed([f"`{choice}`" for choice in field.get("enum", [field.get("const")])])
    if {"minimum", "maximum"} <= field.keys():
        return f"{TYPES[field['type']]} from {field['minimum']:g} to {field['maximum']:g}"
    if field["type"] == "array":
        words = f"list of {type_in_words(field['items'])}"
    elif field["type"] == "object":
        words = f"mapping of names to {type_in_words(field['additionalProperties'])}"
    else:
        words = "path" if field.get("format") == "path" else TYPES[field["type"]]
    bounds = [text.format(field[bound]) for bound, text in BOUNDS.items() if bound in field]
    return ", ".join([words, *bounds])


def listed(choices: Sequence[str]) -> str:
    """Returns "a, b or c"; where a choice has a comma itself, "a, at least 1, or b"."""
    *before, last = choices
    comma = "," if any("," in choice for choice in before) else ""
    return f"{', '.join(before)}{comma} or {last}" if before else last


def default_in_words(default: object, is_section: bool) -> str:
    if default is REQUIRED:
        return "required"
    if default is None:
        return "None"
    if is_section:
        chosen = default.get("type") if isinstance(default, dict) else None
        return f"type `{chosen}`" if chosen else "as below"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
