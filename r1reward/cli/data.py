"""`r1reward data ACTION`: stores of preference pairs made, looked at, cleaned, split and mixed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1reward.cli.decontaminate import add_decontaminate_arguments, decontaminate_stores
from r1reward.errors import InputError
from r1reward.recipe.sections import FRAME_PIXELS

if TYPE_CHECKING:
    from rich.console import Console

    from r1reward.data.cleaning.mix import MixRecipe
    from r1reward.data.import_report import ImportReport

OnRows = Callable[[int], None]
ROWS_A_TICK = 100
SHOWN_BAD_ROWS = 5


def add_data_arguments(verbs: Any) -> None:
    text = "make, look at, clean, split and mix stores of preference pairs"
    actions = verbs.add_parser("data", help=text, description=text).add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    add_import_arguments(actions)
    for action, text in (
        ("validate", "read every pair as training would; list what is wrong"),
        ("stats", "count sources, categories, labels, lengths and images"),
        ("dedupe", "one row of each preference, in a new store"),
    ):
        parser = actions.add_parser(action, help=text, description=text)
        parser.add_argument("stores", type=Path, nargs="+", metavar="DIR")
        if action == "dedupe":
            parser.add_argument("--out", type=Path, required=True)
        if action == "validate":
            parser.add_argument("--images", type=Path, help="folder that paths are relative to")
    add_decontaminate_arguments(actions)
    show = actions.add_parser("show", help="pairs to read, here or as a page")
    show.add_argument("store", type=Path, metavar="DIR")
    show.add_argument("--rows", type=int, default=5)
    show.add_argument("--start", type=int, default=1, help="the first row shown")
    show.add_argument("--images", type=Path, help="folder that paths are relative to")
    show.add_argument("--html", type=Path, help="write a page with the images instead")
    split = actions.add_parser("split", help="parts that share no group, image or pair")
    split.add_argument("store", type=Path, metavar="DIR")
    split.add_argument(
        "--shares", default="train=0.9,heldout=0.1", help="default: train=0.9,heldout=0.1"
    )
    split.add_argument("--seed", type=int, default=0)
    split.add_argument("--out", type=Path, required=True, help="folder of the parts' stores")
    mix = actions.add_parser("mix", help="one store from several, by quotas and weights")
    mix.add_argument(
        "composition", type=Path, nargs="?", help="a YAML file (recipes/mix_200k.yaml)"
    )
    mix.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="DIR[:ROWS|:wWEIGHT]",
        help="without a recipe: a store, and how much of it (default: all); several times",
    )
    mix.add_argument("--weighted-rows", type=int, help="what sources with weights share")
    mix.add_argument("--seed", type=int, help="default: the recipe's, or 0")
    mix.add_argument("--out", type=Path, required=True)


def add_import_arguments(actions: Any) -> None:
    text = "a published data set, or files by a column map, as a store; run it again to resume"
    parser = actions.add_parser("import", help=text, description=text)
    parser.add_argument("format", help="vl-rewardbench, mm-rlhf, rlaif-v, ..., jsonl, csv, parquet")
    parser.add_argument("src", type=Path, help="a file, a folder, or hub:OWNER/NAME")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path, help="media root; default: the source's folder")
    parser.add_argument("--columns", help="question=COLUMN,response_1=COLUMN,... for plain files")
    parser.add_argument("--pairing", choices=("all", "adjacent", "extremes"), default="all")
    parser.add_argument("--media", choices=("embed", "paths"), default="embed")
    parser.add_argument(
        "--missing",
        choices=("drop", "keep"),
        default="drop",
        help="rows whose media are not there; keep stores their texts and paths (--media paths)",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides the preferred slots")
    parser.add_argument("--max-chars", type=int, default=50_000, help="of a question or response")
    parser.add_argument("--max-pixels", type=int, default=50_000_000, help="of an image")
    parser.add_argument("--max-bytes", type=int, default=20_000_000, help="of an image file")
    parser.add_argument("--frames", type=int, default=32, help="shown of a video")
    parser.add_argument("--frame-pixels", type=int, default=FRAME_PIXELS)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)


def run_data(chosen: argparse.Namespace, console: Console) -> None:
    """Raises ``InputError`` for what cannot be used, and for stores that do not pass."""
    for name in ("rows", "start", "max_chars", "max_pixels", "max_bytes", "frames", "frame_pixels"):
        refuse_below_1(chosen, name)
    refuse_below_1(chosen, "threads")
    refuse_below_1(chosen, "weighted_rows")
    try:
        run_action(chosen, console)
    except OSError as error:
        # A place that cannot be read or written, a full disk. No traceback says more.
        again = "; then the same command goes on" if chosen.action == "import" else ""
        raise InputError(f"data {chosen.action}: {error}: mend that{again}") from error


def run_action(chosen: argparse.Namespace, console: Console) -> None:
    match chosen.action:
        case "import":
            import_store(chosen, console)
        case "validate":
            validate_stores(chosen, console)
        case "stats":
            show_stats(chosen, console)
        case "show":
            show_pairs(chosen, console)
        case "dedupe":
            from r1reward.data.cleaning.dedupe import dedupe

            with progress(console, "dedupe") as on_rows:
                report = dedupe(chosen.stores, chosen.out, on_rows)
            print_report(report, chosen.out, console)
        case "decontaminate":
            with progress(console, "decontaminate") as on_rows:
                report, leaks = decontaminate_stores(chosen, on_rows)
            print_report(report, chosen.out, console)
            for benchmark, keys in sorted(leaks.leaked_rows.items()):
                console.print(f"{benchmark}: {len(keys)} of its rows leaked", highlight=False)
        case "split":
            from r1reward.data.cleaning.split import split

            shares = parse_shares(chosen.shares)
            with progress(console, "split") as on_rows:
                reports = split(chosen.store, chosen.out, shares, chosen.seed, on_rows)
            for name, report in reports.items():
                print_report(report, chosen.out / name, console)
        case "mix":
            from r1reward.data.cleaning.mix import mix

            recipe = chosen_mix(chosen)
            with progress(console, "mix") as on_rows:
                report = mix(recipe, chosen.out, on_rows)
            print_report(report, chosen.out, console)


def refuse_below_1(chosen: argparse.Namespace, name: str) -> None:
    value = getattr(chosen, name, None)
    if value is not None and value < 1:
        raise InputError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")


@contextmanager
def progress(console: Console, what: str) -> Iterator[OnRows]:
    """A line that counts rows and their rate; nothing where there is no terminal."""
    from rich.progress import Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    if not console.is_terminal:
        yield lambda num_rows: None
        return
    columns: tuple[ProgressColumn, ...] = (
        SpinnerColumn(),
        TextColumn("{task.description} {task.completed:,.0f} rows"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None, rate="")

        def on_rows(num_rows: int) -> None:
            if num_rows % ROWS_A_TICK == 0:
                speed = bar.tasks[task].speed
                rate = f"{speed:,.0f} rows/s" if speed else ""
                bar.update(task, completed=num_rows, rate=rate)

        yield on_rows


def import_store(chosen: argparse.Namespace, console: Console) -> None:
    from r1reward.data.importers.columns import parse_columns
    from r1reward.data.importers.formats import open_source
    from r1reward.data.importers.importing import ImportOptions, import_pairs
    from r1reward.data.media import FrameRules, ImageLimits
    from r1reward.report.pairs_page import visible

    columns = None if chosen.columns is None else parse_columns(chosen.columns)
    source = open_source(chosen.format, chosen.src, columns, chosen.pairing)
    root = chosen.images or (chosen.src if chosen.src.is_dir() else chosen.src.parent)
    if not root.is_dir():
        raise InputError(f"{root}: no folder of images; give one with --images")
    if chosen.src.is_dir() and chosen.out.resolve().is_relative_to(chosen.src.resolve()):
        raise InputError(
            f"{chosen.out}: lies in the source {chosen.src}; choose a folder outside it"
        )
    if chosen.missing == "keep" and chosen.media == "embed":
        raise InputError(
            "--missing keep needs --media paths: a file that is not there has no content"
        )
    options = ImportOptions(
        media_root=root,
        embed=chosen.media == "embed",
        keep_missing=chosen.missing == "keep",
        seed=chosen.seed,
        max_chars=chosen.max_chars,
        limits=ImageLimits(chosen.max_pixels, chosen.max_bytes),
        frames=FrameRules(chosen.frames, chosen.frame_pixels),
        num_threads=chosen.threads,
    )
    made_by = {
        "import": chosen.format,
        "src": str(chosen.src.resolve()),
        "columns": chosen.columns,
        "pairing": chosen.pairing,
    }
    with progress(console, "import") as on_rows:
        report = import_pairs(source, chosen.out, options, made_by, on_rows)
    print_report(report, chosen.out, console)
    if not report.num_written:
        shown = next((found[0] for found in report.examples.values() if found), "it is empty")
        raise InputError(
            f"{chosen.src}: not one pair could be used ({visible(shown, 300)}); "
            f"{chosen.out}/report.json counts why"
        )


def print_report(report: ImportReport, out: Path, console: Console) -> None:
    from rich.table import Table

    from r1reward.data.import_report import MAX_MISSING_FILES

    table = Table("", "rows", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    table.add_row("read", f"{report.num_read:,}")
    for reason, count in sorted(report.dropped.items(), key=lambda item: -item[1]):
        table.add_row(f"  dropped: {reason}", f"{count:,}")
    table.add_row("written", f"{report.num_written:,}")
    for note, count in sorted(report.notes.items()):
        table.add_row(f"  {note}", f"{count:,}")
    for slot, count in sorted(report.preferred.items()):
        table.add_row(f"  response {slot} preferred", f"{count:,}")
    console.print(table)
    if report.missing_files:
        least = "at least " if len(report.missing_files) == MAX_MISSING_FILES else ""
        console.print(
            f"missing  {least}{len(report.missing_files):,} files, listed in the report",
            highlight=False,
        )
    console.print(
        f"store    {out}\nreport   {out}/report.json", highlight=False, markup=False, soft_wrap=True
    )


def validate_stores(chosen: argparse.Namespace, console: Console) -> None:
    from r1reward.data.stores.validate import validate

    num_bad = 0
    for store in chosen.stores:
        with progress(console, "validate") as on_rows:
            report = validate(store, chosen.images, on_rows)
        bad = sum(report.dropped.values())
        num_bad += bad
        console.print(
            f"{store}: {report.num_read:,} pairs, {bad:,} cannot be used",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        for reason, sentences in report.examples.items():
            console.print(f"  {reason}: {report.dropped[reason]:,}", highlight=False)
            for sentence in sentences[:SHOWN_BAD_ROWS]:
                console.print(f"    {sentence}", highlight=False, markup=False, soft_wrap=True)
    if num_bad:
        raise InputError(f"{num_bad:,} pairs cannot be used; mend or remove them")


def show_stats(chosen: argparse.Namespace, console: Console) -> None:
    from rich.table import Table

    from r1reward.data.stores.pair_stats import MEASURES, QUANTILES, count_pairs

    with progress(console, "stats") as on_rows:
        stats = count_pairs(chosen.stores, on_rows)
    if not stats.num_rows:
        raise InputError(f"{', '.join(map(str, chosen.stores))}: holds no pairs")
    table = Table("", "pairs", "share", box=None, pad_edge=False)
    table.add_row("all", f"{stats.num_rows:,}", "")
    for what, counts in (
        ("source", stats.sources),
        ("category", stats.categories),
        ("preferred", stats.preferred),
    ):
        for name, count in counts.most_common(20):
            share = f"{count / stats.num_rows:.1%}"
            table.add_row(printable(f"{what} {name or '(none)'}"), f"{count:,}", share)
    longer = stats.longer_preferred
    table.add_row("the longer response preferred", f"{longer:,}", f"{longer / stats.num_rows:.1%}")
    table.add_row("with a video", f"{stats.num_videos:,}", "")
    table.add_row("groups", f"{len(stats.groups):,}", "")
    console.print(table)
    measures = Table("a row has", *(f"{q} %" for q in QUANTILES), box=None, pad_edge=False)
    for name in MEASURES:
        measures.add_row(name, *(f"{value:,}" for value in stats.quantiles(name)))
    console.print(measures)


def printable(text: str) -> str:
    """For a table: no control characters, no markup of the terminal's."""
    from rich.markup import escape

    from r1reward.report.pairs_page import visible

    return escape(visible(text, 80))


