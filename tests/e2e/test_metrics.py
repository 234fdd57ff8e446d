"""/metrics: the names that dashboards and alerts of etcd read (etcd.md, 1.13), their types, and that each moves.

Types and labels are compared with a real etcd's, and so is what requests count for.
"""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from kvorum.client import Client, ClientError, Put, Txn

from tests.kit.deadline import wait_until, wait_until_async
from tests.kit.processes import Cluster, Node, Program, etcd_program, kvorum_program
from tests.kit.raw_watch import RawWatch

# An election timeout that a busy machine does not miss by itself: the leader is to stay.
CALM = ("--heartbeat-interval=100", "--election-timeout=1500")
REQUEST_TIMEOUT_S = 5 + 2 * 1.5  # etcd's
FLAGS = (*CALM, "--metrics=extensive", "--enable-v2", "--experimental-warning-apply-duration=1ns")
SOON_S = 60.0

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
# Types are etcd's, whatever a name ends in.
TYPES = {
    "etcd_server_has_leader": GAUGE,
    "etcd_server_is_leader": GAUGE,
    "etcd_server_is_learner": GAUGE,
    "etcd_server_leader_changes_seen_total": COUNTER,
    "etcd_server_proposals_committed_total": GAUGE,
    "etcd_server_proposals_applied_total": GAUGE,
    "etcd_server_proposals_pending": GAUGE,
    "etcd_server_proposals_failed_total": COUNTER,
    "etcd_server_quota_backend_bytes": GAUGE,
    "etcd_server_heartbeat_send_failures_total": COUNTER,
    "etcd_server_slow_apply_total": COUNTER,
    "etcd_server_slow_read_indexes_total": COUNTER,
    "etcd_server_read_indexes_failed_total": COUNTER,
    "etcd_server_health_success": COUNTER,
    "etcd_server_health_failures": COUNTER,
    "etcd_server_id": GAUGE,
    "etcd_server_version": GAUGE,
    "etcd_cluster_version": GAUGE,
    "etcd_disk_wal_fsync_duration_seconds": HISTOGRAM,
    "etcd_disk_backend_commit_duration_seconds": HISTOGRAM,
    "etcd_mvcc_db_total_size_in_bytes": GAUGE,
    "etcd_mvcc_db_total_size_in_use_in_bytes": GAUGE,
    "etcd_mvcc_range_total": COUNTER,
    "etcd_mvcc_put_total": COUNTER,
    "etcd_mvcc_delete_total": COUNTER,
    "etcd_mvcc_txn_total": COUNTER,
    "etcd_network_client_grpc_sent_bytes_total": COUNTER,
    "etcd_network_client_grpc_received_bytes_total": COUNTER,
    "etcd_debugging_mvcc_keys_total": GAUGE,
    "etcd_debugging_mvcc_watcher_total": GAUGE,
    "etcd_debugging_mvcc_watch_stream_total": GAUGE,
    "etcd_debugging_mvcc_slow_watcher_total": GAUGE,
    "etcd_debugging_mvcc_pending_events_total": GAUGE,
    "etcd_debugging_mvcc_events_total": COUNTER,
    "etcd_debugging_mvcc_db_compaction_keys_total": COUNTER,
    "etcd_debugging_store_expires_total": COUNTER,
    "etcd_debugging_lease_granted_total": COUNTER,
    "etcd_debugging_lease_renewed_total": COUNTER,
    "etcd_debugging_lease_revoked_total": COUNTER,
    "etcd_debugging_lease_ttl_total": HISTOGRAM,
    "grpc_server_started_total": COUNTER,
    "grpc_server_handled_total": COUNTER,
    "grpc_server_msg_received_total": COUNTER,
    "grpc_server_msg_sent_total": COUNTER,
    "grpc_server_handling_seconds": HISTOGRAM,
    "process_resident_memory_bytes": GAUGE,
    "process_cpu_seconds_total": COUNTER,
    "process_start_time_seconds": GAUGE,
    "process_open_fds": GAUGE,
    "process_max_fds": GAUGE,
    "os_fd_used": GAUGE,
    "os_fd_limit": GAUGE,
}
OF_PEERS = {
    "etcd_network_peer_sent_bytes_total": COUNTER,
    "etcd_network_peer_received_bytes_total": COUNTER,
    "etcd_network_peer_sent_failures_total": COUNTER,
    "etcd_network_peer_received_failures_total": COUNTER,
    "etcd_network_peer_round_trip_time_seconds": HISTOGRAM,
}
# What stays as it is while a member runs: it is compared with what is known.
CONSTANT = frozenset(
    {
        "etcd_server_id",
        "etcd_server_version",
        "etcd_cluster_version",
        "etcd_server_quota_backend_bytes",
        "process_start_time_seconds",
        "process_max_fds",
        "os_fd_limit",
        "etcd_server_is_learner",  # tests/e2e/test_http.py has one
    }
)


