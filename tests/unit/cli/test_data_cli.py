"""`r1reward data`: what each verb prints and writes, and one sentence for each wrong input."""

import base64
import io
import json
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from r1reward.cli.main import main
from r1reward.data.stores.store import iter_pairs, write_pairs
from r1reward.report.pairs_page import print_pairs, visible, write_page
from r1reward.shapes.pairs import make_pairs
from r1reward.types import PreferencePair

PAIRS = make_pairs("heldout", 12, seed=0)
HOSTILE = PreferencePair(
    question="<script>alert(1)</script>\x1b]0;owned\x07\u202egnp",
    images=PAIRS[0].images,
    response_1='"><img src=x onerror=alert(2)>' + "y" * 30_000,
    response_2="</div>{{ 7 * 7 }}[bold red]no markup[/]",
    preferred=2,
    category="<b>c</b>",
    origin="a<i>.jsonl row 1",
)


def write_source(folder: Path) -> Path:
    """The pairs as JSONL beside their images, and three rows that cannot be used."""
    rows = []
    for number, pair in enumerate(PAIRS):
        (folder / f"{number}.png").write_bytes(pair.images[0])
        good, bad = (
            (pair.response_1, pair.response_2)
            if pair.preferred == 1
            else (pair.response_2, pair.response_1)
        )
        rows.append(
            {"q": pair.question, "good": good, "bad": bad, "img": f"{number}.png", "g": number // 3}
        )
    rows += [{**rows[0], "bad": rows[0]["good"]}, rows[0], {**rows[1], "img": "../x.png"}]
    path = folder / "source.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


COLUMNS = "question=q,response_1=good,response_2=bad,preferred=1,image=img,group=g"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["data", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_from_a_file_to_a_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, store = write_source(tmp_path), tmp_path / "store"
    importing = ("import", "jsonl", src, "--columns", COLUMNS, "--out", store, "--threads", 1)
    status, out, _ = run(capsys, *importing)
    assert status == 0
    counts = dict(re.findall(r"^ *(?:dropped: )?([a-z ]+?) {2,}(\d+)(?: .*)?$", out, re.MULTILINE))
    assert counts["read"] == "15"
    assert counts["written"] == "12"
    assert {
        name: counts[name] for name in ("identical", "duplicate", "outside the media root")
    } == {
        "identical": "1",
        "duplicate": "1",
        "outside the media root": "1",
    }
    assert {pair.images for pair in iter_pairs(store)} == {pair.images for pair in PAIRS}
    status, _, err = run(capsys, *importing)
    assert (status, err) == (2, f"{store}: holds a store already; choose another folder\n")

    status, out, _ = run(capsys, "validate", store)
    assert (status, out.splitlines()[0]) == (0, f"{store}: 12 pairs, 0 cannot be used")
    status, out, _ = run(capsys, "stats", store)
    assert status == 0
    assert re.search(r"^groups +4", out, re.MULTILINE)
    assert run(capsys, "dedupe", store, src.parent / "store", "--out", tmp_path / "dd")[0] == 0
    assert len(list(iter_pairs(tmp_path / "dd"))) == 12
    shares = ("--shares", "a=3,b=1", "--out", tmp_path / "parts")
    assert run(capsys, "split", store, *shares)[0] == 0
    sizes = [len(list(iter_pairs(tmp_path / "parts" / name))) for name in "ab"]
    assert sizes == [9, 3]
    sources = ("--source", f"{tmp_path}/parts/a:4", "--source", f"{tmp_path}/parts/b")
    status, out, _ = run(capsys, "mix", *sources, "--out", tmp_path / "mix")
    assert status == 0
    assert len(list(iter_pairs(tmp_path / "mix"))) == 7


def test_validate_lists_bad_rows_and_is_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pairs.parquet"
    write_pairs(path, [PAIRS[0], PreferencePair("q", (b"no image",), "a", "b", 1)])
    status, out, err = run(capsys, "validate", path)
    assert status == 2
    assert f"{path} row 2: image in the row is not a readable image" in out
    assert err == "1 pairs cannot be used; mend or remove them\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["validate", "GONE"], "no such file"),
        (["stats", "."], "no store of pairs"),
        (["show", "GONE"], "no such file"),
        (["show", "STORE", "--rows", "0"], "--rows is 0; it must be at least 1"),
        (["import", "jason", "STORE", "--out", "o"], "no format is called 'jason'"),
        (["import", "jsonl", "STORE", "--out", "o"], "unknown file type '.parquet'; use .jsonl or"),
        (["import", "povid", "GONE", "--out", "o"], "no such file or folder"),
        (["import", "povid", "STORE", "--out", "o", "--images", "GONE"], "no folder of images"),
        (["dedupe", "GONE", "--out", "o"], "no such file"),
        (["split", "STORE", "--shares", "a", "--out", "o"], "not of the form NAME=SHARE"),
        (["split", "STORE", "--shares", "a=x", "--out", "o"], "must be a number above 0"),
        (["split", "STORE", "--shares", "../a=1", "--out", "o"], "not of the form"),
        (["mix", "--out", "o"], "mix needs a recipe or --source"),
        (["mix", "GONE", "--out", "o"], "no recipe of a mix"),
        (["mix", "--source", "STORE:many", "--out", "o"], "neither a number of rows nor a weight"),
        (["mix", "--source", "STORE:99", "--out", "o"], "99 pairs are asked for and 12 are there"),
        (["mix", "--source", "STORE:w1", "--out", "o"], "weighted_rows and weights go together"),
    ],
)
def test_wrong_input_is_one_sentence_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "pairs.parquet", PAIRS)
    named = [argument.replace("STORE", "pairs.parquet") for argument in arguments]
    status, _, err = run(capsys, *named)
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_hostile_text_is_shown_and_does_nothing_in_the_terminal() -> None:
    buffer = io.StringIO()
    print_pairs([HOSTILE], Console(file=buffer, width=100, force_terminal=False))
    out = buffer.getvalue()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", out)
    assert "<script>alert(1)</script>" in out
    assert "[bold red]no markup[/]" in out
    assert "more characters" in out
    assert "response 2, preferred" in out


