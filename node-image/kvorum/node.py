"""One node from its settings to a running member: what lies on the disk, who it is, its ports, and the way back down.

Three beginnings: a data directory with a log is a member that restarts; an empty one either bootstraps a new cluster
together with the others it names, or joins one that exists and lists it already (MemberAdd).
"""

import asyncio
import logging
import os
import random
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from kvorum import auth_token, birth, certificates
from kvorum.api import http, metrics, routes
from kvorum.api.bystander import Trouble
from kvorum.api.debug import Debug
from kvorum.api.gateway import Gateway
from kvorum.api.v2 import V2Api
from kvorum.aside import DRAIN_S, lines_of, message_bytes_max, open_client_ports, trouble_of
from kvorum.auth_token import BadAuthToken
from kvorum.birth import Birth
from kvorum.certificates import Certificates
from kvorum.config import Config
from kvorum.flags import Url
from kvorum.net.call import MethodCounts, Routes
from kvorum.net.exchange import HttpHandler
from kvorum.net.listener import CannotListen, Listener, bind
from kvorum.net.tls import TlsUnusable
from kvorum.peer.discovery import Discovery
from kvorum.peer.handlers import Handlers
from kvorum.peer.identity import Identity
from kvorum.peer.listener import PeerListener
from kvorum.peer.transport import Transport
from kvorum.peer.wiring import Timings
from kvorum.raft.core import Config as RaftConfig
from kvorum.raft.core import RawNode
from kvorum.raft.log import MemoryStorage
from kvorum.raft.message import NONE, HardState, Message
from kvorum.server import cluster_version, corruption, failover, reconfiguration
from kvorum.server.answer import Done
from kvorum.server.asked import AskedByPeers
from kvorum.server.corruption import CompactHashes, Differs
from kvorum.server.hashing import ROWS_A_SLICE
from kvorum.server.joining import DataLost, JoinRefused
from kvorum.server.lone_cluster import lone_entries, removals
from kvorum.server.peers import LeaseLife, PeerHash
from kvorum.server.server import Server
from kvorum.server.settings import Settings
from kvorum.server.snapshots import raft_log_from
from kvorum.server.takeover import take_over
from kvorum.server.tokens import Tokens
from kvorum.state import v2_request
from kvorum.state.hash_kv import Hashing
from kvorum.state.machine import Machine
from kvorum.state.refusal import Refusal
from kvorum.storage.data_dir import DataDir
from kvorum.storage.disk import free_bytes
from kvorum.storage.entry_codec import decode_metadata, encode_metadata
from kvorum.storage.fault import CorruptStore, StorageFault
from kvorum.storage.lmdb_store import LmdbStore
from kvorum.storage.replay import Replay
from kvorum.storage.wal import Wal

log = logging.getLogger(__name__)

PUBLISH_RETRY_S = 0.5
VERSION_POLL_S = 0.02  # until the cluster's version is decided: clients of etcd ask what it can
PEER_ANSWER_S = 5.0


