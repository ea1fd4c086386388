"""From a source to a store: what is kept, what is dropped and counted, and that nothing crashes it."""

import io
import json
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from r1reward.data.images import decode_image
from r1reward.data.import_report import ImportReport
from r1reward.data.importers.importing import (
    ImportOptions,
    Prepared,
    import_pairs,
    prepare,
)
from r1reward.data.importers.raw_pair import RawPair
from r1reward.data.media import ImageLimits, SideLimits
from r1reward.data.stores.store import iter_pairs, pair_key
from r1reward.data.video import FrameRules
from r1reward.errors import DataError, InputError
from r1reward.shapes.pairs import make_pairs


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


RED = encoded(Image.new("RGB", (3, 2), (255, 0, 0)))
RAW = RawPair("src row 1", "What colour?", "Red.", "Blue.", 1, (RED,), source="s")


def shapes_source(num_pairs: int) -> list[RawPair]:
    """The miniature's pairs, the preferred response first as most sources have it."""
    return [
        RawPair(
            origin=pair.origin,
            question=pair.question,
            response_1=pair.response_1 if pair.preferred == 1 else pair.response_2,
            response_2=pair.response_2 if pair.preferred == 1 else pair.response_1,
            preferred=1,
            images=pair.images,
            source=pair.source,
            category=pair.category,
        )
        for pair in make_pairs("train", num_pairs, seed=0)
    ]


def run(
    source: list[RawPair | DataError], tmp_path: Path, shard_rows: int = 64, **options: object
) -> ImportReport:
    made = ImportOptions(tmp_path, **options)  # type: ignore[arg-type]
    return import_pairs(
        iter(source), tmp_path / "store", made, {"import": "test"}, shard_rows=shard_rows
    )


def outcome(raw: RawPair | DataError, root: Path, **options: object) -> Prepared | DataError:
    return prepare(raw, ImportOptions(root, **options))  # type: ignore[arg-type]


def reason(raw: RawPair | DataError, root: Path, **options: object) -> str:
    made = outcome(raw, root, **options)
    assert isinstance(made, DataError), made
    assert str(made).startswith(raw.origin if isinstance(raw, RawPair) else str(raw))
    return made.reason


def test_preferred_slots_are_balanced_by_a_seeded_swap(tmp_path: Path) -> None:
    source = shapes_source(61)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run([*source], tmp_path / name, seed=seed)
    a, b, c = (list(iter_pairs(tmp_path / name / "store")) for name in "abc")
    assert {pair_key(pair) for pair in a} == {pair_key(p) for p in make_pairs("train", 61, 0)}
    assert [pair.pair_id for pair in a] == [pair.pair_id for pair in b]
    assert [pair_key(pair) for pair in a] == [pair_key(pair) for pair in c]
    for pairs in (a, c):
        num_first = sum(pair.preferred == 1 for pair in pairs)
        assert num_first in (30, 31)
    # Every two rows throw a coin of their own: no pattern to learn, and another seed another one.
    heads = [pair.preferred for pair in a[::2]]
    assert 8 < heads.count(1) < 23
    assert 8 < sum(x.preferred != y.preferred for x, y in zip(a[::2], c[::2], strict=True)) < 23
    assert all(x.preferred != y.preferred for x, y in zip(a[::2], a[1::2], strict=False))


def test_rows_whose_media_are_missing_are_kept_with_their_paths_when_asked(tmp_path: Path) -> None:
    (tmp_path / "there.png").write_bytes(encoded(Image.new("RGB", (20, 20), "red")))
    source: list[RawPair | DataError] = [
        replace(RAW, images=("there.png",)),
        replace(RAW, images=("gone.png",), origin="row 2"),
        replace(RAW, images=("gone too.png",), origin="row 3"),
        replace(RAW, images=("gone.png",), origin="row 4"),
    ]
    report = run(source, tmp_path, embed=False, keep_missing=True)
    assert (report.num_written, report.dropped) == (3, {"duplicate": 1})
    assert report.notes["image missing, kept"] == 2
    missing = [str((tmp_path / name).resolve()) for name in ("gone.png", "gone too.png")]
    assert list(report.missing_files) == missing
    with pytest.raises(DataError, match=r"gone\.png is missing"):
        list(iter_pairs(tmp_path / "store"))
    (tmp_path / "gone.png").write_bytes(encoded(Image.new("RGB", (20, 20), "blue")))
    (tmp_path / "gone too.png").write_bytes(encoded(Image.new("RGB", (20, 20), "green")))
    assert len(list(iter_pairs(tmp_path / "store"))) == 3


