"""Whole nodes, killed at any instant under load, with everything lost that was not synced: no acknowledged write is.

KVORUM_POWER_CUTS sets how many cuts each test makes; the seed is printed, and KVORUM_SEED repeats it.
"""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from kvorum.client import Client, ClientError

from tests.kit.deadline import wait_until
from tests.kit.power_cut import power_cut_after_kill
from tests.kit.processes import Cluster, Node, Program

WRITERS = 8
ALIVE_S_MAX = 0.35  # from the first write on; a start takes longer than this
RESTART_S = 60.0


def cuts(default: int) -> int:
    return int(os.environ.get("KVORUM_POWER_CUTS", default))


def seeded() -> Random:
    seed = int(os.environ.get("KVORUM_SEED", time.time_ns() % 1_000_000))
    print(f"seed {seed}: KVORUM_SEED={seed} repeats the draws, though not the machine's timing")
    return Random(seed)


class Writers:
    """Clients that put new keys one after the other until their node is gone. acknowledged: what they were promised."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, str] = {}
        self.count = 0

    async def write(self, endpoints: list[str], for_s: float, then: Callable[[], None]) -> None:
        """Writes without a break; after for_s seconds `then` is called in the midst of it, and the writers stop when
        their node is gone, or with `then` if it leaves them one."""
        async with Client(endpoints, timeout_s=2.0) as client:
            writers = [asyncio.ensure_future(self._write(client)) for _ in range(WRITERS)]

            def strike() -> None:
                then()
                for writer in writers:
                    writer.cancel()

            asyncio.get_running_loop().call_later(for_s, strike)
            for outcome in await asyncio.gather(*writers, return_exceptions=True):
                assert isinstance(outcome, (ClientError, asyncio.CancelledError)), outcome

    async def _write(self, client: Client) -> None:
        while True:
            self.count += 1
            key, value = f"key-{self.count}", f"value-{self.count}-" + "x" * (self.count * 37 % 900)
            await client.put(key.encode(), value.encode())
            self.acknowledged[key] = value

    async def read_back(self, endpoint: str) -> tuple[int, dict[str, str]]:
        async with Client([endpoint], timeout_s=10.0) as client:
            found = await client.range(b"key-", b"key.")
            status = await client.status()
        return status.raft_term, {kv.key.decode(): kv.value.decode() for kv in found.kvs}


def recorded(folder: Path, count: int, flags: Sequence[str] = ()) -> Cluster:
    cluster = Cluster(Program("kvorum", ()), folder, count, flags=flags)
    for node in cluster.nodes:
        node.program = Program(
            "kvorum", (sys.executable, "-m", "tests.e2e.recorded_node", str(folder / f"{node.name}.beside"))
        )
    return cluster


def cut_power_again_and_again(folder: Path, members: int, times: int, flags: Sequence[str] = ()) -> None:
    random = seeded()
    cluster = recorded(folder, members, flags)
    writers = Writers()
    lost_tails = 0
    term = 0
    try:
        for number in range(times):
            cluster.start()
            cluster.wait_healthy(RESTART_S)
            for node in cluster.nodes:
                term_now, found = asyncio.run(writers.read_back(node.endpoint))
                missing = {key for key, value in writers.acknowledged.items() if found.get(key) != value}
                assert not missing, (
                    f"cut {number}: {node.name} lost {len(missing)} acknowledged writes: {sorted(missing)[:5]}"
                )
                assert term_now >= term, "a term was forgotten"
                term = max(term, term_now)
            endpoints = cluster.endpoints
            random.shuffle(endpoints)
            condemned = random.sample(cluster.nodes, members)

            def cut(condemned: list[Node] = condemned) -> None:
                for node in condemned:
                    node.kill()

            asyncio.run(writers.write(endpoints, random.uniform(0.0, ALIVE_S_MAX), cut))
            for node in cluster.nodes:
                size = sum(path.stat().st_size for path in (node.data_dir / "member" / "wal").glob("*.broken"))
                power_cut_after_kill(node.data_dir, folder / f"{node.name}.beside", random)
                lost_tails += size > 0
        print(
            f"{times} cuts, {len(writers.acknowledged)} acknowledged writes, all there; {lost_tails} torn tails cut off"
        )
        assert len(writers.acknowledged) > times, "too few writes were under way to show anything"
    finally:
        cluster.kill()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_single_node_loses_nothing_acknowledged_whenever_the_power_goes(tmp_path: Path) -> None:
    cut_power_again_and_again(tmp_path, 1, cuts(40))


def test_three_nodes_lose_nothing_acknowledged_when_all_lose_power_at_once(tmp_path: Path) -> None:
    cut_power_again_and_again(tmp_path, 3, cuts(8))


def test_a_log_that_is_cut_behind_snapshots_loses_nothing_whenever_the_power_goes(tmp_path: Path) -> None:
    flags = ("--snapshot-count=60", "--max-snapshots=1", "--max-wals=1")
    cut_power_again_and_again(tmp_path, 1, cuts(8), flags)


def test_kill_9_of_each_member_in_turn_changes_no_membership_and_loses_nothing(tmp_path: Path) -> None:
    cluster = recorded(tmp_path, 3)
    writers = Writers()
    with cluster:
        before = asyncio.run(members_of(cluster.endpoints))
        for node in cluster.nodes * 2:
            others = [other.endpoint for other in cluster.nodes if other is not node]
            node.kill()
            asyncio.run(writers.write(others, 1.0, lambda: None))
            node.start()
            node.wait_healthy(RESTART_S)
        for node in cluster.nodes:
            wait_until(node.is_healthy, RESTART_S, f"{node.name} is healthy")
            _, found = asyncio.run(writers.read_back(node.endpoint))
            assert writers.acknowledged.items() <= found.items()
        assert asyncio.run(members_of(cluster.endpoints)) == before
    assert len(writers.acknowledged) > 20


async def members_of(endpoints: list[str]) -> list[tuple[int, tuple[str, ...], bool]]:
    async with Client(endpoints) as client:
        return [(member.id, member.peer_urls, member.is_learner) for member in await client.members()]
