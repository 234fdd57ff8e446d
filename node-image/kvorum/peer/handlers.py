"""What other members ask of this one on the peer port, and the exact answers an etcd 3.5 gives.

Knows paths, headers, status codes and texts; no socket. What only the server knows is asked through `MemberAsked`.
Two codes stop the process that reads them: 410 goes to a stream's dialer that was removed and to nobody else, and 403
to nobody at all.
"""

import json
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from kvorum import __version__
from kvorum.etcdpb import internal_pb2, rpc_pb2
from kvorum.peer.identity import (
    CLUSTER_ID,
    KVORUM_VERSION,
    PEER_URLS,
    RAFT_TO,
    SERVER_FROM,
    SERVER_VERSION,
    parse_hex_id,
)
from kvorum.peer.snapshot_receiver import BODY_BYTES_MAX, SnapshotBody, SnapshotRefused, Taking
from kvorum.peer.streams import MESSAGE_BYTES_MAX, StreamBroken, StreamKind, check_entries
from kvorum.peer.transport import Transport
from kvorum.peer.wiring import log
from kvorum.raft.message import Message, MessageType
from kvorum.server.peers import LeaseLife
from kvorum.state import go_json, refusal
from kvorum.state.membership import NOT_DECIDED, Member, hex_id
from kvorum.state.refusal import Refusal
from kvorum.storage.entry_codec import NotRaftpb, decode_message
from kvorum.wire.http1 import Headers, Request

SMALL_BODY_BYTES_MAX: Final = 64 << 10  # of every request that is not a raft message
PEER_URLS_COUNT_MAX: Final = 64  # taken from a header of somebody unknown

_STREAM: Final = "/raft/stream/"
_PROMOTE: Final = "/members/promote/"


