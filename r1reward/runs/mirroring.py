"""While a verb works in its run folder, a thread beside it keeps the folder's copy (``runs/mirror.py``)."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from r1reward.errors import InputError, ServiceError
from r1reward.recipe.recipe import RunRecipe
from r1reward.runs.mirror import CopyTakenError, RunCopy
from r1reward.runs.storage import RemoteFolder

logger = logging.getLogger(__name__)

COPY_EVERY_S = 5.0
# Logs that grow are copied whole: as a share of the time, this much of it may go into copying.
BUSY_SHARE = 0.1


@contextmanager
def kept_copied(recipe: RunRecipe | None, every_s: float = COPY_EVERY_S) -> Iterator[None]:
    """While a verb works in its run folder, keep others out, and the copy that the recipe asks for.

    Raises ``InputError`` if another process works there, and ``ServiceError`` at the end if something
    could not be copied: it is still on this machine.
    """
    if recipe is None:
        yield
        return
    with worked_in(recipe.run_dir):
        if recipe.run_url is None:
            yield
            return
        copy = RunCopy(recipe.run_dir, RemoteFolder(recipe.run_url))
        copy.open()
        yield from copying(copy, every_s)


@contextmanager
def worked_in(folder: Path) -> Iterator[None]:
    """Raises ``InputError`` while another process works there: both would write the same files.

    A process that is killed has it no more. A folder that is locked so is also left alone by systemd's
    cleaning of temporary files (tmpfiles.d(5)).
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = os.open(folder, os.O_RDONLY)
    except OSError:
        opened = None  # whoever writes there says what is wrong
    try:
        if opened is not None:
            lock(opened, folder)
        yield
    finally:
        if opened is not None:
            os.close(opened)
        with suppress(OSError):
            folder.rmdir()  # if nothing came into it


def lock(opened: int, folder: Path) -> None:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"another process works in {folder}: end it first, or choose another run_dir"
        ) from error
    except OSError as error:  # not every network folder has locks
        logger.info("%s cannot be locked (%s)", folder, error.strerror)


def copying(copy: RunCopy, every_s: float) -> Iterator[None]:
    """The body of ``kept_copied``."""
    ended = threading.Event()
    taken: list[CopyTakenError] = []
    thread = threading.Thread(target=keep_copying, args=(copy, every_s, ended, taken), daemon=True)
    thread.start()
    failed = True
    try:
        yield
        failed = False
    finally:
        ended.set()
        thread.join()
        if taken:
            raise taken[0]
        try:
            copy.push()
        except CopyTakenError:
            raise
        except (ServiceError, OSError) as error:
            said = (
                f"what the run wrote last is in {copy.local} alone ({error}): the same command on this "
                "machine copies it and goes on"
            )
            if not failed:
                raise ServiceError(said) from error
            logger.warning(said)


def pause(every_s: float, took_s: float) -> float:
    """Seconds until the next push, after one that took ``took_s``."""
    return max(every_s, took_s * (1 / BUSY_SHARE - 1))


def keep_copying(
    copy: RunCopy, every_s: float, ended: threading.Event, taken: list[CopyTakenError]
) -> None:
    """The thread beside the run. A storage that fails for a while is only said once."""
    is_failing = False
    took_s = 0.0
    while not ended.wait(pause(every_s, took_s)):
        started = time.monotonic()
        try:
            copy.push()
        except CopyTakenError as error:
            taken.append(error)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # as Ctrl-C
            return
        except (ServiceError, OSError) as error:
            if not is_failing:
                logger.warning("the run's copy waits: %s", error)
            is_failing = True
            continue
        finally:
            took_s = time.monotonic() - started
        if is_failing:
            logger.info("the run's copy is up to date again")
        is_failing = False
