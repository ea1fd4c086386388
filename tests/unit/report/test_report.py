"""The report's file: what it says, what it leaves out, and that no text in it is markup."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from PIL import Image

from r1reward.errors import InputError
from r1reward.evaluation.answers import Answer, append_answers
from r1reward.evaluation.audit import Audit, LengthAudit
from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.evaluation.evaluation import JudgedParts
from r1reward.evaluation.intervals import Interval, percent, points
from r1reward.evaluation.items import Item, make_items
from r1reward.evaluation.shown_pairs import ShownPair, read_shown_pairs, write_shown_pairs
from r1reward.evaluation.voting.adaptive import AdaptiveSummary
from r1reward.report import evaluation_view
from r1reward.report.build import build_report
from r1reward.report.embed import data_uri, script_json
from r1reward.report.evaluation_view import adaptive_facts, audit_facts
from r1reward.report.facts import whole
from r1reward.report.samples import collect_samples, row_flags
from r1reward.report.tiles import Tile, change_tile, evaluation_tiles
from r1reward.report.training_curves import AlertSpan, alert_spans, training_charts
from r1reward.types import Order, PreferencePair, Slot
from tests.report_folders import (
    HOSTILE,
    Skill,
    hostile_item,
    make_answers,
    make_evaluation,
    make_rows,
    write_evaluation,
    write_run,
)


class Elements(HTMLParser):
    """The elements of a page, and its text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.data = ""
        self.script: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.script = dict(attrs).get("id") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self.script = None

    def handle_data(self, data: str) -> None:
        if self.script is None:
            self.texts += data.split("\n")
        elif self.script == "report-data":
            self.data += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.data)
        return found


def shown(number: int, preferred: Slot = 1, thumbnails: tuple[bytes, ...] = ()) -> ShownPair:
    return ShownPair(
        f"key{number}", f"row {number}", "which?", "one", "two", preferred, "c", "g", thumbnails
    )


def vote(pair: ShownPair, order: Order, index: int, choice: Slot | None) -> Answer:
    return Answer(pair.key, order, index, 0, choice)


def votes(pair: ShownPair, stored: str, swapped: str) -> list[Answer]:
    """Slots as shown, one letter a sample: 1, 2 or ? for unreadable."""
    slots: dict[str, Slot | None] = {"1": 1, "2": 2, "?": None}
    orders: tuple[tuple[Order, str], ...] = (("stored", stored), ("swapped", swapped))
    return [
        vote(pair, order, index, slots[letter])
        for order, letters in orders
        for index, letter in enumerate(letters)
    ]


def png(width: int, height: int, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), 77).save(buffer, format="PNG")
    return buffer.getvalue()


def item_with_images(*images: bytes) -> Item:
    pair = PreferencePair("q", images, "a\ud800", "b", 2, category="own", group="g1")
    return make_items([(pair, "r1", {})])[0]


# Pairs for people


def test_pairs_come_back_as_they_were_written(tmp_path: Path) -> None:
    small, large = png(256, 10), png(1024, 512)
    write_shown_pairs(tmp_path / "eval" / "pairs.parquet", [item_with_images(small, large)])
    (found,) = read_shown_pairs(tmp_path / "eval" / "pairs.parquet")
    assert (found.row_id, found.question, found.preferred) == ("r1", "q", 2)
    assert (found.category, found.group) == ("own", "g1")
    assert found.response_1 == "a?"
    assert found.thumbnails[0] == small
    with Image.open(io.BytesIO(found.thumbnails[1])) as image:
        assert (image.format, image.size) == ("JPEG", (256, 128))


