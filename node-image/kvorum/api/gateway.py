"""etcd's gateway: its gRPC methods as JSON over HTTP (etcd.md 1.3).

A request becomes a call, which goes to the handler that takes it over gRPC; what that answers becomes JSON. No method
is known here but by its path and the names of its messages, no rule of the store stands here. Statuses, bodies and
headers are those of grpc-gateway; of its two versions, errors carry the fields of both.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError, Message

from kvorum.api import proto_json
from kvorum.api.gateway_socket import Conversation, open_socket
from kvorum.api.proto_json import BadJson, Object
from kvorum.etcdpb import election_pb2, lock_pb2
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import NOT_COUNTED, Call, MethodCounts
from kvorum.net.exchange import Exchange, HttpRequest, HttpResponse, HttpStream
from kvorum.state import refusal
from kvorum.wire import grpc, websocket
from kvorum.wire.grpc import Code, Status

Handler = Callable[[Call], None]

JSON: Final = ("Content-Type", "application/json")
ANSWERED: Final = (JSON, ("Grpc-Metadata-Content-Type", "application/grpc"))
NO_NAMES: Final = (
    b"The common name of a client's certificate is nobody's name here, while authentication is on.\n"
    b"  Ask over gRPC, or with a certificate that has none, and with a token.\n"
)
DOCUMENTS_MAX: Final = 1000  # in one body, or one message of WebSocket: they are taken within one turn of the loop
TOO_MANY: Final = Status(Code.RESOURCE_EXHAUSTED, f"kvorum: more than {DOCUMENTS_MAX} documents at once")
NO_TEXT: Final = "kvorum: the answer holds a name that is no UTF-8, which JSON cannot have: ask over gRPC"
VALUES_MAX: Final = 20_000  # in one body likewise: each costs some microseconds, and nobody has said yet who he is
TOO_MANY_VALUES: Final = Status(Code.RESOURCE_EXHAUSTED, f"kvorum: more than {VALUES_MAX} values at once")
METADATA: Final = "grpc-metadata-"  # before the name of a header that is meant for the call

# Of HTTP, by the code of gRPC.
STATUSES: Final = {
    0: 200, 1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429,
    9: 400, 10: 409, 11: 400, 12: 501, 13: 500, 14: 503, 15: 500, 16: 401,
}  # fmt: skip
REASONS: Final = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict",
    429: "Too Many Requests", 499: "Client Closed Request", 500: "Internal Server Error", 501: "Not Implemented",
    503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


class Method(NamedTuple):
    """request and response: their messages. many: the client, too, may send several messages in one call."""

    path: str  # of gRPC
    request: Any
    response: Any
    many: bool = False


def _methods(service: str, paths: Mapping[str, str], messages: Any) -> dict[str, Method]:
    """paths: of HTTP, each with the method's name and, behind a blank, that of its messages where it is another."""
    found = {}
    for path, names in paths.items():
        name, _, stem = names.partition(" ")
        request = getattr(messages, f"{stem or name}Request")
        response = getattr(messages, f"{stem or name}Response")
        found[f"/v3/{path}"] = Method(f"/{service}/{name}", request, response, name in ("Watch", "LeaseKeepAlive"))
    return found


