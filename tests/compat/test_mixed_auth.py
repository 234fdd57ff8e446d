"""Users and roles in a cluster of two etcds and one of ours: made through any member, checked by all alike.

Tokens are JWTs where an entry has to reach the log whose rights are out of date, since these carry the revision they
were made at; simple ones where it matters which member knows them.
"""

import json
import random
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from kvorum.etcdpb import auth_pb2
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.state.store import AUTH, AUTH_ROLES, AUTH_USERS, LEASE

from tests.kit.deadline import wait_until
from tests.kit.processes import Cluster, Node, Program
from tests.kit.tables import tables_of
from tests.kit.users import (
    DENIED,
    EMPTY,
    INVALID,
    OK,
    OLD,
    WRONG,
    Client,
    Stream,
    nested,
    put_op,
    range_op,
    turn_on,
    watch,
)

TABLES = (AUTH, AUTH_USERS, AUTH_ROLES, LEASE)
READY_S = 60.0
CHANGES = 200  # at random; about half of them are refused
FLAGS = ("--heartbeat-interval=100", "--election-timeout=2000", "--bcrypt-cost=4")  # who leads stays the same
EXPIRING, FOREIGN = 11, 12  # leases
LEASE_S = 600
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy is not for 127.0.0.1


@contextmanager
def mixed_cluster(reference: Program, subject: Program, folder: Path, *, signed: bool = False) -> Iterator[Cluster]:
    """The third is ours. signed: tokens are JWTs of one key."""
    key = folder / "jwt.key"
    key.write_bytes(b"a secret of this test alone, for HS256")
    tokens = (f"--auth-token=jwt,sign-method=HS256,priv-key={key},ttl=10m",) if signed else ()
    with Cluster([reference, reference, subject], folder, flags=(*FLAGS, *tokens)) as cluster:
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


def test_users_made_through_any_member_are_the_same_on_all(
    reference: Program, subject: Program, tmp_path: Path, show: Callable[[str], None]
) -> None:
    seed = random.randrange(1 << 32)
    show(f"changes of users and roles: seed {seed}")
    with mixed_cluster(reference, subject, tmp_path) as cluster:
        clients = [Client(node) for node in cluster.nodes]
        refused: set[str] = set()
        rng = random.Random(seed)
        for method, request in changes(rng):
            code, text = rng.choice(clients).outcome(f"Auth/{method}", request)
            if code:
                refused.add(text)
        assert len(refused) > 4, refused
        assert clients[2].put("a") == OK
        equal(cluster, clients)
        for node in cluster.nodes:
            node.stop()
        tables = [tables_of(node, TABLES) for node in cluster.nodes]
        assert tables == [tables[0]] * 3, f"seed {seed}"
        names = [name for table in (AUTH_USERS, AUTH_ROLES) for name, _ in tables[0][table]]
        assert {b"many", b"u\xff", b"\xfe"} <= set(names), f"seed {seed}: {names}"


