"""Settings of earlier versions under their names of today: one table, for everything that is read.

A setting that is renamed gets a line in ``MOVED``, one that is gone a line in ``GONE``; recipes, run
folders and model folders written before are then read as if they had the new one, or none.
"""

from collections.abc import Callable, Mapping
from typing import Any

# Version 0.1 counted pixels and knew one family of models, in which a token is 28 x 28 of them.
TOKEN_PIXELS = 28 * 28


# Section and old name; the new name there, and the new value from the old one. Bounds are rounded
# outwards: no image is refused a size that it had.
MOVED: Mapping[tuple[str, str], tuple[str, Callable[[int], int]]] = {
    ("model", "min_pixels"): ("min_image_tokens", lambda pixels: max(1, pixels // TOKEN_PIXELS)),
    ("model", "max_pixels"): ("max_image_tokens", lambda pixels: -(-pixels // TOKEN_PIXELS)),
}

# Section and name; why it is needed no more.
GONE = {
    (section, "bootstrap_samples"): "intervals are computed, not drawn any more"
    for section in ("evaluate", "final")
}


def without(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != name}


def with_new_names(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Nested settings with new names, and one sentence for each setting that has moved or is gone.

    A setting that stands there under both names, or whose value is no number, is left for the recipe's
    own checks to refuse.
    """
    renamed, sentences = dict(settings), []
    for (section, old), (name, convert) in MOVED.items():
        values = renamed.get(section)
        if (
            not isinstance(values, Mapping)
            or name in values
            or not isinstance(values.get(old), int)
        ):
            continue
        rest = dict(values)
        value = rest.pop(old)
        renamed[section] = rest | {name: convert(value)}
        sentences.append(
            f"{section}.{old} is now {section}.{name}: {value} is read as {convert(value)}"
        )
    for (section, name), reason in GONE.items():
        values = renamed.get(section)
        if isinstance(values, Mapping) and name in values:
            rest = without(values, name)
            # An empty section would stand for all of its defaults.
            renamed = {**renamed, section: rest} if rest else without(renamed, section)
            sentences.append(f"{section}.{name} is gone: {reason}")
    return renamed, sentences
