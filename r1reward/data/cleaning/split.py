"""A store in parts that share nothing: no group, no image and no pair is on two sides."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from r1reward.data.import_report import ImportReport
from r1reward.data.order import derive_seed
from r1reward.data.stores.row_copy import DerivedStore, common_media, copied_pair, copied_rows
from r1reward.data.stores.store import Row
from r1reward.data.video import MediaFolder
from r1reward.errors import InputError


class Clusters:
    """Rows that belong together, by union and find over their numbers."""

    def __init__(self) -> None:
        self.parents = array("q")
        self.first_row: dict[int, int] = {}  # what a row has in common with others, by its hash

    def add(self, traits: Iterator[str]) -> None:
        """Adds the next row, which belongs with every earlier row that shares a trait."""
        row = len(self.parents)
        self.parents.append(row)
        for trait in traits:
            other = self.first_row.setdefault(derive_seed(trait), row)
            self.parents[self.find(other)] = self.find(row)

    def find(self, row: int) -> int:
        """Returns the number of the row that stands for the cluster of ``row``."""
        parents = self.parents
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row


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
    clusters = Clusters()
    keys: list[str] = []
    for origin, row in copied_rows(path, media):
        clusters.add(traits(row, origin, media))
        keys.append(row["key"])
    if not keys:
        raise InputError(f"{path}: holds no pairs")
    sides = assign(clusters, keys, shares, seed)
    if empty := [name for name in shares if name not in sides.values()]:
        raise InputError(
            f"{path}: no row would be in {', '.join(empty)}: {len(keys):,} pairs hang together in "
            f"{len(sides):,} groups by group, image or content; give larger shares or fewer parts"
        )
    made_by = {"split": str(path.resolve()), "shares": dict(shares), "seed": seed}
    stores = {name: DerivedStore(out / name, media, {**made_by, "part": name}) for name in shares}
    for number, (_, row) in enumerate(copied_rows(path, media)):
        stores[sides[clusters.find(number)]].add(row)
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


def assign(
    clusters: Clusters, keys: list[str], shares: Mapping[str, float], seed: int
) -> dict[int, str]:
    """Returns the side of every cluster: in seeded order, each goes where most rows are still needed."""
    members: dict[int, list[str]] = {}
    for row, key in enumerate(keys):
        members.setdefault(clusters.find(row), []).append(key)
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
