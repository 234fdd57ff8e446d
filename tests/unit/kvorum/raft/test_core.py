"""What RawNode owes to its caller, beside what the scenarios show."""

from collections.abc import Callable

import pytest
from kvorum.raft.config_change import ImpossibleChange
from kvorum.raft.core import Config, RawNode, Ready, Role, SoftState
from kvorum.raft.log import ENTRY_OVERHEAD_BYTES, MemoryStorage
from kvorum.raft.message import ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState, Message, MessageType
from kvorum.raft.progress import ProgressState


def member(
    *,
    voters: tuple[int, ...] = (1, 2, 3),
    learners: tuple[int, ...] = (),
    entries: list[Entry] | None = None,
    hard_state: HardState | None = None,
    applied: int = 0,
    config: Config | None = None,
) -> RawNode:
    storage = MemoryStorage(
        hard_state=hard_state, conf_state=ConfState(voters, learners), entries=entries if entries is not None else []
    )
    return RawNode(config or Config(1), storage, applied=applied, random=lambda n: 0)


def pump(node: RawNode) -> list[Ready]:
    done: list[Ready] = []
    while node.has_ready():
        done.append(node.ready())
        node.advance()
    return done


def leader(voters: tuple[int, ...] = (1, 2, 3), config: Config | None = None) -> RawNode:
    """By votes of all, and with its first entry committed."""
    node = member(voters=voters, config=config)
    node.campaign()
    pump(node)
    for kind, term in ((MessageType.PRE_VOTE_REPLY, 1), (MessageType.VOTE_REPLY, 1)):
        for other in voters[1:]:
            node.step(Message(kind, sender=other, term=term))
        pump(node)
    for other in voters[1:]:
        acknowledge(node, other)
    pump(node)
    assert node.role is Role.LEADER
    assert node.log.applied == node.log.last_index
    return node


def acknowledge(node: RawNode, sender: int) -> None:
    node.step(Message(MessageType.APPEND_REPLY, sender=sender, term=node.term, index=node.log.last_index))


def appends(ready: Ready) -> list[Message]:
    return [message for message in ready.messages if message.type is MessageType.APPEND]


def test_one_ready_at_a_time() -> None:
    node = leader()
    node.propose([b"a"])
    node.ready()
    node.propose([b"b"])
    assert not node.has_ready()
    with pytest.raises(AssertionError, match="advance"):
        node.ready()
    node.advance()
    assert node.has_ready()
    assert [entry.data for entry in node.ready().entries] == [b"b"]


def test_advance_needs_a_ready() -> None:
    with pytest.raises(AssertionError):
        member().advance()


def test_nothing_to_do_at_first() -> None:
    assert not member().has_ready()


def test_states_are_given_out_when_they_change_and_not_again() -> None:
    node = member(hard_state=HardState(2, 3, 0))
    node.step(Message(MessageType.HEARTBEAT, sender=2, term=2))
    ready = node.ready()
    assert ready.soft_state == SoftState(2, Role.FOLLOWER)
    assert ready.hard_state is None
    assert not ready.must_sync
    node.advance()
    node.step(Message(MessageType.HEARTBEAT, sender=2, term=2))
    assert node.ready().soft_state is None


def test_stable_log_and_hard_state_follow_advance() -> None:
    node = leader(voters=(1,))
    storage = node._storage
    node.propose([b"a"])
    node.ready()
    assert storage.last_index == 1
    node.advance()
    assert storage.last_index == 2
    pump(node)
    assert storage.hard_state == HardState(1, 1, 2)


def test_a_batch_is_one_append_and_followers_share_its_entries() -> None:
    node = leader()
    assert node.propose([b"%d" % number for number in range(100)])
    ready = node.ready()
    assert len(ready.entries) == 100
    first, second = appends(ready)
    assert first.entries is second.entries
    assert first.entries[0] is ready.entries[0]


def test_an_empty_batch_is_taken_and_leaves_nothing() -> None:
    node = leader()
    assert node.propose([])
    assert not node.has_ready()


def test_proposals_of_others_are_copied_not_changed() -> None:
    node = leader()
    theirs = Entry(0, 0, b"x")
    node.step(Message(MessageType.PROPOSE, sender=2, entries=[theirs]))
    (entry,) = node.ready().entries
    assert (entry.term, entry.index) == (1, 2)
    assert (theirs.term, theirs.index) == (0, 0)