@pytest.fixture
def program(engine: str) -> Program:
    return kvorum_program() if engine == "kvorum" else etcd_program()


def page_of(node: Node) -> str:
    with urlopen(f"{node.endpoint}/metrics", timeout=30) as answer:
        body: bytes = answer.read()
    return body.decode()


class Figures:
    """What a page says: types by family, and values by family and labels."""

    def __init__(self, page: str) -> None:
        self.types = {line.split()[2]: line.split()[3] for line in page.splitlines() if line.startswith("# TYPE ")}
        self.samples: dict[str, float] = {}
        for line in page.splitlines():
            if not line.startswith("#"):
                sample, value = line.rsplit(" ", 1)
                assert sample not in self.samples, f"{sample} twice"
                self.samples[sample] = float(value)

    def sum(self, family: str, **labels: str) -> float:
        """Over all its series with these labels; of a histogram, the observations."""
        name = f"{family}_count" if self.types.get(family) == HISTOGRAM else family
        return sum(
            value
            for sample, value in self.samples.items()
            if sample.partition("{")[0] == name and all(f'{label}="{text}"' in sample for label, text in labels.items())
        )

    def labels(self, family: str) -> set[str]:
        names = (family, f"{family}_bucket")
        found = [sample for sample in self.samples if sample.partition("{")[0] in names]
        return {label for sample in found for label in re.findall(r'(\w+)="', sample)}


def figures(node: Node) -> Figures:
    return Figures(page_of(node))


def test_every_name_has_etcds_type_and_labels(program: Program, tmp_path: Path) -> None:
    version = 'etcd_cluster_version{cluster_version="3.5"}'
    with Node(program, tmp_path, flags=("--metrics=extensive", "--enable-v2")) as node:
        wait_until(lambda: version in figures(node).samples, SOON_S, "the cluster's version is decided")
        found = figures(node)
    assert {name: found.types.get(name) for name in TYPES} == TYPES
    of_calls = {"grpc_method", "grpc_service", "grpc_type"}
    assert found.labels("grpc_server_started_total") == of_calls
    assert found.labels("grpc_server_handled_total") == {*of_calls, "grpc_code"}
    assert found.labels("grpc_server_handling_seconds") == {*of_calls, "le"}
    for method, service, kind in (
        ("Put", "etcdserverpb.KV", "unary"),
        ("Watch", "etcdserverpb.Watch", "bidi_stream"),
        ("LeaseKeepAlive", "etcdserverpb.Lease", "bidi_stream"),
        ("Snapshot", "etcdserverpb.Maintenance", "server_stream"),
    ):
        labels = f'grpc_method="{method}",grpc_service="{service}",grpc_type="{kind}"'
        assert f"grpc_server_started_total{{{labels}}}" in found.samples
        assert f'grpc_server_handled_total{{grpc_code="InvalidArgument",{labels}}}' in found.samples


def test_how_long_calls_take_is_told_on_request_alone(program: Program, tmp_path: Path) -> None:
    with Node(program, tmp_path, flags=("--metrics=basic",)) as node:
        assert "grpc_server_handling_seconds" not in figures(node).types


def test_requests_are_counted_as_etcd_counts_them(program: Program, tmp_path: Path) -> None:
    with Node(program, tmp_path, flags=("--metrics=extensive",)) as node:
        asyncio.run(served(node, Moved(node)))


