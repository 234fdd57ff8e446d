"""Three etcds or three nodes of ours, and their client, as tests/stores asks them: our own client library for both."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from kvorum.client import Client, ClientError, Put, Txn

from tests.kit.processes import Cluster, Program

T = TypeVar("T")
PATIENCE_S = 1.0


class Members:
    def __init__(self, program: Program, folder: Path) -> None:
        self._cluster = Cluster(program, folder)

    def start(self) -> None:
        self._cluster.start()

    def wait_serving(self) -> None:
        self._cluster.wait_healthy()

    def pids(self) -> list[int]:
        return [node.pid for node in self._cluster.nodes]

    def kill_leader(self) -> None:
        client = self.client()
        leader = client.leader(self._cluster.endpoints)
        client.close()
        next(node for node in self._cluster.nodes if node.endpoint == leader).kill()

    def kill(self) -> None:
        self._cluster.kill()

    def client(self) -> "MembersClient":
        return MembersClient(self._cluster.endpoints)


class MembersClient:
    """The asynchronous client in a loop of its own, so that all stores are asked in one way: a call, an answer."""

    refusals: tuple[type[Exception], ...] = (ClientError,)

    def __init__(self, endpoints: list[str]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = self._do(self._open(endpoints))
        self._watching: list[Any] = []

    async def _open(self, endpoints: list[str]) -> Client:
        return Client(endpoints, timeout_s=PATIENCE_S)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def put(self, key: str, value: bytes) -> None:
        self._do(self._client.put(key.encode(), value))

    def fill(self, count: int, value: bytes) -> None:
        async def all_of_them() -> None:
            for first in range(0, count, 100):
                puts = [Put(f"fill-{one:06}".encode(), value) for one in range(first, min(count, first + 100))]
                await self._client.txn(Txn(success=puts), timeout_s=30)

        self._do(all_of_them())

    def watch(self, key: str, seen: Callable[[bytes], None]) -> None:
        ready = threading.Event()

        async def follow() -> None:
            async with self._client.watch(key.encode()) as batches:
                ready.set()
                async for batch in batches:
                    for event in batch.events:
                        seen(event.kv.value)

        self._watching.append(asyncio.run_coroutine_threadsafe(follow(), self._loop))
        ready.wait(PATIENCE_S * 10)

    def leader(self, endpoints: list[str]) -> str:
        for endpoint in endpoints:
            status = self._do(self._client.status(endpoint))
            if status.member_id == status.leader:
                return endpoint
        raise AssertionError("no member leads")

    def close(self) -> None:
        for one in self._watching:
            one.cancel()
        self._do(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
