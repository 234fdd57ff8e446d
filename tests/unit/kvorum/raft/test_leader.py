"""What limits a leader, and what it does with changes of the configuration."""

import pytest
from kvorum.raft import change_codec
from kvorum.raft.core import Config, RawNode, Ready, Refusal, Role
from kvorum.raft.log import MemoryStorage
from kvorum.raft.message import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    Message,
    MessageType,
)
from kvorum.raft.progress import ProgressState

ADD, LEARN, REMOVE = ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER, ConfChangeType.REMOVE_NODE


def pump(node: RawNode) -> list[Ready]:
    """Readys until there are none; each change among them is put into force."""
    done: list[Ready] = []
    while node.has_ready():
        ready = node.ready()
        for entry in ready.committed:
            if entry.type != EntryType.NORMAL:
                node.apply_conf_change(change_codec.decode(entry))
        done.append(ready)
        node.advance()
    return done


def acknowledge(node: RawNode, *members: int) -> list[Ready]:
    done: list[Ready] = []
    for member in members:
        node.step(Message(MessageType.APPEND_REPLY, sender=member, term=node.term, index=node.log.last_index))
        done += pump(node)
    return done


def leader(voters: tuple[int, ...] = (1, 2, 3), config: Config | None = None) -> RawNode:
    storage = MemoryStorage(conf_state=ConfState(voters))
    node = RawNode(config or Config(1, pre_vote=False), storage, applied=0, random=lambda n: 0)
    node.campaign()
    pump(node)
    for other in voters[1:]:
        node.step(Message(MessageType.VOTE_REPLY, sender=other, term=1))
    pump(node)
    acknowledge(node, *voters[1:])
    assert (node.role, node.log.applied) == (Role.LEADER, 1)
    return node


def change(*singles: tuple[ConfChangeType, int], explicit: bool = False) -> ConfChangeV2:
    transition = ConfChangeTransition.JOINT_EXPLICIT if explicit else ConfChangeTransition.AUTO
    return ConfChangeV2(transition, tuple(ConfChangeSingle(kind, member) for kind, member in singles))


def role(node: RawNode) -> Role:
    return node.role


def last(node: RawNode) -> tuple[int, bytes]:
    """Type and data of the last entry."""
    (entry,) = node.log.entries(node.log.last_index, node.log.last_index + 1)
    return entry.type, entry.data


# -- limits


def test_proposals_beyond_the_limit_of_what_is_not_applied_are_dropped() -> None:
    node = leader(config=Config(1, pre_vote=False, uncommitted_bytes_max=10))
    assert node.propose([bytes(6)])
    assert not node.propose([bytes(5)])
    assert node.step(Message(MessageType.PROPOSE, sender=2, entries=[Entry(0, 0, bytes(5))])) is Refusal.DROPPED
    assert node.propose([bytes(4)])
    assert node.log.last_index == 3
    pump(node)
    acknowledge(node, 2)
    assert node.propose([bytes(10)])


def test_one_proposal_however_large_and_any_empty_one_get_in() -> None:
    node = leader(config=Config(1, pre_vote=False, uncommitted_bytes_max=10))
    assert node.propose([bytes(100)])
    assert node.propose([b""])
    assert not node.propose([b"x"])


def test_a_new_term_counts_from_nothing() -> None:
    node = leader(config=Config(1, pre_vote=False, uncommitted_bytes_max=10))
    node.propose([bytes(10)])
    pump(node)
    node.step(Message(MessageType.HEARTBEAT, sender=2, term=2))
    assert node.uncommitted_bytes == 0


def test_payloads_in_flight_are_limited() -> None:
    config = Config(1, pre_vote=False, append_bytes_max=100, inflight_bytes_max=100)
    node = leader(voters=(1, 2), config=config)
    for _ in range(3):
        node.propose([bytes(60)])
    progress = node.tracked[2]
    assert (progress.next, progress.is_full, progress.is_paused) == (4, True, True)  # the second one exceeds it
    pump(node)
    node.step(Message(MessageType.APPEND_REPLY, sender=2, term=1, index=2))
    assert progress.next == 5
    assert not progress.inflight_bytes or sum(progress.inflight_bytes) == 120


def test_full_member_is_asked_without_entries_when_it_answers_a_heartbeat() -> None:
    node = leader(voters=(1, 2), config=Config(1, pre_vote=False, inflight_max=1))
    node.propose([b"a"])
    node.propose([b"b"])
    pump(node)
    node.step(Message(MessageType.HEARTBEAT_REPLY, sender=2, term=1))
    (message,) = node.ready().messages
    assert (message.type, message.index, message.entries) == (MessageType.APPEND, 2, ())
    assert node.tracked[2].is_paused


def test_a_heartbeats_answer_ends_a_probe_of_who_is_not_behind() -> None:
    node = leader(voters=(1, 2))
    node.report_unreachable(2)
    node.step(Message(MessageType.HEARTBEAT_REPLY, sender=2, term=1))
    assert [message.type for message in node.ready().messages] == [MessageType.APPEND]
    node.advance()
    acknowledge(node, 2)
    assert node.tracked[2].state is ProgressState.REPLICATE