def test_every_drop_is_counted_under_its_reason_with_examples(tmp_path: Path) -> None:
    source: list[RawPair | DataError] = [
        RAW,
        replace(RAW, origin="src row 2", preferred=None),
        replace(RAW, origin="src row 3", response_1="Blue.", response_2="Red.", preferred=2),
        DataError("src row 4: winner is 7"),
        replace(RAW, origin="src row 5", images=("gone.png",)),
        replace(RAW, origin="src row 6", images=("gone.png",), question="Another?"),
        replace(RAW, origin="src row 7", response_2="Green."),
    ]
    report = run(source, tmp_path)
    assert report.dropped == {"tie": 1, "duplicate": 1, "broken row": 1, "image missing": 2}
    assert (report.num_read, report.num_written) == (7, 2)
    assert report.examples["tie"] == ["src row 2: neither response is preferred"]
    # Row 3 is row 1 in the other order.
    assert report.examples["duplicate"] == ["src row 3: the same pair came before"]
    assert report.examples["broken row"] == ["src row 4: winner is 7"]
    assert list(report.missing_files) == [str((tmp_path / "gone.png").resolve())]
    saved = json.loads((tmp_path / "store" / "report.json").read_text())
    assert saved["dropped"] == dict(report.dropped)
    assert saved["missing_files"] == list(report.missing_files)
    assert saved["made_by"]["import"] == "test"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"question": " \n"}, "empty"),
        ({"response_1": "\x00\x1b"}, "empty"),
        ({"response_1": "Blue.\x00"}, "identical"),
        ({"response_2": "x" * 10_000_001}, "too long"),
        ({"question": "x" * 50_001}, "too long"),
        ({"preferred": None}, "tie"),
        ({"preferred": 3}, "broken row"),
        ({"question": 5}, "broken row"),
        ({"images": (7,)}, "broken row"),
        ({"images": ("gone.png",)}, "image missing"),
        ({"images": ("",)}, "image missing"),
        ({"images": ("x" * 5000,)}, "image broken"),
        ({"images": ("a\x00b",)}, "broken row"),
        ({"images": ("../secret.png",)}, "outside the media root"),
        ({"images": ("/etc/hostname",)}, "outside the media root"),
        ({"images": ("link.png",)}, "outside the media root"),
        ({"images": (b"",)}, "image broken"),
        ({"images": (RED[:-30],)}, "image broken"),
        ({"video": "gone"}, "video missing"),
        ({"video": ".."}, "outside the media root"),
        ({"video": "empty"}, "video missing"),
    ],
)
def test_what_cannot_be_used_is_dropped_for_its_reason(
    tmp_path: Path, change: dict[str, object], expected: str
) -> None:
    root = tmp_path / "root"
    (root / "empty").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(RED)
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    assert reason(replace(RAW, **change), root) == expected  # type: ignore[arg-type]


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (png_header(40_000, 40_000), "image too large"),  # Pillow itself calls it a bomb
        (png_header(9_000, 9_000), "image too large"),
        (png_header(0, 0), "image broken"),
        (png_header(10, 10), "image broken"),
        (encoded(Image.new("L", (401, 2))), "image too thin"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "image broken"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image broken"),
    ],
)
def test_images_that_no_engine_should_see(tmp_path: Path, image: bytes, expected: str) -> None:
    assert reason(replace(RAW, images=(image,)), tmp_path) == expected


def test_limits_are_settings(tmp_path: Path) -> None:
    assert reason(RAW, tmp_path, limits=ImageLimits(max_pixels=5)) == "image too large"
    assert reason(RAW, tmp_path, limits=ImageLimits(max_bytes=len(RED) - 1)) == "image too large"
    thin = replace(RAW, images=(encoded(Image.new("L", (401, 2))),))
    assert isinstance(outcome(thin, tmp_path, limits=ImageLimits(sides=SideLimits(201))), Prepared)
    (tmp_path / "red.png").write_bytes(RED)
    on_disk = replace(RAW, images=("red.png",))
    small = ImageLimits(sides=SideLimits(201, min_side=3))
    assert reason(thin, tmp_path, limits=small) == "image too small"
    few_bytes = ImageLimits(max_bytes=len(RED) - 1)
    assert reason(on_disk, tmp_path, limits=few_bytes) == "image too large"
    assert reason(RAW, tmp_path, max_chars=11) == "too long"
    assert isinstance(outcome(RAW, tmp_path, max_chars=12), Prepared)


