"""etcdserverpb.Watch: one stream, many watches. Ids and refusals are the stream's; telling them is the hub's."""

from google.protobuf.message import DecodeError

from kvorum.api.kv import bad_request
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import Call
from kvorum.server.server import Server
from kvorum.server.watch_hub import Watcher
from kvorum.state import refusal
from kvorum.state.refusal import Refusal
from kvorum.state.revisions import FROM_KEY

NO_ID = -1
DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"
EMPTY_RANGE = "mvcc: watcher range is empty"


def watch(server: Server, call: Call) -> None:
    """A client opened a stream."""
    WatchStream(server, call)


class WatchStream:
    """The watches of one client's stream."""

    def __init__(self, server: Server, call: Call) -> None:
        self._server = server
        self._call = call
        self._watchers: dict[int, Watcher] = {}
        self._next_id = 0
        self.push = call.push
        call.on_message = self._on_message
        # A client that has no more requests is still told of its watches, as etcd does: no on_end.
        call.on_close = self._on_close
        if call.metadata("hasleader") == "true":
            server.leader_bound.add(self)

    @property
    def buffered_bytes(self) -> int:
        return self._call.buffered_bytes

    def watch_ended(self, watcher: Watcher) -> None:
        self._watchers.pop(watcher.id, None)

    def _on_message(self, message: bytes) -> None:
        if self._server.machine.auth.enabled:  # turned on since the stream was opened
            self.end(refusal.AUTH_IS_ON)
            return
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
        self._call.push(self._server.header.encode(revision) + watcher.id_field + b"\x18\x01")
        self._server.watches.add(watcher)

    def _refuse(self, reason: str) -> None:
        response = rpc.WatchResponse(watch_id=NO_ID, created=True, canceled=True, cancel_reason=reason)
        self._call.push(self._server.header.encode(self._server.machine.revision) + response.SerializeToString())

    def _cancel(self, watch_id: int) -> None:
        watcher = self._watchers.pop(watch_id, None)
        if watcher is None:
            return  # etcd does not answer either
        self._server.watches.remove(watcher)
        self._call.push(self._server.header.encode(self._server.machine.revision) + watcher.id_field + b"\x20\x01")

    def refuse_leaderless(self) -> None:
        """The client asked not to be left waiting while there is no leader."""
        self.end(refusal.NO_LEADER)

    def end(self, why: Refusal) -> None:
        self._call.fail(why.code, why.text)
        self._on_close()

    def _on_close(self) -> None:
        for watcher in self._watchers.values():
            self._server.watches.remove(watcher)
        self._watchers.clear()
        self._server.leader_bound.discard(self)
