"""/metrics in Prometheus' text format, under etcd's names. Figures are read when asked for, so that no request pays."""

import os
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from kvorum import __version__
from kvorum.raft.message import NONE
from kvorum.server.histogram import BOUNDS_S, Histogram
from kvorum.server.server import Server
from kvorum.state.membership import NOT_DECIDED
from kvorum.state.revisions import FROM_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvorum.api.http import Endpoints

STARTED = time.time()


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes on the wire. clients: of gRPC connections since the start; peers: by member, since it was added."""

    clients_sent_bytes: int
    clients_received_bytes: int
    peers_sent_bytes: Mapping[int, int]
    peers_received_bytes: Mapping[int, int]


class MemberCollector(Collector):
    """One member's figures at this moment."""

    def __init__(self, server: Server, endpoints: "Endpoints") -> None:
        self._server = server
        self._endpoints = endpoints

    def collect(self) -> "Iterator[Metric]":
        server = self._server
        raft, machine, traffic = server.raft, server.machine, self._endpoints.traffic()
        gauges = {
            "etcd_server_has_leader": raft.leader != NONE,
            "etcd_server_is_leader": server.is_leader,
            "etcd_server_is_learner": server.is_learner,
            "etcd_server_proposals_committed_total": raft.log.committed,
            "etcd_server_proposals_applied_total": machine.applied_index,
            "etcd_server_proposals_pending": server.waiting_count,
            "etcd_server_quota_backend_bytes": server.settings.quota_bytes,
            # Counters in etcd, but without the `_total` that the library gives every counter.
            "etcd_server_health_success": self._endpoints.health_successes,
            "etcd_server_health_failures": self._endpoints.health_failures,
            "etcd_mvcc_db_total_size_in_bytes": server.store.size_bytes,
            "etcd_mvcc_db_total_size_in_use_in_bytes": server.store.size_in_use_bytes,
            "etcd_debugging_mvcc_current_revision": machine.revision,
            "etcd_debugging_mvcc_compact_revision": machine.compact_revision,
            "etcd_debugging_mvcc_keys_total": machine.revisions.count_in(b"\x00", FROM_KEY, machine.revision),
            "etcd_debugging_mvcc_watcher_total": server.watches.watchers_count,
            "etcd_debugging_mvcc_slow_watcher_total": server.watches.slow_count,
        }
        counters = {
            "etcd_server_leader_changes_seen": server.leader_changes,
            "etcd_server_proposals_failed": server.proposals_failed,
            "etcd_server_slow_read_indexes": server.reads.slow_count,
            "etcd_server_slow_apply": server.slow_applies,
            "etcd_network_client_grpc_sent_bytes": traffic.clients_sent_bytes,
            "etcd_network_client_grpc_received_bytes": traffic.clients_received_bytes,
            "etcd_debugging_mvcc_events": server.watches.events_count,
            "etcd_debugging_server_lease_expired": server.lessor.expired_count,
        }
        for name, value in gauges.items():
            yield GaugeMetricFamily(name, "", value=float(value))
        for name, value in counters.items():
            yield CounterMetricFamily(name, "", value=float(value))
        yield _by_member("etcd_network_peer_sent_bytes", "To", traffic.peers_sent_bytes)
        yield _by_member("etcd_network_peer_received_bytes", "From", traffic.peers_received_bytes)
        yield _labelled("etcd_server_id", "server_id", f"{server.member_id:x}")
        yield _labelled("etcd_server_version", "server_version", server.settings.claimed_version)
        yield _labelled("etcd_cluster_version", "cluster_version", machine.membership.cluster_version or NOT_DECIDED)
        yield _labelled("kvorum_version", "version", __version__)
        yield _histogram("etcd_disk_wal_fsync_duration_seconds", server.log_writer.sync_seconds)
        yield _histogram("etcd_disk_backend_commit_duration_seconds", server.commits.commit_seconds)
        yield from _process()


def _by_member(name: str, label: str, counts: Mapping[int, int]) -> Metric:
    family = CounterMetricFamily(name, "", labels=[label])
    for member_id, count in counts.items():
        family.add_metric([f"{member_id:x}"], count)
    return family


def _labelled(name: str, label: str, value: str) -> Metric:
    family = GaugeMetricFamily(name, "", labels=[label])
    family.add_metric([value], 1)
    return family


def _histogram(name: str, durations: Histogram) -> Metric:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), durations.counts, strict=True):
        total += count
        buckets.append((bound, total))
    family = HistogramMetricFamily(name, "")
    family.add_metric([], buckets, durations.sum_s)
    return family


def _process() -> "Iterator[Metric]":
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm") as statm:
        resident_pages = int(statm.read().split()[1])
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield GaugeMetricFamily("process_resident_memory_bytes", "", value=resident_pages * resource.getpagesize())
    yield CounterMetricFamily("process_cpu_seconds", "", value=usage.ru_utime + usage.ru_stime)
    yield GaugeMetricFamily("process_start_time_seconds", "", value=STARTED)
    yield GaugeMetricFamily("process_open_fds", "", value=len(os.listdir("/proc/self/fd")))
    yield GaugeMetricFamily("process_max_fds", "", value=soft)


class BystanderCollector(Collector):
    """The figures of a node that takes no part (api.bystander)."""

    def __init__(self, state: str, claimed_version: str, health_failures: int) -> None:
        self._state = state
        self._claimed_version = claimed_version
        self._health_failures = health_failures

    def collect(self) -> "Iterator[Metric]":
        for name in ("etcd_server_has_leader", "etcd_server_is_leader", "etcd_server_health_success"):
            yield GaugeMetricFamily(name, "", value=0.0)
        yield GaugeMetricFamily("etcd_server_health_failures", "", value=float(self._health_failures))
        yield _labelled("etcd_server_version", "server_version", self._claimed_version)
        yield _labelled("kvorum_version", "version", __version__)
        yield _labelled("kvorum_member_state", "state", self._state)
        yield from _process()


def render_bystander(state: str, claimed_version: str, health_failures: int) -> tuple[str, bytes]:
    """Content type and body."""
    return _render(BystanderCollector(state, claimed_version, health_failures))


def render(server: Server, endpoints: "Endpoints") -> tuple[str, bytes]:
    """Content type and body."""
    return _render(MemberCollector(server, endpoints))


def _render(collector: Collector) -> tuple[str, bytes]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry)
