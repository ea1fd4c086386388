"""From rows as a benchmark publishes them to items with their images read and checked."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from r1reward.data.image_values import bytes_unless_file
from r1reward.data.importers.raw_pair import RawPair, RawPairs
from r1reward.data.media import MediaRoots
from r1reward.data.texts import refuse_half_characters
from r1reward.data.video import FrameRules, MediaFolder, frame_files, load_media
from r1reward.errors import DataError
from r1reward.evaluation.items import Benchmark, make_items
from r1reward.recipe.choices import MissingMedia

MEDIA_MISSING = "media missing"
GROUP_CUT = "another row of its group was left out"


@dataclass(frozen=True)
class MediaOptions:
    """Where images and videos are, and what to do about those that are not.

    ``root`` is the folder that paths in the rows are relative to; None is the folder of the rows. Links
    may lead into the folders ``links`` as well.
    """

    root: Path | None = None
    missing: MissingMedia = "refuse"
    frames: FrameRules = field(default_factory=FrameRules)
    links: tuple[Path, ...] = ()


@dataclass(frozen=True)
class PublishedBenchmark:
    """A benchmark whose rows an importer reads.

    ``categories`` gives a row's category under each of the ``mappings``, whose values say where each
    mapping comes from. ``scores_groups`` is that of ``Benchmark``.
    """

    name: str
    read: Callable[[Path], RawPairs]
    categories: Callable[[RawPair], Mapping[str, str]]
    mappings: Mapping[str, str]
    scores_groups: bool = False

    def load(self, path: Path, media: MediaOptions, num_rows: int | None) -> Benchmark:
        """Returns the first ``num_rows`` rows of a file or folder as items, with their images read.

        A row's ``group`` is the benchmark's id of it; rows with the same id are one group. A row whose
        two responses are identical counts as it is published; one that cannot be used is left out, and
        its group too where groups are scored. Raises ``DataError`` if none can be.
        """
        root = media.root or (path if path.is_dir() else path.parent)
        pairs: list[RawPair] = []
        unusable = UnusableRows()
        for row in islice(self.read(path), num_rows):
            with unusable.setting_aside():
                pair = unbroken(row)
                images = tuple(bytes_unless_file(item, root) for item in pair.images)
                pairs.append(replace(pair, images=images))
        unusable.refuse_all(path, pairs)
        folder = MediaFolder(root, media.frames, links=media.links)
        absent = [first_absent(pair.images, pair.video, folder.roots) for pair in pairs]
        default = next(iter(self.mappings))
        num_dropped = count_missing(path, absent, root, media.missing)
        loaded: dict[object, tuple[bytes, ...]] = {}  # rows of one group share their media
        rows = []
        for pair, file in zip(pairs, absent, strict=True):
            if file is None:
                key = (pair.images, pair.video)
                with unusable.setting_aside():
                    check_texts(pair)
                    if key not in loaded:
                        loaded[key] = load_media(*key, pair.origin, folder)
                    categories = self.categories(pair)
                    shown = replace(pair.pair(loaded[key]), category=categories[default])
                    rows.append((shown, pair.group, categories))
        unusable.refuse_all(path, rows)
        benchmark = Benchmark(
            self.name,
            make_items(rows),
            self.mappings,
            num_dropped | unusable.counts,
            self.scores_groups,
            unusable.sentences,
        )
        return with_whole_groups(benchmark, [pair.group for pair in pairs], path)


class UnusableRows:
    """Rows that cannot be used: each is left out, counted and named, and the others go on."""

    def __init__(self) -> None:
        self.errors: list[DataError] = []

    @contextmanager
    def setting_aside(self) -> Iterator[None]:
        """Keeps the ``DataError`` of one row."""
        try:
            yield
        except DataError as error:
            self.errors.append(error)

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(error.reason for error in self.errors))

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(map(str, self.errors))

    def refuse_all(self, path: Path, rows: Sequence[object]) -> None:
        """Raises ``DataError`` if no row is left."""
        if not rows:
            raise self.errors[0] if self.errors else DataError(f"{path}: holds no rows")


def with_whole_groups(benchmark: Benchmark, groups: Iterable[str], path: Path) -> Benchmark:
    """Returns the benchmark without the rest of groups of which a row was left out, where groups are
    scored: whether all of a group is right cannot be told by its rest. ``groups`` are those of all rows.

    Raises ``DataError`` if no row is left.
    """
    if not benchmark.scores_groups:
        return benchmark
    cut = Counter(groups) - Counter(item.pair.group for item in benchmark.items)
    items = tuple(
        item for item in benchmark.items if not item.pair.group or item.pair.group not in cut
    )
    if not items:
        raise DataError(f"{path}: a row of every group was left out, so no group is whole")
    num_rest = len(benchmark.items) - len(items)
    rest = {GROUP_CUT: num_rest} if num_rest else {}
    return replace(benchmark, items=items, num_dropped={**benchmark.num_dropped, **rest})


def check_texts(row: RawPair) -> None:
    """Raises ``DataError`` for a row that cannot be shown, media aside."""
    if row.preferred is None:
        raise DataError(f"{row.origin}: neither response is preferred", "tie")
    for name in ("question", "response_1", "response_2"):
        refuse_half_characters(getattr(row, name), f"{row.origin}: {name}")


def unbroken(row: RawPair | DataError) -> RawPair:
    """Returns the row. Raises ``DataError`` if it is a broken one."""
    if isinstance(row, DataError):
        raise row
    return row


def first_absent(images: Iterable[object], video: object, roots: MediaRoots) -> str | None:
    """Returns the first image or the video of a row that is not there; None if all are.

    Images that are bytes are there. Whatever else is wrong with a row shows when it is read.
    """
    paths = [(image, False) for image in images if isinstance(image, str)]
    if isinstance(video, str) and video:
        paths.append((video, True))
    return next((path for path, is_video in paths if is_absent(path, is_video, roots)), None)


def is_absent(item: str, is_video: bool, roots: MediaRoots) -> bool:
    """Returns whether there is nothing to read. A path out of the folder is refused when it is read."""
    with suppress(DataError):
        path = roots.find(item, "", "")
        if is_video:
            return not path.is_dir() or not frame_files(path)
        return not path.is_file()
    return False


def count_missing(
    path: Path, absent: Sequence[str | None], root: Path, missing: MissingMedia
) -> dict[str, int]:
    """Returns ``num_dropped`` of a benchmark: how many rows miss their media, if any do. ``absent`` names
    the missing file of each row.

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
    return {MEDIA_MISSING: len(files)} if files else {}
