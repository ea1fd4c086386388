"""Where a recipe's ``model.path`` leads, and whether there is a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from r1reward.errors import InputError
from r1reward.runs.storage import RemoteFolder, local_copy


def resolve_model_path(path: str, *, with_weights: bool = True) -> str:
    """'shapes' is the built-in miniature, a URL a folder in object storage, which is fetched once a node.

    Everything else is a folder or a hub name.
    """
    if "://" in path:
        copy = local_copy(RemoteFolder(path), lambda name: with_weights or name.endswith(".json"))
        return str(require_config(copy, path))
    if path != "shapes":
        return path
    from r1reward.shapes import MODEL_DIR

    return str(MODEL_DIR)


def check_model_folder(path: str) -> None:
    """One clear sentence for a folder that is no model, before an engine starts."""
    resolved = Path(resolve_model_path(path))
    if not resolved.exists():
        if path.startswith((".", "/", "~")) or path.count("/") != 1:
            raise InputError(f"model.path: {path}: no such folder")
        return  # a hub name; transformers says what is wrong with it
    require_config(resolved, path)
    shards = sorted(resolved.glob("*.safetensors"))
    if not shards:
        raise InputError(f"model.path: {path} is no model folder: it has no *.safetensors weights")
    for shard in shards:
        with loading(f"{shard} is damaged"):
            safe_open(shard, framework="pt")


@contextmanager
def loading(problem: str) -> Iterator[None]:
    """An error of transformers or safetensors inside becomes an ``InputError``.

    Its message is the problem and the first line of the reason, because the others advise on code.
    """
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"model.path: {problem}: {reason}") from error


def require_config(folder: Path, path: str) -> Path:
    """The folder itself. Raises ``InputError`` if it has no config.json."""
    if not (folder / "config.json").is_file():
        raise InputError(f"model.path: {path} is no model folder: it has no config.json")
    return folder
