"""Settings of earlier versions under their names of today: one table, for everything that is read.

A setting that is renamed gets a line in ``MOVED``; recipes, run folders and model folders written before
are then read as if they had the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# Version 0.1 counted pixels and knew one family of models, in which a token is 28 x 28 of them.
TOKEN_PIXELS = 28 * 28


@dataclass(frozen=True)
class Moved:
    """The new name in the same section, and the new value from the old one."""

    name: str
    convert: Callable[[int], int]


def rounded_down(pixels: int) -> int:
    return max(1, pixels // TOKEN_PIXELS)


def rounded_up(pixels: int) -> int:
    return -(-pixels // TOKEN_PIXELS)


# Old section and name. Bounds are rounded outwards: no image is refused a size that it had.
MOVED = {
    ("model", "min_pixels"): Moved("min_image_tokens", rounded_down),
    ("model", "max_pixels"): Moved("max_image_tokens", rounded_up),
}


def with_new_names(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Nested settings with new names, and one sentence for each setting that has moved.

    A setting that stands there under both names, or whose value is no number, is left for the recipe's
    own checks to refuse.
    """
    renamed, sentences = dict(settings), []
    for (section, old), moved in MOVED.items():
        values = renamed.get(section)
        if not isinstance(values, Mapping) or moved.name in values:
            continue
        value = values.get(old)
        if not isinstance(value, int):
            continue
        new = moved.convert(value)
        rest = {name: other for name, other in values.items() if name != old}
        renamed[section] = rest | {moved.name: new}
        sentences.append(f"{section}.{old} is now {section}.{moved.name}: {value} is read as {new}")
    return renamed, sentences
