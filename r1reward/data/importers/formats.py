"""One way to every published format: its name, and where its files are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from r1reward.data.importers.columns import ColumnMap, read_columns
from r1reward.data.importers.hub import local_source
from r1reward.data.importers.mm_rlhf import read_mm_rlhf
from r1reward.data.importers.mm_rlhf_rewardbench import read_mm_rlhf_rewardbench
from r1reward.data.importers.multimodal_rewardbench import read_multimodal_rewardbench
from r1reward.data.importers.povid import read_povid
from r1reward.data.importers.r1_reward_rl import read_r1_reward_rl
from r1reward.data.importers.rankings import Pairing
from r1reward.data.importers.raw_pair import Broken, RawPair
from r1reward.data.importers.rlaif_v import read_rlaif_v
from r1reward.data.importers.vl_feedback import read_vl_feedback
from r1reward.data.importers.vl_rewardbench import read_vl_rewardbench
from r1reward.data.importers.wildvision import read_wildvision
from r1reward.errors import InputError

GenericFormat = Literal["jsonl", "csv", "parquet"]
PublishedFormat = Literal[
    "vl-rewardbench",
    "mm-rlhf-rewardbench",
    "multimodal-rewardbench",
    "r1-reward-rl",
    "mm-rlhf",
    "rlaif-v",
    "vl-feedback",
    "povid",
    "wildvision",
]
FORMATS: tuple[str, ...] = get_args(PublishedFormat) + get_args(GenericFormat)


def open_source(
    format: str,  # noqa: A002
    src: Path,
    columns: ColumnMap | None,
    pairing: Pairing = "all",
) -> Iterator[RawPair | Broken]:
    """The pairs of a file, a folder or ``hub:OWNER/NAME``, row by row.

    ``columns`` is for the generic formats and required there; ``pairing`` is for sources that rank
    several responses. Raises ``InputError`` here for what cannot be read at all, and ``DataError``
    (one too) while reading, for a file that ends or breaks off.
    """
    if format not in FORMATS:
        raise InputError(f"no format is called {format!r}; choose one of {', '.join(FORMATS)}")
    is_generic = format in get_args(GenericFormat)
    if is_generic and columns is None:
        raise InputError(f"{format} says nothing of what its columns mean: give a column map")
    if not is_generic and columns is not None:
        raise InputError(f"{format} has columns of its own: leave out the column map")
    src = local_source(src)
    if not src.exists():
        raise InputError(f"{src}: no such file or folder")
    if columns is not None:
        return read_columns(src, (f".{format}",), columns)
    return open_published(format, src, pairing)


def open_published(name: str, src: Path, pairing: Pairing) -> Iterator[RawPair | Broken]:
    match name:
        case "vl-rewardbench":
            return read_vl_rewardbench(src)
        case "mm-rlhf-rewardbench":
            return read_mm_rlhf_rewardbench(src)
        case "multimodal-rewardbench":
            return read_multimodal_rewardbench(src)
        case "r1-reward-rl":
            return read_r1_reward_rl(src)
        case "mm-rlhf":
            return read_mm_rlhf(src, pairing)
        case "rlaif-v":
            return read_rlaif_v(src)
        case "vl-feedback":
            return read_vl_feedback(src, pairing)
        case "povid":
            return read_povid(src)
        case "wildvision":
            return read_wildvision(src)
        case _:
            raise AssertionError(f"{name} is among the formats")
