"""etcdserverpb.Watch: one stream, many watches. Ids and refusals are the stream's; telling them is the hub's."""

from google.protobuf.message import DecodeError

from kvorum.api.permission import refuses
from kvorum.api.request import bad_request
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import Call
from kvorum.server.server import Server
from kvorum.server.watch_hub import Watcher
from kvorum.state import refusal
from kvorum.state.auth import Caller
from kvorum.state.refusal import Refusal
from kvorum.state.revisions import FROM_KEY

NO_ID = -1
DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"
EMPTY_RANGE = "mvcc: watcher range is empty"
CODES = {
    refusal.INVALID_ARGUMENT: "InvalidArgument",
    refusal.PERMISSION: "PermissionDenied",
    refusal.UNAUTHENTICATED: "Unauthenticated",
}


def reason(refused: Refusal) -> str:
    """Why a watch is refused, as Go prints an error of gRPC."""
    return f"rpc error: code = {CODES[refused.code]} desc = {refused.text}"


def watch(server: Server, call: Call) -> None:
    """A client opened a stream."""
    WatchStream(server, call)


class WatchStream:
    """The watches of one client's stream."""

    def __init__(self, server: Server, call: Call) -> None:
        self._server = server
        self._call = call
        self._watchers: dict[int, Watcher] = {}
        self._users: dict[int, tuple[bytes, bool]] = {}  # who made a watch, and whether by a token
        self._next_id = 0
        self.push = call.push
        call.on_message = self._on_message
        # A client that has no more requests is still told of its watches, as etcd does: no on_end.
        call.on_close = self._on_close
        server.callers.streams.add(self)
        if call.metadata("hasleader") == "true":
            server.leader_bound.add(self)

    @property
    def buffered_bytes(self) -> int:
        return self._call.buffered_bytes

    def watch_ended(self, watcher: Watcher) -> None:
        self._watchers.pop(watcher.id, None)
        self._users.pop(watcher.id, None)

    def _on_message(self, message: bytes) -> None:
        try:
            request = rpc.WatchRequest.FromString(message)
        except DecodeError as error:
            bad_request(self._call, error)
            self._on_close()
            return
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            self._create(request.create_request)
        elif kind == "cancel_request":
            self._cancel(request.cancel_request.watch_id)
        elif kind == "progress_request":
            self._server.watches.progress(list(self._watchers.values()), self)

    def _create(self, request: rpc.WatchCreateRequest) -> None:
        key = request.key or b"\x00"  # no key at all means the first possible one
        range_end = request.range_end
        if request.start_revision < 0:
            self._refuse(refusal.COMPACTED.text)
            return
        refused = refuses(self._server, self._call, lambda check: check.keys_read(key, range_end))
        if refused is not None:
            self._refuse(reason(refused))
            return
        if range_end and range_end != FROM_KEY and key >= range_end:
            self._refuse(EMPTY_RANGE)
            return
        watch_id = request.watch_id
        if watch_id != 0 and watch_id in self._watchers:
            self._refuse(DUPLICATE_ID)
            return
        if watch_id == 0:  # the client leaves the choice to us
            while self._next_id in self._watchers:
                self._next_id += 1
            watch_id = self._next_id
            self._next_id += 1
        revision = self._server.machine.revision
        watcher = Watcher(
            self,
            watch_id,
            key,
            range_end,
            start_revision=request.start_revision or revision + 1,
            no_put=rpc.WatchCreateRequest.NOPUT in request.filters,
            no_delete=rpc.WatchCreateRequest.NODELETE in request.filters,
            prev_kv=request.prev_kv,
            progress_notify=request.progress_notify,
            fragment=request.fragment,
        )
        self._watchers[watch_id] = watcher
        self._note_user(watch_id)
        self._call.push(self._server.header.encode(revision) + watcher.id_field + b"\x18\x01")
        self._server.watches.add(watcher)

    def _refuse(self, reason: str) -> None:
        response = rpc.WatchResponse(watch_id=NO_ID, created=True, canceled=True, cancel_reason=reason)
        self._call.push(self._server.header.encode(self._server.machine.revision) + response.SerializeToString())

    def _cancel(self, watch_id: int) -> None:
        if watch_id in self._watchers:  # else etcd does not answer either
            self._end_watch(watch_id, "")

    def _end_watch(self, watch_id: int, why: str) -> None:
        watcher = self._watchers.pop(watch_id)
        self._users.pop(watch_id, None)
        self._server.watches.remove(watcher)
        cancelled = rpc.WatchResponse(watch_id=watch_id, canceled=True, cancel_reason=why)
        self._call.push(self._server.header.encode(self._server.machine.revision) + cancelled.SerializeToString())

    # -- who watches -----------------------------------------------------------------------------------------------

    def _note_user(self, watch_id: int) -> None:
        if self._server.machine.auth.enabled:
            caller = self._server.callers.of(self._call)
            assert isinstance(caller, Caller), caller  # the watch was permitted a moment ago
            self._users[watch_id] = (caller.name, self._server.callers.has_token(self._call))

    def signed_out(self, user: bytes) -> None:
        """His watches end with the token that he made them by. (etcd's go on.)"""
        for watch_id, made_by in list(self._users.items()):
            if made_by == (user, True):
                self._end_watch(watch_id, reason(refusal.INVALID_AUTH_TOKEN))

    def rights_changed(self) -> None:
        """Whoever may not read the keys any more is told no more of them. (etcd asks only when a watch is made.)"""
        for watch_id, watcher in list(self._watchers.items()):
            refused = self._refuses_now(watch_id, watcher)
            if refused is not None:
                self._end_watch(watch_id, reason(refused))

    def _refuses_now(self, watch_id: int, watcher: Watcher) -> Refusal | None:
        key, range_end = watcher.group_key[:2]
        if watch_id not in self._users:  # made while authentication was off
            return refuses(self._server, self._call, lambda check: check.keys_read(key, range_end))
        if not self._server.machine.auth.enabled:
            return None
        caller = Caller(self._users[watch_id][0], self._server.machine.auth.revision)
        return self._server.callers.check(caller).keys_read(key, range_end)

    def refuse_leaderless(self) -> None:
        """The client asked not to be left waiting while there is no leader."""
        self._call.fail(refusal.NO_LEADER.code, refusal.NO_LEADER.text)
        self._on_close()

    def _on_close(self) -> None:
        for watcher in self._watchers.values():
            self._server.watches.remove(watcher)
        self._watchers.clear()
        self._users.clear()
        self._server.callers.streams.discard(self)
        self._server.leader_bound.discard(self)
