"""Data sets on the Hugging Face hub: ``hub:OWNER/NAME`` becomes a local folder."""

import re
from pathlib import Path

from r1reward.errors import InputError

PREFIX = "hub:"


def local_source(src: Path) -> Path:
    """Returns the path itself, or the folder of the data set's newest snapshot, which is fetched if
    need be.

    Raises ``InputError`` if the hub cannot be reached or does not give the data set.
    """
    name = str(src)
    if not name.startswith(PREFIX):
        return src
    repo = name.removeprefix(PREFIX)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise InputError(f"{name}: a data set on the hub is named hub:OWNER/NAME")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, repo_type="dataset"))
    except Exception as error:  # of the network, of the hub, of the disk
        raise InputError(
            f"{name}: the hub did not give it ({type(error).__name__}); fetch it on a machine that "
            "reaches the hub and give the path of its folder"
        ) from error