# -- joint configurations


def test_both_halves_must_agree_and_the_leader_ends_it_by_itself() -> None:
    node = leader()
    node.propose_conf_change_v2(change((ADD, 4), (ADD, 5), (REMOVE, 3)))
    pump(node)
    acknowledge(node, 2)
    assert node.config.state() == ConfState((1, 2, 4, 5), voters_outgoing=(1, 2, 3), auto_leave=True)
    assert last(node) == (EntryType.CONF_CHANGE_V2, b"")
    acknowledge(node, 2, 3)  # the old half, and two of four
    assert set(node.tracked) == {1, 2, 3, 4, 5}
    acknowledge(node, 4)
    assert node.config.state() == ConfState((1, 2, 4, 5))
    assert set(node.tracked) == {1, 2, 4, 5}


def test_votes_of_both_halves_are_needed() -> None:
    storage = MemoryStorage(conf_state=ConfState((1, 2), voters_outgoing=(1, 3, 4)))
    node = RawNode(Config(1, pre_vote=False), storage, applied=0, random=lambda n: 0)
    node.campaign()
    pump(node)
    node.step(Message(MessageType.VOTE_REPLY, sender=2, term=1))
    assert role(node) is Role.CANDIDATE
    node.step(Message(MessageType.VOTE_REPLY, sender=3, term=1))
    assert role(node) is Role.LEADER


def test_an_explicit_one_ends_when_somebody_says_so() -> None:
    node = leader()
    node.propose_conf_change_v2(change((LEARN, 3), explicit=True))
    pump(node)
    acknowledge(node, 2)
    assert (node.config.is_joint, node.config.learners_next) == (True, frozenset({3}))
    assert last(node)[0] == EntryType.CONF_CHANGE_V2  # the change itself
    node.propose_conf_change_v2(ConfChangeV2())
    pump(node)
    acknowledge(node, 2)
    assert (node.config.is_joint, node.config.learners) == (False, frozenset({3}))


def test_the_end_is_proposed_again_when_a_handover_that_was_in_the_way_is_over() -> None:
    node = leader()
    node.propose_conf_change_v2(change((ADD, 4), (ADD, 5)))
    pump(node)
    node.step(Message(MessageType.TRANSFER_LEADER, sender=3, term=1))  # 3 is behind
    acknowledge(node, 2)
    assert node.config.is_joint
    assert node.log.last_index == 2
    for _ in range(10):
        node.tick()
        for other in (2, 3, 4):
            node.step(Message(MessageType.HEARTBEAT_REPLY, sender=other, term=1))
    assert node.leader_transferee == 0
    node.propose([b"a"])
    pump(node)
    acknowledge(node, 2, 4, 5)
    assert last(node) == (EntryType.CONF_CHANGE_V2, b"")


def test_the_end_is_proposed_once() -> None:
    """Other entries are applied before it is."""
    node = leader()
    node.propose_conf_change_v2(change((ADD, 4), (ADD, 5)))
    pump(node)
    node.propose([b"a"])
    pump(node)
    node.step(Message(MessageType.APPEND_REPLY, sender=2, term=1, index=2))  # the change: the end is proposed
    pump(node)
    assert node.log.last_index == 4
    for member in (2, 4):
        node.step(Message(MessageType.APPEND_REPLY, sender=member, term=1, index=3))  # a, and not yet the end
        pump(node)
    assert (node.log.applied, node.log.last_index) == (3, 4)


def test_a_new_leader_ends_what_the_one_before_began() -> None:
    storage = MemoryStorage(conf_state=ConfState((1,), voters_outgoing=(1,), auto_leave=True))
    node = RawNode(Config(1, pre_vote=False), storage, applied=0, random=lambda n: 0)
    node.campaign()
    pump(node)
    assert not node.config.is_joint


def test_who_is_removed_and_added_by_one_change_is_not_known_any_more() -> None:
    """It may be another one by now, with an empty log: what the former one had must not count."""
    node = leader()
    node.propose_conf_change_v2(change((LEARN, 4)))
    pump(node)
    acknowledge(node, 2, 4)
    assert node.tracked[4].match == 2
    node.propose_conf_change_v2(change((REMOVE, 4), (ADD, 4)))
    pump(node)
    acknowledge(node, 2)
    assert node.tracked[4].match == 0


def test_who_votes_in_the_half_that_ends_is_known() -> None:
    node = leader()
    node.propose_conf_change_v2(change((REMOVE, 3), (ADD, 4)))
    pump(node)
    acknowledge(node, 2, 3)
    assert node.config.is_joint
    assert node.tracked[3].match == node.log.last_index


# -- changes that are not taken


