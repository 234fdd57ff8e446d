"""/metrics in Prometheus' text format, under etcd's names and with its types, whatever those names end in.

Figures are read when asked for: what happens is counted where it happens, in plain ints, and no request pays for more.
"""

import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from kvorum import __version__
from kvorum.net.call import MethodCounts
from kvorum.raft.message import NONE
from kvorum.server.histogram import Histogram
from kvorum.server.peers import PeerTraffic
from kvorum.server.server import Server
from kvorum.state.membership import NOT_DECIDED, hex_id
from kvorum.state.revisions import FROM_KEY
from kvorum.wire.grpc import Code

if TYPE_CHECKING:
    from kvorum.api.http import Endpoints

STARTED: Final = time.time()
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
LEASE_TTL_BUCKETS: Final = 24  # 1 s to 2**23 s
SERVER_STREAMS: Final = frozenset({"Snapshot", "Observe"})  # of our streams those with one message from the client
CODES: Final = {code: "".join(word.capitalize() for word in code.name.split("_")) for code in Code} | {
    Code.OK: "OK",
    Code.CANCELLED: "Canceled",
}


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the ports have seen. clients: bytes of gRPC connections, and calls by method, since the start; peers: by
    member, since it was added."""

    clients_sent_bytes: int
    clients_received_bytes: int
    peers: Mapping[int, PeerTraffic]
    calls: Mapping[str, MethodCounts]


Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """suffix: behind the family's name, for the parts of a histogram."""

    labels: Labels
    value: float
    suffix: str = ""


class Family(NamedTuple):
    name: str
    kind: str
    help: str
    samples: Iterable[Sample]


class Figure(NamedTuple):
    """A family with one sample."""

    name: str
    kind: str
    help: str
    read: Callable[[Server], float]


