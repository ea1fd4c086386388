"""The pictures of the report are those that models saw."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from r1reward.data.images import decode_image
from r1reward.evaluation.shown_pairs import thumbnail
from tests.image_files import encoded, noise

CASES = Path(__file__).parents[2] / "cases"


@pytest.mark.parametrize(
    "name", ["exif6.jpg", "rgba_black_on_transparent.png", "i32.tif", "a.bmp", "mpo.jpg"]
)
def test_a_thumbnail_shows_what_models_saw(name: str) -> None:
    file = (CASES / name).read_bytes()
    with Image.open(io.BytesIO(thumbnail(file))) as image:
        shown = np.asarray(image.convert("RGB")).astype(int)
        assert image.format == "JPEG"
    seen = np.asarray(decode_image(file))
    assert shown.shape == seen.shape
    assert np.abs(shown - seen).mean() < 8


def test_a_small_plain_picture_is_its_own_thumbnail() -> None:
    for kind in ("PNG", "JPEG"):
        file = encoded(noise("RGB", 200, 30), kind)
        assert thumbnail(file) == file
    assert thumbnail(encoded(noise("RGB", 300, 30))) != encoded(noise("RGB", 300, 30))
