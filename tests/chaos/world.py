"""A cluster whose members reach each other through a network of ours, and what can be done to it: the nemesis.

The members are of any programs that take etcd's flags. Faults of the disk need our program, which has a door for them
(faulty_node.py). Knows nothing of the load and judges no history.
"""

import asyncio
import json
import random
import re
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
from kvorum.client import Client, ClientError, Member
from kvorum.state import membership

from tests.chaos.faulty_node import lose_unsynced
from tests.kit.alarms import activate, alarms_are
from tests.kit.deadline import wait_until_async
from tests.kit.processes import Node, Program, fetch_json
from tests.kit.proxy import Fate, PeerNetwork
from tests.kit.tables import Rows, require_same_tables

TOKEN = "chaos"
LEASES_AT_END, LONG_TTL_S = 5, 3_600
TIMINGS = ("--heartbeat-interval=50", "--election-timeout=500")
ENGINES = {True: "ours", False: "etcd"}  # as the counts name them
ELECTION_S = 0.5
DEPOSED_S = 4 * ELECTION_S  # in which another leads for sure: only then is there one who does not know that it is over
RECOVERY_S = 60.0
CALL_S = 5.0
STOP_S = 60.0  # an etcd first waits for what it asks others: for 7 s for a hash, and more than once
# etcd writes its lines without blanks, ours has one after each colon.
BROKEN = re.compile(r'"level": ?"(dpanic|panic|fatal)"|^panic: |Traceback \(most recent call last\)', re.MULTILINE)
Answer = TypeVar("Answer")
ONE_WAY, BOTH_WAYS = "partitions one way", "partitions both ways"


@dataclass(eq=False)
class PeerNode(Node):
    """Listens on one peer port and advertises another, behind which the network is. is_down: we ended it ourselves."""

    advertised_port: int = 0
    member_id: int = 0
    is_down: bool = False

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self.advertised_port}"

    @property
    def beside(self) -> Path:
        return self.folder / f"{self.name}.beside"

    @property
    def is_ours(self) -> bool:
        return self.program.engine == "kvorum"

    @property
    def command(self) -> list[str]:
        listen = f"--listen-peer-urls=http://127.0.0.1:{self.peer_port}"
        usual = super().command
        return [listen if part.startswith("--listen-peer-urls=") else part for part in usual]

    def members_by_peers(self) -> list[dict[str, Any]]:
        answer = fetch_json(f"http://127.0.0.1:{self.peer_port}/members")
        return answer if isinstance(answer, list) else []


def faulty_program(folder: Path, name: str) -> Program:
    """Our program on the disk of faulty_node.py."""
    return Program("kvorum", (sys.executable, "-m", "tests.chaos.faulty_node", str(folder / f"{name}.beside")))


