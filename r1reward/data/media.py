"""Media of a pair: an image proven readable within bounds, from bytes or from below a media root."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from r1reward.data.image_values import shortened
from r1reward.data.images import decode_image, image_size, reading
from r1reward.errors import DataError, as_input_error


@dataclass(frozen=True)
class SideLimits:
    """The images that a model's processor takes: the longer side is at most ``max_aspect`` times the
    shorter one, and that has at least ``min_side`` pixels.
    """

    max_aspect: float
    min_side: int = 1


# What every model family takes, for data whose model is not known; a test compares the families' own.
STRICTEST_SIDES = SideLimits(max_aspect=200)


@dataclass(frozen=True)
class ImageLimits:
    """What an image may measure to be imported."""

    max_pixels: int = 50_000_000
    max_bytes: int = 20_000_000
    sides: SideLimits = STRICTEST_SIDES


@dataclass(frozen=True)
class MediaRoots:
    """The folder that paths of media are relative to, and further ones that links may lead into and
    absolute paths may begin with.
    """

    root: Path
    links: tuple[Path, ...] = ()

    def find(self, item: str, origin: str, what: str) -> Path:
        """Returns the path of a medium, its links left as they are.

        A link may lead into the media root, the further folders, or the files of the hub's cache that
        the media root is a snapshot of. Raises ``DataError`` for a path that leads elsewhere.
        """
        top = self.root.resolve()
        further = tuple(folder.resolve() for folder in self.links)
        try:
            path = Path(os.path.normpath(top / item))
            target = path.resolve()
            target.is_file()  # too long a name is an error of the system's here
        except (ValueError, OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            shown = shortened(item)
            raise DataError(f"{origin}: {what} {shown!r} is no path: {reason}") from error
        named = f"{origin}: {what} {shortened(item)}"
        beginnings = (top, self.root.absolute(), *further, *map(Path.absolute, self.links))
        if not any(map(path.is_relative_to, beginnings)):
            raise DataError(f"{named} lies outside {self.root}", "outside the media root")
        if not any(map(target.is_relative_to, (top, *further, *hub_files(top)))):
            raise DataError(
                f"{named} is a link to {shortened(str(target))}, which lies outside {self.root}; name "
                "the folder that links may lead into: --links of data import, links in a recipe",
                "outside the media root",
            )
        return path


def hub_files(root: Path) -> list[Path]:
    """Returns the folder of files that the hub's cache links to, if the root is in a snapshot there."""
    blobs = (
        folder.parent / "blobs" for folder in (root, *root.parents) if folder.name == "snapshots"
    )
    return [folder for folder in blobs if folder.is_dir()]


def load_image(
    item: str | bytes, origin: str, roots: MediaRoots, limits: ImageLimits | None = None
) -> bytes:
    """Returns the bytes of an image, proven readable; they are given, or a path below the roots is."""
    if isinstance(item, str):
        path = roots.find(item, origin, "image")
        if not path.is_file():
            raise DataError(
                f"{origin}: image {shortened(str(path))} is missing", "image missing", str(path)
            )
        lost = partial(DataError, reason="image missing", missing=str(path))
        with as_input_error(f"{origin}: image {path}", OSError, kind=lost):
            if limits is not None:
                refuse_bytes(path.stat().st_size, limits, origin)
            encoded, name = path.read_bytes(), str(path)
    else:
        encoded, name = item, "in the row"
    if limits is not None:
        refuse_bytes(len(encoded), limits, origin)
        refuse_shape(encoded, limits, f"{origin}: image {name}")
    with naming(f"{origin}: image {name}"):
        decode_image(encoded)
    return encoded


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Names the image that a decoder's ``DataError`` is about; its reason stays."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{what} is {error}", error.reason) from error


def refuse_bytes(num_bytes: int, limits: ImageLimits, origin: str) -> None:
    """Raises ``DataError`` for an image of too many bytes."""
    if num_bytes > limits.max_bytes:
        raise DataError(
            f"{origin}: an image has {num_bytes:,} bytes; at most {limits.max_bytes:,} are read",
            "image too large",
        )


def refuse_shape(encoded: bytes, limits: ImageLimits, what: str) -> None:
    """Raises ``DataError`` for an image of too many pixels or too thin. It reads the header alone, so
    that nothing of a decompression bomb is unpacked.
    """
    with naming(what):
        width, height = image_size(encoded)
    if width * height > limits.max_pixels:
        raise DataError(
            f"{what} is {width} x {height}; at most {limits.max_pixels:,} pixels are decoded",
            "image too large",
        )
    refuse_sides(encoded, limits.sides, what)


def refuse_sides(encoded: bytes, limits: SideLimits, what: str) -> None:
    """Raises ``DataError`` for an image that a model's processor would refuse. Reads the header alone."""
    with naming(what):
        width, height = image_size(encoded)
    shorter, longer = sorted((width, height))
    if longer > limits.max_aspect * shorter:
        raise DataError(
            f"{what} is {width} x {height}; one side may be {limits.max_aspect} times the other: "
            "crop it, or remove the row",
            "image too thin",
        )
    if shorter < limits.min_side:
        raise DataError(
            f"{what} is {width} x {height}; a side must have {limits.min_side} pixels at least: "
            "enlarge it, or remove the row",
            "image too small",
        )


def is_animated(encoded: bytes) -> bool:
    """Returns whether a readable image has further frames, which no engine shows.

    The second picture in a phone's MPO file is a preview or a depth map and no frame.
    """
    with suppress(DataError), reading(encoded) as image:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    return False  # it breaks off behind its first frame
