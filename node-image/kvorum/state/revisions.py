"""The revisions: every change of a key is a row of the table `key`, under the next revision (etcd's MVCC).

Knows the rows, the key index and the leases' keys; not requests, entries or clients. A write is the changes of one
request: put() and delete() as often as it needs, then seal(); with no change between, the revision stays.
Physical compaction is in compaction.py: here a reader below compact_revision is refused, and what lies above is right
whether the rows below are gone or not.
"""

from collections.abc import Iterator
from itertools import islice

from kvorum.etcdpb.rpc_pb2 import KeyValue
from kvorum.state.event import Event
from kvorum.state.key_index import KeyIndex, Revision
from kvorum.state.leases import Leases
from kvorum.state.row import (
    encode_key_value,
    encode_tombstone,
    first_key_of,
    is_tombstone,
    key_of,
    parse_revision,
    revision_key,
    tombstone_key,
)
from kvorum.state.store import KEY, Store

FROM_KEY = b"\x00"  # as range_end: all keys from `key` on
FIRST_REVISION = 1  # of a fresh store; the first write makes 2
NEVER_COMPACTED = -1


class Revisions:
    """The key space at every revision that is not compacted.

    puts_count, deletes_count, ranges_count: operations since this object was made, a range of keys being one;
    txns_count: requests of more than one. For /metrics, kept by who carries them out. (Plain ints: 0.03 us a put.)
    """

    __slots__ = (
        "changes",
        "compact_revision",
        "deletes_count",
        "events",
        "index",
        "leases",
        "puts_count",
        "ranges_count",
        "records_events",
        "revision",
        "store",
        "txns_count",
    )

    def __init__(self, store: Store, leases: Leases) -> None:
        self.store = store
        self.leases = leases
        self.index = KeyIndex()
        self.revision = FIRST_REVISION
        self.compact_revision = NEVER_COMPACTED
        self.changes = 0  # of the write that is open: the next sub revision
        self.records_events = True  # False spares their memory where no watcher exists
        self.events: list[tuple[int, bytes, bytes, bool]] = []
        self.puts_count = self.deletes_count = self.ranges_count = self.txns_count = 0

    # -- writing ---------------------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes, lease: int) -> None:
        """One row. lease: attached to if it exists, the key's old one is left; 0 for none."""
        main = self.revision + 1
        sub = self.changes
        old = self.index.now.get(key)
        create, version = self.index.put(key, main, sub, lease)
        row = encode_key_value(key, create, main, version, value, lease)
        self.store.put(KEY, revision_key(main, sub), row)
        self.changes = sub + 1
        self.puts_count += 1
        if self.records_events:
            self.events.append((main, key, row, False))
        if old is not None and old[4]:
            self.leases.detach(old[4], key)
        if lease:
            self.leases.attach(lease, key)

    def delete(self, key: bytes) -> None:
        """A tombstone. The key exists."""
        main = self.revision + 1
        sub = self.changes
        old_lease = self.index.now[key][4]
        self.index.delete(key, main, sub)
        row = encode_tombstone(key)
        self.store.put(KEY, tombstone_key(main, sub), row)
        self.changes = sub + 1
        if self.records_events:
            self.events.append((main, key, row, True))
        if old_lease:
            self.leases.detach(old_lease, key)

    def seal(self) -> int:
        """Ends the write. Gives the revision that holds from now on."""
        if self.changes:
            self.changes = 0
            self.revision += 1
        return self.revision

    @property
    def visible(self) -> int:
        """The revision that a reader sees; within a write, its own changes are visible."""
        return self.revision + 1 if self.changes else self.revision

    # -- reading ---------------------------------------------------------------------------------------------------

    def row_at(self, main: int, sub: int) -> bytes:
        row = self.store.get(KEY, revision_key(main, sub))
        assert row is not None, f"the index knows revision {main}.{sub}, the store does not"
        return row

    def current(self, key: bytes) -> bytes | None:
        """The KeyValue of key as it is now. None where it does not exist."""
        now = self.index.now.get(key)
        return None if now is None else self.row_at(now[0], now[1])

    def keys_in(self, key: bytes, range_end: bytes) -> list[bytes]:
        """The existing keys of a range as requests write it (etcd.md, 1.6)."""
        if not range_end:
            return [key] if key in self.index.now else []
        if range_end == FROM_KEY:
            return self.index.keys(key, None)
        return self.index.keys(key, range_end) if key < range_end else []

    def count_in(self, key: bytes, range_end: bytes, main: int) -> int:
        """How many keys of a range exist at `main`."""
        if main < self.visible:
            return self._find_older(key, range_end, main, 1)[1]
        if not range_end:
            return 1 if key in self.index.now else 0
        if range_end == FROM_KEY:
            return self.index.count(key, None)
        return self.index.count(key, range_end) if key < range_end else 0

    def rows_in(self, key: bytes, range_end: bytes, main: int, limit: int = 0) -> tuple[list[bytes], int]:
        """KeyValues of a range at `main` in order of keys, at most `limit` unless it is 0; and how many there are."""
        if main < self.visible:
            found, total = self._find_older(key, range_end, main, limit)
            return [self.row_at(*row) for row in found], total
        now = self.index.now
        if not range_end or (range_end != FROM_KEY and range_end <= key):
            row = None if range_end else self.current(key)
            return ([], 0) if row is None else ([row], 1)
        end = None if range_end == FROM_KEY else range_end
        keys = self.index.keys(key, end, limit)
        total = self.index.count(key, end) if limit and len(keys) == limit else len(keys)
        get, rows = self.store.get, []
        for known in keys:
            at = now[known]
            row = get(KEY, revision_key(at[0], at[1]))
            assert row is not None, f"the index knows revision {at[0]}.{at[1]}, the store does not"
            rows.append(row)
        return rows, total

    def _find_older(self, key: bytes, range_end: bytes, main: int, limit: int) -> tuple[list[Revision], int]:
        if not range_end:
            found = self.index.find(key, main)
            return ([], 0) if found is None else ([found], 1)
        if range_end == FROM_KEY:
            return self.index.find_all(key, None, main, limit)
        return self.index.find_all(key, range_end, main, limit) if key < range_end else ([], 0)

    # -- history, for watchers ---------------------------------------------------------------------------------------

    def take_events(self) -> list[Event]:
        """The changes of all writes sealed since the last call, in order of revision."""
        events = [Event(*event) for event in self.events]
        self.events.clear()
        return events

    def events_between(
        self, first: int, last: int, rows_max: int, key: bytes = b"", range_end: bytes = FROM_KEY
    ) -> tuple[list[Event], int]:
        """The changes of keys in a range (default: all) with first <= revision <= last, in order, from the rows.

        Reads whole revisions until at least rows_max rows were seen, matching or not; gives the revision to go on
        from, last + 1 when it is done. The caller sees to it that first is at or above compact_revision: below, rows
        are missing.
        """
        events: list[Event] = []
        single = not range_end
        to_the_end = range_end == FROM_KEY
        main = first
        rows = self.store.scan(KEY, first_key_of(first), first_key_of(last + 1))
        for seen, (row_key, row) in enumerate(rows):
            revision, _ = parse_revision(row_key)
            if seen >= rows_max and revision != main:
                return events, revision
            main = revision
            name = key_of(row)
            if (name == key) if single else (name >= key and (to_the_end or name < range_end)):
                events.append(Event(revision, name, row, is_tombstone(row_key)))
        return events, last + 1

    def previous(self, event: Event) -> bytes | None:
        """The KeyValue that an event replaced, as the revision before shows it. None: there was none, or compacted.

        None for a creation too, as in etcd, although the same txn may have deleted the key first.
        """
        main = event.revision - 1
        if main < self.compact_revision:
            return None
        if not event.is_delete and KeyValue.FromString(event.row).create_revision == event.revision:
            return None
        found = self.index.find(event.key, main)
        return None if found is None else self.row_at(*found)

    # -- loading ---------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Builds the index from the rows, and tells the leases their keys. The leases are loaded before."""
        self.revision = FIRST_REVISION
        self.index.load(self._rows())
        for key, now in self.index.now.items():
            if now[4]:
                self.leases.attach(now[4], key)

    def _rows(self) -> Iterator[tuple[bytes, int, int, bool, int, int, int]]:
        kv = KeyValue()
        main = FIRST_REVISION
        for row_key, row in self.store.scan(KEY):
            kv.ParseFromString(row)
            main, sub = parse_revision(row_key)
            yield kv.key, main, sub, is_tombstone(row_key), kv.create_revision, kv.version, kv.lease
        self.revision = main

    def slice_of_rows(self, start: bytes, main: int, rows_max: int) -> list[tuple[bytes, bytes]]:
        """At most rows_max rows from row key `start` on, none above revision `main`."""
        if main < 0:
            return []  # asked by a client of HashKV; as a row key it would lie behind all others
        return list(islice(self.store.scan(KEY, start, first_key_of(main + 1)), rows_max))