def test_a_page_escapes_everything_and_carries_its_images(tmp_path: Path) -> None:
    assert write_page([HOSTILE, *PAIRS[:2]], tmp_path / "page.html", "<title>") == 3
    html = (tmp_path / "page.html").read_text()
    assert "<script" not in html
    assert "onerror=alert(2)&gt;" in html
    assert "<img src=x" not in html
    assert "{{ 7 * 7 }}" in html
    assert "<b>c</b>" not in html
    assert "&lt;title&gt;" in html
    assert "\x1b" not in html
    assert "default-src 'none'" in html
    assert set(re.findall(r"<[a-z]+ [^>]*?(?:src|href)=(.{11})", html)) == {'"data:image'}
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert [base64.b64decode(text) for text in found] == [
        image for pair in (HOSTILE, *PAIRS[:2]) for image in pair.images
    ]


def test_a_page_ends_before_it_grows_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r1reward.report.pairs_page.MAX_PAGE_BYTES", 20_000)
    num_shown = write_page(PAIRS * 10, tmp_path / "page.html", "t")
    assert 0 < num_shown < 120
    assert (tmp_path / "page.html").stat().st_size < 25_000


def test_visible_text_says_how_much_is_left_out() -> None:
    assert visible("abc", 3) == "abc"
    assert visible("abcd\x00", 3) == "abc … (2 more characters)"
    assert visible("a\x9bb\nc\td", 20) == "a\ufffdb\nc\td"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_the_letters_of_a_text_shows_their_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """Regression: a UnicodeEncodeError with its traceback."""
    path = tmp_path / "a.jsonl"
    row = {"question": "奖 é?", "images": [], "response_1": "a→", "response_2": "b", "preferred": 1}
    path.write_text(json.dumps(row), encoding="utf-8")
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, encoding=encoding))
    assert main(["data", "show", str(path)]) == 0
    sys.stdout.flush()
    assert b"\\u5956" in printed.getvalue() and b"\\u2192" in printed.getvalue()


def test_show_prints_the_rows_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pairs(tmp_path / "pairs.parquet", PAIRS)
    status, out, _ = run(capsys, "show", tmp_path / "pairs.parquet", "--start", 3, "--rows", 2)
    assert status == 0
    assert [PAIRS[i].pair_id in out for i in (1, 2, 3, 4)] == [False, True, True, False]
    page = tmp_path / "page.html"
    status, out, _ = run(capsys, "show", tmp_path / "pairs.parquet", "--html", page)
    assert status == 0
    assert "(5 pairs)" in out
    assert page.read_text().count("<article>") == 5


