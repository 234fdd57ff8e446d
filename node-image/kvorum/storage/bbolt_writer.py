"""bbolt files written in one go from rows in order: what etcd, etcdutl and bbolt itself open as their own.

Knows pages and bytes. Rows stream through: a leaf is written when it is full, a branch when it has as many children as
fit, so that memory is a page for each level of the tree, whatever the size. Keeps: the meta pages are written last, so
an interrupted file opens nowhere; all pages but those belong to a bucket, and the free list is an empty page.
"""

import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from kvorum.storage.bbolt_reader import (
    BRANCH,
    BRANCH_ELEMENT,
    BUCKET,
    BUCKET_HEADER,
    CHECKSUM,
    FREELIST,
    LEAF,
    LEAF_ELEMENT,
    MAGIC,
    META,
    META_BODY,
    PAGE_HEADER,
    VERSION,
    fnv64a,
)

PAGE_BYTES = 4096
FILLED_BYTES = PAGE_BYTES * 9 // 10  # etcd's fill of a table that grows at its end
INLINE_BYTES_MAX = PAGE_BYTES // 4  # bbolt's: a smaller bucket stands in the root bucket's row
KEY_BYTES_MAX, VALUE_BYTES_MAX = 32_768, (1 << 31) - 2  # bbolt's
BUFFER_BYTES = 1 << 20
CHILDREN_MIN = 2  # of a branch, in bbolt
_FREELIST_PAGE, _FIRST_PAGE = 2, 3


class UnfitRow(ValueError):
    """A row that bbolt cannot hold, or that comes out of order: the tables it was read from are damaged."""


def write_bbolt(path: Path, buckets: Iterable[tuple[bytes, Iterable[tuple[bytes, bytes]]]]) -> int:
    """A new bbolt file, durable (but for its name) once this returns; gives its size in bytes. 1.8 us a row.

    buckets: by ascending name, each with its rows by ascending key. The caller removes the file if this raises.
    Raises UnfitRow, OSError.
    """
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb", BUFFER_BYTES) as file:
        file.write(bytes(2 * PAGE_BYTES))  # the meta pages, for now
        file.write(PAGE_HEADER.pack(_FREELIST_PAGE, FREELIST, 0, 0).ljust(PAGE_BYTES, b"\0"))
        pages = _Pages(file, _FIRST_PAGE)
        root = _Tree(pages)
        for name, rows in buckets:
            root.add(BUCKET, name, _write_bucket(pages, rows))
        root_page = root.finish()
        file.flush()
        os.fsync(file.fileno())  # what the meta pages speak of is there before they are
        file.seek(0)
        for number in range(2):
            file.write(_meta_page(number, root_page, pages.next))
        file.flush()
        os.fsync(file.fileno())
        return pages.next * PAGE_BYTES


