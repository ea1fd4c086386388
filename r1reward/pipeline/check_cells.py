"""What a check of a model consists of: samples with and without images, and cells with their bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from r1reward.data.images import png_of
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.sections import Dtype, PromptSection
from r1reward.types import PreferencePair, Prompt

# Largest difference of a token's log-probs, in nats, that is rounding and no fault.
BOUNDS: dict[Dtype, float] = {"float32": 2e-5, "bfloat16": 0.2}
# A change of the input that arrives moves some log-prob by more than this many bounds.
ARRIVES = 20
# Widths and heights of each pair's pictures: one, two of different shape, none, and a small one.
PICTURES = (((200, 120),), ((90, 140), (260, 60)), (), ((48, 48),))
# The pair without a picture.
TEXT_ONLY = 2
PAIR = PreferencePair(
    question="What is in the picture?",
    images=(),
    response_1="A red square, as far as I can see.",
    response_2="Many small dots of all colours.",
    preferred=2,
    origin="the check's own pair",
)
PROMPT = PromptSection(template="short")


@dataclass(frozen=True)
class Cell:
    """One measurement: what it found, in nats or as a sentence, and whether that is right."""

    name: str
    found: str
    is_right: bool


def gap(left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
    """Largest difference of any token."""
    return max(float(np.abs(a - b).max()) for a, b in zip(left, right, strict=True))


def equal_cell(name: str, difference: float, bound: float) -> Cell:
    """Two ways to the same log-probs."""
    return Cell(name, f"{difference:.1e}", difference <= bound)


def change_cell(name: str, difference: float, bound: float) -> Cell:
    """An input that must make a difference."""
    return Cell(name, f"{difference:.2g}", difference > ARRIVES * bound)


def measured(name: str, measure: Callable[[], Cell]) -> Cell:
    """The cell; an error while it is measured is a fault, told by its first line."""
    try:
        return measure()
    except Exception as error:
        return failed(name, error)


def failed(name: str, error: BaseException) -> Cell:
    # An error in an actor comes with the traceback of its process; what matters is its cause.
    error = getattr(error, "cause", None) or error
    first_line = (str(error).splitlines() or [""])[0]
    return Cell(name, f"{type(error).__name__}: {first_line[:200]}", False)


def picture(width: int, height: int, seed: int) -> bytes:
    """Coloured noise, so that no two pictures look alike to any model."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return png_of(Image.fromarray(pixels))


def pairs_with_pictures(sees_images: bool, seed: int) -> list[PreferencePair]:
    """Pairs of equal words; other seeds give other pictures of the same sizes."""
    return [
        replace(
            PAIR,
            question=f"{PAIR.question} ({number})",
            images=tuple(
                picture(*size, seed=100 * seed + 10 * number + index)
                for index, size in enumerate(sizes if sees_images else ())
            ),
        )
        for number, sizes in enumerate(PICTURES)
    ]


def prompts_with_pictures(processor: PolicyProcessor, seed: int = 0) -> list[Prompt]:
    """One prompt a pair, in the stored order."""
    pairs = pairs_with_pictures(processor.family.sees_images, seed)
    return [processor.encode(pair, "stored", PROMPT) for pair in pairs]