def test_commit_is_announced_once_a_ready_however_many_acknowledge() -> None:
    node = leader(voters=(1, 2, 3, 4, 5))
    node.propose([b"a"])
    pump(node)
    for other in (2, 3, 4, 5):
        acknowledge(node, other)
    assert sorted(message.to for message in appends(node.ready())) == [2, 3, 4, 5]
    node.advance()
    pump(node)


def test_acknowledgement_of_what_is_committed_and_told_leaves_nothing_to_do() -> None:
    node = leader()
    node.propose([b"a"])
    pump(node)
    acknowledge(node, 2)
    pump(node)
    acknowledge(node, 3)
    assert not node.has_ready()


def test_commit_travels_with_the_next_entries_and_not_beside_them() -> None:
    node = leader()
    node.propose([b"a"])
    pump(node)
    acknowledge(node, 2)
    node.propose([b"b"])
    assert [(message.commit, len(message.entries)) for message in appends(node.ready())] == [(2, 1), (2, 1)]


def test_large_log_is_sent_in_messages_of_limited_size() -> None:
    limit = 10 * (ENTRY_OVERHEAD_BYTES + 100)
    node = leader(voters=(1, 2), config=Config(1, append_bytes_max=limit, inflight_max=3))
    node.propose([bytes(100)] * 50)
    assert [len(message.entries) for message in appends(node.ready())] == [10, 10, 10]
    node.advance()
    node.step(Message(MessageType.APPEND_REPLY, sender=2, term=1, index=11))
    assert [len(message.entries) for message in appends(node.ready())] == [10]


def test_committed_entries_are_given_out_in_pieces() -> None:
    node = leader(voters=(1,), config=Config(1, apply_bytes_max=2 * ENTRY_OVERHEAD_BYTES + 2))
    node.propose([b"a", b"b", b"c"])
    readies = pump(node)
    assert [[entry.data for entry in ready.committed] for ready in readies] == [[], [b"a", b"b"], [b"c"]]


def test_what_is_sent_is_of_this_leadership() -> None:
    """Led before, lost the tail, leads again with a log of the same length: the range is the same, its entry is not."""
    node = leader(voters=(1, 2))
    node.propose([b"a"])
    pump(node)
    node.propose([b"old"])
    pump(node)
    node.step(Message(MessageType.APPEND, sender=2, term=2, index=1, log_term=1, entries=[Entry(2, 2, b"new")]))
    node.step(Message(MessageType.TIMEOUT_NOW, sender=2, term=2))
    pump(node)
    node.step(Message(MessageType.VOTE_REPLY, sender=2, term=3))
    (message,) = appends(node.ready())
    assert message.index == 2
    assert message.entries == [Entry(3, 3)]


def test_new_leader_counts_what_its_own_disk_has() -> None:
    node = member(entries=[Entry(1, 1), Entry(1, 2)], config=Config(1, pre_vote=False))
    node.campaign()
    pump(node)
    node.step(Message(MessageType.VOTE_REPLY, sender=2, term=1))
    own = node.progress(1)
    assert own is not None
    assert (own.match, node.log.last_index) == (2, 3)


def test_conf_changes_must_be_applied_before_advance() -> None:
    change = Entry(1, 1, b"x", EntryType.CONF_CHANGE)
    node = member(entries=[change], hard_state=HardState(1, 0, 1))
    assert node.ready().committed == [change]
    with pytest.raises(AssertionError, match="not applied"):
        node.advance()


def test_conf_changes_come_from_the_log_alone() -> None:
    with pytest.raises(AssertionError, match="not of this Ready"):
        member().apply_conf_change(ConfChange(ConfChangeType.ADD_NODE, 4))


def test_impossible_change_is_told_to_the_caller() -> None:
    node = member(voters=(1,), entries=[Entry(1, 1, b"x", EntryType.CONF_CHANGE)], hard_state=HardState(1, 0, 1))
    node.ready()
    with pytest.raises(ImpossibleChange):
        node.apply_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 1))


def test_configuration_is_told_when_a_change_is_applied() -> None:
    changes = [Entry(1, index, b"x", EntryType.CONF_CHANGE) for index in (1, 2)]
    node = member(voters=(2, 1), entries=changes, hard_state=HardState(1, 0, 2))
    node.ready()
    assert node.apply_conf_change(ConfChange(ConfChangeType.ADD_LEARNER, 3)) == ConfState((1, 2), (3,))
    assert node.apply_conf_change(ConfChange(ConfChangeType.ADD_NODE, 0)) == ConfState((1, 2), (3,))
    node.advance()