def test_what_a_user_may_do_he_may_do_at_every_member(reference: Program, subject: Program, tmp_path: Path) -> None:
    with mixed_cluster(reference, subject, tmp_path, signed=True) as cluster:
        first, second, ours = (Client(node) for node in cluster.nodes)
        ours.done("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=FOREIGN, TTL=LEASE_S))
        assert ours.put("foreign", lease=FOREIGN) == OK
        turn_on(ours)
        alice = ours.signed_in("alice", "a")
        roots = [
            first.signed_in("root", "r"),
            ours.signed_in("root", "r").at(second.node),
            second.signed_in("root", "r").at(ours.node),
        ]
        root, ours_root = roots[0], roots[2]
        alices = [alice.at(node) for node in cluster.nodes]
        for one, nobody in zip(alices, (first, second, ours), strict=True):
            checked(root, one, nobody)
        equal(cluster, roots)

        # Started again, ours knows everybody as before; and it leads.
        ours.node.restart()
        ours, ours_root = Client(ours.node), ours_root.at(ours.node)
        wait_until(ours.node.is_healthy, READY_S, "ours follows again")
        roots = [*roots[:2], ours_root]
        lead(roots, ours_root)
        for one, nobody in zip(alices, (first, second, ours), strict=True):
            checked(root, one.at(one.node), nobody)
        equal(cluster, roots)

        # Rights that were changed count from then on, and a token from before counts no more.
        grant = rpc.AuthRoleGrantPermissionRequest(name="own", perm={"permType": "WRITE", "key": b"x"})
        ours_root.done("Auth/RoleGrantPermission", grant)
        wait_until(lambda: all(one.get("a") == OLD for one in alices), READY_S, "all have applied it")
        assert [one.put("x") for one in alices] == [OLD] * 3
        alice = second.signed_in("alice", "a").at(ours.node)
        roots = [ours.signed_in("root", "r").at(node) for node in cluster.nodes]
        root = roots[0]
        assert (alice.put("x"), alice.put("y")) == (OK, DENIED)

        # A lease expires by the clock of ours, though what hangs on it is root's alone.
        root.done("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=EXPIRING, TTL=5))
        assert root.put("roots", lease=EXPIRING) == OK
        assert renewed(roots[1], EXPIRING)
        assert renewed(roots[2], EXPIRING)
        wait_until(lambda: not root.count("roots"), READY_S, "the lease expires")
        assert roots[2].status().leader == roots[2].status().header.member_id
        equal(cluster, roots)

        # With an alarm an etcd asks nobody who he is, and ours goes on asking its own clients.
        root.done("Maintenance/Alarm", rpc.AlarmRequest(action="ACTIVATE", memberID=7, alarm="NOSPACE"))
        wait_until(lambda: alice.at(first.node).delete("foreign") == OK, READY_S, "the etcd has heard of it")
        assert (alice.delete("foreign"), alice.outcome("Auth/AuthDisable", rpc.AuthDisableRequest())) == (
            DENIED,
            DENIED,
        )
        root.done("Maintenance/Alarm", rpc.AlarmRequest(action="DEACTIVATE", memberID=7, alarm="NOSPACE"))
        equal(cluster, roots)

        ours_root = roots[2]
        ours_root.done("Auth/AuthDisable", rpc.AuthDisableRequest())
        wait_until(lambda: [one.put("again") for one in (first, second, ours)] == [OK] * 3, READY_S, "it is off")
        equal(cluster, [first, second, ours])
        for node in cluster.nodes:
            node.stop()
        tables = [tables_of(node, TABLES) for node in cluster.nodes]
        assert tables == [tables[0]] * 3


def test_a_simple_token_of_one_member_counts_at_the_others_until_its_user_is_changed(
    reference: Program, subject: Program, tmp_path: Path
) -> None:
    with mixed_cluster(reference, subject, tmp_path) as cluster:
        clients = [Client(node) for node in cluster.nodes]
        turn_on(clients[2])
        for at in clients:
            token = at.signed_in("alice", "a")
            # At once, whether or not ours has heard of it: it waits until it has. An etcd waits for the entry before.
            assert token.at(clients[2].node).put("a") == OK
            for node in cluster.nodes:
                wait_until(partial(takes, token.at(node)), READY_S, f"{node.name} has heard of it")
            assert [token.at(node).get("r", serializable=True) for node in cluster.nodes] == [OK] * 3
        root = clients[0].signed_in("root", "r")
        tokens = [at.signed_in("alice", "a") for at in clients]
        root.at(clients[2].node).done(
            "Auth/UserChangePassword", rpc.AuthUserChangePasswordRequest(name="alice", password="b")
        )
        wait_until(lambda: [token.put("a") for token in tokens] == [INVALID] * 3, READY_S, "all have heard of it")
        for at in clients:
            assert at.outcome("Auth/Authenticate", rpc.AuthenticateRequest(name="alice", password="a")) == WRONG
            assert at.signed_in("alice", "b").put("a") == OK

        # A member that was started anew remembers no token; who asks there signs in again.
        ours = clients[2].node
        token = clients[0].signed_in("alice", "b")
        ours.stop()
        ours.start()
        wait_until(ours.is_healthy, READY_S, "ours is back")
        assert token.at(ours).put("a") in (INVALID, OK)  # OK where it read the sign-in again, out of its log
        assert Client(ours).signed_in("alice", "b").put("a") == OK


def takes(client: Client) -> bool:
    return client.put("a") == OK


def renewed(client: Client, lease_id: int) -> bool:
    stream = Stream(client, "Lease/LeaseKeepAlive", rpc.LeaseKeepAliveResponse)
    stream.write(rpc.LeaseKeepAliveRequest(ID=lease_id))
    answer = stream.read()
    stream.close()
    return bool(answer.TTL)


def checked(root: Client, alice: Client, nobody: Client) -> None:
    """What is permitted and refused, at the member that alice and nobody ask."""
    assert [root.put(key) for key in ("a", "b", "r", "z")] == [OK] * 4
    assert [nobody.put("a"), nobody.delete("a"), nobody.get("a"), nobody.get("a", serializable=True)] == [EMPTY] * 4
    assert [alice.put("a1"), alice.put("a2", prev_kv=True), alice.delete("a", "b"), alice.get("r", "s")] == [OK] * 4
    assert [alice.put("b"), alice.put("r"), alice.delete("a", "c"), alice.delete("a", "\0")] == [DENIED] * 4
    assert [alice.get("b"), alice.get("a", "s"), alice.get("a", "\0", serializable=True)] == [DENIED] * 3
    assert alice.put("a", lease=FOREIGN) == DENIED
    assert alice.outcome("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=FOREIGN)) == DENIED
    assert [
        alice.txn(put_op("a"), compare="r"),
        alice.txn(put_op("a1"), nested(put_op("a3"), compare="r")),
        alice.txn(range_op("r")),
    ] == [OK] * 3
    assert [
        alice.txn(put_op("a"), compare="z"),
        alice.txn(put_op("a"), put_op("z")),
        alice.txn(put_op("a"), failure=(put_op("z"),)),
        alice.txn(put_op("a"), nested(put_op("z"))),
        alice.txn(put_op("a"), nested(compare="z")),
        alice.txn(put_op("a", lease=FOREIGN)),
        alice.txn(range_op("z")),
        alice.txn(range_op("r"), failure=(range_op("z"),)),
    ] == [DENIED] * 8
    for key, reason in (("r", ""), ("z", "rpc error: code = PermissionDenied desc = etcdserver: permission denied")):
        stream = watch(alice, key)
        assert stream.read().cancel_reason == reason
        stream.close()
