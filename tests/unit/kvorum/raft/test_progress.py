"""Flow control of one member, in its three states."""

import pytest
from kvorum.raft.progress import Progress, ProgressState


def progress(*, next_index: int = 5, inflight_max: int = 2) -> Progress:
    return Progress(next_index=next_index, inflight_max=inflight_max)


def paused(member: Progress) -> bool:
    """Asked anew each time: a type checker takes a property for a constant."""
    return member.is_paused


def replicating(match: int = 4, inflight_max: int = 2) -> Progress:
    member = progress(next_index=match + 1, inflight_max=inflight_max)
    member.acknowledge(match)
    member.become_replicate()
    return member


def test_probe_waits_after_each_append() -> None:
    member = progress()
    assert not paused(member)
    member.sent(3)
    assert paused(member)
    assert member.next == 5  # what was sent is not taken for granted
    member.is_waiting = False  # it has answered a heartbeat
    assert not paused(member)


def test_a_probe_without_entries_does_not_make_it_wait() -> None:
    member = progress()
    member.sent(0)
    assert not paused(member)


def test_replication_runs_ahead_up_to_the_limit() -> None:
    member = replicating()
    member.sent(1)
    member.sent(10)
    assert member.next == 16
    assert paused(member)
    assert member.acknowledge(5)
    assert not paused(member)
    assert (member.match, member.next) == (5, 16)


def test_an_acknowledgement_frees_all_appends_before_it() -> None:
    member = replicating(inflight_max=3)
    for _ in range(3):
        member.sent(2)
    assert paused(member)
    member.acknowledge(8)
    assert list(member.inflight) == [10]


def test_an_empty_append_is_not_in_flight() -> None:
    member = replicating(inflight_max=1)
    member.sent(0)
    assert not paused(member)
    assert member.next == 5


def test_an_old_acknowledgement_says_nothing() -> None:
    member = replicating()
    assert not member.acknowledge(4)
    assert not member.acknowledge(2)
    assert member.match == 4


@pytest.mark.parametrize(("index", "next_index"), [(4, 5), (5, 6), (9, 10)])
def test_an_acknowledgement_beyond_next_moves_it(index: int, next_index: int) -> None:
    member = progress()
    assert member.acknowledge(index)
    assert (member.match, member.next) == (index, next_index)


def test_replication_starts_behind_what_is_acknowledged() -> None:
    """Also where a snapshot was thought to be needed, and the entries before its end turn out to be here after all."""
    member = progress()
    member.become_snapshot(9)
    member.acknowledge(5)
    member.become_replicate()
    assert member.next == 6


def test_a_new_probe_waits_for_nothing_old() -> None:
    member = progress()
    member.sent(1)
    member.become_replicate()
    member.become_probe()
    assert not paused(member)


@pytest.mark.parametrize(
    ("refused", "hint", "is_new", "next_index"),
    [(4, 2, True, 3), (4, 9, True, 4), (4, 0, True, 1), (3, 2, False, 5), (5, 2, False, 5)],
)
def test_a_refused_probe_goes_back_to_the_hint(refused: int, hint: int, is_new: bool, next_index: int) -> None:
    member = progress()
    member.sent(1)
    assert member.refuse(refused, hint) is is_new
    assert member.next == next_index
    assert paused(member) is not is_new


def test_a_probe_never_goes_below_what_is_acknowledged() -> None:
    member = progress()
    member.acknowledge(3)
    assert member.refuse(4, 1)
    assert member.next == 4


def test_a_refusal_while_replicating_goes_back_to_what_is_acknowledged() -> None:
    member = replicating()
    member.sent(3)
    assert not member.refuse(4, 0)  # it has that one: a late answer
    assert member.refuse(7, 0)
    assert member.next == 5


def test_nothing_is_sent_while_a_snapshot_is_under_way() -> None:
    member = replicating()
    member.sent(1)
    member.become_snapshot(9)
    assert (member.state, member.is_paused, member.next) == (ProgressState.SNAPSHOT, True, 10)
    member.is_waiting = False  # it has answered a heartbeat
    assert paused(member)
    assert not member.inflight


def test_after_a_snapshot_probing_starts_behind_it() -> None:
    member = progress()
    member.become_snapshot(9)
    member.become_probe()
    assert (member.next, member.pending_snapshot, member.is_waiting) == (10, 0, False)


def test_after_a_failed_snapshot_probing_starts_from_what_is_known() -> None:
    member = progress()
    member.acknowledge(3)
    member.become_snapshot(9)
    member.pending_snapshot = 0
    member.become_probe()
    assert member.next == 4


def test_probing_forgets_what_was_in_flight() -> None:
    member = replicating()
    member.sent(1)
    member.become_probe()
    assert (member.next, len(member.inflight), member.is_paused) == (5, 0, False)


def test_a_commit_index_is_told_as_far_as_the_member_has_or_is_sent_entries() -> None:
    member = replicating()
    member.acknowledge(8)
    assert member.next == 9
    member.commit_sent = 7
    assert member.may_raise_commit(8)
    member.commit_sent = 8
    assert not member.may_raise_commit(9)  # it has nothing beyond 8
    member.sent(1)
    assert member.may_raise_commit(9)
    member.commit_sent = 9
    assert not member.may_raise_commit(9)


def test_what_was_told_may_be_lost_where_entries_are() -> None:
    member = replicating()
    member.acknowledge(8)
    member.sent(3)
    member.commit_sent = 11
    member.become_probe()
    assert (member.next, member.commit_sent) == (9, 8)
    member.become_replicate()
    member.sent(3)
    member.commit_sent = 11
    assert member.refuse(11, 9)
    assert member.commit_sent == 8


def test_a_snapshot_tells_the_commit_index_that_it_is_of() -> None:
    member = progress()
    member.become_snapshot(9)
    assert member.commit_sent == 9