class StartRefused(Exception):
    """The node cannot start as it is told to. lines: what was seen, then the way out."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class InTrouble(Exception):
    """No start from this data directory would be right, this one or a later one: the node is to stand aside."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__("\n".join(trouble.lines))
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a member starts from. replay: what its log held, None where it has only now been made."""

    member_id: int
    cluster_id: int
    wal: Wal
    raft_log: MemoryStorage
    replay: Replay | None = None


class PeerSide:
    """The transport and the questions behind one name (server.peers.Peers)."""

    def __init__(self, transport: Transport, discovery: Discovery) -> None:
        self.send = transport.send
        self.add_peer = transport.add_peer
        self.remove_peer = transport.remove_peer
        self.active_since = transport.active_since
        self.is_foreign = transport.is_foreign
        self.send_snapshot = transport.send_snapshot
        self._discovery = discovery

    async def version(self, urls: Sequence[str]) -> str | None:
        return (await self._discovery.versions(urls)).server

    async def renew_lease(self, urls: Sequence[str], lease_id: int) -> int:
        return await self._discovery.renew_lease(urls, lease_id)

    async def lease_life(self, urls: Sequence[str], lease_id: int, *, keys: bool) -> LeaseLife:
        return await self._discovery.lease_life(urls, lease_id, keys=keys)

    async def promote(self, urls: Sequence[str], member_id: int) -> None:
        await self._discovery.promote(urls, member_id)

    async def hash_kv(self, urls: Sequence[str], revision: int) -> PeerHash:
        return await self._discovery.hash_kv(urls, revision)


class Node:
    """A running node. Made by start()."""

    def __init__(
        self, config: Config, shown: Certificates, data_dir: DataDir, discovery: Discovery, tokens: Tokens
    ) -> None:
        self._config = config
        self._certificates = shown
        self._tokens = tokens
        self._data_dir = data_dir
        self._discovery = discovery
        self._tasks: list[asyncio.Task[None]] = []
        self._listeners: list[Listener] = []
        self._known_members: Mapping[int, tuple[str, ...]] = {}  # of a cluster that is joined, before the log tells
        self.server: Server
        self._transport: Transport
        self._peer_listener: PeerListener

    @classmethod
    async def start(cls, config: Config, *, open_data_dir: Callable[[Path, Path], DataDir] = DataDir.open) -> "Node":
        """Raises StartRefused, InTrouble, or ConfigError for an initial cluster that cannot be.

        open_data_dir: of the data directory and the log's; for tests that must know what of them is durable.
        """
        try:
            shown = certificates.load(config)
        except TlsUnusable as error:
            raise StartRefused(*lines_of(error)) from error
        dial_timeout_s = 1.0 + config.election_timeout_ms / 1000
        discovery = Discovery(dial_timeout_s=dial_timeout_s, timeout_s=PEER_ANSWER_S, tls=shown.dialing)
        data_dir: DataDir | None = None
        try:
            for flag, urls in (
                ("--listen-peer-urls", config.listen_peer_urls),
                ("--listen-client-urls", config.listen_client_urls),
                ("--listen-client-http-urls", config.listen_client_http_urls),
                ("--listen-metrics-urls", config.listen_metrics_urls),
            ):
                for url in urls:
                    bind(str(url), flag, reuse_port=config.socket_reuse_port).close()
            tokens = auth_token.tokens(config.auth_token, config.auth_token_ttl_s, asyncio.get_running_loop().time)
            unused = DataDir.is_unused(config.data_dir, config.wal_dir)
            if unused and config.force_new_cluster:
                raise StartRefused(
                    f"--force-new-cluster makes a cluster out of a member's data, but {config.data_dir} has none",
                    "Give --data-dir the path of the member's data, or start without the flag for a new cluster.",
                )
            born = await birth.find(config, discovery) if unused else None
            data_dir = open_data_dir(config.data_dir, config.wal_dir)  # the ports and the cluster are known to be good
            node = cls(config, shown, data_dir, discovery, tokens)
            await node._run(await node._restart() if born is None else node._begin(born))
        except BadAuthToken as error:
            raise StartRefused(*error.lines) from error
        except (StorageFault, CannotListen, JoinRefused, DataLost, Differs) as error:
            trouble = trouble_of(error)
            if trouble is None:
                raise StartRefused(*lines_of(error)) from error
            discovery.close()
            if data_dir is not None:
                data_dir.close()  # who comes to mend it must find it free
            raise InTrouble(trouble) from error
        return node

    # -- who we are ----------------------------------------------------------------------------------------------

    async def _restart(self) -> Beginning:
        wal, replay = self._data_dir.open_wal()
        if replay.set_aside is not None:
            log.warning("the log's last record was torn by a crash and cut off", extra={"copy": str(replay.set_aside)})
        member_id, cluster_id = decode_metadata(replay.metadata)
        try:
            await take_over(self._data_dir, replay)
            self._data_dir.finish_snapshot(replay)
        except StorageFault:
            wal.close()
            raise
        return Beginning(member_id, cluster_id, wal, MemoryStorage(), replay)  # the log follows from the tables, too

    def _begin(self, born: Birth) -> Beginning:
        metadata = encode_metadata(born.member_id, born.cluster_id)
        wal = self._data_dir.create_wal(metadata, born.hard_state, born.entries)
        self._known_members = born.known
        raft_log = MemoryStorage(hard_state=born.hard_state, entries=born.entries)
        return Beginning(born.member_id, born.cluster_id, wal, raft_log)

    async def _compare(self, member_id: int, machine: Machine) -> None:
        """Raises Differs."""
        hashing = machine.hash_at(0)
        assert isinstance(hashing, Hashing)
        while not hashing.step(ROWS_A_SLICE):
            pass  # nobody is served yet
        members = machine.membership.members
        await corruption.check_at_start(member_id, hashing.result, members, self._discovery)

    # -- running -------------------------------------------------------------------------------------------------

    async def _run(self, beginning: Beginning) -> None:
        config, settings = self._config, _settings(self._config)
        beginning, store, machine = await self._load(beginning, settings)
        raft = _raft(config, beginning, machine)
        self._transport = self._make_transport(beginning, raft)
        self.server = server = Server(
            member_id=beginning.member_id,
            cluster_id=beginning.cluster_id,
            cluster_token=config.initial_cluster_token,
            settings=settings,
            raft=raft,
            raft_log=beginning.raft_log,
            wal=beginning.wal,
            store=store,
            machine=machine,
            files=self._data_dir.snapshot_files,
            peers=PeerSide(self._transport, self._discovery),
            loop=asyncio.get_running_loop(),
            on_fatal=_fatal,
            on_answered=self._flush_answers,
            on_retired=self._retired,
            free_bytes=lambda: min(free_bytes(config.data_dir), free_bytes(config.wal_dir)),
            tokens=self._tokens,
        )
        for member in machine.membership.members:
            self._transport.add_peer(member.id, member.peer_urls)
        for member_id, urls in self._known_members.items():
            self._transport.add_stranger(member_id, urls)
        handlers = Handlers(self._transport, AskedByPeers(server))
        self._peer_listener = PeerListener(self._transport, handlers)
        for url in config.listen_peer_urls:
            await self._listen_peers(url)
        await self._listen_clients()
        server.start()
        if server.removed:
            return
        self._spawn(cluster_version.monitor(server))
        self._spawn(self._publish())
        if config.corrupt_check_interval_ms:
            self._spawn(corruption.every(server, config.corrupt_check_interval_ms / 1000, corruption.check_now))
        if config.compact_hash_check:
            compacted = CompactHashes()
            self._spawn(corruption.every(server, config.compact_hash_check_interval_ms / 1000, compacted.check))

    async def _load(self, beginning: Beginning, settings: Settings) -> tuple[Beginning, LmdbStore, Machine]:
        """The tables as they are on the disk, and a beginning whose log goes on from there. Closes the log if it fails.

        Raises StartRefused, Differs, StorageFault.
        """
        config = self._config
        with ExitStack() as opened:
            opened.callback(beginning.wal.close)
            store = self._data_dir.open_store(max(0, config.quota_backend_bytes))
            opened.callback(store.close)
            machine = Machine(
                store,
                lease_ttl_min_s=settings.lease_ttl_min_s,
                quota_bytes=config.quota_backend_bytes,
                persists_checkpoints=config.lease_checkpoint_persist,
            )
            _load_rows(machine, self._data_dir.store_path)
            if beginning.replay is not None:
                self._data_dir.check_applied(beginning.replay, machine.applied_index)
                raft_log = raft_log_from(beginning.replay, machine, settings.snapshot_catch_up_entries)
                beginning = replace(beginning, raft_log=raft_log)
            if config.force_new_cluster:
                _make_lone(config, beginning, machine)
            if config.v2_keys_forbidden and machine.v2.has_keys:
                stage = f"--v2-deprecation={config.v2_keys_forbidden}"
                raise StartRefused(
                    f"detected disallowed custom content in v2store for stage {stage}",
                    "Start with --enable-v2 and delete the v2 keys (DELETE /v2/keys/...), or leave the flag out.",
                )
            if config.initial_corrupt_check:
                await self._compare(beginning.member_id, machine)
            opened.pop_all()  # from here on they are the server's
        return beginning, store, machine

    def _make_transport(self, beginning: Beginning, raft: RawNode) -> Transport:
        config = self._config
        identity = Identity(
            beginning.member_id, beginning.cluster_id, config.initial_advertise_peer_urls, config.claim_etcd_version
        )
        return Transport(
            identity,
            election_timeout_s=config.election_timeout_ms / 1000,
            on_messages=self._step,
            on_unreachable=raft.report_unreachable,
            on_removed=self._removed,
            on_ended=self._ended,
            on_snapshot=self._send_snapshot,
            tls=self._certificates.dialing,
            timings=Timings.of(
                read_timeout_s=config.raft_read_timeout_ms / 1000, write_timeout_s=config.raft_write_timeout_ms / 1000
            ),
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_require_no_error)
        self._tasks.append(task)

    def _removed(self) -> None:
        """Another member refuses our stream with 410: it knows of our removal, which we may have slept through."""
        self.server.retire()

    def _retired(self) -> None:
        """The members that are left must not be told by who is none."""
        self._spawn(self._peer_listener.close())

    def _ended(self, member_id: int) -> None:
        """Another member's process is gone. If it led, nobody does."""
        failover.leader_ended(self.server, member_id)

    def _flush_answers(self) -> None:
        for listener in self._listeners:
            listener.flush()

    def _send_snapshot(self, message: Message) -> None:
        self.server.snapshots.send(message)

    def _step(self, messages: list[Message]) -> None:
        self.server.step(messages)

    async def _listen_peers(self, url: Url) -> None:
        try:
            tls = self._certificates.peers if url.scheme == "https" else None
            await self._peer_listener.listen(url.host, url.port, reuse_port=self._config.socket_reuse_port, tls=tls)
        except OSError as error:
            raise CannotListen(
                f"--listen-peer-urls: cannot listen on {url}: {error.strerror or error}\n"
                "  Stop whoever has the port (ss -ltnp), or give --listen-peer-urls another."
            ) from error

    async def _listen_clients(self) -> None:
        config, server = self._config, self.server
        unary, streams, bytes_max = routes.unary(server), routes.streams(server), message_bytes_max(config)
        table = Routes(unary=unary, streams=streams, message_bytes_max=bytes_max, timed=config.metrics == "extensive")
        others: dict[str, HttpHandler] = {"/debug/": Debug(server, pprof=config.enable_pprof).handle}
        if config.enable_grpc_gateway:
            gateway = Gateway(
                unary=unary,
                streams=streams,
                message_bytes_max=bytes_max,
                counts=table.counts,
                auth_enabled=lambda: server.machine.auth.enabled,
            )
            others["/v3/"] = others["/v3beta/"] = gateway.handle
        if config.enable_v2:
            if server.machine.auth.enabled:
                log.warning("the v2 API knows no users: its keys and member list are open, though authentication is on")
            others["/v2/"] = V2Api(server, config.name, self._transport.traffic).handle
        endpoints = http.Endpoints(server, self._describe, partial(self._traffic, table.counts), others)
        self._listeners += await open_client_ports(config, self._certificates, table, endpoints.handle, endpoints.probe)

    def _traffic(self, calls: Mapping[str, MethodCounts]) -> metrics.Traffic:
        return metrics.Traffic(
            clients_sent_bytes=sum(listener.sent_bytes for listener in self._listeners),
            clients_received_bytes=sum(listener.received_bytes for listener in self._listeners),
            peers=self._transport.traffic(),
            calls=calls,
        )

    def _describe(self) -> dict[str, object]:
        return {
            "name": self._config.name,
            "memberID": f"{self.server.member_id:x}",
            "clusterID": f"{self.server.cluster_id:x}",
            "claimedVersion": self._config.claim_etcd_version,
        }

    async def _publish(self) -> None:
        """Tells the cluster our name and client URLs; once that is applied here, this member is ready for clients."""
        server, config = self.server, self._config
        published = False
        while True:
            published = published or await self._published()
            if published and server.machine.membership.cluster_version is not None:
                break
            await asyncio.sleep(VERSION_POLL_S if published else PUBLISH_RETRY_S)
        server.ready = True
        log.info(
            "ready to serve client requests",
            extra={
                "member-name": config.name,
                "member-id": f"{server.member_id:x}",
                "cluster-id": f"{server.cluster_id:x}",
            },
        )
        _notify_systemd()

    async def _published(self) -> bool:
        server, config = self.server, self._config
        applied: asyncio.Future[bool] = server.loop.create_future()
        request_id = server.ids.next()
        client_urls = list(config.advertise_client_urls)
        entry = v2_request.publish_request(server.member_id, config.name, client_urls, request_id)

        def answered(refused: Refusal | None) -> None:
            if not applied.done():  # cancelled: told to stop before its name was known to the others
                applied.set_result(refused is None)

        server.propose_entry(request_id, entry, Done(answered))
        return await applied

    # -- the way down --------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Hands leadership over, lets calls end, commits, closes."""
        self.server.stopping = True
        await self._hand_over()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.server.v2.end_all()
        await asyncio.gather(*(listener.close(grace_s=DRAIN_S) for listener in self._listeners))
        await self._transport.close()
        await self._peer_listener.close()
        self._discovery.close()
        self.server.stop()
        self._data_dir.close()

    async def _hand_over(self) -> None:
        """Writes stop for one round trip instead of for an election timeout (etcd does the same on SIGTERM)."""
        server = self.server
        to = reconfiguration.best_transferee(server) if server.is_leader else NONE
        if to == NONE:
            return
        moved = asyncio.Event()

        def role_changed() -> None:
            if server.raft.leader not in (server.member_id, NONE):
                moved.set()

        server.on_role_change.append(role_changed)
        server.transfer_leadership(to)
        try:
            await asyncio.wait_for(moved.wait(), self._config.election_timeout_ms / 1000)
        except TimeoutError:
            log.warning("leadership was not handed over in time", extra={"asked": f"{to:x}"})
            return
        log.info("leadership handed over", extra={"to": f"{server.raft.leader:x}"})


