"""When two images show the same: equal bytes, equal pixels, or equal after a slight transformation.

A perceptual hash only proposes, for it says little about drawings in one style: the shapes of
two scenes stand alike and hash alike. What counts is the residual. The candidate's thumbnail is
shifted and stretched onto the image, as far as a slight crop would move it, and what then still
differs is set against the contrast around it, window by window: one object of another colour or shape
is a large residual in its window, however much of the picture agrees.

Shapes: N = thumbnail side, C = colour channels (3, or 1 in grey), I = images of the index.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import imagehash
import numpy as np
from PIL import Image
from scipy.ndimage import affine_transform, gaussian_filter, uniform_filter

from r1reward.data.images import decode_image

THUMBNAIL = 64
COARSE = 8
BLUR = 1.5  # thumbnail pixels; hides how the image was resampled
WINDOW = 8
CONTRAST_FLOOR = 0.1  # of the whole image's contrast; a window of plain background has none
MAX_SHIFT = 0.03  # of the image's side: a crop of 2 % and what alignment may err
MAX_STRETCH = 0.06  # likewise, both sides cropped
NUM_ALIGNMENT_STEPS = 6
# A first look at 8 x 8 block means, before the costly alignment: of the whole, and of any 2 x 2 blocks.
# A crop of 2 % moves drawings of thin lines most: up to 0.11 and 0.51.
MAX_COARSE_RESIDUAL = 0.2
MAX_COARSE_WINDOW = 0.7
# Standard deviation of grey levels below which an image shows nothing (a black video frame).
LEAST_DETAIL = 2.0
GREY_SPREAD = 2.0  # largest difference of channels in an image converted to grey
LUMA = np.array([0.299, 0.587, 0.114], np.float32)

ImageMode = Literal["exact", "near"]
PLACES = (np.arange(THUMBNAIL, dtype=np.float32) + 0.5) / THUMBNAIL - 0.5


@dataclass(frozen=True)
class Fingerprint:
    """What is compared of one image. ``perceptual_hash`` has 64 bits; ``thumbnail_NNC`` is in RGB."""

    pixel_digest: bytes
    perceptual_hash: np.uint64
    thumbnail_NNC: np.ndarray

    @property
    def is_plain(self) -> bool:
        """Whether the image shows nothing, and so says nothing about where it comes from."""
        return float((self.thumbnail_NNC @ LUMA).std()) < LEAST_DETAIL

    @cached_property
    def is_grey(self) -> bool:
        """Whether the image has no colours."""
        return float(np.ptp(self.thumbnail_NNC, axis=-1).max()) <= GREY_SPREAD


@dataclass(frozen=True)
class ImageMatch:
    """An image of the index that a query shows: which, how exactly, and how similar, up to 1."""

    row: int
    exact: bool
    similarity: float


def fingerprint(encoded: bytes) -> Fingerprint:
    """Returns what is compared of an encoded image. Raises ``ValueError`` if the bytes are no readable
    image.
    """
    image = decode_image(encoded)
    pixels = hashlib.blake2b(f"{image.size}".encode(), digest_size=16)
    pixels.update(image.tobytes())
    thumbnail = image.resize((THUMBNAIL, THUMBNAIL), resampling_for(image))
    bits = imagehash.phash(thumbnail).hash
    return Fingerprint(
        pixel_digest=pixels.digest(),
        perceptual_hash=np.packbits(bits).view(np.uint64)[0],
        thumbnail_NNC=np.asarray(thumbnail),
    )


def resampling_for(image: Image.Image) -> Image.Resampling:
    """Returns the filter that shrinks the image: block means do not ring, but would enlarge a small
    image into blocks.
    """
    if min(image.size) >= 2 * THUMBNAIL:
        return Image.Resampling.BOX
    return Image.Resampling.BICUBIC


def residual(first: Fingerprint, second: Fingerprint) -> float:
    """Returns the largest squared difference in a window, relative to its contrast, after alignment.

    0 is equal. In grey as soon as one of the two is. Measured on scenes, line drawings, charts, pages of
    text and noise like photos: copies (JPEG 30, resized to 0.3, cropped by 2 % on every side) stay below
    0.27; a scene with one object of another shape in the very same place starts at 0.33, and unrelated
    scenes that come this far start at 0.41.
    """
    in_grey = first.is_grey or second.is_grey
    fixed, moving = (prepared(side.thumbnail_NNC, in_grey) for side in (first, second))
    moved = align(fixed, moving)
    inner = np.s_[1:-1, 1:-1]
    fixed, moved = fixed[inner], moved[inner]
    squares = window_means(np.square(fixed - moved).sum(-1))
    contrast = window_variance(fixed) + window_variance(moved)
    floor = float(fixed.var((0, 1)).sum() + moved.var((0, 1)).sum()) * CONTRAST_FLOOR
    return float((squares / (contrast + floor)).max())


def prepared(thumbnail_NNC: np.ndarray, in_grey: bool) -> np.ndarray:
    """Returns the thumbnail [N, N, C] blurred, in grey if asked for."""
    colours = thumbnail_NNC.astype(np.float32)
    if in_grey:
        colours = (colours @ LUMA)[..., None]
    return np.asarray(gaussian_filter(colours, BLUR, axes=(0, 1), mode="nearest"))


def align(fixed_NNC: np.ndarray, moving_NNC: np.ndarray) -> np.ndarray:
    """Returns the moving image shifted and stretched along both sides onto the fixed one (Lucas-
    Kanade).

    Least squares in brightness, no further than a slight crop goes.
    """
    target, source = fixed_NNC.mean(-1), moving_NNC.mean(-1, keepdims=True)
    shift, stretch = np.zeros(2), np.zeros(2)
    for _ in range(NUM_ALIGNMENT_STEPS):
        moved = warped(source, shift, stretch)[..., 0]
        slope_y, slope_x = np.gradient((moved + target) / 2 * THUMBNAIL)
        slopes = np.stack([slope_y, slope_x, slope_y * PLACES[:, None], slope_x * PLACES[None, :]])
        slopes = slopes[:, 1:-1, 1:-1].reshape(4, -1)
        normal = slopes @ slopes.T
        damping = np.eye(4) * (1e-3 * np.trace(normal) / 4 + 1e-9)
        error = (target - moved)[1:-1, 1:-1].ravel()
        step = np.linalg.solve(normal + damping, slopes @ error)
        shift = np.clip(shift + step[:2], -MAX_SHIFT, MAX_SHIFT)
        stretch = np.clip(stretch + step[2:], -MAX_STRETCH, MAX_STRETCH)
    return warped(moving_NNC, shift, stretch)


def warped(image_NNC: np.ndarray, shift: np.ndarray, stretch: np.ndarray) -> np.ndarray:
    """Returns the image [N, N, C] sampled linearly after a shift and a stretch about its centre, each
    down and across, in parts of its side. Beyond the edge it goes on as at the edge.
    """
    offset = (shift - stretch / 2) * THUMBNAIL + stretch / 2
    scale, offsets = [*(1 + stretch), 1], [*offset, 0]
    return np.asarray(affine_transform(image_NNC, scale, offsets, order=1, mode="nearest"))


def window_means(values: np.ndarray) -> np.ndarray:
    """Returns the means of ``values`` [N, N] or [N, N, C] over all windows that lie within them."""
    first, last = WINDOW // 2, len(values) - WINDOW // 2 + 1
    means = uniform_filter(values.astype(np.float64), WINDOW, axes=(0, 1))
    return np.asarray(means[first:last, first:last])


def window_variance(image_NNC: np.ndarray) -> np.ndarray:
    """Returns the variance in every window, summed over the channels."""
    variances = window_means(np.square(image_NNC)) - np.square(window_means(image_NNC))
    return np.asarray(variances.sum(-1))


def coarse(thumbnail_NNC: np.ndarray) -> np.ndarray:
    """Returns the block means around their mean, [COARSE, COARSE, C]."""
    side = THUMBNAIL // COARSE
    blocks = thumbnail_NNC.astype(np.float32).reshape(COARSE, side, COARSE, side, -1)
    means = blocks.mean((1, 3))
    return np.asarray(means - means.mean((0, 1)))


def agree_coarsely(first_I: np.ndarray, second: np.ndarray, in_grey_I: np.ndarray) -> np.ndarray:
    """Returns, for each of the block means ``first_I``, whether it might be the second image slightly
    changed.
    """
    agree_I = np.zeros(len(first_I), bool)
    for in_grey in (False, True):
        chosen = in_grey_I == in_grey
        ones, other = first_I[chosen], second
        if in_grey:
            ones, other = (ones @ LUMA)[..., None], (second @ LUMA)[..., None]
        squares, contrast = (
            values.sum(-1).reshape(-1, COARSE // 2, 2, COARSE // 2, 2).sum((2, 4))
            for values in (np.square(ones - other), np.square(ones) + np.square(other))
        )
        total = contrast.sum((1, 2)) + 1e-6
        floor = 0.2 * contrast.mean((1, 2), keepdims=True) + 1e-6
        agree_I[chosen] = (squares.sum((1, 2)) <= MAX_COARSE_RESIDUAL * total) & (
            (squares / (contrast + floor)).max((1, 2), initial=0) <= MAX_COARSE_WINDOW
        )
    return agree_I


class ImageIndex:
    """Images of benchmark rows. Holds a thumbnail of 12 KiB for each distinct one."""

    def __init__(
        self,
        images: Iterable[tuple[int, bytes]],
        mode: ImageMode,
        max_hash_distance: int,
        max_residual: float,
    ) -> None:
        """``images`` are (row, encoded image); a row may have several and share them."""
        self.mode = mode
        self.max_hash_distance, self.max_residual = max_hash_distance, max_residual
        self.rows_of: defaultdict[bytes, set[int]] = defaultdict(set)
        distinct: dict[bytes, Fingerprint] = {}
        by_bytes: dict[bytes, Fingerprint] = {}
        for row, encoded in images:
            digest = hashlib.sha256(encoded).digest()
            if digest not in by_bytes:
                by_bytes[digest] = fingerprint(encoded)
            one = by_bytes[digest]
            if not one.is_plain:
                distinct[one.pixel_digest] = one
                self.rows_of[one.pixel_digest].add(row)
        self.prints = tuple(distinct.values())
        self.hashes_I = np.array([one.perceptual_hash for one in self.prints], np.uint64)
        self.coarse_I = np.array([coarse(one.thumbnail_NNC) for one in self.prints], np.float32)
        self.is_grey_I = np.array([one.is_grey for one in self.prints], bool)
        # Pairs about one image often follow one another.
        self.find = lru_cache(maxsize=64)(self._find)

    def _find(self, encoded: bytes) -> tuple[ImageMatch, ...] | None:
        """Returns what the image matches; None for an image that shows nothing, which cannot match."""
        query = fingerprint(encoded)
        if query.is_plain:
            return None
        matches = {
            row: ImageMatch(row, exact=True, similarity=1.0)
            for row in self.rows_of.get(query.pixel_digest, ())
        }
        if self.mode == "near" and self.prints:
            for index in self.candidates(query):
                one = self.prints[index]
                if one.pixel_digest == query.pixel_digest:
                    continue
                if (left := residual(one, query)) <= self.max_residual:
                    for row in self.rows_of[one.pixel_digest]:
                        match = ImageMatch(row, exact=False, similarity=1 - left)
                        known = matches.get(row, match)
                        matches[row] = max(known, match, key=lambda one: one.similarity)
        return tuple(matches[row] for row in sorted(matches))

    def candidates(self, query: Fingerprint) -> np.ndarray:
        """Returns the indices of the images that hash alike and whose block means agree."""
        distances = np.bitwise_count(self.hashes_I ^ query.perceptual_hash)
        indices = np.flatnonzero(distances <= self.max_hash_distance)
        agree = agree_coarsely(
            self.coarse_I[indices],
            coarse(query.thumbnail_NNC),
            self.is_grey_I[indices] | query.is_grey,
        )
        return np.asarray(indices[agree])
