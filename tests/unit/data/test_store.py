"""Pairs in files: what is read back, and what is refused by file and row."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from r1reward.data.images import decode_image
from r1reward.data.stores.store import read_pairs, write_pairs
from r1reward.errors import DataError
from r1reward.pipeline.sources import load_pairs
from r1reward.recipe.sections import FileSource, ShapesSource
from r1reward.types import PreferencePair


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


CASES = Path(__file__).parents[2] / "cases"
RED = encoded(Image.new("RGB", (3, 2), (255, 0, 0)))
ROW: dict[str, object] = {
    "question": "What colour?",
    "images": ["red.png"],
    "response_1": "Red.",
    "response_2": "Blue.",
    "preferred": 1,
}

WriteRows = Callable[..., Path]


@pytest.fixture
def jsonl(tmp_path: Path) -> WriteRows:
    """Write rows, each ``ROW`` with changes, beside an image folder with ``red.png``."""
    (tmp_path / "red.png").write_bytes(RED)

    def write_rows(*rows: dict[str, object]) -> Path:
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join(json.dumps({**ROW, **row}) + "\n" for row in rows))
        return path

    return write_rows


def refused(path: Path, image_root: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read_pairs(path, image_root, None)
    return str(caught.value)


def test_jsonl_rows_become_pairs_with_the_bytes_of_their_images(jsonl: WriteRows) -> None:
    path = jsonl(
        {}, {"images": [], "preferred": 2, "source": "s", "category": "c", "difficulty": 3}
    )
    assert read_pairs(path, None, None) == [
        PreferencePair(
            "What colour?", (RED,), "Red.", "Blue.", preferred=1, origin=f"{path} row 1"
        ),
        PreferencePair(
            "What colour?",
            (),
            "Red.",
            "Blue.",
            preferred=2,
            source="s",
            category="c",
            difficulty=3,
            origin=f"{path} row 2",
        ),
    ]


def test_parquet_round_trip(tmp_path: Path) -> None:
    pairs = [
        PreferencePair("q1", (RED, RED), "a", "b", 1, source="s", category="c", difficulty=2),
        PreferencePair("ü\n{x}", (), "c", "d", 2),
    ]
    path = tmp_path / "pairs.parquet"
    write_pairs(path, pairs)
    read = read_pairs(path, None, None)
    assert [replace(pair, origin="") for pair in read] == pairs
    assert [pair.origin for pair in read] == [f"{path} row 1", f"{path} row 2"]
    assert [pair.pair_id for pair in read] == [pair.pair_id for pair in pairs]


def test_parquet_larger_than_one_batch_keeps_order_and_row_numbers(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    write_pairs(path, [PreferencePair(f"q{i}", (), "a", "b", 1) for i in range(600)])
    read = read_pairs(path, None, None)
    assert [pair.question for pair in read] == [f"q{i}" for i in range(600)]
    assert read[599].origin == f"{path} row 600"


def test_parquet_may_hold_paths_of_images(tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(RED)
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.Table.from_pylist([ROW]), path)
    assert read_pairs(path, None, None)[0].images == (RED,)


def test_limit_takes_the_first_rows_and_does_not_look_at_the_others(jsonl: WriteRows) -> None:
    path = jsonl({}, {"question": "second"}, {"preferred": 9})
    assert [pair.question for pair in read_pairs(path, None, 2)] == ["What colour?", "second"]


def test_images_may_lie_in_their_own_folder(jsonl: WriteRows, tmp_path: Path) -> None:
    (tmp_path / "img" / "sub").mkdir(parents=True)
    (tmp_path / "img" / "sub" / "x.png").write_bytes(RED)
    path = jsonl({"images": ["sub/x.png"]})
    assert read_pairs(path, tmp_path / "img", None)[0].images == (RED,)


@pytest.mark.parametrize("name", ["question", "images", "response_1", "response_2", "preferred"])
def test_a_missing_field_names_file_row_and_field(jsonl: WriteRows, name: str) -> None:
    path = jsonl({}, {name: None})
    assert refused(path) == f"{path} row 2: {name} missing"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": " \n"}, "question is missing or empty; fill it in or remove the row"),
        ({"response_1": ""}, "response_1 is missing or empty; fill it in or remove the row"),
        ({"response_2": 5}, "response_2 is a number (5) where text is due; write it as text"),
        ({"preferred": 0}, "preferred is 0; it must be 1 or 2"),
        ({"preferred": 3}, "preferred is 3; it must be 1 or 2"),
        ({"preferred": "1"}, "preferred is '1'; it must be 1 or 2"),
        ({"preferred": True}, "preferred is True; it must be 1 or 2"),
        ({"preferred": [1]}, "preferred is [1]; it must be 1 or 2"),
        # Regression: 1.0 == 1 passes, and its pair_id is another than that of 1.
        ({"preferred": 1.0}, "preferred is 1.0; it must be 1 or 2"),
        ({"response_2": "Red."}, "the two responses are identical; remove the row"),
        ({"images": 7}, "images is a number (7); an image is bytes, a path, a data URL or base64"),
        ({"images": [{"x": "red.png"}]}, "images is an object of x; it needs bytes, path or url"),
    ],
)
def test_a_row_that_cannot_be_used_names_file_row_and_reason(
    jsonl: WriteRows, change: dict[str, object], message: str
) -> None:
    path = jsonl({}, change)
    assert refused(path) == f"{path} row 2: {message}"


def test_messages_where_text_is_due_are_named_with_what_reads_them() -> None:
    path = CASES / "response_is_list.jsonl"
    assert refused(path) == (
        f"{path} row 1: response_1 is a list of 1 where text is due; `r1reward data import jsonl` (or "
        "parquet) reads messages as they are"
    )


def test_half_a_character_is_named() -> None:
    path = CASES / "lone_surrogate.jsonl"
    assert refused(path) == (
        f"{path} row 1: question holds half a character ('\\ud83d' after 1 others); `r1reward data "
        "import` cleans text, or remove the row"
    )


def test_a_missing_image_names_row_and_path(jsonl: WriteRows, tmp_path: Path) -> None:
    path = jsonl({}, {"images": ["red.png", "gone.png"]})
    assert refused(path) == f"{path} row 2: image {tmp_path / 'gone.png'} is missing"


@pytest.mark.parametrize("content", [b"", b"not an image", RED[:40]])
def test_a_corrupt_image_names_row_and_path(
    jsonl: WriteRows, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    path = jsonl({}, {"images": ["bad.png"]})
    assert refused(path).startswith(
        f"{path} row 2: image {tmp_path / 'bad.png'} is not a readable image: "
    )


def test_a_corrupt_image_inside_parquet_names_its_row(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    good = PreferencePair("q", (RED,), "a", "b", 1)
    write_pairs(path, [good, replace(good, images=(RED, RED[:-30]))])
    assert refused(path).startswith(f"{path} row 2: image in the row is not a readable image: ")


@pytest.mark.parametrize("escape", ["../secret.png", "/etc/hostname", "sub/../../secret.png"])
def test_an_image_outside_its_folder_is_refused_unread(
    jsonl: WriteRows, tmp_path: Path, escape: str
) -> None:
    (tmp_path / "secret.png").write_bytes(RED)
    (tmp_path / "img").mkdir()
    path = jsonl({"images": [escape]})
    root = tmp_path / "img"
    assert refused(path, root) == f"{path} row 1: image {escape} lies outside {root}"


def test_a_link_out_of_the_image_folder_is_refused(jsonl: WriteRows, tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "link.png").symlink_to(tmp_path / "red.png")
    assert "lies outside" in refused(jsonl({"images": ["link.png"]}), tmp_path / "img")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{'question': 1}\n", "not JSON"),
        (b"[1]\n", "not a JSON object"),
        # Regression: the decoding error is raised by the file's iterator, outside of
        # the try, and names neither file nor row.
        (b'{"question": "\xff"}\n', "not"),
    ],
)
def test_a_line_that_is_no_row_names_file_and_row(
    jsonl: WriteRows, line: bytes, message: str
) -> None:
    path = jsonl({})
    path.write_bytes(path.read_bytes() + line)
    assert refused(path).startswith(f"{path} row 2: {message}")


def test_files_that_are_no_data_are_refused(tmp_path: Path) -> None:
    for name, message in (
        ("empty.jsonl", "holds no pairs"),
        ("pairs.csv", "unknown file type '.csv'; use .parquet or .jsonl"),
        ("broken.parquet", "not a Parquet file"),
    ):
        (tmp_path / name).write_bytes(b"")
        assert refused(tmp_path / name).startswith(f"{tmp_path / name}: {message}")
    assert refused(tmp_path / "gone.jsonl") == f"{tmp_path / 'gone.jsonl'}: no such file"


def test_a_parquet_file_without_a_column_names_it(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.Table.from_pylist([{"question": "q", "chosen": "a"}]), path)
    assert refused(path) == (
        f"{path} row 1: images, response_1, response_2, preferred missing; the row has question, chosen: "
        "`r1reward data import` reads other columns"
    )


def test_sources_of_a_recipe(jsonl: WriteRows) -> None:
    path = jsonl({}, {"question": "second"})
    pairs = load_pairs(FileSource(type="file", path=path, num_pairs=1))
    assert [pair.question for pair in pairs] == ["What colour?"]
    shapes = load_pairs(ShapesSource(type="shapes", split="train", num_pairs=4, seed=9))
    assert len(shapes) == 4
    assert all(pair.images for pair in shapes)


def pixel(data: bytes) -> object:
    image = decode_image(data)
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


def test_images_of_every_mode_decode_to_rgb() -> None:
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert pixel(encoded(palette)) == (10, 20, 30)
    assert pixel(encoded(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF")) == (255, 0, 0)
    assert pixel(encoded(Image.new("CMYK", (8, 8), (255, 0, 255, 0)), "JPEG")) == (0, 255, 0)
    assert pixel(encoded(Image.new("L", (2, 2), 77))) == (77, 77, 77)
    assert pixel(encoded(Image.new("LA", (2, 2), (77, 255)))) == (77, 77, 77)
    assert pixel(encoded(Image.new("1", (2, 2), 1))) == (255, 255, 255)
    assert pixel(encoded(Image.new("RGBA", (2, 2), (1, 2, 3, 255)))) == (1, 2, 3)


# Regression: Pillow clips 16-bit grey at 255 when converting, so everything but
# the darkest 0.4 % of the range becomes white; it has to be scaled by 1 / 256 first.
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("grey_16", "grey_8"), [(0, 0), (0x4080, 0x40), (0x8000, 0x80), (0xFFFF, 0xFF)]
)
def test_sixteen_bit_grey_keeps_its_brightness(kind: str, grey_16: int, grey_8: int) -> None:
    data = encoded(Image.fromarray(np.full((2, 2), grey_16, dtype=np.uint16)), kind)
    assert pixel(data) == (grey_8, grey_8, grey_8)


def test_every_cut_of_an_image_is_a_value_error_or_an_image() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        data = encoded(Image.fromarray(noise), kind)
        num_refused = 0
        for length in range(0, len(data), 7):
            try:
                decode_image(data[:length])
            except ValueError as error:
                num_refused += 1
                assert str(error).startswith("not a readable image")
        assert num_refused > 2


# Regression: Pillow raises TypeError for some broken TIFF headers.
def test_a_tiff_with_a_broken_tag_is_a_value_error() -> None:
    data = bytearray(encoded(Image.new("RGB", (12, 12), (1, 2, 3)), "TIFF"))
    strip_offsets = data.index(b"\x11\x01\x04\x00\x01\x00\x00\x00")  # one LONG
    data[strip_offsets + 2] = 2  # now it claims to be text
    with pytest.raises(ValueError, match="not a readable image"):
        decode_image(bytes(data))


# Regression: an offset beyond every file is an OverflowError.
def test_a_tiff_whose_pixels_lie_beyond_every_file_is_a_value_error() -> None:
    data = bytearray(encoded(Image.new("RGB", (12, 12), "white"), "TIFF"))
    strip_offsets = data.index(b"\x11\x01\x04\x00\x01\x00\x00\x00")  # one LONG
    data[strip_offsets + 2] = 16  # now it is 8 bytes elsewhere, of the white pixels
    with pytest.raises(ValueError, match="not a readable image"):
        decode_image(bytes(data))
