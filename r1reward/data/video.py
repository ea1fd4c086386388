"""Videos as folders of frames: which frames are shown, and at what size."""

import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r1reward.data.image_values import bytes_unless_file, image_items
from r1reward.data.images import decode_image
from r1reward.data.media import ImageLimits, MediaRoots, load_image
from r1reward.errors import DataError
from r1reward.recipe.sections import FRAME_PIXELS

FRAME_TYPES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
# A frame is one of dozens: at this quality 32 of them weigh what one photograph does.
JPEG_QUALITY = 90


@dataclass(frozen=True)
class FrameRules:
    """How many frames of a video are shown, evenly spaced, and the pixels of each."""

    num_frames: int = 32
    max_pixels: int = FRAME_PIXELS


@dataclass(frozen=True)
class MediaFolder:
    """Where the paths of media begin, how videos are shown, what an image may measure, and where links
    may lead.
    """

    root: Path
    frames: FrameRules
    limits: ImageLimits | None = None
    links: tuple[Path, ...] = ()

    @property
    def roots(self) -> MediaRoots:
        return MediaRoots(self.root, self.links)


def load_media(
    images: Iterable[object], video: str | None, origin: str, media: MediaFolder
) -> tuple[bytes, ...]:
    """Returns what a pair shows: its images and then the frames of its video, as encoded image files.

    ``images`` are as people store them (``image_values``), their paths below the media root, and
    ``video`` is a folder of frames below it. All are proven readable. Raises ``DataError``, which names
    ``origin``, for those that cannot be used.
    """
    shown = tuple(
        load_image(bytes_unless_file(item, media.root), origin, media.roots, media.limits)
        for item in image_items(tuple(images), f"{origin}: images")
    )
    return shown if video is None else shown + load_frames(video, origin, media)


def load_frames(video: str, origin: str, media: MediaFolder) -> tuple[bytes, ...]:
    """Returns the encoded frames of the folder ``video`` in the order they are shown.

    Raises ``DataError``, which names ``origin``, for a folder that is missing, empty or outside the media
    root, and for a frame that cannot be read.
    """
    folder = media.roots.find(video, origin, "video")
    files = frame_files(folder) if folder.is_dir() else []
    if not files:
        types = ", ".join(sorted(FRAME_TYPES))
        lack = f"holds no frames ({types})" if folder.is_dir() else "is not a folder of frames"
        raise DataError(f"{origin}: video {folder} {lack}", "video missing", str(folder))
    chosen = [files[index] for index in even_indices(len(files), media.frames.num_frames)]
    loaded = (load_image(str(file), origin, media.roots, media.limits) for file in chosen)
    return tuple(shrink(frame, media.frames.max_pixels) for frame in loaded)


def frame_files(folder: Path) -> list[Path]:
    """Returns the image files of a folder, frame2 before frame10; hidden files are no frames."""
    return sorted(
        (
            path
            for path in folder.iterdir()
            if path.suffix.lower() in FRAME_TYPES and not path.name.startswith(".")
        ),
        key=lambda path: natural_key(path.name),
    )


def natural_key(name: str) -> tuple[list[tuple[str, int]], str]:
    """Returns a key that sorts numbers in names as numbers; the name itself breaks ties."""
    runs = re.findall(r"([^0-9]*)([0-9]*)", name)
    return [(text, int(number or -1)) for text, number in runs], name


def even_indices(num_available: int, num_wanted: int) -> list[int]:
    """Returns the first, the last and evenly spaced indices between them; each once where there are
    fewer.

    The positions are those of the benchmark's own script (MM-RLHF, eval_mm_reward_bench.py), which
    repeats the frames of a short video up to 32.
    """
    positions = np.linspace(0, num_available - 1, num_wanted, dtype=int)
    return [int(position) for position in np.unique(positions)]


def shrink(encoded: bytes, max_pixels: int) -> bytes:
    """Returns the frame at its own aspect ratio with at most ``max_pixels``; a small one stays as it
    is.
    """
    image = decode_image(encoded)
    if image.width * image.height <= max_pixels:
        return encoded
    scale = math.sqrt(max_pixels / (image.width * image.height))
    # Neither side vanishes, nor does the other one of such a strip exceed the bound by itself.
    width, height = (
        min(max(1, math.floor(side * scale)), max_pixels) for side in (image.width, image.height)
    )
    buffer = io.BytesIO()
    image.resize((width, height)).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
