"""Refusals that need more than a request: several members, a lost quorum, a full disk. etcd and our node alike.

What a request to a single member can be refused with is in test_differential.py.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from kvorum.client import AlarmType, Client, ClientError, Put, Txn
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.deadline import wait_until, wait_until_async
from tests.kit.etcdctl import Etcdctl
from tests.kit.processes import Cluster, Node, Program

NOT_FOUND, EXHAUSTED, PRECONDITION, UNKNOWN, UNAVAILABLE, TOO_LATE = 5, 8, 9, 2, 14, 4
NO_SPACE = (EXHAUSTED, "etcdserver: mvcc: database space exceeded")
FOR_LEARNERS = (UNAVAILABLE, "etcdserver: rpc not supported for learner")
UNHEALTHY = (UNAVAILABLE, "etcdserver: unhealthy cluster")
TIMED_OUT = (UNAVAILABLE, "etcdserver: request timed out")
MIB = 1 << 20
CONNECTED_S, ATTEMPTS = 5.0, 8
SETTLED_S = 40.0  # a change that is refused for CONNECTED_S


@pytest.fixture(params=["etcd", "kvorum"], scope="module")
def program(request: pytest.FixtureRequest, reference: Program, subject: Program) -> Program:
    return reference if request.param == "etcd" else subject


@pytest.fixture
def cluster(program: Program, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(program, tmp_path) as cluster:
        yield cluster


async def refusal_of(call: Awaitable[Any]) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        await call
    return caught.value.code, caught.value.text


async def ask(node: Node, path: str, request: Any, metadata: tuple[tuple[str, str], ...] = ()) -> tuple[int, str]:
    """A call with metadata of its own: (0, "") or how it was refused."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{node.client_port}") as channel:
        call: Any = channel.unary_unary(path, None, None)
        try:
            await call(request.SerializeToString(), timeout=20, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return error.code().value[0], error.details() or ""
    return 0, ""


async def leader_first(cluster: Cluster) -> list[Node]:
    """The nodes, the leading one in front."""
    async with Client(cluster.endpoints, timeout_s=10) as client:
        statuses = {node.endpoint: await client.status(node.endpoint) for node in cluster.nodes}
    return sorted(cluster.nodes, key=lambda node: statuses[node.endpoint].member_id != statuses[node.endpoint].leader)


async def until_taken(client: Client, urls: list[str], *, learner: bool) -> int:
    """A member added as soon as the cluster no longer calls itself unhealthy: its id."""

    async def added() -> int:
        try:
            return (await client.member_add(urls, learner)).id
        except ClientError as refusal:
            if (refusal.code, refusal.text) != UNHEALTHY:
                raise
            return 0

    return await wait_until_async(added, SETTLED_S, "a member can be added")


def test_cluster_just_started_takes_no_voter(program: Program, tmp_path: Path) -> None:
    """Until its members have been connected for five seconds. An answer that comes later than that shows nothing."""

    async def outcome(cluster: Cluster) -> tuple[int, str]:
        async with Client(cluster.endpoints, timeout_s=10) as client:
            try:
                await client.member_add(["http://127.0.0.1:1"], learner=False)
            except ClientError as refusal:
                return refusal.code, refusal.text
        return 0, ""

    for attempt in range(ATTEMPTS):
        cluster = Cluster(program, tmp_path / f"{attempt}", flags=("--heartbeat-interval=50", "--election-timeout=500"))
        try:
            cluster.start()
            apart_s = last_seen_apart(cluster)
            cluster.nodes[0].wait_healthy()
            answered = asyncio.run(outcome(cluster))
            if time.monotonic() - apart_s < CONNECTED_S:
                assert answered == UNHEALTHY
                return
        finally:
            cluster.kill()
    raise AssertionError(f"no cluster of {ATTEMPTS} answered within {CONNECTED_S:g} s of its start")


def last_seen_apart(cluster: Cluster) -> float:
    """A moment at which not all members took connections yet; all of them do when this returns."""
    apart_s = time.monotonic()

    def listening() -> bool:
        nonlocal apart_s
        now_s = time.monotonic()
        if all(node.members_by_peers() for node in cluster.nodes):
            return True
        apart_s = now_s
        return False

    wait_until(listening, SETTLED_S, "all members take connections")
    return apart_s


def test_only_the_leader_moves_leadership(cluster: Cluster) -> None:
    async def run() -> None:
        leader, *followers = await leader_first(cluster)
        for follower in followers:
            async with Client([follower.endpoint], timeout_s=10) as client:
                own = (await client.status()).member_id
                refused = await refusal_of(client.move_leader(own))
                assert refused == (PRECONDITION, "etcdserver: not leader")
        async with Client([leader.endpoint], timeout_s=10) as client:
            refused = await refusal_of(client.move_leader(12345))
            assert refused == (PRECONDITION, "etcdserver: bad leader transferee")

    asyncio.run(run())


def test_change_that_could_cost_the_quorum_is_refused(cluster: Cluster) -> None:
    async def run() -> None:
        not_enough = (UNKNOWN, "etcdserver: re-configuration failed due to not enough started members")
        async with Client(cluster.endpoints, timeout_s=10) as client:
            members = await client.members()
            await until_taken(client, ["http://127.0.0.1:1"], learner=False)
            await client.put(b"settled", b"")
            # Four voters, three of them started: with a fifth that never starts there would be three of five.
            await client.member_add(["http://127.0.0.1:2"], learner=False)
            await client.put(b"settled", b"")
            assert await refusal_of(client.member_add(["http://127.0.0.1:3"], learner=False)) == not_enough
            assert await refusal_of(client.member_remove(members[0].id)) == not_enough
            again = await refusal_of(client.member_add([members[0].peer_urls[0]], learner=True))
            assert again in (UNHEALTHY, (PRECONDITION, "etcdserver: Peer URLs already exists"))

    asyncio.run(run())


def test_learner_answers_little(cluster: Cluster, program: Program) -> None:
    async def run() -> None:
        learner = cluster.joining(program, "learner")
        async with Client(cluster.endpoints, timeout_s=10) as client:
            member_id = await until_taken(client, [learner.peer_url], learner=True)
            assert await refusal_of(client.member_add(["http://127.0.0.1:1"], learner=True)) == (
                PRECONDITION,
                "etcdserver: too many learner members in cluster",
            )
            await client.put(b"a", b"1")
            learner.start()
            try:
                learner.wait_serving()
                await answers_of_learner(learner)
                assert (await leader_first(cluster))[0] is not learner
                async with Client([(await leader_first(cluster))[0].endpoint], timeout_s=10) as leading:
                    refused = await refusal_of(leading.move_leader(member_id))
                    assert refused == (PRECONDITION, "etcdserver: bad leader transferee")
                    voter = (await leading.status()).member_id
                    refused = await refusal_of(leading.member_promote(voter))
                    assert refused == (PRECONDITION, "etcdserver: can only promote a learner member")
            finally:
                learner.kill()

    asyncio.run(run())


async def answers_of_learner(learner: Node) -> None:
    async with Client([learner.endpoint], timeout_s=10) as client:

        async def caught_up() -> bool:
            return (await client.get(b"a", serializable=True)) is not None

        await wait_until_async(caught_up, SETTLED_S, "the learner has the key")
        assert (await client.status()).is_learner
        for call in (
            client.get(b"a"),
            client.put(b"a", b"2"),
            client.delete(b"a"),
            client.txn(Txn(success=[Put(b"a", b"2")])),
            client.compact(2),
            client.lease_grant(100),
            client.lease_revoke(1),
            client.lease_time_to_live(1),
            client.leases(),
            client.members(),
            client.members(linearizable=False),
            client.member_remove(1),
            client.member_promote(1),
            client.move_leader(1),
            client.alarms(),
            client.hash_kv(),
            client.defragment(),
        ):
            assert await refusal_of(call) == FOR_LEARNERS, call
    saved = Etcdctl([learner.endpoint]).run("snapshot", "save", str(learner.folder / "backup.db"))
    assert saved.status == 0, saved.error


def test_without_a_quorum_nothing_is_acknowledged(cluster: Cluster) -> None:
    async def run() -> None:
        async with Client(cluster.endpoints, timeout_s=10) as client:
            await client.put(b"a", b"1")
            member = (await client.members())[0].id
        leader, *others = await leader_first(cluster)
        for node in others:
            node.kill()
        # Calls are given up after 5 s and two election timeouts; the rest is the machine's.
        async with Client([leader.endpoint], timeout_s=28) as client:
            # The leader may still lead when the put arrives: etcd words it by what it has noticed.
            code, text = await refusal_of(client.put(b"a", b"2"))
            assert code == UNAVAILABLE
            assert text.startswith((TIMED_OUT[1], "etcdserver: leader changed", "etcdserver: no leader"))
        # An etcd lets any of these wait until the client gives up, and the read mostly not. Ours answers the read.
        ours = leader.program.engine == "kvorum"
        async with Client([leader.endpoint], timeout_s=28 if ours else 10) as client:
            answers = await asyncio.gather(
                refusal_of(client.get(b"a")),
                refusal_of(client.put(b"a", b"3")),
                refusal_of(client.members()),
                refusal_of(client.lease_grant(100)),
                refusal_of(client.member_remove(member)),
            )
            assert {code for code, _ in answers} <= {UNAVAILABLE, TOO_LATE}, answers
            if ours:
                assert answers[0][0] == UNAVAILABLE, answers
                assert answers[0][1].startswith("etcdserver: "), answers
            kv = await client.get(b"a", serializable=True)
            assert kv is not None
            assert kv.value == b"1"
            assert (await client.status()).errors == ("etcdserver: no leader",)
            assert (await client.status()).leader == 0
        put = rpc.PutRequest(key=b"a")
        refused = await ask(leader, "/etcdserverpb.KV/Put", put, (("hasleader", "true"),))
        assert refused == (UNAVAILABLE, "etcdserver: no leader")

    asyncio.run(run())


async def filled(client: Client) -> int:
    """Puts of a MiB until one is refused for lack of space: how many were taken, 200 at most."""
    for taken in range(200):
        try:
            await client.put(b"k%d" % (taken % 3), bytes(MIB))
        except ClientError as refusal:
            if (refusal.code, refusal.text) != NO_SPACE:
                raise
            return taken
    return 200


def test_full_store_takes_only_what_frees_it(program: Program, tmp_path: Path) -> None:
    async def run(node: Node) -> None:
        async with Client([node.endpoint], timeout_s=20) as client:
            member_id = (await client.status()).member_id
            taken = await filled(client)
            assert 10 <= taken < 200

            async def alarmed() -> bool:
                return [(alarm.member_id, alarm.type) for alarm in await client.alarms()] == [
                    (member_id, AlarmType.NOSPACE)
                ]

            await wait_until_async(alarmed, 10, "the alarm is raised")
            assert (await client.status()).errors == (f"memberID:{member_id} alarm:NOSPACE ",)
            for call in (
                client.put(b"small", b""),
                client.txn(Txn(success=[Put(b"small", b"")])),
                client.lease_grant(100),
            ):
                assert await refusal_of(call) == NO_SPACE
            revision = (await client.delete(b"k1")).header.revision
            await client.compact(revision, physical=True)
            await client.defragment()
            assert await refusal_of(client.put(b"small", b"")) == NO_SPACE, "until an operator says so"
            assert [alarm.member_id for alarm in await client.alarm_disarm()] == [member_id]
            await client.put(b"small", b"")
            assert await client.alarms() == ()

    with Node(program, tmp_path, flags=[f"--quota-backend-bytes={24 * MIB}"]) as node:
        asyncio.run(run(node))


def test_lease_that_is_not_renewed_ends_with_its_keys(program: Program, tmp_path: Path) -> None:
    async def run(node: Node) -> None:
        async with Client([node.endpoint], timeout_s=10) as client:
            least = await client.lease_grant(1)
            assert least.ttl_s == 2, "the least there is"
            started = time.monotonic()
            short, kept = await client.lease_grant(4), await client.lease_grant(5)  # the first is not renewed
            await client.put(b"short", b"", lease=short.id)
            await client.put(b"kept", b"", lease=kept.id)

            async def ended() -> bool:
                assert await client.lease_keepalive(kept.id) == 5
                if await client.get(b"short") is not None:
                    return False
                passed_s = time.monotonic() - started
                assert passed_s >= 3.5, "not before its time"
                return passed_s > 6

            await wait_until_async(ended, 20, "one lease ends, the other would have")
            assert await client.lease_keepalive(least.id) == 0
            assert await client.lease_keepalive(short.id) == 0
            assert (await client.lease_time_to_live(short.id)).ttl_s == -1
            assert await client.get(b"kept") is not None
            assert await client.leases() == (kept.id,)
            lost = (NOT_FOUND, "etcdserver: requested lease not found")
            assert await refusal_of(client.put(b"a", b"", lease=short.id)) == lost

    with Node(program, tmp_path) as node:
        asyncio.run(run(node))


def test_unknown_calls_are_named(program: Program, tmp_path: Path) -> None:
    async def run(node: Node) -> None:
        asked = rpc.RangeRequest(key=b"a")
        unimplemented = 12
        assert await ask(node, "/etcdserverpb.KV/Nothing", asked) == (
            unimplemented,
            "unknown method Nothing for service etcdserverpb.KV",
        )
        assert await ask(node, "/nobody.Nothing/Call", asked) == (unimplemented, "unknown service nobody.Nothing")

    with Node(program, tmp_path) as node:
        asyncio.run(run(node))
