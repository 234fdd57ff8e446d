"""The page of metrics as Prometheus' own parser reads it. What it says of a node is tests/e2e/test_metrics.py's."""

from pathlib import Path

import pytest
from kvorum.api.http import Endpoints
from kvorum.api.metrics import CONTENT_TYPE, Traffic, render
from kvorum.net.call import MethodCounts
from kvorum.server.histogram import CALL_BOUNDS_S, PROBE_BOUNDS_S, Histogram
from kvorum.server.peers import PeerTraffic
from kvorum.state.v2_error import V2Error
from kvorum.wire.grpc import Code
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.kvorum.api.test_http import run
from tests.unit.kvorum.server.cluster import Cluster, put

Page = dict[tuple[str, frozenset[tuple[str, str]]], float]


def page_of(cluster: Cluster, traffic: Traffic) -> tuple[Page, str]:
    endpoints = Endpoints(cluster.leader(), dict, lambda: traffic)
    content_type, body = render(cluster.leader(), endpoints)
    assert content_type == CONTENT_TYPE
    families = text_string_to_metric_families(body.decode())
    return {
        (one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples
    }, body.decode()


def at(page: Page, name: str, **labels: str) -> float:
    return page[name, frozenset(labels.items())]


def test_histograms_add_up(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        trips = Histogram(PROBE_BOUNDS_S)
        for seconds in (0.00005, 0.00015, 0.00015, 100.0):
            trips.observe(seconds)
        page, text = page_of(cluster, Traffic(0, 0, {0xAB: PeerTraffic(1, 2, 3, 4, trips)}, {}))
        name = "etcd_network_peer_round_trip_time_seconds"
        assert at(page, f"{name}_bucket", To="ab", le="0.0001") == 1
        assert at(page, f"{name}_bucket", To="ab", le="0.0002") == 3
        assert at(page, f"{name}_bucket", To="ab", le="3.2768") == 3
        assert at(page, f"{name}_bucket", To="ab", le="+Inf") == at(page, f"{name}_count", To="ab") == 4
        assert abs(at(page, f"{name}_sum", To="ab") - 100.00035) < 1e-9
        assert f"# TYPE {name} histogram\n" in text
        for what, label, count in (
            ("sent_bytes", "To", 1),
            ("received_bytes", "From", 2),
            ("sent_failures", "To", 3),
            ("received_failures", "From", 4),
        ):
            assert at(page, f"etcd_network_peer_{what}_total", **{label: "ab"}) == count

    run(tmp_path, 1, story)


def test_calls_are_told_by_method_kind_and_code(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        put_calls = MethodCounts(is_stream=False, took=Histogram(CALL_BOUNDS_S))
        put_calls.started, put_calls.succeeded = 5, 3
        put_calls.ended(Code.RESOURCE_EXHAUSTED)
        assert put_calls.took is not None
        put_calls.took.observe(0.3)
        watch_calls = MethodCounts(is_stream=True, took=None)
        watch_calls.started, watch_calls.received, watch_calls.sent = 1, 2, 7
        calls = {"/etcdserverpb.KV/Put": put_calls, "/etcdserverpb.Watch/Watch": watch_calls}
        page, _ = page_of(cluster, Traffic(0, 0, {}, calls))
        kv = {"grpc_method": "Put", "grpc_service": "etcdserverpb.KV", "grpc_type": "unary"}
        watch = {"grpc_method": "Watch", "grpc_service": "etcdserverpb.Watch", "grpc_type": "bidi_stream"}
        for name, of_puts, of_watches in (("started", 5, 1), ("msg_received", 5, 2), ("msg_sent", 3, 7)):
            assert at(page, f"grpc_server_{name}_total", **kv) == of_puts
            assert at(page, f"grpc_server_{name}_total", **watch) == of_watches
        for code, count in (("OK", 3), ("ResourceExhausted", 1), ("Unavailable", 0), ("Canceled", 0)):
            assert at(page, "grpc_server_handled_total", grpc_code=code, **kv) == count
        assert at(page, "grpc_server_handling_seconds_bucket", le="0.25", **kv) == 0
        assert at(page, "grpc_server_handling_seconds_bucket", le="0.5", **kv) == 1
        assert ("grpc_server_handling_seconds_count", frozenset(watch.items())) not in page

    run(tmp_path, 1, story)


def test_leases_are_told_by_what_they_were_granted_for(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leases = cluster.leader().machine.leases
        for lease, ttl_s in ((1, 4), (2, 5), (3, 9_000_000_000)):
            leases.grant(lease, ttl_s)
        leases.forget(1)
        page, _ = page_of(cluster, Traffic(0, 0, {}, {}))
        name = "etcd_debugging_lease_ttl_total"
        assert [at(page, f"{name}_bucket", le=le) for le in ("2", "4", "8", "8388608", "+Inf")] == [0, 1, 2, 2, 3]
        assert (at(page, f"{name}_sum"), at(page, f"{name}_count")) == (9_000_000_009, 3)
        assert at(page, "etcd_debugging_lease_granted_total") == 3
        assert at(page, "etcd_debugging_lease_revoked_total") == 1

    run(tmp_path, 1, story)


def test_types_are_etcds_whatever_a_name_ends_in(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        await put(cluster.leader(), b"a", b"b").body()
        page, text = page_of(cluster, Traffic(0, 0, {}, {}))
        assert "# TYPE etcd_server_proposals_applied_total gauge\n" in text
        assert "# TYPE etcd_server_health_success counter\netcd_server_health_success 0\n" in text
        assert at(page, "etcd_mvcc_put_total") == 1
        assert at(page, "etcd_server_is_leader") == 1
        names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
        assert len(names) == len(set(names))

    run(tmp_path, 1, story)


def test_the_v2_store_is_counted_by_action(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        server.machine.v2.set("/1/a", "x")
        before = at(page_of(cluster, Traffic(0, 0, {}, {}))[0], "etcd_debugging_store_writes_total", action="set")
        server.machine.v2.set("/1/a", "x")
        server.machine.v2.compare_and_swap("/1/a", "x", 0, "y")
        with pytest.raises(V2Error):
            server.machine.v2.get("/1/none")
        with pytest.raises(V2Error):
            server.machine.v2.delete("/1/none")
        server.v2.watch("/1/a", recursive=False, is_stream=False, since=0).start(lambda event: None, lambda: None)
        page, _ = page_of(cluster, Traffic(0, 0, {}, {}))
        assert at(page, "etcd_debugging_store_writes_total", action="set") == before + 1
        assert at(page, "etcd_debugging_store_writes_total", action="compareAndSwap") == 1
        assert at(page, "etcd_debugging_store_writes_failed_total", action="delete") == 1
        assert at(page, "etcd_debugging_store_reads_failed_total", action="get") == 1
        assert at(page, "etcd_debugging_store_watchers") == at(page, "etcd_debugging_store_watch_requests_total") == 1

    run(tmp_path, 1, story)
