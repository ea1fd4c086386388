"""Which tests may see a fault: those of the file's module first, then those that name it, then all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tools.mutants.faults import Fault

FAST = ("tests/unit", "tests/loop")
# They fail on every fault, because its old text is no longer there.
OWN_TESTS = "tests/unit/tools/test_mutants.py"


def stages(fault: Fault, root: Path) -> Iterator[list[str]]:
    """Yields lists of test files, each file once. What no list kills survives the fast tests."""
    seen: set[str] = set()
    for stage in (fault.tests or mirrored(fault.file, root), naming(fault.file, root), FAST):
        new = [test for test in stage if test not in seen]
        seen |= set(new)
        if new:
            yield new


def mirrored(file: str, root: Path) -> tuple[str, ...]:
    """Returns the tests that are called like the file, in the package's folder or, of a module at the
    top, the tests of the loop.
    """
    path = Path(file)
    package = path.relative_to("r1reward").parent
    if package == Path():
        return ("tests/loop",)
    folder = root / "tests" / "unit" / package.parts[0]
    names = [path.stem, *package.parts[1:]]
    found = {test for name in names for test in folder.glob(f"test_{name}*.py")}
    return tuple(sorted(test.relative_to(root).as_posix() for test in found))


def naming(file: str, root: Path) -> tuple[str, ...]:
    """Returns the fast test files that import the file's module."""
    module = file.removesuffix(".py").replace("/", ".")
    files = [path for folder in FAST for path in (root / folder).rglob("test_*.py")]
    found = [path for path in files if module in path.read_text(encoding="utf-8")]
    names = {path.relative_to(root).as_posix() for path in found}
    return tuple(sorted(names - {OWN_TESTS}))