FIGURES: Final = (
    Figure("etcd_server_has_leader", GAUGE, "1 while a leader is known", lambda s: s.raft.leader != NONE),
    Figure("etcd_server_is_leader", GAUGE, "1 while this member leads", lambda s: s.is_leader),
    Figure("etcd_server_is_learner", GAUGE, "1 while this member has no vote", lambda s: s.is_learner),
    Figure("etcd_server_leader_changes_seen_total", COUNTER, "leaders seen", lambda s: s.leader_changes),
    Figure("etcd_server_proposals_committed_total", GAUGE, "the committed index", lambda s: s.raft.log.committed),
    Figure("etcd_server_proposals_applied_total", GAUGE, "the applied index", lambda s: s.machine.applied_index),
    Figure("etcd_server_proposals_pending", GAUGE, "proposals without an answer", lambda s: s.waiting_count),
    Figure("etcd_server_proposals_failed_total", COUNTER, "proposals that timed out", lambda s: s.proposals_failed),
    Figure("etcd_server_quota_backend_bytes", GAUGE, "the data's quota", lambda s: s.settings.quota_bytes),
    Figure(
        "etcd_server_heartbeat_send_failures_total",
        COUNTER,
        "heartbeats of a leader that came late: it was starved or stopped",
        lambda s: s.late_heartbeats,
    ),
    Figure("etcd_server_slow_apply_total", COUNTER, "batches that were slow to apply", lambda s: s.slow_applies),
    Figure(
        "etcd_server_slow_read_indexes_total",
        COUNTER,
        "rounds of linearizable reads that were asked again",
        lambda s: s.reads.slow_count,
    ),
    Figure(
        "etcd_server_read_indexes_failed_total",
        COUNTER,
        "rounds of linearizable reads that timed out",
        lambda s: s.reads.failed_count,
    ),
    Figure("etcd_mvcc_range_total", COUNTER, "ranges read", lambda s: s.machine.revisions.ranges_count),
    Figure("etcd_mvcc_put_total", COUNTER, "puts applied", lambda s: s.machine.revisions.puts_count),
    Figure("etcd_mvcc_delete_total", COUNTER, "deletes applied", lambda s: s.machine.revisions.deletes_count),
    Figure(
        "etcd_mvcc_txn_total", COUNTER, "requests of more than one operation", lambda s: s.machine.revisions.txns_count
    ),
    Figure("etcd_mvcc_db_total_size_in_bytes", GAUGE, "the data on disk", lambda s: s.store.size_bytes),
    Figure("etcd_mvcc_db_total_size_in_use_in_bytes", GAUGE, "of it, in use", lambda s: s.store.size_in_use_bytes),
    Figure("etcd_debugging_mvcc_current_revision", GAUGE, "the revision", lambda s: s.machine.revision),
    Figure("etcd_debugging_mvcc_compact_revision", GAUGE, "the compacted one", lambda s: s.machine.compact_revision),
    Figure(
        "etcd_debugging_mvcc_keys_total",
        GAUGE,
        "keys that exist",
        lambda s: s.machine.revisions.count_in(b"\x00", FROM_KEY, s.machine.revision),
    ),
    Figure("etcd_debugging_mvcc_watcher_total", GAUGE, "watches", lambda s: s.watches.watchers_count),
    Figure("etcd_debugging_mvcc_watch_stream_total", GAUGE, "watch streams", lambda s: len(s.callers.streams)),
    Figure("etcd_debugging_mvcc_slow_watcher_total", GAUGE, "watches that are behind", lambda s: s.watches.slow_count),
    Figure(
        "etcd_debugging_mvcc_pending_events_total",
        GAUGE,
        "revisions that watches are behind, summed over them",
        lambda s: s.watches.pending_count,
    ),
    Figure("etcd_debugging_mvcc_events_total", COUNTER, "events told", lambda s: s.watches.events_count),
    Figure(
        "etcd_debugging_mvcc_db_compaction_keys_total",
        COUNTER,
        "rows that compaction removed",
        lambda s: s.machine.compaction.removed_count,
    ),
    Figure(
        "etcd_debugging_store_expires_total",
        COUNTER,
        "keys of the v2 API that expired",
        lambda s: s.machine.v2.counts["expireCount"],
    ),
    Figure("etcd_debugging_store_watchers", GAUGE, "watches of the v2 API", lambda s: s.v2.watchers_count),
    Figure(
        "etcd_debugging_store_watch_requests_total",
        COUNTER,
        "watches of the v2 API that were asked for",
        lambda s: s.v2.watch_requests_count,
    ),
    Figure("etcd_debugging_lease_granted_total", COUNTER, "leases", lambda s: sum(s.machine.leases.ttls_count)),
    Figure("etcd_debugging_lease_revoked_total", COUNTER, "revoked ones", lambda s: s.machine.leases.revoked_count),
    Figure("etcd_debugging_lease_renewed_total", COUNTER, "renewals by this leader", lambda s: s.lessor.renewed_count),
    Figure(
        "etcd_debugging_server_lease_expired_total",
        COUNTER,
        "leases whose end this leader asked for",
        lambda s: s.lessor.expired_count,
    ),
)


def render(server: Server, endpoints: "Endpoints") -> tuple[str, bytes]:
    """Content type and body."""
    return _page((*_of_server(server, endpoints), *_of_calls(endpoints.traffic().calls), *_of_process()))


def render_bystander(state: str, claimed_version: str, health_failures: int) -> tuple[str, bytes]:
    """Of a node that takes no part (api.bystander). Content type and body."""
    return _page(
        (
            _one("etcd_server_has_leader", GAUGE, "0: this node takes no part", 0),
            _one("etcd_server_is_leader", GAUGE, "0: this node takes no part", 0),
            _one("etcd_server_health_success", COUNTER, "health checks passed", 0),
            _one("etcd_server_health_failures", COUNTER, "health checks failed", health_failures),
            _named("etcd_server_version", "the etcd version that is claimed", "server_version", claimed_version),
            _named("kvorum_version", "the version", "version", __version__),
            _named("kvorum_member_state", "why this node takes no part", "state", state),
            *_of_process(),
        )
    )


