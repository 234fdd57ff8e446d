"""The log: against a plain list, under any order of appends, truncations, writes and compactions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kvorum.raft.log import ENTRY_OVERHEAD_BYTES, Log, MemoryStorage, within_bytes
from kvorum.raft.message import ConfState, Entry, EntryType, Snapshot


def entries_of(terms: list[int], first_index: int = 1) -> list[Entry]:
    return [Entry(term, index, b"%d" % index) for index, term in enumerate(terms, first_index)]


def log_of(terms: list[int], *, committed: int = 0, applied: int = 0) -> Log:
    return Log(MemoryStorage(entries=entries_of(terms)), committed=committed, applied=applied)


class LogLikeAList(RuleBasedStateMachine):
    """A follower's log that leaders of rising terms write to, with a disk that is sometimes slow."""

    @initialize()
    def begin(self) -> None:
        self.storage = MemoryStorage()
        self.log = Log(self.storage, committed=0, applied=0)
        self.terms: list[int] = []  # what the log should be, from index 1
        self.on_disk: list[int] = []
        self.first = 1
        self.term = 1
        self.handed: list[Entry] | None = None

    @rule(data=st.data(), rises=st.booleans(), count=st.integers(0, 4))
    def leader_appends(self, data: st.DataObject, rises: bool, count: int) -> None:
        """From anywhere at or after the commit index; what agrees is repeated, the rest is of the newest term."""
        self.term += rises
        after = data.draw(st.integers(self.log.committed, len(self.terms)))
        same = data.draw(st.integers(0, len(self.terms) - after))
        sent = self.terms[after : after + same] + [self.term] * count
        term = self.terms[after - 1] if after else 0
        last_new = self.log.extend(after=after, term=term, entries=entries_of(sent, after + 1))
        assert last_new == after + len(sent)
        if self.terms[after : after + len(sent)] != sent:
            first_other = next(
                i for i, sent_term in enumerate(sent) if self.terms[after + i : after + i + 1] != [sent_term]
            )
            self.terms[after + first_other :] = sent[first_other:]

    @rule(data=st.data())
    def wrong_predecessor_is_refused(self, data: st.DataObject) -> None:
        after = data.draw(st.integers(self.first - 1, len(self.terms) + 3))
        known = self.terms[after - 1] if 0 < after <= len(self.terms) else 0
        assert self.log.extend(after=after, term=known + 50, entries=entries_of([known + 50], after + 1)) is None

    @rule(data=st.data())
    def commits(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.terms)))
        assert self.log.commit(index) == (index > self.log.committed or False) or index <= self.log.committed

    @precondition(lambda self: self.handed is None)
    @rule()
    def writes(self) -> None:
        self.handed = list(self.log.unhanded())
        self.log.hand_over()

    @precondition(lambda self: self.handed is not None)
    @rule()
    def write_ends(self) -> None:
        assert self.handed is not None
        self.log.became_durable(self.handed, None)
        if self.handed:
            self.on_disk[self.handed[0].index - 1 :] = [entry.term for entry in self.handed]
        self.handed = None

    @rule()
    def applies(self) -> None:
        durable = min(self.log.committed, self.log.durable_index)
        for entry in self.log.unapplied(1 << 20):
            if entry.index <= durable:
                assert entry.term == self.terms[entry.index - 1]
                self.log.became_applied(entry.index)

    @precondition(lambda self: self.handed is None and self.log.applied >= self.first)
    @rule(data=st.data())
    def compacts(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(self.first, self.log.applied))
        if index < (snapshot.index if (snapshot := self.storage.snapshot()) else 0):
            return
        self.storage.create_snapshot(index, ConfState((1,)), b"state")
        self.storage.compact(index)
        self.first = index + 1

    @invariant()
    def log_is_the_list(self) -> None:
        log = self.log
        assert log.first_index == self.first
        assert log.last_index == len(self.terms)
        assert log.last_term == (self.terms[-1] if self.terms else 0)
        assert log.term(len(self.terms) + 1) is None
        if self.first > 1:
            assert log.term(self.first - 2) is None
        for index in range(self.first - 1, len(self.terms) + 1):
            assert log.term(index) == (self.terms[index - 1] if index else 0)
        whole = log.entries(self.first, len(self.terms) + 1)
        assert [(entry.index, entry.term) for entry in whole] == list(enumerate(self.terms, 1))[self.first - 1 :]

    @invariant()
    def disk_is_what_was_written(self) -> None:
        assert self.storage.last_index == max(len(self.on_disk), self.first - 1)
        assert self.log.durable_index <= self.storage.last_index
        for index in range(self.first, self.log.durable_index + 1):
            assert self.storage.term(index) == self.terms[index - 1]


