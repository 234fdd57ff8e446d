"""A cluster of etcds and our nodes, and what is done to it beside the faults of any cluster (tests/chaos/world.py).

Both are started with the same flags, etcd's own checks against corruption among them.
"""

import asyncio
import json
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path

from kvorum.client import Client, ClientError, Header, Put, PutResult

from tests.chaos.history import Call, Outcome
from tests.chaos.load import KEYS, Load
from tests.chaos.world import CALL_S, ENGINES, RECOVERY_S, PeerNode, World, answered
from tests.kit.deadline import DeadlineMissed, wait_until_async
from tests.kit.etcdctl import Etcdctl, Output
from tests.kit.processes import Program

SNAPSHOT_COUNT, CATCH_UP = 200, 50
FLAGS = (
    f"--snapshot-count={SNAPSHOT_COUNT}",
    f"--experimental-snapshot-catchup-entries={CATCH_UP}",
    "--experimental-initial-corrupt-check=true",
    "--experimental-corrupt-check-time=5s",
    "--experimental-compact-hash-check-enabled=true",
    "--experimental-compact-hash-check-time=5s",
)
BEHIND = SNAPSHOT_COUNT + CATCH_UP + 50  # entries a member misses that then needs a snapshot
TOLD_S = 15.0
PASSING = ("leader changed", "no leader", "timed out")  # what etcd says where the leader changes
DONE = ("already exists", "authentication is not enabled", "user name is empty")  # and what of what was done already
KEPT_S = 32.0  # as long a leader keeps its whole log after it has sent a snapshot to anybody, and a little
SENT = re.compile(r'"msg": ?"(sent a snapshot|sent database snapshot)')
DIFFERS = re.compile(  # what etcd's checks say when they find something
    r'"msg":"[^"]*(hash mismatch|different hash|data inconsistency|corruption alarm|CORRUPT|'
    r'cannot decode|failed to unmarshal)[^"]*"'
)
ROOT = "root:secret"