class MemberAsked(Protocol):
    """What other members ask this one beside raft. The coroutines may wait; they raise TimeoutError."""

    def cluster_version(self) -> str | None:
        """x.y.0, or None while it is not decided."""
        ...

    def members(self) -> Iterable[Member]: ...

    def is_removed(self, member_id: int) -> bool:
        """Whether a member of this id was removed, ever."""
        ...

    def receive_snapshot(self, message: Message) -> Taking | str:
        """A leader's snapshot whose database follows; a text if it is not wanted."""
        ...

    async def promote_member(self, member_id: int) -> Refusal | None:
        """Asked of the leader: lets a learner vote. None: it does."""
        ...

    async def renew_lease(self, lease_id: int) -> int | Refusal:
        """Asked of the leader, which first applies what is committed. The TTL in seconds."""
        ...

    async def lease_life(self, lease_id: int, *, keys: bool) -> LeaseLife | Refusal:
        """The same, for what it knows of the lease."""
        ...

    async def hash_kv(self, revision: int) -> tuple[int, int, int] | Refusal:
        """Hash of the keys up to revision (0: all), the current revision, the compact revision (-1: none yet)."""
        ...

    async def downgrade_enabled(self) -> bool:
        """After a linearizable read."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """closes: the connection ends with it, whatever the other side may still want to send."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    closes: bool = False


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The connection becomes a stream to this member, after an answer with these headers."""

    member_id: int
    kind: StreamKind
    headers: tuple[tuple[str, str], ...]


class Handlers:
    def __init__(self, transport: Transport, member: MemberAsked) -> None:
        self._transport = transport
        self._identity = transport.identity
        self._member = member
        self._cluster_header = (CLUSTER_ID, hex_id(self._identity.cluster_id))

    def body_bytes_max(self, request: Request) -> int:
        if request.path == "/raft/snapshot":
            return BODY_BYTES_MAX
        return MESSAGE_BYTES_MAX if request.path == "/raft" else SMALL_BODY_BYTES_MAX

    def at_head(self, request: Request) -> Answer | StreamOpened | SnapshotBody | None:
        """The answer that needs no body, if it can be given, so nothing is read from who may not ask; or who takes the
        body as it comes."""
        path = request.path
        if path.startswith(_STREAM):
            return self._open_stream(request)
        if path == "/raft":
            return self._objection_to_raft(request)
        if path == "/raft/snapshot":
            return self._objection_to_raft(request) or SnapshotBody(self._member)
        return None

    async def took_snapshot(self, body: SnapshotBody) -> Answer:
        """To POST /raft/snapshot with its whole body."""
        try:
            await body.finish()
        except SnapshotRefused as why:
            return self.refused_snapshot(why)
        return Answer(204, headers=(self._cluster_header,))

    def refused_snapshot(self, why: SnapshotRefused) -> Answer:
        return refused(why.status, str(why), self._cluster_header)

    def answer(self, request: Request) -> Answer | Awaitable[Answer]:
        """To a request with its whole body."""
        path = request.path
        if path == "/raft":
            return self._take_message(request)
        if path in ("/raft/probing", "/raft/probing/"):
            return _probed()
        if path == "/version":
            return self._version(request)
        if path == "/members":
            return self._members(request)
        if path == "/members/hashkv":
            return self._hash_kv(request)
        if path.startswith(_PROMOTE):
            return self._promote(request)
        if path == "/leases":
            return self._renew_lease(request)
        if path == "/leases/internal":
            return self._lease_life(request)
        if path == "/downgrade/enabled":
            return self._downgrade_enabled(request)
        return refused(404, "404 page not found")

    # Raft

    def _objection_to_raft(self, request: Request) -> Answer | None:
        if request.method != "POST":
            return wrong_method("POST")
        objection = self._identity.objection(request.headers)
        if objection is not None:
            log.warning("%s from peer %s: %s", request.path, request.headers.get(SERVER_FROM.lower()), objection)
            return refused(412, objection, self._cluster_header)
        self._note_stranger(request.headers)
        return None

    def _take_message(self, request: Request) -> Answer:
        try:
            message = decode_message(request.body)
            if message.type is MessageType.APPEND:
                check_entries(message)
        except (NotRaftpb, StreamBroken):
            return refused(400, "error unmarshalling raft message", self._cluster_header)
        if message.to != self._identity.member_id or self._member.is_removed(message.sender):
            # etcd aborts the connection after this one, and so it never says what is wrong.
            return refused(500, "error processing raft message", self._cluster_header, closes=True)
        self._transport.receive(message)
        return Answer(204, headers=(self._cluster_header,))

    def _open_stream(self, request: Request) -> Answer | StreamOpened:
        if request.method != "GET":
            return wrong_method("GET")
        own = ((SERVER_VERSION, self._identity.version), self._cluster_header)
        objection = self._identity.objection(request.headers)
        if objection is not None:
            log.warning("stream for peer %s: %s", request.headers.get(SERVER_FROM.lower()), objection)
            return refused(412, objection, *own)
        folder, _, name = request.path.removeprefix(_STREAM).rpartition("/")
        if folder not in StreamKind.__members__.values():
            return refused(404, "invalid path", *own)
        member_id = parse_hex_id(name)
        if member_id is None:
            return refused(404, "invalid from", *own)
        if self._member.is_removed(member_id):
            return refused(410, "removed member", *own)
        if not self._transport.knows(member_id):
            self._note_stranger(request.headers)
            return refused(404, "error sender not found", *own)
        if request.headers.get(RAFT_TO.lower()) != hex_id(self._identity.member_id):
            return refused(412, "to field mismatch", *own)
        return StreamOpened(member_id, StreamKind(folder), (*own, (KVORUM_VERSION, __version__)))

    def _note_stranger(self, headers: Headers) -> None:
        """Who sends with our cluster's id may be a member that the log has not told us of yet: it can be answered."""
        member_id = parse_hex_id(headers.get(SERVER_FROM.lower(), ""))
        urls = [url.strip() for url in headers.get(PEER_URLS.lower(), "").split(",")]
        if member_id and not self._member.is_removed(member_id):
            self._transport.add_stranger(member_id, [url for url in urls if url][:PEER_URLS_COUNT_MAX])

    # Members

    def _version(self, request: Request) -> Answer:
        if request.method != "GET":
            return wrong_method("GET")
        versions = {
            "etcdserver": self._identity.version,
            "etcdcluster": self._member.cluster_version() or NOT_DECIDED,
        }
        return _json(versions)

    def _members(self, request: Request) -> Answer:
        if request.method != "GET":
            return wrong_method("GET")
        return Answer(200, self._members_json(), (_JSON, self._cluster_header))

    def _members_json(self) -> bytes:
        """In ascending ids, with Go's newline at the end."""
        return (
            go_json.dumps([member.to_json() for member in sorted(self._member.members(), key=lambda m: m.id)]) + b"\n"
        )

    async def _promote(self, request: Request) -> Answer:
        if request.method != "POST":
            return wrong_method("POST")
        text = request.path.removeprefix(_PROMOTE)
        member_id = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0
        if not 0 < member_id < 1 << 64:
            return refused(404, f"member {text} not found in cluster", self._cluster_header)
        try:
            objection = await self._member.promote_member(member_id)
        except TimeoutError:
            return Answer(500, _INTERNAL_ERROR, (_JSON, self._cluster_header))
        if objection is None:
            return Answer(200, self._members_json(), (_JSON, self._cluster_header))
        if objection == refusal.MEMBER_NOT_FOUND:
            return refused(404, "membership: ID not found", self._cluster_header)
        if objection == refusal.MEMBER_NOT_LEARNER:
            return refused(412, "membership: can only promote a learner member", self._cluster_header)
        if objection == refusal.LEARNER_NOT_READY:
            return refused(412, objection.text, self._cluster_header)
        return Answer(500, _INTERNAL_ERROR, (_JSON, self._cluster_header))

    # What the leader alone knows

    async def _renew_lease(self, request: Request) -> Answer:
        if request.method != "POST":
            return refused(405, "Method Not Allowed")  # etcd names no method here
        try:
            asked = rpc_pb2.LeaseKeepAliveRequest.FromString(request.body)
            ttl_s = await self._member.renew_lease(asked.ID)
        except DecodeError:
            return refused(400, "error unmarshalling request")
        except TimeoutError:
            return refused(408, _APPLY_TIMEOUT)
        if isinstance(ttl_s, Refusal):
            return _lease_refused(ttl_s)
        response = rpc_pb2.LeaseKeepAliveResponse(ID=asked.ID, TTL=ttl_s)
        return Answer(200, response.SerializeToString(), (_PROTOBUF,))

    async def _lease_life(self, request: Request) -> Answer:
        if request.method != "POST":
            return refused(405, "Method Not Allowed")
        try:
            asked = internal_pb2.LeaseInternalRequest.FromString(request.body).LeaseTimeToLiveRequest
            life = await self._member.lease_life(asked.ID, keys=asked.keys)
        except DecodeError:
            return refused(400, "error unmarshalling request")
        except TimeoutError:
            return refused(408, _APPLY_TIMEOUT)
        if isinstance(life, Refusal):
            return _lease_refused(life)
        response = internal_pb2.LeaseInternalResponse(
            LeaseTimeToLiveResponse=rpc_pb2.LeaseTimeToLiveResponse(
                header=rpc_pb2.ResponseHeader(), ID=asked.ID, TTL=life.ttl_s, grantedTTL=life.granted_s, keys=life.keys
            )
        )
        return Answer(200, response.SerializeToString(), (_PROTOBUF,))

    async def _hash_kv(self, request: Request) -> Answer:
        if request.method != "GET":
            return wrong_method("GET")
        told = request.headers.get(CLUSTER_ID.lower())
        if told and told != hex_id(self._identity.cluster_id):
            return refused(412, "cluster ID mismatch")
        try:
            asked = json.loads(request.body)
            revision = asked.get("revision", 0)
        except (ValueError, AttributeError, RecursionError):
            revision = None
        if not isinstance(revision, int):
            return refused(400, "error unmarshalling request")
        answer = await self._member.hash_kv(revision)
        if isinstance(answer, Refusal):
            return refused(400, answer.text.removeprefix("etcdserver: "))
        hashed, current, compacted = answer
        body: dict[str, object] = {"header": {"revision": current} if current else {}}
        body |= {"hash": hashed} if hashed else {}
        body |= {"compact_revision": compacted} if compacted else {}
        return _json(body, self._cluster_header)

    async def _downgrade_enabled(self, request: Request) -> Answer:
        if request.method != "GET":
            return wrong_method("GET")
        try:
            enabled = await self._member.downgrade_enabled()
        except TimeoutError:
            return refused(500, "failed linearized read", self._cluster_header)
        headers = (("Content-Type", "text/plain"), self._cluster_header)
        return Answer(200, b"true" if enabled else b"false", headers)


