"""From a recipe's data section to pairs."""

from __future__ import annotations

from collections.abc import Sequence

from r1reward.data.stores.pair_store import PairStore
from r1reward.data.stores.store import read_pairs
from r1reward.recipe.sections import FileSource, ShapesSource
from r1reward.types import PreferencePair


def load_pairs(source: ShapesSource | FileSource) -> Sequence[PreferencePair]:
    """A store's pairs stay on disk. Raises ``DataError`` naming file and row."""
    match source:
        case ShapesSource():
            from r1reward.shapes.pairs import make_pairs

            return make_pairs(source.split, source.num_pairs, source.seed)
        case FileSource() if source.path.is_dir():
            return PairStore(source.path, source.images, source.links)[: source.num_pairs]
        case FileSource():
            return read_pairs(source.path, source.images, source.num_pairs, source.links)
