"""Every format that can be imported: the published data sets and the general kinds of files."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from r1reward.data.importers import (
    mm_rlhf,
    mm_rlhf_rewardbench,
    multimodal_rewardbench,
    povid,
    r1_reward_rl,
    rlaif_v,
    vl_feedback,
    vl_rewardbench,
    wildvision,
)
from r1reward.data.importers.columns import ColumnMap, read_columns
from r1reward.data.importers.hub import local_source
from r1reward.data.importers.known_columns import recognised_columns
from r1reward.data.importers.raw_pair import RawPairs
from r1reward.errors import InputError
from r1reward.recipe.choices import Pairing

Read = Callable[[Path], RawPairs]


def published_formats(pairing: Pairing = "all") -> Mapping[str, Read]:
    """Returns the published data sets: the name of each and the function that reads its file or folder.

    ``pairing`` says how data sets that rank several responses are cut into pairs.
    """
    return {
        vl_rewardbench.NAME: vl_rewardbench.read_vl_rewardbench,
        mm_rlhf_rewardbench.NAME: mm_rlhf_rewardbench.read_mm_rlhf_rewardbench,
        multimodal_rewardbench.NAME: multimodal_rewardbench.read_multimodal_rewardbench,
        r1_reward_rl.NAME: r1_reward_rl.read_r1_reward_rl,
        mm_rlhf.NAME: partial(mm_rlhf.read_mm_rlhf, pairing=pairing),
        rlaif_v.NAME: rlaif_v.read_rlaif_v,
        vl_feedback.NAME: partial(vl_feedback.read_vl_feedback, pairing=pairing),
        povid.NAME: povid.read_povid,
        wildvision.NAME: wildvision.read_wildvision,
    }


# Format to the kinds of files that it reads.
GENERAL_FORMATS = {
    "jsonl": (".jsonl", ".json"),
    "json": (".json", ".jsonl"),
    "csv": (".csv",),
    "parquet": (".parquet",),
}
FORMATS = (*published_formats(), *GENERAL_FORMATS)


def open_source(
    format: str,  # noqa: A002
    src: Path,
    columns: ColumnMap | None,
    pairing: Pairing = "all",
) -> RawPairs:
    """Returns the pairs of a file, a folder or ``hub:OWNER/NAME``, one by one.

    ``columns`` is for the general formats; without it, columns with known names are read. ``pairing``
    is for sources that rank several responses. Raises ``InputError`` at once for what cannot be read at
    all, and ``DataError`` (which is an ``InputError``) during the reading for a file that is damaged.
    """
    if format not in FORMATS:
        raise InputError(f"no format is called {format!r}; choose one of {', '.join(FORMATS)}")
    if format not in GENERAL_FORMATS and columns is not None:
        raise InputError(f"{format} has columns of its own: leave out the column map")
    src = local_source(src)
    if not src.exists():
        raise InputError(f"{src}: no such file or folder")
    if (suffixes := GENERAL_FORMATS.get(format)) is not None:
        if columns is None:
            columns = recognised_columns(src, suffixes)
        return read_columns(src, suffixes, columns)
    return published_formats(pairing)[format](src)
