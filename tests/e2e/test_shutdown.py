"""How a member begins and ends: SIGTERM, what it hands over first; and the births that are refused.

kill -9 is test_crash.py's.
"""

import asyncio
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from kvorum.client import Client, ClientError

from tests.e2e.standing_aside import require_aside
from tests.e2e.writer import Writer, assert_nothing_lost
from tests.kit.deadline import wait_until, wait_until_async
from tests.kit.processes import Cluster, Node, Program, etcd_program, kvorum_program

# Long, so that a hand-over and an election that times out cannot be mistaken for each other on a busy machine.
ELECTION_S = 3.0
SLOW_ELECTIONS = ("--heartbeat-interval=100", "--election-timeout=3000")
# A follower may call an election after one timeout at the earliest: what is faster was handed over.
HANDED_OVER_S = ELECTION_S
PUT_TIMEOUT_S = 0.5  # a write forwarded to a leader that just leaves is lost, with etcd too: the next one counts
READY_S = 15.0


@pytest.fixture
def program(engine: str) -> Program:
    return kvorum_program() if engine == "kvorum" else etcd_program()


def leader_of(nodes: list[Node]) -> Node:
    async def lead() -> int:
        async with Client([nodes[0].endpoint], timeout_s=10) as client:
            for number, node in enumerate(nodes):
                status = await client.status(node.endpoint)
                if status.leader == status.member_id:
                    return number
        return -1

    return nodes[wait_until(lambda: asyncio.run(lead()) + 1, READY_S, "one of them leads") - 1]


# ---- the way down ----------------------------------------------------------------------------------------------------


def test_a_leader_that_is_told_to_stop_hands_over_first(program: Program, tmp_path: Path) -> None:
    """Writes through a follower go on within less than any election would take; the status is SIGTERM's."""
    with Cluster(program, tmp_path, flags=SLOW_ELECTIONS) as cluster:
        leader = leader_of(cluster.nodes)
        followers = [node for node in cluster.nodes if node is not leader]
        for node in followers:
            node.wait_healthy()
        gap_s, told_s, leading_s = asyncio.run(stopped_under_writes(leader, followers))
        status = leader.stop()
        assert status == -signal.SIGTERM
        assert leading_s - told_s < HANDED_OVER_S, f"another led {leading_s - told_s:.2f} s after SIGTERM"
        assert gap_s < HANDED_OVER_S, f"no write was answered for {gap_s:.2f} s"


async def stopped_under_writes(leader: Node, followers: list[Node]) -> tuple[float, float, float]:
    """(longest time between two acknowledged writes, when SIGTERM was sent, when a follower was first seen to lead)."""
    acknowledged: list[float] = []
    stop = asyncio.Event()

    async def write() -> None:
        async with Client([followers[0].endpoint], timeout_s=PUT_TIMEOUT_S) as client:
            while not stop.is_set():
                with suppress(ClientError):
                    await client.put(b"k", b"%d" % len(acknowledged))
                    acknowledged.append(time.monotonic())

    async def written(more: int) -> None:
        wanted = len(acknowledged) + more

        async def enough() -> bool:
            return len(acknowledged) >= wanted

        await wait_until_async(enough, 4 * ELECTION_S, f"{more} writes are acknowledged")

    async with Client([node.endpoint for node in followers], timeout_s=10) as client:

        async def led() -> bool:
            statuses = [await client.status(node.endpoint) for node in followers]
            return any(status.leader == status.member_id for status in statuses)

        writer = asyncio.create_task(write())
        await written(20)
        told_s = time.monotonic()
        leader.signal(signal.SIGTERM)
        await wait_until_async(led, 4 * ELECTION_S, "a follower leads")
        leading_s = time.monotonic()
        await written(20)
        stop.set()
        await writer
    return max(later - earlier for earlier, later in pairwise(acknowledged)), told_s, leading_s


def test_a_member_that_finds_no_quorum_ends_by_the_signal_too(program: Program, tmp_path: Path) -> None:
    """Before it could tell the others its name, which it goes on asking for."""
    cluster = Cluster(program, tmp_path)
    lonely = cluster.nodes[0]
    try:
        lonely.start()
        wait_until(lambda: bool(lonely.members_by_peers()), READY_S, "its peer port is open")
        assert lonely.stop() == -signal.SIGTERM
        assert "Traceback" not in lonely.log()
    finally:
        lonely.kill()


