"""One of ours in a cluster of real etcds: it joins, votes, leads, and holds what they hold."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kvorum.client import Client, ClientError, Compare, CompareTarget, Put, Relation, Txn
from kvorum.state.store import LEASE

from tests.kit.alarms import activate, alarms_are
from tests.kit.deadline import wait_until_async
from tests.kit.etcdctl import Etcdctl
from tests.kit.processes import Cluster, Node, Program
from tests.kit.tables import SHARED, require_same_tables

KEYS = 300
CAUGHT_UP_S = 60.0
CORRUPT_CHECK = ("--experimental-corrupt-check-time=3s",)  # whoever leads compares the others with itself


async def written(client: Client, first: int, count: int) -> None:
    """Puts and deletions."""
    for number in range(first, first + count):
        await client.put(b"k%03d" % (number % 50), b"value %d" % number)
        if number % 7 == 0:
            await client.delete(b"k%03d" % (number % 40))


async def every_kind(client: Client) -> None:
    """Puts, deletions, a transaction, a lease that takes its key with it, and a compaction that leaves a history."""
    await written(client, 0, 20)
    lease = await client.lease_grant(3600)
    absent = Compare(b"leased/c", CompareTarget.VERSION, Relation.EQUAL, 0)
    done = await client.txn(Txn([absent], [Put(b"leased/c", b"", lease=lease.id), Put(b"txn", b"%x" % lease.id)]))
    assert done.succeeded
    assert (await client.lease_time_to_live(lease.id, keys=True)).keys == (b"leased/c",)
    await client.lease_revoke(lease.id)
    assert await client.get(b"leased/c") is None
    await client.compact(done.header.revision - KEYS, physical=True)
    await client.put(b"compacted", b"")  # who has this has compacted, too


async def changed(change: object, what: str) -> object:
    """A change of the members, repeated while a cluster that has just formed refuses it."""

    async def once() -> object:
        try:
            return await change()  # type: ignore[operator]  # a coroutine function
        except ClientError as refusal:
            if "unhealthy cluster" in refusal.text or "in sync with leader" in refusal.text:
                return None
            raise

    return await wait_until_async(once, CAUGHT_UP_S, what)


async def moved(client: Client, leader: int, witness: Node) -> None:
    """Leadership is handed over; a transfer may run out of its two elections' time on a busy machine."""

    async def leads() -> bool:
        if (await client.status(witness.endpoint)).leader == leader:
            return True
        try:
            await client.move_leader(leader)
        except ClientError as refusal:
            if "leader transfer took too long" not in refusal.text:
                raise
        return False

    await wait_until_async(leads, CAUGHT_UP_S, f"{leader:x} leads")


async def equal(client: Client, nodes: Sequence[Node]) -> None:
    """HashKV at every step of the history, alarms, ids of leases, and members: the same everywhere. A lease's time and
    keys are the leader's word by whomever they are asked for: ended_alike() compares each member's own rows."""

    async def level() -> bool:
        revisions = {(await client.status(node.endpoint)).revision for node in nodes}
        return len(revisions) == 1

    await wait_until_async(level, CAUGHT_UP_S, "all nodes are at one revision")
    head = await client.hash_kv(endpoint=nodes[0].endpoint)
    first = max(1, head.compact_revision)
    for revision in range(first + 1, head.header.revision + 1, 20):
        hashes = {(await client.hash_kv(revision, endpoint=node.endpoint)).hash for node in nodes}
        assert len(hashes) == 1, f"at revision {revision}: {hashes}"
    for node in nodes:
        assert (await client.hash_kv(endpoint=node.endpoint)).hash == head.hash, node.describe()

    await equal_alarms(client, nodes)
    leases = [sorted(await client.leases(endpoint=node.endpoint)) for node in nodes]
    assert leases == [leases[0]] * len(nodes)
    members = [node.members_by_peers() for node in nodes]
    assert members == [members[0]] * len(nodes)
    for lease_id in leases[0]:
        attached = []
        for node in nodes:
            async with Client([node.endpoint], timeout_s=10) as one:
                life = await one.lease_time_to_live(lease_id, keys=True)
            attached.append((life.granted_ttl_s, sorted(life.keys)))
        assert attached == [attached[0]] * len(nodes)


