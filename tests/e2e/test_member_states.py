"""The words of /kvorum/v1/member that a running node goes through, each reached and left.

leader, follower, learner, removed and no-quorum are test_http.py's too; data-lost and corrupt are test_damage.py's,
disk-full is test_disk_full.py's.
"""

import asyncio
import signal
from pathlib import Path

import grpc
import pytest
from kvorum.client import Client, ClientError
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.e2e.standing_aside import fetch, member_page, wait_state
from tests.kit.deadline import wait_until
from tests.kit.processes import Cluster, kvorum_program

QUICK = ("--heartbeat-interval=50", "--election-timeout=500")
STATE_S = 60.0


def test_alone_of_three_it_starts_and_then_misses_a_quorum_and_then_follows(tmp_path: Path) -> None:
    # Long enough for "starting" to be seen on a busy machine.
    cluster = Cluster(kvorum_program(), tmp_path, flags=("--heartbeat-interval=100", "--election-timeout=4000"))
    first, *others = cluster.nodes
    try:
        first.start()
        assert wait_state(first, "starting")["reason"] == "no leader has been heard of yet"
        assert "no leader" in wait_state(first, "no-quorum")["reason"]
        assert fetch(f"{first.endpoint}/livez") == (200, "ok\n")
        for node in others:
            node.start()
        wait_until(
            lambda: member_page(first).get("state") in ("leader", "follower"),
            STATE_S,
            "it has its place in the cluster",
        )
    finally:
        cluster.kill()


def test_on_the_way_down_it_says_stopping(tmp_path: Path) -> None:
    """A leader whose followers hang waits for one of them to take over, at most an election timeout."""
    with Cluster(kvorum_program(), tmp_path, flags=("--heartbeat-interval=100", "--election-timeout=3000")) as cluster:
        leader = wait_until(
            lambda: next((node for node in cluster.nodes if member_page(node).get("state") == "leader"), None),
            STATE_S,
            "one leads",
        )
        assert leader is not None
        for node in cluster.nodes:
            if node is not leader:
                node.pause()
        leader.signal(signal.SIGTERM)
        assert wait_state(leader, "stopping")["reason"] == ""
        assert leader.process is not None
        assert leader.process.wait(STATE_S) == -signal.SIGTERM


def test_data_of_another_cluster_serves_nobody(tmp_path: Path) -> None:
    """A member's volume comes back after its cluster was made anew at the same addresses."""
    with Cluster(kvorum_program(), tmp_path, flags=QUICK) as cluster:
        stray, *others = cluster.nodes
        for node in cluster.nodes:
            node.stop()
        for node in others:
            node.wipe()
            node.token = "another"
            node.initial_cluster = ",".join(f"{one.name}={one.peer_url}" for one in others)
            node.start()
        for node in others:
            node.wait_healthy()
        stray.start()
        page = wait_state(stray, "foreign-cluster")
        assert f"another cluster than {page['clusterID']}" in page["reason"]
        assert "empty the data directory" in page["reason"]
        assert fetch(f"{stray.endpoint}/livez") == (200, "ok\n")
        assert fetch(f"{stray.endpoint}/health")[0] == 503
        with grpc.insecure_channel(
            f"127.0.0.1:{stray.client_port}", options=(("grpc.enable_http_proxy", 0),)
        ) as channel:
            read = channel.unary_unary("/etcdserverpb.KV/Range", rpc.RangeRequest.SerializeToString, None)
            with pytest.raises(grpc.RpcError) as refused:
                read(rpc.RangeRequest(key=b"a", serializable=True), timeout=STATE_S)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "foreign-cluster" in (refused.value.details() or "")
        assert all(node.is_healthy() for node in others)
        assert {member["name"] for member in others[0].members_by_peers()} == {node.name for node in others}
        for node in others:
            node.stop()
        assert stray.stop() == -signal.SIGTERM


def test_a_removed_member_says_so_after_a_restart_and_tells_nobody_of_the_cluster(tmp_path: Path) -> None:
    with Cluster(kvorum_program(), tmp_path, flags=QUICK) as cluster:
        removed, *others = cluster.nodes

        async def remove() -> bool:
            async with Client([node.endpoint for node in others], timeout_s=5) as client:
                member = next((one for one in await client.members() if one.name == removed.name), None)
                if member is None:
                    return True
                try:
                    await client.member_remove(member.id)
                except ClientError as refused:
                    if "unhealthy" not in refused.text:
                        raise
                return False

        wait_until(lambda: asyncio.run(remove()), STATE_S, "it is removed")
        for again in (False, True):
            if again:
                removed.restart()
            assert "delete its data" in wait_state(removed, "removed")["reason"]
            wait_until(lambda: removed.members_by_peers() == [], STATE_S, "its peer port is closed")
            assert fetch(f"{removed.endpoint}/livez") == (200, "ok\n")
            assert fetch(f"{removed.endpoint}/readyz")[0] == 503
        assert removed.stop() == -signal.SIGTERM