def test_unusual_images_that_decode_are_kept_as_they_are(tmp_path: Path) -> None:
    grey_16 = encoded(Image.fromarray(np.full((4, 4), 0x4080, dtype=np.uint16)))
    cmyk = encoded(Image.new("CMYK", (8, 8), (255, 0, 255, 0)), "JPEG")
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    animated = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    report = run([replace(RAW, images=(grey_16, cmyk, animated))], tmp_path)
    (pair,) = iter_pairs(tmp_path / "store")
    assert pair.images == (grey_16, cmyk, animated)
    assert report.notes == {"first frame of an animation": 1}
    assert decode_image(animated).getpixel((0, 0)) == (255, 0, 0)


# Regression: looking for a second frame behind the first one's end is an IndexError of Pillow's.
def test_a_gif_that_breaks_off_behind_its_first_frame_is_kept(tmp_path: Path) -> None:
    whole = encoded(Image.new("RGB", (4, 4), "red"), "GIF")
    assert whole.endswith(b"\x00;")
    made = outcome(replace(RAW, images=(whole[:-1] + b"!",)), tmp_path)
    assert isinstance(made, Prepared)
    assert made.notes == ()


def test_text_is_cleaned_of_controls_and_media_tokens_are_noted(tmp_path: Path) -> None:
    dirty = replace(
        RAW,
        question="What\x00 colour?\n\tSay \x9b31mit.",
        response_1="Red.\ud800 <|image_pad|>",
        group="g\x07",
        meta={"id": "a\x00b", "score": 1.5},
    )
    report = run([dirty], tmp_path)
    (pair,) = iter_pairs(tmp_path / "store")
    assert pair.question == "What colour?\n\tSay 31mit."
    assert {pair.response_1, pair.response_2} == {"Red. <|image_pad|>", "Blue."}
    assert pair.group == "g"
    assert report.notes == {"control characters removed": 1, "literal media token": 1}
    meta = pq.read_table(tmp_path / "store" / "pairs-00000.parquet")["meta"].to_pylist()
    assert [json.loads(text)["score"] for text in meta] == [1.5]


def test_paths_stay_paths_when_asked_and_are_read_from_the_declared_root(tmp_path: Path) -> None:
    root = tmp_path / "media"
    (root / "clip").mkdir(parents=True)
    (root / "red.png").write_bytes(RED)
    for number in range(5):
        image = Image.new("RGB", (4, 4), (number, 0, 0))
        (root / "clip" / f"frame{number}.png").write_bytes(encoded(image))
    raw = replace(RAW, images=("red.png",), video="clip")
    made = {}
    for embed in (True, False):
        options = ImportOptions(root, embed, frames=FrameRules(num_frames=3))
        out = tmp_path / f"store-{embed}"
        import_pairs([raw], out, options, {})
        (made[embed],) = iter_pairs(out)
        row = pq.read_table(out / "pairs-00000.parquet").to_pylist()[0]
        assert (len(row["images"]), row["image_paths"], row["video"]) == (
            (4, None, None) if embed else (0, ["red.png"], "clip")
        )
    assert made[True].images == made[False].images
    assert made[True].pair_id == made[False].pair_id
    reds = [decode_image(image).getpixel((0, 0)) for image in made[True].images]
    assert reds == [(255, 0, 0), (0, 0, 0), (2, 0, 0), (4, 0, 0)]


class Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("num_rows", [0, 3, 8, 11, 25, 26])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_an_import_that_was_killed_ends_as_if_it_had_not_been(
    tmp_path: Path, num_rows: int, num_threads: int
) -> None:
    source: list[RawPair | DataError] = [*shapes_source(20)]
    source[5:5] = [DataError("src row 6: no pair"), replace(RAW, preferred=None)]
    source[12:12] = [source[2], source[11], replace(RAW, images=("gone.png",))]
    source.append(source[0])

    def dies() -> Iterator[RawPair | DataError]:
        yield from islice(source, num_rows)
        raise Killed

    whole = run(source, tmp_path / "whole", shard_rows=4)
    options = ImportOptions(tmp_path / "cut", num_threads=num_threads)
    with pytest.raises(Killed):
        import_pairs(dies(), tmp_path / "cut" / "store", options, {"import": "test"}, shard_rows=4)
    resumed = run(source, tmp_path / "cut", shard_rows=4, num_threads=num_threads)
    assert resumed.to_json() | {"missing_files": []} == whole.to_json() | {
        "missing_files": [],
        "examples": resumed.to_json()["examples"],
    }
    stores = [tmp_path / name / "store" for name in ("whole", "cut")]
    ids = [[pair.pair_id for pair in iter_pairs(store)] for store in stores]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 20
    names = [sorted(file.name for file in store.iterdir()) for store in stores]
    assert names[0] == names[1]


