"""A set of content hashes that stays small: 8 bytes a key and its spare room, not a Python object."""

from __future__ import annotations

from array import array

# Tables of their own by the first bits of a key: when one grows, only its old half is held twice.
TABLE_BITS = 6
FIRST_SLOTS = 16


class KeySet:
    """Hex keys of 16 digits. At a million keys, two different ones meet once in 40 million runs.

    Open addressing, at most half full: 16 to 32 MB for a million keys, where a set of strings takes 120.
    """

    def __init__(self) -> None:
        self.tables = [array("Q", [0]) * FIRST_SLOTS for _ in range(1 << TABLE_BITS)]
        self.num_keys = [0] * len(self.tables)

    def __len__(self) -> int:
        return sum(self.num_keys)

    def __contains__(self, key: str) -> bool:
        value = number(key)
        slots = self.tables[table_of(value)]
        return slots[slot_of(slots, value)] != 0

    def add(self, key: str) -> bool:
        """Adds a key and returns whether it is new."""
        value = number(key)
        table = table_of(value)
        slots = self.tables[table]
        slot = slot_of(slots, value)
        if slots[slot]:
            return False
        slots[slot] = value
        self.num_keys[table] += 1
        if 2 * self.num_keys[table] > len(slots):
            self.tables[table] = grown(slots)
        return True


def table_of(value: int) -> int:
    """Returns the table of a key, by its first bits."""
    return value >> (64 - TABLE_BITS)


def slot_of(slots: array[int], value: int) -> int:
    """Returns the slot of the value, or the one where it would go."""
    last = len(slots) - 1
    slot = value & last
    while slots[slot] and slots[slot] != value:
        slot = (slot + 1) & last
    return slot


def grown(old: array[int]) -> array[int]:
    """Returns the same values with twice the room."""
    slots = array("Q", [0]) * (2 * len(old))
    for value in old:
        if value:
            slots[slot_of(slots, value)] = value
    return slots


def number(key: str) -> int:
    """Returns the number of a hexadecimal key."""
    return int(key, 16) or 1  # 0 marks an empty slot
