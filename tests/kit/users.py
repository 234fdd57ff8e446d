"""Plain gRPC calls to one node, as a user with a token or as nobody; and what they are answered, codes and texts."""

import threading
from collections.abc import Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.processes import Node

CALL_S = 30.0  # far above what is usual
OK = (0, "")
EMPTY = (3, "etcdserver: user name is empty")
OLD = (3, "etcdserver: revision of auth store is old")
WRONG = (3, "etcdserver: authentication failed, invalid user ID or password")
DENIED = (7, "etcdserver: permission denied")
OFF = (9, "etcdserver: authentication is not enabled")
INVALID = (16, "etcdserver: invalid auth token")

Answer = TypeVar("Answer", bound=Message)


class Client:
    """header: the metadata that holds the token; etcd takes either."""

    def __init__(self, node: Node, token: str | None = None, *, header: str = "token") -> None:
        self.node = node
        self.channel = grpc.insecure_channel(f"127.0.0.1:{node.client_port}", options=(("grpc.enable_http_proxy", 0),))
        self.token = token
        self._header = header

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return () if self.token is None else ((self._header, self.token),)

    def with_token(self, token: str | None, *, header: str = "token") -> "Client":
        return Client(self.node, token, header=header)

    def at(self, node: Node) -> "Client":
        """The same token, shown to another node."""
        return Client(node, self.token, header=self._header)

    def signed_in(self, name: str, password: str) -> "Client":
        """Raises grpc.RpcError."""
        request = rpc.AuthenticateRequest(name=name, password=password)
        return self.with_token(self.call("Auth/Authenticate", request, rpc.AuthenticateResponse).token)

    def call(self, path: str, request: Message, answer: type[Answer]) -> Answer:
        """path: like KV/Put. Raises grpc.RpcError."""
        method = self.channel.unary_unary(
            f"/etcdserverpb.{path}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        found = method(request, timeout=CALL_S, metadata=self.metadata)
        assert isinstance(found, answer)
        return found

    def outcome(self, path: str, request: Message) -> tuple[int, str]:
        """The status it is answered with."""
        try:
            self.call(path, request, rpc.AuthEnableResponse)  # of whatever comes only the header is read
        except grpc.RpcError as refused:
            return status_of(refused)
        return OK

    def done(self, path: str, request: Message) -> None:
        assert self.outcome(path, request) == OK, (path, request)

    def put(self, key: str, **options: Any) -> tuple[int, str]:
        return self.outcome("KV/Put", rpc.PutRequest(key=key.encode(), value=b"v", **options))

    def get(self, key: str, range_end: str = "", **options: Any) -> tuple[int, str]:
        request = rpc.RangeRequest(key=key.encode(), range_end=range_end.encode(), **options)
        return self.outcome("KV/Range", request)

    def delete(self, key: str, range_end: str = "") -> tuple[int, str]:
        return self.outcome("KV/DeleteRange", rpc.DeleteRangeRequest(key=key.encode(), range_end=range_end.encode()))

    def txn(
        self, *success: rpc.RequestOp, compare: str = "", failure: tuple[rpc.RequestOp, ...] = ()
    ) -> tuple[int, str]:
        compares = [rpc.Compare(key=compare.encode())] if compare else []
        return self.outcome("KV/Txn", rpc.TxnRequest(compare=compares, success=success, failure=failure))

    def count(self, key: str) -> int:
        return self.call("KV/Range", rpc.RangeRequest(key=key.encode()), rpc.RangeResponse).count

    def status(self) -> rpc.StatusResponse:
        return self.call("Maintenance/Status", rpc.StatusRequest(), rpc.StatusResponse)

    def auth_revision(self) -> int:
        return self.call("Auth/AuthStatus", rpc.AuthStatusRequest(), rpc.AuthStatusResponse).authRevision

    def close(self) -> None:
        self.channel.close()


class Stream:
    """A watch or a keep-alive that is written to and read in turns; ended by the node, or by close()."""

    def __init__(self, client: Client, path: str, answer: type[Message]) -> None:
        self._wake = threading.Event()
        self._requests: list[Message] = []
        self._closed = False
        self.call: Any = client.channel.stream_stream(
            f"/etcdserverpb.{path}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=answer.FromString,
        )(self._written(), timeout=CALL_S * 2, metadata=client.metadata)

    def _written(self) -> Iterator[Message]:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            while self._requests:
                yield self._requests.pop(0)

    def write(self, request: Message) -> None:
        self._requests.append(request)
        self._wake.set()

    def read(self) -> Any:
        """Raises grpc.RpcError."""
        return next(self.call)

    def end(self) -> tuple[int, str]:
        """How the node ends it."""
        try:
            for _ in self.call:
                pass
        except grpc.RpcError as ended:
            return status_of(ended)
        finally:
            self.close()
        return OK

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self.call.cancel()


def watch(client: Client, key: str, range_end: str = "", **options: Any) -> Stream:
    """A stream with one watch asked for."""
    stream = Stream(client, "Watch/Watch", rpc.WatchResponse)
    create = rpc.WatchCreateRequest(key=key.encode(), range_end=range_end.encode(), **options)
    stream.write(rpc.WatchRequest(create_request=create))
    return stream


def status_of(error: grpc.RpcError) -> tuple[int, str]:
    code = error.code()
    assert isinstance(code, grpc.StatusCode)
    return code.value[0], error.details() or ""


def put_op(key: str, **options: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key.encode(), value=b"t", **options))


def range_op(key: str, **options: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key.encode(), **options))


def nested(*success: rpc.RequestOp, compare: str = "") -> rpc.RequestOp:
    compares = [rpc.Compare(key=compare.encode())] if compare else []
    return rpc.RequestOp(request_txn=rpc.TxnRequest(compare=compares, success=success))


def add_user(client: Client, name: str, password: str, *roles: str) -> None:
    client.done("Auth/UserAdd", rpc.AuthUserAddRequest(name=name, password=password))
    for role in roles:
        client.done("Auth/UserGrantRole", rpc.AuthUserGrantRoleRequest(user=name, role=role))


def grant(client: Client, role: str, kind: str, key: str, range_end: str = "") -> None:
    """kind: READ, WRITE or READWRITE."""
    permission = rpc.Permission(permType=kind, key=key.encode(), range_end=range_end.encode())
    client.done("Auth/RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name=role, perm=permission))


def turn_on(client: Client) -> None:
    """Users root (password r, may do all) and alice (a: reads and writes a to b, reads r to s)."""
    add_user(client, "root", "r", "root")
    client.done("Auth/RoleAdd", rpc.AuthRoleAddRequest(name="own"))
    grant(client, "own", "READWRITE", "a", "b")
    grant(client, "own", "READ", "r", "s")
    add_user(client, "alice", "a", "own")
    client.done("Auth/AuthEnable", rpc.AuthEnableRequest())
