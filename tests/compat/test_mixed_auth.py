"""Users and roles in a cluster of two etcds and one of ours: made through the etcds, applied by all alike.

Ours takes no client while authentication is on, votes and leads all the same, and serves again when it is off. Tokens
are JWTs, since these carry the revision they were made at: so an entry can reach the log whose rights are out of date.
"""

import json
import random
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from kvorum.etcdpb import auth_pb2
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.state.store import AUTH, AUTH_ROLES, AUTH_USERS, LEASE

from tests.kit.deadline import wait_until
from tests.kit.processes import Cluster, Node, Program
from tests.kit.tables import tables_of

TABLES = (AUTH, AUTH_USERS, AUTH_ROLES, LEASE)
READY_S = 60.0
CHANGES = 200  # at random; about half of them are refused
FLAGS = ("--heartbeat-interval=100", "--election-timeout=2000")  # who leads stays the same on a busy machine
EXPIRING, FOREIGN = 11, 12  # leases
LEASE_S = 600
OK = (0, "")
DENIED = (7, "etcdserver: permission denied")
EMPTY = (3, "etcdserver: user name is empty")
OLD = (3, "etcdserver: revision of auth store is old")
UNAVAILABLE, UNIMPLEMENTED = 14, 12
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy is not for 127.0.0.1

Answer = TypeVar("Answer", bound=Message)


