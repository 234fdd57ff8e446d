"""Plain HTTP beside gRPC: status, content type and body of every path, on the client port and on the metrics port.

Both engines are asked by the same tables, so that ours are etcd's answers; only /kvorum/v1/member is ours alone.
How HTTP itself is read is tests/unit/kvorum/wire/test_http1.py's.
"""

import asyncio
import http.client
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from kvorum import __version__
from kvorum.client import Client, ClientError, Member
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.deadline import wait_until
from tests.kit.etcd import require_etcd
from tests.kit.ports import free_port
from tests.kit.processes import Cluster, Node, Program, etcd_program, fetch_json, kvorum_program

ELECTION_S = 0.5
QUICK_FLAGS = ("--heartbeat-interval=50", "--election-timeout=500")
ANSWER_S = 30.0  # a read without a quorum is given up after 5 s and two election timeouts; the rest is the machine's
NO_LEADER_S = 20.0  # a leader needs two election timeouts to see that nobody answers it

VERSION_S = 20.0  # the leader looks again every 4 s

PLAIN = "text/plain; charset=utf-8"
JSON = "application/json"
NOT_FOUND = "404 page not found\n"
HEALTHY = '{"health":"true","reason":""}'
TIMED_OUT = "etcdserver: request timed out"


class Answer(NamedTuple):
    status: int
    content_type: str
    body: str
    nosniff: bool  # etcd's own words carry X-Content-Type-Options; what is meant to be parsed does not

    @property
    def lines(self) -> list[str]:
        """etcd reports its checks in whatever order its map has them."""
        return sorted(self.body.split("\n"))


class Expected(NamedTuple):
    request: str  # GET unless a method stands before the path
    status: int
    body: str
    content_type: str = PLAIN
    nosniff: bool = True


@pytest.fixture
def program(engine: str) -> Program:
    return kvorum_program() if engine == "kvorum" else etcd_program()


def ask(port: int, request: str, timeout_s: float = ANSWER_S) -> Answer:
    *method, path = request.split(" ")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method[0] if method else "GET", path)
        answer = connection.getresponse()
        nosniff = answer.getheader("X-Content-Type-Options") == "nosniff"
        return Answer(answer.status, answer.getheader("Content-Type", ""), answer.read().decode(), nosniff)
    finally:
        connection.close()


def require(ports: Iterable[int], table: Sequence[Expected]) -> None:
    """Every line of the table holds at each port. Asked side by side: without a quorum some take seconds."""
    cases = [(port, expected) for port in ports for expected in table]
    with ThreadPoolExecutor(len(cases)) as pool:
        answers = list(pool.map(lambda case: ask(case[0], case[1].request), cases))
    wrong = [
        f"{expected.request} at port {port}: {answer}, not {expected}"
        for (port, expected), answer in zip(cases, answers, strict=True)
        if answer._replace(body="") != Answer(expected.status, expected.content_type, "", expected.nosniff)
        or answer.lines != sorted(expected.body.split("\n"))
    ]
    assert not wrong, "\n".join(wrong)


def metrics_port_of(node: Node) -> int:
    """Gives the node, which is yet to start, a port for metrics."""
    port = free_port()
    node.flags = (*node.flags, f"--listen-metrics-urls=http://127.0.0.1:{port}")
    return port


def healthy(request: str) -> Expected:
    return Expected(request, 200, HEALTHY, PLAIN, nosniff=False)


def unhealthy(request: str, reason: str) -> Expected:
    return Expected(request, 503, f'{{"health":"false","reason":"{reason}"}}\n')


def ok(request: str) -> Expected:
    return Expected(request, 200, "ok\n")


def not_found(request: str) -> Expected:
    return Expected(request, 404, NOT_FOUND)


def not_allowed(request: str) -> Expected:
    return Expected(request, 405, "" if request.startswith("HEAD") else "Method Not Allowed\n")


