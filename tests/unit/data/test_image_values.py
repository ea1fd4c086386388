"""An image in every form that people store it in: the same picture, wherever a row is read."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from r1reward.cli.main import main
from r1reward.data.image_values import bytes_unless_file, image_items
from r1reward.data.media import MediaRoots, load_image
from r1reward.data.stores.store import iter_pairs, read_pairs
from r1reward.errors import DataError
from r1reward.evaluation.benchmarks.load import load_benchmark
from tests.image_files import encoded

CASES = Path(__file__).parents[2] / "cases"
PHOTO = (CASES / "plain.jpg").read_bytes()
PNG = encoded(Image.new("RGB", (30, 30), "red"))
PHOTO_64 = base64.b64encode(PHOTO).decode()
SMALL_64 = base64.b64encode(PNG).decode()
TEXTS = {"question": "q", "response_1": "a", "response_2": "b", "preferred": 1}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()),
        ("", ()),
        ([], ()),
        ({"bytes": None, "path": None}, ()),
        ([None, {"bytes": None, "path": None}], ()),
        (PHOTO, (PHOTO,)),
        (bytearray(PHOTO), (PHOTO,)),
        (list(PHOTO), (PHOTO,)),
        ("a/b.png", ("a/b.png",)),
        ("file:///data/a%20b.png", ("/data/a b.png",)),
        ("file://localhost/data/a.png", ("/data/a.png",)),
        ({"bytes": PHOTO, "path": "a.png"}, (PHOTO,)),
        ({"bytes": None, "path": "a.png"}, ("a.png",)),
        ({"bytes": PHOTO_64, "path": None}, (PHOTO,)),
        ({"bytes": SMALL_64}, (PNG,)),
        ({"bytes": list(PHOTO), "path": None}, (PHOTO,)),
        ({"url": f"data:image/png;base64,{SMALL_64}"}, (PNG,)),
        ({"url": "a.png"}, ("a.png",)),
        ({"type": "image_url", "image_url": {"url": "a.png", "detail": "low"}}, ("a.png",)),
        ({"type": "image", "source": {"type": "base64", "data": SMALL_64}}, (PNG,)),
        (f"DATA:image/PNG;Base64,{SMALL_64}", (PNG,)),
        (f"data:image/png;charset=utf-8;base64,{SMALL_64}", (PNG,)),
        (f"data:;base64,\n{base64.encodebytes(PHOTO).decode()}", (PHOTO,)),
        ("data:image/svg+xml,%3Csvg%3E", (b"<svg>",)),
        (PHOTO_64, (PHOTO,)),
        (base64.urlsafe_b64encode(PHOTO).decode().rstrip("="), (PHOTO,)),
        (base64.encodebytes(PHOTO).decode(), (PHOTO,)),
        (["a.png", {"path": "b.png"}, PHOTO], ("a.png", "b.png", PHOTO)),
        ([["a.png"], "b.png"], ("a.png", "b.png")),
    ],
    ids=lambda value: str(value)[:30].replace("\n", " "),
)
def test_every_form(value: object, expected: tuple[object, ...]) -> None:
    assert image_items(value, "image") == expected


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (7, "img is a number (7); an image is bytes, a path, a data URL or base64"),
        (True, "img is true; an image is"),
        ({"name": "a.png"}, "img is an object of name; it needs bytes, path or url"),
        (
            "https://example.com/a.png",
            "img is at https://example.com/a.png; nothing is fetched here",
        ),
        ({"url": "s3://bucket/a.png"}, "img is at s3://bucket/a.png; nothing is fetched here"),
        ("data:image/png;base64,*", "img is neither a path nor base64: "),
        ("no base64! " * 500, "img is neither a path nor base64: "),
        ({"bytes": "a.png"}, "img is neither a path nor base64: "),
        (["a.png", ""], "img has an empty entry; fill it in or remove the row"),
        ([300] * 40, "img is a list of numbers that are no bytes: "),
    ],
)
def test_what_is_no_image_is_said_without_its_content(value: object, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        image_items(value, "img")
    assert str(caught.value).startswith(sentence)
    assert len(str(caught.value)) < 300


def test_a_file_goes_before_base64_of_its_name(tmp_path: Path) -> None:
    assert bytes_unless_file(SMALL_64, tmp_path) == PNG
    assert bytes_unless_file("imgs/abcdefgh", tmp_path) == "imgs/abcdefgh"  # base64, of no image
    name = base64.b64encode(PNG[:33]).decode().replace("/", "_")
    assert isinstance(bytes_unless_file(name, tmp_path), bytes)
    (tmp_path / name).write_bytes(PHOTO)
    assert bytes_unless_file(name, tmp_path) == name


@pytest.mark.parametrize(
    "value",
    [
        ["plain.jpg"],
        "plain.jpg",
        [PHOTO_64],
        [f"data:image/jpeg;base64,{PHOTO_64}"],
        {"path": "plain.jpg", "bytes": None},
        [{"url": f"data:image/jpeg;base64,{PHOTO_64}"}],
        [{"bytes": list(PHOTO)}],
    ],
)
def test_import_recipe_and_benchmark_see_one_picture(tmp_path: Path, value: object) -> None:
    shutil.copy(CASES / "plain.jpg", tmp_path)
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({**TEXTS, "images": value}), encoding="utf-8")
    assert read_pairs(path, None, None)[0].images == (PHOTO,)
    assert load_benchmark("pairs", path).items[0].pair.images == (PHOTO,)
    columns = "question=question,response_1=response_1,response_2=response_2,preferred=preferred"
    for media in ("embed", "paths"):
        named = ["--columns", columns + ",image=images", "--media", media, "--threads", "1"]
        out = tmp_path / media
        assert main(["data", "import", "jsonl", str(path), *named, "--out", str(out)]) == 0
        (pair,) = iter_pairs(out)
        assert pair.images == (PHOTO,)
        both = tmp_path / f"{media} again"
        assert main(["data", "dedupe", str(out), str(path), "--out", str(both)]) == 0
        assert [pair.images for pair in iter_pairs(both)] == [(PHOTO,)]


@pytest.mark.parametrize("name", ["images_struct.parquet", "data_url.jsonl"])
def test_the_cases_are_read(name: str) -> None:
    pairs = read_pairs(CASES / name, None, None)
    assert pairs and all(pair.images for pair in pairs)


def test_parquet_with_the_hubs_struct_of_one_image(tmp_path: Path) -> None:
    row = {**TEXTS, "images": {"bytes": PHOTO, "path": "x.jpg"}}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([row, {**TEXTS, "images": {}}]), path)
    assert [pair.images for pair in read_pairs(path, None, None)] == [(PHOTO,), ()]


def test_no_content_of_an_image_is_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for broken in (
        PHOTO_64[:900],
        f"data:image/png;base64,{PHOTO_64[:-300]}",
        "x/" * 400,
        "y" * 300,
    ):
        path.write_text(json.dumps({**TEXTS, "images": [broken]}), encoding="utf-8")
        with pytest.raises(DataError) as caught:
            read_pairs(path, None, None)
        assert len(str(caught.value)) < 400 + len(str(path)), str(caught.value)
        assert broken[100:250] not in str(caught.value)


def hub_snapshot(folder: Path) -> Path:
    script = [str(CASES / "hub_cache_layout.sh"), str(folder)]
    done = subprocess.run(["bash", *script], capture_output=True, encoding="utf-8", check=True)
    return Path(done.stdout.strip())


def test_the_hubs_cache_is_a_folder_of_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = hub_snapshot(tmp_path)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(snapshot.name, encoding="utf-8")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for src, out in ((str(snapshot), "a"), ("hub:o/n", "b")):
        assert main(["data", "import", "povid", src, "--out", str(tmp_path / out)]) == 0
        assert [pair.images for pair in iter_pairs(tmp_path / out)] == [(PHOTO,)]


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A media root with links out of it: to a file, in a linked folder, and one that leads nowhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.jpg").write_bytes(PHOTO)
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.jpg").symlink_to(elsewhere / "a.jpg")
    (root / "folder").symlink_to(elsewhere)
    (root / "gone.jpg").symlink_to(elsewhere / "gone.jpg")
    (root / "within.jpg").symlink_to("own.jpg")
    (root / "own.jpg").write_bytes(PHOTO)
    return root


def test_links_lead_into_declared_folders(linked: Path) -> None:
    elsewhere = linked.parent / "elsewhere"
    roots = MediaRoots(linked, (elsewhere,))
    for item in ("a.jpg", "folder/a.jpg", "within.jpg", str(elsewhere / "a.jpg")):
        assert load_image(item, "row 1", roots) == PHOTO
    with pytest.raises(DataError, match=r"gone\.jpg is missing"):
        load_image("gone.jpg", "row 1", roots)
    assert load_image("within.jpg", "row 1", MediaRoots(linked)) == PHOTO
    for item in ("a.jpg", "folder/a.jpg", "gone.jpg"):
        with pytest.raises(
            DataError, match=r"is a link to .*, which lies outside .*; name"
        ) as caught:
            load_image(item, "row 1", MediaRoots(linked))
        assert caught.value.reason == "outside the media root"


@pytest.mark.parametrize(
    "item", ["../elsewhere/a.jpg", "folder/../../elsewhere/a.jpg", "../x", "/etc/hostname", ".."]
)
def test_a_path_out_of_the_root_stays_refused(linked: Path, item: str) -> None:
    for links in ((), (linked,), (linked.parent / "other",)):
        with pytest.raises(DataError, match="lies outside"):
            load_image(item, "row 1", MediaRoots(linked, links))


def test_a_snapshot_does_not_open_the_rest_of_the_cache(tmp_path: Path) -> None:
    snapshot = hub_snapshot(tmp_path)
    other = tmp_path / "datasets--o--other" / "blobs"
    other.mkdir(parents=True)
    (other / "b1").write_bytes(PHOTO)
    (snapshot / "other.jpg").symlink_to(other / "b1")
    assert load_image("images/a.jpg", "row 1", MediaRoots(snapshot)) == PHOTO
    assert load_image("a.jpg", "row 1", MediaRoots(snapshot / "images")) == PHOTO
    for item in ("other.jpg", "../../blobs/b1"):
        with pytest.raises(DataError, match="lies outside"):
            load_image(item, "row 1", MediaRoots(snapshot))


def test_an_import_and_a_recipe_declare_folders(linked: Path) -> None:
    path = linked / "a.jsonl"
    path.write_text(json.dumps({**TEXTS, "images": ["a.jpg"]}), encoding="utf-8")
    elsewhere = linked.parent / "elsewhere"
    assert read_pairs(path, None, None, (elsewhere,))[0].images == (PHOTO,)
    columns = (
        "question=question,response_1=response_1,response_2=response_2,preferred=1,image=images"
    )
    out = linked.parent / "out"
    command = ["data", "import", "jsonl", str(path), "--columns", columns, "--media", "paths"]
    assert main([*command, "--links", str(elsewhere), "--out", str(out)]) == 0
    assert [pair.images for pair in iter_pairs(out)] == [(PHOTO,)]
    again = linked.parent / "again"
    assert main(["data", "dedupe", str(out), "--out", str(again)]) == 0
    assert [pair.images for pair in iter_pairs(again)] == [(PHOTO,)]
    assert main([*command, "--out", str(linked.parent / "without")]) == 1