_V2_WRITES = {  # by etcd's name of the action
    "set": "sets",
    "delete": "delete",
    "create": "create",
    "update": "update",
    "compareAndSwap": "compareAndSwap",
    "compareAndDelete": "compareAndDelete",
}
V2_COUNTS: Final = (
    ("reads", "reads of the v2 store", {"get": "getsSuccess"}),
    ("reads_failed", "reads of the v2 store that failed", {"get": "getsFail"}),
    ("writes", "writes of the v2 store", {name: f"{count}Success" for name, count in _V2_WRITES.items()}),
    (
        "writes_failed",
        "writes of the v2 store that failed",
        {name: f"{count}Fail" for name, count in _V2_WRITES.items()},
    ),
)


def _of_server(server: Server, endpoints: "Endpoints") -> Iterator[Family]:
    for figure in FIGURES:
        yield _one(figure.name, figure.kind, figure.help, figure.read(server))
    yield _one("etcd_server_health_success", COUNTER, "health checks passed", endpoints.health_successes)
    yield _one("etcd_server_health_failures", COUNTER, "health checks failed", endpoints.health_failures)
    member = hex_id(server.member_id)
    version = server.machine.membership.cluster_version
    yield _named("etcd_server_id", "this member's id", "server_id", member)
    claimed = server.settings.claimed_version
    yield _named("etcd_server_version", "the etcd version that is claimed", "server_version", claimed)
    yield _named(
        "etcd_cluster_version",
        "the etcd version that all members understand",
        "cluster_version",
        NOT_DECIDED if version is None else version.rpartition(".")[0],
    )
    yield _named("kvorum_version", "the version", "version", __version__)
    yield _histogram("etcd_disk_wal_fsync_duration_seconds", "syncs of the log", [((), server.log_writer.sync_seconds)])
    yield _histogram(
        "etcd_disk_backend_commit_duration_seconds", "commits of the data", [((), server.commits.commit_seconds)]
    )
    yield _lease_ttls(server)
    yield from _of_v2_store(server)
    yield from _of_network(endpoints.traffic())


def _of_v2_store(server: Server) -> Iterator[Family]:
    """The counts of /v2/stats/store, which a member has from its snapshot on, as etcd names them here."""
    counts = server.machine.v2.counts
    for name, meaning, actions in V2_COUNTS:
        samples = [Sample((("action", action),), counts[counted]) for action, counted in actions.items()]
        yield Family(f"etcd_debugging_store_{name}_total", COUNTER, meaning, samples)


def _lease_ttls(server: Server) -> Family:
    leases, total, samples = server.machine.leases, 0, []
    for exponent, count in enumerate(leases.ttls_count[:LEASE_TTL_BUCKETS]):
        total += count
        samples.append(Sample((("le", str(1 << exponent)),), total, "_bucket"))
    total = sum(leases.ttls_count)
    samples.append(Sample((("le", "+Inf"),), total, "_bucket"))
    samples += (Sample((), leases.granted_ttl_s, "_sum"), Sample((), total, "_count"))
    return Family("etcd_debugging_lease_ttl_total", HISTOGRAM, "seconds that leases were granted for", samples)


def _of_network(traffic: Traffic) -> Iterator[Family]:
    sent, received = traffic.clients_sent_bytes, traffic.clients_received_bytes
    yield _one("etcd_network_client_grpc_sent_bytes_total", COUNTER, "bytes to gRPC clients", sent)
    yield _one("etcd_network_client_grpc_received_bytes_total", COUNTER, "bytes from gRPC clients", received)
    peers: tuple[tuple[str, str, str, Callable[[PeerTraffic], float]], ...] = (
        ("sent_bytes", "To", "bytes to the member", lambda peer: peer.sent_bytes),
        ("received_bytes", "From", "bytes from the member", lambda peer: peer.received_bytes),
        ("sent_failures", "To", "times that messages to it were lost", lambda peer: peer.sent_failures),
        ("received_failures", "From", "times that a stream from it broke", lambda peer: peer.received_failures),
    )
    for name, label, meaning, read in peers:
        samples = [Sample(((label, hex_id(member)),), read(peer)) for member, peer in traffic.peers.items()]
        yield Family(f"etcd_network_peer_{name}_total", COUNTER, meaning, samples)
    yield _histogram(
        "etcd_network_peer_round_trip_time_seconds",
        "answers to probes",
        [((("To", hex_id(member)),), peer.round_trips) for member, peer in traffic.peers.items()],
    )