def test_an_image_of_another_format_becomes_one_that_browsers_show(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(buffer, format="BMP")
    write_shown_pairs(tmp_path / "pairs.parquet", [item_with_images(buffer.getvalue())])
    (found,) = read_shown_pairs(tmp_path / "pairs.parquet")
    assert data_uri(found.thumbnails[0]).startswith("data:image/jpeg;base64,")


def test_the_category_is_that_of_the_default_mapping(tmp_path: Path) -> None:
    item = replace(item_with_images(), categories={"first": "A", "second": "B"})
    write_shown_pairs(tmp_path / "pairs.parquet", [item])
    assert read_shown_pairs(tmp_path / "pairs.parquet")[0].category == "A"


# Rows


@pytest.mark.parametrize(
    ("stored", "swapped", "expected"),
    [
        ("11", "22", []),  # response 1 four times: right
        ("22", "11", ["error"]),  # wrong four times, in agreement
        ("11", "11", ["error", "flip", "split"]),  # slot 1 whatever stands there: a tie
        ("12", "22", ["split"]),  # stored order undecided: no flip
        ("1?", "22", ["unreadable"]),
        ("??", "??", ["error", "unreadable"]),
        ("111", "211", ["flip", "split"]),
        ("1", "", []),
    ],
)
def test_filters_of_a_row(stored: str, swapped: str, expected: list[str]) -> None:
    pair = shown(0, preferred=1)
    assert row_flags(pair, votes(pair, stored, swapped)) == expected


def test_errors_and_flips_are_the_last_to_be_left_out() -> None:
    pairs = [shown(number) for number in range(6)]
    patterns = [
        ("11", "22"),
        ("12", "22"),
        ("22", "11"),
        ("11", "22"),
        ("111", "211"),
        ("1?", "22"),
    ]
    answers = [
        a for pair, (one, two) in zip(pairs, patterns, strict=True) for a in votes(pair, one, two)
    ]
    two = collect_samples(pairs, answers, max_bytes=10**6, max_rows=2)
    assert [row["key"] for row in two.rows] == ["key2", "key4"]
    four = collect_samples(pairs, answers, max_bytes=10**6, max_rows=4)
    assert [row["key"] for row in four.rows] == ["key1", "key2", "key4", "key5"]
    assert (four.num_rows, four.num_unknown) == (6, 0)


def test_a_row_that_does_not_fit_leaves_room_for_smaller_ones() -> None:
    pairs = [shown(0), replace(shown(1), question="q" * 5000), shown(2)]
    answers = [answer for pair in pairs for answer in votes(pair, "2", "1")]
    found = collect_samples(pairs, answers, max_bytes=3000, max_rows=10)
    assert [row["key"] for row in found.rows] == ["key0", "key2"]


def test_images_count_for_the_size_and_are_stored_once() -> None:
    image = png(64, 64)
    pairs = [shown(number, thumbnails=(image, image)) for number in range(3)]
    answers = [answer for pair in pairs for answer in votes(pair, "1", "2")]
    found = collect_samples(pairs, answers, max_bytes=10**6, max_rows=10)
    assert [row["images"] for row in found.rows] == [[0, 0]] * 3
    assert [base64.b64decode(uri.partition(",")[2]) for uri in found.images] == [image]
    assert collect_samples(pairs, answers, max_bytes=len(image), max_rows=10).rows == []


def test_an_answered_row_without_its_pair_is_counted() -> None:
    found = collect_samples([shown(0)], votes(shown(1), "1", "2"), 10**6, 10)
    assert (found.rows, found.num_rows, found.num_unknown) == ([], 1, 1)


# Numbers


def test_facts_of_an_evaluation() -> None:
    assert whole(1250) == "1\u202f250"
    items = make_rows(12)
    lengths = LengthAudit(5, 4, 3, 0.8, None, 0.51, 0.49)
    result = replace(
        make_evaluation(items, make_answers(items, 2, Skill(), 0), 2),
        parts=JudgedParts(consistency=None, reward=0.9, well_formed=0.97, num_tokens=71.53),
        audit=Audit(12, 11, 24, 2, 1, 0.5, 0.147, 0.25, 2 / 24, 1 / 24, lengths),
    )
    found = audit_facts(result)
    assert found["answer follows analysis (judge)"] == "\N{EN DASH}"
    assert found["mean reward"] == "0.9"
    assert found["well formed"] == "97.0 %"
    assert found["tokens an answer"] == "71.53"
    assert found["flip rate after swap"] == "14.7 %"
    assert found["rows with responses of equal length"] == "3"
    assert found["accuracy, preferred response shorter"] == "\N{EN DASH}"
    assert len(found) == 21
    summary = AdaptiveSummary(12, 5, 0.05, True, 0.61, 0.6, 0.84, None)
    assert list(adaptive_facts(summary).values()) == [
        *("12", "5", "0.05", "yes", "61.0 %", "60.0 %", "84.0 %", "\N{EN DASH}")
    ]


def test_headline_and_tables_are_those_of_the_result(tmp_path: Path) -> None:
    items = make_rows(20)
    answers = make_answers(items, 4, Skill(), seed=0)
    result = make_evaluation(items, answers, 4)
    tiles = evaluation_tiles(result)
    assert [tile.label for tile in tiles] == [
        "Accuracy, one sample",
        "Voting@4",
        "Acc+",
        "Without the image",
    ]
    assert tiles[3].number == "\N{MINUS SIGN}31.0"
    assert tiles[3].interval == Interval(-0.31, -0.36, -0.26)
    ungrouped = evaluation_tiles(replace(result, group_accuracy=None))
    assert [tile.label for tile in ungrouped] == [
        tile.label for tile in tiles if tile.label != "Acc+"
    ]
    page = Elements(
        build_report(write_evaluation(tmp_path / "e", items, answers, 4), None).read_text()
    )
    mapping = result.mappings[0]
    assert sum(category.num_rows for category in mapping.categories) == 20
    macro = f"Macro: mean of categories {percent(mapping.macro)} {percent(mapping.macro_voted)}"
    assert macro in page.text
    shown = (result.accuracy, result.voted, result.group_accuracy)
    pooled = " ".join(points(interval) for interval in shown if interval is not None)
    assert f"Pooled: mean of rows 20 {pooled}" in page.text


def test_the_change_is_paired_by_row() -> None:
    items = make_rows(4)
    before = [Answer(item.key, "stored", 0, 0, item.pair.preferred) for item in items[:2]]
    before += [Answer(item.key, "stored", 0, 0, None) for item in items[2:]]
    after = [Answer(item.key, "stored", 0, 0, item.pair.preferred) for item in items]
    first, last = (
        make_evaluation(items, answers + swapped_copies(answers), 2) for answers in (before, after)
    )
    tile = change_tile("Since step 0", first, last, "paired")
    assert tile is not None
    assert (tile.number, tile.label) == ("+50.0", "Since step 0")
    fewer = make_evaluation(items[:3], before[:3] + swapped_copies(before[:3]), 2)
    assert change_tile("Since step 0", fewer, last, "paired") is None


def swapped_copies(answers: list[Answer]) -> list[Answer]:
    other: dict[Slot | None, Slot | None] = {1: 2, 2: 1, None: None}
    return [replace(a, order="swapped", choice=other[a.choice]) for a in answers]


def test_points_carry_a_sign() -> None:
    interval = Interval(0.05, -0.01, 0.1)
    difference, number = Tile("x", interval, is_difference=True), Tile("x", interval)
    assert (difference.number, difference.range) == ("+5.0", "[\N{MINUS SIGN}1.0, +10.0]")
    assert (number.number, number.range) == ("5.0", "[\N{MINUS SIGN}1.0, 10.0]")


# Training


def test_alerts_are_spans_of_steps() -> None:
    on = [0, 1, 1, 0, 1]
    metrics = [{"step": 10 + i, "alert/slot_drift": float(flag)} for i, flag in enumerate(on)]
    spans = alert_spans(metrics)
    assert [(span.name, span.first_step, span.last_step) for span in spans] == [
        ("slot_drift", 11, 12),
        ("slot_drift", 14, 14),
    ]
    assert isinstance(spans[0], AlertSpan) and "slot" in spans[0].advice


def test_panels_show_what_was_logged_and_where_alerts_were_on() -> None:
    metrics = [
        {"step": 1, "rollout/slot_1_share": 0.5, "alert/slot_drift": 0.0},
        {"step": 2, "rollout/slot_1_share": float("nan"), "alert/slot_drift": 1.0},
    ]
    (chart,) = training_charts(metrics)
    (trace,) = chart.traces
    assert (chart.title, trace["x"], trace["y"]) == ("Slot-1 share", [1, 2], [0.5, None])
    shapes = chart.layout["shapes"]
    assert isinstance(shapes, list)
    assert [(shape["type"], shape["x0"], shape["x1"]) for shape in shapes] == [
        ("rect", 1.5, 2.5),
        ("line", 0, 1),
    ]


# The file


def test_script_json_holds_no_markup_and_reads_back() -> None:
    data = {"text": HOSTILE, "half": "\ud800", "nan": float("nan"), "list": [float("inf"), 1.5]}
    text = script_json(data)
    assert not set(text) & set("<>&\u2028\u2029\ud800")
    assert text.encode("utf-8")
    assert json.loads(text) == {"text": HOSTILE, "half": "\ud800", "nan": None, "list": [None, 1.5]}


def test_an_evaluation_is_one_page_of_its_own(tmp_path: Path) -> None:
    items = (*make_rows(12), hostile_item())
    answers = make_answers(items, 4, Skill(), seed=1)
    answers = [replace(a, text=HOSTILE) if a.item == "hostile" else a for a in answers]
    warning = "authors' order: a model that always answers <1> scores 100 %"
    folder = write_evaluation(tmp_path / "e", items, answers, 4, warnings=[warning])
    path = build_report(folder, None)
    assert path == folder / "report.html"
    page = Elements(path.read_text(encoding="utf-8"))
    assert warning in page.text
    assert "pwned" not in page.text
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "img", "base")
        assert not attributes.keys() & {"src", "srcset", "onerror", "onclick"}
        assert attributes.get("href", "#").startswith("#")  # type: ignore[union-attr]
    rows = page.report["samples"]["rows"]
    assert [row["key"] for row in rows] == [item.key for item in items]
    assert rows[-1]["question"] == HOSTILE
    assert {vote["text"] for vote in rows[-1]["votes"]} == {HOSTILE}
    first = [a for a in answers if a.item == items[0].key]
    assert [
        (v["order"], v["sample_index"], v["choice"], v["reward"]) for v in rows[0]["votes"]
    ] == [(a.order, a.sample_index, a.choice, a.reward) for a in first]
    assert "Showing" not in page.text


