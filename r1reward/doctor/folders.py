"""Where a run writes: its folder, its copy in object storage, and shared memory."""

import shutil
import tempfile
import uuid
from functools import partial
from pathlib import Path

from r1reward.doctor.finding import Finding, failure, note, ok, problem
from r1reward.errors import InputError, ServiceError
from r1reward.runs.storage import RemoteFolder

SHARED_MEMORY = Path("/dev/shm")
MIN_STORE_BYTES = 2 * 10**9
MIN_FREE_GB = 10


def check_run_dir(folder: Path) -> Finding:
    """Whether a file can be written, renamed and removed there, as checkpoints are."""
    existing = folder.expanduser().absolute()
    while not existing.exists():
        existing = existing.parent
    if error := failure(partial(write_and_rename, existing), OSError):
        return problem(
            "run folder",
            f"{folder}: nothing can be written to {existing} ({error.strerror or error})",
            f"choose another run_dir, or give this user the folder: `chown $(id -u) {existing}`",
        )
    free = shutil.disk_usage(existing).free / 1e9
    if free < MIN_FREE_GB:
        return problem(
            "run folder",
            f"{folder}: {free:.1f} GB free; checkpoints of a 7B model take 100 GB each",
            "make room, lower train.keep_checkpoints, or choose another run_dir",
        )
    return ok("run folder", f"{folder}, {free:,.0f} GB free")


def write_and_rename(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".r1reward-doctor-") as probe:
        first = Path(probe) / "first"
        first.write_bytes(b"r1reward")
        first.rename(Path(probe) / "second")


def check_run_url(url: str) -> Finding:
    """Whether a file can be written, listed, read back and removed there."""
    error = failure(partial(write_and_read, RemoteFolder(url)), InputError, ServiceError)
    if error is None:
        return ok("run URL", f"{url} can be written")
    fix = "check bucket, region and the keys in the environment, or give a path as run_dir"
    return problem("run URL", str(error), fix)


def write_and_read(remote: RemoteFolder) -> None:
    """Raises ``ServiceError`` if a file that was written cannot be read back."""
    name = f".r1reward-doctor-{uuid.uuid4().hex}"
    remote.write(name, b"r1reward")
    is_whole = remote.read(name) == b"r1reward" and name in remote.files()
    remote.remove([name])
    if not is_whole:
        raise ServiceError(f"{remote.url}: a file that was written is not listed there")


def check_shared_memory(store_bytes: int | None, folder: Path = SHARED_MEMORY) -> Finding:
    """Whether Ray's object store has room in memory: on disk it would be far slower.

    ``store_bytes`` is what the recipe's weights take there, None where that is not known.
    """
    needed = store_bytes or MIN_STORE_BYTES
    if not folder.is_dir():
        return note("shared memory", f"there is no {folder}: Ray keeps objects on disk")
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return ok("shared memory", f"{folder}, {free / 1e9:.1f} GB free")
    return problem(
        "shared memory",
        f"{folder} has {free / 1e9:.1f} GB free; two bundles of weights take {needed / 1e9:.1f} GB",
        f"`docker run --shm-size={-(-needed // 10**9) + 1}g`, or a memory volume at {folder} "
        "(Kubernetes: emptyDir, medium Memory)",
    )
