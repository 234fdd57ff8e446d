"""What each honoured flag does, seen from outside, on a running node of either engine.

docs/flags.md names these tests. How flags are read and refused is tests/unit/kvorum/test_config.py's.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.deadline import wait_until
from tests.kit.ports import free_port
from tests.kit.processes import Cluster, Node, Program, etcd_program, fetch_json, kvorum_program

Start = Callable[..., Node]


@pytest.fixture
def program(engine: str) -> Program:
    return kvorum_program() if engine == "kvorum" else etcd_program()


@pytest.fixture
def start(program: Program, tmp_path: Path) -> Iterator[Start]:
    """Starts a healthy node with the flags given, in the test's folder."""
    nodes: list[Node] = []

    def started(*flags: str, **settings: Any) -> Node:
        node = Node(program, tmp_path, flags=flags, **settings)
        nodes.append(node)
        node.start()
        node.wait_healthy()
        return node

    yield started
    for node in nodes:
        node.kill()


def call(node: Node, method: str, request: Any, answer: Any, timeout_s: float = 10.0) -> Any:
    """One unary call. Raises grpc.RpcError."""
    options = (("grpc.enable_http_proxy", 0),)
    with grpc.insecure_channel(f"127.0.0.1:{node.client_port}", options=options) as channel:
        rpc_method = channel.unary_unary(
            f"/etcdserverpb.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return rpc_method(request, timeout=timeout_s, wait_for_ready=True)


def refusal(node: Node, method: str, request: Any, answer: Any) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call(node, method, request, answer)
    return str(caught.value.details())


def put(node: Node, key: bytes, value: bytes = b"") -> int:
    """The revision the put made."""
    answer = call(node, "KV/Put", rpc.PutRequest(key=key, value=value), rpc.PutResponse)
    return int(answer.header.revision)


def text_at(url: str) -> str:
    with urlopen(url, timeout=5) as answer:
        body: bytes = answer.read()
    return body.decode()


def metric(node: Node, name: str) -> float:
    lines = text_at(f"{node.endpoint}/metrics").splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


# ---- who and where ---------------------------------------------------------------------------------------------------


def test_a_member_is_listed_with_its_name_and_urls(start: Start) -> None:
    elsewhere = "http://kv.example:2379"
    node = start(f"--advertise-client-urls={elsewhere}", name="kv-7")
    (member,) = call(node, "Cluster/MemberList", rpc.MemberListRequest(), rpc.MemberListResponse).members
    assert member.name == "kv-7"
    assert list(member.clientURLs) == [elsewhere]
    assert list(member.peerURLs) == [node.peer_url]


def test_data_lies_where_it_is_told_to(start: Start, tmp_path: Path) -> None:
    start(f"--data-dir={tmp_path / 'there'}")
    assert list((tmp_path / "there" / "member").glob("wal/*.wal"))


def test_the_log_lies_where_it_is_told_to(start: Start, tmp_path: Path) -> None:
    node = start(f"--wal-dir={tmp_path / 'log'}")
    assert list((tmp_path / "log").glob("*.wal"))
    assert not (node.data_dir / "member" / "wal").exists()
    revision = put(node, b"a")
    node.restart()
    assert put(node, b"b") == revision + 1


def test_clients_and_members_are_answered_at_every_url(start: Start) -> None:
    client, peer = free_port(), free_port()
    node = start()
    node.kill()
    node.flags = (
        f"--listen-client-urls={node.endpoint},http://127.0.0.1:{client}",
        f"--listen-peer-urls={node.peer_url},http://127.0.0.1:{peer}",
    )
    node.start()
    node.wait_healthy()
    assert fetch_json(f"http://127.0.0.1:{client}/health") == {"health": "true", "reason": ""}
    for port in (node.peer_port, peer):
        assert json.loads(text_at(f"http://127.0.0.1:{port}/members"))[0]["name"] == node.name


def test_metrics_and_health_answer_at_a_port_of_their_own(start: Start) -> None:
    port = free_port()
    start(f"--listen-metrics-urls=http://127.0.0.1:{port}")
    assert "etcd_server_has_leader 1" in text_at(f"http://127.0.0.1:{port}/metrics")
    assert fetch_json(f"http://127.0.0.1:{port}/health") == {"health": "true", "reason": ""}


def test_two_nodes_may_share_a_port_only_if_both_say_so(start: Start, program: Program, tmp_path: Path) -> None:
    shared = free_port()
    sharing = [start("--socket-reuse-port", name=name, client_port=shared) for name in ("a", "b")]
    words = "ready to serve client requests"  # of each for itself: at the port either may answer
    wait_until(lambda: all(words in node.log() for node in sharing), 60, "both serve")
    alone = Node(program, tmp_path, name="c", client_port=shared)
    alone.start()
    try:
        wait_until(lambda: not alone.alive, 60, "a node that would not share ends")
        assert [node.alive for node in sharing] == [True, True]
    finally:
        alone.kill()


def test_a_port_just_left_is_taken_again_at_once(start: Start) -> None:
    node = start("--socket-reuse-address")
    put(node, b"a")
    with socket.create_connection(("127.0.0.1", node.client_port)):
        node.kill()  # our end is still open: the port is in TIME_WAIT or FIN_WAIT
        node.start()
        node.wait_healthy()


# ---- bootstrap and membership ----------------------------------------------------------------------------------------


def cluster_id(node: Node) -> int:
    answer = call(node, "Maintenance/Status", rpc.StatusRequest(), rpc.StatusResponse)
    return int(answer.header.cluster_id)


def test_the_token_makes_the_cluster_another(start: Start) -> None:
    node = start(token="one")
    first = cluster_id(node)
    node.kill()
    node.wipe()
    node.start()
    node.wait_healthy()
    assert cluster_id(node) == first
    node.kill()
    node.wipe()
    node.token = "two"
    node.start()
    node.wait_healthy()
    assert cluster_id(node) != first


def test_the_members_of_the_initial_cluster_find_each_other(program: Program, tmp_path: Path) -> None:
    with Cluster(program, tmp_path) as cluster:
        ids = {cluster_id(node) for node in cluster.nodes}
        answer = call(cluster.nodes[2], "Cluster/MemberList", rpc.MemberListRequest(), rpc.MemberListResponse)
        assert len(ids) == 1
        assert sorted(member.name for member in answer.members) == ["n0", "n1", "n2"]


def test_a_member_of_an_existing_cluster_does_not_bootstrap(program: Program, tmp_path: Path) -> None:
    node = Node(program, tmp_path, name="n1", state="existing")
    node.initial_cluster = f"n0=http://127.0.0.1:{free_port()},n1={node.peer_url}"
    node.start()
    try:
        wait_until(lambda: not node.alive, 60, "a node without its cluster ends")
        assert not list(node.data_dir.glob("member/wal/*.wal"))
    finally:
        node.kill()


def test_a_change_that_endangers_the_quorum_is_refused_if_checked(program: Program, tmp_path: Path) -> None:
    def answer_to_an_added_member(check: str, folder: Path) -> str:
        with Cluster(program, folder, flags=(f"--strict-reconfig-check={check}",)) as cluster:
            cluster.nodes[2].kill()
            request = rpc.MemberAddRequest(peerURLs=[f"http://127.0.0.1:{free_port()}"])
            try:
                wait_until(cluster.nodes[0].is_healthy, 60, "the two that are left serve")
                call(cluster.nodes[0], "Cluster/MemberAdd", request, rpc.MemberAddResponse)
            except grpc.RpcError as error:
                return str(error.details())
            return "added"

    assert answer_to_an_added_member("true", tmp_path / "strict") == "etcdserver: unhealthy cluster"
    assert answer_to_an_added_member("false", tmp_path / "lax") == "added"


def term(node: Node) -> int:
    answer = call(node, "Maintenance/Status", rpc.StatusRequest(), rpc.StatusResponse)
    return int(answer.raftTerm)


def elections_while_alone(program: Program, folder: Path, pre_vote: str) -> int:
    """How much the term has risen once a member that was without quorum for 24 election timeouts has it again: an etcd
    tells no term that it has reached alone."""
    flags = (f"--pre-vote={pre_vote}", "--heartbeat-interval=50", "--election-timeout=250")
    with Cluster(program, folder, flags=flags) as cluster:
        before = term(cluster.nodes[0])
        for node in cluster.nodes[1:]:
            node.kill()
        until = time.monotonic() + 6.0
        wait_until(lambda: time.monotonic() > until, 60, "its elections fail for a while")
        cluster.start()
        cluster.wait_healthy()
        return term(cluster.nodes[0]) - before


def test_with_pre_vote_a_member_without_quorum_leaves_the_term_alone(program: Program, tmp_path: Path) -> None:
    """12 to 24 elections fail meanwhile; those that bring it back and do not fail are a few, on a busy machine."""
    assert elections_while_alone(program, tmp_path / "without", "false") >= 10
    assert elections_while_alone(program, tmp_path / "with", "true") < 10


def seconds_to_lead(program: Program, folder: Path, advance: str) -> tuple[float, float]:
    """From the start of the members, and from when the last of them takes connections: a busy machine starts slowly."""
    flags = ("--heartbeat-interval=1000", "--election-timeout=5000", f"--initial-election-tick-advance={advance}")
    cluster = Cluster(program, folder, flags=flags)
    try:
        began_s = time.monotonic()
        cluster.start()
        wait_until(lambda: all(node.members_by_peers() for node in cluster.nodes), 60, "all take connections")
        listening_s = time.monotonic()
        cluster.wait_healthy()
        led_s = time.monotonic()
    finally:
        cluster.kill()
    return led_s - began_s, led_s - listening_s


def test_ticks_are_advanced_before_the_first_election_if_asked(program: Program, tmp_path: Path) -> None:
    """5 to 9 ticks (at random) of a second pass before a member stands for election; most of them may be skipped."""
    assert seconds_to_lead(program, tmp_path / "slow", "false")[0] >= 5.0
    attempts = (seconds_to_lead(program, tmp_path / f"{attempt}", "true") for attempt in range(8))
    assert any(since_listening_s < 4.0 for _, since_listening_s in attempts)


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_taken_after_so_many_entries(start: Start) -> None:
    node = start("--snapshot-count=50")
    snap = node.data_dir / "member" / "snap"
    for number in range(30):
        put(node, b"%d" % number)
    assert not list(snap.glob("*.snap"))
    for number in range(40):
        put(node, b"%d" % number)
    wait_until(lambda: list(snap.glob("*.snap")), 60, "a snapshot file")


def test_writes_above_the_quota_are_refused(start: Start) -> None:
    quota = 4 << 20
    node = start(f"--quota-backend-bytes={quota}")

    def is_full() -> bool:
        try:
            put(node, b"key-%d" % time.monotonic_ns(), b"v" * 500_000)
        except grpc.RpcError as error:
            return str(error.details()) == "etcdserver: mvcc: database space exceeded"
        return False

    wait_until(is_full, 30, "the quota is reached")

    def alarmed() -> bool:  # the refusal asks the cluster to raise the alarm, and does not wait for it
        status = call(node, "Maintenance/Status", rpc.StatusRequest(), rpc.StatusResponse)
        return status.dbSize > quota // 2 and any("NOSPACE" in error for error in status.errors)

    wait_until(alarmed, 60, "the alarm is raised")


def test_a_transaction_of_too_many_operations_is_refused(start: Start) -> None:
    node = start("--max-txn-ops=2")
    operations = [rpc.RequestOp(request_put=rpc.PutRequest(key=b"%d" % index)) for index in range(3)]
    call(node, "KV/Txn", rpc.TxnRequest(success=operations[:2]), rpc.TxnResponse)
    words = refusal(node, "KV/Txn", rpc.TxnRequest(success=operations), rpc.TxnResponse)
    assert words == "etcdserver: too many operations in txn request"


def test_a_request_that_is_too_large_is_refused(start: Start) -> None:
    node = start("--max-request-bytes=1000")
    put(node, b"a", b"v" * 900)
    words = refusal(node, "KV/Put", rpc.PutRequest(key=b"a", value=b"v" * 1100), rpc.PutResponse)
    assert words == "etcdserver: request is too large"


# ---- compaction and commits ------------------------------------------------------------------------------------------


def test_old_revisions_go_after_the_retention(start: Start) -> None:
    node = start("--auto-compaction-mode=periodic", "--auto-compaction-retention=1s")
    old = put(node, b"a", b"1")
    put(node, b"a", b"2")

    def is_compacted() -> bool:
        try:
            call(node, "KV/Range", rpc.RangeRequest(key=b"a", revision=old), rpc.RangeResponse)
        except grpc.RpcError as error:
            return str(error.details()) == "etcdserver: mvcc: required revision has been compacted"
        return False

    wait_until(is_compacted, 60, "the first revision is compacted")


COMMITS = "etcd_disk_backend_commit_duration_seconds_count"


def wait_for_commit(node: Node, before: float) -> None:
    wait_until(lambda: metric(node, COMMITS) > before, 60, "a commit follows the put")


def test_a_commit_follows_every_so_many_operations(start: Start) -> None:
    node = start("--backend-batch-limit=1", "--backend-batch-interval=1h")
    for index in range(10):
        before = metric(node, COMMITS)
        put(node, b"%d" % index)
        wait_for_commit(node, before)


def test_a_commit_waits_no_longer_than_its_interval(start: Start) -> None:
    node = start("--backend-batch-interval=50ms")
    before = metric(node, COMMITS)
    put(node, b"a")
    wait_for_commit(node, before)


def test_commits_wait_for_their_interval(start: Start) -> None:
    node = start("--backend-batch-interval=1h")
    put(node, b"a")
    before = metric(node, COMMITS)
    for index in range(50):
        put(node, b"%d" % index)
    assert metric(node, COMMITS) == before


# ---- connections -----------------------------------------------------------------------------------------------------


class Http2:
    """A bare HTTP/2 client, to see what gRPC libraries hide: settings, pings, and how a connection ends."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=0.2)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.events: list[h2.events.Event] = []
        self.closed = False
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        try:
            self.socket.sendall(self.h2.data_to_send())
        except OSError:
            self.closed = True

    def read(self, *, answering: bool = True) -> None:
        """What comes within 0.2 s. answering: acknowledge settings and pings, as the protocol asks for."""
        try:
            data = self.socket.recv(65_536)
        except TimeoutError:
            return
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return
        self.events += self.h2.receive_data(data)
        if answering:
            self.flush()

    def has(self, kind: type[h2.events.Event]) -> bool:
        return any(isinstance(event, kind) for event in self.events)

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def connect() -> Iterator[Callable[[Node], Http2]]:
    connections: list[Http2] = []

    def connected(node: Node) -> Http2:
        connections.append(Http2(node.client_port))
        return connections[-1]

    yield connected
    for connection in connections:
        connection.close()


Connect = Callable[[Node], Http2]


def test_a_connection_is_told_how_many_streams_it_may_have(start: Start, connect: Connect) -> None:
    connection = connect(start("--max-concurrent-streams=7"))

    def settings() -> bool:
        connection.read()
        return connection.has(h2.events.RemoteSettingsChanged)

    wait_until(settings, 60, "the server's settings arrive")
    assert connection.h2.remote_settings.max_concurrent_streams == 7


def test_a_silent_connection_is_pinged_and_kept_while_it_answers(start: Start, connect: Connect) -> None:
    connection = connect(start("--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s"))

    def pings() -> bool:
        connection.read()
        return sum(isinstance(event, h2.events.PingReceived) for event in connection.events) >= 3

    wait_until(pings, 60, "three pings arrive")
    assert not connection.closed


def test_a_connection_that_does_not_answer_pings_is_closed(start: Start, connect: Connect) -> None:
    connection = connect(start("--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s"))

    def closed() -> bool:
        connection.read(answering=not connection.has(h2.events.PingReceived))
        return connection.closed

    wait_until(closed, 60, "the connection is closed")
    assert connection.has(h2.events.PingReceived)


def test_a_client_that_pings_too_often_is_sent_away(start: Start, connect: Connect) -> None:
    """While it has a stream open: without one, two hours count whatever the flag says."""
    strict, lax = (
        connect(start("--grpc-keepalive-min-time=1h")),
        connect(start("--grpc-keepalive-min-time=1ns", name="b")),
    )

    for connection in (strict, lax):
        connection.h2.send_headers(
            connection.h2.get_next_available_stream_id(),
            [
                *((":method", "POST"), (":scheme", "http"), (":path", "/etcdserverpb.Watch/Watch")),
                *((":authority", "kv"), ("content-type", "application/grpc"), ("te", "trailers")),
            ],
        )
        connection.flush()

    def sent_away() -> bool:
        for connection in (strict, lax):
            if not connection.has(h2.events.ConnectionTerminated) and not connection.closed:
                connection.h2.ping(b"anything")
                connection.flush()
                connection.read()
        return strict.has(h2.events.ConnectionTerminated)

    wait_until(sent_away, 60, "the strict server says goodbye")
    (goodbye,) = [event for event in strict.events if isinstance(event, h2.events.ConnectionTerminated)]
    assert goodbye.additional_data == b"too_many_pings"
    assert not lax.has(h2.events.ConnectionTerminated)


def test_an_idle_watcher_is_told_the_revision(start: Start) -> None:
    node = start("--experimental-watch-progress-notify-interval=300ms")
    create = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"a", progress_notify=True))
    options = (("grpc.enable_http_proxy", 0),)
    with grpc.insecure_channel(f"127.0.0.1:{node.client_port}", options=options) as channel:
        watch = channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=rpc.WatchRequest.SerializeToString,
            response_deserializer=rpc.WatchResponse.FromString,
        )
        answers: Iterator[Any] = iter(watch(iter((create,)), timeout=15))
        created, progress = next(answers), next(answers)
    assert created.created
    assert not progress.events
    assert progress.header.revision == 1


# ---- logs ------------------------------------------------------------------------------------------------------------


READY = "ready to serve client requests"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_logs_are_json_with_level_time_and_message(start: Start) -> None:
    node = start("--logger=zap", "--log-outputs=stderr")
    wait_until(lambda: READY in node.log(), 10, "it is ready")  # once the cluster's version is decided
    logged = lines(node.log())
    assert all({"level", "ts", "msg"} <= line.keys() for line in logged)
    assert any(line["msg"] == READY for line in logged)


def test_logs_go_where_they_are_told_to(start: Start, tmp_path: Path) -> None:
    node = start(f"--log-outputs={tmp_path / 'a.log'},{tmp_path / 'b.log'}")
    wait_until(lambda: READY in (tmp_path / "b.log").read_text(), 60, "it is ready")
    node.stop()  # a line that is written meanwhile would be in one of them only
    assert (tmp_path / "a.log").read_text() == (tmp_path / "b.log").read_text()
    assert READY not in node.log()


def test_logs_hold_what_is_as_grave_as_asked(start: Start) -> None:
    levels = {line["level"] for line in lines(start("--log-level=error", name="quiet").log())}
    assert levels <= {"error", "panic", "fatal"}
    assert "debug" in {line["level"] for line in lines(start("--log-level=debug", name="loud").log())}


def test_a_request_that_is_slow_to_apply_is_logged(start: Start) -> None:
    slow = start("--experimental-warning-apply-duration=1ns", name="slow")
    usual = start("--experimental-warning-apply-duration=1h", name="usual")
    words = "apply request took too long"
    for node in (slow, usual):
        put(node, b"a")
    wait_until(lambda: words in slow.log(), 60, "the slow request is logged")
    assert words not in usual.log()


# ---- HTTP and health -------------------------------------------------------------------------------------------------


def test_plain_http_leaves_the_client_urls_for_those_of_its_own(program: Program, tmp_path: Path) -> None:
    http_url = f"http://127.0.0.1:{free_port()}"
    node = Node(program, tmp_path, flags=(f"--listen-client-http-urls={http_url}",))
    try:
        node.start()
        wait_until(lambda: fetch_json(f"{http_url}/health") == {"health": "true", "reason": ""}, 60, "it is healthy")
        assert put(node, b"a") == 2
        assert fetch_json(f"{http_url}/version")["etcdserver"] == "3.5.30"
        assert fetch_json(f"{node.endpoint}/version") is None
        with grpc.insecure_channel(
            http_url.removeprefix("http://"), options=(("grpc.enable_http_proxy", 0),)
        ) as channel:
            status = channel.unary_unary("/etcdserverpb.Maintenance/Status", None, None)
            with pytest.raises(grpc.RpcError):
                status(b"", timeout=10)
    finally:
        node.kill()


def test_health_says_not_serving_while_the_store_is_defragmented_if_asked(start: Start) -> None:
    node = start("--experimental-stop-grpc-service-on-defrag")
    options = (("grpc.enable_http_proxy", 0),)
    with grpc.insecure_channel(f"127.0.0.1:{node.client_port}", options=options) as channel:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=rpc.HealthCheckRequest.SerializeToString,
            response_deserializer=rpc.HealthCheckResponse.FromString,
        )
        told: Any = watch(rpc.HealthCheckRequest(), timeout=60)
        assert next(told).status == rpc.HealthCheckResponse.SERVING
        call(node, "Maintenance/Defragment", rpc.DefragmentRequest(), rpc.DefragmentResponse, timeout_s=60)
        assert next(told).status == rpc.HealthCheckResponse.NOT_SERVING
        assert next(told).status == rpc.HealthCheckResponse.SERVING
        told.cancel()


# ---- the rest --------------------------------------------------------------------------------------------------------


def test_a_config_file_is_all_that_counts(program: Program, tmp_path: Path) -> None:
    node = Node(program, tmp_path)
    settings = tmp_path / "node.yaml"
    settings.write_text(
        f"name: filed\ndata-dir: {tmp_path / 'filed'}\n"
        f"listen-client-urls: {node.endpoint}\nadvertise-client-urls: {node.endpoint}\n"
        f"listen-peer-urls: {node.peer_url}\ninitial-advertise-peer-urls: {node.peer_url}\n"
        f"initial-cluster: filed={node.peer_url}\n"
    )
    node.flags = (f"--config-file={settings}",)
    node.environment = {"ETCD_NAME": "variable"}
    with node:
        (member,) = call(node, "Cluster/MemberList", rpc.MemberListRequest(), rpc.MemberListResponse).members
        assert member.name == "filed"
        assert not node.data_dir.exists()


def test_variables_count_where_no_flag_speaks(start: Start, tmp_path: Path) -> None:
    start(environment={"ETCD_WAL_DIR": str(tmp_path / "log")})
    assert list((tmp_path / "log").glob("*.wal"))
