"""bbolt files read: etcd's db, and what etcdctl snapshot save writes, bucket by bucket in order of keys.

Knows pages and bytes, nothing of what etcd keeps in them; the free list is not looked at. Trusts nothing it reads: in a
walk each page is reached once, lies in the file, and holds its rows in order, or CorruptDb names the page and what is
wrong with it. This format has no checksum but the meta page's: what rotted within a value goes unseen here.
Format: bbolt's version 2; little-endian, as on every machine etcd is built for.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from kvorum.storage.fault import CorruptDb

BRANCH, LEAF, META, FREELIST = 1, 2, 4, 16
BUCKET = 1  # flag of a leaf element whose value is a bucket
MAGIC, VERSION = 0xED0CDAED, 2
PAGE_HEADER = struct.Struct("<QHHI")  # number, flags, count of elements, count of pages that continue it
LEAF_ELEMENT = struct.Struct("<IIII")  # flags, position from the element's own start, key bytes, value bytes
BRANCH_ELEMENT = struct.Struct("<IIQ")  # position likewise, key bytes, page below
BUCKET_HEADER = struct.Struct("<QQ")  # root page (0: it follows right here), sequence
META_BODY = struct.Struct("<IIIIQQQQQ")  # magic, version, page bytes, flags, root, its sequence, free list, end, txid
CHECKSUM = struct.Struct("<Q")
PAGE_BYTES_MIN, PAGE_BYTES_MAX = 1 << 10, 1 << 24
BRANCHES_MAX = 64  # above a leaf; a million rows have three

_FNV_START, _FNV_PRIME, _UINT64_MASK = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


class _BadPage(Exception):
    """A page is not what it should be. Becomes CorruptDb, which names the file."""


class Meta(NamedTuple):
    """What the last transaction left. end: the first page that was never used."""

    page_bytes: int
    root: int
    end: int
    txid: int


class _Page(NamedTuple):
    """A page with those that continue it. name: for a person."""

    name: str
    flags: int
    elements_count: int
    data: bytes


def fnv64a(data: bytes) -> int:
    """The checksum of a meta page."""
    total = _FNV_START
    for byte in data:
        total = (total ^ byte) * _FNV_PRIME & _UINT64_MASK
    return total


class BboltFile:
    """An open bbolt file, which nobody writes to meanwhile."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        """Not for use outside: open() makes one."""
        self._path = path
        self._data = data
        try:
            self.meta = _find_meta(data)
            self._buckets = dict(self._root_rows())
        except _BadPage as why:
            raise CorruptDb(path, str(why)) from None

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises CorruptDb; OSError if the file cannot be read."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size_bytes = os.fstat(fd).st_size
            if size_bytes < 2 * PAGE_BYTES_MIN:
                raise CorruptDb(path, f"no bbolt file has {size_bytes} bytes: it begins with two meta pages")
            data = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        try:
            return cls(path, data)
        except CorruptDb:
            data.close()
            raise

    def close(self) -> None:
        self._data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def bucket_names(self) -> list[bytes]:
        """Sorted."""
        return list(self._buckets)

    def rows(self, bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All rows in order of their keys (0.5 us a row). KeyError for a bucket that is absent.

        Raises CorruptDb, perhaps only after many rows.
        """
        return self._checked_rows(self._buckets[bucket])

    def _checked_rows(self, bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
        root, _ = BUCKET_HEADER.unpack_from(bucket)
        try:
            for flags, key, value in self._walk(root, bucket[BUCKET_HEADER.size :]):
                if flags & BUCKET:
                    raise _BadPage(f"bucket {key[:64]!r} lies within a bucket, as etcd makes none")
                yield key, value
        except _BadPage as why:
            raise CorruptDb(self._path, str(why)) from None

    def _root_rows(self) -> Iterator[tuple[bytes, bytes]]:
        for flags, key, value in self._walk(self.meta.root, b""):
            if not flags & BUCKET or len(value) < BUCKET_HEADER.size:
                raise _BadPage(f"{key[:64]!r} stands among the buckets, and is none")
            yield key, value

    # --- the tree ----------------------------------------------------------------------------------------------------

    def _walk(self, root: int, inline: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        """Flags, key and value of all rows below a root, in order. inline: the page itself where the root is 0."""
        before = b""  # no key is empty
        for page in self._leaves(root) if root else (_inline_page(inline),):
            for row in _leaf_rows(page):
                key = row[1]
                if key <= before:
                    raise _BadPage(f"{page.name}: key {key[:64].hex()} follows {before[:64].hex()}")
                before = key
                yield row

    def _leaves(self, root: int) -> Iterator[_Page]:
        reached: set[int] = set()
        path = [iter((root,))]
        while path:
            number = next(path[-1], None)
            if number is None:
                path.pop()
                continue
            if number in reached:
                raise _BadPage(f"page {number} is reached twice")
            reached.add(number)
            page = self._page(number)
            if page.flags == LEAF:
                yield page
            elif len(path) > BRANCHES_MAX:
                raise _BadPage(f"{page.name} lies below {BRANCHES_MAX} others")
            else:
                path.append(iter(_children(page)))

    def _page(self, number: int) -> _Page:
        """A leaf or branch page with those that continue it, whole."""
        page_bytes, end = self.meta.page_bytes, self.meta.end
        if not 2 <= number < end:
            raise _BadPage(f"page {number} cannot be: 2 to {end - 1} are in use")
        at = number * page_bytes
        if at + page_bytes > len(self._data):
            raise _BadPage(f"page {number} is missing: the file ends after {len(self._data)} bytes")
        stored, flags, count, more = PAGE_HEADER.unpack_from(self._data, at)
        if stored != number:
            raise _BadPage(f"page {number} says that it is page {stored}")
        if flags not in (BRANCH, LEAF):
            raise _BadPage(f"page {number} is neither leaf nor branch (flags {flags:#x})")
        stop = at + (1 + more) * page_bytes
        if number + more >= end or stop > len(self._data):
            raise _BadPage(f"page {number} goes on for {more} pages, which are not there")
        return _Page(f"page {number}", flags, count, self._data[at:stop])


def _inline_page(data: bytes) -> _Page:
    """The one page of a small bucket, which stands in the bucket's own row."""
    name = "a page within a row of the root bucket"
    if len(data) < PAGE_HEADER.size:
        raise _BadPage(f"{name}: only {len(data)} bytes are there")
    _, flags, count, _ = PAGE_HEADER.unpack_from(data)
    if flags != LEAF:
        raise _BadPage(f"{name} is no leaf (flags {flags:#x})")
    return _Page(name, flags, count, data)


def _leaf_rows(page: _Page) -> list[tuple[int, bytes, bytes]]:
    data = page.data
    size = len(data)
    at = PAGE_HEADER.size
    elements_end = at + page.elements_count * LEAF_ELEMENT.size
    if elements_end > size:
        raise _BadPage(f"{page.name}: {page.elements_count} rows do not fit in it")
    rows: list[tuple[int, bytes, bytes]] = []
    for flags, position, key_bytes, value_bytes in LEAF_ELEMENT.iter_unpack(data[at:elements_end]):
        start = at + position
        middle = start + key_bytes
        stop = middle + value_bytes
        if start < elements_end or stop > size or flags > BUCKET:
            raise _BadPage(f"{page.name}: row {len(rows)} lies outside of it (flags {flags:#x})")
        rows.append((flags, data[start:middle], data[middle:stop]))
        at += LEAF_ELEMENT.size
    return rows


def _children(page: _Page) -> list[int]:
    """The pages below a branch. Its keys repeat the first keys below, and the leaves' own order is what is checked."""
    start, stop = PAGE_HEADER.size, PAGE_HEADER.size + page.elements_count * BRANCH_ELEMENT.size
    if page.elements_count == 0 or stop > len(page.data):
        raise _BadPage(f"{page.name}: a branch cannot have {page.elements_count} children")
    return [child for _, _, child in BRANCH_ELEMENT.iter_unpack(page.data[start:stop])]


# --- the meta pages --------------------------------------------------------------------------------------------------


def _find_meta(data: mmap.mmap) -> Meta:
    """Of the two meta pages the newer one that is whole: a crash may have torn the other."""
    first, why_first = _read_meta(data, 0)
    if first is not None:
        second, why_second = _read_meta(data, first.page_bytes)
    else:
        second, why_second = None, "not found"
        page_bytes = PAGE_BYTES_MIN
        while second is None and page_bytes <= PAGE_BYTES_MAX:
            second, why = _read_meta(data, page_bytes)
            if second is not None and second.page_bytes != page_bytes:
                second, why = None, "lies elsewhere than where it says"
            why_second = why if why != _NO_MAGIC else why_second
            page_bytes *= 2
    metas = [meta for meta in (first, second) if meta is not None]
    if not metas:
        raise _BadPage(f"neither meta page is good (page 0: {why_first}; page 1: {why_second})")
    return max(metas, key=lambda meta: meta.txid)


_NO_MAGIC = "no bbolt file begins like this"


def _read_meta(data: mmap.mmap, at: int) -> tuple[Meta | None, str]:
    """A meta page, or why it is none."""
    body = data[at + PAGE_HEADER.size : at + PAGE_HEADER.size + META_BODY.size + CHECKSUM.size]
    if len(body) < META_BODY.size + CHECKSUM.size:
        return None, "the file ends before it"
    magic, version, page_bytes, _, root, _, _, end, txid = META_BODY.unpack_from(body)
    (checksum,) = CHECKSUM.unpack_from(body, META_BODY.size)
    if magic != MAGIC:
        return None, _NO_MAGIC
    if version != VERSION:
        return None, f"version {version}, only {VERSION} is known"
    if checksum != fnv64a(body[: META_BODY.size]):
        return None, f"checksum {checksum:016x} is stored, but the page gives {fnv64a(body[: META_BODY.size]):016x}"
    if page_bytes & (page_bytes - 1) or not PAGE_BYTES_MIN <= page_bytes <= PAGE_BYTES_MAX:
        return None, f"pages of {page_bytes} bytes"
    return Meta(page_bytes, root, end, txid), ""
