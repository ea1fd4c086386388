"""WildVision-Arena battles, Parquet with the images inside.

Columns, as in the config battle of WildVision/wildvision-internal-data: question_id, model_a, model_b,
conversation_a, conversation_b (turns with role and content), language, image, turn, anony, winner,
tstamp, judge, and in later versions domain. That repository has a dozen configs. Some hold the same
battles (battle, battle_5_29, battle_2024_08_21), others no battles at all (chat, taxonmy), and
release_100_as_bench_battle may hold votes of a machine: one is read, and the user says which.
WildVision/wildvision-arena-data is taken to be alike.
"""

from pathlib import Path

from r1reward.data.image_values import image_items
from r1reward.data.importers import fields
from r1reward.data.importers.conversations import compare
from r1reward.data.importers.labels import Labels
from r1reward.data.importers.raw_pair import RawPair, RawPairs
from r1reward.data.importers.source_rows import read_source, source_files
from r1reward.data.stores.row_files import Row
from r1reward.errors import DataError

NAME = "wildvision"
SUFFIXES = (".parquet", ".jsonl")
SPLITS = ("train", "validation", "test")
WINNERS = Labels(("model_a", "model_b", "tie", "tie (bothbad)"))
NEWEST_BATTLES = "battle_2024_08_21"


def read_wildvision(src: Path) -> RawPairs:
    """Yields the battles of a file, or of the folder of one config; battles of one question share a
    group.

    Both kinds of tie are ties. Raises ``DataError`` for a folder with several configs.
    """
    configs = sorted({config_of(file, src) for file in source_files(src, SUFFIXES)})
    if len(configs) > 1:
        folders = [config for config in configs if config != "."]
        newest = [folder for folder in folders if Path(folder).name == NEWEST_BATTLES]
        raise DataError(
            f"{src}: holds several configs ({', '.join(configs)}), whose battles may overlap; give "
            f"the folder of one of them, such as {src / (newest or folders[-1:])[0]}"
        )
    return read_source(src, SUFFIXES, read_row)


def config_of(file: Path, src: Path) -> str:
    """Returns the folder of a file below ``src``, without the folder of its split."""
    folder = file.relative_to(src).parent if file != src else Path()
    return str(folder.parent if folder.name in SPLITS else folder)


def read_row(row: Row, origin: str) -> RawPairs:
    preferred = WINNERS.slot(row.get("winner"), "winner")
    compared = compare(None, row.get("conversation_a"), row.get("conversation_b")).texts
    images = image_items(row.get("images"), "images") or (fields.image(row),)
    yield RawPair(
        origin,
        *compared,
        preferred=preferred,
        images=images,
        source=NAME,
        category=fields.text_or_empty(row, "domain"),
        group=fields.text(row, "question_id"),
        # The judge is a person's name in the arena: it stays behind.
        meta=fields.kept(row, "model_a", "model_b", "winner", "language", "turn"),
    )
