"""Expiry goes into the leader's own log, and nowhere else. A real core and state machine, and a clock that is set."""

from itertools import count
from types import SimpleNamespace
from typing import cast

from kvorum.etcdpb.internal_pb2 import InternalRaftRequest
from kvorum.raft.core import Config, RawNode, Ready, Role
from kvorum.raft.log import MemoryStorage
from kvorum.raft.message import ConfState, Entry, Message, MessageType
from kvorum.server.lessor import EXPIRE_INTERVAL_S, Lessor
from kvorum.server.server import Server
from kvorum.state.dict_store import DictStore
from kvorum.state.machine import Machine

TTL_S = 2
ELECTION_S = 1.0


class Host:
    """What the lessor sees of a server that leads member 2, which acknowledges at once."""

    def __init__(self, *, checkpoints: bool = False) -> None:
        storage = MemoryStorage(conf_state=ConfState((1, 2)))
        self.raft = RawNode(Config(1, pre_vote=False), storage, applied=0, random=lambda n: 0)
        self.machine = Machine(DictStore(), lease_ttl_min_s=1, quota_bytes=-1)
        self.machine.load()
        self.now = 100.0
        self.loop = SimpleNamespace(time=lambda: self.now)
        self.settings = SimpleNamespace(election_ms=int(ELECTION_S * 1000), lease_checkpoints=checkpoints)
        self.ids = SimpleNamespace(next=count(1).__next__)
        self.lessor = Lessor(cast(Server, self))
        self.sent: list[Message] = []
        self.raft.campaign()
        self.pump()
        self.raft.step(Message(MessageType.VOTE_REPLY, to=1, sender=2, term=1))
        self.pump()
        assert self.lessor.is_primary

    @property
    def is_leader(self) -> bool:
        return self.raft.role is Role.LEADER

    def pump(self) -> list[Entry]:
        """What is new in the own log."""
        entries: list[Entry] = []
        while self.raft.has_ready():
            ready = self.raft.ready()
            entries += ready.entries
            self._work(ready)
        return entries

    def _work(self, ready: Ready) -> None:
        self.sent += ready.messages
        for entry in ready.committed:
            self.machine.apply(entry, answering=False)
            if not entry.data and self.is_leader:
                self.lessor.promote()
            elif entry.data:
                self.lessor.applied(entry.data)
        self.raft.advance()
        if self.is_leader and self.raft.log.committed < self.raft.log.last_index:
            index = self.raft.log.last_index
            self.raft.step(Message(MessageType.APPEND_REPLY, to=1, sender=2, term=self.raft.term, index=index))

    def schedule_flush(self) -> None:
        """The tests pump by themselves."""

    def grant(self, lease: int, ttl_s: int = TTL_S) -> None:
        request = InternalRaftRequest()
        request.header.ID = self.ids.next()
        request.lease_grant.ID, request.lease_grant.TTL = lease, ttl_s
        self.raft.propose([request.SerializeToString()])
        self.pump()

    def check(self, after_s: float) -> list[int]:
        """Time passes, the lessor looks; the leases whose revocation is in the log now."""
        self.now += after_s
        self.lessor.tick()
        return revoked(self.pump())


def revoked(entries: list[Entry]) -> list[int]:
    requests = [InternalRaftRequest.FromString(entry.data) for entry in entries if entry.data]
    return [request.lease_revoke.ID for request in requests if request.HasField("lease_revoke")]


def test_a_lease_is_revoked_once_and_not_before_its_time() -> None:
    host = Host()
    host.grant(7)
    assert host.check(TTL_S - 0.1) == []
    assert host.check(EXPIRE_INTERVAL_S) == [7]
    assert host.check(EXPIRE_INTERVAL_S) == []
    assert host.machine.leases.find(7) is None


def test_an_expiry_that_the_core_does_not_take_is_asked_for_again_and_not_kept_for_the_next_leader() -> None:
    host = Host()
    host.grant(7)
    host.raft.transfer_leader(2)  # proposals are dropped until it is over
    assert host.check(TTL_S + EXPIRE_INTERVAL_S) == []
    assert host.machine.leases.find(7) is not None
    for _ in range(10):
        host.raft.tick()  # the transfer had its time
        host.raft.step(Message(MessageType.HEARTBEAT_REPLY, to=1, sender=2, term=1))
    assert host.check(EXPIRE_INTERVAL_S) == [7]


