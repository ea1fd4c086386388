"""From a source's pairs to a store: media read and checked, order balanced, every drop counted."""

import json
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from r1reward.data.image_values import bytes_unless_file
from r1reward.data.import_report import ImportReport
from r1reward.data.importers.raw_pair import RawPair, RawPairs
from r1reward.data.media import ImageLimits, is_animated
from r1reward.data.order import derive_seed
from r1reward.data.prompt import CONTROL_TOKEN
from r1reward.data.stores.key_set import KeySet
from r1reward.data.stores.pair_writer import SHARD_ROWS, PairWriter
from r1reward.data.stores.remarks import ALIKE, CONTRADICTS, are_alike
from r1reward.data.stores.store import Header, check_row, pair_keys, pair_row
from r1reward.data.video import FrameRules, MediaFolder, load_media
from r1reward.errors import DataError
from r1reward.types import Slot

# Controls but tab and line ends, and halves of surrogate pairs: they say nothing and break terminals,
# files and tokenizers.
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
CHUNK_ROWS = 16
TEXTS = ("question", "response_1", "response_2")


@dataclass(frozen=True)
class ImportOptions:
    """``embed`` copies media into the store; without it the store holds paths below ``media_root``.

    ``max_chars`` bounds the question and each response; ``seed`` decides which slot is preferred.
    Links may lead into the folders ``links``. ``keep_missing`` stores rows whose media are not there
    yet, with their paths: texts can be looked at, and reading such a row raises an error that names the
    missing file.
    """

    media_root: Path
    embed: bool = True
    keep_missing: bool = False
    seed: int = 0
    max_chars: int = 50_000
    limits: ImageLimits = field(default_factory=ImageLimits)
    frames: FrameRules = field(default_factory=FrameRules)
    links: tuple[Path, ...] = ()
    num_threads: int = 1

    @property
    def media(self) -> MediaFolder:
        """Where media are, and how they are read."""
        return MediaFolder(self.media_root, self.frames, self.limits, self.links)

    def to_json(self) -> dict[str, Any]:
        """Returns what the result depends on, as JSON values."""
        options = asdict(self) | {"media_root": str(self.media_root.resolve())}
        del options["num_threads"], options["links"]
        links = {"links": [str(folder.resolve()) for folder in self.links]} if self.links else {}
        return options | links


@dataclass(frozen=True)
class Prepared:
    """A pair that may be stored, its row, and what is worth noting of it."""

    row: dict[str, Any]
    notes: tuple[str, ...]
    missing: str | None = None


def import_pairs(
    source: Iterable[RawPair | DataError],
    out: Path,
    options: ImportOptions,
    made_by: Mapping[str, Any],
    on_rows: Callable[[int], None] = lambda num_rows: None,
    shard_rows: int = SHARD_ROWS,
) -> ImportReport:
    """Writes the store ``out``, going on from the last whole shard if this import was killed.

    ``source`` must give the same pairs in the same order each time; ``made_by`` names it. ``on_rows``
    hears how many were read so far. Raises ``InputError`` for a folder that holds something else.
    """
    report = ImportReport()
    header = Header(
        media_root=None if options.embed else str(options.media_root.resolve()),
        frames=options.frames,
        links=() if options.embed else tuple(str(folder.resolve()) for folder in options.links),
    )
    made_by = {**made_by, "options": options.to_json()}
    writer = PairWriter(out, header, made_by, lambda: report.to_json(), shard_rows)
    if (saved := writer.claim(resume=True)) is not None:
        report = ImportReport.from_json(saved)
    seen = KeySet()
    for key in writer.written_keys():
        seen.add(key)
    with warnings.catch_warnings():
        # Pillow comments on what the report counts.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        rest = islice(source, report.num_read, None)
        for made in in_threads(partial(prepare, options=options), rest, options.num_threads):
            report.num_read += 1
            if isinstance(made, DataError):
                report.drop(made.reason, str(made), made.missing)
            elif not seen.add(made.row["key"]):
                report.drop("duplicate", f"{made.row['origin']}: the same pair came before")
            else:
                row = preferred_in(made.row, balanced_slot(options.seed, report.num_written))
                report.keep(row["preferred"])
                contradicts = (CONTRADICTS,) if made.row["opposite"] in seen else ()
                for note in (*made.notes, *contradicts):
                    report.note(note, made.row["origin"])
                report.miss(made.missing)
                writer.add(row)
            on_rows(report.num_read)
    writer.finish(report.to_json())
    return report


def balanced_slot(seed: int, number: int) -> Slot:
    """Returns the slot of the preferred response of the n-th stored row: a coin for every two rows.

    The first of two shows what the coin says and the second the other slot, so a store is balanced
    whatever its size: independent coins put 101 of MM-RLHF-RewardBench's 170 into one slot.
    """
    block, second = divmod(number, 2)
    heads = derive_seed("slot", seed, block) % 2 == 1
    return 1 if heads != bool(second) else 2


