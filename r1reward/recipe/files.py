"""Recipes in files: YAML with one optional base, dotted overrides, errors as sentences.

A recipe may name one ``base:`` recipe, whose settings it inherits and overrides. An unknown key is
answered with the nearest known one.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import TypeAdapter, ValidationError

from r1reward.errors import RecipeError, as_input_error
from r1reward.recipe.location import working_folder
from r1reward.recipe.moved import with_new_names
from r1reward.recipe.recipe import Recipe, RunRecipe
from r1reward.recipe.sections import Section, nearest

logger = logging.getLogger(__name__)

RecipeKind = TypeVar("RecipeKind", bound=RunRecipe)
SectionKind = TypeVar("SectionKind", bound=Section)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe with its base and apply ``section.key=value`` overrides, last wins.

    Raises ``RecipeError`` naming the file and every setting that is wrong.
    """
    return build_recipe(Recipe, read_settings(Path(path), seen=()), overrides, str(path))


def build_recipe(
    kind: type[RecipeKind], settings: Mapping[str, Any], overrides: Sequence[str], origin: str
) -> RecipeKind:
    """Settings with overrides, validated. Raises ``RecipeError`` that names ``origin``."""
    changed = dict(settings)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise RecipeError(f"{override!r} is not of the form section.key=value")
        with as_input_error(
            f"the value of {override!r} is not valid YAML", yaml.YAMLError, kind=RecipeError
        ):
            setting = nested(key, yaml.safe_load(value))
        changed = merge(changed, renamed(setting, override))
    return validated(kind, changed, origin)


def validated(kind: type[SectionKind], settings: Any, origin: str) -> SectionKind:
    """Returns the checked settings. Raises ``RecipeError``, which begins with ``origin``."""
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        problems = "\n".join(f"  {describe_error(kind, item)}" for item in error.errors())
        raise RecipeError(f"{origin}:\n{problems}") from None


def read_settings(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The settings of a recipe file merged over those of its base."""
    if path.resolve() in seen:
        raise RecipeError(f"{path}: its chain of base recipes comes back to itself")
    if not path.exists():
        raise RecipeError(f"{path}: no such recipe file")
    not_yaml = (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError)
    with as_input_error(f"{path}: not a YAML file", *not_yaml, kind=RecipeError):
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(settings, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of sections, this is not")
    settings = renamed(settings, str(path))
    base = settings.pop("base", None)
    if base is None:
        return settings
    if not isinstance(base, str):
        raise RecipeError(f"{path}: base names one recipe file, not {base!r}")
    return merge(read_settings(path.parent / base, (*seen, path.resolve())), settings)


def renamed(settings: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Settings of an earlier version under today's names; says which ones in the log."""
    settings, sentences = with_new_names(settings)
    for sentence in sentences:
        logger.warning("%s: %s", origin, sentence)
    return settings


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge; a section that changes its ``type``, or an empty one, replaces the base's whole."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            same_type = value.get("type", old.get("type")) == old.get("type")
            merged[key] = merge(old, value) if value and same_type else dict(value)
        else:
            merged[key] = value
    return merged


def nested(key: str, value: object) -> dict[str, Any]:
    """The settings in which a dotted key has this value."""
    name, dot, rest = key.partition(".")
    return {name: nested(rest, value) if dot else value}


def describe_error(root: type[Section], item: Mapping[str, Any]) -> str:
    """One pydantic error as a sentence, with the nearest known key for an unknown one."""
    location = [part for part in item["loc"] if isinstance(part, str)]
    if item["type"] == "extra_forbidden":
        _, section = follow(root, location[:-1])
        hint = nearest(location[-1], sorted(section.model_fields), "known keys")
        return f"{dotted(root, location)}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{dotted(root, location)}: missing, and it has no default"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "value_error":
        return message
    return f"{dotted(root, location)}: {message}, got {item['input']!r}"


def dotted(root: type[Section], location: Sequence[str]) -> str:
    """The setting's name as it is written, without pydantic's union tags."""
    names, _ = follow(root, location)
    return ".".join(names) or "recipe"


def follow(root: type[Section], location: Sequence[str]) -> tuple[list[str], Any]:
    """The settings' names on the way to a pydantic error location, and the type of what is there.

    Where a setting is a union of sections, pydantic puts the tag of the chosen one into the location.
    """
    names: list[str] = []
    section: Any = root
    for part in location:
        tagged = {variant_tag(variant): variant for variant in variants(section)}
        if tagged:
            section = tagged.get(part, object)
            continue
        names.append(part)
        field = getattr(section, "model_fields", {}).get(part)
        section = object if field is None else field.annotation
        if len(alone := variants(section)) == 1:  # Section | None
            section = alone[0]
    return names, section


def variants(annotation: Any) -> list[type[Section]]:
    """The sections in a union, however deep; none for a section itself."""
    sections: list[type[Section]] = []
    for argument in get_args(annotation):
        is_section = isinstance(argument, type) and issubclass(argument, Section)
        sections += [argument] if is_section else variants(argument)
    return sections


def defaults_of(annotation: Any, names: Sequence[str]) -> list[Any]:
    """Returns the defaults of a setting as JSON has them, one for every kind of section that has it."""
    name, *below = names
    kinds = [getattr(kind, "model_fields", {}) for kind in (annotation, *variants(annotation))]
    fields = [kind[name] for kind in kinds if name in kind]
    if below:
        return [default for field in fields for default in defaults_of(field.annotation, below)]
    defaults = [field.get_default(call_default_factory=True) for field in fields]
    return [TypeAdapter(Any).dump_python(default, mode="json") for default in defaults]


def variant_tag(section: type[Section]) -> str:
    return str(get_args(section.model_fields["type"].annotation)[0])


def dump_recipe(recipe: RunRecipe) -> str:
    """The resolved recipe as YAML; ``load_recipe`` reads it back to an equal recipe."""
    settings = recipe.model_dump(mode="json")
    if recipe.run_url is not None and recipe.run_dir == working_folder(recipe.run_url):
        settings["run_dir"] = recipe.run_url  # each machine has a folder of its own for it
    return yaml.safe_dump(settings, sort_keys=False)