# ---- under load, and with faults -------------------------------------------------------------------------------------


def test_every_figure_moves_under_load_and_faults(tmp_path: Path) -> None:
    with Cluster(kvorum_program(), tmp_path, flags=FLAGS) as cluster:
        leader = leader_of(cluster.nodes)
        others = [node for node in cluster.nodes if node is not leader]
        moved = Moved(leader)
        asyncio.run(served(leader, moved))
        asyncio.run(slow_watch(leader, moved))
        v2_key_expires(leader, moved)
        leader_is_starved(leader, moved)
        moved.wait(
            "etcd_network_peer_sent_bytes_total",
            "etcd_network_peer_received_bytes_total",
            "etcd_network_peer_round_trip_time_seconds",  # a probe each four seconds
        )
        asyncio.run(quorum_is_lost(leader, others, moved))
        for node in others:
            node.start()
        moved.wait("etcd_server_has_leader", "etcd_server_leader_changes_seen_total")
        assert sorted({*TYPES, *OF_PEERS} - moved.names - CONSTANT) == []
        last = figures(leader)
        assert {name: last.types[name] for name in OF_PEERS} == OF_PEERS
        assert last.labels("etcd_network_peer_sent_failures_total") == {"To"}
        assert last.labels("etcd_network_peer_received_failures_total") == {"From"}
        assert last.sum("etcd_server_quota_backend_bytes") == 2 << 30
        assert last.sum("etcd_server_is_learner") == 0
        assert last.sum("os_fd_limit") == last.sum("process_max_fds") > 0


def leader_of(nodes: list[Node]) -> Node:
    def lead() -> Node | None:
        return next((node for node in nodes if figures(node).sum("etcd_server_is_leader") == 1), None)

    found = wait_until(lead, SOON_S, "one of them leads")
    assert found is not None
    return found