def _settings(config: Config) -> Settings:
    return Settings(
        heartbeat_ms=config.heartbeat_interval_ms,
        election_ms=config.election_timeout_ms,
        quota_bytes=config.quota_backend_bytes,
        request_bytes_max=config.max_request_bytes,
        txn_ops_max=config.max_txn_ops,
        strict_reconfig_check=config.strict_reconfig_check,
        election_tick_advance=config.initial_election_tick_advance,
        commit_interval_ms=config.backend_batch_interval_ms,
        commit_rows_max=config.backend_batch_limit,
        progress_notify_ms=config.watch_progress_notify_interval_ms,
        auto_compaction_period_ms=config.auto_compaction_period_ms,
        auto_compaction_revisions=config.auto_compaction_revisions,
        snapshot_count=config.snapshot_count,
        snapshot_catch_up_entries=config.snapshot_catch_up_entries,
        snapshots_max=config.max_snapshots,
        wals_max=config.max_wals,
        warning_apply_s=config.warning_apply_duration_s,
        lease_checkpoints=config.lease_checkpoints,
        lease_checkpoint_persist=config.lease_checkpoint_persist,
        compaction_rows_max=config.compaction_batch_limit,
        compaction_pause_ms=config.compaction_sleep_ms,
        stop_grpc_on_defrag=config.stop_grpc_service_on_defrag,
        claimed_version=config.claim_etcd_version,
        bcrypt_cost=config.bcrypt_cost,
    )


