"""--force-new-cluster: a quorum that is lost for good, and one member's data that goes on alone."""

import asyncio
from pathlib import Path

import pytest
from kvorum.client import Client, ClientError

from tests.e2e.standing_aside import member_page, wait_state
from tests.kit.deadline import wait_until_async
from tests.kit.etcd import EtcdMissing
from tests.kit.processes import Cluster, Node, Program, etcd_program, kvorum_program

FLAG = "--force-new-cluster"
QUICK = ("--heartbeat-interval=50", "--election-timeout=500")
START_S = 30.0


@pytest.fixture
def program(engine: str) -> Program:
    return kvorum_program() if engine == "kvorum" else etcd_program()


async def written(node: Node, count: int) -> None:
    async with Client([node.endpoint], timeout_s=10) as client:
        for number in range(count):
            await client.put(b"k%d" % number, b"v%d" % number)
        await client.compact(count // 2)


async def require_alone(node: Node, count: int) -> int:
    """The one member, with the data, taking writes and new members. Gives its cluster's id."""
    async with Client([node.endpoint], timeout_s=10) as client:
        for number in range(count):
            found = await client.get(b"k%d" % number)
            assert found is not None
            assert found.value == b"v%d" % number
        await client.put(b"after", b"all")
        (member,) = await client.members()
        assert (member.name, member.is_learner) == (node.name, False)

        async def added() -> bool:
            try:
                await client.member_add(["http://127.0.0.1:1"], learner=True)
            except ClientError as refused:
                if "unhealthy" not in refused.text:
                    raise
                return False
            return True

        await wait_until_async(added, START_S, "a member can be added again")
        await client.put(b"and", b"on")
        return (await client.status()).cluster_id


def test_one_member_of_three_goes_on_alone_with_its_data(program: Program, tmp_path: Path) -> None:
    with Cluster(program, tmp_path, flags=QUICK) as cluster:
        kept, *lost = cluster.nodes
        asyncio.run(written(cluster.nodes[1], 40))
        for node in cluster.nodes:
            node.wait_healthy()
        for node in lost:
            node.kill()
        kept.kill()
        kept.flags = (*QUICK, FLAG)
        kept.start()
        kept.wait_healthy(START_S)
        cluster_id = asyncio.run(require_alone(kept, 40))
        kept.stop()
        kept.flags = QUICK  # it stays what it has become
        kept.start()
        kept.wait_healthy(START_S)

        async def again() -> None:
            async with Client([kept.endpoint], timeout_s=10) as client:
                status = await client.status()
                assert status.cluster_id == cluster_id
                assert await client.get(b"after") is not None

        asyncio.run(again())


def test_a_member_that_was_forced_out_never_comes_back(tmp_path: Path) -> None:
    """It still has its data and the old list of members, and with another of them it would be a quorum of that."""
    with Cluster(kvorum_program(), tmp_path, flags=QUICK) as cluster:
        kept, *lost = cluster.nodes
        for node in cluster.nodes:
            node.kill()
        kept.flags = (*QUICK, FLAG)
        kept.start()
        kept.wait_healthy(START_S)
        lost[0].start()
        assert wait_state(lost[0], "removed")["reason"]
        assert kept.is_healthy()
        assert member_page(kept)["state"] == "leader"


def test_a_member_of_a_cluster_with_etcds_goes_on_alone(tmp_path: Path) -> None:
    try:
        programs = [kvorum_program(), etcd_program(), etcd_program()]
    except EtcdMissing as error:
        pytest.skip(f"NOT RUN: {error}")
    with Cluster(programs, tmp_path, flags=QUICK) as cluster:
        ours = cluster.nodes[0]
        asyncio.run(written(cluster.nodes[1], 40))
        ours.wait_healthy()
        for node in cluster.nodes:
            node.kill()
        ours.flags = (*QUICK, FLAG)
        ours.start()
        ours.wait_healthy(START_S)
        asyncio.run(require_alone(ours, 40))


def test_without_data_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    node = Node(kvorum_program(), tmp_path, flags=(FLAG,))
    node.start()
    assert node.process is not None
    assert node.process.wait(START_S) == 1
    assert f"{FLAG} makes a cluster out of a member's data, but {node.data_dir} has none" in node.log()
    assert not node.data_dir.exists()
