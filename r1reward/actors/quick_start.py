"""How an actor loads the model libraries: thousands of modules, none of which is garbage."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """For an actor's imports and its engine's start, which take a sixth less time without it.

    One collection at the end frees what the start left over, which may be copies of weights. What is
    alive then lives as long as the actor, so later collections leave it out.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()
        atexit.register(gc.unfreeze)  # else libraries list it as leaked when the actor ends
        gc.enable()