def test_a_capped_browser_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_view, "MAX_ROWS", 5)
    items = make_rows(12)
    folder = write_evaluation(tmp_path / "e", items, make_answers(items, 2, Skill(), 0), 2)
    page = Elements(build_report(folder, tmp_path / "out" / "r.html").read_text())
    assert "Showing 5 of 12 rows" in page.text
    assert len(page.report["samples"]["rows"]) == 5


def test_an_evaluation_without_pairs_or_curves(tmp_path: Path) -> None:
    items = make_rows(4)
    answers = make_answers(items, 2, Skill(), 0)
    (tmp_path / "e").mkdir()
    append_answers(tmp_path / "e" / "answers.jsonl", answers)
    result = replace(
        make_evaluation(items, answers, 1),
        voting=(),
        adaptive=None,
        calibration=None,
        official=None,
        image_off_drop=None,
        mappings=(),
    )
    EvalFolder(tmp_path / "e").write_result(result)
    page = Elements(build_report(tmp_path / "e", None).read_text())
    assert "There is no pairs.parquet" in page.text
    assert page.report["charts"] == []
    assert "Voting@1" not in page.text


def test_a_run_shows_its_curves_and_its_last_evaluation(tmp_path: Path) -> None:
    items = make_rows(20)
    root = write_run(tmp_path / "run", items, num_steps=20, num_samples=4, every=10)
    page = Elements(build_report(root, None).read_text(encoding="utf-8"))
    charts = {chart["name"]: chart for chart in page.report["charts"]}
    assert {"accuracy-over-steps", "train-reward", "train-seconds", "voting"} <= charts.keys()
    evaluated = charts["accuracy-over-steps"]["data"]
    assert [trace["x"] for trace in evaluated if trace.get("name")] == [[0, 10, 20]] * 2
    assert "Since step 0" in page.text
    assert "negatives vanished 19\N{EN DASH}20" in page.text
    assert "evaluated on shapes-heldout at step 20" in page.text
    assert len(page.report["samples"]["rows"]) == 20
    assert [rollout["step"] for rollout in page.report["rollouts"]] == [1] * 4 + [11] * 4 + [20] * 4


