"""Runs the fast tests against every fault: ``make mutants``.

Each worker has a copy of the tree of its own, in which one fault stands at a time. Tests run in a
process that is forked with torch and transformers loaded, so that a fault costs little more than the
tests that see it. The result is a table, in the terminal and in docs/tests.md; the command fails
where a fault survives.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerContext
from pathlib import Path
from queue import Queue

import pytest

from tools.mutants.faults import DRAWN, PLANTED, ROOT, Fault, read_faults
from tools.mutants.outcomes import Outcome, rows_by_fault, summary, table
from tools.mutants.suite import OWN_TESTS, stages

# What a run, a build or a tool leaves in a checkout. Packages may be called like that.
LEFT_OUT = {".git", ".venv", "runs", "build", "dist", "wandb"}
CACHES = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
PRELOADED = ["torch", "transformers", "pytest", "hypothesis", "pyarrow", "scipy.stats"]
STAGE_TIMEOUT_S = 600
TEST_TIMEOUT_S = 60
TIME_LIMIT = "the time limit"


def left_out(folder: str, names: list[str]) -> set[str]:
    """Returns what a copy of the tree does without, of these names in a folder."""
    at_top = LEFT_OUT if Path(folder) == ROOT else set()
    return (CACHES | at_top) & set(names)


class FirstFailure:
    """A pytest plugin that writes down which test failed first."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.file.exists():
            self.file.write_text(report.nodeid, encoding="utf-8")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.file.exists():
            self.file.write_text(report.nodeid, encoding="utf-8")


def run_tests(tree: Path, tests: Sequence[str], failure: Path) -> None:
    """Runs these test files of a tree in this process, which ends with pytest's exit code."""
    log = os.open(failure.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.setpgrp()  # what tests start ends with them
    os.chdir(tree)
    os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    assert "r1reward" not in sys.modules, "it would not be the one with the fault"
    options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    options += [f"--timeout={TEST_TIMEOUT_S}", f"--ignore={OWN_TESTS}"]
    code = pytest.main([*options, *tests], plugins=[FirstFailure(failure)])
    files = [m.__file__ for name, m in sys.modules.items() if name.partition(".")[0] == "r1reward"]
    assert all(Path(file).is_relative_to(tree) for file in files if file), "another tree was tested"
    sys.exit(int(code))


def first_failure(context: ForkServerContext, tree: Path, tests: Sequence[str]) -> str | None:
    """Returns the test that fails first, or None if all pass.

    Raises ``RuntimeError`` if pytest itself could not do its work.
    """
    failure = tree.parent / f"{tree.name}.failure"
    failure.unlink(missing_ok=True)
    process = context.Process(target=run_tests, args=(tree, tests, failure))
    process.start()
    process.join(STAGE_TIMEOUT_S)
    if process.exitcode is None:
        assert process.pid is not None
        os.killpg(process.pid, 9)
        process.join()
        return TIME_LIMIT
    if failure.exists():
        return failure.read_text(encoding="utf-8")
    if process.exitcode not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        log = failure.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"pytest ended with {process.exitcode} on {tests}:\n{log[-3000:]}")
    return None


def hunt(context: ForkServerContext, tree: Path, fault: Fault, thorough: bool) -> Outcome:
    """Plants a fault in a tree, runs the stages of tests until one fails, and takes it out again.

    Of what is called equivalent, and where it shall not be thorough, the first stage is enough.
    """
    path = tree / fault.file
    sound = path.read_text(encoding="utf-8")
    started = time.monotonic()
    path.write_text(fault.applied(sound), encoding="utf-8")
    killed_by = None
    try:
        for tests in stages(fault, tree):
            killed_by = first_failure(context, tree, tests)
            if killed_by or fault.equivalent or not thorough:
                break
    finally:
        path.write_text(sound, encoding="utf-8")
    return Outcome(fault, killed_by, time.monotonic() - started)


def run_all(faults: Sequence[Fault], num_workers: int, thorough: bool) -> Iterator[Outcome]:
    """Yields the outcomes in the order of the faults.

    Raises ``RuntimeError`` at the end if a test that killed one fails without any fault.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as scratch:
        free: Queue[Path] = Queue()
        for number in range(num_workers):
            tree = Path(scratch) / f"tree-{number}"
            shutil.copytree(ROOT, tree, ignore=left_out)
            free.put(tree)

        def with_tree(fault: Fault) -> Outcome:
            tree = free.get()
            try:
                return hunt(context, tree, fault, thorough)
            finally:
                free.put(tree)

        killers: set[str] = set()
        with ThreadPoolExecutor(num_workers) as pool:
            for outcome in pool.map(with_tree, faults):
                if outcome.killed_by and outcome.killed_by != TIME_LIMIT:
                    killers.add(outcome.killed_by)
                yield outcome
        if killers and (failed := first_failure(context, free.get(), sorted(killers))):
            raise RuntimeError(f"{failed} fails without any fault: mend it first")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="faults whose name or file has this in it")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="the first tests of each fault alone")
    parser.add_argument("--out", type=Path, help="document whose tables are filled")
    options = parser.parse_args()
    # Not at the top: a process that runs tests has this module, and must not have r1reward from here.
    from studies.document_tables import check_marks, fill

    groups = {"planted": read_faults(PLANTED), "drawn": read_faults(DRAWN)}
    read_faults(PLANTED, DRAWN)  # no name in both
    if options.out:
        check_marks(options.out, *groups, "summary")
    faults = [f for group in groups.values() for f in group if options.only in f.name + f.file]
    started = time.monotonic()
    outcomes = []
    for outcome in run_all(faults, options.workers, thorough=not options.quick):
        outcomes.append(outcome)
        print(outcome.row, flush=True)
    said = summary(outcomes, time.monotonic() - started)
    print(said)
    if options.out:
        # Of faults that were not asked for the page keeps its rows.
        rows = rows_by_fault(options.out.read_text(encoding="utf-8"))
        rows |= rows_by_fault("\n".join(outcome.row for outcome in outcomes))
        for name, group in groups.items():
            fill(options.out, table(group, rows), name)
        if not options.only:
            fill(options.out, said, "summary")
    if wrong := [outcome.fault.name for outcome in outcomes if not outcome.is_right]:
        sys.exit("not as they should be:\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
