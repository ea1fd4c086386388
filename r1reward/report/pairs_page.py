"""Pairs for people: in the terminal, and as one HTML page with the images inside."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from markupsafe import Markup
from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from r1reward.evaluation.shown_pairs import thumbnail
from r1reward.report.embed import data_uri, page_template
from r1reward.types import PreferencePair

MAX_TERMINAL_CHARS = 1500
MAX_PAGE_CHARS = 20_000
MAX_PAGE_BYTES = 20_000_000
# What moves a cursor, rings a bell or turns the direction of writing.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str, max_chars: int) -> str:
    """What a person can be shown: no control characters, no more than ``max_chars``."""
    shown = UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text[:max_chars])
    left_out = len(text) - max_chars
    return shown if left_out <= 0 else f"{shown} … ({left_out:,} more characters)"


def facts(pair: PreferencePair) -> str:
    """One line of where the pair is from and what it has."""
    named = (("source", pair.source), ("category", pair.category), ("group", pair.group))
    shown = [f"{name} {visible(value, 100)}" for name, value in named if value]
    sizes = ", ".join(f"{len(image) / 1000:,.0f} kB" for image in pair.images[:8])
    count = "1 image" if len(pair.images) == 1 else f"{len(pair.images)} images"
    images = f"{count} ({sizes})" if pair.images else "no image"
    return " · ".join([*shown, images, pair.pair_id])


def print_pairs(pairs: Iterable[PreferencePair], console: Console) -> None:
    """Prints every pair with its responses in boxes, the preferred one in green."""
    for pair in pairs:
        texts: list[Text | Panel] = [Text(facts(pair), style="dim")]
        texts.append(Text(visible(pair.question, MAX_TERMINAL_CHARS)))
        for slot, response in ((1, pair.response_1), (2, pair.response_2)):
            is_preferred = slot == pair.preferred
            title = f"response {slot}" + (", preferred" if is_preferred else "")
            style = "green" if is_preferred else "dim"
            text = Text(visible(response, MAX_TERMINAL_CHARS))
            texts.append(Panel(text, title=title, title_align="left", border_style=style))
        origin = Text(visible(pair.origin, 200))
        console.print(Panel(Group(*texts), title=origin, title_align="left"))


def write_page(pairs: Iterable[PreferencePair], out: Path, title: str) -> int:
    """Write the page and return how many pairs it shows; it ends before it gets too large."""
    rows = list(rows_that_fit(pairs))
    html = page_template("pairs.html").render(title=visible(title, 200), rows=rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html, encoding="utf-8")
    return len(rows)


def rows_that_fit(pairs: Iterable[PreferencePair]) -> Iterator[Markup]:
    """The first pairs as HTML, as many as a page of at most ``MAX_PAGE_BYTES`` holds."""
    template = page_template("pair.html")
    spent = 0
    for pair in pairs:
        # Pictures are made small and texts cut.
        html = template.render(
            origin=visible(pair.origin, 300),
            facts=facts(pair),
            question=visible(pair.question, MAX_PAGE_CHARS),
            responses=[visible(r, MAX_PAGE_CHARS) for r in (pair.response_1, pair.response_2)],
            preferred=pair.preferred,
            images=[data_uri(thumbnail(image)) for image in pair.images],
        )
        spent += len(html.encode())
        if spent > MAX_PAGE_BYTES:
            return
        yield Markup(html)
