"""What a stage was made from, and whether it is complete: ``stage.json`` in its folder.

A stage that is complete and was made from the same things is skipped. One that was made from other
things is refused, for it holds work: nothing is overwritten.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from r1reward.data.atomic import write_whole
from r1reward.errors import InputError, as_input_error
from r1reward.recipe.derive import StageName, stage_folder
from r1reward.recipe.diff import flat, setting_changes
from r1reward.recipe.files import defaults_of
from r1reward.recipe.recipe import Recipe
from r1reward.runs.claim import claim_folder
from r1reward.runs.names import STAGE

logger = logging.getLogger(__name__)

Flat = dict[str, object]


@dataclass(frozen=True)
class Manifest:
    """``settings`` is the stage's part of the recipe, dotted; ``inputs`` are content hashes by name.

    ``outputs`` are content hashes of what it wrote, by path in its folder: empty until it is complete.
    """

    settings: Flat
    inputs: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StageRecord:
    """The manifest of one stage of one run. ``verb`` makes the stage alone.

    Names in ``may_grow`` may change without making the stage's work worthless: it goes on then.
    """

    verb: StageName
    folder: Path
    may_grow: Sequence[str] = ()

    @property
    def path(self) -> Path:
        return self.folder / STAGE

    def read(self) -> Manifest | None:
        if not self.path.is_file():
            return None
        advice = "cannot be read; remove the folder to make the stage again"
        with as_input_error(f"{self.path}: {advice}", ValueError, TypeError):
            return Manifest(**json.loads(self.path.read_text(encoding="utf-8")))

    def begin(self, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
        """Whether the stage is complete already; otherwise its folder is there and may be worked in.

        Raises ``InputError`` when the folder holds work that was made from other things.
        """
        wanted = Manifest(json.loads(json.dumps(flat(settings))), dict(inputs))
        before = self.read()
        if before is None and self.folder.is_dir() and any(self.folder.iterdir()):
            raise InputError(
                f"{self.folder} holds files, but no {STAGE} that says what they were made from: "
                "remove it, or choose another run_dir"
            )
        changes = {} if before is None else differences(before, wanted)
        lasting = [line for name, line in changes.items() if name not in self.may_grow]
        if before is not None and before.outputs and not changes and self.has(before.outputs):
            logger.info("%s is complete: %s", self.verb, self.folder)
            return True
        claim_folder(self.folder, "a stage", lasting, {STAGE: manifest_text(wanted)})
        return False

    def has(self, outputs: Iterable[str]) -> bool:
        return all((self.folder / name).exists() for name in outputs)

    def finish(self, outputs: Iterable[str]) -> None:
        """Every output is whole: remember their content."""
        begun = self.read()
        assert begun is not None, "begin was called"
        hashes = {name: content_hash(self.folder / name) for name in outputs}
        write_whole(self.path, manifest_text(replace(begun, outputs=hashes)))

    def output(self, name: str) -> str:
        """The content hash of an output. Raises ``InputError`` if the stage is not complete."""
        manifest = self.read()
        if manifest is None or name not in manifest.outputs or not self.has([name]):
            raise InputError(
                f"{self.folder} is not complete: run `r1reward {self.verb} RECIPE` first, or "
                "`r1reward run RECIPE` for every stage"
            )
        return manifest.outputs[name]


def manifest_text(manifest: Manifest) -> str:
    return json.dumps(asdict(manifest), indent=1) + "\n"


# More pairs or attempts leave what the teacher answered as it is.
MAY_GROW: Mapping[StageName, Sequence[str]] = {"annotate": ("annotate.max_attempts", "data.train")}


def stage_record(recipe: Recipe, stage: StageName) -> StageRecord:
    """The record of a stage of this pipeline."""
    return StageRecord(stage, stage_folder(recipe, stage), MAY_GROW.get(stage, ()))


def differences(before: Manifest, wanted: Manifest) -> dict[str, str]:
    """What changed, by name, as half sentences. A setting that an earlier version did not know had its
    default.
    """
    inputs = sorted(before.inputs.items() ^ wanted.inputs.items())
    settings = {
        name: value
        for name, value in wanted.settings.items()
        if name in before.settings or value not in defaults_of(Recipe, name.split("."))
    }
    return setting_changes(before.settings, settings) | {
        name: f"{name} has another content" for name, _ in inputs
    }


def content_hash(path: Path) -> str:
    """Of a file, or of every file of a folder with its place in it."""
    digest = hashlib.blake2b(digest_size=16)
    below = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in filter(Path.is_file, below):
        digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            while block := content.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def pairs_hash(pair_ids: Iterable[str]) -> str:
    """Of pairs in their order, by their ids, which are hashes of their content."""
    digest = hashlib.blake2b(digest_size=16)
    for pair_id in pair_ids:
        digest.update(f"{pair_id}\n".encode())
    return digest.hexdigest()
