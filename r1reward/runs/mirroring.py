"""While a verb works in its run folder: a lock keeps others out, a thread mirrors the folder."""

import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from r1reward.errors import InputError, ServiceError, as_input_error
from r1reward.recipe.recipe import RunRecipe
from r1reward.runs.mirror import Mirror, TakenOverError
from r1reward.runs.storage import RemoteFolder

logger = logging.getLogger(__name__)

PUSH_EVERY_S = 5.0
# Ledgers are uploaded whole as they grow: after a push the thread rests so many times as long as it took.
REST = 9


@contextmanager
def kept_copied(recipe: RunRecipe, every_s: float = PUSH_EVERY_S) -> Iterator[None]:
    """While a verb works in its run folder, keep others out, and mirror it where the recipe asks for it.

    Raises ``InputError`` if the folder cannot be worked in, and ``ServiceError`` at the end if something
    could not be uploaded: it is still on this machine.
    """
    with locked(recipe.run_dir):
        if recipe.run_url is None:
            yield
            return
        mirror = Mirror(recipe.run_dir, RemoteFolder(recipe.run_url))
        mirror.open()
        with mirrored(mirror, every_s):
            yield


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and lock it until the end or a kill.

    Systemd's cleaning of temporary files (tmpfiles.d(5)) leaves a locked folder alone. Raises
    ``InputError`` if the folder cannot be made or written to, or another process works in it.
    """
    advice = "choose another run_dir, or --out of an evaluation"
    with as_input_error(f"{folder} cannot be worked in, {advice}", OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("no permission to write")
        descriptor = os.open(folder, os.O_RDONLY)
    with ExitStack() as at_end:
        at_end.callback(remove_if_empty, folder)
        at_end.callback(os.close, descriptor)
        lock(descriptor, folder)
        yield


def remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"another process works in {folder}: end it first, or choose another run_dir"
        ) from error
    except OSError as error:  # not every network folder has locks
        logger.info("%s cannot be locked (%s)", folder, error.strerror)


@contextmanager
def mirrored(mirror: Mirror, every_s: float) -> Iterator[None]:
    """Push in a thread beside the body, and once more at its end."""
    ended = threading.Event()
    failed = True
    with ThreadPoolExecutor(max_workers=1) as executor:
        pushing = executor.submit(keep_pushing, mirror, every_s, ended)
        try:
            yield
            failed = False
        finally:
            ended.set()
            pushing.result()  # raises TakenOverError
            push_last(mirror, failed)


def push_last(mirror: Mirror, failed: bool) -> None:
    """What a failed run raises is not hidden by a storage that fails, too."""
    try:
        mirror.push()
        if not failed:
            mirror.use_own_names()
    except TakenOverError:
        raise
    except (ServiceError, OSError) as error:
        message = (
            f"what the run wrote last is in {mirror.folder} alone ({error}): the same command on this "
            "machine copies it and goes on"
        )
        if not failed:
            raise ServiceError(message) from error
        logger.warning(message)


def keep_pushing(mirror: Mirror, every_s: float, ended: threading.Event) -> None:
    """The thread beside the run. A storage that fails for a while is only said once.

    Ends the run as Ctrl-C does, and raises ``TakenOverError``, when another run writes to the mirror.
    """
    is_failing = False
    took_s = 0.0
    while not ended.wait(max(every_s, REST * took_s)):
        started = time.monotonic()
        try:
            mirror.push()
        except TakenOverError:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            raise
        except (ServiceError, OSError) as error:
            if not is_failing:
                logger.warning("the run's copy waits: %s", error)
            is_failing = True
        else:
            if is_failing:
                logger.info("the run's copy is up to date again")
            is_failing = False
        took_s = time.monotonic() - started