class World:
    """Used as a context it is started and healthy, and everything has ended when it is left.

    programs: one for each member; "kvorum" stands for ours on the faulty disk. flags: by engine.
    counts:   of each thing that was done to it.
    """

    def __init__(
        self, programs: Sequence[Program], folder: Path, dice: random.Random, flags: dict[str, Sequence[str]]
    ) -> None:
        self.dice = dice
        self.counts: Counter[str] = Counter()
        self.network = PeerNetwork()
        self.nodes = [
            PeerNode(self._on_faulty_disk(one, folder, f"n{at}"), folder, f"n{at}") for at, one in enumerate(programs)
        ]
        for node in self.nodes:
            node.token = TOKEN
            node.flags = (*TIMINGS, *flags.get(node.program.engine, ()))
            node.advertised_port = self.network.add(node.name, node.peer_port)
            node.member_id = membership.member_id([node.peer_url], TOKEN)
            self.network.identify(node.member_id, node.name)
        for node in self.nodes:
            node.initial_cluster = ",".join(f"{one.name}={one.peer_url}" for one in self.nodes)

    @staticmethod
    def _on_faulty_disk(program: Program, folder: Path, name: str) -> Program:
        return faulty_program(folder, name) if program.engine == "kvorum" else program

    @property
    def endpoints(self) -> list[str]:
        return [node.endpoint for node in self.nodes]

    @property
    def quorum(self) -> int:
        return len(self.nodes) // 2 + 1

    def __enter__(self) -> Self:
        for node in self.nodes:
            node.start()
        try:
            for node in self.nodes:
                node.wait_healthy(RECOVERY_S)
        except BaseException:  # an interrupt as well: no member outlives a start that failed
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for node in self.nodes:
            node.kill()
        self.network.close()

    def require_alive(self) -> None:
        """Nobody ended but by our hand, and nobody says that it broke."""
        for node in self.nodes:
            assert node.is_down or node.alive, f"{node.describe()} ended by itself\n{node.log_tail()}"
            broken = broken_at(node.log())
            assert not broken, f"{node.describe()} broke:\n{broken}"

    # Faults. Each holds for a while and is over when it returns.

    def some(self, least: int = 1, most: int = 0) -> list[PeerNode]:
        """Nodes by the dice; by default as many as can be missed."""
        most = most or len(self.nodes) - self.quorum
        return self.dice.sample(self.nodes, self.dice.randint(least, max(least, most)))

    async def leader_or_some(self) -> list[PeerNode]:
        """Mostly the leader: who leads and does not hear that it is over is the one who could be wrong."""
        leader = await self.leader()
        return [leader] if leader and self.dice.random() < 0.75 else self.some()

    def two(self) -> tuple[str, str]:
        one, other = self.dice.sample(self.nodes, 2)
        return one.name, other.name

    async def killed(self, hold_s: float) -> None:
        await self._killed(self.some(), hold_s)

    async def killed_quorum(self, hold_s: float) -> None:
        await self._killed(self.some(self.quorum, len(self.nodes)), hold_s)

    async def killed_leader(self, hold_s: float) -> None:
        leader = await self.leader()
        await self._killed([leader] if leader else self.some(1, 1), hold_s)

    async def power_cut(self, hold_s: float) -> None:
        """Killed in the midst of slow syncs, and what their logs had not synced is lost."""
        nodes = self.some(1, len(self.nodes))
        ours = [node for node in nodes if node.is_ours]
        if not ours:  # of an etcd nothing can be lost
            ours = [self.dice.choice([node for node in self.nodes if node.is_ours])]
            nodes = ours
        for node in ours:
            (node.beside / "slow").write_text("400")
        await asyncio.sleep(self.dice.uniform(0.1, 0.5))
        await self._killed(nodes, hold_s, lose=True)
        for node in ours:
            (node.beside / "slow").unlink(missing_ok=True)

    async def _killed(self, nodes: Sequence[PeerNode], hold_s: float, *, lose: bool = False) -> None:
        for node in nodes:
            node.is_down = True
            await asyncio.to_thread(node.kill)
            self.counts["SIGKILL"] += 1
        if lose:
            for node in nodes:
                if node.is_ours:
                    lost = await asyncio.to_thread(lose_unsynced, node.data_dir, node.beside, self.dice)
                    self.counts["logs cut"] += 1
                    self.counts["bytes lost that were not synced"] += lost
        await asyncio.sleep(hold_s)
        for node in nodes:
            node.start()
            node.is_down = False

    async def stopped(self, hold_s: float) -> None:
        """SIGTERM, which hands over, and a start."""
        for node in self.some():
            node.is_down = True
            await asyncio.to_thread(node.stop, STOP_S)
            await asyncio.sleep(hold_s)
            node.start()
            node.is_down = False
            self.counts["SIGTERM"] += 1

    async def paused(self, hold_s: float) -> None:
        nodes = await self.leader_or_some()
        for node in nodes:
            node.pause()
            self.counts["SIGSTOP"] += 1
        await asyncio.sleep(max(hold_s, DEPOSED_S))
        for node in nodes:
            node.signal(signal.SIGCONT)

    async def woken_alone(self, hold_s: float) -> None:
        """The leader hangs until another leads, and wakes while nobody can tell it: clients still ask it."""
        leader = await self.leader() or self.nodes[0]
        lines = [(leader.name, other.name) for other in self.nodes if other is not leader]
        lines += [(to, sender) for sender, to in lines]
        leader.pause()
        for sender, to in lines:
            await asyncio.to_thread(self.network.set, sender, to, Fate.HELD)
        await asyncio.sleep(DEPOSED_S)
        leader.signal(signal.SIGCONT)
        await asyncio.sleep(max(hold_s, 2 * ELECTION_S))
        for sender, to in lines:
            await asyncio.to_thread(self.network.set, sender, to)
        self.counts["leaders woken alone"] += 1

    async def one_way(self, hold_s: float) -> None:
        sender, to = self.two()
        await self._lines([(sender, to)], self.dice.choice((Fate.HELD, Fate.SWALLOWED)), hold_s, ONE_WAY)

    async def both_ways(self, hold_s: float) -> None:
        one, other = self.two()
        await self._lines([(one, other), (other, one)], self._fate(), hold_s, BOTH_WAYS)

    async def split(self, hold_s: float) -> None:
        """Some are cut off from the others; which side has the quorum is chance."""
        minority = {node.name for node in await self.leader_or_some()}
        others = {node.name for node in self.nodes} - minority
        lines = [(one, other) for one in minority for other in others]
        lines += [(other, one) for one, other in lines]
        await self._lines(lines, self._fate(), max(hold_s, DEPOSED_S), BOTH_WAYS)

    async def leader_unheard(self, hold_s: float) -> None:
        """The leader hears everybody and nobody hears it, or the other way round."""
        leader = await self.leader() or self.nodes[0]
        lines = [(leader.name, other.name) for other in self.nodes if other is not leader]
        if self.dice.random() < 0.5:
            lines = [(to, sender) for sender, to in lines]
        await self._lines(lines, self.dice.choice((Fate.HELD, Fate.SWALLOWED)), max(hold_s, DEPOSED_S), ONE_WAY)

    def _fate(self) -> Fate:
        return self.dice.choice((Fate.HELD, Fate.CUT, Fate.SWALLOWED))

    async def _lines(self, lines: Sequence[tuple[str, str]], fate: Fate, hold_s: float, manner: str) -> None:
        for sender, to in lines:
            await asyncio.to_thread(self.network.set, sender, to, fate)
        self.counts[manner] += 1
        self.counts[f"partitions, {fate.value}"] += 1
        await asyncio.sleep(hold_s)
        for sender, to in lines:
            await asyncio.to_thread(self.network.set, sender, to)

    async def slow_lines(self, hold_s: float) -> None:
        """All late by as much as 0.2 s, and in pieces."""
        delay_s, pieces = self.dice.uniform(0.01, 0.2), self.dice.choice((0, 1, 7, 100))
        pairs = [(one.name, other.name) for one in self.nodes for other in self.nodes if one is not other]
        for sender, to in pairs:
            await asyncio.to_thread(self.network.set, sender, to, delay_s=delay_s, piece_bytes=pieces)
        self.counts["slow lines"] += 1
        await asyncio.sleep(hold_s)
        await asyncio.to_thread(self.network.heal)

    async def slow_disk(self, hold_s: float) -> None:
        nodes = [node for node in self.nodes if node.is_ours]
        nodes = self.dice.sample(nodes, self.dice.randint(1, len(nodes)))
        for node in nodes:
            (node.beside / "slow").write_text(str(self.dice.choice((20, 100, 400))))
            self.counts["slow disks"] += 1
        await asyncio.sleep(hold_s)
        for node in nodes:
            (node.beside / "slow").unlink(missing_ok=True)

    async def transferred(self, hold_s: float) -> None:
        """Leadership goes to another. A transfer may fail, and is a fault all the same; one succeeds at last."""

        async def done() -> bool:
            leader = await self.leader()
            others = [node for node in self.nodes if node is not leader]
            return leader is not None and await self.handed_over(self.dice.choice(others))

        await wait_until_async(done, RECOVERY_S, "leadership is handed over")

    async def handed_over(self, target: PeerNode) -> bool:
        try:
            async with Client(self.endpoints, timeout_s=CALL_S) as client:
                await client.move_leader(target.member_id)
        except ClientError:
            self.counts["transfers refused"] += 1
            return False
        self.counts["transfers"] += 1
        return True

    async def replaced(self, hold_s: float) -> None:
        """A member is removed, loses its disk, comes back as a learner under a new id, and votes."""
        node = self.dice.choice(self.nodes)
        await self.replace(node, node.program, node.flags)

    async def replace(self, node: PeerNode, program: Program, flags: Sequence[str]) -> None:
        others = [one for one in self.nodes if one is not node]
        node.is_down = True
        async with Client([one.endpoint for one in others], timeout_s=CALL_S) as client:
            await self._until_members(
                client, f"{node.name} is out", lambda: client.member_remove(node.member_id), without(node.member_id)
            )
            await asyncio.to_thread(node.kill)
            node.wipe()
            added = await self._until_members(
                client, f"{node.name} is added", lambda: client.member_add([node.peer_url]), learning(node.peer_url)
            )
            assert added is not None
            node.member_id = added.id
            self.network.identify(added.id, node.name)
            node.program, node.flags, node.state = program, flags, "existing"
            node.start()
            node.is_down = False
            await self._until_members(
                client, f"{node.name} votes", lambda: client.member_promote(added.id), voting(added.id)
            )
        self.counts[f"{ENGINES[node.is_ours]} replaced"] += 1

    async def _until_members(
        self,
        client: Client,
        what: str,
        change: Callable[[], Awaitable[object]],
        wanted: Callable[[Sequence[Member]], Member | bool | None],
    ) -> Member | None:
        """Asks for a change until the list has it: the answer may be lost, and a busy cluster may refuse at first."""

        async def once() -> Member | bool | None:
            try:
                found = wanted(await client.members())
                if not found:
                    await change()
                    found = wanted(await client.members())
            except ClientError:
                return None
            return found

        found = await wait_until_async(once, RECOVERY_S, what)
        return found if isinstance(found, Member) else None

    # What it is like

    async def leader(self) -> PeerNode | None:
        async with Client(self.endpoints, timeout_s=1.0) as client:
            for node in self.nodes:
                if node.is_down:
                    continue
                try:
                    status = await client.status(node.endpoint)
                except ClientError:
                    continue
                for one in self.nodes:
                    if one.member_id == status.leader:
                        return one
        return None

    async def healthy(self) -> None:
        for node in self.nodes:
            await asyncio.to_thread(node.wait_healthy, RECOVERY_S)

    async def agree(self, deadline_s: float = RECOVERY_S) -> None:
        """All members say the same: of keys with their history, the ids of leases, members and alarms each what it has
        itself; of a lease's time and keys each what the leader tells it, so require_same_tables() is what compares
        these."""
        views: dict[str, str] = {}

        async def alike() -> bool:
            views.clear()
            try:
                async with Client(self.endpoints, timeout_s=CALL_S) as client:
                    revision = (await client.range(b"\0")).header.revision
                for node in self.nodes:
                    views[node.name] = await self._view(node, revision)
            except ClientError as failure:
                views["failure"] = str(failure)
                return False
            return len(set(views.values())) == 1

        try:
            await wait_until_async(alike, deadline_s, "all members hold the same")
        except AssertionError as missed:
            raise AssertionError(f"{missed}\n{json.dumps(views, indent=1)}") from None
        self.counts["agreements"] += 1

    async def alarmed(self) -> None:
        """An alarm is raised of some member and told by each, then disarmed and told by none. Writes are refused
        meanwhile, so clients must be quiet."""
        await self._alarm_raised()
        async with Client(self.endpoints, timeout_s=CALL_S) as client:
            await self._alarms_become(set(), client.alarm_disarm)

    async def _alarm_raised(self) -> None:
        member_id = self.dice.choice(self.nodes).member_id
        await self._alarms_become({(member_id, "NOSPACE")}, lambda: activate(self.dice.choice(self.nodes), member_id))
        self.counts["alarms raised"] += 1

    async def _alarms_become(self, wanted: set[tuple[int, str]], change: Callable[[], Awaitable[object]]) -> None:
        """Asks for it until each member tells them: neither hurts when done twice."""

        async def told() -> bool:
            try:
                await change()
                return await alarms_are(self.nodes, wanted)
            except (ClientError, grpc.aio.AioRpcError):
                return False

        await wait_until_async(told, RECOVERY_S, f"each member tells the alarms {wanted}")

    async def stand_still(self, lease_to_stay: int) -> None:
        """No lease is left that could end of itself while one member after the other stops. New ones come instead:
        a snapshot may have given all members the older one from the same table, these each has written itself. An
        alarm is left, too."""
        async with Client(self.endpoints, timeout_s=CALL_S) as client:

            async def only_one() -> bool:
                try:
                    for lease in await client.leases():
                        if lease != lease_to_stay:
                            await client.lease_revoke(lease)
                    return await client.leases() == (lease_to_stay,)
                except ClientError:  # it ended just now
                    return False

            async def all_granted() -> bool:
                try:
                    there = await client.leases()
                    for number in range(1, LEASES_AT_END + 1):
                        if lease_to_stay + number not in there:
                            await client.lease_grant(number * LONG_TTL_S, lease_to_stay + number)
                except ClientError:  # the leader changed
                    return False
                return True

            await wait_until_async(only_one, RECOVERY_S, f"lease {lease_to_stay} alone is left")
            await wait_until_async(all_granted, RECOVERY_S, "new leases are there")
        await self._alarm_raised()
        await self.agree()

    def end_alike(self) -> dict[str, Rows]:
        """All members end in good order, and each has stored the same. The rows."""
        for node in self.nodes:
            node.is_down = True
            node.stop(STOP_S)
        self.require_alive()
        return require_same_tables(self.nodes)

    async def _view(self, node: PeerNode, revision: int) -> str:
        async with Client([node.endpoint], timeout_s=CALL_S) as client:
            await client.range(b"\0")  # it has applied what there is
            head = await client.hash_kv(revision)
            leases = sorted(await client.leases())
            lives = [await client.lease_time_to_live(lease, keys=True) for lease in leases]
            alarms = sorted((alarm.member_id, alarm.type.name) for alarm in await client.alarms())
        return str(
            (
                (head.hash, head.compact_revision),
                [(life.id, life.granted_ttl_s, sorted(life.keys)) for life in lives],
                sorted(node.members_by_peers(), key=lambda member: str(member["id"])),
                alarms,
            )
        )


async def answered(ask: Callable[[], Awaitable[Answer]], who: str) -> Answer:
    """Of a read, which is repeated: the leader may change at any time on a busy machine."""
    answers: list[Answer] = []

    async def once() -> bool:
        try:
            answers.append(await ask())
        except ClientError:
            return False
        return True

    await wait_until_async(once, RECOVERY_S, f"{who} answers")
    return answers[0]


def broken_at(log: str) -> str:
    """What surrounds the first line by which either program says that it cannot go on, or nothing."""
    found = BROKEN.search(log)
    return log[max(0, found.start() - 500) : found.start() + 2500] if found else ""


def without(member_id: int) -> Callable[[Sequence[Member]], bool]:
    return lambda members: all(member.id != member_id for member in members)


def learning(peer_url: str) -> Callable[[Sequence[Member]], Member | None]:
    return lambda members: next((member for member in members if peer_url in member.peer_urls), None)


def voting(member_id: int) -> Callable[[Sequence[Member]], bool]:
    return lambda members: any(member.id == member_id and not member.is_learner for member in members)