UNKNOWN = [
    *(not_found(path) for path in ("/", "/nope", "/health/", "/livez/", "/readyz/", "/POST", "POST /nope")),
    *(not_found(path) for path in ("/livez/linearizable_read", "/readyz/nope", "/readyz/serializable_read/nope")),
]
ALIVE = [
    ok("/livez"),
    ok("/livez?exclude=serializable_read"),
    ok("/livez?verbose&exclude=serializable_read"),
    ok("/livez/serializable_read"),
    Expected("/livez?verbose", 200, "[+]serializable_read ok\nok\n"),
    ok("/readyz/serializable_read"),
    healthy("/health?serializable=true"),
]
READY = [
    healthy("/health"),
    healthy("/health?serializable=false"),
    healthy("/health?exclude=NOSPACE"),
    ok("/readyz"),
    ok("/readyz?exclude=nope"),
    ok("/readyz/linearizable_read"),
    ok("/readyz/data_corruption"),
    ok("/readyz/non_learner"),
    Expected("/readyz/linearizable_read?verbose", 200, "[+]linearizable_read ok\nok\n"),
    Expected(
        "/readyz?verbose",
        200,
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n",
    ),
    Expected(
        "/readyz?verbose&exclude=linearizable_read&exclude=non_learner",
        200,
        "[+]data_corruption ok\n[+]serializable_read ok\nok\n",
    ),
]
OTHER_METHODS = [
    not_allowed(f"{method} {path}")
    for method in ("POST", "PUT", "DELETE", "HEAD")
    for path in ("/health", "/livez", "/readyz", "/readyz/linearizable_read")
]
VERSION = Expected("/version", 200, '{"etcdserver":"3.5.30","etcdcluster":"3.5.0"}', JSON, nosniff=False)


# ---- what stands behind a path ---------------------------------------------------------------------------------------


def test_with_a_quorum_every_path_answers_as_etcds(engine: str, program: Program, tmp_path: Path) -> None:
    cluster = Cluster(program, tmp_path)
    node = cluster.nodes[-1]
    ports = [node.client_port, metrics_port_of(node)]
    with cluster:
        require(ports, [*UNKNOWN, *ALIVE, *READY, *OTHER_METHODS])

        def decided() -> bool:
            """Where a member could not be asked yet, both begin with 3.0.0."""
            version: dict[str, str] = fetch_json(f"{node.endpoint}/version")
            return version["etcdcluster"] == "3.5.0"

        wait_until(decided, VERSION_S, "the cluster's version is decided")
        if engine == "kvorum" or require_etcd().version == "3.5.30":
            require(ports[:1], [VERSION])
        require(ports[:1], [not_allowed("POST /version"), not_allowed("HEAD /version"), not_found("/version/")])


def test_without_a_quorum_a_member_is_alive_and_not_ready(program: Program, tmp_path: Path) -> None:
    cluster = Cluster(program, tmp_path, flags=QUICK_FLAGS)
    node, *others = cluster.nodes
    ports = [node.client_port, metrics_port_of(node)]
    with cluster:
        wait_until(
            lambda: (fetch_json(f"{node.endpoint}/version") or {}).get("etcdcluster", "not_decided") != "not_decided",
            VERSION_S,
            "the cluster's version is decided",
        )
        for other in others:
            other.kill()

        def leaderless() -> bool:
            try:
                return "RAFT NO LEADER" in ask(node.client_port, "/health", ELECTION_S).body
            except TimeoutError:  # it still believed in a leader, and waits for that one's answer
                return False

        wait_until(leaderless, NO_LEADER_S, "the member left alone sees no leader")
        failed = f"[-]linearizable_read failed: {TIMED_OUT}\n"
        rest = "[+]data_corruption ok\n[+]serializable_read ok\n"
        # The port for metrics is one of two ways to the same answers: asked for what a kubelet asks.
        require(
            ports,
            [
                *ALIVE,
                unhealthy("/health", "RAFT NO LEADER"),
                unhealthy("/health?exclude=NOSPACE", "RAFT NO LEADER"),
                Expected("/readyz", 503, f"{rest}{failed}[+]non_learner ok\n\n"),
                Expected("/readyz?exclude=non_learner", 503, f"{rest}{failed}\n"),
                Expected("/readyz?verbose", 503, f"{rest}{failed}[+]non_learner ok\n\n"),
                Expected("/readyz/linearizable_read", 503, f"{failed}\n"),
                # Whoever asks for one check by name gets it, whatever is excluded.
                Expected("/readyz/linearizable_read?exclude=linearizable_read", 503, f"{failed}\n"),
                ok("/readyz?exclude=linearizable_read"),
                ok("/readyz/data_corruption"),
            ],
        )
        assert fetch_json(f"{node.endpoint}/version")["etcdcluster"].endswith(".0")