@pytest.mark.slow
def test_an_import_goes_on_after_its_process_was_killed(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from r1reward.data.importers.importing import ImportOptions, import_pairs
from r1reward.data.importers.raw_pair import RawPair

def source():
    for number in range(11):
        yield RawPair(f"row {number}", f"q{number}", "a", "b", 1)
    os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
import_pairs(source(), folder / "store", ImportOptions(folder), {"import": "test"}, shard_rows=4)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    names = sorted(file.name for file in (tmp_path / "store").glob("pairs-*"))
    assert names == ["pairs-00000.parquet", "pairs-00001.parquet"]
    rows = [RawPair(f"row {number}", f"q{number}", "a", "b", 1) for number in range(13)]
    assert run([*rows], tmp_path, shard_rows=4).num_written == 13
    assert [pair.question for pair in iter_pairs(tmp_path / "store")] == [
        raw.question for raw in rows
    ]


def test_a_resumed_import_does_not_read_finished_rows_media_again(tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(RED)
    source = [
        replace(RAW, question=f"q{number}", images=("red.png",), origin=f"row {number}")
        for number in range(8)
    ]

    def dies() -> Iterator[RawPair]:
        yield from source[:6]
        raise Killed

    options = ImportOptions(tmp_path)
    with pytest.raises(Killed):
        import_pairs(dies(), tmp_path / "store", options, {"import": "test"}, shard_rows=4)
    (tmp_path / "red.png").unlink()
    report = run([*source], tmp_path, shard_rows=4)
    assert report.num_written == 4
    assert report.dropped == {"image missing": 4}


def test_another_import_does_not_go_on_with_this_ones_shards(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        import_pairs(
            (raw if number < 5 else kill() for number, raw in enumerate(shapes_source(6))),
            tmp_path / "store",
            ImportOptions(tmp_path),
            {"import": "test"},
            shard_rows=2,
        )
    with pytest.raises(InputError, match="another command's store"):
        run([], tmp_path, seed=1)


def kill() -> RawPair:
    raise Killed


texts = st.text(max_size=12) | st.sampled_from(["", "\x00", "\ud800", "<|im_end|>", "x" * 70_000])
paths = st.text(max_size=8) | st.sampled_from(["red.png", "..", "/", "\x00", "~", "a" * 300, "."])
images = st.binary(max_size=40) | paths | st.just(RED)
raws = st.builds(
    RawPair,
    origin=texts,
    question=texts,
    response_1=texts,
    response_2=texts,
    preferred=st.sampled_from([1, 2, None]),
    images=st.lists(images, max_size=3).map(tuple),
    video=st.none() | paths,
    source=texts,
    category=texts,
    group=texts,
    meta=st.dictionaries(texts, texts | st.floats() | st.binary(max_size=3), max_size=2),
)


@pytest.mark.slow
@given(st.lists(raws | st.builds(DataError, texts), max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_row_crashes_an_import(
    tmp_path_factory: pytest.TempPathFactory, source: list[RawPair | DataError]
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "red.png").write_bytes(RED)
    report = run(source, folder, shard_rows=2)
    assert report.num_read == len(source)
    assert report.num_written + sum(report.dropped.values()) == len(source)
    assert len(list(iter_pairs(folder / "store"))) == report.num_written


KINDS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
NOISE = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
WHOLE = {kind: encoded(Image.fromarray(NOISE), kind) for kind in KINDS}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    st.integers(0, 400),
)
@settings(max_examples=400)
def test_a_damaged_image_is_an_image_or_a_drop(
    kind: str, flips: list[tuple[int, int]], num_cut: int
) -> None:
    data = bytearray(WHOLE[kind])
    for place, value in flips:
        # Headers are where decoders break.
        data[place % min(len(data), 200)] = value
    made = outcome(replace(RAW, images=(bytes(data[: len(data) - num_cut]),)), Path())
    assert isinstance(made, Prepared) or made.reason.startswith("image ")
