"""Draws faults by a seed: ``python -m tools.mutants.draw`` writes tools/mutants/drawn.yaml.

Every edit of every area has a rank, by hash of seed, file, function and edit; the first ones are drawn.
So a change of one function redraws the faults of that function alone, and what was said of the
others (tests, why one is equivalent) stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from tools.mutants.faults import DRAWN, ROOT, Fault, read_faults, write_faults
from tools.mutants.operators import Edit, edits

SEED = 17
# Files of an area, and how many faults are drawn from it.
AREAS = {
    "r1reward/algorithm/*.py": 20,
    "r1reward/loop.py": 7,
    "r1reward/rollouts.py": 8,
    "r1reward/data/prompt*.py": 3,
    "r1reward/data/order.py": 4,
    "r1reward/data/verdict.py": 6,
    "r1reward/evaluation/**/*.py": 12,
}


def drawn(root: Path, seed: int) -> Iterator[Fault]:
    """Yields the faults of every area."""
    for pattern, number in AREAS.items():
        candidates = []
        for path in sorted(root.glob(pattern)):
            file = path.relative_to(root).as_posix()
            source = path.read_text(encoding="utf-8")
            candidates += [
                (rank(seed, file, source, edit), file, source, edit) for edit in edits(source)
            ]
        for _, file, source, edit in sorted(candidates, key=lambda item: item[0])[:number]:
            yield as_fault(file, source, edit)


def rank(seed: int, file: str, source: str, edit: Edit) -> str:
    """Returns a number by hash that depends on what is edited in which line of a function, and not on
    where that function stands.
    """
    before, after = around(source.encode(), edit)
    what = [str(seed), file, edit.scope, edit.operator, edit.old, edit.new, before, after]
    return hashlib.sha256("\x00".join(what).encode()).hexdigest()


def around(content: bytes, edit: Edit) -> tuple[str, str]:
    """Returns what stands in the edit's lines before and after it."""
    start = content.rfind(b"\n", 0, edit.start) + 1
    end = content.find(b"\n", edit.end)
    return content[start : edit.start].decode().lstrip(), content[edit.end : end].decode()


def as_fault(file: str, source: str, edit: Edit) -> Fault:
    """Returns the edit as text that stands once in the file: whole lines, as many as it needs."""
    content = source.encode()
    start = content.rfind(b"\n", 0, edit.start) + 1
    end = content.find(b"\n", edit.end)
    while content.count(content[start:end]) > 1:
        start = content.rfind(b"\n", 0, start - 1) + 1
    old = content[start:end].decode()
    new = (content[start : edit.start] + edit.new.encode() + content[edit.end : end]).decode()
    module = file.removeprefix("r1reward/").removesuffix(".py")
    before, after = around(content, edit)
    shown = f"{before[-24:]}[{shortened(edit.old)} -> {shortened(edit.new)}]{after[:24]}"
    return Fault(name=f"{module}: {edit.scope}: {shown}", file=file, old=old, new=new)


def shortened(code: str) -> str:
    """Returns code in one line of at most 60 characters."""
    line = " ".join(code.split())
    return line if len(line) <= 60 else f"{line[:57]}..."


def with_notes(faults: list[Fault], before: list[Fault]) -> list[Fault]:
    """Returns the faults with the notes that the same ones had before."""
    notes = {(fault.file, fault.old, fault.new): fault for fault in before}
    return [notes.get((fault.file, fault.old, fault.new), fault) for fault in faults]


def main() -> None:
    before = read_faults(DRAWN) if DRAWN.is_file() else []
    write_faults(DRAWN, with_notes(list(drawn(ROOT, SEED)), before))


if __name__ == "__main__":
    main()