def preferred_in(row: dict[str, Any], slot: Slot) -> dict[str, Any]:
    """Returns the row with its preferred response in this slot."""
    if row["preferred"] == slot:
        return row
    swapped = {"response_1": row["response_2"], "response_2": row["response_1"]}
    return {**row, **swapped, "preferred": slot}


def prepare(raw: RawPair | DataError, options: ImportOptions) -> Prepared | DataError:
    """Returns a pair read, cleaned and checked, in its source's order, or why it is dropped."""
    if isinstance(raw, DataError):
        return raw
    try:
        if raw.preferred is None:
            raise DataError(f"{raw.origin}: neither response is preferred", "tie")
        cleaned = clean(raw)
        was_cleaned = cleaned != raw
        refuse_long(cleaned, options.max_chars)
        check_row({**vars(cleaned), "images": (), "video": None, "meta": None}, raw.origin)
        cleaned = where_found(cleaned, options.media)
        missing = None
        try:
            images = load_media(cleaned.images, cleaned.video, cleaned.origin, options.media)
        except DataError as error:
            if error.missing is None or not options.keep_missing:
                raise
            # Paths stand for the images they lead to, so that rows stay different.
            paths = (*(item for item in cleaned.images if isinstance(item, str)), raw.video or "")
            images, missing = tuple(path.encode() for path in paths), error.missing
        return finish(cleaned, images, options, was_cleaned, missing)
    except DataError as error:
        return error


def clean(raw: RawPair) -> RawPair:
    """Returns the pair without control characters. Media paths stay as they are."""
    names = (*TEXTS, "source", "category", "group")
    texts = {name: getattr(raw, name) for name in names}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise DataError(f"{raw.origin}: {name} is no text")
    cleaned: dict[str, Any] = {name: CONTROLS.sub("", text) for name, text in texts.items()}
    return replace(raw, **cleaned)


def refuse_long(raw: RawPair, max_chars: int) -> None:
    """Raises ``DataError`` for a text of more than ``max_chars`` characters."""
    for name in TEXTS:
        if (length := len(getattr(raw, name))) > max_chars:
            raise DataError(
                f"{raw.origin}: {name} has {length:,} characters; at most {max_chars:,} are kept",
                "too long",
            )


def where_found(raw: RawPair, media: MediaFolder) -> RawPair:
    """Returns the pair with an image's other path where a file is there and none at its first, and with
    the bytes of base64.
    """

    def is_there(path: str) -> bool:
        return media.roots.find(path, raw.origin, "image").is_file()

    images = [bytes_unless_file(item, media.root) for item in raw.images]
    for index, item in enumerate(images):
        if isinstance(item, str) and item in raw.elsewhere and not is_there(item):
            other = raw.elsewhere[item]
            images[index] = other if is_there(other) else item
    return replace(raw, images=tuple(images))


def finish(
    raw: RawPair,
    images: tuple[bytes, ...],
    options: ImportOptions,
    was_cleaned: bool,
    missing: str | None = None,
) -> Prepared:
    """Returns the row of a pair whose media have been read, and what is worth noting of it."""
    pair = raw.pair(images)
    key, opposite = pair_keys(pair)
    meta = CONTROLS.sub("", json.dumps(raw.meta, ensure_ascii=False, default=str))
    row = pair_row(replace(pair, images=()))
    row |= {"key": key, "opposite": opposite, "meta": meta, "origin": raw.origin}
    if options.embed or not all(isinstance(item, str) for item in raw.images):
        row["images"] = images
    else:
        row |= {"image_paths": raw.images, "video": raw.video}
    texts = (raw.question, raw.response_1, raw.response_2)
    remarks = {
        "control characters removed": was_cleaned,
        "literal media token": any(CONTROL_TOKEN.search(text) for text in texts),
        "first frame of an animation": missing is None and any(map(is_animated, images)),
        "image missing, kept": missing is not None,
        "no image": not images,
        ALIKE: are_alike(raw.response_1, raw.response_2),
    }
    notes = (*raw.notes, *(note for note, holds in remarks.items() if holds))
    return Prepared(row, notes, missing)


def in_threads(
    work: Callable[[RawPair | DataError], Prepared | DataError],
    items: RawPairs,
    num_threads: int,
) -> Iterator[Prepared | DataError]:
    """Yields results in the order of the items, a few chunks ahead: decoding leaves Python's lock."""
    if num_threads == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[list[Prepared | DataError]]] = deque()
    iterator = iter(items)
    with ThreadPoolExecutor(num_threads) as pool:
        while chunk := list(islice(iterator, CHUNK_ROWS)):
            waiting.append(pool.submit(lambda rows: list(map(work, rows)), chunk))
            if len(waiting) > 2 * num_threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
