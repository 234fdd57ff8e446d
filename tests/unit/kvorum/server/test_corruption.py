"""Comparing hashes: what is a difference, what is none, and what the leader does about it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.server import corruption
from kvorum.server.corruption import CompactHashes, Differs, Told, differing_at_start, differing_now
from kvorum.server.peers import PeerHash, PeerRefused
from kvorum.server.server import Server
from kvorum.state.hash_kv import KeySpaceHash
from kvorum.state.membership import Member
from kvorum.state.store import KEY

from tests.unit.kvorum.server.cluster import Cluster, propose, put

OWN = KeySpaceHash(hash=111, revision=10, compact_revision=4)
COMPACTION = b"\x3a"


def told(hashed: int, revision: int = 10, compacted: int = 4) -> list[Told]:
    return [Told(7, PeerHash(hashed, revision, compacted))]


# ---- the rules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "differs"),
    [
        (told(111), False),
        (told(222), True),
        (told(222, compacted=3), False),  # compacted otherwise: other rows were hashed
        (told(222, revision=12), True),  # it is ahead, and was asked for our revision
        ([Told(7, None)], False),
    ],
)
def test_at_start_equal_things_must_be_equal(answer: list[Told], differs: bool) -> None:
    assert differing_at_start(OWN, answer) == ([7] if differs else [])


@pytest.mark.parametrize(
    ("answer", "differs"),
    [
        (told(111), False),
        (told(222), True),
        (told(222, compacted=3), False),
        (told(111, revision=13), True),  # above the leader's revision, which it confirmed afterwards
        (told(111, revision=12), False),
        (told(222, compacted=6), True),  # compacted further than the leader
        (told(222, compacted=5), False),  # the leader compacted meanwhile
        ([Told(7, None)], False),
    ],
)
def test_a_leader_is_never_behind_and_equal_things_must_be_equal(answer: list[Told], differs: bool) -> None:
    after = KeySpaceHash(hash=333, revision=12, compact_revision=5)
    assert differing_now(OWN, after, answer) == ([7] if differs else [])


class Peer:
    """Answers for a member at one URL; None: it is silent."""

    def __init__(self, answers: dict[str, PeerHash | PeerRefused | None]) -> None:
        self.answers = answers

    async def hash_kv(self, urls: Sequence[str], revision: int) -> PeerHash:
        answer = self.answers[urls[0]]
        if isinstance(answer, PeerRefused):
            raise answer
        if answer is None:
            raise ConnectionRefusedError
        return answer


MEMBERS = [Member(1, ("own",)), Member(2, ("two",)), Member(3, ("three",))]


def test_a_start_is_refused_by_a_difference_alone() -> None:
    future = PeerRefused("mvcc: required revision is a future revision")
    fine = Peer({"two": future, "three": None})
    asyncio.run(corruption.check_at_start(1, OWN, MEMBERS, fine))
    bad = Peer({"two": PeerHash(111, 10, 4), "three": PeerHash(5, 10, 4)})
    with pytest.raises(Differs, match=r"member 1 found data inconsistency with peers.*not those of 3\n"):
        asyncio.run(corruption.check_at_start(1, OWN, MEMBERS, bad))


# ---- on real members -------------------------------------------------------------------------------------------------


def run(folder: Path, story: Callable[[Cluster], Awaitable[None]]) -> None:
    async def told() -> None:
        cluster = await Cluster(folder).start(3)
        try:
            await story(cluster)
        finally:
            cluster.stop()

    asyncio.run(told())


def corrupt(server: Server) -> None:
    """One bit of one value."""
    row_key, row = next(iter(server.store.scan(KEY)))
    server.store.put(KEY, row_key, row[:-1] + bytes([row[-1] ^ 1]))


async def filled(cluster: Cluster) -> Server:
    leader = cluster.leader()
    for number in range(10):
        await put(leader, b"k%d" % number, b"v").body()
    await settled(cluster)
    return leader


async def settled(cluster: Cluster) -> None:
    servers = cluster.servers.values()
    await cluster.until(lambda: len({each.machine.applied_index for each in servers}) == 1, "all have applied all")


async def compact(cluster: Cluster, revision: int) -> None:
    await propose(cluster.leader(), COMPACTION, rpc.CompactionRequest(revision=revision, physical=True)).body()
    done = [each.machine.compaction for each in cluster.servers.values()]
    await cluster.until(
        lambda: all(one.finished_revision == revision and not one.pending for one in done), f"compacted at {revision}"
    )


def alarmed(cluster: Cluster) -> list[tuple[int, int]]:
    return [(one.memberID, one.alarm) for one in cluster.leader().machine.alarms.active()]


async def until_alarmed(cluster: Cluster) -> None:
    await cluster.until(lambda: bool(alarmed(cluster)), "the alarm")
    assert alarmed(cluster) == [(0, rpc.CORRUPT)]


def test_a_difference_at_the_current_revision_raises_the_alarm(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader = await filled(cluster)
        await corruption.check_now(leader)
        await settled(cluster)
        assert alarmed(cluster) == []
        corrupt(cluster.follower())
        await corruption.check_now(leader)
        await until_alarmed(cluster)

    run(tmp_path, story)


def test_a_difference_in_what_a_compaction_hashed_raises_the_alarm(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader = await filled(cluster)
        checks = CompactHashes()
        await compact(cluster, 5)
        await checks.check(leader)
        await settled(cluster)
        assert alarmed(cluster) == []
        corrupt(cluster.follower())
        await checks.check(leader)  # what was compared once is not compared again
        await settled(cluster)
        assert alarmed(cluster) == []
        await compact(cluster, 8)
        await checks.check(leader)
        await until_alarmed(cluster)

    run(tmp_path, story)


def test_a_silent_member_leaves_a_compaction_to_be_compared_later(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader = await filled(cluster)
        silent = cluster.follower()
        checks = CompactHashes()
        corrupt(silent)
        await compact(cluster, 5)
        cluster.cut_off(silent.member_id)
        await checks.check(leader)
        assert alarmed(cluster) == []
        cluster.heal()
        await checks.check(leader)
        await until_alarmed(cluster)

    run(tmp_path, story)


def test_load_and_compactions_raise_no_alarm(tmp_path: Path) -> None:
    """Checks, puts, deletes and compactions at once, members behind each other."""

    async def story(cluster: Cluster) -> None:
        leader, checks = cluster.leader(), CompactHashes()

        async def write() -> None:
            for number in range(300):
                await put(leader, b"k%d" % (number % 17), b"v" * (number % 50)).body()
                if number % 7 == 3:
                    request = rpc.DeleteRangeRequest(key=b"k%d" % (number % 17))
                    await propose(leader, b"\x2a", request).body()
                if number % 20 == 19:
                    at = leader.machine.revision - 3
                    await propose(leader, COMPACTION, rpc.CompactionRequest(revision=at)).body()

        writing = asyncio.create_task(write())
        count = 0
        while not writing.done():
            await corruption.check_now(leader)
            await checks.check(leader)
            count += 1
            await asyncio.sleep(0)
        await writing
        assert count > 5, "the checks ran beside the load"
        await corruption.check_now(leader)
        await settled(cluster)
        assert alarmed(cluster) == []

    run(tmp_path, story)
