"""A Store in memory, for tests and the simulator. Knows nothing of disks: what was put is there until it is deleted.

Sizes are what the rows hold, with nothing for pages; so a quota works, and its figures differ from those of a disk.
"""

from collections.abc import Iterator, Mapping

from sortedcontainers import SortedDict

from kvorum.state.store import ALL_TABLES

ROW_OVERHEAD_BYTES = 16  # a leaf element of bbolt, so that many small rows weigh something


class DictStore:
    """Satisfies kvorum.state.store.Store."""

    def __init__(self, tables: Mapping[str, Mapping[bytes, bytes]] | None = None) -> None:
        self._tables: dict[str, SortedDict] = {table: SortedDict() for table in ALL_TABLES}
        self._size_bytes = 0
        for table, rows in (tables or {}).items():
            for key, value in rows.items():
                self.put(table, key, value)

    def get(self, table: str, key: bytes) -> bytes | None:
        value: bytes | None = self._tables[table].get(key)
        return value

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self.delete(table, key)
        self._tables[table][key] = value
        self._size_bytes += ROW_OVERHEAD_BYTES + len(key) + len(value)

    def delete(self, table: str, key: bytes) -> None:
        value = self._tables[table].pop(key, None)
        if value is not None:
            self._size_bytes -= ROW_OVERHEAD_BYTES + len(key) + len(value)

    def scan(self, table: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        rows = self._tables[table]
        keys = list(rows.irange(start, end, inclusive=(True, False)))
        return iter([(key, rows[key]) for key in keys])

    def rows(self, table: str) -> dict[bytes, bytes]:
        """A copy of a table, to compare."""
        return dict(self._tables[table])

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def size_in_use_bytes(self) -> int:
        return self._size_bytes
