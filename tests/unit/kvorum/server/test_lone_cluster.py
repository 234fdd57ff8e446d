"""--force-new-cluster: the entries that leave one voter."""

from kvorum.raft import change_codec
from kvorum.raft.message import ConfChange, ConfChangeType, ConfState, Entry, EntryType
from kvorum.server.lone_cluster import lone_entries, removals
from kvorum.state import membership
from kvorum.state.membership import Member, parse_context
from kvorum.storage.entry_codec import decode_entry, encode_entry

URLS = ("http://here:2380",)


def change_entry(index: int, change: ConfChange) -> Entry:
    """As the log gives it back: its type is a plain number."""
    entry = Entry(term=2, index=index, type=EntryType.CONF_CHANGE, data=change_codec.encode(change))
    return decode_entry(encode_entry(entry))


def told(entries: list[Entry]) -> list[tuple[int, str, int]]:
    changes = [(entry.index, change_codec.decode_single(entry.data)) for entry in entries]
    return [(index, change.type.name, change.node_id) for index, change in changes]


def test_every_other_member_is_removed_behind_what_was_committed() -> None:
    entries = lone_entries(2, URLS, ConfState(voters=(1, 2, 3), learners=(4,)), [], after=70, term=5)
    assert told(entries) == [(71, "REMOVE_NODE", 1), (72, "REMOVE_NODE", 3), (73, "REMOVE_NODE", 4)]
    assert {entry.term for entry in entries} == {5}
    assert {entry.type for entry in entries} == {EntryType.CONF_CHANGE}


def test_changes_that_were_committed_and_not_applied_yet_count() -> None:
    unapplied = [
        change_entry(8, membership.remove_change(3, 0)),
        Entry(term=2, index=9, type=EntryType.NORMAL, data=b""),
        change_entry(10, membership.add_change(Member(9, ("http://nine:1",), is_learner=True), 0)),
        change_entry(11, membership.promote_change(9, 0)),
        change_entry(12, membership.update_change(1, ("http://one:1",), 0)),
    ]
    entries = lone_entries(2, URLS, ConfState(voters=(1, 2, 3)), unapplied, after=12, term=2)
    assert told(entries) == [(13, "REMOVE_NODE", 1), (14, "REMOVE_NODE", 9)]


def test_a_lone_member_stays_as_it_is() -> None:
    assert lone_entries(2, URLS, ConfState(voters=(2,)), [], after=7, term=1) == []


def test_a_member_that_is_none_yet_is_added_before_the_others_go() -> None:
    first, *more = lone_entries(2, URLS, ConfState(voters=(1, 3)), [], after=7, term=1)
    change = change_codec.decode_single(first.data)
    assert (change.type, change.node_id) == (ConfChangeType.ADD_NODE, 2)
    assert parse_context(change.context) == (Member(2, URLS), False)
    assert told(more) == [(9, "REMOVE_NODE", 1), (10, "REMOVE_NODE", 3)]


def test_a_learner_is_promoted() -> None:
    first, *more = lone_entries(2, URLS, ConfState(voters=(1,), learners=(2,)), [], after=7, term=1)
    assert parse_context(change_codec.decode_single(first.data).context)[1]
    assert told(more) == [(9, "REMOVE_NODE", 1)]


def test_who_is_removed_for_ever_is_known_before_it_is_applied() -> None:
    entries = [
        Entry(term=2, index=8, type=EntryType.NORMAL, data=b""),
        change_entry(9, membership.add_change(Member(9, ("http://nine:1",)), 0)),
        change_entry(10, membership.remove_change(2, 0)),
    ]
    assert removals(entries) == {2}