METHODS: Final[dict[str, Method]] = {
    **_methods(
        "etcdserverpb.KV",
        {
            "kv/range": "Range",
            "kv/put": "Put",
            "kv/deleterange": "DeleteRange",
            "kv/txn": "Txn",
            "kv/compaction": "Compact Compaction",
        },
        rpc,
    ),
    **_methods("etcdserverpb.Watch", {"watch": "Watch"}, rpc),
    **_methods(
        "etcdserverpb.Lease",
        {
            "lease/grant": "LeaseGrant",
            "lease/revoke": "LeaseRevoke",
            "kv/lease/revoke": "LeaseRevoke",
            "lease/keepalive": "LeaseKeepAlive",
            "lease/timetolive": "LeaseTimeToLive",
            "kv/lease/timetolive": "LeaseTimeToLive",
            "lease/leases": "LeaseLeases",
            "kv/lease/leases": "LeaseLeases",
        },
        rpc,
    ),
    **_methods(
        "etcdserverpb.Cluster",
        {
            "cluster/member/add": "MemberAdd",
            "cluster/member/remove": "MemberRemove",
            "cluster/member/update": "MemberUpdate",
            "cluster/member/list": "MemberList",
            "cluster/member/promote": "MemberPromote",
        },
        rpc,
    ),
    **_methods(
        "etcdserverpb.Maintenance",
        {
            "maintenance/alarm": "Alarm",
            "maintenance/status": "Status",
            "maintenance/defragment": "Defragment",
            "maintenance/hash": "Hash",
            "maintenance/hashkv": "HashKV",
            "maintenance/snapshot": "Snapshot",
            "maintenance/transfer-leadership": "MoveLeader",
            "maintenance/downgrade": "Downgrade",
        },
        rpc,
    ),
    **_methods(
        "etcdserverpb.Auth",
        {
            "auth/enable": "AuthEnable",
            "auth/disable": "AuthDisable",
            "auth/status": "AuthStatus",
            "auth/authenticate": "Authenticate",
            "auth/user/add": "UserAdd AuthUserAdd",
            "auth/user/get": "UserGet AuthUserGet",
            "auth/user/list": "UserList AuthUserList",
            "auth/user/delete": "UserDelete AuthUserDelete",
            "auth/user/changepw": "UserChangePassword AuthUserChangePassword",
            "auth/user/grant": "UserGrantRole AuthUserGrantRole",
            "auth/user/revoke": "UserRevokeRole AuthUserRevokeRole",
            "auth/role/add": "RoleAdd AuthRoleAdd",
            "auth/role/get": "RoleGet AuthRoleGet",
            "auth/role/list": "RoleList AuthRoleList",
            "auth/role/delete": "RoleDelete AuthRoleDelete",
            "auth/role/grant": "RoleGrantPermission AuthRoleGrantPermission",
            "auth/role/revoke": "RoleRevokePermission AuthRoleRevokePermission",
        },
        rpc,
    ),
    **_methods("v3lockpb.Lock", {"lock/lock": "Lock", "lock/unlock": "Unlock"}, lock_pb2),
    **_methods(
        "v3electionpb.Election",
        {
            "election/campaign": "Campaign",
            "election/proclaim": "Proclaim",
            "election/leader": "Leader",
            "election/observe": "Observe Leader",
            "election/resign": "Resign",
        },
        election_pb2,
    ),
}