async def equal_alarms(client: Client, nodes: Sequence[Node]) -> None:
    """An alarm raised of each member is told by every node, and by none after it is disarmed."""
    ids = [(await client.status(node.endpoint)).member_id for node in nodes]
    for member_id in ids:
        await activate(nodes[0], member_id)
    wanted = {(member_id, "NOSPACE") for member_id in ids}
    await wait_until_async(lambda: alarms_are(nodes, wanted), CAUGHT_UP_S, "every node tells the alarms")
    assert len(await client.alarm_disarm()) == len(ids)
    await wait_until_async(lambda: alarms_are(nodes, set()), CAUGHT_UP_S, "no node tells an alarm")


def ended_alike(nodes: Sequence[Node], *, and_members: Sequence[Node]) -> None:
    """All of these nodes end, and each has stored the same; and_members: those that know of every member, too."""
    for node in nodes:
        node.stop()
    rows = require_same_tables(nodes, SHARED)
    assert len(rows[LEASE]) == 1, "the lease is there"
    require_same_tables(and_members)


async def told_everywhere(member_id: int, nodes: Sequence[Node]) -> dict[str, Any]:
    """A member's entry once it has said its name and the last of the nodes has heard it."""

    async def published() -> dict[str, Any] | None:
        found = [entry for node in nodes for entry in node.members_by_peers() if entry["id"] == member_id]
        return found[-1] if sum(bool(entry.get("clientURLs")) for entry in found) == len(nodes) else None

    entry = await wait_until_async(published, CAUGHT_UP_S, "the new member tells its client URLs")
    assert entry is not None
    return entry


async def learner_equal(client: Client, voters: Sequence[Node], learner: Node) -> None:
    """Of a learner, which answers no more than this: all keys at every step of the history, and the members."""

    async def level() -> bool:
        return (await client.status(learner.endpoint)).revision == (await client.status(voters[0].endpoint)).revision

    await wait_until_async(level, CAUGHT_UP_S, "the learner has caught up")
    head = await client.hash_kv(endpoint=voters[0].endpoint)
    for revision in range(max(1, head.compact_revision) + 1, head.header.revision + 1, 20):
        kvs = [
            (await client.range(b"\0", b"\0", revision=revision, serializable=True, endpoint=node.endpoint)).kvs
            for node in (voters[0], learner)
        ]
        assert kvs[0] == kvs[1], f"at revision {revision}"
    assert learner.members_by_peers() == voters[0].members_by_peers()


def test_ours_joins_two_etcds_is_promoted_and_carries_the_quorum(
    reference: Program, subject: Program, tmp_path: Path
) -> None:
    with Cluster(reference, tmp_path, members=2, flags=CORRUPT_CHECK) as etcds:
        ours = etcds.joining(subject, "ours", flags=CORRUPT_CHECK)
        try:
            asyncio.run(story(etcds, ours))
            ended_alike([*etcds.nodes, ours], and_members=etcds.nodes)
        finally:
            ours.kill()
    for node in etcds.nodes:
        assert "hash mismatch" not in node.log(), node.describe()  # the alarms were compared in the story


