"""A set of content hashes that stays small: SQLite keeps a key in a few bytes, Python in a hundred."""

import sqlite3


class KeySet:
    """Hex keys of at most 16 digits. At a million, two different ones meet once in 40 million runs."""

    def __init__(self) -> None:
        self.database = sqlite3.connect(":memory:")
        self.database.execute("CREATE TABLE keys (key INTEGER PRIMARY KEY)")

    def __len__(self) -> int:
        return int(self.database.execute("SELECT COUNT(*) FROM keys").fetchone()[0])

    def __contains__(self, key: str) -> bool:
        found = self.database.execute("SELECT 1 FROM keys WHERE key = ?", (signed(key),))
        return found.fetchone() is not None

    def add(self, key: str) -> bool:
        """Adds a key and returns whether it is new."""
        added = self.database.execute("INSERT OR IGNORE INTO keys VALUES (?)", (signed(key),))
        return added.rowcount == 1


def signed(key: str) -> int:
    """Returns the number of a hexadecimal key, in the range of SQLite's integers of 8 bytes."""
    return int(key, 16) - (1 << 63)