def test_an_alarm_makes_a_member_unhealthy_unless_it_is_excluded(program: Program, tmp_path: Path) -> None:
    with Node(program, tmp_path) as node:
        asyncio.run(raise_alarm(node, "NOSPACE"))
        require(
            [node.client_port],
            [
                unhealthy("/health", "ALARM NOSPACE"),
                unhealthy("/health?serializable=true", "ALARM NOSPACE"),
                unhealthy("/health?exclude=CORRUPT", "ALARM NOSPACE"),
                healthy("/health?exclude=NOSPACE"),
                healthy("/health?exclude=NOSPACE&serializable=true"),
                ok("/readyz"),
                ok("/livez"),
            ],
        )
        asyncio.run(raise_alarm(node, "CORRUPT"))
        corrupt = "[-]data_corruption failed: alarm activated: CORRUPT\n"
        require(
            [node.client_port],
            [
                unhealthy("/health?exclude=NOSPACE", "ALARM CORRUPT"),
                healthy("/health?exclude=NOSPACE&exclude=CORRUPT"),
                Expected("/readyz/data_corruption", 503, f"{corrupt}\n"),
                Expected(
                    "/readyz",
                    503,
                    f"{corrupt}[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n\n",
                ),
                ok("/readyz?exclude=data_corruption"),
                ok("/livez"),
            ],
        )


async def raise_alarm(node: Node, kind: str) -> None:
    async with Client([node.endpoint], timeout_s=10) as client:
        member_id = (await client.status()).member_id
    request = rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, memberID=member_id, alarm=kind)
    with channel_to(node) as channel:
        channel.unary_unary(
            "/etcdserverpb.Maintenance/Alarm",
            request_serializer=rpc.AlarmRequest.SerializeToString,
            response_deserializer=rpc.AlarmResponse.FromString,
        )(request, timeout=10)


def test_a_learner_is_alive_and_not_ready(program: Program, tmp_path: Path) -> None:
    with Cluster(program, tmp_path, members=1) as cluster:
        learner = cluster.joining(program, "learner")
        try:
            join_as_learner(cluster.nodes[0], learner)
            wait_until(lambda: ask(learner.client_port, "/health").status == 200, ANSWER_S, "the learner has a leader")
            refused = "[-]non_learner failed: not supported for learner\n"
            rest = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n"
            require(
                [learner.client_port],
                [
                    *ALIVE,
                    healthy("/health"),
                    Expected("/readyz", 503, f"{rest}{refused}\n"),
                    Expected("/readyz/non_learner", 503, f"{refused}\n"),
                    ok("/readyz/linearizable_read"),
                    ok("/readyz?exclude=non_learner"),
                ],
            )
            assert metrics_at(learner.client_port)["etcd_server_is_learner"] == 1
        finally:
            learner.kill()


def join_as_learner(voter: Node, learner: Node) -> int:
    """The learner's id; it serves when this returns."""

    async def add() -> Member | None:
        async with Client([voter.endpoint], timeout_s=10) as client:
            try:
                return await client.member_add([learner.peer_url], learner=True)
            except ClientError as refusal:  # a cluster that has just formed
                if "unhealthy cluster" in refusal.text:
                    return None
                raise

    member = wait_until(lambda: asyncio.run(add()), ANSWER_S, "a learner is added")
    assert member is not None
    learner.start()
    learner.wait_serving()
    return member.id


# ---- metrics ---------------------------------------------------------------------------------------------------------

