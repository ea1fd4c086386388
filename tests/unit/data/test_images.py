"""The decoder: upright, on white, in eight bits; its header reader agrees, and servers get the same."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from r1reward.data.images import TURNS, data_url, decode_image, image_size, servable_kind
from r1reward.data.media import is_animated
from r1reward.errors import DataError
from tests.image_files import (
    KINDS,
    TURNED_KINDS,
    chunk,
    encoded,
    noise,
    orientation,
    png,
    with_late_chunk,
    xmp,
)

CASES = Path(__file__).parents[2] / "cases"
SCENE = noise("RGB", 7, 5)


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(decode_image(file))


def sent(file: bytes) -> tuple[str, bytes]:
    """The kind that a server is told, and the file that it gets."""
    head, _, body = data_url(file).partition(",")
    kind = re.fullmatch("data:image/(.*);base64", head)
    assert kind is not None
    return kind[1], base64.b64decode(body)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file of any kind and mode, of any size, turned or not."""
    kind, mode, options = draw(st.sampled_from(KINDS))
    width, height = draw(st.integers(2, 20)), draw(st.integers(2, 20))
    tag = draw(st.integers(1, 8)) if kind in TURNED_KINDS else 1
    turned = {} if tag == 1 else {"exif": orientation(tag)}
    return encoded(noise(mode, width, height, draw(st.integers(0, 9))), kind, **options, **turned)


@given(files())
def test_the_header_alone_gives_the_size_of_the_decoded_picture(file: bytes) -> None:
    picture = decode_image(file)
    assert picture.mode == "RGB"
    assert image_size(file) == picture.size


@given(files())
def test_a_client_that_knows_no_rules_sees_our_pixels(file: bytes) -> None:
    """No orientation, no transparency: just the pixels of the file that it is sent."""
    kind, content = sent(file)
    with Image.open(io.BytesIO(content)) as image:
        assert kind in ("png", "jpeg", "webp", "gif")
        assert image.format is not None and image.format.lower() == kind
        assert image.convert("RGB").tobytes() == decode_image(file).tobytes()


@pytest.mark.slow  # importing vLLM takes seconds
@given(files())
def test_vllms_own_loader_sees_our_pixels(file: bytes) -> None:
    from vllm.multimodal.media import ImageMediaIO

    kind, content = sent(file)
    body = base64.b64encode(content).decode()
    seen = ImageMediaIO().load_base64(f"image/{kind}", body).media
    assert (seen.size, seen.tobytes()) == (decode_image(file).size, decode_image(file).tobytes())


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_a_turned_picture_stands_upright(kind: str, options: dict[str, object], tag: int) -> None:
    file = encoded(SCENE, kind, exif=orientation(tag), **options)
    expected = SCENE.transpose(TURNS[tag]) if tag in TURNS else SCENE
    assert decode_image(file).tobytes() == expected.tobytes()
    assert image_size(file) == decode_image(file).size == expected.size


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "MPO", "AVIF"])
def test_a_turned_photo_stands_upright(kind: str, tag: int) -> None:
    """Four flat corners of other colours, so that what is lost in encoding does not matter."""
    scene = Image.fromarray(
        np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]], np.uint8)
    ).resize((96, 64), Image.Resampling.NEAREST)
    more = {"save_all": True, "append_images": [Image.new("RGB", (8, 8))]} if kind == "MPO" else {}
    file = encoded(scene, kind, exif=orientation(tag), quality=95, **more)
    expected = scene.transpose(TURNS[tag]) if tag in TURNS else scene
    assert image_size(file) == expected.size
    assert np.abs(pixels(file).astype(int) - np.asarray(expected)).mean() < 4


UPRIGHT = SCENE.transpose(TURNS[6])
EXIF_6 = orientation(6).tobytes()[len(b"Exif\0\0") :]
UNTAGGED_PNG = encoded(SCENE)


@pytest.mark.parametrize(
    "file",
    [
        with_late_chunk(UNTAGGED_PNG, b"eXIf", EXIF_6),
        with_late_chunk(UNTAGGED_PNG, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6)),
        with_late_chunk(
            UNTAGGED_PNG,
            b"tEXt",
            b"Raw profile type exif\0\nexif\n%8d\n%s\n" % (len(EXIF_6), EXIF_6.hex().encode()),
        ),
        with_late_chunk(
            encoded(SCENE, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0"),
            b"iTXt",
            b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6),
        ),
        encoded(SCENE, "WEBP", lossless=True, xmp=xmp(6)),
        encoded(SCENE, "TIFF", tiffinfo={700: xmp(6)}),
    ],
    ids=[
        "exif behind the pixels",
        "xmp of a png",
        "profile of a png",
        "xmp behind exif",
        "xmp of webp",
        "xmp of tiff",
    ],
)
def test_the_tag_is_found_wherever_it_stands(file: bytes) -> None:
    assert image_size(file) == UPRIGHT.size
    assert decode_image(file).tobytes() == UPRIGHT.tobytes()
    assert servable_kind(file) is None


