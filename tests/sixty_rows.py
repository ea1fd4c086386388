"""Sixty rows as people have them: six files of several kinds, with one of everything that goes wrong.

``SOURCES`` says of each file how it is imported and what must become of its rows. Nothing is random: the
same bytes each time.
"""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.image_files import encoded, noise, orientation

NUM_ROWS = 60
# Left out of training, whatever their labels say, and refused by a server of few tokens.
NUM_CONTRADICTED, NUM_LONG = 2, 1
LONG_WORDS = 900
MAX_CHARS = 20_000
PARTS = "question=q,response_1=a,response_2=b"


def texts(name: str) -> dict[str, str]:
    """Question and responses of a row, unlike those of any other."""
    return {"q": f"What is in {name}?", "a": f"a red bar, {name}", "b": f"a blue cat, {name}"}


def own(name: str, **fields: object) -> dict[str, object]:
    """A row by our own names."""
    said = texts(name)
    names = {"question": said["q"], "response_1": said["a"], "response_2": said["b"]}
    return {**names, "images": [], "preferred": 1, **fields}


def data_url(kind: str, file: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def photo(kind: str = "JPEG", mode: str = "RGB", seed: int = 0, **options: object) -> bytes:
    return encoded(noise(mode, 60, 40, seed), kind, **options)


def lines(rows: list[object]) -> bytes:
    """JSONL as people write it: a blank line between rows and two at the end; text rows stand as is."""
    texts_of_rows = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return ("\n\n".join(texts_of_rows) + "\n\n  \n").encode()


def write_words(folder: Path) -> None:
    """Labels in words, images of every kind beside a packed JSONL."""
    ramp = np.arange(60 * 40, dtype=np.int32).reshape(40, 60)
    moving = [noise("P", 60, 40, seed) for seed in (1, 2)]
    files = {
        "exif6.jpg": photo(exif=orientation(6)),
        "rgba.png": photo("PNG", "RGBA"),
        "palette.png": photo("PNG", "P", transparency=0),
        "la.png": photo("PNG", "LA"),
        "grey16.png": photo("PNG", "I;16"),
        "i32.tif": encoded(Image.fromarray(ramp * 70_000), "TIFF"),
        "f32.tif": encoded(Image.fromarray(ramp.astype(np.float32) / 7), "TIFF"),
        "mpo.jpg": photo("MPO", save_all=True, append_images=[noise("RGB", 6, 4)]),
        "a.avif": photo("AVIF"),
        "a.jp2": photo("JPEG2000"),
        "scan.tif": photo("TIFF"),
        "a.bmp": photo("BMP"),
        "moving.gif": encoded(moving[0], "GIF", save_all=True, append_images=moving[1:]),
        "thin.png": encoded(noise("L", 1, 201), "PNG"),
    }
    for name, file in files.items():
        (folder / name).write_bytes(file)
    winners = ["A", " b ", "a", "B", "A ", "b", "A", "B", "a", "b", "A", "B", "Tie", None, "A", "B"]
    rows = [
        {**texts(name), "winner": winner, "pic": name}
        for name, winner in zip([*files, "thin.png", "gone.png"][:16], winners, strict=True)
    ]
    rows[13] |= {"pic": "moving.gif", "q": "What moves?"}
    (folder / "words.jsonl.gz").write_bytes(gzip.compress(lines([*rows]), mtime=0))


def write_numbers(folder: Path) -> None:
    """Labels in numbers of all kinds and images in all forms of text, in a JSON list."""
    (folder / "one.png").write_bytes(photo("PNG", seed=2))
    (folder / "two.png").write_bytes(encoded(noise("1", 900, 700)))
    (folder / "photo.webp").write_bytes(photo("WEBP"))
    (folder / "broken.png").write_bytes(photo("PNG")[:60])
    images_and_labels: list[tuple[object, object]] = [
        (data_url("png", photo("PNG", seed=3)), 0),
        (base64.b64encode(photo(seed=4)).decode(), 1),
        (["one.png", "two.png"], 0.0),
        ({"bytes": base64.b64encode(photo(seed=5)).decode(), "path": None}, "1"),
        (None, "1.0"),
        ("photo.webp", False),
        ("one.png", 2),
        ("two.png", "2.0"),
        ("one.png", None),
        ("https://example.org/a.png", 1),
        ("../../secret.png", 0),
        ("broken.png", 0),
    ]
    rows = [
        {**texts(f"number {number}"), "label": label, "image": image}
        for number, (image, label) in enumerate(images_and_labels)
    ]
    (folder / "numbers.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


def write_hub(folder: Path) -> None:
    """The hub's structs of bytes and path; a contradiction, a repeated pair, responses that are alike."""

    def struct(file: bytes) -> dict[str, object]:
        return {"bytes": file, "path": None}

    first = own("ink", images=[struct(photo(mode="CMYK"))])
    moving = [noise("P", 60, 40, seed) for seed in (6, 7)]
    gif = encoded(moving[0], "GIF", save_all=True, append_images=moving[1:])
    said = own("both", images=[struct(photo(seed=8))])
    rows = [
        first,
        own(
            "two", images=[struct(encoded(noise("L", 1, 1))), struct(encoded(noise("LA", 200, 1)))]
        ),
        own("film", images=[struct(gif)], preferred=2),
        own("web", images=[struct(photo("WEBP", "RGBA", lossless=True))]),
        own("text"),
        said,
        said | {"preferred": 2},
        first,
        own("same", response_1="a cat", response_2="a cat"),
        own("alike", response_1="a red bar", response_2="a red  bar \n"),
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "hub.parquet")


def write_chats(folder: Path) -> None:
    """Conversational preferences, in the forms that trainers read."""

    def says(text: object, role: str = "assistant") -> list[dict[str, object]]:
        return [{"role": role, "content": text}]

    (folder / "beside.png").write_bytes(photo("PNG", seed=10))
    url = {"type": "image_url", "image_url": {"url": data_url("jpeg", photo(seed=11))}}
    asked = [{"type": "text", "text": "What is this?"}]
    yes, no = says("a red bar"), says("a blue cat")
    begun = says("Is it red?", "user")
    turns = [*says("Hello.", "user"), *says("Hello!"), *says("What is it?", "user")]
    rows: list[object] = [
        {"prompt": says([url, *asked], "user"), "chosen": yes, "rejected": no},
        {
            "prompt": says([{"type": "image"}, *asked], "user"),
            "chosen": yes,
            "rejected": no,
            "images": ["beside.png"],
        },
        {"prompt": "Plain?", "chosen": "plain", "rejected": "not plain"},
        {"prompt": begun, "chosen": [*begun, *yes], "rejected": [*begun, *no]},
        {"prompt": turns, "chosen": yes, "rejected": no},
        {"prompt": "Cut?", "chosen": "cut \ud83d", "rejected": "whole"},
        {"prompt": "Red\x1b[31m?", "chosen": "red", "rejected": "blue"},
        {"prompt": "A <|image_pad|>?", "chosen": "a token", "rejected": "an image"},
        {"prompt": [], "chosen": [*begun, *yes], "rejected": [*turns, *no]},
        {"prompt": "Half?", "chosen": "half", "rejected": None},
        "{no JSON}",
        {"prompt": "Shown?", "chosen": says([url]), "rejected": no},
    ]
    (folder / "chats.jsonl").write_bytes(lines(rows))


def write_snapshot(folder: Path) -> None:
    """The hub's cache: files are links into a folder of blobs. One link leads elsewhere."""
    snapshot, blobs = folder / "snapshots" / "0", folder / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    files = {
        "a.png": photo("PNG", seed=12),
        "b.jpg": photo(seed=13, exif=orientation(3)),
        "c.tif": photo("TIFF", seed=14),
    }
    for number, (name, file) in enumerate(files.items()):
        (blobs / str(number)).write_bytes(file)
        (snapshot / name).symlink_to(Path("../../blobs") / str(number))
    (folder.parent / "secret.png").write_bytes(photo("PNG", seed=15))
    (snapshot / "secret.png").symlink_to(folder.parent / "secret.png")
    rows: list[object] = [
        *(own(name, images=[name]) for name in [*files, "secret.png"]),
        own("far too long", question="word " * MAX_CHARS),
        own("long", question="word " * LONG_WORDS),
    ]
    (blobs / "rows").write_bytes(lines(rows))
    (snapshot / "data.jsonl").symlink_to(Path("../../blobs/rows"))


def write_table(folder: Path) -> None:
    """A CSV file with a byte order mark, base64, and messages as JSON text."""
    (folder / "table.png").write_bytes(photo("PNG", seed=16))
    question = {"role": "user", "content": "What is in the table?"}
    one, other = (
        json.dumps([question, {"role": "assistant", "content": text}]) for text in ("red", "blue")
    )
    rows = [
        ["What,\nplease?", "a red bar", 'a "blue" cat', "1", "table.png"],
        ["In base64?", "yes", "no", " 2", base64.b64encode(photo("PNG", seed=17)).decode()],
        ["", one, other, "1.0", '["table.png"]'],
        ["", "yes", "no", "1", "table.png"],
    ]
    text = io.StringIO()
    csv.writer(text).writerows([["q", "a", "b", "better", "image"], *rows])
    (folder / "table.csv").write_text(text.getvalue(), encoding="utf-8-sig")


@dataclass(frozen=True)
class Source:
    """A file, how it is imported, and what must become of its rows: ``kept`` of them stay."""

    name: str
    write: Callable[[Path], None]
    format: str
    file: str
    kept: int
    dropped: Mapping[str, int]
    notes: Mapping[str, int] = field(default_factory=dict)
    columns: str | None = None

    @property
    def num_rows(self) -> int:
        return self.kept + sum(self.dropped.values())

    def arguments(self, folder: Path, out: Path) -> list[str]:
        """The words of the import behind ``r1reward data``, once ``write`` has made the folder."""
        columns = [] if self.columns is None else ["--columns", self.columns]
        limit = ["--max-chars", str(MAX_CHARS)]
        return ["import", self.format, str(folder / self.file), *columns, *limit, "--out", str(out)]


SOURCES = (
    Source(
        "words",
        write_words,
        "jsonl",
        "words.jsonl.gz",
        kept=12,
        dropped={"tie": 1, "no label": 1, "image too thin": 1, "image missing": 1},
        columns=f"{PARTS},preferred=winner:A/B/tie,image=pic",
    ),
    Source(
        "numbers",
        write_numbers,
        "json",
        "numbers.json",
        kept=6,
        dropped={
            "tie": 2,
            "no label": 1,
            "image elsewhere": 1,
            "outside the media root": 1,
            "image broken": 1,
        },
        notes={"no image": 1},
        columns=f"{PARTS},preferred=label:0/1/2,image=image",
    ),
    Source(
        "hub",
        write_hub,
        "parquet",
        "hub.parquet",
        kept=8,
        dropped={"duplicate": 1, "identical": 1},
        notes={
            "first frame of an animation": 1,
            "no image": 2,
            "contradicts an earlier pair": 1,
            "responses differ in white space only": 1,
        },
    ),
    Source(
        "chats",
        write_chats,
        "jsonl",
        "chats.jsonl",
        kept=8,
        dropped={"histories differ": 1, "empty": 1, "broken row": 2},
        notes={"control characters removed": 2, "literal media token": 1, "no image": 6},
    ),
    Source(
        "snapshot",
        write_snapshot,
        "jsonl",
        "snapshots/0/data.jsonl",
        kept=4,
        dropped={"outside the media root": 1, "too long": 1},
        notes={"no image": 1},
    ),
    Source(
        "table",
        write_table,
        "csv",
        "table.csv",
        kept=3,
        dropped={"empty": 1},
        columns=f"{PARTS},preferred=better,image=image",
    ),
)
NUM_KEPT = sum(source.kept for source in SOURCES)
assert sum(source.num_rows for source in SOURCES) == NUM_ROWS


def write_source(source: Source, root: Path) -> Path:
    """Writes the file of a source and what lies beside it into a folder of its own."""
    folder = root / source.name
    folder.mkdir()
    source.write(folder)
    return folder
