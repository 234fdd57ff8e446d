"""Members on 127.0.0.1 for the tests of this folder: real transports and listeners, with little behind them.

No state machine and no raft: Answers stands in for the server's answers to questions, and messages are only kept.
Also the proxy that stands between two members, and can cut, stall and split what passes.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec

from kvorum.peer.handlers import Handlers
from kvorum.peer.identity import Identity
from kvorum.peer.listener import PeerListener
from kvorum.peer.transport import Transport
from kvorum.peer.wiring import TIMINGS, Timings
from kvorum.raft.message import Message
from kvorum.server.peers import LeaseLife
from kvorum.state import refusal
from kvorum.state.membership import Member
from kvorum.state.refusal import Refusal
from kvorum.wire import http1

from tests.kit.deadline import wait_until_async

CLUSTER = 0xF17F1B424CD6018D
HOST = "127.0.0.1"
DEADLINE_S = 20.0

P = ParamSpec("P")


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs a test in a loop of its own, bounded in time; no task may be left, and no error may have gone unseen."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        errors: list[dict[str, Any]] = []

        async def bounded() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: errors.append(context))
            async with asyncio.timeout(60):
                await test(*args, **kwargs)
            await asyncio.sleep(0)  # callbacks of what was closed last
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert not left, f"tasks were left: {left}"

        asyncio.run(bounded())
        assert not errors, errors

    return run


async def until(predicate: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    async def holds() -> object:
        return predicate()

    await wait_until_async(holds, deadline_s, what)


class Taken:
    """A snapshot as it comes in (snapshot_receiver.Taking). is_full, refused: as the test wishes."""

    def __init__(self, message: Message, *, is_full: bool, refused: str | None) -> None:
        self.message = message
        self.is_full = is_full
        self.refused = refused
        self.database = bytearray()
        self.finished = self.abandoned = False
        self.on_drained: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        self.database += data

    async def finish(self) -> str | None:
        self.finished = True
        return self.refused

    def abandon(self) -> None:
        self.abandoned = True


@dataclass
class Answers:
    """What a member answers to questions (handlers.MemberAsked), from plain values."""

    version: str | None = None
    listed: list[Member] = field(default_factory=list)
    removed: set[int] = field(default_factory=set)
    ready: set[int] = field(default_factory=set)  # learners that have caught up
    leases: dict[int, LeaseLife] = field(default_factory=dict)
    leads: bool = True
    applied: bool = True  # False: what is committed is never applied in time
    hashes: dict[int, int] = field(default_factory=dict)  # by revision
    compacted: int = -1
    asked: int = 0
    snapshots: list[Taken] = field(default_factory=list)
    wants_no_snapshot: str | None = None
    begins_full: bool = False
    refuses_snapshot: str | None = None

    def cluster_version(self) -> str | None:
        return self.version

    def members(self) -> list[Member]:
        return self.listed

    def is_removed(self, member_id: int) -> bool:
        return member_id in self.removed

    def receive_snapshot(self, message: Message) -> Taken | str:
        if self.wants_no_snapshot is not None:
            return self.wants_no_snapshot
        taken = Taken(message, is_full=self.begins_full, refused=self.refuses_snapshot)
        self.snapshots.append(taken)
        return taken

    async def promote_member(self, member_id: int) -> Refusal | None:
        self.asked += 1
        found = next((member for member in self.listed if member.id == member_id), None)
        if not self.leads:
            return refusal.NOT_LEADER
        if not self.applied:
            raise TimeoutError
        if found is None:
            return refusal.MEMBER_NOT_FOUND
        if not found.is_learner:
            return refusal.MEMBER_NOT_LEARNER
        if member_id not in self.ready:
            return refusal.LEARNER_NOT_READY
        voter = Member(found.id, found.peer_urls, False, found.name, found.client_urls)
        self.listed[self.listed.index(found)] = voter
        return None

    async def renew_lease(self, lease_id: int) -> int | Refusal:
        life = await self.lease_life(lease_id, keys=False)
        return life if isinstance(life, Refusal) else life.granted_s

    async def lease_life(self, lease_id: int, *, keys: bool) -> LeaseLife | Refusal:
        self.asked += 1
        await asyncio.sleep(0)
        if not self.applied:
            raise TimeoutError
        if not self.leads:
            return refusal.NOT_PRIMARY_LESSOR
        found = self.leases.get(lease_id)
        if found is None:
            return refusal.LEASE_NOT_FOUND
        return found if keys else LeaseLife(found.ttl_s, found.granted_s, ())

    async def hash_kv(self, revision: int) -> tuple[int, int, int] | Refusal:
        newest = max(self.hashes)
        if revision > newest:
            return refusal.FUTURE_REVISION
        if 0 < revision < self.compacted:
            return refusal.COMPACTED
        return self.hashes[revision or newest], newest, self.compacted

    async def downgrade_enabled(self) -> bool:
        if not self.applied:
            raise TimeoutError
        return False


class Here:
    """One member on loopback, and what its raft would have seen. Made within the loop by start()."""

    def __init__(
        self,
        member_id: int,
        *,
        cluster_id: int = CLUSTER,
        url: str = f"http://{HOST}:1",
        version: str = "3.5.30",
        timings: Timings = TIMINGS,
    ) -> None:
        self.id = member_id
        self.answers = Answers()
        self.received: list[Message] = []
        self.reads: list[int] = []  # messages in each call of on_messages
        self.unreachable: list[int] = []
        self.removals = 0
        self.ended: list[int] = []
        self.wanted: list[Message] = []  # snapshots that raft wants sent
        self.port = 0
        self.take: Callable[[list[Message]], None] | None = None  # what a raft would do with them
        identity = Identity(member_id, cluster_id, (url,), version)
        self.transport = Transport(
            identity,
            election_timeout_s=1.0,
            on_messages=self._receive,
            on_unreachable=self.unreachable.append,
            on_removed=self._was_removed,
            on_ended=self.ended.append,
            on_snapshot=self.wanted.append,
            timings=timings,
        )
        self._read_timeout_s = timings.read_timeout_s
        self.listener = self._new_listener()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def start(self, port: int = 0) -> "Here":
        self.port = await self.listener.listen(HOST, port)
        return self

    async def restart_listener(self, port: int) -> None:
        self.listener = self._new_listener()
        await self.listener.listen(HOST, port)

    def _new_listener(self) -> PeerListener:
        handlers = Handlers(self.transport, self.answers)
        return PeerListener(self.transport, handlers, read_timeout_s=self._read_timeout_s)

    async def close(self) -> None:
        await self.transport.close()
        await self.listener.close()

    def _receive(self, messages: list[Message]) -> None:
        self.received += messages
        self.reads.append(len(messages))
        if self.take is not None:
            self.take(messages)

    def _was_removed(self) -> None:
        self.removals += 1


async def connected(*members: Here) -> None:
    """Until all streams between them stand, both ways: nothing goes by POST any more."""
    for one in members:
        for other in members:
            if one is not other:
                await until(partial(streams_stand, one, other), f"streams {one.id:x}-{other.id:x}")


def streams_stand(one: Here, other: Here) -> bool:
    peer = one.transport._peers.get(other.id)
    return peer is not None and peer._append_stream is not None and peer._message_stream is not None


async def ask(port: int, data: bytes, method: str = "GET") -> http1.Response:
    """Raw bytes to a port, and the one response to them."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(data)
        response = http1.WholeResponse(method, body_bytes_max=1 << 20)
        while True:
            received = await asyncio.wait_for(reader.read(65536), 10)
            answer = response.feed(received) if received else response.end_of_input()
            if answer is not None:
                return answer
    finally:
        writer.close()


