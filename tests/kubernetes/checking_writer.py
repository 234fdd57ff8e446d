"""A writer in the Kubernetes cluster's network that is patient as clients are, and remembers what was acknowledged.

A write is tried again, at the next member, until it is acknowledged: repeating a put of a key's only value is harmless.
What took longer than PATIENCE_S is a failed write; what was acknowledged must be there in the end.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

from kvorum.client import Client, ClientError

from tests.e2e.writer import PREFIX
from tests.kit.deadline import wait_until
from tests.kubernetes.figures import require_kept

TRY_S = 0.4  # for one answer of one member; a pod that is gone answers nothing at all
PATIENCE_S = 2.0
BETWEEN_S = 0.01  # two processors are shared with what is tested
AGAIN_S = 0.02


class CheckingWriter:
    """Writes until stopped, from a thread of its own.

    endpoints: says, again before each try, where members take calls now.
    """

    def __init__(self, endpoints: Callable[[], Sequence[str]]) -> None:
        self._endpoints = endpoints
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._clients: dict[str, Client] = {}
        self._last_s = 0.0
        self._turn = 0  # which endpoint is asked: another one after each failure
        self.acknowledged: dict[bytes, bytes] = {}
        self.retries_count = 0
        self.failed: list[str] = []  # writes that took longer than PATIENCE_S, and what they met last
        self.largest_gap_s = 0.0  # between two acknowledged writes
        self.gaps: list[tuple[float, float]] = []  # (when it ended by the monotonic clock, how long): above 0.2 s
        self.problem = ""

    def __enter__(self) -> "CheckingWriter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def forget_gaps(self) -> None:
        """From here on: what a cluster that sleeps or starts does is no interruption of writes."""
        self.largest_gap_s, self.gaps, self._last_s = 0.0, [], 0.0
        self.failed = []

    def wait_acknowledged(self, more: int, deadline_s: float = 60.0) -> None:
        """Until so many further writes were acknowledged: the cluster takes writes now."""
        wanted = len(self.acknowledged) + more
        wait_until(lambda: len(self.acknowledged) >= wanted or self.problem, deadline_s, f"{more} writes acknowledged")
        require_kept(not self.problem, self.problem)

    async def _run(self) -> None:
        last_revision, number = 0, 0
        while not self._stop.is_set() and not self.problem:
            number += 1
            key, value = PREFIX + f"{number:07d}".encode(), f"value {number}".encode()
            revision = await self._put(key, value)
            if revision is None:
                continue
            if revision <= last_revision:
                self.problem = f"{key!r} got revision {revision} after {last_revision}"
            last_revision = revision
            self.acknowledged[key] = value
            self._note_gap()
            await asyncio.sleep(BETWEEN_S)
        for client in self._clients.values():
            await client.close()

    async def _put(self, key: bytes, value: bytes) -> int | None:
        """The revision it got; None if it was not acknowledged before the writer was stopped."""
        began_s, met, noted = time.monotonic(), "no member to ask", False
        while not self._stop.is_set():
            urls = self._endpoints()
            if urls:
                try:
                    revision = (await self._client(urls[self._turn % len(urls)]).put(key, value)).header.revision
                except ClientError as error:
                    met = str(error)
                else:
                    return int(revision)
                self.retries_count += 1
            self._turn += 1
            if not noted and time.monotonic() - began_s > PATIENCE_S:
                noted = True
                self.failed.append(f"{key.decode()}: {met}")
            await asyncio.sleep(AGAIN_S)
        return None

    def _client(self, url: str) -> Client:
        if url not in self._clients:
            self._clients[url] = Client([url], timeout_s=TRY_S)
        return self._clients[url]

    def _note_gap(self) -> None:
        now_s = time.monotonic()
        gap_s = now_s - (self._last_s or now_s)
        self._last_s = now_s
        self.largest_gap_s = max(self.largest_gap_s, gap_s)
        if gap_s > 0.2:
            self.gaps.append((now_s, gap_s))
