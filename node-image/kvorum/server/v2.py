"""The v2 store at work: requests go through the log, who waits for a change is told, and the leader lets keys expire.

What the store holds is state's (v2_store). Here is what one member does for its own clients, and the clock: only the
leader's counts, and it speaks through the log (SYNC). Idle where nobody uses the v2 API.
"""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from kvorum.etcdpb.internal_pb2 import V2Request
from kvorum.server.answer import WAITING_MAX
from kvorum.state import refusal, v2_request
from kvorum.state.v2_error import RAFT_INTERNAL, V2Error
from kvorum.state.v2_event import Event
from kvorum.state.v2_store import Applied, Change, clean

if TYPE_CHECKING:
    from kvorum.server.server import Server

SYNC_S = 0.5  # how often the leader looks for what has expired; etcd's

Done = Callable[[Applied], None]


class Watcher:
    """Waits for changes of a path; recursive: and of what is below. Without is_stream it is told of one."""

    __slots__ = ("_hub", "is_stream", "on_end", "on_event", "path", "recursive", "removed", "since", "start_index")

    def __init__(self, hub: "V2", path: str, *, recursive: bool, is_stream: bool, since: int, start_index: int) -> None:
        self._hub = hub
        self.path = path
        self.recursive = recursive
        self.is_stream = is_stream
        self.since = since
        self.start_index = start_index  # of the store when it began
        self.removed = False
        self.on_event: Callable[[Event], None]
        self.on_end: Callable[[], None]

    def start(self, on_event: Callable[[Event], None], on_end: Callable[[], None]) -> None:
        """on_event: may be called from here on, also from within. on_end: it is told of nothing more."""
        self.on_event, self.on_end = on_event, on_end
        self._hub.add(self)

    def remove(self) -> None:
        """It is told of nothing more, not of what it missed either."""
        self.removed = True
        self._hub.discard(self)


class V2:
    """Of one member."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._watchers: dict[str, list[Watcher]] = {}
        self._next_sync = 0.0
        self.watch_requests_count = 0
        server.machine.v2.clock_ns = time.time_ns

    # -- requests ----------------------------------------------------------------------------------------------------

    def propose(self, request: V2Request, done: Done) -> None:
        """Takes a request through the log; its id is set here. done: with what came of it, once it is applied here."""
        server = self._server
        request.ID = server.ids.next()
        data = v2_request.encode(request)
        if len(data) > server.settings.request_bytes_max:
            done(_failed(refusal.REQUEST_TOO_LARGE.text))
        elif server.waiting_count >= WAITING_MAX:
            done(_failed(refusal.TOO_MANY_REQUESTS.text))
        else:
            server.propose_entry(request.ID, data, _Waiting(server, done))

    def tick(self) -> None:
        """The leader's part: what has expired goes, on every member alike."""
        server = self._server
        now = server.loop.time()
        if now < self._next_sync or not server.lessor.is_primary:
            return
        self._next_sync = now + SYNC_S
        due_ns, now_ns = server.machine.v2.next_expiry_ns, time.time_ns()
        if due_ns is not None and due_ns <= now_ns and server.is_leader:
            # Straight into the own log, as leases are revoked: never by way of the next leader, whose clock it is then.
            server.raft.propose([v2_request.sync_request(now_ns, server.ids.next())])
            server.schedule_flush()

    # -- watchers ----------------------------------------------------------------------------------------------------

    @property
    def watchers_count(self) -> int:
        return sum(map(len, self._watchers.values()))

    def watch(self, path: str, *, recursive: bool, is_stream: bool, since: int) -> Watcher:
        """A watcher, to be started. since: the first index that counts; 0 for the next. Raises V2Error."""
        store = self._server.machine.v2
        self.watch_requests_count += 1
        since = since or store.index + 1
        path = clean(path)
        store.scan(path, since, recursive=recursive)  # whether it can be told of all
        return Watcher(self, path, recursive=recursive, is_stream=is_stream, since=since, start_index=store.index)

    def add(self, watcher: Watcher) -> None:
        """Tells it what it missed, then of what comes."""
        if self._catch_up(watcher):
            self._watchers.setdefault(watcher.path, []).append(watcher)

    def _catch_up(self, watcher: Watcher) -> bool:
        """False when it need wait no longer. A stream goes on with all of the history: etcd's gets one event of it, and
        nothing ever after."""
        store = self._server.machine.v2
        while True:
            try:
                event = store.scan(watcher.path, watcher.since, recursive=watcher.recursive)
            except V2Error:  # forgotten already
                watcher.on_end()
                return False
            if event is None:
                return True
            watcher.since = event.at_index + 1
            watcher.on_event(event)
            if watcher.removed or not watcher.is_stream:
                return False

    def discard(self, watcher: Watcher) -> None:
        watchers = self._watchers.get(watcher.path, [])
        if watcher in watchers:
            watchers.remove(watcher)
            if not watchers:
                del self._watchers[watcher.path]

    def publish(self, changes: Iterable[Change]) -> None:
        if not self._watchers:
            return
        for event, removed in changes:
            for path in removed:
                self._notify(path, event, was_removed=True)
            for path in _paths_to(event.node.key):
                self._notify(path, event, was_removed=False)

    def _notify(self, path: str, event: Event, *, was_removed: bool) -> None:
        watchers = self._watchers.get(path)
        if not watchers:
            return
        key = event.node.key
        is_same = key == path
        if not is_same and _is_hidden(path, key):
            return
        for watcher in list(watchers):
            if (watcher.recursive or is_same or was_removed) and event.at_index >= watcher.since:
                if not watcher.is_stream:
                    self.discard(watcher)
                watcher.since = event.at_index  # of a removal a stream is told twice, as in etcd
                watcher.on_event(event)

    def restored(self, told_index: int) -> None:
        """A snapshot has taken the place of the store. told_index: that of the last event told."""
        self._server.machine.v2.clock_ns = time.time_ns
        watchers = [watcher for waiting in self._watchers.values() for watcher in waiting]
        self._watchers = {}
        for watcher in watchers:
            watcher.since = max(watcher.since, told_index + 1)
            self.add(watcher)

    def end_all(self) -> None:
        """This member goes: nobody is to wait for it."""
        ending, self._watchers = self._watchers, {}
        for watchers in ending.values():
            for watcher in watchers:
                watcher.on_end()


class _Waiting:
    """Who made a v2 request, as an Answer."""

    __slots__ = ("_done", "_server")

    def __init__(self, server: "Server", done: Done) -> None:
        self._server = server
        self._done = done

    def reply(self, body: bytes) -> None:
        self._done(self._server.machine.v2_applied)  # its own: called right after the entry was applied

    def fail(self, code: int, message: str) -> None:
        self._done(_failed(message))


def _failed(why: str) -> Applied:
    return Applied(None, V2Error(RAFT_INTERNAL, why), 0)


def _paths_to(key: str) -> Iterable[str]:
    """The root, every directory above, the key."""
    yield "/"
    at = key.find("/", 1)
    while at > 0:
        yield key[:at]
        at = key.find("/", at + 1)
    if len(key) > 1:
        yield key


def _is_hidden(watched: str, key: str) -> bool:
    """Whether a change of key, seen from above, is below something hidden. What went with a directory never is."""
    return len(watched) <= len(key) and "/_" in clean("/" + key[len(watched) :])