def test_a_run_that_has_done_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: new\n")
    page = Elements(build_report(tmp_path, None).read_text())
    assert "No step is done yet." in page.text


def test_a_line_of_metrics_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    """Regression: a traceback for the run of a machine that died while it wrote."""
    root = write_run(tmp_path / "run", make_rows(4), num_steps=4, num_samples=2, every=2)
    with (root / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 5, "reward/to')
    page = Elements(build_report(root, None).read_text(encoding="utf-8"))
    assert "4 steps done" in page.text


def test_plotly_accepts_every_chart(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", make_rows(8), num_steps=10, num_samples=4, every=5)
    charts = Elements(build_report(root, None).read_text(encoding="utf-8")).report["charts"]
    assert len(charts) == 16
    for chart in charts:
        go.Figure(data=resolved(chart["data"]), layout=resolved(chart["layout"]))


def resolved(spec: object) -> Any:
    """With a colour in the place of every variable."""
    if isinstance(spec, str):
        return "red" if spec.startswith("--") else spec
    if isinstance(spec, list):
        return [resolved(each) for each in spec]
    return {k: resolved(v) for k, v in spec.items()} if isinstance(spec, dict) else spec


def test_the_score_by_a_rule_says_whose_and_shows_every_number_of_votes(tmp_path: Path) -> None:
    items = make_rows(8)
    folder = write_evaluation(tmp_path / "e", items, make_answers(items, 2, Skill(), 0), 2)
    page = Elements(build_report(folder, None).read_text())
    assert "By rule: official asking and scoring" in page.text
    for number in ("71.2 %", "90.0 %", "87.6 %"):
        assert number in page.text
    # A result of 0.2 does not know the one or the other.
    result = json.loads((folder / "result.json").read_text())
    del result["official"]["name"], result["official"]["curve"]
    (folder / "result.json").write_text(json.dumps(result))
    page = Elements(build_report(folder, None).read_text())
    assert "By rule: official scoring" in page.text
    assert "71.2 %" not in page.text


def test_a_result_of_an_earlier_version_lacks_fields(tmp_path: Path) -> None:
    items = make_rows(8)
    folder = write_evaluation(tmp_path / "e", items, make_answers(items, 2, Skill(), 0), 2)
    result = json.loads((folder / "result.json").read_text())
    for name in ("adaptive", "calibration", "official", "image_off_drop", "group_accuracy"):
        del result[name]
    (folder / "result.json").write_text(json.dumps(result))
    page = Elements(build_report(folder, None).read_text())
    assert "Accuracy, one sample" in page.text
    assert "Acc+" not in page.text and "Without the image" not in page.text
    assert [chart["name"] for chart in page.report["charts"]] == ["voting"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"conditions": {}}'])
def test_a_result_that_cannot_be_read_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(
        InputError, match=r"result\.json: not the result of an evaluation: "
    ) as error:
        build_report(tmp_path, None)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_neither_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a run folder"):
        build_report(tmp_path, None)


def test_pairs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Regression: a traceback of the Parquet reader."""
    (tmp_path / "pairs.parquet").write_text("no Parquet")
    with pytest.raises(InputError, match=r"pairs\.parquet: not the pairs of an evaluation"):
        read_shown_pairs(tmp_path / "pairs.parquet")