LogLikeAList.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestLogLikeAList = LogLikeAList.TestCase


@given(terms=st.lists(st.integers(1, 5)).map(sorted), term=st.integers(0, 6), index=st.integers(0, 12))
def test_hint_is_the_last_entry_whose_term_is_not_later(terms: list[int], term: int, index: int) -> None:
    expected = min(index, len(terms))
    while expected > 0 and terms[expected - 1] > term:
        expected -= 1
    assert log_of(terms).last_with_term_at_most(term, index) == expected


def test_hint_of_a_compacted_log_ends_where_it_begins() -> None:
    storage = MemoryStorage(snapshot=Snapshot(5, 3), entries=entries_of([4, 4], 6))
    log = Log(storage, committed=5, applied=5)
    assert log.last_with_term_at_most(2, 7) == 5
    assert log.last_with_term_at_most(2, 3) == 3
    assert log.last_with_term_at_most(4, 99) == 7


@pytest.mark.parametrize(
    ("index", "term", "is_up_to_date"), [(9, 2, False), (2, 3, False), (3, 3, True), (4, 3, True), (1, 4, True)]
)
def test_later_term_or_longer_log_is_up_to_date(index: int, term: int, is_up_to_date: bool) -> None:
    assert log_of([1, 2, 3]).is_up_to_date(index, term) is is_up_to_date


def test_at_least_one_entry_is_taken_however_large() -> None:
    entries = entries_of([1, 1, 1])
    assert within_bytes(entries, 1) == entries[:1]
    assert within_bytes(entries, 2 * (ENTRY_OVERHEAD_BYTES + 1)) == entries[:2]
    assert within_bytes(entries, 3 * (ENTRY_OVERHEAD_BYTES + 1) - 1) == entries[:2]
    assert within_bytes(entries, 1000) == entries
    assert within_bytes([], 1) == []


def test_limit_holds_across_the_border_of_what_is_on_disk() -> None:
    log = log_of([1, 1])
    log.append(entries_of([2, 2], 3))
    assert [entry.index for entry in log.entries(2, 5)] == [2, 3, 4]
    assert [entry.index for entry in log.entries(2, 5, 2 * (ENTRY_OVERHEAD_BYTES + 1))] == [2, 3]


def test_committed_entries_cannot_be_replaced() -> None:
    log = log_of([1, 1, 1], committed=2)
    with pytest.raises(AssertionError, match="cannot drop committed"):
        log.extend(after=1, term=1, entries=entries_of([2], 2))


def test_commit_beyond_the_log_ends_the_process() -> None:
    with pytest.raises(AssertionError, match="lost or damaged"):
        log_of([1, 1]).commit(3)


def test_log_shorter_than_its_commit_index_does_not_start() -> None:
    with pytest.raises(AssertionError, match="entries were lost"):
        log_of([1, 1], committed=3)


def test_what_was_applied_is_committed_though_the_hard_state_forgot() -> None:
    log = log_of([1, 1, 1], committed=1, applied=3)
    assert (log.committed, log.applied) == (3, 3)


def test_terms_never_fall_along_a_log() -> None:
    with pytest.raises(AssertionError, match="never fall"):
        log_of([1, 3]).append(entries_of([2], 3))


def test_entries_with_a_gap_are_not_taken() -> None:
    entries = [Entry(1, 3), Entry(1, 5)]
    with pytest.raises(AssertionError):
        log_of([1, 1]).extend(after=2, term=1, entries=entries)


def test_received_entries_are_kept_as_they_are() -> None:
    """Their encoded bytes go into the WAL and to other members as they came."""
    entry = Entry(1, 1, b"data", encoded=b"bytes")
    log = Log(MemoryStorage(), committed=0, applied=0)
    log.extend(after=0, term=0, entries=[entry])
    assert log.entries(1, 2)[0] is entry


def test_nothing_is_applied_before_a_received_snapshot_is_durable() -> None:
    log = log_of([1, 1], committed=1, applied=1)
    snapshot = Snapshot(9, 2)
    log.restore(snapshot)
    log.extend(after=9, term=2, entries=entries_of([2], 10))
    log.commit(10)
    assert list(log.unapplied(1 << 20)) == []
    assert not log.has_unapplied()
    assert log.has_unhanded()
    entries = list(log.unhanded())
    log.hand_over()
    assert not log.has_unhanded()
    log.became_durable(entries, snapshot)
    log.became_applied(9)
    assert [entry.index for entry in log.unapplied(1 << 20)] == [10]
    assert (log.first_index, log.durable_index) == (10, 10)


def test_snapshot_that_comes_while_another_is_written_stays_unstable() -> None:
    log = log_of([1])
    first, second = Snapshot(5, 2), Snapshot(9, 3)
    log.restore(first)
    log.hand_over()
    log.restore(second)
    log.became_durable([], first)
    assert log.snapshot is second
    assert log.has_unhanded()
    assert log.last_index == 9


