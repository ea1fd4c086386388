"""A store in parts that share nothing: no group, no image and no pair is on two sides."""

import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from r1reward.data.import_report import ImportReport
from r1reward.data.order import derive_seed
from r1reward.data.stores.row_copy import DerivedStore, common_media, copied_pair, copied_rows
from r1reward.data.stores.row_files import Row
from r1reward.data.video import MediaFolder
from r1reward.errors import InputError


def split(
    path: Path,
    out: Path,
    shares: Mapping[str, float],
    seed: int,
    on_rows: Callable[[int], None] = lambda num_rows: None,
) -> dict[str, ImportReport]:
    """Writes the stores ``out/NAME`` with about these shares of the rows. Raises ``InputError``."""
    if not shares or any(share <= 0 for share in shares.values()):
        raise InputError("split: every part needs a share above 0")
    media = common_media([path])
    keys: list[str] = []
    rows, shared = array("q"), array("q")  # which row has which trait
    numbers: dict[int, int] = {}  # of traits, by their hashes
    for origin, row in copied_rows(path, media):
        for trait in traits(row, origin, media):
            rows.append(len(keys))
            shared.append(numbers.setdefault(derive_seed(trait), len(numbers)))
        keys.append(row["key"])
    if not keys:
        raise InputError(f"{path}: holds no pairs")
    clusters = cluster(rows, shared)
    sides = assign(clusters, keys, shares, seed)
    if empty := [name for name in shares if name not in sides.values()]:
        raise InputError(
            f"{path}: no row would be in {', '.join(empty)}: {len(keys):,} pairs hang together in "
            f"{len(sides):,} groups by group, image or content; give larger shares or fewer parts"
        )
    made_by = {"split": str(path.resolve()), "shares": dict(shares), "seed": seed}
    stores = {name: DerivedStore(out / name, media, {**made_by, "part": name}) for name in shares}
    for number, (origin, row) in enumerate(copied_rows(path, media)):
        stores[sides[clusters[number]]].add(row, origin)
        on_rows(number + 1)
    return {name: store.finish() for name, store in stores.items()}


def traits(row: Row, origin: str, media: MediaFolder | None) -> Iterator[str]:
    """Yields what must not be on two sides: the pair, its group, the content of each of its images."""
    yield f"pair {row['key']}"
    if row.get("group"):
        yield f"group {row.get('source') or ''} {row['group']}"
    images = row["images"]
    if row["image_paths"] or row.get("video"):
        assert media is not None, "without a common media folder, media are inside"
        images = copied_pair(row, origin, media).images
    for image in images:
        yield f"image {hashlib.sha256(image).hexdigest()}"


def cluster(rows: Sequence[int], shared: Sequence[int]) -> list[int]:
    """Returns the number of every row's cluster: rows hang together by the traits that they share.

    ``rows`` and ``shared`` [E] are the ends of the edges between the rows and their traits, both counted
    from 0; every row has a trait.
    """
    num_rows, num_traits = max(rows) + 1, max(shared) + 1
    edges = (np.asarray(rows), num_rows + np.asarray(shared))
    graph = coo_array((np.ones(len(rows)), edges), shape=(num_rows + num_traits,) * 2)
    labels = connected_components(graph, directed=False)[1]
    return [int(label) for label in labels[:num_rows]]


def assign(
    clusters: Sequence[int], keys: Sequence[str], shares: Mapping[str, float], seed: int
) -> dict[int, str]:
    """Returns the side of every cluster: in seeded order, each goes where most rows are still needed."""
    members: dict[int, list[str]] = {}
    for number, key in zip(clusters, keys, strict=True):
        members.setdefault(number, []).append(key)
    largest = max(shares.values())  # first to within 1, so that no sum overflows
    total = sum(share / largest for share in shares.values())
    wanted = {name: len(keys) * (share / largest) / total for name, share in shares.items()}
    sides = {}
    # A cluster is named by its least key, so that the order of the rows does not matter.
    for number in sorted(members, key=lambda i: derive_seed("split", seed, min(members[i]))):
        name = max(wanted, key=lambda name: wanted[name])
        sides[number] = name
        wanted[name] -= len(members[number])
    return sides
