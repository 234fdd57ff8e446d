"""/v2/keys: reads, changes and watches of the v2 store.

A read is answered from what this member has applied, or through the log where the client asks for a quorum; every
change goes through the log. No rule of the store is here.
"""

import time

from kvorum.api import v2_form
from kvorum.api.v2_form import KeyRequest
from kvorum.etcdpb.internal_pb2 import V2Request
from kvorum.net.exchange import Exchange, HttpRequest, HttpResponse
from kvorum.server.server import Server
from kvorum.state import go_json, v2_event, v2_request
from kvorum.state.v2_error import INVALID_FIELD, KEY_IS_PRESERVED, MESSAGES, RAFT_INTERNAL, UNAUTHORIZED, V2Error
from kvorum.state.v2_event import COMPARE_AND_SWAP, CREATE, SET, UPDATE, Event
from kvorum.state.v2_store import KEYS_ROOT, Applied, clean

PREFIX = "/v2/keys"
METHODS = ("HEAD", "GET", "PUT", "POST", "DELETE")
JSON = ("Content-Type", "application/json")
DEPTH_MAX = 200  # of a key: a snapshot's tree is nested twice as deep in JSON, and readers of that give up somewhere
UNREAD_BYTES_MAX = 1 << 20  # of events that a watching client does not take; with more it is told no more (etcd: 100)
WITH_VALUE = frozenset({SET, CREATE, UPDATE, COMPARE_AND_SWAP})  # what noValueOnSuccess is about


class Keys:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._cluster = ("X-Etcd-Cluster-Id", f"{server.cluster_id:x}")

    def handle(self, request: HttpRequest, exchange: Exchange) -> None:
        try:
            asked = v2_form.parse(request)
            if auth_enabled(self._server):
                raise V2Error(UNAUTHORIZED, "Insufficient credentials")
            path = clean(f"{KEYS_ROOT}/{request.path[len(PREFIX) :]}")
            if request.method in ("PUT", "POST"):
                _require_possible(request.method, path, asked)
            if request.method == "GET" and asked.wait and not asked.quorum:
                self._watch(path, asked, exchange)
            elif request.method == "HEAD" or (request.method == "GET" and not asked.quorum):
                event = self._server.machine.v2.get(path, recursive=asked.recursive, is_sorted=asked.is_sorted)
                self._answer(Applied(event, None, self._server.machine.v2.index), asked, exchange)
            else:
                method = "QGET" if request.method == "GET" else request.method
                self._server.v2.propose(
                    _entry(method, path, asked), lambda applied: self._answer(applied, asked, exchange)
                )
        except V2Error as error:
            self._refuse(error, exchange)

    def _answer(self, applied: Applied, asked: KeyRequest, exchange: Exchange) -> None:
        event = applied.event
        if event is None:
            self._refuse(applied.error or V2Error(RAFT_INTERNAL, "received response with no Event/Watcher"), exchange)
            return
        if asked.no_value_on_success and event.action in WITH_VALUE:
            body = f'{{"action":"{event.action}"}}'
        else:
            body = v2_event.to_json(event, below=KEYS_ROOT)
        status = 201 if event.is_created else 200
        exchange(HttpResponse(status, f"{body}\n".encode(), self._headers(applied.store_index)))

    def _refuse(self, error: V2Error, exchange: Exchange) -> None:
        cause = error.cause if error.code == RAFT_INTERNAL else error.cause.removeprefix(KEYS_ROOT)
        told = f',"cause":{go_json.quote(cause)}' if cause else ""
        body = f'{{"errorCode":{error.code},"message":"{MESSAGES[error.code]}"{told},"index":{error.index}}}\n'
        headers = (JSON, self._cluster, ("X-Etcd-Index", str(error.index)))
        exchange(HttpResponse(error.http_status, body.encode(), headers))

    def _headers(self, store_index: int) -> tuple[tuple[str, str], ...]:
        raft = self._server.raft
        return (
            JSON,
            self._cluster,
            ("X-Etcd-Index", str(store_index)),
            ("X-Raft-Index", str(raft.log.committed)),
            ("X-Raft-Term", str(raft.term)),
        )

    def _watch(self, path: str, asked: KeyRequest, exchange: Exchange) -> None:
        watcher = self._server.v2.watch(path, recursive=asked.recursive, is_stream=asked.stream, since=asked.wait_index)
        stream = exchange.open(200, self._headers(watcher.start_index))
        stream.on_close = watcher.remove

        def tell(event: Event) -> None:
            stream.write(f"{v2_event.to_json(event, below=KEYS_ROOT)}\n".encode())
            if not asked.stream:
                stream.close()
            elif stream.buffered_bytes > UNREAD_BYTES_MAX:
                watcher.remove()
                stream.close()

        watcher.start(tell, stream.close)


def auth_enabled(server: Server) -> bool:
    """Whether v2's own users were switched on, which only a member of etcd's can do: nobody is served here then.

    Asked once a request, and counted among the store's reads, as in etcd.
    """
    try:
        event = server.machine.v2.get("/2/enabled")
    except V2Error:
        return False
    return event.node.value == "true"


def _require_possible(method: str, path: str, asked: KeyRequest) -> None:
    """What must not reach the log. Raises V2Error."""
    if path.count("/") > DEPTH_MAX:
        raise V2Error(INVALID_FIELD, f"a key has at most {DEPTH_MAX} parts here")
    is_plain = method == "PUT" and asked.prev_exist is None and not asked.prev_index and not asked.prev_value
    if is_plain and v2_request.names_members(path):
        # etcd takes such a key for the publication of a member; of one that does not exist all members die.
        raise V2Error(KEY_IS_PRESERVED, path)


def _entry(method: str, path: str, asked: KeyRequest) -> V2Request:
    request = V2Request(
        Method=method,
        Path=_bytes(path),
        Val=_bytes(asked.value),
        Dir=asked.is_dir,
        PrevValue=_bytes(asked.prev_value),
        PrevIndex=asked.prev_index,
        Wait=asked.wait,
        Since=asked.wait_index,
        Recursive=asked.recursive,
        Sorted=asked.is_sorted,
        Quorum=asked.quorum,
        Stream=asked.stream,
    )
    if asked.prev_exist is not None:
        request.PrevExist = asked.prev_exist
    if asked.refresh is not None:
        request.Refresh = asked.refresh
    if asked.ttl_s is not None:
        request.Expiration = _int64(time.time_ns() + _int64(asked.ttl_s * 1_000_000_000))
    return request


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _int64(number: int) -> int:
    """As Go's integers do, beyond their end they go on from the beginning: so a huge TTL becomes one of the past."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)
