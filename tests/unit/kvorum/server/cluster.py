"""Members that are real in everything but the network: raft, WAL, LMDB and server, joined by queues that can be cut.

The event loop, its clock and the disks are real too; ticks are short, so that an election takes 50 ms.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from google.protobuf.message import Message as Request
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.raft.core import Config, RawNode
from kvorum.raft.log import MemoryStorage
from kvorum.raft.message import HardState, Message, MessageType
from kvorum.server.asked import AskedByPeers
from kvorum.server.peers import LeaseLife, PeerHash, PeerRefused
from kvorum.server.server import Server
from kvorum.server.settings import Settings
from kvorum.server.snapshots import Incoming, raft_log_from
from kvorum.state import membership
from kvorum.state.machine import Machine
from kvorum.state.refusal import Refusal
from kvorum.state.row import varint
from kvorum.storage.entry_codec import encode_metadata
from kvorum.storage.replay import Replay
from kvorum.storage.snapshot_files import SnapshotFiles
from kvorum.storage.wal import Wal

from tests.kit.deadline import wait_until_async
from tests.unit.kvorum.server.full import FillableDisk, FillableStore, Space

SETTINGS = Settings(heartbeat_ms=10, election_ms=100, commit_interval_ms=20)
DEADLINE_S = 120.0  # a busy machine


class Reply:
    """An answer that a test waits for."""

    def __init__(self) -> None:
        self._answered: asyncio.Future[bytes | Refusal] = asyncio.get_running_loop().create_future()

    def reply(self, body: bytes) -> None:
        assert not self._answered.done(), "answered twice"
        self._answered.set_result(body)

    def fail(self, code: int, message: str) -> None:
        assert not self._answered.done(), "answered twice"
        self._answered.set_result(Refusal(code, message))

    @property
    def done(self) -> bool:
        return self._answered.done()

    async def outcome(self) -> bytes | Refusal:
        return await asyncio.wait_for(asyncio.shield(self._answered), DEADLINE_S)

    async def body(self) -> bytes:
        outcome = await self.outcome()
        assert isinstance(outcome, bytes), outcome
        return outcome


class Wire:
    """One member's side of the network. `cut`: ids it can neither reach nor hear. `lost`: what it sends in vain."""

    def __init__(self, network: "Cluster", member_id: int) -> None:
        self._network = network
        self._id = member_id
        self.cut: set[int] = set()
        self.foreign: set[int] = set()
        self.lost: Callable[[Message], bool] = lambda message: False
        self.dialed: dict[int, tuple[str, ...]] = {}
        self.changed: Callable[[Message], Message] = lambda message: message  # of a snapshot, on its way
        self._since = asyncio.get_running_loop().time() - 60.0

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.type is MessageType.SNAPSHOT:
                self._network.servers[self._id].snapshots.send(message)
                continue
            target = None if self.lost(message) else self._network.servers.get(message.to)
            if (
                target is not None
                and message.to not in self.cut
                and self._id not in self._network.wires[message.to].cut
            ):
                asyncio.get_running_loop().call_soon(target.step, [message])

    async def send_snapshot(self, message: Message, database: Path) -> None:
        """In pieces, as a socket would bring it; a member that is cut off meanwhile loses the rest."""
        taking: Incoming | str | None = None
        for piece in pieces(database):
            target = self._network.servers.get(message.to)
            if target is None or message.to in self.cut or self._id in self._network.wires[message.to].cut:
                if isinstance(taking, Incoming):
                    taking.abandon()
                raise ConnectionError("cut off")
            if taking is None:
                taking = AskedByPeers(target).receive_snapshot(self.changed(message))
            if isinstance(taking, str):
                raise PeerRefused(taking)
            taking.write(piece)
            await asyncio.sleep(0)
        assert isinstance(taking, Incoming)
        refused = await taking.finish()
        if refused is not None:
            raise PeerRefused(refused)

    def add_peer(self, member_id: int, urls: Sequence[str]) -> None:
        self.dialed[member_id] = tuple(urls)  # every server of the network is in reach anyhow

    def remove_peer(self, member_id: int) -> None:
        return None

    def active_since(self, member_id: int) -> float | None:
        gone = member_id not in self._network.servers or member_id in self.cut
        return None if gone else self._since

    def is_foreign(self, member_id: int) -> bool:
        return member_id in self.foreign

    async def version(self, urls: Sequence[str]) -> str | None:
        return "3.5.30"

    async def renew_lease(self, urls: Sequence[str], lease_id: int) -> int:
        return self._leader().lessor.renew(lease_id)

    async def lease_life(self, urls: Sequence[str], lease_id: int, *, keys: bool) -> LeaseLife:
        return LeaseLife(self._leader().lessor.remaining_s(lease_id), 0, ())

    async def promote(self, urls: Sequence[str], member_id: int) -> None:
        raise OSError("not part of this network")

    async def hash_kv(self, urls: Sequence[str], revision: int) -> PeerHash:
        asked = next(
            server
            for server in self._network.servers.values()
            if (found := server.machine.membership.find(server.member_id)) is not None and found.peer_urls == urls
        )
        if asked.member_id in self.cut or self._id in self._network.wires[asked.member_id].cut:
            raise ConnectionRefusedError
        answer = await AskedByPeers(asked).hash_kv(revision)
        if isinstance(answer, Refusal):
            raise PeerRefused(answer.text)
        return PeerHash(*answer)

    def _leader(self) -> Server:
        return self._network.leader()


