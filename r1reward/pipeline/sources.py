"""What stages are made from: the pairs of a recipe's data section, and models by their content."""

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from r1reward.data.stores.pair_store import LazySequence, PairStore
from r1reward.data.stores.remarks import contradicted
from r1reward.data.stores.store import pair_keys, read_pairs
from r1reward.errors import InputError
from r1reward.models.model_folder import resolve_model_path
from r1reward.recipe.derive import ModelName
from r1reward.recipe.recipe import Recipe
from r1reward.recipe.sections import DataSection, FileSource, ShapesSource
from r1reward.runs.manifest import content_hash, stage_record
from r1reward.types import PreferencePair

logger = logging.getLogger(__name__)


def training_pairs(data: DataSection) -> Sequence[PreferencePair]:
    """Returns the pairs that the policy is trained on. Those that stand in the data with both labels are
    left out, said and counted, unless ``data.contradictions`` keeps them.

    Raises ``DataError`` naming file and row, and ``InputError`` if no pair is left.
    """
    pairs = load_pairs(data.train)
    if data.contradictions == "keep" or isinstance(data.train, ShapesSource):
        return pairs
    doubtful = contradicted(islice(all_keys(data.train, pairs), len(pairs)))
    if not any(doubtful):
        return pairs
    first = pairs[doubtful.index(True)].origin
    left_out = (
        f"data.train: {sum(doubtful):,} of {len(pairs):,} pairs stand there with both labels (the first: "
        f"{first})"
    )
    if all(doubtful):
        raise InputError(f"{left_out}: no pair is left")
    logger.warning("%s and are left out; data.contradictions=keep trains on them", left_out)
    kept = [index for index, is_doubtful in enumerate(doubtful) if not is_doubtful]
    return LazySequence(kept, pairs.__getitem__)


def all_keys(source: FileSource, pairs: Sequence[PreferencePair]) -> Iterator[tuple[str, str]]:
    """Yields the keys of a source's pairs: of a store those in it, without reading an image."""
    if source.path.is_dir():
        return PairStore(source.path, source.images, source.links).keys()
    return map(pair_keys, pairs)


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


def model_hash(recipe: Recipe, model: ModelName) -> str:
    """The hash of a model's files; a hub's name stands for itself.

    Raises ``InputError`` if the stage that makes the model is not complete.
    """
    if model != "base":
        return stage_record(recipe, "sft" if model == "sft" else "train").output("model")
    folder = Path(resolve_model_path(recipe.model.path))
    return content_hash(folder) if folder.is_dir() else recipe.model.path