class Moved:
    """Which figures of a node are not what they were at first."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.names: set[str] = set()
        self._before = figures(node)

    def look(self) -> Figures:
        now = figures(self.node)
        for name in {*TYPES, *OF_PEERS}:
            if now.types.get(name) in (COUNTER, HISTOGRAM):
                assert now.sum(name) >= self._before.sum(name), f"{name} went back"
            if now.sum(name) != self._before.sum(name):
                self.names.add(name)
        self._before = now
        return now

    def wait(self, *names: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        def moved() -> bool:
            meanwhile()
            self.look()
            return self.names.issuperset(names)

        wait_until(moved, SOON_S, f"{', '.join(names)} move; so far {sorted(self.names)}", poll_s=0.1)


async def served(node: Node, moved: Moved) -> None:
    """One of each request, counted as it is."""
    before = figures(node)
    async with Client([node.endpoint], timeout_s=30) as client:
        for number in range(20):
            await client.put(b"key%02d" % number, b"value")
        await client.get(b"key00")
        await client.delete(b"key00")
        await client.txn(Txn(success=(Put(b"a", b"1"), Put(b"b", b"2"))))
        lease = await client.lease_grant(60)
        assert await client.lease_keepalive(lease.id) == 60
        await client.lease_revoke(lease.id)
        with pytest.raises(ClientError, match="lease not found"):
            await client.put(b"c", b"", lease=lease.id)
        header = await client.put(b"a", b"3")
        await client.compact(header.header.revision, physical=True)
    await asyncio.to_thread(wait_until, node.is_healthy, SOON_S, "it is healthy")
    now = await asyncio.to_thread(moved.look)
    grown = Counter({name: now.sum(name) - before.sum(name) for name in TYPES})
    assert grown["etcd_mvcc_put_total"] == 23
    assert grown["etcd_mvcc_delete_total"] == 1
    assert grown["etcd_mvcc_txn_total"] == 1
    assert grown["etcd_debugging_lease_granted_total"] == grown["etcd_debugging_lease_ttl_total"] == 1
    assert grown["etcd_debugging_lease_renewed_total"] == grown["etcd_debugging_lease_revoked_total"] == 1
    assert grown["etcd_debugging_mvcc_db_compaction_keys_total"] == 3  # key00 with its tombstone, and the first a
    assert grown["etcd_debugging_mvcc_keys_total"] == 21
    assert grown["etcd_server_health_success"] >= 1
    for name, labels, more in (
        ("grpc_server_started_total", {"grpc_method": "Put"}, 22),
        ("grpc_server_msg_received_total", {"grpc_method": "Put"}, 22),
        ("grpc_server_msg_sent_total", {"grpc_method": "Put"}, 21),
        ("grpc_server_handled_total", {"grpc_method": "Put", "grpc_code": "OK"}, 21),
        ("grpc_server_handled_total", {"grpc_method": "Put", "grpc_code": "NotFound"}, 1),
        ("grpc_server_handling_seconds", {"grpc_method": "Put"}, 22),
        ("grpc_server_msg_sent_total", {"grpc_method": "LeaseKeepAlive"}, 1),
    ):
        assert now.sum(name, **labels) - before.sum(name, **labels) == more, (name, labels)


async def slow_watch(node: Node, moved: Moved) -> None:
    """A client that watches and does not read. What waits for it is more than all buffers on the way hold."""
    async with RawWatch(node.endpoint) as watch, Client([node.endpoint], timeout_s=60) as client:
        await watch.create(key=b"big")
        seen = await asyncio.to_thread(moved.look)
        assert seen.sum("etcd_debugging_mvcc_watcher_total") == seen.sum("etcd_debugging_mvcc_watch_stream_total") == 1

        async def behind() -> bool:
            await client.put(b"big", bytes(1 << 20))
            now = await asyncio.to_thread(moved.look)
            return now.sum("etcd_debugging_mvcc_pending_events_total") > 1

        # gRPC reads no further than its flow-control window while nobody takes messages.
        await wait_until_async(behind, SOON_S, "a watch is behind")
        assert moved.look().sum("etcd_debugging_mvcc_slow_watcher_total") == 1
    moved.wait("etcd_debugging_mvcc_events_total", "etcd_debugging_mvcc_watcher_total")


def v2_key_expires(node: Node, moved: Moved) -> None:
    form = urlencode({"value": "v", "ttl": "1"}).encode()
    request = Request(f"{node.endpoint}/v2/keys/short", data=form, method="PUT")
    request.add_header("Content-Type", "application/x-www-form-urlencoded")
    assert urlopen(request, timeout=30).status == 201
    moved.wait("etcd_debugging_store_expires_total")


def leader_is_starved(node: Node, moved: Moved) -> None:
    """Stopped for four heartbeats, again and again: not for an election timeout, so mostly it leads on."""

    def starve() -> None:
        node.pause()
        with pytest.raises(OSError, match="timed out"):
            urlopen(f"{node.endpoint}/version", timeout=0.4)
        node.resume()

    moved.wait("etcd_server_heartbeat_send_failures_total", meanwhile=starve)


async def quorum_is_lost(node: Node, others: list[Node], moved: Moved) -> None:
    """Requests that were asked for just then come to nothing."""
    async with Client([node.endpoint], timeout_s=REQUEST_TIMEOUT_S + 1) as client:
        for other in others:
            other.kill()
        asked = [asyncio.ensure_future(ask) for ask in (client.put(b"x", b""), client.get(b"x"))]
        await asyncio.to_thread(
            moved.wait,
            "etcd_server_proposals_pending",
            "etcd_server_slow_read_indexes_total",
            "etcd_server_health_failures",
            "etcd_server_has_leader",
            "etcd_server_is_leader",
            "etcd_network_peer_sent_failures_total",
            "etcd_network_peer_received_failures_total",
            meanwhile=lambda: ask_health(node),
        )
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(outcome, ClientError) for outcome in outcomes), outcomes
    await asyncio.to_thread(moved.wait, "etcd_server_proposals_failed_total", "etcd_server_read_indexes_failed_total")


def ask_health(node: Node) -> None:
    with contextlib.suppress(OSError):  # a 503, or no answer yet
        urlopen(f"{node.endpoint}/health", timeout=0.3).close()
