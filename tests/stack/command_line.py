"""``r1reward VERB`` in a process group of its own that can be killed; forked, so that it starts at once.

It runs ``r1reward.cli.main.main``, as the command does; see ``forked.py`` for what it does not do again.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.stack.forked import CONTEXT

LIMIT_S = 300


def run_verb(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    """What the forked process does; its two outputs go into one file."""
    from r1reward.cli.main import main

    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    os.environ.update(environment)
    sys.argv = ["r1reward", *arguments]
    try:
        status = main(arguments)
    finally:
        # A process of multiprocessing leaves these out.
        atexit._run_exitfuncs()
    sys.exit(status)


@dataclass(frozen=True)
class Running:
    """A verb that runs."""

    process: BaseProcess
    log: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def printed(self) -> str:
        return self.log.read_text()

    def wait_until(self, is_time: Callable[[], bool], what: str) -> None:
        """Fails when the verb ends before, or after five minutes."""
        deadline = time.monotonic() + LIMIT_S
        while not is_time():
            assert self.process.is_alive(), f"it ended before {what}: {self.printed()}"
            assert time.monotonic() < deadline, f"{what} never came: {self.printed()}"
            time.sleep(0.005)

    def kill(self, whole_group: bool = True) -> None:
        """With SIGKILL; without its group Ray's processes have to see it themselves."""
        if whole_group:
            os.killpg(self.pid, signal.SIGKILL)
        else:
            os.kill(self.pid, signal.SIGKILL)
        self.process.join()

    def finish(self) -> str:
        """Wait for its end, which must be a good one; returns what was printed."""
        self.process.join(LIMIT_S)
        assert self.process.exitcode == 0, self.printed()
        return self.printed()


@contextmanager
def started(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """A verb that runs while this is open, and is killed where it still does at the end."""
    process = CONTEXT.Process(target=run_verb, args=(tuple(arguments), log, environment or {}))
    process.start()
    running = Running(process, log)
    try:
        yield running
    finally:
        if process.is_alive():
            running.kill()
        process.close()


def finish(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> str:
    """Run a verb to its end, which must be a good one; returns what was printed."""
    with started(arguments, log, environment) as running:
        return running.finish()
