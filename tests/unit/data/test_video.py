"""Folders of frames: order, spacing, size, and what is refused."""

import io
from pathlib import Path

import pytest
from PIL import Image

from r1reward.data.video import (
    FrameRules,
    MediaFolder,
    even_indices,
    frame_files,
    load_frames,
    shrink,
)
from r1reward.errors import DataError


def frame(path: Path, grey: int, size: tuple[int, int] = (2, 2)) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey, grey, grey)).save(path, "PNG")
    return path.read_bytes()


def test_frame_2_comes_before_frame_10_and_other_files_are_no_frames(tmp_path: Path) -> None:
    for name in ("frame10.png", "frame2.png", "frame1.PNG", "a_3.png", "a_3_1.png"):
        frame(tmp_path / name, 0)
    (tmp_path / "notes.txt").write_text("no frame")
    (tmp_path / "._frame1.png").write_bytes(b"no frame either")
    names = [path.name for path in frame_files(tmp_path)]
    assert names == ["a_3.png", "a_3_1.png", "frame1.PNG", "frame2.png", "frame10.png"]


def test_numbers_alone_sort_as_numbers(tmp_path: Path) -> None:
    for name in ("10.png", "9.png", "0100.png", "x.png"):
        frame(tmp_path / name, 0)
    assert [path.name for path in frame_files(tmp_path)] == ["9.png", "10.png", "0100.png", "x.png"]


@pytest.mark.parametrize(
    ("num_available", "num_wanted", "expected"),
    [
        (9, 3, [0, 4, 8]),
        (10, 4, [0, 3, 6, 9]),
        (10, 3, [0, 4, 9]),  # 4.5 is cut, as the benchmark's script does
        (3, 32, [0, 1, 2]),
        (1, 5, [0]),
        (5, 1, [0]),
        (5, 5, [0, 1, 2, 3, 4]),
    ],
)
def test_even_spacing(num_available: int, num_wanted: int, expected: list[int]) -> None:
    assert even_indices(num_available, num_wanted) == expected


def test_frames_are_read_in_order_and_small_ones_stay_as_they_are(tmp_path: Path) -> None:
    encoded = [frame(tmp_path / "clip" / f"f{number}.png", 20 * number) for number in range(11)]
    read = load_frames("clip", "row 1", MediaFolder(tmp_path, FrameRules(3, 4)))
    assert read == (encoded[0], encoded[5], encoded[10])


def test_a_large_frame_keeps_its_shape_and_its_grey(tmp_path: Path) -> None:
    frame(tmp_path / "clip" / "f.png", 90, (400, 200))
    (encoded,) = load_frames("clip", "row 1", MediaFolder(tmp_path, FrameRules(32, 20_000)))
    image = Image.open(io.BytesIO(encoded))
    assert (image.format, image.size) == ("JPEG", (200, 100))
    assert image.getpixel((100, 50)) == (90, 90, 90)


@pytest.mark.parametrize("size", [(5000, 1), (1, 5000), (333, 77), (1001, 999)])
def test_no_frame_is_above_the_bound(size: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    image = Image.open(io.BytesIO(shrink(buffer.getvalue(), 1000)))
    assert image.width * image.height <= 1000
    assert min(image.size) >= 1


@pytest.mark.slow
def test_default_sized_frames_fit_a_prompt_many_times_over(tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    Image.effect_noise((1920, 1080), 80).convert("RGB").save(tmp_path / "noise" / "0.png")
    (encoded,) = load_frames("noise", "row 1", MediaFolder(tmp_path, FrameRules(32, 128 * 28 * 28)))
    assert len(encoded) < 200_000  # noise is the worst case for JPEG


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ("absent", "row 7: video .*absent is not a folder of frames"),
        ("file.png", "row 7: video .*file.png is not a folder of frames"),
        ("empty", "row 7: video .*empty holds no frames"),
        ("..", "row 7: video .. lies outside"),
        ("bad", "row 7: image .*0.png is not a readable image"),
        ("leads_out", "row 7: image .*0.png is a link to .*secret.png, which lies outside"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, item: str, sentence: str) -> None:
    root = tmp_path / "media"
    frame(root / "file.png", 0)
    (root / "empty").mkdir()
    (root / "empty" / "readme.txt").write_text("nothing here")
    (root / "bad").mkdir()
    (root / "bad" / "0.png").write_bytes(b"not an image")
    frame(tmp_path / "secret.png", 0)
    (root / "leads_out").mkdir()
    (root / "leads_out" / "0.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match=sentence):
        load_frames(item, "row 7", MediaFolder(root, FrameRules(32, 1000)))
