"""Who watches which keys, and how far each has been told (etcd's watchable store).

Hot path: an event is encoded once, watchers of the same range with the same wishes form a group, and a group's
events are joined once a batch; budget 1 us a watcher and batch.

A watcher is either in its group (told of everything up to now) or behind: because it asked for history, or because its
client reads too slowly. One behind catches up from the store in slices, in order, and joins its group when it meets
now.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from kvorum.state.event import Event, with_previous
from kvorum.state.revisions import FROM_KEY
from kvorum.state.row import varint

if TYPE_CHECKING:
    from kvorum.server.server import Server

BUFFERED_BYTES_MAX = 4 << 20  # a stream with more unsent than this is told no more until it has read
CATCH_UP_ROWS = 500  # of the history, in one slice of one watcher
UINT64_MAX = (1 << 64) - 1  # protobuf writes a negative id as its two's complement
GroupKey = tuple[bytes, bytes, bool, bool, bool]


class Stream(Protocol):
    """A client's watch stream."""

    def push(self, body: bytes) -> None: ...

    @property
    def buffered_bytes(self) -> int:
        """Pushed, and not yet taken by the client."""
        ...

    def watch_ended(self, watcher: "Watcher") -> None:
        """The hub has told the client that there will be no more: what it asked for was compacted."""
        ...


class Watcher:
    """One watch of a stream. next_revision: the first it has not been told of."""

    __slots__ = (
        "fragment",
        "group_key",
        "id",
        "id_field",
        "next_revision",
        "progress_notify",
        "stream",
        "synced",
        "told_at",
    )

    def __init__(
        self,
        stream: Stream,
        watch_id: int,
        key: bytes,
        range_end: bytes,
        *,
        start_revision: int,
        no_put: bool = False,
        no_delete: bool = False,
        prev_kv: bool = False,
        progress_notify: bool = False,
        fragment: bool = False,
    ) -> None:
        """range_end as in requests: b"" is the key alone, FROM_KEY every key from key on."""
        self.stream = stream
        self.id = watch_id
        self.id_field = b"\x10" + varint(watch_id & UINT64_MAX) if watch_id else b""
        self.group_key: GroupKey = (key, range_end, no_put, no_delete, prev_kv)
        self.next_revision = start_revision
        self.progress_notify = progress_notify
        self.fragment = fragment
        self.synced = False
        self.told_at = 0.0


class Group:
    """The synced watchers of one range and one set of wishes."""

    __slots__ = ("end", "key", "no_delete", "no_put", "prev_kv", "watchers")

    def __init__(self, key: GroupKey) -> None:
        self.key, self.end, self.no_put, self.no_delete, self.prev_kv = key
        self.watchers: dict[Watcher, None] = {}


