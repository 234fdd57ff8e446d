"""Asynchronous storage writes: what a member tells its threads, and what counts when they are done."""

from collections.abc import Sequence

import pytest
from kvorum.raft.core import Config, RawNode, Ready, Refusal, Role
from kvorum.raft.log import ENTRY_OVERHEAD_BYTES, MemoryStorage
from kvorum.raft.message import (
    APPEND_THREAD,
    APPLY_THREAD,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
    StorageMessage,
)


class Machine:
    """A member with its two threads, whose work is done when the test says so."""

    def __init__(self, voters: tuple[int, ...] = (1, 2, 3), *, apply_bytes_max: int = 1 << 20) -> None:
        self.disk = MemoryStorage(conf_state=ConfState(voters))
        config = Config(1, pre_vote=False, async_storage_writes=True, apply_bytes_max=apply_bytes_max)
        self.node = RawNode(config, self.disk, applied=0, random=lambda n: 0)
        self.appends: list[StorageMessage] = []
        self.applies: list[StorageMessage] = []
        self.sent: list[Message] = []

    def take(self) -> Ready:
        """A Ready: its work goes to the threads, the rest leaves."""
        ready = self.node.ready()
        assert ready.messages_after_append == []
        for message in ready.messages:
            if isinstance(message, StorageMessage):
                (self.appends if message.to == APPEND_THREAD else self.applies).append(message)
            else:
                self.sent.append(message)
        return ready

    def append(self) -> list[Message]:
        """The append thread does the oldest write. Its responses, of which the own ones are stepped."""
        work = self.appends.pop(0)
        if work.term:
            self.disk.set_hard_state(HardState(work.term, work.vote, work.commit))
        if work.snapshot is not None:
            self.disk.restore(work.snapshot)
        self.disk.append(work.entries)
        return self._respond(work)

    def apply(self) -> Sequence[Entry]:
        work = self.applies.pop(0)
        self._respond(work)
        return work.entries

    def _respond(self, work: StorageMessage) -> list[Message]:
        for message in work.responses:
            if message.to == self.node.id:
                self.node.step(message)
            else:
                self.sent.append(message)
        return work.responses

    def settle(self) -> None:
        while self.node.has_ready() or self.appends or self.applies:
            if self.node.has_ready():
                self.take()
            while self.appends:
                self.append()
            while self.applies:
                self.apply()


def leader(voters: tuple[int, ...] = (1, 2, 3), *, apply_bytes_max: int = 1 << 20) -> Machine:
    machine = Machine(voters, apply_bytes_max=apply_bytes_max)
    machine.node.campaign()
    machine.settle()
    for other in voters[1:]:
        machine.node.step(Message(MessageType.VOTE_REPLY, sender=other, term=1))
        machine.settle()
    for other in voters[1:]:
        machine.node.step(Message(MessageType.APPEND_REPLY, sender=other, term=1, index=1))
    machine.settle()
    assert role(machine) is Role.LEADER
    assert machine.node.log.applied == 1
    machine.sent.clear()
    return machine


def role(machine: Machine) -> Role:
    return machine.node.role


def append(index: int, term: int, leader_term: int, *entries: Entry, commit: int = 0) -> Message:
    sender = 2 if leader_term % 2 else 3
    return Message(
        MessageType.APPEND, sender=sender, term=leader_term, index=index, log_term=term, entries=entries, commit=commit
    )


def test_readys_are_taken_while_the_one_before_is_written() -> None:
    machine = leader()
    for data in (b"a", b"b"):
        machine.node.propose([data])
        machine.take()
    assert [[entry.data for entry in work.entries] for work in machine.appends] == [[b"a"], [b"b"]]
    assert not machine.node.has_ready()
    assert machine.node.log.durable_index == 1


def test_own_vote_counts_when_it_is_written() -> None:
    machine = Machine(voters=(1,))
    machine.node.campaign()
    machine.take()
    assert (machine.appends[0].term, machine.appends[0].vote) == (1, 1)
    assert role(machine) is Role.CANDIDATE
    machine.append()
    assert role(machine) is Role.LEADER


def test_own_entries_count_when_they_are_written() -> None:
    machine = leader(voters=(1, 2))
    machine.node.propose([b"a"])
    machine.take()
    machine.node.step(Message(MessageType.APPEND_REPLY, sender=2, term=1, index=2))
    assert machine.node.log.committed == 1
    machine.append()
    assert machine.node.log.committed == 2


def test_what_promises_something_is_a_response_and_a_request_for_votes_is_not() -> None:
    machine = Machine()
    machine.node.step(append(0, 0, 1, Entry(1, 1)))
    machine.take()
    assert machine.sent == []
    machine.append()
    assert [(message.type, message.to, message.index) for message in machine.sent] == [(MessageType.APPEND_REPLY, 2, 1)]
    machine.sent.clear()
    machine.node.campaign()
    machine.take()
    assert [message.type for message in machine.sent] == [MessageType.VOTE, MessageType.VOTE]


