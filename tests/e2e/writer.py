"""A writer that remembers what was acknowledged, and checks that none of it is ever lost.

Each write has a key of its own, so nothing covers up a loss. What failed may have been applied or not: it is no loss
either way. Revisions of acknowledged writes must rise: a cluster that forgot would give one out twice.
"""

import asyncio
import threading
import time
from collections.abc import Sequence

from kvorum.client import Client, ClientError, prefix_end

from tests.kit.deadline import wait_until

PREFIX = b"written/"
RETRY_S = 0.05
READ_BACK_EVERY = 50


class Writer:
    """Writes until stopped, from a thread of its own.

    endpoints: of all members there may ever be. patience_s: for an answer, before the next endpoint is asked.
    """

    def __init__(self, endpoints: Sequence[str], *, patience_s: float = 2.0) -> None:
        self._endpoints = endpoints
        self._patience_s = patience_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.acknowledged: dict[bytes, bytes] = {}
        self.failures_count = 0
        self.largest_gap_s = 0.0  # between two acknowledged writes
        self.problem = ""

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        last_revision, number, last_s = 0, 0, 0.0
        async with Client(self._endpoints, timeout_s=self._patience_s) as client:
            while not self._stop.is_set() and not self.problem:
                number += 1
                key, value = PREFIX + f"{number:07d}".encode(), f"value {number}".encode()
                try:
                    revision = (await client.put(key, value)).header.revision
                    if revision <= last_revision:
                        self.problem = f"{key!r} got revision {revision} after {last_revision}"
                    now_s = time.monotonic()
                    self.largest_gap_s = max(self.largest_gap_s, now_s - (last_s or now_s))
                    last_revision, last_s = revision, now_s
                    self.acknowledged[key] = value
                    if number % READ_BACK_EVERY == 0:
                        await self._read_back(client, key, value)
                except ClientError:
                    self.failures_count += 1
                    await asyncio.sleep(RETRY_S)

    async def _read_back(self, client: Client, key: bytes, value: bytes) -> None:
        found = await client.get(key)
        if found is None or found.value != value:
            self.problem = f"{key!r} was acknowledged and reads {found}"

    def wait_acknowledged(self, more: int, deadline_s: float = 30.0) -> None:
        """Until so many further writes were acknowledged: the cluster takes writes now."""
        wanted = len(self.acknowledged) + more
        wait_until(lambda: len(self.acknowledged) >= wanted or self.problem, deadline_s, f"{more} writes acknowledged")
        assert not self.problem, self.problem


async def read_all(endpoints: Sequence[str]) -> dict[bytes, bytes]:
    """Everything written, by a linearizable read."""
    async with Client(endpoints, timeout_s=10.0) as client:
        result = await client.range(PREFIX, prefix_end(PREFIX))
        return {one.key: one.value for one in result.kvs}


async def hashes(endpoints: Sequence[str]) -> set[tuple[int, int]]:
    """Each member's hash of all it holds at the first one's revision: (hash, revision compacted)."""
    async with Client(endpoints, timeout_s=10.0) as client:
        revision = (await client.range(PREFIX)).header.revision
    found = set()
    for endpoint in endpoints:
        async with Client([endpoint], timeout_s=10.0) as member:
            await member.range(PREFIX)  # linearizable: it has applied that revision by then
            answer = await member.hash_kv(revision, endpoint=endpoint)
            found.add((answer.hash, answer.compact_revision))
    return found


def assert_nothing_lost(writer: Writer, endpoints: Sequence[str]) -> None:
    """endpoints: of the members that run. What was acknowledged is there, and all of them hold the same."""
    assert not writer.problem, writer.problem
    acknowledged = dict(writer.acknowledged)
    found = asyncio.run(read_all(endpoints))
    lost = [key for key, value in acknowledged.items() if found.get(key) != value]
    assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged writes are lost, the first {lost[0]!r}"
    assert len(asyncio.run(hashes(endpoints))) == 1, "members differ"
