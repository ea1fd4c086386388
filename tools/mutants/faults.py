"""A planted fault: one piece of a source file and what stands there instead, kept as data."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

ROOT = Path(__file__).parents[2]
PLANTED = Path(__file__).parent / "planted.yaml"
DRAWN = Path(__file__).parent / "drawn.yaml"


class Fault(BaseModel):
    """One edit of one file.

    ``old`` stands exactly once in the file. ``tests`` are run first; without any, those of the file's
    module are. ``equivalent`` says why no test can see the edit; a fault proper has none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()
    equivalent: str | None = None

    def applied(self, source: str) -> str:
        """Returns the file's text with the fault in it.

        Raises ``ValueError`` if the old text is not there exactly once, or if the program is the same.
        """
        count = source.count(self.old)
        if count != 1:
            raise ValueError(
                f"{self.name}: the old text stands {count} times in {self.file}: mend it in "
                "tools/mutants/planted.yaml, or draw anew with `python -m tools.mutants.draw`"
            )
        faulty = source.replace(self.old, self.new)
        if ast.dump(ast.parse(faulty)) == ast.dump(ast.parse(source)):
            raise ValueError(f"{self.name}: old and new text in {self.file} are the same program")
        return faulty


def read_faults(*files: Path) -> list[Fault]:
    """Returns the faults of these files in their order. Raises ``ValueError`` where a name repeats."""
    faults = [
        fault
        for file in files
        for fault in TypeAdapter(list[Fault]).validate_python(
            yaml.safe_load(file.read_text(encoding="utf-8"))
        )
    ]
    names = [fault.name for fault in faults]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"two faults have the same name: {', '.join(repeated)}")
    return faults


class BlockText(yaml.SafeDumper):
    """Writes text of several lines as a block, as a person would."""


def block_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


BlockText.add_representer(str, block_text)


def write_faults(file: Path, faults: Iterable[Fault]) -> None:
    """Writes the faults so that ``read_faults`` gives them back."""
    rows = [fault.model_dump(mode="json", exclude_defaults=True) for fault in faults]
    text = yaml.dump(rows, Dumper=BlockText, sort_keys=False, allow_unicode=True, width=1000)
    file.write_text(text, encoding="utf-8")