class Gateway:
    """Answers what begins with /v3/, and with its older name /v3beta/.

    unary, streams: who takes which method, as with net.call.Routes, whose limit on messages is here, too.
    auth_enabled: whether users are asked for now.
    counts: of the same methods' calls; etcd's gateway is a client of its gRPC, so its calls count there.
    """

    def __init__(
        self,
        *,
        unary: Mapping[str, Handler],
        streams: Mapping[str, Handler],
        message_bytes_max: int,
        counts: Mapping[str, MethodCounts],
        auth_enabled: Callable[[], bool],
    ) -> None:
        self._counts = counts
        self._auth_enabled = auth_enabled
        self._unary = unary
        self._streams = streams
        self._message_bytes_max = message_bytes_max

    def handle(self, request: HttpRequest, exchange: Exchange) -> None:
        if exchange.common_name and self._auth_enabled():
            # Whoever shows a certificate expects to be that user, which he is over gRPC alone (etcd refuses him, too).
            exchange(HttpResponse(400, NO_NAMES, (("Content-Type", "text/plain; charset=utf-8"),)))
        elif websocket.is_asked_for(request.headers):
            open_socket(request, exchange, self._converse, message_bytes_max=2 * self._message_bytes_max)
        else:
            self._answer(request, exchange)

    def _converse(self, request: HttpRequest, exchange: Exchange) -> Conversation | None:
        """A call whose client may say more than the request's body."""
        call = self._answer(request, exchange, goes_on=True)
        return None if call is None else Messages(self, call)

    def _answer(self, request: HttpRequest, exchange: Exchange, *, goes_on: bool = False) -> "GatewayCall | None":
        """The call, where there is one. goes_on: the end of the body is not the end of what the client says."""
        path = request.path
        method = METHODS.get("/v3/" + path.removeprefix("/v3beta/") if path.startswith("/v3beta/") else path)
        if method is None:
            refuse(exchange, refusal.NOT_FOUND, "Not Found")
        elif request.method != "POST":
            refuse(exchange, refusal.UNIMPLEMENTED, "Method Not Allowed")
        else:
            return self._call(method, request, exchange, goes_on=goes_on)
        return None

    def _call(self, method: Method, request: HttpRequest, exchange: Exchange, *, goes_on: bool) -> "GatewayCall | None":
        try:
            timeout_s = _timeout_s(request)
            messages = self.messages(method, request.body)
            first = next(messages, None)
        except BadJson as bad:
            refuse(exchange, refusal.INVALID_ARGUMENT, str(bad))
            return None
        except grpc.BadMessage as bad:
            refuse(exchange, bad.status.code, bad.status.message)
            return None
        counts = self._counts.get(method.path, NOT_COUNTED)
        counts.started += 1
        call = GatewayCall(method, request, exchange, timeout_s, counts)
        handler = self._unary.get(method.path)
        if handler is not None:
            call.body = b"" if first is None else first
            handler(call)
            return None
        handler = self._streams.get(method.path)
        if handler is None:
            service, _, name = method.path[1:].partition("/")
            call.fail(Code.UNIMPLEMENTED, f"unknown method {name} for service {service}")
            return None
        call.streams = True
        handler(call)
        if first is None and not method.many:
            first = b""
        call.feed(first, messages if method.many else iter(()))
        if goes_on and method.many:
            return call
        call.end()
        return None

    def messages(self, method: Method, body: bytes) -> Iterator[bytes]:
        """What a body holds, as messages of gRPC. Raises BadJson and grpc.BadMessage, each when it comes to it."""
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise BadJson("proto: syntax error: invalid UTF-8") from None
        if sum(map(text.count, ",{[")) > VALUES_MAX:  # what stands in strings is base64, or a name
            raise grpc.BadMessage(TOO_MANY_VALUES)
        for index, document in enumerate(proto_json.documents(text)):
            if index == DOCUMENTS_MAX:
                raise grpc.BadMessage(TOO_MANY)
            yield self._message(method, document)

    def _message(self, method: Method, document: Object) -> bytes:
        message: Message = method.request()
        proto_json.read(message, document)
        encoded = message.SerializeToString()
        if len(encoded) > self._message_bytes_max:
            raise grpc.BadMessage(grpc.too_large(len(encoded), self._message_bytes_max))
        return encoded


class Messages:
    """What a client that speaks WebSocket says after its first message: a Conversation."""

    def __init__(self, gateway: Gateway, call: "GatewayCall") -> None:
        self._gateway = gateway
        self._call = call

    def more(self, text: bytes) -> None:
        call = self._call
        try:
            for message in self._gateway.messages(call.method, text):
                if not call.take(message):
                    return
        except BadJson as bad:
            call.end_by(refusal.INVALID_ARGUMENT, str(bad))
        except grpc.BadMessage as bad:
            call.end_by(bad.status.code, bad.status.message)


def _timeout_s(request: HttpRequest) -> float | None:
    """Raises BadJson."""
    timeout = request.headers.get("grpc-timeout")
    if timeout is None:
        return None
    try:
        return grpc.read_timeout(timeout.encode("latin-1"))
    except ValueError:
        raise BadJson(f"invalid grpc-timeout: {timeout}") from None


def refuse(exchange: Exchange, code: int, message: str) -> None:
    exchange(HttpResponse(STATUSES.get(code, 500), error_body(code, message), (JSON,)))


def error_body(code: int, message: str) -> bytes:
    """error and message are the same text: one version of grpc-gateway has both, the other the second."""
    return _dumps({"error": message, "message": message, "code": code})


def error_line(code: int, message: str) -> bytes:
    """Of a stream: the names of both versions, too."""
    status = STATUSES.get(code, 500)
    told = {
        "code": code,
        "message": message,
        "grpc_code": code,
        "http_code": status,
        "http_status": REASONS.get(status, "OK"),
    }
    return _dumps({"error": told}) + b"\n"


def _dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