def test_out_must_be_a_place_for_a_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    src = write_source(tmp_path)
    media = tmp_path / "media"
    media.mkdir()
    (media / "notes.txt").write_text("mine")
    importing = ("import", "jsonl", src, "--columns", COLUMNS, "--threads", 1, "--out")
    folder = ("import", "jsonl", tmp_path, *importing[3:])
    for command, out, message in (
        (importing, src, "is a file"),
        (importing, src / "below", "Not a directory"),
        (importing, media, "holds notes.txt, which is no part of a store"),
        (folder, tmp_path / "new", "lies in the source"),
        (("dedupe", src.parent / "gone.parquet", "--out"), media, "no such file"),
    ):
        status, _, err = run(capsys, *command, out)
        assert (status, message in err, "Traceback" in err) == (2, True, False), err
    assert sorted(path.name for path in media.iterdir()) == ["notes.txt"]


def test_an_import_without_a_pair_says_why_and_can_be_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    src, store = write_source(tmp_path), tmp_path / "store"
    importing = ("import", "jsonl", src, "--out", store, "--threads", 1, "--columns")
    status, _, err = run(capsys, *importing, COLUMNS.replace("=q", "=prompt"))
    assert status == 1
    assert "15 of 15 rows were dropped, so none is left; most are like " in err
    assert f"{src} row 1: there is no column prompt" in err
    assert run(capsys, *importing, COLUMNS)[0] == 0
    assert len(list(iter_pairs(store))) == 12


def test_a_full_disk_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import resource

    src = write_source(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        status, _, err = run(
            capsys, "import", "jsonl", src, "--columns", COLUMNS, "--out", tmp_path / "store"
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 2
    assert "File too large: mend that; then the same command goes on" in err
    assert "Traceback" not in err


def test_show_and_stats_say_that_there_is_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.parquet"
    write_pairs(pairs, PAIRS)
    status, _, err = run(capsys, "show", pairs, "--start", 13)
    assert (status, err) == (2, f"{pairs}: holds no row 13\n")
    status, _, err = run(capsys, "stats", write_source(tmp_path))
    assert status == 2
    assert "row 1: question, images, response_1, response_2, preferred missing" in err


def test_ctrl_c_says_what_the_same_command_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("r1reward.data.importers.formats.open_source", interrupt)
    monkeypatch.setattr("r1reward.data.cleaning.dedupe.dedupe", interrupt)
    for action, does in (("import", "goes on where it was"), ("dedupe", "begins anew")):
        named = ("jsonl", "a") if action == "import" else ("a",)
        status, _, err = run(capsys, action, *named, "--out", tmp_path / "o")
        assert (status, err) == (130, f"stopped; the same command {does}\n")


def test_json_nested_too_deeply_is_a_broken_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    src, store = write_source(tmp_path), tmp_path / "store"
    src.write_text('{"q": ' + "[" * 100_000 + "]" * 100_000 + "}\n" + src.read_text())
    assert run(capsys, "import", "jsonl", src, "--columns", COLUMNS, "--out", store)[0] == 0
    report = json.loads((store / "report.json").read_text())
    assert f"{src} row 1: not JSON" in report["examples"]["broken row"][0]
    status, out, _ = run(capsys, "validate", src)
    assert (status, "row 1: not JSON" in out) == (1, True)
    listed = tmp_path / "list.json"
    listed.write_text("[" * 100_000 + "]" * 100_000)
    status, _, err = run(capsys, "import", "povid", listed, "--out", tmp_path / "povid")
    assert (status, err.startswith(f"{listed} row 1: not JSON: nested")) == (2, True), err


def test_an_import_without_a_whole_shard_is_unfinished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".pairs-00000.partial").touch()
    status, _, err = run(capsys, "validate", tmp_path)
    assert (status, "unfinished" in err) == (2, True)


@pytest.mark.parametrize("name", ["thin.jsonl", "lone_surrogate.jsonl"])
def test_validate_names_a_row_that_no_model_takes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(__file__).parents[2] / "cases" / name
    status, out, _ = run(capsys, "validate", path)
    assert status == 1
    assert "1 pairs, 1 cannot be used" in out
    assert f"{path} row 1: " in out