_JSON: Final = ("Content-Type", "application/json")
_PROTOBUF: Final = ("Content-Type", "application/protobuf")
_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))
_INTERNAL_ERROR: Final = b'{"message":"Internal Server Error"}'
_APPLY_TIMEOUT: Final = "waiting for node to catch up its applied index has timed out"


def refused(status: int, text: str, *headers: tuple[str, str], closes: bool = False) -> Answer:
    """As Go's http.Error writes it."""
    return Answer(status, text.encode() + b"\n", (*_TEXT, *headers), closes)


def wrong_method(allowed: str) -> Answer:
    return refused(405, "Method Not Allowed", ("Allow", allowed))


def _json(content: dict[str, object] | dict[str, str], *headers: tuple[str, str]) -> Answer:
    return Answer(200, json.dumps(content, separators=(",", ":")).encode(), (_JSON, *headers))


def _probed() -> Answer:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return Answer(200, f'{{"OK":true,"Now":"{now}"}}\n'.encode(), (("Content-Type", "text/plain; charset=utf-8"),))


def _lease_refused(objection: Refusal) -> Answer:
    if objection == refusal.LEASE_NOT_FOUND:
        return refused(404, "lease not found")
    if objection == refusal.NOT_PRIMARY_LESSOR:
        return refused(400, objection.text)
    return refused(500, objection.text)
