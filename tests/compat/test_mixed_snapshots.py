"""Snapshots between members of both engines: an etcd that leads sends one to ours, ours to an etcd."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from kvorum.client import Client

from tests.compat.test_mixed_member import (
    CAUGHT_UP_S,
    changed,
    equal,
    learner_equal,
    moved,
    puts,
    told_everywhere,
    written,
)
from tests.kit.deadline import wait_until_async
from tests.kit.processes import Cluster, Node, Program

FLAGS = (
    "--snapshot-count=10",
    "--experimental-snapshot-catchup-entries=3",
    "--heartbeat-interval=50",
    "--election-timeout=500",
)


async def said(node: Node, words: str) -> None:
    async def says() -> bool:
        return words in node.log()

    await wait_until_async(says, CAUGHT_UP_S, f"{node.describe()} says {words!r}")


async def some_history(client: Client) -> None:
    lease = await client.lease_grant(3600, 77)
    await client.put(b"leased/a", b"", lease=lease.id)
    await written(client, 0, 150)
    await client.compact(60, physical=True)
    await written(client, 150, 50)


def test_an_etcd_that_leads_sends_its_snapshot_to_ours(reference: Program, subject: Program, tmp_path: Path) -> None:
    with Cluster(reference, tmp_path, members=2, flags=FLAGS) as etcds:
        ours = etcds.joining(subject, "ours", flags=FLAGS)
        try:
            asyncio.run(joined_by_snapshot(etcds.nodes, ours))
        finally:
            ours.kill()


async def joined_by_snapshot(etcds: Sequence[Node], ours: Node) -> None:
    async with Client([node.endpoint for node in etcds], timeout_s=10) as client:
        await some_history(client)
        await changed(lambda: client.member_add([ours.peer_url], learner=True), "a learner is added")
        learner = next(member for member in await client.members() if member.is_learner)
        ours.start()
        ours.wait_serving()
        await told_everywhere(learner.id, [*etcds, ours])
        await said(ours, "applied snapshot")
        assert ours.log().count("applied snapshot") == 1
        await written(client, 200, 20)
        await learner_equal(client, etcds, ours)
        await changed(lambda: client.member_promote(learner.id), "the learner is promoted")
        ours.wait_healthy()
        await equal(client, [*etcds, ours])
        # It starts again from what it was sent, and is a member like any other: also as the leader.
        ours.kill()
        await written(client, 220, 10)
        ours.start()
        ours.wait_healthy()
        await moved(client, learner.id, ours)
        await written(client, 230, 30)
        await equal(client, [*etcds, ours])


def test_ours_that_leads_sends_its_snapshot_to_an_etcd_behind_compaction(
    reference: Program, subject: Program, tmp_path: Path
) -> None:
    with Cluster([subject, subject, reference], tmp_path, flags=FLAGS) as members:
        asyncio.run(caught_up_by_ours(members.nodes[:2], members.nodes[2]))


async def caught_up_by_ours(ours: Sequence[Node], etcd: Node) -> None:
    async with Client([node.endpoint for node in ours], timeout_s=10) as client:
        await client.put(b"first", b"1")
        etcd.kill()
        await wait_until_async(lambda: puts(client, b"after", b"1"), CAUGHT_UP_S, "ours take a write")
        await some_history(client)
        etcd.start()
        await said(etcd, "applied snapshot")
        etcd.wait_healthy()
        assert etcd.log().count("applied snapshot") == 1
        await written(client, 200, 20)
        await equal(client, [*ours, etcd])
        etcd.kill()
        await written(client, 220, 3)
        etcd.start()
        etcd.wait_healthy()
        await equal(client, [*ours, etcd])
        assert "panic" not in etcd.log()
        # It can lead them, and they follow what it says.
        etcd_id = (await client.status(etcd.endpoint)).member_id
        await moved(client, etcd_id, etcd)
        await written(client, 230, 20)
        await equal(client, [*ours, etcd])