def _of_calls(calls: Mapping[str, MethodCounts]) -> Iterator[Family]:
    labels = {path: _method_labels(path, counts) for path, counts in calls.items()}
    read: tuple[tuple[str, str, Callable[[MethodCounts], float]], ...] = (
        ("grpc_server_started_total", "calls begun", lambda counts: counts.started),
        (
            "grpc_server_msg_received_total",
            "messages from clients",
            lambda counts: counts.received if counts.is_stream else counts.started,
        ),
        (
            "grpc_server_msg_sent_total",
            "messages to clients",
            lambda counts: counts.sent if counts.is_stream else counts.succeeded,
        ),
    )
    for name, meaning, of in read:
        yield Family(name, COUNTER, meaning, [Sample(labels[path], of(counts)) for path, counts in calls.items()])
    yield Family(
        "grpc_server_handled_total",
        COUNTER,
        "calls ended, by what with",
        [
            Sample((("grpc_code", name), *labels[path]), counts.failed.get(code, 0) if code else counts.succeeded)
            for path, counts in calls.items()
            for code, name in CODES.items()
        ],
    )
    timed = [(labels[path], counts.took) for path, counts in calls.items() if counts.took is not None]
    if timed:
        yield _histogram("grpc_server_handling_seconds", "how long calls took, from their headers on", timed)


def _method_labels(path: str, counts: MethodCounts) -> Labels:
    service, _, method = path[1:].partition("/")
    kind = "unary"
    if counts.is_stream:
        is_watch_of_health = service == "grpc.health.v1.Health"
        kind = "server_stream" if method in SERVER_STREAMS or is_watch_of_health else "bidi_stream"
    return ("grpc_method", method), ("grpc_service", service), ("grpc_type", kind)


def _of_process() -> Iterator[Family]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm") as statm:
        virtual_pages, resident_pages = map(int, statm.read().split()[:2])
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_files, page_bytes = len(os.listdir("/proc/self/fd")), resource.getpagesize()
    cpu_s = usage.ru_utime + usage.ru_stime
    yield _one("process_resident_memory_bytes", GAUGE, "memory in use", resident_pages * page_bytes)
    yield _one("process_virtual_memory_bytes", GAUGE, "addresses in use", virtual_pages * page_bytes)
    yield _one("process_cpu_seconds_total", COUNTER, "CPU time, user and system", cpu_s)
    yield _one("process_start_time_seconds", GAUGE, "when the process began, Unix time", STARTED)
    for name in ("process_open_fds", "os_fd_used"):
        yield _one(name, GAUGE, "open files and sockets", open_files)
    for name in ("process_max_fds", "os_fd_limit"):
        yield _one(name, GAUGE, "most that may be open", soft)


# ---- the format ------------------------------------------------------------------------------------------------------


def _one(name: str, kind: str, meaning: str, value: float) -> Family:
    return Family(name, kind, meaning, (Sample((), value),))


def _named(name: str, meaning: str, label: str, value: str) -> Family:
    return Family(name, GAUGE, meaning, (Sample(((label, value),), 1),))


def _histogram(name: str, meaning: str, of: Sequence[tuple[Labels, Histogram]]) -> Family:
    samples = []
    for labels, durations in of:
        total = 0
        for bound, count in zip((*map(_number, durations.bounds_s), "+Inf"), durations.counts, strict=True):
            total += count
            samples.append(Sample((*labels, ("le", bound)), total, "_bucket"))
        samples.append(Sample(labels, durations.sum_s, "_sum"))
        samples.append(Sample(labels, total, "_count"))
    return Family(name, HISTOGRAM, meaning, samples)


def _page(families: Iterable[Family]) -> tuple[str, bytes]:
    lines = []
    for family in families:
        lines.append(f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n")
        for labels, value, suffix in family.samples:
            told = ",".join(f'{label}="{text}"' for label, text in labels)
            name = f"{family.name}{suffix}{{{told}}}" if told else family.name + suffix
            lines.append(f"{name} {_number(value)}\n")
    return CONTENT_TYPE, "".join(lines).encode()


def _number(value: float) -> str:
    """Whole ones as such."""
    return str(int(value)) if value == int(value) else repr(value)