def test_log_of_a_snapshot_keeps_what_lies_behind_it_unknown() -> None:
    log = log_of([1, 1])
    log.restore(Snapshot(9, 2))
    assert [log.term(index) for index in (8, 9, 10)] == [None, 2, None]
    assert log.first_index == 10


def test_only_committed_entries_are_looked_at_for_changes() -> None:
    entries = [Entry(1, 1), Entry(1, 2, b"x", EntryType.CONF_CHANGE)]
    log = Log(MemoryStorage(entries=entries), committed=1, applied=0)
    assert not log.has_unapplied_conf_change()
    log.commit(2)
    assert log.has_unapplied_conf_change()
    log.became_applied(2)
    assert not log.has_unapplied_conf_change()


@pytest.mark.parametrize(
    ("types", "committed", "expected"),
    [
        ([0, 1, 0, 1], 0, 2),
        ([1, 1, 1, 0], 0, 2),
        ([0, 1, 0, 1], 2, 2),
        ([0, 1, 0, 0], 1, 1),
        ([0, 0, 0, 0], 0, 0),
        ([], 0, 0),
    ],
)
def test_a_change_with_another_behind_it_is_committed(types: list[int], committed: int, expected: int) -> None:
    entries = [Entry(1, index, b"", kind) for index, kind in enumerate(types, 1)]
    log = Log(MemoryStorage(entries=entries), committed=committed, applied=0)
    assert log.index_committed_by_rule() == expected


def test_storage_takes_the_same_entries_twice() -> None:
    storage = MemoryStorage(entries=entries_of([1, 1, 2]))
    storage.append(entries_of([1, 2], 2))
    assert [entry.term for entry in storage.entries(1, 4)] == [1, 1, 2]
    storage.append(entries_of([5], 2))
    assert storage.last_index == 2
    storage.append([])
    with pytest.raises(AssertionError, match="gap"):
        storage.append(entries_of([5], 4))


def test_storage_drops_what_a_compaction_has_overtaken() -> None:
    storage = MemoryStorage(entries=entries_of([1, 1, 2, 2]))
    storage.create_snapshot(3, ConfState((1,)), b"state")
    storage.compact(3)
    storage.append(entries_of([1, 2, 2, 3], 2))
    assert (storage.first_index, storage.last_index) == (4, 5)
    storage.append(entries_of([1], 2))
    assert (storage.first_index, storage.last_index) == (4, 5)
    assert storage.term(3) == 2
    assert storage.term(2) is None


def test_storage_is_not_compacted_past_its_snapshot() -> None:
    storage = MemoryStorage(entries=entries_of([1, 1, 2]))
    assert storage.snapshot() is None
    with pytest.raises(AssertionError):
        storage.compact(1)
    made = storage.create_snapshot(2, ConfState((1, 2)), b"state")
    assert made == Snapshot(2, 1, ConfState((1, 2)), b"state") == storage.snapshot()
    with pytest.raises(AssertionError):
        storage.compact(3)
    with pytest.raises(AssertionError):
        storage.create_snapshot(1, ConfState((1,)), b"older")


def test_storage_begins_after_the_snapshot_it_is_given() -> None:
    storage = MemoryStorage(snapshot=Snapshot(7, 3, ConfState((1, 2))), entries=entries_of([3], 8))
    assert (storage.first_index, storage.last_index, storage.conf_state) == (8, 8, ConfState((1, 2)))
    storage.restore(Snapshot(20, 4, ConfState((1,))))
    assert (storage.first_index, storage.last_index, storage.conf_state) == (21, 20, ConfState((1,)))


def test_a_write_counts_if_the_entry_is_still_the_same() -> None:
    log = Log(MemoryStorage(), committed=0, applied=0)
    log.append([Entry(1, 1), Entry(1, 2), Entry(1, 3)])
    log.hand_over()
    log.became_stable(1, 2)  # of another term
    log.became_stable(4, 1)  # beyond the end
    assert log.durable_index == 0
    log.became_stable(2, 1)
    assert log.durable_index == 2
    log.became_stable(1, 1)  # known
    assert (log.durable_index, log.handed_offset, log.last_index) == (2, 4, 3)


def test_a_snapshot_is_no_entry_and_counts_by_itself() -> None:
    log = Log(MemoryStorage(), committed=0, applied=0)
    log.restore(Snapshot(9, 1, ConfState((1,))))
    log.hand_over()
    log.became_stable(9, 1)
    log.snapshot_became_stable(8)
    assert log.snapshot is not None
    log.snapshot_became_stable(9)
    assert log.snapshot is None