@pytest.mark.parametrize(
    ("before", "proposed"),
    [
        (change((LEARN, 3), explicit=True), change((ADD, 4))),
        (None, ConfChangeV2()),
    ],
    ids=["another change while joint", "the end of what is not joint"],
)
def test_a_change_that_does_not_fit_is_an_empty_entry(before: ConfChangeV2 | None, proposed: ConfChangeV2) -> None:
    node = leader()
    if before is not None:
        node.propose_conf_change_v2(before)
        pump(node)
        acknowledge(node, 2)
    assert node.propose_conf_change_v2(proposed)
    assert last(node) == (EntryType.NORMAL, b"")


def test_bytes_that_are_no_change_are_an_empty_entry() -> None:
    node = leader()
    node.step(Message(MessageType.PROPOSE, sender=2, entries=[Entry(0, 0, b"\x08", EntryType.CONF_CHANGE_V2)]))
    assert last(node) == (EntryType.NORMAL, b"")


def test_without_checks_two_changes_may_be_in_the_log() -> None:
    node = leader(config=Config(1, pre_vote=False, checks_changes=False))
    for member in (4, 5):
        data = change_codec.encode(ConfChange(LEARN, member))
        node.propose_conf_change(data)
        assert last(node) == (EntryType.CONF_CHANGE, data)


# -- a leader that is no member any more


def removed(*, steps_down: bool) -> RawNode:
    node = leader(config=Config(1, pre_vote=False, steps_down_if_removed=steps_down))
    node.propose_conf_change(change_codec.encode(ConfChange(REMOVE, 1)))
    pump(node)
    acknowledge(node, 2)
    return node


def test_a_removed_leader_steps_down() -> None:
    assert removed(steps_down=True).role is Role.FOLLOWER


def test_a_removed_leader_that_stays_replicates_what_it_has_and_takes_nothing_new() -> None:
    node = removed(steps_down=False)
    assert role(node) is Role.LEADER
    assert not node.propose([b"a"])
    node.tick()
    assert {message.to for message in node.ready().messages if message.type is MessageType.HEARTBEAT} == {2, 3}


# -- reads by lease, and who forgets a leader


def test_reads_by_lease_ask_nobody() -> None:
    node = leader(config=Config(1, pre_vote=False, reads_by_lease=True))
    assert node.read_index(b"own")
    node.step(Message(MessageType.READ_INDEX, sender=2, entries=[Entry(0, 0, b"theirs")]))
    ready = node.ready()
    assert [(state.index, state.context) for state in ready.read_states] == [(1, b"own")]
    (message,) = ready.messages
    assert (message.type, message.to, message.index) == (MessageType.READ_INDEX_REPLY, 2, 1)


def test_a_lease_needs_a_checked_quorum() -> None:
    with pytest.raises(AssertionError, match="no lease"):
        Config(1, check_quorum=False, reads_by_lease=True)


@pytest.mark.parametrize("reads_by_lease", [False, True])
def test_a_follower_forgets_its_leader_unless_that_reads_by_lease(reads_by_lease: bool) -> None:
    storage = MemoryStorage(conf_state=ConfState((1, 2, 3)))
    node = RawNode(Config(1, reads_by_lease=reads_by_lease), storage, applied=0, random=lambda n: 0)
    node.step(Message(MessageType.HEARTBEAT, sender=2, term=1))
    node.forget_leader()
    assert node.leader == (2 if reads_by_lease else 0)
    node.step(Message(MessageType.PRE_VOTE, sender=3, term=2))
    pump(node)
    node.step(Message(MessageType.HEARTBEAT, sender=2, term=1))
    assert node.leader == 2


def test_nobody_is_asked_to_forget_over_the_wire() -> None:
    storage = MemoryStorage(conf_state=ConfState((1, 2, 3)))
    node = RawNode(Config(1), storage, applied=0, random=lambda n: 0)
    node.step(Message(MessageType.HEARTBEAT, sender=2, term=1))
    assert node.step(Message(MessageType.FORGET_LEADER, sender=3, term=1)) is Refusal.LOCAL
    assert node.leader == 2


# -- what is told of a message that changes nothing


def test_answers_of_strangers_and_dropped_proposals_are_told() -> None:
    node = leader()
    assert node.step(Message(MessageType.APPEND_REPLY, sender=9, term=1)) is Refusal.STRANGER
    assert node.step(Message(MessageType.APPEND_REPLY, sender=2, term=1)) is None
    node.transfer_leader(2)
    assert node.step(Message(MessageType.PROPOSE, sender=2, entries=[Entry(0, 0, b"x")])) is Refusal.DROPPED


def test_check_of_the_quorum_does_not_make_a_leader_forget_itself() -> None:
    node = leader()
    for _ in range(10):
        node.tick()
    assert role(node) is Role.LEADER
    assert [node.tracked[member].active for member in (1, 2, 3)] == [True, False, False]


def test_a_commit_index_that_a_heartbeat_told_is_not_told_again() -> None:
    node = leader(voters=(1, 2, 3))
    node.propose([b"a"])
    pump(node)
    node.step(Message(MessageType.APPEND_REPLY, sender=2, term=1, index=2))
    node.tick()
    told = [message for message in node.ready().messages if message.to == 2]
    assert [(message.type, message.commit) for message in told] == [(MessageType.HEARTBEAT, 2)]