class MixedWorld(World):
    """load: set by whoever starts it; what is written here is part of its history."""

    load: Load

    def __init__(self, programs: Sequence[Program], folder: Path, dice: random.Random) -> None:
        super().__init__(programs, folder, dice, {"etcd": FLAGS, "kvorum": FLAGS})
        self._names = 0
        self._sent = 0  # snapshots, by all
        self._sent_s = float("-inf")  # when the last of them was noticed

    def of(self, *, ours: bool) -> list[PeerNode]:
        return [node for node in self.nodes if node.is_ours is ours]

    # Who leads

    async def led_by_etcd(self, _: float) -> None:
        await self._led_by(ours=False)

    async def led_by_ours(self, _: float) -> None:
        await self._led_by(ours=True)

    async def _led_by(self, *, ours: bool) -> None:
        target = self.dice.choice(self.of(ours=ours))

        async def leads() -> bool:
            if await self.leader() is target:
                return True
            await self.handed_over(target)
            return False

        await wait_until_async(leads, RECOVERY_S, f"{target.describe()} leads")

    async def note_leader(self) -> None:
        leader = await self.leader()
        if leader is not None:
            self.counts[f"led by {ENGINES[leader.is_ours]}"] += 1

    # Who dies

    async def etcd_killed(self, hold_s: float) -> None:
        await self._killed([self.dice.choice(self.of(ours=False))], hold_s)

    async def ours_killed(self, hold_s: float) -> None:
        await self._killed([self.dice.choice(self.of(ours=True))], hold_s)

    async def etcd_replaced(self, _: float) -> None:
        await self._replaced(ours=False)

    async def ours_replaced(self, _: float) -> None:
        await self._replaced(ours=True)

    async def _replaced(self, *, ours: bool) -> None:
        node = self.dice.choice(self.of(ours=ours))
        await self.replace(node, node.program, node.flags)

    # Who falls behind

    async def etcd_behind(self, _: float) -> None:
        """An etcd misses more than the log keeps, while one of ours leads where it can."""
        await self._behind(ours=False)

    async def ours_behind(self, _: float) -> None:
        await self._behind(ours=True)

    async def _behind(self, *, ours: bool) -> None:
        await self.healthy()  # or those who stay would be no quorum
        node = self.dice.choice(self.of(ours=ours))
        node.is_down = True
        await asyncio.to_thread(node.kill)
        self.counts["SIGKILL"] += 1
        if len(self.of(ours=not ours)) > 1 or self.dice.random() < 0.5:
            await self._lead_among([one for one in self.nodes if one is not node and one.is_ours is not ours])
        before = received_snapshots(node)
        index = await self._index()

        received = f"snapshots received by {ENGINES[ours]}"

        async def far() -> bool:
            sent = sum(len(SENT.findall(one.log())) for one in self.nodes)
            if sent != self._sent:
                self._sent, self._sent_s = sent, time.monotonic()
            kept_log = not self.counts[received] and time.monotonic() < self._sent_s + KEPT_S
            return not kept_log and await self._index() > index + BEHIND

        await wait_until_async(far, RECOVERY_S + KEPT_S, f"{BEHIND} entries without {node.name}")
        node.start()
        node.is_down = False
        await asyncio.to_thread(node.wait_healthy, RECOVERY_S)

        async def told() -> bool:
            return received_snapshots(node) > before

        try:  # it says so a moment after it is healthy
            await wait_until_async(told, TOLD_S, f"{node.describe()} received a snapshot")
            self.counts[received] += 1
        except DeadlineMissed:
            self.counts[f"{ENGINES[ours]} caught up from the log"] += 1

    async def _lead_among(self, nodes: Sequence[PeerNode]) -> None:
        if nodes and await self.leader() not in nodes:
            await self.handed_over(nodes[0])

    async def _index(self) -> int:
        """The highest that somebody has applied, of those who answer."""
        highest = 0
        async with Client(self.endpoints, timeout_s=CALL_S) as client:
            for node in self.nodes:
                if not node.is_down:
                    try:
                        highest = max(highest, (await client.status(node.endpoint)).applied_index)
                    except ClientError:  # it has just been started
                        continue
        return highest

    # Users and roles, through an etcd

    def _etcdctl(self, *arguments: str) -> Output:
        node = self.dice.choice([one for one in self.of(ours=False) if not one.is_down])
        return Etcdctl([node.endpoint]).run(*arguments)

    async def _done(self, *arguments: str) -> None:
        """Asked for again where the leader changed meanwhile; it may have been done the first time."""
        again = False

        async def done() -> bool:
            nonlocal again
            output = await asyncio.to_thread(self._etcdctl, *arguments)
            if output.status == 0 or (again and any(words in output.error for words in DONE)):
                return True
            again = True
            assert any(words in output.error for words in PASSING), f"etcdctl {' '.join(arguments)}: {output.error}"
            return False

        await wait_until_async(done, RECOVERY_S, f"etcdctl {' '.join(arguments)} succeeds")

    async def auth_changed(self, _: float) -> None:
        for change in self.dice.sample(self._changes(), 4):
            await self._done(*change)
            self.counts["auth changes"] += 1

    def _changes(self) -> list[tuple[str, ...]]:
        """Of a user and a role of their own, or of those that stay: they may come in any order."""
        self._names += 1
        name = f"of{self._names}"
        first = self.dice.choice(KEYS).decode()
        kind = self.dice.choice(("read", "write", "readwrite"))
        return [
            ("user", "add", f"{name}:word"),
            ("user", "add", f"{name}-without", "--no-password"),
            ("role", "add", name),
            ("role", "grant-permission", "standing", kind, first),
            ("role", "grant-permission", "standing", kind, "c/", "--prefix=true"),
            ("user", "grant-role", "alice", "standing"),
        ]

    async def prepare_auth(self) -> None:
        for change in (
            ("user", "add", ROOT),
            ("role", "add", "root"),
            ("user", "grant-role", "root", "root"),
            ("user", "add", "alice:word"),
            ("role", "add", "standing"),
            ("role", "grant-permission", "standing", "read", "c/00"),
        ):
            output = await asyncio.to_thread(self._etcdctl, *change)
            assert output.status == 0 or "already exists" in output.error, f"{change}: {output.error}"

    async def auth_enabled(self, hold_s: float) -> None:
        """For a short while: users write through the etcds, and our node refuses whoever says not who he is."""
        self.load.pause()
        await self._done("auth", "enable")
        try:
            until_s = time.monotonic() + hold_s
            puts = 0
            while puts < 3 or time.monotonic() < until_s:
                await self._put_as_root()
                puts += 1
            await self._done("--user", ROOT, "user", "grant-role", "alice", "standing")
            self.counts["auth changes"] += 1
            for node in self.of(ours=True):
                refusal = await asyncio.to_thread(Etcdctl([node.endpoint]).run, "put", "c/00", "no")
                assert refusal.status != 0, f"{node.describe()} took a put of nobody while auth was on"
                self.counts["refused by ours while auth was on"] += 1
        finally:
            await self._done("--user", ROOT, "auth", "disable")
            self.load.resume()

    async def _put_as_root(self) -> None:
        request = Put(self.dice.choice(KEYS), b"as root %d" % self.counts["puts while auth was on"])
        call = Call(request, time.monotonic())
        output = await asyncio.to_thread(
            self._etcdctl, "--user", ROOT, "-w", "json", "put", request.key.decode(), request.value.decode()
        )
        call.returned_s = time.monotonic()
        self.load.history.calls.append(call)
        if output.status == 0:
            call.outcome = Outcome.OK
            call.answer = PutResult(Header(0, 0, json.loads(output.stdout)["header"]["revision"], 0), None)
            self.counts["puts while auth was on"] += 1

    # What must be quiet

    async def require_quiet(self) -> None:
        """No alarm, no user or role that only some etcds have, and no etcd that found anything different. Ours tells
        nobody its users: those are compared in the tables that all leave at the end."""
        async with Client(self.endpoints, timeout_s=CALL_S) as client:
            alarms = await answered(client.alarms, "the cluster")
        assert not alarms, f"alarms: {alarms}"
        for node in self.of(ours=False):
            found = DIFFERS.search(node.log())
            assert found is None, f"{node.describe()} says {found[0] if found else ''}"
        for listed in (("user", "list"), ("role", "list"), ("role", "get", "standing")):
            said = {Etcdctl([node.endpoint]).run(*listed).stdout for node in self.of(ours=False)}
            assert len(said) == 1, f"etcds differ in {listed}: {said}"


def received_snapshots(node: PeerNode) -> int:
    """By its log."""
    return len(re.findall(r'"msg": ?"(applied snapshot|installed a snapshot)', node.log()))