# Of the names that dashboards and alerts read, those both engines have. Counters' names end in _total.
METRICS = [
    "etcd_server_has_leader",
    "etcd_server_is_leader",
    "etcd_server_is_learner",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_pending",
    "etcd_server_proposals_failed_total",
    "etcd_server_quota_backend_bytes",
    "etcd_server_slow_apply_total",
    "etcd_server_slow_read_indexes_total",
    "etcd_server_id",
    "etcd_server_version",
    "etcd_cluster_version",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_disk_wal_fsync_duration_seconds_sum",
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_disk_backend_commit_duration_seconds_bucket",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_debugging_mvcc_keys_total",
    "etcd_debugging_mvcc_watcher_total",
    "etcd_debugging_mvcc_slow_watcher_total",
    "etcd_debugging_mvcc_events_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_network_client_grpc_received_bytes_total",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
]


def metrics_at(port: int) -> dict[str, float]:
    """Sums over labels, by name."""
    answer = ask(port, "/metrics")
    assert answer.status == 200
    # The format that every Prometheus reads; etcd says more behind it to newer ones.
    assert answer.content_type.startswith("text/plain; version=0.0.4; charset=utf-8")
    sums: dict[str, float] = {}
    for line in answer.body.splitlines():
        if not line.startswith("#"):
            name, value = line.split("{")[0].split(" ")[0], line.rsplit(" ", 1)[1]
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def test_metrics_have_the_names_that_alerts_read_at_both_ports(program: Program, tmp_path: Path) -> None:
    node = Node(program, tmp_path)
    ports = [node.client_port, metrics_port_of(node)]

    async def write() -> None:
        async with Client([node.endpoint], timeout_s=10) as client:
            for number in range(3):
                await client.put(b"k%d" % number, b"")

    with node:
        before = metrics_at(ports[0])
        asyncio.run(write())
        for port in ports:
            found = metrics_at(port)
            assert [name for name in METRICS if name not in found] == []
            assert (found["etcd_server_has_leader"], found["etcd_server_is_leader"]) == (1, 1)
            assert found["etcd_server_is_learner"] == 0
            for name in ("applied_total", "committed_total"):
                assert found[f"etcd_server_proposals_{name}"] >= before[f"etcd_server_proposals_{name}"] + 3
            for name in ("sent", "received"):
                total = f"etcd_network_client_grpc_{name}_bytes_total"
                assert found[total] > before[total]
            assert found["etcd_debugging_mvcc_keys_total"] == 3
            assert found["etcd_disk_wal_fsync_duration_seconds_count"] > 0


# ---- our own page ----------------------------------------------------------------------------------------------------


def member_at(node: Node) -> dict[str, Any]:
    answer = ask(node.client_port, "/kvorum/v1/member")
    assert (answer.status, answer.content_type) == (200, JSON)
    told = json.loads(answer.body)
    assert isinstance(told, dict)
    return told


def wait_state(node: Node, state: str) -> dict[str, Any]:
    return (
        wait_until(
            lambda: told if (told := member_at(node))["state"] == state else None, ANSWER_S, f"{node.name} is {state}"
        )
        or {}
    )


def test_a_member_tells_what_it_is(tmp_path: Path) -> None:
    cluster = Cluster(kvorum_program(), tmp_path, flags=QUICK_FLAGS)
    metrics_port = metrics_port_of(cluster.nodes[0])
    with cluster:
        learner = cluster.joining(kvorum_program(), "learner", flags=QUICK_FLAGS)
        try:
            learner_id = join_as_learner(cluster.nodes[0], learner)
            asyncio.run(states_are_told(cluster, learner, learner_id, metrics_port))
        finally:
            learner.kill()