async def story(etcds: Cluster, ours: Node) -> None:
    first, second = etcds.nodes
    async with Client(etcds.endpoints, timeout_s=10) as client:
        lease = await client.lease_grant(3600, 77)
        for key in (b"leased/a", b"leased/b"):
            await client.put(key, b"", lease=lease.id)
        await written(client, 0, KEYS)
        await client.compact(60, physical=True)

        # A learner first: it gets the log, serves reads of its own and has no vote.
        await changed(lambda: client.member_add([ours.peer_url], learner=True), "a learner is added")
        learner = next(member for member in await client.members() if member.is_learner)
        ours.start()
        ours.wait_serving()
        entry = await told_everywhere(learner.id, [first, second, ours])
        assert (entry["name"], entry["isLearner"], entry["clientURLs"]) == ("ours", True, [ours.endpoint])
        assert (await client.status(ours.endpoint)).is_learner
        await written(client, KEYS, 50)
        await learner_equal(client, [first, second], ours)

        # A voter.
        await changed(lambda: client.member_promote(learner.id), "the learner is promoted")
        ours.wait_healthy()
        await written(client, KEYS + 50, 50)
        await equal(client, [first, second, ours])

        # A put through ours is forwarded to an etcd and comes back.
        async with Client([ours.endpoint], timeout_s=10) as through_ours:
            await through_ours.put(b"through", b"ours")
            assert (await client.get(b"through")) == (await through_ours.get(b"through"))
            assert await through_ours.lease_keepalive(77) == 3600

    # One etcd is gone: ours and the other are the quorum, whoever of them leads.
    first.kill()
    async with Client([second.endpoint, ours.endpoint], timeout_s=10) as client:
        await wait_until_async(lambda: puts(client, b"after", b"1"), CAUGHT_UP_S, "two of three take a write")
        second_id = (await client.status(second.endpoint)).member_id
        for leader in (learner.id, second_id, learner.id):
            await moved(client, leader, ours)
            for node in (second, ours):
                async with Client([node.endpoint], timeout_s=10) as one:
                    await one.put(b"by " + node.name.encode(), b"%x" % leader)
                    await every_kind(one)
        await equal(client, [second, ours])

        # The lost one comes back and catches up from us, who lead.
        first.start()
        first.wait_serving()
        first.wait_healthy()
        await written(client, 20, 20)
        await equal(client, [first, second, ours])

        # Killed and started again, ours is where it was.
        ours.kill()
        await wait_until_async(lambda: puts(client, b"without", b"ours"), CAUGHT_UP_S, "the etcds take a write")
        ours.start()
        ours.wait_serving()
        await equal(client, [first, second, ours])

        # etcdctl sees one cluster.
        everywhere = Etcdctl([node.endpoint for node in (first, second, ours)])
        hashes = everywhere.run("endpoint", "hashkv").stdout.splitlines()
        assert len({line.split(", ")[1] for line in hashes}) == 1, hashes

        # And out again.
        await changed(lambda: client.member_remove(learner.id), "ours is removed")
        assert len(await client.members()) == 2
        await written(client, 0, 10)
        await equal(client, [first, second])


async def puts(client: Client, key: bytes, value: bytes) -> bool:
    try:
        await client.put(key, value)
    except ClientError:
        return False
    return True


def test_an_etcd_joins_one_of_ours_and_they_swap_places(reference: Program, subject: Program, tmp_path: Path) -> None:
    """A live cluster moves from our engine to etcd, a member at a time."""
    with Cluster(subject, tmp_path, members=1) as ours:
        etcd = ours.joining(reference, "etcd")
        try:
            asyncio.run(swapped(ours.nodes[0], etcd))
            ended_alike([etcd, *ours.nodes], and_members=[etcd])
        finally:
            etcd.kill()


async def swapped(ours: Node, etcd: Node) -> None:
    async with Client([ours.endpoint], timeout_s=10) as client:
        await client.lease_grant(3600, 77)
        await client.put(b"leased", b"", lease=77)
        await written(client, 0, KEYS)
        await client.compact(100, physical=True)
        added = await client.member_add([etcd.peer_url], learner=True)
        etcd.start()
        etcd.wait_serving()
        await told_everywhere(added.id, [ours, etcd])
        await learner_equal(client, [ours], etcd)
        await changed(lambda: client.member_promote(added.id), "the etcd is promoted")
        await moved(client, added.id, etcd)
        await written(client, KEYS, 50)
        await equal(client, [ours, etcd])
        own = (await client.status(ours.endpoint)).member_id
    async with Client([etcd.endpoint], timeout_s=10) as client:
        before = await client.hash_kv()
        await changed(lambda: client.member_remove(own), "ours is removed")
        assert [member.id for member in await client.members()] == [added.id]
        assert (await client.hash_kv()).hash == before.hash
        await client.put(b"alone", b"1")
