"""What a member asks others by plain requests: before it joins, their versions, and of the leader for its own clients.

Knows paths, answers and texts of etcd's peer port. Carries no headers of its own, as etcd's do not: no cluster is known
yet when most of this is asked. Each call tries the URLs in turn; OSError (TimeoutError is one) when none answers.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from google.protobuf.message import DecodeError

from kvorum.etcdpb import internal_pb2, rpc_pb2
from kvorum.net.tls_connection import Policy
from kvorum.peer.dial import Connections
from kvorum.peer.identity import CLUSTER_ID, parse_hex_id
from kvorum.server.peers import LeaseLife, PeerHash, PeerRefused
from kvorum.state.membership import NOT_DECIDED, Member
from kvorum.wire import http1

_JSON: Final = (("Content-Type", "application/json"),)
_PROTOBUF: Final = (("Content-Type", "application/protobuf"),)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClusterSeen:
    """A cluster as one of its members describes it."""

    cluster_id: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Versions:
    """As /version tells them. cluster None: not decided yet."""

    server: str
    cluster: str | None


class Discovery:
    """dial_timeout_s: for a connection; timeout_s: for an answer once it stands; tls: for https. close() when done."""

    def __init__(self, *, dial_timeout_s: float, timeout_s: float, tls: Policy | None = None) -> None:
        self._connections = Connections(dial_timeout_s=dial_timeout_s, tls=tls)
        self._tls = tls
        self._dial_timeout_s = dial_timeout_s
        self._timeout_s = timeout_s

    def close(self) -> None:
        self._connections.close()

    # Of any member

    async def cluster(self, urls: Sequence[str]) -> ClusterSeen:
        """GET /members at the first URL that answers. Joining and bootstrapping members ask in lexical order."""
        return await self._first(urls, self._cluster_at)

    async def versions(self, urls: Sequence[str]) -> Versions:
        """GET /version."""
        return await self._first(urls, self._versions_at)

    async def hash_kv(self, urls: Sequence[str], revision: int) -> PeerHash:
        """GET /members/hashkv, with a body. Raises PeerRefused."""

        async def at(url: str) -> PeerHash:
            body = json.dumps({"revision": revision}).encode()
            answer = _require_ok(
                await self._connections.ask(url, "GET", "/members/hashkv", _JSON, body, timeout_s=self._timeout_s)
            )
            try:
                told = json.loads(answer.body)
                current = told.get("header", {}).get("revision", 0)
                return PeerHash(int(told.get("hash", 0)), int(current), int(told.get("compact_revision", 0)))
            except (ValueError, TypeError, AttributeError):
                raise ConnectionError("/members/hashkv tells none") from None

        return await self._first(urls, at)

    # Of the leader

    async def renew_lease(self, urls: Sequence[str], lease_id: int) -> int:
        """POST /leases: the renewed TTL in seconds. Raises PeerRefused."""

        async def at(url: str) -> int:
            body = rpc_pb2.LeaseKeepAliveRequest(ID=lease_id).SerializeToString()
            answer = _require_ok(await self._ask(url, "POST", "/leases", body))
            return _decode(rpc_pb2.LeaseKeepAliveResponse.FromString, answer).TTL

        return await self._first(urls, at)

    async def lease_life(self, urls: Sequence[str], lease_id: int, *, keys: bool) -> LeaseLife:
        """POST /leases/internal: what the leader's clock says of a lease. Raises PeerRefused."""

        async def at(url: str) -> LeaseLife:
            asked = rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
            body = internal_pb2.LeaseInternalRequest(LeaseTimeToLiveRequest=asked).SerializeToString()
            answer = _require_ok(await self._ask(url, "POST", "/leases/internal", body))
            life = _decode(internal_pb2.LeaseInternalResponse.FromString, answer).LeaseTimeToLiveResponse
            return LeaseLife(life.TTL, life.grantedTTL, tuple(life.keys))

        return await self._first(urls, at)

    async def promote(self, urls: Sequence[str], member_id: int) -> None:
        """POST /members/promote/ID. Raises PeerRefused."""

        async def at(url: str) -> None:
            path = f"/members/promote/{member_id}"
            _require_ok(await once.ask(url, "POST", path, (), b"", timeout_s=self._timeout_s))

        # On a connection of its own: after one that broke while idle nobody knows whether the leader was asked already.
        once = Connections(dial_timeout_s=self._dial_timeout_s, tls=self._tls)
        try:
            await self._first(urls, at)
        finally:
            once.close()

    # One URL

    async def _cluster_at(self, url: str) -> ClusterSeen:
        answer = await self._get(url, "/members")
        cluster_id = parse_hex_id(answer.headers.get(CLUSTER_ID.lower(), ""))
        if cluster_id is None:
            raise ConnectionError("/members names no cluster")
        try:
            return ClusterSeen(cluster_id, tuple(Member.from_json(each) for each in json.loads(answer.body)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConnectionError(f"/members lists none: {error}") from None

    async def _versions_at(self, url: str) -> Versions:
        answer = await self._get(url, "/version")
        try:
            told = json.loads(answer.body)
            server, cluster = str(told["etcdserver"]), str(told["etcdcluster"])
        except (ValueError, KeyError, TypeError):
            raise ConnectionError("/version tells none") from None
        return Versions(server, None if cluster in (NOT_DECIDED, "") else cluster)

    async def _get(self, url: str, path: str) -> http1.Response:
        answer = await self._ask(url, "GET", path)
        _require_200(answer, path)
        return answer

    async def _ask(self, url: str, method: str, path: str, body: bytes | None = None) -> http1.Response:
        headers = () if body is None else _PROTOBUF
        return await self._connections.ask(url, method, path, headers, body, timeout_s=self._timeout_s)

    async def _first(self, urls: Sequence[str], ask: Callable[[str], Awaitable[T]]) -> T:
        """What the first URL answers. A refusal by the leader is an answer: the next URL is the same member's."""
        failures: list[str] = []
        for url in urls:
            try:
                return await ask(url)
            except OSError as error:
                failures.append(f"{url}: {error or type(error).__name__}")
        raise ConnectionError("; ".join(failures) or "no URL to ask")


def _require_200(answer: http1.Response, path: str) -> None:
    """Every member of a cluster answers these; who does not is none."""
    if answer.status != 200:
        raise ConnectionError(f"{path} answered {answer.status} {answer.reason}")


def _require_ok(answer: http1.Response) -> http1.Response:
    if answer.status != 200:
        text = answer.body.decode("utf-8", "replace").strip()
        raise PeerRefused(text or f"{answer.status} {answer.reason}", not_found=answer.status == 404)
    return answer


def _decode(parse: Callable[[bytes], T], answer: http1.Response) -> T:
    try:
        return parse(answer.body)
    except DecodeError as error:
        raise ConnectionError(f"an answer that is none: {error}") from None
