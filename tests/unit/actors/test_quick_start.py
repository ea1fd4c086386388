"""What an actor makes at its start is not looked at again, and what it leaves over is freed."""

import gc
import weakref

import pytest

from r1reward.actors.quick_start import without_garbage_collection


class Node:
    """Refers to itself, so that only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_of_the_start_is_freed_and_the_rest_is_left_out_of_later_collections() -> None:
    try:
        with without_garbage_collection():
            assert not gc.isenabled()
            garbage, kept = weakref.ref(Node()), Node()
            assert garbage() is not None
        assert gc.isenabled()
        assert garbage() is None
        assert all(thing is not kept for thing in gc.get_objects())
    finally:
        gc.unfreeze()


def test_collections_come_back_after_an_error() -> None:
    try:
        with pytest.raises(ValueError, match="no model"), without_garbage_collection():
            raise ValueError("no model")
        assert gc.isenabled()
    finally:
        gc.unfreeze()