async def still_open(reader: asyncio.StreamReader) -> bool:
    """Whether a connection from which all is read is left open, as far as the next 50 ms show."""
    try:
        return await asyncio.wait_for(reader.read(1), 0.05) != b""
    except TimeoutError:
        return True


class Proxy:
    """Stands in front of a port, target_port, which is set before the first connection comes."""

    def __init__(self) -> None:
        self.target_port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.piece_bytes: int | None = None  # pieces are cut to this size, each a write of its own
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.refusing = False
        self.accepted = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def start(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def cut(self) -> None:
        """Every connection, at once and without a word."""
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.flowing.set()
        self.cut()  # which ends all passing on
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            if self.refusing:
                return
            back, onward = await asyncio.open_connection(HOST, self.target_port)
            self._writers.add(onward)
            await self._first_of(self._pass(reader, onward), self._pass(back, writer))
        except OSError:
            pass  # the target is away, as far as the dialer can tell
        finally:
            for each in (writer, onward):
                if each is not None:
                    each.transport.abort()
                    self._writers.discard(each)
            self._tasks.discard(task)

    async def _first_of(self, *passing: Awaitable[None]) -> None:
        tasks = [asyncio.ensure_future(each) for each in passing]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self.flowing.wait()
            for piece in self._pieces(data):
                writer.write(piece)
                await writer.drain()
                if self.piece_bytes:
                    await asyncio.sleep(0)
        await writer.drain()

    def _pieces(self, data: bytes) -> Iterable[bytes]:
        size = self.piece_bytes or len(data)
        return (data[at : at + size] for at in range(0, len(data), size))