def test_committed_entries_are_applied_when_they_are_written_and_not_before() -> None:
    machine = Machine()
    machine.node.step(append(0, 0, 1, Entry(1, 1, b"a"), commit=1))
    machine.take()
    assert (machine.applies, machine.node.log.applying) == ([], 0)
    machine.append()
    machine.take()
    assert [entry.data for entry in machine.apply()] == [b"a"]
    assert machine.node.log.applied == 1


def test_readys_overlap_in_applying_too_up_to_a_limit() -> None:
    machine = leader(voters=(1,), apply_bytes_max=2 * (ENTRY_OVERHEAD_BYTES + 1))
    machine.node.propose([b"a", b"b", b"c"])
    machine.take()
    machine.append()
    machine.take()
    assert [entry.data for entry in machine.applies[0].entries] == [b"a", b"b"]
    machine.node.propose([b"d"])
    machine.take()
    while machine.appends:
        machine.append()
        machine.take()
    assert len(machine.applies) == 1  # as much as may be is under way
    machine.apply()
    machine.take()
    assert [entry.data for entry in machine.applies[0].entries] == [b"c", b"d"]


def test_an_entry_that_would_exceed_the_limit_waits_until_nothing_is_applied() -> None:
    machine = leader(voters=(1,), apply_bytes_max=2 * (ENTRY_OVERHEAD_BYTES + 1))
    machine.node.propose([b"a", bytes(100)])
    machine.take()
    machine.append()
    machine.take()
    assert len(machine.applies[0].entries) == 1
    assert not machine.node.has_ready()
    machine.apply()
    machine.take()
    assert [len(entry.data) for entry in machine.apply()] == [100]


def test_an_append_that_was_replaced_meanwhile_does_not_count() -> None:
    """The same entries again in a later term: their first write is done, and the one that replaced them is to come."""
    machine = Machine()
    old, new = Entry(1, 1, b"old"), Entry(2, 1, b"new")
    machine.node.step(append(0, 0, 1, old))
    machine.take()
    machine.node.step(append(0, 0, 2, new))
    machine.take()
    machine.node.step(append(0, 0, 3, old))
    machine.take()
    machine.append()
    assert machine.node.log.durable_index == 0  # else a read of index 1 would find new, as soon as that is written
    machine.append()
    assert machine.node.log.durable_index == 0
    machine.append()
    assert machine.node.log.durable_index == 1
    assert machine.disk.entries(1, 2) == [old]


def test_a_write_of_a_new_term_makes_up_for_an_answer_that_did_not_count() -> None:
    machine = Machine()
    machine.node.step(append(0, 0, 1, Entry(1, 1)))
    machine.take()
    machine.node.step(Message(MessageType.HEARTBEAT, sender=3, term=2))
    machine.take()
    machine.append()
    assert machine.node.log.durable_index == 0
    assert machine.appends[0].entries == []
    machine.append()
    assert machine.node.log.durable_index == 1


def test_a_snapshot_counts_when_it_is_written_whatever_the_term() -> None:
    machine = Machine()
    snapshot = Snapshot(9, 1, ConfState((1, 2)), b"state")
    machine.node.step(Message(MessageType.SNAPSHOT, sender=2, term=1, snapshot=snapshot))
    machine.take()
    machine.node.campaign()
    assert role(machine) is Role.FOLLOWER
    machine.node.step(Message(MessageType.HEARTBEAT, sender=3, term=2))
    machine.append()
    assert (machine.node.log.applied, machine.node.log.applying) == (9, 9)
    machine.node.campaign()
    assert role(machine) is Role.CANDIDATE
    assert machine.disk.first_index == 10


@pytest.mark.parametrize("kind", [MessageType.STORAGE_APPEND_REPLY, MessageType.STORAGE_APPLY_REPLY])
@pytest.mark.parametrize("sender", [2, APPEND_THREAD, APPLY_THREAD])
def test_a_member_without_threads_believes_nobody_to_be_one(kind: MessageType, sender: int) -> None:
    node = RawNode(Config(1), MemoryStorage(conf_state=ConfState((1, 2))), applied=0, random=lambda n: 0)
    node.step(append(0, 0, 1, Entry(1, 1)))
    message = Message(kind, sender=sender, term=1, index=1, log_term=1, entries=[Entry(1, 1)])
    assert node.step(message) is Refusal.LOCAL
    assert (node.log.durable_index, node.log.applied) == (0, 0)


def test_a_peer_cannot_speak_for_a_thread() -> None:
    machine = Machine()
    machine.node.step(append(0, 0, 1, Entry(1, 1)))
    done = Message(MessageType.STORAGE_APPEND_REPLY, sender=2, term=1, index=1, log_term=1)
    assert machine.node.step(done) is Refusal.LOCAL
    assert machine.node.log.durable_index == 0