def test_a_leader_that_was_replaced_asks_nobody_to_revoke() -> None:
    host = Host()
    host.grant(7)
    host.raft.step(Message(MessageType.HEARTBEAT, to=1, sender=2, term=2))  # and nobody has told the lessor yet
    host.sent.clear()
    assert host.check(TTL_S + EXPIRE_INTERVAL_S) == []
    assert [message for message in host.sent if message.type is MessageType.PROPOSE] == []


def test_a_renewal_is_refused_while_a_revocation_is_under_way() -> None:
    host = Host()
    host.grant(7)
    host.now += TTL_S + EXPIRE_INTERVAL_S
    host.lessor.tick()
    assert host.lessor.renew(7) == 0
    host.pump()
    assert host.machine.leases.find(7) is None


def test_the_empty_entry_of_a_refused_change_gives_no_lease_more_time() -> None:
    host = Host()
    host.grant(7)
    host.now += TTL_S + EXPIRE_INTERVAL_S
    host.lessor.tick()
    host.lessor.promote()
    assert host.lessor.renew(7) == 0, "its revocation is in the log"


def test_who_leads_early_gives_leases_the_time_in_which_the_one_before_may_renew_them() -> None:
    host = Host()
    host.grant(7)
    host.lessor.demote()
    host.lessor.expect_early_term()
    host.lessor.promote()
    assert host.check(TTL_S + 2 * ELECTION_S - 0.1) == []
    assert host.check(EXPIRE_INTERVAL_S) == [7]
    host.grant(8)
    host.lessor.demote()
    host.lessor.promote()
    assert host.check(TTL_S + ELECTION_S + 0.1) == [8], "only once"


# Checkpoints


def checkpoints(host: Host, after_s: float) -> dict[int, int]:
    """Time passes, the lessor looks; what the log now says of what leases have left."""
    host.now += after_s
    host.lessor.tick()
    told = [InternalRaftRequest.FromString(entry.data).lease_checkpoint for entry in host.pump() if entry.data]
    return {checkpoint.ID: checkpoint.remaining_TTL for one in told for checkpoint in one.checkpoints}


def test_what_long_leases_have_left_is_told_each_five_minutes() -> None:
    host = Host(checkpoints=True)
    host.grant(7, 1000)
    host.grant(8, 300)
    assert checkpoints(host, 299) == {}
    assert checkpoints(host, 1) == {7: 700}
    assert checkpoints(host, 299) == {}
    assert checkpoints(host, 1) == {7: 400}


def test_a_new_leader_goes_on_where_the_last_checkpoint_was() -> None:
    host = Host(checkpoints=True)
    host.grant(7, 1000)
    checkpoints(host, 300)
    host.lessor.demote()
    host.lessor.promote()
    assert host.check(700 + ELECTION_S - 0.5) == []
    assert host.check(1.0) == [7]


def test_a_renewal_after_a_checkpoint_tells_that_it_is_whole_again() -> None:
    host = Host(checkpoints=True)
    host.grant(7, 1000)
    checkpoints(host, 300)
    assert host.lessor.renew(7) == 1000
    assert checkpoints(host, 0) == {7: 0}
    assert host.lessor.renew(7) == 1000
    assert checkpoints(host, 0) == {}, "nothing is left to take back"
    lease = host.machine.leases.find(7)
    assert lease is not None
    assert lease.remaining_s == 1000


def test_of_a_lease_renewed_in_time_nothing_is_told_until_it_is_not() -> None:
    host = Host(checkpoints=True)
    host.grant(7, 1000)
    host.now += 299.9
    host.lessor.renew(7)
    assert checkpoints(host, 0.1) == {}
    assert checkpoints(host, 300) == {7: 700}


def test_who_leads_anew_begins_to_count_the_five_minutes_anew() -> None:
    host = Host(checkpoints=True)
    host.grant(7, 1000)
    host.now += 100
    host.lessor.demote()
    host.lessor.promote()
    assert checkpoints(host, 299) == {}
    assert checkpoints(host, 1) == {7: 700 + int(ELECTION_S)}


def test_nothing_is_told_where_it_is_not_asked_for_nor_by_a_leader_that_was() -> None:
    host = Host()
    host.grant(7, 1000)
    assert checkpoints(host, 300) == {}
    host = Host(checkpoints=True)
    host.grant(7, 1000)
    host.lessor.demote()
    assert checkpoints(host, 300) == {}
