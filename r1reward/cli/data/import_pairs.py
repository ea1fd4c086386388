"""``r1reward data import``: a published data set, or files of one's own, as a store."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from r1reward.cli.data.action import (
    LINKS,
    MAX_DROPPED,
    data_verb,
    print_report,
    progress,
    refuse_lost,
)
from r1reward.cli.verb import argument, option
from r1reward.errors import InputError
from r1reward.recipe.choices import Pairing
from r1reward.recipe.sections import FRAME_PIXELS


@dataclass(frozen=True)
class ImportArguments:
    """A source of pairs, and how it becomes a store."""

    format: str = argument(help="vl-rewardbench, mm-rlhf, rlaif-v, ..., jsonl, json, csv, parquet")
    src: Path = argument(help="a file, a folder, or hub:OWNER/NAME")
    out: Path = option(required=True)
    images: Path | None = option(help="media root; default: the source's folder")
    links: list[Path] = option(**LINKS)
    columns: str | None = option(
        help="question=COLUMN,response_1=COLUMN,...; default: files whose columns have known names"
    )
    pairing: Pairing = option(default="all")
    media: Literal["embed", "paths"] = option(default="embed")
    missing: Literal["drop", "keep"] = option(
        default="drop",
        help="rows whose media are not there; keep stores their texts and paths (--media paths)",
    )
    seed: int = option(default=0, help="decides the preferred slots")
    max_chars: int = option(default=50_000, help="of a question or response")
    max_pixels: int = option(default=50_000_000, help="of an image")
    max_bytes: int = option(default=20_000_000, help="of an image file")
    frames: int = option(default=32, help="shown of a video")
    frame_pixels: int = option(default=FRAME_PIXELS)
    max_dropped: float = option(**MAX_DROPPED)
    threads: int = option(default=os.cpu_count() or 1)

    @property
    def media_root(self) -> Path:
        return self.images or (self.src if self.src.is_dir() else self.src.parent)


def run(arguments: ImportArguments) -> int | None:
    """Returns 1 if no pair could be used, or too large a share of the rows was lost."""
    from r1reward.data.importers.columns import parse_columns
    from r1reward.data.importers.formats import open_source
    from r1reward.data.importers.hub import local_source
    from r1reward.data.importers.importing import ImportOptions, import_pairs
    from r1reward.data.media import ImageLimits
    from r1reward.data.video import FrameRules

    arguments = replace(arguments, src=local_source(arguments.src))
    src, out = arguments.src, arguments.out
    columns = None if arguments.columns is None else parse_columns(arguments.columns)
    source = open_source(arguments.format, src, columns, arguments.pairing)
    check_folders(arguments)
    options = ImportOptions(
        media_root=arguments.media_root,
        embed=arguments.media == "embed",
        keep_missing=arguments.missing == "keep",
        seed=arguments.seed,
        max_chars=arguments.max_chars,
        limits=ImageLimits(arguments.max_pixels, arguments.max_bytes),
        frames=FrameRules(arguments.frames, arguments.frame_pixels),
        links=tuple(arguments.links),
        num_threads=arguments.threads,
    )
    made_by = {
        "import": arguments.format,
        "src": str(src.resolve()),
        "columns": arguments.columns,
        "pairing": arguments.pairing,
    }
    with progress("import") as on_rows:
        report = import_pairs(source, out, options, made_by, on_rows)
    print_report(report, out)
    if not report.num_read:
        raise InputError(f"{src}: holds no rows")
    return refuse_lost(report, arguments.max_dropped, str(src))


def check_folders(arguments: ImportArguments) -> None:
    """Raises ``InputError`` for folders and options that do not go together."""
    src, out = arguments.src, arguments.out
    if not arguments.media_root.is_dir():
        raise InputError(f"{arguments.media_root}: no folder of images; give one with --images")
    if src.is_dir() and out.resolve().is_relative_to(src.resolve()):
        raise InputError(f"{out}: lies in the source {src}; choose a folder outside it")
    if arguments.missing == "keep" and arguments.media == "embed":
        raise InputError(
            "--missing keep needs --media paths: a file that is not there has no content"
        )


VERB = data_verb(
    "import",
    "a published data set, or files by a column map, as a store; run it again to resume",
    run,
    can_resume=True,
)