class Cluster:
    """Members 1..n by the ids that etcd's rule gives them."""

    def __init__(self, folder: Path, settings: Settings = SETTINGS) -> None:
        self._folder = folder
        self.settings = settings
        self.servers: dict[int, Server] = {}
        self.wires: dict[int, Wire] = {}
        self.space: defaultdict[int, Space] = defaultdict(Space)
        self.broken: list[BaseException] = []
        self._folders: dict[int, Path] = {}

    async def start(self, count: int) -> "Cluster":
        names = [(f"n{n}", (f"http://127.0.0.1:{n}",)) for n in range(1, count + 1)]
        members = membership.bootstrap_members(names, "t")
        entries = membership.bootstrap_entries(members)
        hard_state = HardState(term=1, commit=len(entries))
        for member in members:
            folder = self._folder / member.name
            folder.mkdir()
            (folder / "snap").mkdir()
            metadata = encode_metadata(member.id, 1)
            disk = FillableDisk(self.space[member.id])
            wal = Wal.create(folder / "wal", metadata, hard_state, entries, disk=disk, segment_bytes=1 << 20)
            self._run(member.id, folder, wal, MemoryStorage(hard_state=hard_state, entries=entries))
            self._folders[member.id] = folder
        await self.elected()
        return self

    def adopt(self, *numbers: int) -> None:
        """Starts members that an earlier cluster left in the folder."""
        for number in numbers:
            (member,) = membership.bootstrap_members([(f"n{number}", (f"http://127.0.0.1:{number}",))], "t")
            self._folders[member.id] = self._folder / member.name
            self.restart(member.id)

    def restart(self, member_id: int) -> Server:
        """Of one that was stopped (see stop_one), or killed: from what is on its disk."""
        folder = self._folders[member_id]
        disk = FillableDisk(self.space[member_id])
        wal, replay = Wal.open(folder / "wal", disk=disk, segment_bytes=1 << 20)
        files = SnapshotFiles(folder / "store")
        files.finish(replay.snapshot.index)
        self._run(member_id, folder, wal, replay, files)
        return self.servers[member_id]

    def stop_one(self, member_id: int) -> None:
        self.servers.pop(member_id).stop()

    def files(self, member_id: int) -> SnapshotFiles:
        return SnapshotFiles(self._folders[member_id] / "store")

    def _run(
        self,
        member_id: int,
        folder: Path,
        wal: Wal,
        begins: MemoryStorage | Replay,
        files: SnapshotFiles | None = None,
    ) -> None:
        settings = self.settings
        files = files or SnapshotFiles(folder / "store")
        space = self.space[member_id]
        store = FillableStore.open(files.store_path)
        store.space = space
        machine = Machine(store, lease_ttl_min_s=settings.lease_ttl_min_s, quota_bytes=settings.quota_bytes)
        machine.load()
        if isinstance(begins, Replay):
            raft_log = raft_log_from(begins, machine, settings.snapshot_catch_up_entries)
            raft_log.conf_state = machine.conf_state
            term, vote, commit = raft_log.hard_state.term, raft_log.hard_state.vote, raft_log.hard_state.commit
            raft_log.set_hard_state(HardState(term, vote, max(commit, machine.applied_index)))
        else:
            raft_log = begins
        config = Config(id=member_id, election_ticks=settings.election_ticks)
        raft = RawNode(config, raft_log, applied=machine.applied_index, random=random.Random(member_id).randrange)
        self.wires[member_id] = Wire(self, member_id)
        self.servers[member_id] = Server(
            member_id=member_id,
            cluster_id=1,
            cluster_token="t",
            settings=settings,
            raft=raft,
            raft_log=raft_log,
            wal=wal,
            store=store,
            machine=machine,
            files=files,
            peers=self.wires[member_id],
            loop=asyncio.get_running_loop(),
            on_fatal=self.broken.append,
            free_bytes=lambda: space.free_bytes,
        )
        self.servers[member_id].start()

    async def elected(self) -> Server:
        """The leader, once it leads and has applied an entry of its term."""

        async def find() -> Server | None:
            return next((server for server in self.servers.values() if server.lessor.is_primary), None)

        found = await wait_until_async(find, DEADLINE_S, "a leader")
        assert found is not None
        return found

    def leader(self) -> Server:
        return next(server for server in self.servers.values() if server.is_leader)

    def follower(self) -> Server:
        return next(server for server in self.servers.values() if not server.is_leader)

    def cut_off(self, member_id: int) -> None:
        self.wires[member_id].cut = set(self.servers) - {member_id}

    def heal(self) -> None:
        for wire in self.wires.values():
            wire.cut = set()

    async def until(self, predicate: Callable[[], bool], what: str) -> None:
        async def ask() -> bool:
            return predicate()

        await wait_until_async(ask, DEADLINE_S, what)

    def stop(self) -> None:
        for server in self.servers.values():
            server.stop()
        assert not self.broken, self.broken


def pieces(database: Path, piece_bytes: int = 64 << 10) -> Iterator[bytes]:
    with open(database, "rb") as file:
        while piece := file.read(piece_bytes):
            yield piece


def put_payload(key: bytes, value: bytes, lease: int = 0) -> bytes:
    body = rpc.PutRequest(key=key, value=value, lease=lease).SerializeToString()
    return b"\x22" + varint(len(body)) + body


def put(server: Server, key: bytes, value: bytes, lease: int = 0) -> Reply:
    reply = Reply()
    server.propose(put_payload(key, value, lease), reply)
    return reply


def propose(server: Server, tag: bytes, request: Request) -> Reply:
    reply = Reply()
    body = request.SerializeToString()
    server.propose(tag + varint(len(body)) + body, reply)
    return reply


def read(server: Server, key: bytes) -> Reply:
    """A linearizable read of one key; the body is a RangeResponse."""
    reply = Reply()

    def run(server: Server, answer: object) -> None:
        body = server.machine.range(rpc.RangeRequest(key=key))
        assert isinstance(body, bytes)
        reply.reply(server.header.encode(server.machine.revision) + body)

    server.read(run, reply)
    return reply
