"""Keys that are longer than LMDB's 511 bytes: names of users and roles may be, in etcd, and such a row must be kept.

A long key is stored as its beginning and its SHA-256, 511 bytes together, and stands in full before the row's value. A
shorter one is stored as it is. Knows no LMDB: keys and values go in and out.
"""

import hashlib
from collections.abc import Iterable, Iterator

from kvorum.state.store import AUTH_ROLES, AUTH_USERS

TABLES = frozenset({AUTH_USERS, AUTH_ROLES})  # in which keys may be long
STORED_BYTES = 511  # LMDB's limit, and the length by which a long key is known
BEGINNING_BYTES = STORED_BYTES - hashlib.sha256().digest_size
_LENGTH_BYTES = 4

Row = tuple[bytes, bytes]


def stored_key(key: bytes) -> bytes:
    return key if len(key) < STORED_BYTES else key[:BEGINNING_BYTES] + hashlib.sha256(key).digest()


def stored_value(key: bytes, value: bytes) -> bytes:
    """key: in full."""
    return value if len(key) < STORED_BYTES else len(key).to_bytes(_LENGTH_BYTES, "big") + key + value


def value_of(key: bytes, stored: bytes) -> bytes:
    """key: in full."""
    return stored if len(key) < STORED_BYTES else stored[_LENGTH_BYTES + len(key) :]


def stored_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """In the order of what is stored."""
    yield from _reordered((stored_key(key), stored_value(key, value)) for key, value in rows)


def restored_rows(stored: Iterable[Row]) -> Iterator[Row]:
    """Rows as they were put, in the order of their keys."""
    yield from _reordered(map(_restored, stored))


def _restored(row: Row) -> Row:
    key, value = row
    if len(key) < STORED_BYTES:
        return row
    end = _LENGTH_BYTES + int.from_bytes(value[:_LENGTH_BYTES], "big")
    return value[_LENGTH_BYTES:end], value[end:]


def _reordered(rows: Iterable[Row]) -> Iterator[Row]:
    """Only among rows with the same long beginning do stored keys and full ones differ in their order."""
    alike: list[Row] = []
    for row in rows:
        if alike and row[0][:BEGINNING_BYTES] != alike[0][0][:BEGINNING_BYTES]:
            yield from sorted(alike)
            alike.clear()
        alike.append(row)
    yield from sorted(alike)