class Client:
    """Plain calls to one node, with a token or without."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.channel = grpc.insecure_channel(f"127.0.0.1:{node.client_port}", options=(("grpc.enable_http_proxy", 0),))
        self.token = ""

    def call(self, path: str, request: Message, answer: type[Answer]) -> Answer:
        """Raises grpc.RpcError. path: like KV/Put."""
        method = self.channel.unary_unary(
            f"/etcdserverpb.{path}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        found = method(request, timeout=10, metadata=self.metadata)
        assert isinstance(found, answer)
        return found

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", self.token),) if self.token else ()

    def outcome(self, path: str, request: Message) -> tuple[int, str]:
        """The status it is answered with."""
        try:
            self.call(path, request, rpc.AuthEnableResponse)  # of whatever comes only the header is read
        except grpc.RpcError as refused:
            code = refused.code()
            assert isinstance(code, grpc.StatusCode)
            return code.value[0], refused.details() or ""
        return OK

    def signed_in(self, name: str, password: str) -> "Client":
        other = Client(self.node)
        request = rpc.AuthenticateRequest(name=name, password=password)
        other.token = self.call("Auth/Authenticate", request, rpc.AuthenticateResponse).token
        return other

    def put(self, key: str, **options: Any) -> tuple[int, str]:
        return self.outcome("KV/Put", rpc.PutRequest(key=key.encode(), value=b"v", **options))

    def delete(self, key: str, range_end: str = "") -> tuple[int, str]:
        return self.outcome("KV/DeleteRange", rpc.DeleteRangeRequest(key=key.encode(), range_end=range_end.encode()))

    def txn(
        self, *success: rpc.RequestOp, compare: str = "", failure: tuple[rpc.RequestOp, ...] = ()
    ) -> tuple[int, str]:
        compares = [rpc.Compare(key=compare.encode())] if compare else []
        return self.outcome("KV/Txn", rpc.TxnRequest(compare=compares, success=success, failure=failure))

    def count(self, key: str) -> int:
        return self.call("KV/Range", rpc.RangeRequest(key=key.encode()), rpc.RangeResponse).count

    def status(self) -> rpc.StatusResponse:
        return self.call("Maintenance/Status", rpc.StatusRequest(), rpc.StatusResponse)

    def done(self, path: str, request: Message) -> None:
        assert self.outcome(path, request) == OK, (path, request)


def put_op(key: str, **options: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key.encode(), value=b"t", **options))


def nested(*success: rpc.RequestOp, compare: str = "") -> rpc.RequestOp:
    compares = [rpc.Compare(key=compare.encode())] if compare else []
    return rpc.RequestOp(request_txn=rpc.TxnRequest(compare=compares, success=success))


@contextmanager
def mixed_cluster(reference: Program, subject: Program, folder: Path) -> Iterator[Cluster]:
    key = folder / "jwt.key"
    key.write_bytes(b"a secret of this test alone, for HS256")
    with_tokens = (*FLAGS, "--bcrypt-cost=4", f"--auth-token=jwt,sign-method=HS256,priv-key={key},ttl=10m")
    cluster = Cluster([reference, reference, subject], folder)
    for node in cluster.nodes:
        node.flags = FLAGS if node.program is subject else with_tokens
    with cluster:
        yield cluster


def changes(rng: random.Random) -> Iterator[tuple[str, Message]]:
    """Changes of few users and few roles, so that many meet."""
    users, roles, keys = ["u1", "u2", "u3", "root"], ["r1", "r2", "root"], [b"a", b"b", b"c"]
    ends = [b"", b"\0", b"b", b"c", b"d"]

    def perm() -> rpc.Permission:
        kind = rng.choice((rpc.Permission.READ, rpc.Permission.WRITE, rpc.Permission.READWRITE))
        return rpc.Permission(permType=kind, key=rng.choice(keys), range_end=rng.choice(ends))

    kinds: list[Callable[[], tuple[str, Message]]] = [
        lambda: (
            "UserAdd",
            rpc.AuthUserAddRequest(name=rng.choice(users), password="p", options={"no_password": rng.random() < 0.2}),
        ),
        lambda: ("UserDelete", rpc.AuthUserDeleteRequest(name=rng.choice(users))),
        lambda: ("UserChangePassword", rpc.AuthUserChangePasswordRequest(name=rng.choice(users), password="q")),
        lambda: ("UserGrantRole", rpc.AuthUserGrantRoleRequest(user=rng.choice(users), role=rng.choice(roles))),
        lambda: ("UserGrantRole", rpc.AuthUserGrantRoleRequest(user=rng.choice(users), role=rng.choice(roles))),
        lambda: ("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name=rng.choice(users), role=rng.choice(roles))),
        lambda: ("RoleAdd", rpc.AuthRoleAddRequest(name=rng.choice(roles))),
        lambda: ("RoleDelete", rpc.AuthRoleDeleteRequest(role=rng.choice(roles))),
        *[lambda: ("RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name=rng.choice(roles), perm=perm()))] * 5,
        lambda: (
            "RoleRevokePermission",
            rpc.AuthRoleRevokePermissionRequest(
                role=rng.choice(roles), key=rng.choice(keys), range_end=rng.choice(ends)
            ),
        ),
    ]
    for _ in range(CHANGES):
        yield rng.choice(kinds)()
    # Names that are no UTF-8, which the API's own messages cannot hold here and etcd takes all the same.
    yield "UserAdd", auth_pb2.UserAdd(name=b"u\xff", password=b"p")
    yield "RoleAdd", auth_pb2.RoleAdd(name=b"\xfe")
    yield "UserGrantRole", auth_pb2.UserGrantRole(user=b"u\xff", role=b"\xfe")
    # More of one key than Go's sort keeps in their order, and one given over and over, as scripts do.
    yield "RoleAdd", rpc.AuthRoleAddRequest(name="many")
    for _ in range(40):
        yield "RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name="many", perm=perm())


def hash_of(node: Node, revision: int) -> dict[str, Any]:
    """HashKV as members ask each other for it, which needs no user."""
    request = urllib.request.Request(
        f"{node.peer_url}/members/hashkv", data=json.dumps({"revision": revision}).encode(), method="GET"
    )
    with _DIRECT.open(request, timeout=10) as answer:
        found = json.loads(answer.read())
    assert isinstance(found, dict)
    return found


def equal(cluster: Cluster, clients: list[Client]) -> None:
    """All are at one revision, and at each revision so far their keys are the same."""
    wait_until(lambda: len({client.status().header.revision for client in clients}) == 1, READY_S, "one revision")
    for revision in range(2, clients[0].status().header.revision + 1):
        hashes = [hash_of(node, revision)["hash"] for node in cluster.nodes]
        assert len(set(hashes)) == 1, (revision, hashes)


def lead(clients: list[Client], target: Client) -> None:
    """Has a node made the leader, by an etcd that leads."""
    wanted = target.status().header.member_id

    def leads() -> bool:
        leader = target.status().leader
        for client in clients:
            if leader not in (0, wanted) and client.status().header.member_id == leader:
                client.outcome("Maintenance/MoveLeader", rpc.MoveLeaderRequest(targetID=wanted))
        return leader == wanted

    wait_until(leads, READY_S, f"{target.node.describe()} leads")


def refuses_everybody(ours: Client) -> None:
    """With a word on where to go, and the code that clients take to another endpoint."""
    for path, request in (
        ("KV/Range", rpc.RangeRequest(key=b"a", serializable=True)),
        ("KV/Range", rpc.RangeRequest(key=b"a")),
        ("KV/Put", rpc.PutRequest(key=b"a")),
        ("KV/Txn", rpc.TxnRequest()),
        ("KV/Compact", rpc.CompactionRequest(revision=2)),
        ("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=60)),
        ("Lease/LeaseLeases", rpc.LeaseLeasesRequest()),
        ("Cluster/MemberList", rpc.MemberListRequest()),
        ("Maintenance/HashKV", rpc.HashKVRequest()),
        ("Maintenance/Alarm", rpc.AlarmRequest()),
        ("Auth/Authenticate", rpc.AuthenticateRequest(name="root", password="r")),
        ("Auth/AuthDisable", rpc.AuthDisableRequest()),
    ):
        code, text = ours.outcome(path, request)
        assert code == UNAVAILABLE, (path, code, text)
        assert "ask an etcd member" in text
        assert "disable authentication" in text
    assert ours.status().header.member_id
    assert ours.node.is_healthy()


class OpenStreams:
    """A watch and a keep-alive of a node, opened before authentication is on."""

    def __init__(self, client: Client) -> None:
        self._go_on = threading.Event()
        create = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"a"))
        self.watch = client.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=rpc.WatchRequest.SerializeToString,
            response_deserializer=rpc.WatchResponse.FromString,
        )(iter([create]), timeout=60)
        assert next(iter(self.watch)).created
        self.keep_alive = client.channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=rpc.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=rpc.LeaseKeepAliveResponse.FromString,
        )(self._renewals(), timeout=60)
        assert next(iter(self.keep_alive)).TTL == LEASE_S

    def _renewals(self) -> Iterator[rpc.LeaseKeepAliveRequest]:
        yield rpc.LeaseKeepAliveRequest(ID=FOREIGN)
        self._go_on.wait(60)
        yield rpc.LeaseKeepAliveRequest(ID=FOREIGN)

    def ends(self) -> list[tuple[int, str]]:
        """How the watch ended by itself, and then the keep-alive at its next renewal."""
        watch = self._end(self.watch)
        self._go_on.set()
        return [watch, self._end(self.keep_alive)]

    def _end(self, stream: Any) -> tuple[int, str]:
        try:
            for _ in stream:
                pass
        except grpc.RpcError as ended:
            code = ended.code()
            assert isinstance(code, grpc.StatusCode)
            return code.value[0], ended.details() or ""
        return OK


def test_users_made_through_etcds_are_the_same_on_ours(
    reference: Program, subject: Program, tmp_path: Path, show: Callable[[str], None]
) -> None:
    seed = random.randrange(1 << 32)
    show(f"changes of users and roles: seed {seed}")
    with mixed_cluster(reference, subject, tmp_path) as cluster:
        clients = [Client(node) for node in cluster.nodes]
        ours = clients[2]
        if subject.engine == "kvorum":
            code, text = ours.outcome("Auth/UserAdd", rpc.AuthUserAddRequest(name="x", password="x"))
            assert (code, "ask an etcd member" in text) == (UNIMPLEMENTED, True)
        off = (9, "etcdserver: authentication is not enabled")
        assert [c.outcome("Auth/Authenticate", rpc.AuthenticateRequest(name="a")) for c in clients] == [off] * 3

        refused: set[str] = set()
        rng = random.Random(seed)
        for method, request in changes(rng):
            code, text = rng.choice(clients[:2]).outcome(f"Auth/{method}", request)
            if code:
                refused.add(text)
        assert len(refused) > 4, refused
        assert ours.put("a") == OK
        equal(cluster, clients)
        for node in cluster.nodes:
            node.stop()
        tables = [tables_of(node, TABLES) for node in cluster.nodes]
        assert tables == [tables[0]] * 3, f"seed {seed}"
        names = [name for table in (AUTH_USERS, AUTH_ROLES) for name, _ in tables[0][table]]
        assert {b"many", b"u\xff", b"\xfe"} <= set(names), f"seed {seed}: {names}"


def test_ours_leads_etcds_whose_users_are_checked_and_serves_again_afterwards(
    reference: Program, subject: Program, tmp_path: Path
) -> None:
    with mixed_cluster(reference, subject, tmp_path) as cluster:
        first, second, ours = (Client(node) for node in cluster.nodes)
        ours.done("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=FOREIGN, TTL=LEASE_S))
        assert ours.put("foreign", lease=FOREIGN) == OK
        set_up_users(first)
        streams = OpenStreams(ours)
        first.done("Auth/AuthEnable", rpc.AuthEnableRequest())

        # Ours ends what is open, and refuses what comes.
        for code, text in streams.ends():
            assert (code, "authentication is on" in text) == (UNAVAILABLE, True), text
        wait_until(lambda: ours.put("a") != EMPTY, READY_S, "ours has heard of it")
        refuses_everybody(ours)

        root, alice = first.signed_in("root", "r"), second.signed_in("alice", "a")
        roots = [root, second.signed_in("root", "r")]
        checked_everywhere(root, alice, second)
        equal(cluster, [*roots, ours])

        # Started again, it is as it was; and it leads.
        ours.node.restart()
        ours = Client(ours.node)
        wait_until(ours.node.is_healthy, READY_S, "ours follows again")
        refuses_everybody(ours)
        lead(roots, ours)
        refuses_everybody(ours)
        checked_everywhere(root, alice, second)
        equal(cluster, [*roots, ours])

        # Rights that were changed count from then on, and a token from before counts no more.
        grant = rpc.AuthRoleGrantPermissionRequest(name="own", perm={"permType": rpc.Permission.WRITE, "key": b"x"})
        root.done("Auth/RoleGrantPermission", grant)
        assert alice.put("x") == OLD
        alice = second.signed_in("alice", "a")
        roots = [node.signed_in("root", "r") for node in (first, second)]
        root = roots[0]
        assert (alice.put("x"), alice.put("y")) == (OK, DENIED)

        # A lease expires by the clock of ours, though what hangs on it is root's alone.
        root.done("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=EXPIRING, TTL=5))
        assert root.put("roots", lease=EXPIRING) == OK
        wait_until(lambda: not root.count("roots"), READY_S, "the lease expires")
        assert ours.status().leader == ours.status().header.member_id
        equal(cluster, [*roots, ours])

        # With an alarm etcd asks nobody who he is, so neither does ours.
        root.done("Maintenance/Alarm", rpc.AlarmRequest(action="ACTIVATE", memberID=7, alarm="NOSPACE"))
        assert alice.delete("foreign") == OK
        root.done("Maintenance/Alarm", rpc.AlarmRequest(action="DEACTIVATE", memberID=7, alarm="NOSPACE"))
        equal(cluster, [*roots, ours])

        root.done("Auth/AuthDisable", rpc.AuthDisableRequest())
        wait_until(lambda: ours.put("again") == OK, READY_S, "ours serves again")
        assert (ours.count("again"), ours.outcome("Cluster/MemberList", rpc.MemberListRequest())) == (1, OK)
        equal(cluster, [first, second, ours])
        for node in cluster.nodes:
            node.stop()
        tables = [tables_of(node, TABLES) for node in cluster.nodes]
        assert tables == [tables[0]] * 3


def set_up_users(client: Client) -> None:
    client.done("Auth/UserAdd", rpc.AuthUserAddRequest(name="root", password="r"))
    client.done("Auth/UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root"))
    client.done("Auth/RoleAdd", rpc.AuthRoleAddRequest(name="own"))
    for kind, key, range_end in ((rpc.Permission.READWRITE, b"a", b"b"), (rpc.Permission.READ, b"r", b"s")):
        perm = rpc.Permission(permType=kind, key=key, range_end=range_end)
        client.done("Auth/RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name="own", perm=perm))
    client.done("Auth/UserAdd", rpc.AuthUserAddRequest(name="alice", password="a"))
    client.done("Auth/UserGrantRole", rpc.AuthUserGrantRoleRequest(user="alice", role="own"))


def checked_everywhere(root: Client, alice: Client, nobody: Client) -> None:
    """What etcd permits and refuses; that ours did the same shows when all are equal."""
    assert [root.put(key) for key in ("a", "b", "r", "z")] == [OK] * 4
    assert [nobody.put("a"), nobody.delete("a")] == [EMPTY] * 2
    assert [alice.put("a1"), alice.put("a2", prev_kv=True), alice.delete("a", "b")] == [OK] * 3
    assert [alice.put("b"), alice.put("r"), alice.delete("a", "c"), alice.delete("a", "\0")] == [DENIED] * 4
    assert alice.put("a", lease=FOREIGN) == DENIED
    assert alice.outcome("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=FOREIGN)) == DENIED
    assert [
        alice.txn(put_op("a"), compare="r"),
        alice.txn(put_op("a1"), nested(put_op("a3"), compare="r")),
    ] == [OK] * 2
    assert [
        alice.txn(put_op("a"), compare="z"),
        alice.txn(put_op("a"), put_op("z")),
        alice.txn(put_op("a"), failure=(put_op("z"),)),
        alice.txn(put_op("a"), nested(put_op("z"))),
        alice.txn(put_op("a"), nested(compare="z")),
        alice.txn(put_op("a", lease=FOREIGN)),
    ] == [DENIED] * 6