class GatewayCall:
    """A call that came as JSON: a net.call.Call.

    The head of a stream goes out with its first message, since an error before it is an answer of its own.
    """

    def __init__(
        self,
        method: Method,
        request: HttpRequest,
        exchange: Exchange,
        timeout_s: float | None,
        counts: MethodCounts,
    ) -> None:
        self.body = b""
        self.cancelled = False
        self.streams = False  # otherwise unary
        self.on_message: Callable[[bytes], None] | None = None
        self.on_end: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.timeout_s = timeout_s
        self._counts = counts
        self._opened_at = time.perf_counter()
        self.method = method
        self._request = request
        self._exchange = exchange
        self._stream: HttpStream | None = None
        self._on_close: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        if timeout_s is not None:
            self._timer = asyncio.get_running_loop().call_later(timeout_s, self._expire)

    @property
    def path(self) -> str:
        return self.method.path

    @property
    def common_name(self) -> str | None:
        return None  # as in etcd: a certificate is the gateway's, not its client's

    def metadata(self, name: str) -> str | None:
        headers = self._request.headers
        found = headers.get("authorization") if name == "authorization" else None
        if found is None:
            found = headers.get(METADATA + name)
        return None if found is None else found.removeprefix("Bearer ")

    @property
    def buffered_bytes(self) -> int:
        return 0 if self._stream is None else self._stream.buffered_bytes

    @property
    def on_close(self) -> Callable[[], None] | None:
        return self._on_close

    @on_close.setter
    def on_close(self, told: Callable[[], None] | None) -> None:
        """Only who wants to know that the client is gone is told: an answer may go to one that said no more."""
        self._on_close = told
        (self._stream or self._exchange).on_close = None if told is None else self._left

    # What comes in

    def feed(self, first: bytes | None, more: Iterator[bytes]) -> None:
        """The messages, and that there are no others. What is no message ends them, as in etcd, without an error."""
        message = first
        try:
            while message is not None and self.take(message):
                message = next(more, None)
        except BadJson:
            return
        except grpc.BadMessage as bad:
            self.end_by(bad.status.code, bad.status.message)

    def take(self, message: bytes) -> bool:
        """Whether its handler still listens."""
        if self.on_message is None:
            return False
        self._counts.received += 1
        self.on_message(message)
        return True

    def end(self) -> None:
        """The client says no more."""
        if self.on_end is not None:
            self.on_end()

    def end_by(self, code: int, message: str) -> None:
        """For a mistake of the client's."""
        told = self._on_close
        self.finish(code, message)
        self.cancelled = True
        if told is not None:
            told()

    def _left(self) -> None:
        """The client is gone."""
        told = self._on_close
        self._count_end(Code.CANCELLED)
        self.cancelled = True
        self._let_go()
        if told is not None:
            told()

    def _count_end(self, code: int) -> None:
        self._counts.ended(code)
        if self._counts.took is not None:
            self._counts.took.observe(time.perf_counter() - self._opened_at)

    def _expire(self) -> None:
        """The client waits no longer, by its own word, but for this answer."""
        self.end_by(Code.DEADLINE_EXCEEDED, "context deadline exceeded")

    # Answers

    def reply(self, body: bytes) -> None:
        if self.streams:
            self.push(body)
            self.finish()
        elif not self.cancelled:
            text = self._as_json(body)
            if text is not None:
                self._count_end(Code.OK)
                self._let_go()
                self._exchange(HttpResponse(200, text.encode(), ANSWERED))

    def _as_json(self, body: bytes) -> str | None:
        """None: the call has failed, since JSON has no such text. Who answers may be in the middle of applying."""
        try:
            return proto_json.write(self.method.response.FromString(body))
        except DecodeError:
            self.end_by(Code.INTERNAL, NO_TEXT)
            return None

    def fail(self, code: int, message: str) -> None:
        self.finish(code, message)

    def push(self, body: bytes) -> None:
        text = None if self.cancelled else self._as_json(body)
        if text is None:
            return
        stream = self._stream
        if stream is None:
            stream = self._stream = self._exchange.open(200, ANSWERED)
            stream.on_close = self._left
            stream.on_writable = self._writable
        self._counts.sent += 1
        stream.write(f'{{"result":{text}}}\n'.encode())

    def _writable(self) -> None:
        if self.on_writable is not None:
            self.on_writable()

    def finish(self, code: int = 0, message: str = "") -> None:
        if self.cancelled:
            return
        self._count_end(code)
        stream = self._stream
        self._let_go()
        if stream is not None:
            if code:
                stream.write(error_line(code, message))
            stream.close()
        elif code:
            refuse(self._exchange, code, message)
        else:
            self._exchange(HttpResponse(200))

    def _let_go(self) -> None:
        self.on_message = self.on_end = self.on_writable = None
        self._on_close = None
        self._exchange.on_close = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