def test_a_cluster_loses_nothing_acknowledged_when_each_member_is_stopped_in_turn(
    program: Program, tmp_path: Path
) -> None:
    flags = ("--heartbeat-interval=50", "--election-timeout=500")
    with Cluster(program, tmp_path, flags=flags) as cluster, Writer(cluster.endpoints) as writer:
        for node in cluster.nodes:
            writer.wait_acknowledged(20)
            assert node.stop() == -signal.SIGTERM
            writer.wait_acknowledged(20)
            node.start()
            node.wait_healthy()
        writer.stop()
        assert_nothing_lost(writer, cluster.endpoints)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_lone_member_ends_by_the_signal_and_keeps_its_data(
    program: Program, number: signal.Signals, tmp_path: Path
) -> None:
    with Node(program, tmp_path) as node:
        with Writer([node.endpoint]) as writer:
            writer.wait_acknowledged(50)
            node.signal(number)
            assert node.process is not None
            assert node.process.wait(READY_S) == -number
        node.start()
        node.wait_healthy()
        assert_nothing_lost(writer, [node.endpoint])


# ---- births that are refused -----------------------------------------------------------------------------------------


def test_a_voter_that_lost_its_data_does_not_bootstrap_again(engine: str, program: Program, tmp_path: Path) -> None:
    """It may have voted and forgotten it."""
    message = refused_after_loss(program, "new", tmp_path)
    assert "has already been bootstrapped" in message
    if engine == "kvorum":
        require_way_out(message)


def test_a_voter_that_lost_its_data_does_not_join_as_itself(tmp_path: Path) -> None:
    """Stricter than etcd, which lets it in with `existing`."""
    message = refused_after_loss(kvorum_program(), "existing", tmp_path)
    assert "has already served in this cluster" in message
    require_way_out(message)


def require_way_out(message: str) -> None:
    assert "Bring its data back, or remove" in message.replace("\n", " ")
    assert "add it again as a new one" in message
    assert "Traceback" not in message


def refused_after_loss(program: Program, state: str, folder: Path) -> str:
    """One of three is killed, wiped and started again: what it says. The others stay as they were."""
    with Cluster(program, folder) as cluster:
        lost, *others = cluster.nodes
        members = wait_until(lambda: started_members(others, 3), READY_S, "all have told their client URLs")
        (own,) = (member for member in members if member["name"] == lost.name)
        lost.kill()
        lost.wipe()
        lost.state = state
        lost.log_path.unlink()
        lost.start()
        if program.engine == "kvorum":
            message = require_aside(lost, "data-lost")
        else:
            assert lost.process is not None
            assert lost.process.wait(READY_S) == 1
            message = lost.log()
        assert f"{own['id']:x}" in message
        assert not list(lost.data_dir.glob("member/wal/*.wal")), "something was born"
        assert others[0].members_by_peers() == others[1].members_by_peers() == members
        wait_until(lambda: asyncio.run(takes_writes(others)), READY_S, "the other two take writes")
        return message


def started_members(nodes: list[Node], count: int) -> list[dict[str, Any]]:
    """The members that all of the nodes list, once so many have told their client URLs."""
    first, *rest = [node.members_by_peers() for node in nodes]
    return first if rest == [first] and sum(bool(member.get("clientURLs")) for member in first) == count else []


async def takes_writes(nodes: list[Node]) -> bool:
    async with Client([node.endpoint for node in nodes], timeout_s=2) as client:
        try:
            return (await client.put(b"still", b"here")).header.revision > 0
        except ClientError:  # the one that was lost may have led
            return False


# ---- ready -----------------------------------------------------------------------------------------------------------


def test_the_service_manager_hears_that_a_member_is_ready_and_not_before(program: Program, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(READY_S)
        cluster = Cluster(program, tmp_path)
        first = cluster.nodes[0]
        first.environment = {"NOTIFY_SOCKET": address}
        try:
            first.start()
            wait_until(lambda: first.members_by_peers() or not first.alive, READY_S, "it answers the others")
            manager.setblocking(False)
            with pytest.raises(BlockingIOError):  # alone of three it can serve nobody
                manager.recv(100)
            manager.settimeout(READY_S)
            cluster.start()
            assert manager.recv(100) == b"READY=1"
            assert first.is_healthy()
            assert "ready to serve client requests" in first.log()
        finally:
            cluster.kill()


# ---- as process 1 ----------------------------------------------------------------------------------------------------


def test_process_1_of_a_container_that_is_told_to_stop_while_it_starts_ends_at_once(tmp_path: Path) -> None:
    """A kubelet would wait for its whole grace period: process 1 ignores what it has no handler for."""
    if os.geteuid() != 0:
        pytest.skip("NOT RUN: process namespaces need root")
    command = [*kvorum_program().command, "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", *command], stderr=subprocess.DEVNULL
    ) as outside:
        try:
            one = wait_until(lambda: psutil.Process(outside.pid).children(), 10, "process 1 runs", poll_s=0.001)[0]
            wait_until(lambda: handles(one.pid, signal.SIGTERM), 10, "SIGTERM is handled", poll_s=0.001)
            assert "/lmdb/" not in Path(f"/proc/{one.pid}/maps").read_text(), "before what takes long is imported"
            one.terminate()
            assert outside.wait(5) == 0
        finally:
            outside.kill()
    assert not (tmp_path / "data").exists()


def handles(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
