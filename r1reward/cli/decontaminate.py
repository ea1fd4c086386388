"""`r1reward data decontaminate`: stores of pairs against the benchmarks they must not contain."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1reward.errors import InputError

if TYPE_CHECKING:
    from r1reward.data.cleaning.decontaminate import LeakReport
    from r1reward.data.import_report import ImportReport
    from r1reward.types import PreferencePair

AGAINST_HELP = (
    "a benchmark: vl-rewardbench, mm-rlhf-rewardbench, multimodal-rewardbench, or pairs for a store; "
    "its file; where they are not beside it, its images; several times"
)


def add_decontaminate_arguments(actions: Any) -> None:
    text = "leave out pairs that are in a benchmark, by text or by image, in a new store"
    parser = actions.add_parser("decontaminate", help=text, description=text)
    parser.add_argument("stores", type=Path, nargs="+", metavar="DIR")
    parser.add_argument(
        "--against", action="append", required=True, metavar="NAME=PATH[,IMAGES]", help=AGAINST_HELP
    )
    parser.add_argument(
        "--text",
        choices=("off", "both", "one"),
        default="one",
        help="how many responses must be similar, beside the question",
    )
    parser.add_argument("--image", choices=("off", "exact", "near"), default="near")
    parser.add_argument("--out", type=Path, required=True)


def decontaminate_stores(
    chosen: argparse.Namespace, on_rows: Callable[[int], None]
) -> tuple[ImportReport, LeakReport]:
    """Raises ``InputError`` for a benchmark or store that cannot be read."""
    from r1reward.data.cleaning.decontaminate import BenchmarkIndex, LeakSettings
    from r1reward.data.cleaning.leak_free import remove_leaks

    if chosen.text == chosen.image == "off":
        raise InputError("--text and --image are both off, so nothing is compared; turn one on")
    settings = LeakSettings(text=chosen.text, image=chosen.image)
    rows = [
        pair for spec in chosen.against for pair in benchmark_pairs(spec, chosen.image == "off")
    ]
    made_by = {
        "decontaminate": [str(path.resolve()) for path in chosen.stores],
        "against": chosen.against,
        "text": chosen.text,
        "image": chosen.image,
    }
    index = BenchmarkIndex.build(rows, settings)
    return remove_leaks(chosen.stores, chosen.out, index, made_by, on_rows)


def benchmark_pairs(spec: str, text_only: bool) -> Iterator[PreferencePair]:
    """The rows of one ``--against``. Only their texts are read where images are not compared."""
    from dataclasses import replace

    from r1reward.evaluation.benchmarks.load import load_benchmark
    from r1reward.evaluation.benchmarks.rows import MediaOptions

    name, equals, place = spec.partition("=")
    if not equals or not place:
        raise InputError(f"--against: {spec!r} is not of the form NAME=PATH or NAME=PATH,IMAGES")
    file, _, images = place.partition(",")
    if text_only and name != "pairs":
        yield from benchmark_texts(name, Path(file))
        return
    media = MediaOptions(root=Path(images) if images else None)
    for item in load_benchmark(name, Path(file), media).items:
        yield replace(item.pair, source=item.pair.source or name)


def benchmark_texts(name: str, path: Path) -> Iterator[PreferencePair]:
    from r1reward.data.importers.formats import open_source
    from r1reward.data.importers.raw_pair import Broken
    from r1reward.types import PreferencePair

    for row in open_source(name, path, None):
        if isinstance(row, Broken):
            raise InputError(f"{row.origin}: {row.reason}")
        texts = (row.question, row.response_1, row.response_2)
        yield PreferencePair(
            question=texts[0],
            images=(),
            response_1=texts[1],
            response_2=texts[2],
            preferred=row.preferred or 1,
            source=name,
            origin=row.origin,
        )
