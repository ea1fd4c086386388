"""The report in a real browser: it opens without a network, fits, draws, filters, and runs no text."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from r1reward.evaluation.shown_pairs import ShownPair
from r1reward.report.build import build_report
from r1reward.report.samples import row_flags
from r1reward.types import Slot
from tests.report_folders import (
    HOSTILE,
    Skill,
    hostile_item,
    make_answers,
    make_rows,
    write_evaluation,
    write_pipeline,
    write_run,
    write_sft_run,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip(
        "no Chromium on this machine: install the system's package `chromium`",
        allow_module_level=True,
    )
pytest.importorskip("playwright.sync_api", reason="needs the `dev` extra: playwright")
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright  # noqa: E402

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NUM_ROWS = 90
NUM_SAMPLES = 6
ITEMS = (*make_rows(NUM_ROWS), hostile_item())
ANSWERS = [
    replace(answer, text=HOSTILE + answer.text) if answer.item == "hostile" else answer
    for answer in make_answers(ITEMS, NUM_SAMPLES, Skill(0.75, 0.2, 0.1), seed=3)
]
DARK_INK, LIGHT_INK = "rgb(28, 28, 26)", "rgb(236, 235, 229)"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\u202a-\u202e]")
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("reports")
    run = write_run(root / "run", ITEMS[:12], num_steps=20, num_samples=4, every=10)
    warnings = ["An order that gives the answer away."]
    evaluation = write_evaluation(root / "eval", ITEMS, ANSWERS, NUM_SAMPLES, warnings=warnings)
    folders = {
        "run": run,
        "eval": evaluation,
        "pipeline": write_pipeline(root / "pipeline", ITEMS[:12]),
        "begun": write_pipeline(root / "begun", ITEMS[:12], evaluated=("base",)),
        "sft": write_sft_run(root / "sft", num_steps=16, every=8),
    }
    return {name: build_report(folder, None) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ends with its processes whatever a test does: both managers close on errors, too."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield launched
        finally:
            launched.close()


@contextmanager
def opened(
    browser: Browser, path: Path, size: str = "desktop", scheme: str = "light", at: str = ""
) -> Iterator[Page]:
    """The page, with every complaint and every request but its own file an error at the end."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        has_touch=size == "phone",
        is_mobile=size == "phone",
    )
    complaints: list[str] = []
    requests: list[str] = []

    def let_through(route: Route) -> None:
        requests.append(route.request.url)
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            route.abort()

    try:
        context.route("**/*", let_through)
        page = context.new_page()
        page.on(
            "console",
            lambda said: (
                complaints.append(said.text) if said.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri() + at)
        yield page
        assert complaints == []
        found = [url for url in requests if not url.startswith("data:")]
        assert found == [path.as_uri()]
    finally:
        context.close()


def draw_all(page: Page) -> None:
    """Charts are drawn as they come near the window, so every one is passed by."""
    plots = page.locator(".plot")
    page.evaluate(
        "async () => { for (const plot of document.querySelectorAll('.plot')) {"
        " plot.scrollIntoView();"
        " while (!plot.querySelector('svg')) await new Promise(requestAnimationFrame); } }"
    )
    assert plots.locator("svg.main-svg").count() >= plots.count()


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    found = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert isinstance(found, int)
    return found


def shown_rows(page: Page) -> int:
    found = re.match(r"(\d+) of", page.locator("#found").inner_text())
    assert found is not None
    return int(found[1])


def visible(text: str) -> str:
    """Control characters by their names, as the page shows them."""
    return CONTROLS.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


@pytest.mark.parametrize(
    ("name", "num_charts", "size", "scheme"),
    [
        ("run", 16, "desktop", "light"),
        ("run", 16, "phone", "dark"),
        ("eval", 2, "phone", "light"),
        ("sft", 4, "desktop", "light"),
        ("pipeline", 23, "desktop", "dark"),
        ("pipeline", 23, "phone", "light"),
        ("begun", 23, "phone", "dark"),
    ],
)
def test_it_opens_fits_and_draws(
    browser: Browser, reports: dict[str, Path], name: str, num_charts: int, size: str, scheme: str
) -> None:
    with opened(browser, reports[name], size, scheme) as page:
        draw_all(page)
        sizes = page.evaluate(
            "[...document.querySelectorAll('.plot')].map((plot) => {"
            " const lines = [...plot.querySelectorAll('.js-line, .xerror, .yerror, .bars path')];"
            " const box = plot.querySelector('svg').getBoundingClientRect();"
            " return [box.width, box.height, Math.max(...lines.map((l) => l.getTotalLength()))]; })"
        )
        assert len(sizes) == num_charts
        assert all(width > 200 and height > 150 and ink > 50 for width, height, ink in sizes)
        assert overflow(page) == 0


def test_charts_follow_the_colours_of_screen_and_paper(
    browser: Browser, reports: dict[str, Path]
) -> None:
    with opened(browser, reports["run"]) as page:
        page.locator(".plot").first.scroll_into_view_if_needed()
        tick = page.locator(".plot .xtick text").first
        expect(tick).to_have_css("fill", DARK_INK)
        page.emulate_media(color_scheme="dark")
        expect(tick).to_have_css("fill", LIGHT_INK)
        page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
        expect(tick).to_have_css("fill", DARK_INK)
        assert page.locator(".plot").locator("svg.main-svg").count() >= 16
        page.evaluate("() => dispatchEvent(new Event('afterprint'))")
        expect(tick).to_have_css("fill", LIGHT_INK)


def test_filters_show_the_rows_they_name(browser: Browser, reports: dict[str, Path]) -> None:
    by_item = {item.key: [a for a in ANSWERS if a.item == item.key] for item in ITEMS}
    shown = {
        kind: sum(
            kind in row_flags(shown_pair(item.key, item.pair.preferred), by_item[item.key])
            for item in ITEMS
        )
        for kind in ("error", "flip", "unreadable", "split")
    }
    assert all(0 < count < len(ITEMS) for count in shown.values())
    with opened(browser, reports["eval"]) as page:
        assert shown_rows(page) == len(ITEMS)
        for kind, count in shown.items():
            page.locator(f"label:has(input[value={kind}])").click()
            assert shown_rows(page) == count
            assert page.locator(f"[data-count={kind}]").inner_text() == str(count)
        page.locator("label:has(input[value=all])").click()
        page.locator("#category").select_option("two objects")
        num_two = sum(item.categories["objects"] == "two objects" for item in ITEMS)
        assert shown_rows(page) == num_two
        page.locator("#category").select_option("")
        page.locator("#search").fill("HELDOUT-0007")
        expect(page.locator("#found")).to_have_text(f"1 of {len(ITEMS)} rows.")
        assert page.locator("#row h3").inner_text() == "heldout-0007"
        page.locator("#search").fill("no such words anywhere")
        expect(page.locator("#found")).to_have_text(f"0 of {len(ITEMS)} rows.")
        assert page.locator("#row").inner_text() == "No row matches."


def shown_pair(key: str, preferred: int) -> ShownPair:
    slot: Slot = 1 if preferred == 1 else 2
    return ShownPair(key, "", "", "", "", slot, "", "", ())


def test_rows_are_made_as_the_list_is_scrolled(browser: Browser, reports: dict[str, Path]) -> None:
    with opened(browser, reports["eval"]) as page:
        rows = page.locator("#rows button")
        assert rows.count() == 60
        page.evaluate("document.getElementById('rows').scrollTop = 1e6")
        expect(rows).to_have_count(len(ITEMS))
        rows.last.click()
        assert page.locator("#row h3").inner_text() == "<b>hostile</b>"


def test_the_keyboard_goes_everywhere(browser: Browser, reports: dict[str, Path]) -> None:
    with opened(browser, reports["eval"]) as page:
        heading = page.locator("#row h3")
        assert heading.inner_text() == "heldout-0000"
        page.keyboard.press("j")
        assert heading.inner_text() == "heldout-0001"
        page.evaluate(
            "() => { for (let i = 0; i < 69; i++) document.body.dispatchEvent("
            "new KeyboardEvent('keydown', { key: 'j', bubbles: true, cancelable: true })); }"
        )
        assert heading.inner_text() == "heldout-0070"
        page.keyboard.press("k")
        assert heading.inner_text() == "heldout-0069"
        page.locator("#rows button[aria-current]").focus()
        page.keyboard.press("ArrowDown")
        assert heading.inner_text() == "heldout-0070"
        traces = page.locator("#row details.vote[open] .trace")
        expect(traces).to_have_count(2)
        page.keyboard.press("e")
        expect(traces).to_have_count(NUM_SAMPLES)
        page.keyboard.press("/")
        page.keyboard.type("jke/")
        assert page.locator("#search").input_value() == "jke/"
        assert page.url.endswith(f"#row={ITEMS[70].key}")


def test_a_row_can_be_linked(browser: Browser, reports: dict[str, Path]) -> None:
    with opened(browser, reports["eval"], at=f"#row={ITEMS[80].key}") as page:
        assert page.locator("#row h3").inner_text() == "heldout-0080"
        assert page.locator("#rows button[aria-current]").count() == 1


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_hostile_text_is_shown_literally(
    browser: Browser, reports: dict[str, Path], size: str
) -> None:
    with opened(browser, reports["eval"], size) as page:
        page.locator("#search").fill("pwned")
        expect(page.locator("#found")).to_have_text(f"1 of {len(ITEMS)} rows.")
        page.keyboard.press("Escape")
        page.keyboard.press("e")
        expect(page.locator("#row .trace")).to_have_count(NUM_SAMPLES)
        texts = "[...document.querySelectorAll('{}')].map((place) => place.textContent)"
        assert page.evaluate(texts.format("#row .question")) == [visible(HOSTILE)]
        responses = page.evaluate(texts.format("#row .text"))
        assert responses == [visible("one? " + HOSTILE), visible("two " + HOSTILE)]
        for trace in page.evaluate(texts.format("#row .trace")):
            assert trace.startswith(visible(HOSTILE))
        assert page.title() == "shapes-heldout · r1reward"
        assert page.locator("#row img").count() == 1
        assert page.locator("#row").locator("b, i:not(.votebar i), script").count() == 0
        assert overflow(page) == 0


def test_pictures_and_the_preferred_response_are_shown(
    browser: Browser, reports: dict[str, Path]
) -> None:
    with opened(browser, reports["eval"]) as page:
        for place in range(3):
            picture = page.locator("#row img")
            picture.wait_for()
            assert picture.evaluate("async (p) => { await p.decode(); return p.naturalWidth; }") > 0
            best = page.locator("#row .response.preferred h4").inner_text()
            assert best.startswith(f"Response {ITEMS[place].pair.preferred}")
            page.keyboard.press("j")


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_a_pipeline_shows_what_its_teacher_wrote(
    browser: Browser, reports: dict[str, Path], size: str
) -> None:
    with opened(browser, reports["pipeline"], size) as page:
        cards = page.locator("#attempt-list details")
        expect(cards).to_have_count(5)
        traces = [each.text_content() for each in cards.locator(".trace").all()]
        assert traces[0] == "<think>0 y</think><answer>1</answer>"
        assert traces[-1] == visible(HOSTILE)
        assert "attempt 2 of 2" in cards.nth(2).locator("summary").inner_text()
        assert "the pair failed" in cards.last.locator("summary").inner_text()
        assert page.title() == "whole · r1reward"
        assert page.locator("#select td").nth(3).inner_text() == "<i>other</i>"


def test_a_table_of_three_models_fits_a_phone(browser: Browser, reports: dict[str, Path]) -> None:
    with opened(browser, reports["pipeline"], "phone") as page:
        table = page.locator(".models")
        assert table.locator("thead th").count() == 3
        hidden = "(table) => table.scrollWidth - table.parentElement.clientWidth"
        assert table.evaluate(hidden) <= 0


def test_training_rollouts_open(browser: Browser, reports: dict[str, Path]) -> None:
    with opened(browser, reports["run"]) as page:
        rollout = page.locator("#rollout-list details").first
        summary = rollout.locator("summary").first
        summary.click()
        assert "Response" in rollout.locator(".trace").first.inner_text()
        assert "step 1" in summary.inner_text()
