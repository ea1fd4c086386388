"""Ctrl-C, and SIGTERM like it: a job's stop, a pre-emption, the end of a Slurm allocation."""

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def sigterm_is_ctrl_c() -> None:
    """From now on SIGTERM does what Ctrl-C does at that moment."""
    signal.signal(signal.SIGTERM, as_ctrl_c)


def as_ctrl_c(number: int, frame: FrameType | None) -> None:
    # Not by sending SIGINT: Ray blocks it in the processes of its jobs, and they inherit that.
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        handler = signal.default_int_handler
    handler(number, frame)


@contextmanager
def stop_on_signal() -> Iterator[asyncio.Event]:
    """Inside, the first signal sets the event and nothing else; a second one is handled as before."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    # None: a handler that is not Python's, which cannot be put back.
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def say() -> None:
        asked.set()
        logger.info("stopping: the step in flight ends first, then comes a checkpoint")

    def ask(number: int, frame: FrameType | None) -> None:
        restore()
        loop.call_soon_threadsafe(say)

    for number in SIGNALS:
        signal.signal(number, ask)
    with ExitStack() as at_end:
        at_end.callback(restore)
        yield asked
