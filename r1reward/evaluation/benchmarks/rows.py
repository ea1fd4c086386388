"""From rows as a benchmark publishes them to items with their images read and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from r1reward.data.importers.raw_pair import Broken, RawPair
from r1reward.data.stores.store import DataError, load_image
from r1reward.data.video import frame_files, load_frames
from r1reward.evaluation.items import Benchmark, make_items
from r1reward.recipe.sections import FRAME_PIXELS
from r1reward.types import PreferencePair

MEDIA_MISSING = "media missing"


@dataclass(frozen=True)
class MediaOptions:
    """Where images and videos are, and what to do about those that are not.

    ``root`` is the folder that paths in the rows are relative to; None is the folder of the rows.
    ``frame_max_pixels`` bounds each of the ``num_frames`` frames of a video.
    """

    root: Path | None = None
    missing: Literal["refuse", "drop"] = "refuse"
    num_frames: int = 32
    frame_max_pixels: int = FRAME_PIXELS


def build_benchmark(
    name: str,
    path: Path,
    rows: Iterable[RawPair | Broken],
    categories: Callable[[RawPair], Mapping[str, str]],
    mappings: Mapping[str, str],
    media: MediaOptions,
) -> Benchmark:
    """``group`` of a row is its id; rows with the same id are one group. ``categories`` gives a row's
    category under each mapping. Raises ``DataError`` for what cannot be used.

    A row whose two responses are identical counts as it is published.
    """
    pairs = list(unbroken(rows))
    if not pairs:
        raise DataError(f"{path}: holds no rows")
    root = media.root or (path if path.is_dir() else path.parent)
    absent = [first_absent(pair, root) for pair in pairs]
    num_missing = refuse_missing(path, absent, root, media.missing)
    kept = [pair for pair, file in zip(pairs, absent, strict=True) if file is None]
    default = next(iter(mappings))
    read: dict[str, tuple[bytes, ...]] = {}  # rows of one group share their media
    items = make_items(
        (
            with_media(pair, categories(pair)[default], root, media, read),
            pair.group,
            categories(pair),
        )
        for pair in kept
    )
    return Benchmark(name, items, mappings, {MEDIA_MISSING: num_missing} if num_missing else {})


def unbroken(rows: Iterable[RawPair | Broken]) -> Iterator[RawPair]:
    """A benchmark with a row of the wrong shape is another benchmark: it is refused."""
    for row in rows:
        if isinstance(row, Broken):
            raise DataError(f"{row.origin}: {row.reason}")
        yield row


def with_media(
    pair: RawPair,
    category: str,
    root: Path,
    media: MediaOptions,
    read: dict[str, tuple[bytes, ...]],
) -> PreferencePair:
    assert pair.preferred is not None, "no benchmark has ties"
    return PreferencePair(
        question=pair.question,
        images=read_media(pair, root, media, read),
        response_1=pair.response_1,
        response_2=pair.response_2,
        preferred=pair.preferred,
        source=pair.source,
        category=category,
        group=pair.group,
        origin=pair.origin,
    )


def first_absent(pair: RawPair, root: Path) -> str | None:
    """The image or video of a row that is not there."""
    if pair.video is not None and is_absent(pair.video, True, root):
        return pair.video
    paths = (image for image in pair.images if isinstance(image, str))
    return next((path for path in paths if is_absent(path, False, root)), None)


def is_absent(item: str, is_video: bool, root: Path) -> bool:
    """Is there nothing to read? A path that leads out of the folder is refused when it is read."""
    path = (root / item).resolve()
    if not path.is_relative_to(root.resolve()):
        return False
    if is_video:
        return not path.is_dir() or not frame_files(path)
    return not path.is_file()


def refuse_missing(
    path: Path, absent: Sequence[str | None], root: Path, missing: Literal["refuse", "drop"]
) -> int:
    """How many rows miss their media: ``absent`` names the missing file of each row.

    Raises ``DataError`` once for all of them if they may not be dropped, or if no row is left.
    """
    files = [file for file in absent if file is not None]
    if files and (missing == "refuse" or len(files) == len(absent)):
        distinct = list(dict.fromkeys(files))
        shown = ", ".join(distinct[:3]) + (", ..." if len(distinct) > 3 else "")
        remedy = "point the images folder at the one that holds them"
        if len(files) < len(absent):
            remedy += ", or choose to drop rows whose media are missing"
        raise DataError(
            f"{path}: {len(files)} of {len(absent)} rows miss their image or video under {root} "
            f"({shown}): {remedy}"
        )
    return len(files)


def read_media(
    pair: RawPair, root: Path, media: MediaOptions, read: dict[str, tuple[bytes, ...]]
) -> tuple[bytes, ...]:
    """The row's images, then its video's frames. ``read`` keeps what was read from files."""
    shown: list[bytes] = []
    for image in pair.images:
        if isinstance(image, bytes):
            shown.append(load_image(image, pair.origin, root))
            continue
        if image not in read:
            read[image] = (load_image(image, pair.origin, root),)
        shown.extend(read[image])
    if pair.video is not None:
        if pair.video not in read:
            read[pair.video] = load_frames(
                pair.video, pair.origin, root, media.num_frames, media.frame_max_pixels
            )
        shown.extend(read[pair.video])
    return tuple(shown)
