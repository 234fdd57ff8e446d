"""/v2/machines and /v2/members: who is a member, and changing that, which the v3 Cluster service does as well."""

import json
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from kvorum.api.http import text
from kvorum.api.v2_keys import auth_enabled
from kvorum.net.exchange import Exchange, HttpRequest, HttpResponse
from kvorum.raft.message import NONE
from kvorum.server import reconfiguration
from kvorum.server.server import Server
from kvorum.state import go_json, refusal
from kvorum.state.membership import Member, hex_id
from kvorum.state.refusal import Refusal

PREFIX = "/v2/members"
METHODS = ("GET", "POST", "DELETE", "PUT")
JSON = ("Content-Type", "application/json")
_SCHEMES = ("http", "https", "unix", "unixs")


class BadUrls(Exception):
    """The text is etcd's."""


def machines(server: Server, request: HttpRequest, exchange: Exchange) -> None:
    urls = sorted(url for member in server.machine.membership.members for url in member.client_urls)
    exchange(HttpResponse(200, ", ".join(urls).encode(), (("Content-Type", "text/plain; charset=utf-8"),)))


class Members:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._cluster = ("X-Etcd-Cluster-Id", f"{server.cluster_id:x}")

    def handle(self, request: HttpRequest, exchange: Exchange) -> None:
        name = request.path[len(PREFIX) :].removeprefix("/")
        if request.method == "GET":
            self._get(name, exchange)
        elif auth_enabled(self._server):
            self._refuse(exchange, 401, "Insufficient credentials")
        elif request.method == "POST":
            self._add(request, exchange)
        elif not name:
            exchange(text(405, "Method Not Allowed\n", self._cluster))
        elif (member_id := _parse_id(name)) is None:
            self._refuse(exchange, 404, f"No such member: {name}")
        elif request.method == "DELETE":
            reconfiguration.remove(self._server, member_id, self._done(member_id, exchange))
        else:
            self._update(member_id, request, exchange)

    def _get(self, name: str, exchange: Exchange) -> None:
        server = self._server
        if name == "":
            document = {"members": [_document(member) for member in server.machine.membership.members]}
            self._answer(exchange, 200, document)
        elif name == "leader":
            leader = server.machine.membership.find(server.raft.leader) if server.raft.leader != NONE else None
            if leader is None:
                self._refuse(exchange, 503, "During election")
            else:
                self._answer(exchange, 200, _document(leader))
        else:
            self._refuse(exchange, 404, "Not found")

    def _add(self, request: HttpRequest, exchange: Exchange) -> None:
        urls = self._urls(request, exchange)
        if urls is None:
            return

        def done(member_id: int, refused: Refusal | None) -> None:
            if refused is None:
                self._answer(exchange, 201, _document(Member(member_id, tuple(urls))))
            elif refused == refusal.PEER_URL_EXISTS:
                self._refuse(exchange, 409, "membership: peerURL exists")
            elif refused == refusal.MEMBER_EXISTS:
                self._refuse(exchange, 409, "membership: ID exists")
            else:
                self._refuse(exchange, 500, "Internal Server Error")

        reconfiguration.add(self._server, urls, learner=False, unix_s=int(time.time()), done=done)

    def _update(self, member_id: int, request: HttpRequest, exchange: Exchange) -> None:
        urls = self._urls(request, exchange)
        if urls is not None:
            reconfiguration.update(self._server, member_id, urls, self._done(member_id, exchange))

    def _done(self, member_id: int, exchange: Exchange) -> Callable[[Refusal | None], None]:
        def done(refused: Refusal | None) -> None:
            name = hex_id(member_id)
            if refused is None:
                exchange(HttpResponse(204, b"", (self._cluster,)))
            elif refused == refusal.PEER_URL_EXISTS:
                self._refuse(exchange, 409, "membership: peerURL exists")
            elif refused != refusal.MEMBER_NOT_FOUND:
                self._refuse(exchange, 500, "Internal Server Error")
            elif member_id in self._server.machine.membership.removed:
                self._refuse(exchange, 410, f"Member permanently removed: {name}")
            else:
                self._refuse(exchange, 404, f"No such member: {name}")

        return done

    def _urls(self, request: HttpRequest, exchange: Exchange) -> list[str] | None:
        """The peer URLs of a body, in order; None when it was refused."""
        kind = request.headers.get("content-type", "")
        if ";" in kind:
            kind = kind.partition(";")[0].lower().strip()
        if kind != "application/json":
            self._refuse(exchange, 415, f"Bad Content-Type {kind}, accept application/json")
            return None
        try:
            return parse_urls(request.body)
        except BadUrls as why:
            self._refuse(exchange, 400, str(why))
            return None

    def _answer(self, exchange: Exchange, status: int, document: object) -> None:
        exchange(HttpResponse(status, go_json.dumps(document) + b"\n", (JSON, self._cluster)))

    def _refuse(self, exchange: Exchange, status: int, why: str) -> None:
        exchange(HttpResponse(status, go_json.dumps({"message": why}), (JSON, self._cluster)))


def parse_urls(body: bytes) -> list[str]:
    """Raises BadUrls."""
    try:
        document = json.loads(body)
        urls = document.get("peerURLs") if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(urls, list | None):
            raise BadUrls('{"peerURLs": [URL, ...]} is needed')
    except (ValueError, RecursionError) as error:
        is_cut_off = isinstance(error, json.JSONDecodeError) and error.pos >= len(error.doc)
        raise BadUrls("unexpected end of JSON input" if is_cut_off else f"invalid JSON: {error}") from None
    if not urls:
        raise BadUrls("no valid URLs given")
    return sorted(_parse_url(url) for url in urls)


def _parse_url(given: object) -> str:
    if not isinstance(given, str):
        raise BadUrls("a URL is a string")
    url = given.strip()
    try:
        url.encode()  # half of a surrogate pair, which JSON can spell, is a ValueError, too
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadUrls(f'URL address does not have the form "host:port": {url}') from None
    if parts.scheme not in _SCHEMES:
        raise BadUrls(f"URL scheme must be http, https, unix, or unixs: {url}")
    if parts.scheme in ("unix", "unixs"):
        return url
    if host is None or port is None:
        raise BadUrls(f'URL address does not have the form "host:port": {url}')
    if parts.path:
        raise BadUrls(f"URL must not contain a path: {url}")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise BadUrls(f"URL must name its host in ASCII: {url}")
    return url


def _parse_id(name: str) -> int | None:
    try:
        member_id = int(name, 16) if name.isalnum() and name.isascii() else -1
    except ValueError:
        return None
    return member_id if 0 <= member_id < 1 << 64 else None


def _document(member: Member) -> dict[str, object]:
    return {
        "id": hex_id(member.id),
        "name": member.name,
        "peerURLs": list(member.peer_urls),
        "clientURLs": list(member.client_urls),
    }
