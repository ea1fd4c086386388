"""Where a run's folder may be: a path, or a URL for which it works in a folder of its own here."""

import hashlib
import os
import tempfile
from pathlib import Path

# Schemes of URLs that name a folder of this machine, which may be storage that is mounted.
ON_A_DISK = {"file", "local"}


def working_folders() -> Path:
    """Where this user's runs work whose folders are in object storage."""
    return Path(tempfile.gettempdir()) / f"r1reward-{os.getuid()}"


def working_folder(url: str) -> Path:
    """Where a run of this URL works: the same for every process of this user."""
    name = url.rstrip("/").rpartition("/")[2]
    digest = hashlib.blake2b(url.rstrip("/").encode(), digest_size=4).hexdigest()
    return working_folders() / f"{name}-{digest}"


def checked_url(url: str) -> str:
    """The URL without a slash at its end. Raises ``ValueError`` for one that no run can be kept at."""
    scheme, separator, path = url.partition("://")
    on_a_disk = scheme in ON_A_DISK
    if not (scheme and separator and path.strip("/")):
        raise ValueError(
            f"run_url is {url!r}, which is no URL such as s3://bucket/runs/NAME: mend it, or leave it "
            "out and give a path as run_dir"
        )
    # A secret may have slashes of its own.
    user, at, _ = path.rpartition("@")
    if "?" in path or (at and ":" in user):
        raise ValueError(
            "run_url has a password or a query in it, and recipes are written down: give keys to the "
            "storage's library by its own environment variables"
        )
    if on_a_disk and not path.startswith("/"):
        raise ValueError(
            f"run_url is {url}, which every process reads from its own folder on: write {scheme}:///PATH"
        )
    if not on_a_disk and "//" in path.rstrip("/"):
        raise ValueError(
            f"run_url is {url}: object stores do not list what is behind a double slash, take it out"
        )
    return url.rstrip("/")


def overlap(folder: Path, url: str) -> bool:
    """Whether the URL is a folder of this machine, and one of the two lies in the other."""
    scheme, _, path = url.partition("://")
    if scheme not in ON_A_DISK:
        return False
    here, there = folder.resolve(), Path(path).resolve()
    return here.is_relative_to(there) or there.is_relative_to(here)