class WatchHub:
    """All watchers of this member."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._groups: dict[GroupKey, Group] = {}
        self._exact: dict[bytes, list[Group]] = {}
        self._ranges: list[Group] = []
        self._behind: dict[Watcher, None] = {}
        self._future: dict[Watcher, None] = {}  # they asked for a revision that does not exist yet
        self._catching_up = False
        self._next_progress = 0.0
        self.events_count = 0
        self._note_interest()

    @property
    def watchers_count(self) -> int:
        return len(self._behind) + len(self._future) + sum(len(group.watchers) for group in self._groups.values())

    @property
    def slow_count(self) -> int:
        return len(self._behind)

    @property
    def pending_count(self) -> int:
        """Revisions that watchers are behind, those of each counted. (etcd counts the events among them; to look for
        them would be as dear as to send them.)"""
        next_revision = self._server.machine.revision + 1
        return sum(next_revision - watcher.next_revision for watcher in self._behind)

    def add(self, watcher: Watcher) -> None:
        revision = self._server.machine.revision
        watcher.told_at = self._server.loop.time()
        if watcher.next_revision > revision + 1:
            self._future[watcher] = None
            watcher.synced = True
            self._note_interest()
        elif watcher.next_revision == revision + 1:
            self._join(watcher)
        else:
            self._fall_behind(watcher)

    def restored(self, told_revision: int) -> None:
        """The state was replaced by a later one. Who was told of everything is now behind, and catches up from the
        history that there is; whom it does not reach any more is told so (etcd does the same)."""
        synced = [watcher for group in self._groups.values() for watcher in group.watchers]
        self._groups.clear()
        self._exact.clear()
        self._ranges.clear()
        for watcher in synced:
            watcher.next_revision = told_revision + 1
            self._fall_behind(watcher)
        self._wake_future()
        self._note_interest()

    def remove(self, watcher: Watcher) -> None:
        self._behind.pop(watcher, None)
        self._future.pop(watcher, None)
        group = self._groups.get(watcher.group_key)
        if group is not None and group.watchers.pop(watcher, watcher) is None and not group.watchers:
            del self._groups[watcher.group_key]
            if not group.end:
                groups = self._exact[group.key]
                groups.remove(group)
                if not groups:
                    del self._exact[group.key]
            else:
                self._ranges.remove(group)
        self._note_interest()

    def _note_interest(self) -> None:
        """Events are made only while somebody waits for them: 0.5 us of each put otherwise."""
        self._server.machine.revisions.records_events = bool(self._groups or self._future)

    def publish(self, events: Sequence[Event]) -> None:
        """Tells every synced watcher of the events of one batch of applied entries."""
        self.events_count += len(events)
        if self._future:
            self._wake_future()
        touched: dict[Group, list[Event]] = {}
        exact, ranges = self._exact, self._ranges
        if not exact and not ranges:
            return
        for event in events:
            key = event.key
            for group in exact.get(key, ()):
                touched.setdefault(group, []).append(event)
            for group in ranges:
                if group.key <= key and (key < group.end or group.end == FROM_KEY):
                    touched.setdefault(group, []).append(event)
        for group, matched in touched.items():
            self._tell_group(group, matched)

    def _tell_group(self, group: Group, events: list[Event]) -> None:
        body = self._encode(group, events)
        if not body:
            return
        head = self._server.header.encode(self._server.machine.revision)
        now = self._server.loop.time()
        slow = []
        for watcher in group.watchers:
            if watcher.stream.buffered_bytes > BUFFERED_BYTES_MAX:
                slow.append(watcher)
                continue
            watcher.told_at = now
            if watcher.fragment and len(body) > self._server.settings.request_bytes_max:
                self._push_fragments(watcher, head, self._encode_each(group, events))
            else:
                watcher.stream.push(head + watcher.id_field + body)
        for watcher in slow:
            self.remove(watcher)
            watcher.next_revision = events[0].revision
            self._fall_behind(watcher)

    def _encode_each(self, group: Group, events: Sequence[Event]) -> list[bytes]:
        fields = []
        previous = self._server.machine.revisions.previous
        for event in events:
            if group.no_delete if event.is_delete else group.no_put:
                continue
            encoded = with_previous(event, previous(event)) if group.prev_kv else event.encoded
            fields.append(b"\x5a" + varint(len(encoded)) + encoded)
        return fields

    def _encode(self, group: Group, events: Sequence[Event]) -> bytes:
        return b"".join(self._encode_each(group, events))

    def _push_fragments(self, watcher: Watcher, head: bytes, fields: list[bytes]) -> None:
        """Parts below the request limit, all but the last marked (field 7)."""
        limit = self._server.settings.request_bytes_max
        part: list[bytes] = []
        size = 0
        for field in fields:
            if part and size + len(field) > limit:
                watcher.stream.push(head + watcher.id_field + b"\x38\x01" + b"".join(part))
                part, size = [], 0
            part.append(field)
            size += len(field)
        watcher.stream.push(head + watcher.id_field + b"".join(part))

    # -- those that are behind -----------------------------------------------------------------------------------

    def _join(self, watcher: Watcher) -> None:
        watcher.synced = True
        group = self._groups.get(watcher.group_key)
        if group is None:
            group = self._groups[watcher.group_key] = Group(watcher.group_key)
            if not group.end:
                self._exact.setdefault(group.key, []).append(group)
            else:
                self._ranges.append(group)
        group.watchers[watcher] = None
        self._note_interest()

    def _fall_behind(self, watcher: Watcher) -> None:
        watcher.synced = False
        self._behind[watcher] = None
        self._schedule_catch_up(0.0)

    def _wake_future(self) -> None:
        revision = self._server.machine.revision
        due = [watcher for watcher in self._future if watcher.next_revision <= revision]
        for watcher in due:
            del self._future[watcher]
            self._fall_behind(watcher)

    def _schedule_catch_up(self, delay_s: float) -> None:
        if not self._catching_up:
            self._catching_up = True
            self._server.loop.call_later(delay_s, self._catch_up)

    def _catch_up(self) -> None:
        self._catching_up = False
        if self._server.stopped:
            return
        for watcher in list(self._behind):
            if watcher.stream.buffered_bytes <= BUFFERED_BYTES_MAX:
                self._tell_history(watcher)
        if self._behind:
            waiting = all(watcher.stream.buffered_bytes > BUFFERED_BYTES_MAX for watcher in self._behind)
            self._schedule_catch_up(0.02 if waiting else 0.0)

    def _tell_history(self, watcher: Watcher) -> None:
        machine = self._server.machine
        head = self._server.header.encode(machine.revision)
        if watcher.next_revision < machine.compact_revision:
            del self._behind[watcher]
            compact_field = b"\x28" + varint(machine.compact_revision)
            head = self._server.header.encode(0)  # etcd tells no revision with this
            watcher.stream.push(head + watcher.id_field + b"\x20\x01" + compact_field)
            watcher.stream.watch_ended(watcher)
            return
        key, range_end, *_ = watcher.group_key
        events, next_revision = machine.revisions.events_between(
            watcher.next_revision, machine.revision, CATCH_UP_ROWS, key, range_end
        )
        fields = self._encode_each(Group(watcher.group_key), events)
        if fields:
            watcher.told_at = self._server.loop.time()
            if watcher.fragment and sum(map(len, fields)) > self._server.settings.request_bytes_max:
                self._push_fragments(watcher, head, fields)
            else:
                watcher.stream.push(head + watcher.id_field + b"".join(fields))
        watcher.next_revision = next_revision
        if next_revision > machine.revision:
            del self._behind[watcher]
            self._join(watcher)

    # -- progress ------------------------------------------------------------------------------------------------

    def progress(self, watchers: Sequence[Watcher], stream: Stream) -> None:
        """Answers a progress request, if every watcher of the stream has been told of everything (watch id -1 says:
        all).

        Otherwise there is no answer, as etcd from 3.5.13 on: one that came before older events would be a lie.
        """
        if all(watcher.synced for watcher in watchers):
            head = self._server.header.encode(self._server.machine.revision)
            stream.push(head + b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")

    def tick(self) -> None:
        """Tells quiet watchers that asked for it how far they are."""
        now = self._server.loop.time()
        quiet_s = self._server.settings.progress_notify_ms / 1000
        if now < self._next_progress:
            return
        self._next_progress = now + min(quiet_s, 1.0)
        head = self._server.header.encode(self._server.machine.revision)
        for group in self._groups.values():
            for watcher in group.watchers:
                if watcher.progress_notify and now - watcher.told_at >= quiet_s:
                    watcher.told_at = now
                    watcher.stream.push(head + watcher.id_field)
