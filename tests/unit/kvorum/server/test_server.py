"""Proposals, reads and membership on real members over a network that can be cut."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.raft.message import MessageType
from kvorum.server import reconfiguration
from kvorum.server.answer import WAITING_MAX, Done
from kvorum.state import refusal
from kvorum.state.refusal import Refusal

from tests.unit.kvorum.server.cluster import SETTINGS, Cluster, Reply, propose, put, put_payload, read


def run(folder: Path, count: int, story: Callable[[Cluster], Awaitable[None]], **changed: object) -> None:
    async def told() -> None:
        cluster = await Cluster(folder, replace(SETTINGS, **changed)).start(count)  # type: ignore[arg-type]  # each test names a setting
        try:
            await story(cluster)
        finally:
            cluster.stop()

    asyncio.run(told())


def value_of(body: bytes) -> bytes:
    return rpc.RangeResponse.FromString(body).kvs[0].value


def test_a_put_through_each_member_is_read_through_every_other(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        for member, server in cluster.servers.items():
            key = b"k%d" % member
            body = await put(server, key, b"v").body()
            header = rpc.PutResponse.FromString(body).header
            assert (header.member_id, header.cluster_id, header.raft_term) == (member, 1, server.raft.term)
            for other in cluster.servers.values():
                assert value_of(await read(other, key).body()) == b"v"

    run(tmp_path, 3, story)


def test_a_member_that_is_cut_off_answers_no_read_and_no_write_until_it_is_back(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        await put(cluster.leader(), b"k", b"old").body()
        lonely = cluster.follower()
        await cluster.until(lambda: lonely.machine.revision == 2, "the put at the follower")
        cluster.cut_off(lonely.member_id)
        writes, reads = put(lonely, b"k", b"lonely"), read(lonely, b"k")
        await put(cluster.leader(), b"k", b"new").body()
        await asyncio.wait({asyncio.ensure_future(asyncio.shield(reads.outcome()))}, timeout=0.3)
        assert not reads.done, "a member without a quorum told what it cannot know"
        assert not writes.done
        cluster.heal()
        assert value_of(await reads.body()) in (b"new", b"lonely")
        assert isinstance(await writes.outcome(), bytes)

    run(tmp_path, 3, story)


def test_a_leader_that_is_cut_off_lets_no_read_through_while_another_leads(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        old = cluster.leader()
        await put(old, b"k", b"old").body()
        cluster.cut_off(old.member_id)
        stale = read(old, b"k")
        others = [server for server in cluster.servers.values() if server is not old]
        await cluster.until(lambda: any(server.lessor.is_primary for server in others), "another leader")
        new = next(server for server in others if server.is_leader)
        await put(new, b"k", b"new").body()
        assert not stale.done
        cluster.heal()
        assert value_of(await stale.body()) == b"new"

    run(tmp_path, 3, story)


def test_a_read_at_a_member_that_lags_waits_until_it_has_applied_what_was_acknowledged(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader, lagging = cluster.leader(), cluster.follower()
        await put(leader, b"k", b"old").body()
        await cluster.until(lambda: lagging.machine.revision == 2, "the first put at the follower")
        wire = cluster.wires[leader.member_id]
        wire.lost = lambda message: message.type is MessageType.APPEND and message.to == lagging.member_id
        await put(leader, b"k", b"new").body()
        reading = read(lagging, b"k")
        await cluster.until(lambda: bool(lagging.reads.unapplied), "the leader's word on the read")
        assert not reading.done, "the leader has said how far to wait"
        wire.lost = lambda message: False
        assert value_of(await reading.body()) == b"new"

    run(tmp_path, 3, story)


def test_a_request_that_nobody_can_answer_ends_with_etcds_timeout(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        lonely = cluster.follower()
        cluster.cut_off(lonely.member_id)
        lonely._timeout_ticks = 30  # 300 ms instead of the 5 s that settings cannot go below
        assert await put(lonely, b"k", b"v").outcome() in (refusal.TIMEOUT, refusal.TIMEOUT_LEADER_FAILED)
        assert await read(lonely, b"k").outcome() == refusal.TIMEOUT

    run(tmp_path, 3, story)


def test_a_request_over_the_limit_never_reaches_the_log(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        index = server.raft.log.last_index
        assert await put(server, b"k", b"v" * 2000).outcome() == refusal.REQUEST_TOO_LARGE
        assert server.raft.log.last_index == index

    run(tmp_path, 1, story, request_bytes_max=1000)


def test_a_full_store_refuses_writes_raises_the_alarm_on_all_and_still_reads(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        outcomes = [await put(server, b"k%d" % n, b"v" * 4000).outcome() for n in range(200)]
        assert refusal.NO_SPACE in outcomes
        assert all(outcome == refusal.NO_SPACE for outcome in outcomes[outcomes.index(refusal.NO_SPACE) :])
        nospace = rpc.NOSPACE
        await cluster.until(
            lambda: all(each.machine.alarms.is_active(nospace) for each in cluster.servers.values()), "the alarm"
        )
        assert value_of(await read(cluster.follower(), b"k0").body()) == b"v" * 4000

    run(tmp_path, 3, story, quota_bytes=300_000)


def test_leases_expire_on_the_leaders_clock_with_their_keys(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader = cluster.leader()
        granted = rpc.LeaseGrantResponse.FromString(
            await propose(leader, b"\x42", rpc.LeaseGrantRequest(ID=7, TTL=1)).body()
        )
        assert (granted.ID, granted.TTL) == (7, 1)
        await put(leader, b"k", b"v", lease=7).body()
        begun = leader.loop.time()
        await cluster.until(
            lambda: all(server.machine.leases.find(7) is None for server in cluster.servers.values()), "expiry"
        )
        assert leader.loop.time() - begun > 0.8, "expired before its time"
        assert not rpc.RangeResponse.FromString(await read(cluster.follower(), b"k").body()).kvs

    run(tmp_path, 3, story)


def test_a_renewed_lease_lives_and_a_new_leader_gives_it_its_whole_time_again(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader = cluster.leader()
        await propose(leader, b"\x42", rpc.LeaseGrantRequest(ID=7, TTL=2)).body()
        assert leader.lessor.renew(7) == 2
        assert leader.lessor.renew(8) == 0
        follower = cluster.follower()
        assert follower.lessor.remaining_s(7) == -1, "only the leader knows"
        leader.transfer_leadership(follower.member_id)
        await cluster.until(lambda: follower.lessor.is_primary, "the new leader")
        assert leader.lessor.remaining_s(7) == -1, "an old leader must forget its clock"
        assert follower.lessor.remaining_s(7) >= 1

    run(tmp_path, 3, story)


def test_a_removed_member_retires_and_the_others_go_on(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader, gone = cluster.leader(), cluster.follower()
        answered: list[Refusal | None] = []
        reconfiguration.remove(leader, gone.member_id, answered.append)
        await cluster.until(lambda: gone.removed, "the removed member to notice")
        assert answered == [None]
        await put(leader, b"k", b"v").body()
        assert gone.machine.revision == 1

    run(tmp_path, 3, story)


def test_nobody_waits_for_a_member_that_retired_or_stopped(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader, gone = cluster.leader(), cluster.follower()
        wire = cluster.wires[leader.member_id]
        wire.lost = lambda message: message.type is MessageType.APPEND and message.to == gone.member_id
        await put(leader, b"k", b"v").body()
        waiting = [read(gone, b"k")]
        await cluster.until(lambda: bool(gone.reads.unapplied), "a read that waits to be applied")
        cluster.cut_off(gone.member_id)
        waiting += [read(gone, b"k"), put(gone, b"k", b"w")]
        gone.retire()
        assert [await each.outcome() for each in waiting] == [refusal.STOPPED] * 3
        late = read(leader, b"k")
        leader.stop()
        assert await late.outcome() == refusal.STOPPED

    run(tmp_path, 3, story)


def test_more_requests_than_the_bound_are_refused(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        lonely = cluster.follower()
        cluster.cut_off(lonely.member_id)
        reads = [read(lonely, b"k") for _ in range(WAITING_MAX + 1)]
        assert await reads[-1].outcome() == refusal.TOO_MANY_REQUESTS
        puts = [put(lonely, b"k", b"v") for _ in range(WAITING_MAX + 1)]
        assert await puts[-1].outcome() == refusal.TOO_MANY_REQUESTS
        assert not any(answer.done for answer in (*reads[:-1], *puts[:-1]))

    run(tmp_path, 3, story)


def test_removing_a_voter_is_refused_while_it_could_cost_the_quorum(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader = cluster.leader()
        followers = [server for server in cluster.servers.values() if server is not leader]
        for server in cluster.servers.values():  # started members are those that published
            for each in cluster.servers.values():
                server.machine.membership.publish(each.member_id, f"m{each.member_id}", ["http://c"])
        cluster.wires[leader.member_id].cut = {followers[0].member_id}
        answered: list[Refusal | None] = []
        reconfiguration.remove(leader, followers[1].member_id, answered.append)
        assert answered == [refusal.UNHEALTHY]
        reconfiguration.remove(leader, followers[0].member_id, answered.append)
        await cluster.until(lambda: len(answered) == 2, "an answer")
        assert answered[1] is None, "a voter that is down is always safe to remove"

    run(tmp_path, 3, story)


def test_a_voter_is_not_added_where_the_new_quorum_would_not_stand(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader = cluster.leader()
        for member in cluster.servers:
            leader.machine.membership.publish(member, f"m{member}", ["http://c"])
        answered: list[Refusal | None] = []

        def done(member_id: int, refused: Refusal | None) -> None:
            answered.append(refused)

        cluster.wires[leader.member_id].cut = set(cluster.servers) - {leader.member_id}
        reconfiguration.add(leader, ["http://new:1"], learner=False, unix_s=1, done=done)
        assert answered == [refusal.UNHEALTHY]

    run(tmp_path, 3, story)


def test_compaction_answers_a_physical_request_only_when_the_rows_are_gone(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        for n in range(1200):
            put(server, b"k", b"%d" % n)
        await put(server, b"k", b"last").body()
        await propose(server, b"\x3a", rpc.CompactionRequest(revision=server.machine.revision)).body()
        done: list[bool] = []
        server.compaction.when_done(lambda: done.append(True))
        assert not done
        await cluster.until(lambda: bool(done), "the compaction")
        assert len(list(server.store.scan("key"))) == 1

    run(tmp_path, 1, story)


def test_compaction_goes_in_batches_with_a_pause_between_them(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        for n in range(9):
            await put(server, b"k", b"%d" % n).body()
        started = server.loop.time()
        await propose(server, b"\x3a", rpc.CompactionRequest(revision=server.machine.revision)).body()
        await cluster.until(lambda: not server.machine.compaction.pending, "the compaction")
        assert server.loop.time() - started >= 4 * 0.1
        assert server.machine.compaction.removed_count == 8

    run(tmp_path, 1, story, compaction_rows_max=2, compaction_pause_ms=100)


@pytest.mark.parametrize("mode", ["period", "revisions"])
def test_history_is_compacted_by_itself(tmp_path: Path, mode: str) -> None:
    async def story(cluster: Cluster) -> None:
        for n in range(50):
            await put(cluster.leader(), b"k", b"%d" % n).body()
        await cluster.until(
            lambda: all(server.machine.compact_revision > 10 for server in cluster.servers.values()), "compaction"
        )

    settings = {"auto_compaction_period_ms": 300} if mode == "period" else {"auto_compaction_revisions": 20}
    if mode == "revisions":
        # The mode looks every five minutes, first at once: so it is the leader's first look that is seen here.
        async def first_look(cluster: Cluster) -> None:
            leader = cluster.leader()
            for n in range(50):
                await put(leader, b"k", b"%d" % n).body()
            leader.auto_compaction._next = 0.0
            await cluster.until(lambda: leader.machine.compact_revision == leader.machine.revision - 20, "compaction")

        run(tmp_path, 3, first_look, **settings)
    else:
        run(tmp_path, 3, story, **settings)


def test_a_restart_finds_everything_that_was_answered(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        for n in range(300):
            await put(cluster.leader(), b"k%d" % n, b"v").body()

    run(tmp_path, 1, story)
    from kvorum.state.machine import Machine
    from kvorum.storage.lmdb_store import LmdbStore
    from kvorum.storage.wal import Wal

    wal, replay = Wal.open(tmp_path / "n1" / "wal", segment_bytes=1 << 20)
    wal.close()
    store = LmdbStore.open(tmp_path / "n1" / "store")
    machine = Machine(store, lease_ttl_min_s=1, quota_bytes=-1)
    machine.load()
    assert machine.revision == 301
    assert machine.applied_index == replay.last_index
    store.close()


def test_payloads_carry_one_id_each(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        replies = [Reply() for _ in range(100)]
        for reply in replies:
            server.propose(put_payload(b"k", b"v"), reply)
        revisions = [rpc.PutResponse.FromString(await reply.body()).header.revision for reply in replies]
        assert revisions == list(range(2, 102)), "each answer belongs to its request, in order"

    run(tmp_path, 3, story)


def test_done_passes_refusals_on() -> None:
    seen: list[Refusal | None] = []
    Done(seen.append).fail(14, "text")
    Done(seen.append).reply(b"")
    assert seen == [Refusal(14, "text"), None]