def _write_bucket(pages: "_Pages", rows: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The value of the bucket's row in the root bucket: where its pages are, or its one page if that is small."""
    tree = _Tree(pages)
    for key, value in rows:
        tree.add(0, key, value)
    inline = tree.inline()
    if inline is not None:
        return BUCKET_HEADER.pack(0, 0) + inline
    return BUCKET_HEADER.pack(tree.finish(), 0)


class _Pages:
    """Pages appended to the file, by their numbers."""

    def __init__(self, file: BinaryIO, first: int) -> None:
        self._file = file
        self.next = first

    def append(self, flags: int, count: int, body: bytes) -> int:
        """The number of the page, of which body may fill several."""
        number = self.next
        pages_count = -(-(PAGE_HEADER.size + len(body)) // PAGE_BYTES)
        self._file.write(PAGE_HEADER.pack(number, flags, count, pages_count - 1))
        self._file.write(body.ljust(pages_count * PAGE_BYTES - PAGE_HEADER.size, b"\0"))
        self.next += pages_count
        return number


class _Tree:
    """One bucket's pages, as its rows come in order."""

    def __init__(self, pages: _Pages) -> None:
        self._pages = pages
        self._rows: list[tuple[int, bytes, bytes]] = []
        self._rows_bytes = PAGE_HEADER.size
        self._levels: list[_Level] = []  # from the leaves up
        self._last_key = b""

    def add(self, flags: int, key: bytes, value: bytes) -> None:
        if not self._last_key < key:
            raise UnfitRow(f"key {key[:64].hex()} follows {self._last_key[:64].hex()}")
        if len(key) > KEY_BYTES_MAX or len(value) > VALUE_BYTES_MAX:
            raise UnfitRow(f"key {key[:64].hex()}... of {len(key)} bytes, with a value of {len(value)}")
        self._last_key = key
        size = LEAF_ELEMENT.size + len(key) + len(value)
        if self._rows_bytes + size > FILLED_BYTES and self._rows:
            self._flush()
        self._rows.append((flags, key, value))
        self._rows_bytes += size

    def inline(self) -> bytes | None:
        """The only page so far, if it is small enough to stand in a row. Then nothing of this tree is in the file."""
        if self._levels or self._rows_bytes > INLINE_BYTES_MAX:
            return None
        return PAGE_HEADER.pack(0, LEAF, len(self._rows), 0) + _leaf_body(self._rows)

    def finish(self) -> int:
        """The root's page."""
        if self._rows or not self._levels:
            self._flush()
        level = 0
        while (root := self._levels[level].only_child) is None or level + 1 < len(self._levels):
            for children in self._levels[level].take_all():
                self._put_branch(level, children)
            level += 1
        return root

    def _flush(self) -> None:
        page = self._pages.append(LEAF, len(self._rows), _leaf_body(self._rows))
        self._put_above(0, self._rows[0][1] if self._rows else b"", page)
        self._rows = []
        self._rows_bytes = PAGE_HEADER.size

    def _put_above(self, level: int, first_key: bytes, page: int) -> None:
        if level == len(self._levels):
            self._levels.append(_Level())
        full = self._levels[level].add(first_key, page)
        if full is not None:
            self._put_branch(level, full)

    def _put_branch(self, level: int, children: "_Children") -> None:
        page = self._pages.append(BRANCH, len(children), _branch_body(children))
        self._put_above(level + 1, children[0][0], page)


_Children = list[tuple[bytes, int]]  # first key below, and page


class _Level:
    """The children that the next branches of one height will have.

    One branch is held back until the next has two children: bbolt takes it for granted that no branch has only one,
    and panics once rows below such a branch are deleted.
    """

    def __init__(self) -> None:
        self._full: _Children = []
        self._children: _Children = []
        self._size = PAGE_HEADER.size

    @property
    def only_child(self) -> int | None:
        return self._children[0][1] if len(self._children) == 1 and not self._full else None

    def add(self, key: bytes, page: int) -> _Children | None:
        """A child more; the branch that can now be written, if there is one."""
        size = BRANCH_ELEMENT.size + len(key)
        if self._size + size > FILLED_BYTES and len(self._children) >= CHILDREN_MIN:
            assert not self._full
            self._full, self._children, self._size = self._children, [], PAGE_HEADER.size
        self._children.append((key, page))
        self._size += size
        if self._full and len(self._children) == CHILDREN_MIN:
            full, self._full = self._full, []
            return full
        return None

    def take_all(self) -> list[_Children]:
        """What is left, as one branch or two."""
        full, children = self._full, self._children
        self._full, self._children, self._size = [], [], PAGE_HEADER.size
        if not full:
            return [children]
        if len(full) > CHILDREN_MIN:  # then one of them keeps the last one company
            return [full[:-1], [full[-1], *children]]
        return [full + children]


def _leaf_body(rows: list[tuple[int, bytes, bytes]]) -> bytes:
    """Elements, then keys and values. Hot: half the time of an export is here, so the numbers are packed at once."""
    numbers: list[int] = []
    parts: list[bytes] = []
    position = len(rows) * LEAF_ELEMENT.size  # of the next key, from the start of the next element
    for flags, key, value in rows:
        key_bytes, value_bytes = len(key), len(value)
        numbers += (flags, position, key_bytes, value_bytes)
        parts += (key, value)
        position += key_bytes + value_bytes - LEAF_ELEMENT.size
    return struct.pack(f"<{len(numbers)}I", *numbers) + b"".join(parts)


def _branch_body(children: _Children) -> bytes:
    elements: list[bytes] = []
    position = len(children) * BRANCH_ELEMENT.size
    for key, page in children:
        elements.append(BRANCH_ELEMENT.pack(position, len(key), page))
        position += len(key) - BRANCH_ELEMENT.size
    return b"".join((*elements, *(key for key, _ in children)))


def _meta_page(number: int, root: int, end: int) -> bytes:
    """Both are valid, with the transactions 0 and 1, as in a file that bbolt makes."""
    body = META_BODY.pack(MAGIC, VERSION, PAGE_BYTES, 0, root, 0, _FREELIST_PAGE, end, number)
    return (PAGE_HEADER.pack(number, META, 0, 0) + body + CHECKSUM.pack(fnv64a(body))).ljust(PAGE_BYTES, b"\0")
