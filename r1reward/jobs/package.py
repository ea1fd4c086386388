"""What a cluster job is sent: the working tree and the resolved recipe, in one archive."""

import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from pydantic import BaseModel

from r1reward.errors import InputError, RecipeError
from r1reward.recipe.files import dump_recipe
from r1reward.recipe.recipe import Recipe

# Where the recipe lies in the archive, wherever it came from: bases and overrides are resolved already.
JOB_RECIPE = ".r1reward/recipe.yaml"

# Never shipped: shell patterns of a name anywhere in the path, or after a slash of a path from the top
# (the package has a folder r1reward/runs). What holds secrets by custom is among them: a package stays
# on the cluster's disks.
LEFT_OUT = (
    *(".git", ".venv", "venv", "/runs", "wandb", "node_modules", "__pycache__", "build", "dist"),
    *("*.egg-info", "*.pyc", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"),
    *(".env", ".env.*", ".netrc", "*.pem", ".r1reward"),
)

# Ray's job server takes no larger request (ray/_private/ray_constants.py: DASHBOARD_CLIENT_MAX_SIZE); its
# control store would keep up to 512 MiB.
MAX_PACKAGE_BYTES = 100 * 2**20


def tree_files(root: Path, exclude: Sequence[str] = ()) -> list[str]:
    """Returns the paths of the files to ship, relative to ``root``, sorted.

    In a Git work tree these are the files that Git tracks or does not ignore. ``exclude`` holds shell
    patterns of relative paths or of names.
    """
    patterns = (*LEFT_OUT, *exclude)
    listed = git_files(root)
    names = walked_files(root, patterns) if listed is None else listed
    kept = {name for name in names if not left_out(name, patterns) and (root / name).is_file()}
    return sorted(kept)


def git_files(root: Path) -> list[str] | None:
    """Returns the files that Git does not ignore, None where there is no Git or no work tree of it."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    with suppress(OSError, subprocess.CalledProcessError):
        done = subprocess.run(command, cwd=root, capture_output=True, check=True)
        return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
    return None


def walked_files(root: Path, patterns: Sequence[str]) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if not left_out(str(here / name), patterns)]
        yield from (str(here / name) for name in files)


def left_out(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches the file or a folder above it, by its name or by its whole path."""
    path = PurePosixPath(name)
    paths = [path, *path.parents][:-1]  # without the folder "." at the end
    candidates = [text for each in paths for text in (each.name, str(each), f"/{each}")]
    return any(fnmatch(text, pattern) for text in candidates for pattern in patterns)


def write_package(root: Path, files: Sequence[str], recipe: Recipe, target: Path) -> None:
    """Writes the archive. Equal trees and recipes give equal archives, so that Ray sends them once.

    Raises ``InputError`` if the archive is more than Ray takes.
    """
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        for name in files:
            path = root / name
            add_file(archive, name, path.read_bytes(), path.stat().st_mode & 0o777)
        add_file(archive, JOB_RECIPE, dump_recipe(recipe).encode(), 0o644)
        sizes: Counter[str] = Counter()
        for info in archive.infolist():
            sizes[info.filename.partition("/")[0]] += info.compress_size
    if target.stat().st_size > MAX_PACKAGE_BYTES:
        largest = ", ".join(f"{name} {size / 2**20:.0f} MB" for name, size in sizes.most_common(4))
        raise InputError(
            f"{root} is {target.stat().st_size / 2**20:.0f} MB packed, and Ray ships at most "
            f"{MAX_PACKAGE_BYTES / 2**20:.0f} MB ({largest}): leave out what the job does not need "
            "with --exclude or .gitignore, and put data on storage that every node sees"
        )


def add_file(archive: ZipFile, name: str, content: bytes, mode: int) -> None:
    entry = ZipInfo(name)  # its time stamp is always the same
    entry.compress_type = ZIP_DEFLATED
    entry.external_attr = (0o100000 | mode) << 16
    archive.writestr(entry, content)


def check_paths(recipe: Recipe, root: Path, files: Sequence[str]) -> None:
    """Checks that every path of the recipe means the same on the cluster. Raises ``RecipeError``."""
    if not recipe.run_dir.is_absolute():
        raise RecipeError(
            f"run_dir is {recipe.run_dir}, but a job runs in a copy of the working tree that is "
            "deleted after it: give an absolute path on storage that every node sees, for example "
            f"run_dir=/mnt/shared/{recipe.run_dir}"
        )
    for key, path in named_paths(recipe):
        is_shipped = any(Path(name).is_relative_to(path) for name in files)
        if not path.is_absolute() and not is_shipped:
            raise RecipeError(
                f"{key} is {path}, which is not among the files that are shipped from {root}: give an "
                "absolute path on storage that every node sees"
            )


def named_paths(section: BaseModel, above: str = "") -> Iterator[tuple[str, Path]]:
    """Yields every setting that is a path; a model's only if it is a folder on this machine."""
    for name in type(section).model_fields:
        value, key = getattr(section, name), f"{above}{name}"
        items = value if isinstance(value, list | tuple) else [value]
        for item in items:
            if isinstance(item, BaseModel):
                yield from named_paths(item, f"{key}.")
            elif isinstance(item, Path) or (
                name == "path" and isinstance(item, str) and Path(item).is_dir()
            ):
                yield key, Path(item)
