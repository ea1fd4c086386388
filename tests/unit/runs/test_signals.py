"""SIGTERM is Ctrl-C, and during training the first of either only asks."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest

from r1reward.runs.signals import sigterm_is_ctrl_c, stop_on_signal


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_sigterm_ends_asyncio_as_ctrl_c_does_with_what_is_open_closed() -> None:
    closed = []

    async def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    sigterm_is_ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(work())
    assert closed == [True]


def test_sigterm_counts_where_sigint_is_blocked() -> None:
    """As in a job of Ray's."""
    sigterm_is_ctrl_c()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(number: signal.Signals) -> None:
    asked = []

    async def work() -> None:
        with stop_on_signal() as stop:
            signal.raise_signal(number)
            await stop.wait()
            asked.append(True)
            signal.raise_signal(number)
            await asyncio.sleep(60)

    sigterm_is_ctrl_c()
    before = signal.getsignal(signal.SIGINT)
    # A suite in the background of a shell ignores it, and would go on ignoring it here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(work())
    finally:
        signal.signal(signal.SIGINT, before)
    assert asked == [True]


def test_afterwards_everything_is_as_before() -> None:
    async def work() -> None:
        inside = signal.getsignal(signal.SIGTERM)
        with stop_on_signal():
            assert signal.getsignal(signal.SIGTERM) is not inside
        assert signal.getsignal(signal.SIGTERM) is inside

    asyncio.run(work())
