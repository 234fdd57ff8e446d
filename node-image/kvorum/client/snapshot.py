"""A member's whole state as one file, as it leaves the member: a backup, for `etcdutl snapshot restore`.

The last 32 bytes are the SHA-256 of what came before; the file before them is made of whole pages. A file that lacks
them was cut off (etcd's documents: disaster recovery).
"""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from kvorum.client.client import Client

CHECKSUM_BYTES = hashlib.sha256().digest_size
PAGE_BYTES = 512  # a divisor of every page size


class BadSnapshot(Exception):
    """What arrived is not whole. The text says what is wrong with it."""


async def save_snapshot(
    client: Client, path: Path | str, endpoint: str | None = None, *, timeout_s: float | None = None
) -> int:
    """Writes a snapshot of a member (any, by default) to a file, whole and durable or not at all. Its bytes.

    timeout_s: of all of it; None: as long as it takes. Raises BadSnapshot, ClientError, OSError.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        size_bytes = await receive_snapshot(client.snapshot(endpoint, timeout_s=timeout_s), part)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    return size_bytes


async def receive_snapshot(blobs: AsyncIterator[bytes], path: Path) -> int:
    """Writes them to a file only its owner may read, durably. Its bytes. Raises BadSnapshot, OSError."""
    digest = hashlib.sha256()
    tail = b""  # the last bytes so far, which may be the checksum
    size_bytes = 0
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        async for blob in blobs:
            file.write(blob)
            size_bytes += len(blob)
            together = tail + blob
            digest.update(together[:-CHECKSUM_BYTES])
            tail = together[-CHECKSUM_BYTES:]
        file.flush()
        os.fsync(file.fileno())
    if size_bytes % PAGE_BYTES != CHECKSUM_BYTES:
        raise BadSnapshot(f"sha256 checksum not found [bytes: {size_bytes}]")
    if digest.digest() != tail:
        raise BadSnapshot(f"the sha256 checksum is not that of the {size_bytes - CHECKSUM_BYTES} bytes before it")
    return size_bytes