def show_pairs(chosen: argparse.Namespace, console: Console) -> None:
    from itertools import chain, islice

    from r1reward.data.stores.store import iter_pairs
    from r1reward.report.pairs_page import print_pairs, write_page

    first = chosen.start - 1
    wanted = islice(iter_pairs(chosen.store, chosen.images), first, first + chosen.rows)
    if (shown := next(wanted, None)) is None:
        raise InputError(f"{chosen.store}: holds no row {chosen.start}")
    pairs = chain([shown], wanted)
    if chosen.html is None:
        print_pairs(pairs, console)
        return
    num_shown = write_page(pairs, chosen.html, str(chosen.store))
    console.print(
        f"page     {chosen.html} ({num_shown} pairs)", highlight=False, markup=False, soft_wrap=True
    )


def parse_shares(spec: str) -> dict[str, float]:
    """``train=0.9,heldout=0.1``; the shares need not add up to 1."""
    shares: dict[str, float] = {}
    for item in spec.split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not name or name in shares or name.startswith(".") or "/" in name:
            raise InputError(f"--shares: {item!r} is not of the form NAME=SHARE, each name once")
        shares[name] = number(value, f"--shares: the share of {name}")
    return shares


def number(value: str, what: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = -1.0
    if not 0 < found < float("inf"):
        raise InputError(f"{what} is {value!r}; it must be a number above 0")
    return found


def chosen_mix(chosen: argparse.Namespace) -> MixRecipe:
    from r1reward.data.cleaning.mix import build_mix, load_mix

    if (chosen.composition is None) == (not chosen.source):
        raise InputError("mix needs a recipe or --source, and not both")
    if chosen.composition is not None:
        recipe = load_mix(chosen.composition)
        seed = {} if chosen.seed is None else {"seed": chosen.seed}
        return recipe.model_copy(update=seed)
    sources = [parse_mix_source(source) for source in chosen.source]
    settings = {"sources": sources, "weighted_rows": chosen.weighted_rows, "seed": chosen.seed or 0}
    return build_mix(settings, "mix")


def parse_mix_source(spec: str) -> dict[str, object]:
    """``DIR``, ``DIR:500`` (rows) or ``DIR:w0.5`` (a weight)."""
    store, colon, amount = spec.rpartition(":")
    if not colon or not store:
        return {"store": spec}
    if amount.startswith("w"):
        return {"store": store, "weight": number(amount[1:], f"--source {spec}: the weight")}
    if not amount.isdecimal() or int(amount) < 1:
        raise InputError(
            f"--source {spec}: {amount!r} is neither a number of rows nor a weight (w0.5)"
        )
    return {"store": store, "rows": int(amount)}