def test_no_change_is_proposed_within_a_joint_configuration() -> None:
    storage = MemoryStorage(conf_state=ConfState((1,), (), (1,)))
    node = RawNode(Config(1), storage, applied=0, random=lambda n: 0)
    node.campaign()
    pump(node)
    assert node.propose_conf_change(b"x")
    assert [(entry.type, entry.data) for entry in node.ready().entries] == [(EntryType.NORMAL, b"")]


def test_leader_tracks_itself_as_it_tracks_others() -> None:
    node = leader()
    node.propose([b"a"])
    own = node.progress(1)
    assert own is not None
    assert (own.match, own.state, own.active) == (1, ProgressState.REPLICATE, True)  # the new one is not durable yet
    pump(node)
    assert own.match == 2


def test_heartbeats_count_from_the_beginning_of_a_leadership() -> None:
    node = leader(voters=(1,), config=Config(1, heartbeat_ticks=2, pre_vote=False))
    node.tick()
    node.step(Message(MessageType.APPEND, sender=9, term=5, index=1, log_term=1))
    pump(node)
    node.campaign()
    pump(node)
    assert node.role is Role.LEADER
    node.tick()
    assert node.heartbeat_elapsed == 1
    node.tick()
    assert node.heartbeat_elapsed == 0


def test_progress_is_told_by_member() -> None:
    node = leader()
    progress = node.progress(2)
    assert progress is not None
    assert (progress.match, progress.next, progress.active) == (1, 2, True)
    assert node.progress(9) is None


def test_election_timeout_is_drawn_anew_for_each_term() -> None:
    drawn: list[int] = []

    def random(n: int) -> int:
        drawn.append(n)
        return len(drawn) % n

    node = RawNode(Config(1, election_ticks=7), MemoryStorage(conf_state=ConfState((1, 2))), applied=0, random=random)
    assert node.election_timeout_ticks == 8
    node.step(Message(MessageType.HEARTBEAT, sender=2, term=1))
    assert node.election_timeout_ticks == 9
    assert set(drawn) == {7}


def test_read_states_are_given_out_once() -> None:
    node = leader(voters=(1,))
    assert node.read_index(b"context")
    assert [(state.index, state.context) for state in node.ready().read_states] == [(1, b"context")]
    node.advance()
    assert not node.has_ready()


def test_restart_gives_out_what_is_committed_and_not_applied() -> None:
    entries = [Entry(1, index, b"%d" % index) for index in range(1, 6)]
    node = member(entries=entries, hard_state=HardState(1, 0, 4), applied=2)
    assert [entry.index for entry in node.ready().committed] == [3, 4]


def test_restart_ends_when_the_log_lost_what_was_applied() -> None:
    with pytest.raises(AssertionError, match="entries were lost"):
        member(entries=[Entry(1, 1)], applied=2)


def test_defaults_are_those_of_etcd() -> None:
    config = Config(1)
    assert (config.election_ticks, config.heartbeat_ticks) == (10, 1)
    assert (config.pre_vote, config.check_quorum) == (True, True)
    assert (config.append_bytes_max, config.inflight_max) == (1 << 20, 512)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Config(0),
        lambda: Config(1, election_ticks=1),
        lambda: Config(1, heartbeat_ticks=0),
        lambda: Config(1, inflight_max=0),
        lambda: Config(1, append_bytes_max=0),
        lambda: Config(1, apply_bytes_max=0),
    ],
)
def test_config_without_sense_is_refused(wrong: Callable[[], Config]) -> None:
    with pytest.raises(AssertionError):
        wrong()


def test_two_leaders_in_one_term_end_the_process() -> None:
    node = member()
    node.step(Message(MessageType.HEARTBEAT, sender=2, term=1))
    with pytest.raises(AssertionError, match="two leaders"):
        node.step(Message(MessageType.HEARTBEAT, sender=3, term=1))


def test_a_leader_does_not_ask_itself() -> None:
    node = leader()
    node.transfer_leader(1)
    assert node.leader_transferee == 0
    node.campaign()
    assert node.role is Role.LEADER