@pytest.mark.parametrize(
    "tag", [b"", b"MM", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x01" * 3]
)
def test_a_damaged_tag_turns_nothing(tag: bytes) -> None:
    file = encoded(SCENE, "PNG", exif=b"Exif\0\0" + tag)
    assert image_size(file) == SCENE.size
    assert decode_image(file).tobytes() == SCENE.tobytes()


# Regression: whoever asks Pillow for the tag decodes, and what then fails does not fail a second time.
def test_a_cut_png_with_a_tag_behind_its_pixels_is_refused() -> None:
    large = with_late_chunk(encoded(noise("RGB", 60, 40)), b"eXIf", EXIF_6)
    pixels_at = large.index(b"IDAT")
    broken = large[: pixels_at + 60] + b"eXIf" + large[pixels_at + 64 :]
    for read in (decode_image, image_size):
        with pytest.raises(DataError, match="not a readable image"):
            read(broken)


def test_the_header_of_a_png_is_read_without_its_pixels() -> None:
    file = encoded(SCENE, exif=orientation(6))
    assert image_size(file[: file.index(b"IDAT") + 4]) == UPRIGHT.size


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Blended in exact arithmetic, then rounded."""
    weight = alpha[..., None].astype(float)
    blended = (colours * weight + 255.0 * (255 - weight)) / 255
    return np.asarray(np.floor(blended + 0.5), np.uint8)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True, "exact": True}),
        ("JPEG2000", {}),
        ("QOI", {}),
    ],
)
def test_an_alpha_channel_lies_on_white(kind: str, options: dict[str, object]) -> None:
    image = noise("RGBA", 16, 16)
    values = np.asarray(image)
    expected = on_white(values[..., :3], values[..., 3])
    assert np.array_equal(pixels(encoded(image, kind, **options)), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_with_alpha_lies_on_white(kind: str) -> None:
    image = noise("LA", 16, 16)
    grey, alpha = np.moveaxis(np.asarray(image), -1, 0)
    expected = on_white(np.repeat(grey[..., None], 3, -1), alpha)
    assert np.array_equal(pixels(encoded(image, kind)), expected)


def test_transparent_entries_of_a_palette_lie_on_white() -> None:
    image = noise("P", 16, 16)
    palette = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
    index, alphas = np.asarray(image), np.arange(256, dtype=np.uint8)
    expected = on_white(palette[index], alphas[index])
    assert np.array_equal(pixels(encoded(image, transparency=bytes(alphas))), expected)
    one = on_white(palette[index], np.where(index == 0, 0, 255))
    assert np.array_equal(pixels(encoded(image, transparency=0)), one)
    assert np.array_equal(pixels(encoded(image, "GIF", transparency=0)), one)


WHITE, BLACK, GREY = (255,) * 3, (0,) * 3, (85,) * 3


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (png(2, 1, 1, 0, b"\0\x40", chunk(b"tRNS", b"\0\0")), [WHITE, WHITE]),
        # Of two bits: samples 1 and 0, transparent is 0.
        (png(2, 1, 2, 0, b"\0\x40", chunk(b"tRNS", b"\0\0")), [GREY, WHITE]),
        (png(2, 1, 2, 0, b"\0\x40", chunk(b"tRNS", b"\0\1")), [WHITE, BLACK]),
        (png(2, 1, 4, 0, b"\0\x50", chunk(b"tRNS", b"\0\5")), [WHITE, BLACK]),
        (png(2, 1, 8, 0, b"\0\x55\0", chunk(b"tRNS", b"\0\0")), [GREY, WHITE]),
        (png(2, 1, 16, 0, b"\0\x55\x01\x55\x02", chunk(b"tRNS", b"\x55\x01")), [WHITE, GREY]),
        (
            png(
                2,
                1,
                8,
                2,
                b"\0" + bytes((9, 8, 7, 85, 85, 85)),
                chunk(b"tRNS", b"\0\x09\0\x08\0\x07"),
            ),
            [WHITE, GREY],
        ),
        (
            png(
                2,
                1,
                16,
                2,
                b"\0" + bytes((9, 1, 8, 2, 7, 3) + (85, 0) * 3),
                chunk(b"tRNS", b"\x09\1\x08\2\x07\3"),
            ),
            [WHITE, GREY],
        ),
        (with_late_chunk(encoded(Image.new("RGB", (2, 1))), b"tRNS", b"\0" * 6), [WHITE, WHITE]),
    ],
    ids=[
        "1 bit",
        "2 bits, black",
        "2 bits, grey",
        "4 bits",
        "8 bits",
        "16 bits",
        "8 bits of colour",
        "16 bits of colour",
        "behind the pixels",
    ],
)
def test_one_transparent_colour_is_white_at_every_depth(
    file: bytes, expected: list[tuple[int, int, int]]
) -> None:
    assert [tuple(pixel) for pixel in pixels(file)[0].tolist()] == expected
    assert servable_kind(file) is None


def grey(values: np.ndarray, kind: str = "TIFF", **options: object) -> list[int]:
    """The grey of the picture's first row."""
    shown = pixels(encoded(Image.fromarray(values), kind, **options))
    assert (shown[..., :1] == shown).all()
    return [int(value) for value in shown[0, :, 0]]


def test_deep_grey_runs_from_its_darkest_to_its_brightest_value() -> None:
    ramp = np.array([[-1000, 0, 1000, 3000]])
    assert grey(ramp.astype(np.int32)) == [0, 64, 128, 255]
    assert grey(ramp.astype(np.float32)) == [0, 64, 128, 255]
    assert grey((ramp / 1e6).astype(np.float32), compression="tiff_lzw") == [0, 64, 128, 255]
    assert grey(np.full((2, 2), 7, np.int32)) == [0, 0]
    assert grey(np.array([[-1.0, 3.0]], np.float32), "PPM") == [0, 255]


def test_deep_grey_of_other_depths_and_directions() -> None:
    sixteen = np.array([[0, 0x0FF0, 0x8000, 0xFFFF]], np.uint16)
    assert grey(sixteen, "PPM") == [0, 0x0F, 0x80, 0xFF]
    assert grey(sixteen, tiffinfo={262: 0}) == [0xFF, 0xF0, 0x7F, 0]  # white is zero
    unsigned = np.array([[0, 2**31, 2**32 - 1]], np.uint32).view(np.int32)
    signed = encoded(Image.fromarray(unsigned), "TIFF")
    tag = b"\x53\x01\x03\0\x01\0\0\0"  # the format of samples, one number
    assert signed.count(tag + b"\x02") == 1
    assert pixels(signed.replace(tag + b"\x02", tag + b"\x01"))[0, :, 0].tolist() == [0, 128, 255]


def test_grey_that_is_no_number_is_refused() -> None:
    for value in (np.nan, np.inf):
        file = encoded(Image.fromarray(np.array([[0, value]], np.float32)), "TIFF")
        with pytest.raises(
            DataError, match="not a readable image: some of its values are infinite"
        ):
            decode_image(file)


def test_the_first_frame_of_an_animation_is_the_picture() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        file = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        red, green, blue = pixels(file)[0, 0].tolist()
        assert red > 240 and green < 15 and blue < 15
        assert servable_kind(file) is None


def test_a_phones_second_picture_is_no_animation() -> None:
    assert not is_animated((CASES / "mpo.jpg").read_bytes())
    frames = {"save_all": True, "append_images": [Image.new("RGB", (7, 5))]}
    assert is_animated(encoded(SCENE, "GIF", **frames))


def test_pictures_that_every_client_reads_alike_travel_as_they_are() -> None:
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        file = encoded(SCENE, kind)
        assert sent(file) == (kind.lower(), file)


@pytest.mark.parametrize("name", ["mpo.jpg", "a.bmp", "i32.tif", "exif6.jpg"])
def test_others_travel_as_png(name: str) -> None:
    file = (CASES / name).read_bytes()
    kind, content = sent(file)
    assert kind == "png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels(file))


def test_pictures_that_went_wrong() -> None:
    assert pixels((CASES / "exif6.jpg").read_bytes()).shape == (120, 80, 3)
    drawing = pixels((CASES / "rgba_black_on_transparent.png").read_bytes())
    assert drawing.min() == 0 and drawing.max() == 255 and drawing.mean() > 127
    assert pixels((CASES / "i32.tif").read_bytes()).std() > 30


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "it has no bytes"),
        (
            b"\0\0\0\x18ftypheic\0\0\0\0",
            "it is HEIC, which is not decoded here; convert it to PNG or JPEG",
        ),
        (
            b"\xff\x0a\xfa\x7f",
            "it is JPEG XL, which is not decoded here; convert it to PNG or JPEG",
        ),
        (b"<!DOCTYPE html>", "it is a web page; fetch the image itself"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "it is a pointer of git-lfs; run git lfs pull",
        ),
        (b"%PDF-1.7", "it is PDF, which is not decoded here; convert it to PNG or JPEG"),
        (b"junk", r"it begins like none of AVIF, BMP, .*, WEBP, or its header is damaged"),
    ],
    ids=["nothing", "heic", "jpeg xl", "html", "git-lfs", "pdf", "junk"],
)
def test_what_is_no_image_is_one_sentence(content: bytes, sentence: str) -> None:
    for read in (decode_image, image_size, data_url):
        with pytest.raises(DataError) as error:
            read(content)
        assert re.fullmatch(f"not a readable image: {sentence}", str(error.value))


@given(files(), st.data())
def test_a_damaged_file_is_a_sentence_without_python_objects(
    file: bytes, data: st.DataObject
) -> None:
    broken = bytearray(file)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    broken = broken[: data.draw(st.integers(0, len(broken)))]
    try:
        assert decode_image(bytes(broken)).size == image_size(bytes(broken))
    except DataError as error:
        assert str(error).startswith("not a readable image: ")
        assert " at 0x" not in str(error)