async def states_are_told(cluster: Cluster, learner: Node, learner_id: int, metrics_port: int) -> None:
    async with Client(cluster.endpoints, timeout_s=10) as client:
        put = await client.put(b"a", b"1")
        ids = {member.name: member.id for member in await client.members()}
        leader_id = (await client.status()).leader
    by_id = {ids[node.name]: node for node in cluster.nodes}
    for member_id, node in by_id.items():
        told = wait_state(node, "leader" if member_id == leader_id else "follower")
        wait_until(lambda node=node: member_at(node)["revision"] == put.header.revision, ANSWER_S, "a's revision")  # type: ignore[misc]  # bound
        assert (told["name"], told["memberID"]) == (node.name, f"{member_id:x}")
        assert (told["clusterID"], told["leader"]) == (f"{put.header.cluster_id:x}", f"{leader_id:x}")
        assert (told["version"], told["claimedVersion"]) == (__version__, "3.5.30")
        assert (told["reason"], told["term"]) == ("", put.header.raft_term)
        assert 0 < told["appliedIndex"] <= told["commitIndex"]
        assert told["databaseBytes"] > 0
    told = wait_state(learner, "learner")
    assert (told["memberID"], told["leader"]) == (f"{learner_id:x}", f"{leader_id:x}")
    assert json.loads(ask(metrics_port, "/kvorum/v1/member").body)["name"] == cluster.nodes[0].name
    assert ask(metrics_port, "POST /kvorum/v1/member").status == 405
    told_of_peers = ask(metrics_port, "/metrics").body
    for member_id in {*by_id, learner_id} - {ids[cluster.nodes[0].name]}:
        assert f'etcd_network_peer_sent_bytes_total{{To="{member_id:x}"}} ' in told_of_peers
        assert f'etcd_network_peer_received_bytes_total{{From="{member_id:x}"}} ' in told_of_peers
    sums = metrics_at(metrics_port)
    assert sums["etcd_network_peer_sent_bytes_total"] > 0
    assert sums["etcd_network_peer_received_bytes_total"] > 0

    # A member that is told of its own removal, at once and when it starts again.
    removed_id, removed = next(item for item in by_id.items() if item[0] != leader_id)
    async with Client([node.endpoint for node in by_id.values() if node is not removed], timeout_s=10) as client:
        await client.member_remove(removed_id)
        await client.member_remove(learner_id)
    require_removed(removed, removed_id)
    removed.restart()
    require_removed(removed, removed_id)
    wait_state(learner, "removed")

    leader = by_id[leader_id]
    (other,) = (node for node in cluster.nodes if node not in (leader, removed))
    other.kill()
    told = wait_state(leader, "no-quorum")
    assert (told["leader"], told["memberID"]) == ("", f"{leader_id:x}")
    assert "no leader" in told["reason"]


def require_removed(node: Node, member_id: int) -> None:
    told = wait_state(node, "removed")
    assert told["memberID"] == f"{member_id:x}"
    assert "delete its data" in told["reason"]
    assert ask(node.client_port, "/livez").status == 200
    assert ask(node.client_port, "/readyz").status == 503
    assert ask(node.client_port, "/health").status == 503


# ---- gRPC's own health service ---------------------------------------------------------------------------------------


def channel_to(node: Node) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{node.client_port}", options=(("grpc.enable_http_proxy", 0),))


def test_grpcs_health_service_says_serving_of_the_whole_server(program: Program, tmp_path: Path) -> None:
    with Node(program, tmp_path) as node, channel_to(node) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=rpc.HealthCheckRequest.SerializeToString,
            response_deserializer=rpc.HealthCheckResponse.FromString,
        )
        assert check(rpc.HealthCheckRequest(), timeout=10).status == rpc.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as refused:
            check(rpc.HealthCheckRequest(service="nope"), timeout=10)
        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.NOT_FOUND, "unknown service")

        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=rpc.HealthCheckRequest.SerializeToString,
            response_deserializer=rpc.HealthCheckResponse.FromString,
        )
        for service, status in (("", "SERVING"), ("nope", "SERVICE_UNKNOWN")):
            stream: Any = watch(rpc.HealthCheckRequest(service=service), timeout=10)
            assert rpc.HealthCheckResponse.ServingStatus.Name(next(stream).status) == status
            assert stream.is_active()  # it goes on, to tell when that changes
            stream.cancel()