def _raft(config: Config, beginning: Beginning, machine: Machine) -> RawNode:
    storage = beginning.raft_log
    storage.conf_state = machine.conf_state
    if storage.hard_state.commit < machine.applied_index:
        # A commit index alone is written without a sync; what was applied is in the log and was committed.
        storage.set_hard_state(HardState(storage.hard_state.term, storage.hard_state.vote, machine.applied_index))
    raft_config = RaftConfig(id=beginning.member_id, election_ticks=config.election_ticks, pre_vote=config.pre_vote)
    return RawNode(raft_config, storage, applied=machine.applied_index, random=random.SystemRandom().randrange)


def _make_lone(config: Config, beginning: Beginning, machine: Machine) -> None:
    """Makes the member the only one of its cluster; durable when it returns. Raises StartRefused, WalFailed, NoSpace.

    All of its log counts as committed. (etcd drops what it does not know to be; our log knows that up to 100 ms later,
    and an entry that nobody was promised may be there as well as not.)
    """
    held, applied = beginning.raft_log, machine.applied_index
    commit = held.last_index
    term, vote = held.hard_state.term, held.hard_state.vote
    unapplied = held.entries(applied + 1, commit + 1)
    if beginning.member_id in machine.membership.removed | removals(unapplied):
        raise StartRefused(
            f"--force-new-cluster: member {beginning.member_id:x} was removed from its cluster, and never comes back",
            "Give the flag to a member that was not removed, or restore a backup.",
        )
    entries = lone_entries(
        beginning.member_id,
        config.initial_advertise_peer_urls,
        machine.conf_state,
        unapplied,
        after=commit,
        term=term,
    )
    last = commit + len(entries)
    hard_state = HardState(term, vote, last)
    beginning.wal.write(hard_state, entries)
    beginning.wal.sync()
    held.append(entries)
    held.set_hard_state(hard_state)
    log.warning(
        "a cluster of one is made out of this member's data",
        extra={"removed-members": len(entries), "commit": last},
    )


def _load_rows(machine: Machine, path: Path) -> None:
    """Raises CorruptStore for rows that are none: LMDB has no checksums, so any byte of them may have changed."""
    try:
        machine.load()
    except (DecodeError, ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError) as error:
        raise CorruptStore(path, f"a row cannot be read ({type(error).__name__}: {error})") from error


def _require_no_error(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error  # in a callback: the loop's handler ends the process


def _fatal(error: BaseException) -> None:
    """Nothing more may be promised. A disk that failed needs no traceback, a broken invariant does."""
    log.critical("%s", error, exc_info=None if isinstance(error, StorageFault) else error)
    logging.shutdown()
    os._exit(1)


def _notify_systemd() -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect("\0" + address[1:] if address.startswith("@") else address)
            notify.send(b"READY=1")
