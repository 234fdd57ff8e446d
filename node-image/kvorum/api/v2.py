"""The v2 API: which path is whose, and what Go's mux answers before any of them is asked.

Of etcd it lacks /v2/auth: users of the v2 API alone. Those of v3 mean nothing to v2, in etcd as here.
"""

from collections.abc import Callable
from urllib.parse import quote

from kvorum.api import v2_keys, v2_members
from kvorum.api.http import text
from kvorum.api.v2_keys import Keys
from kvorum.api.v2_members import Members
from kvorum.api.v2_stats import Stats, Traffic
from kvorum.net.listener import Exchange, HttpRequest, HttpResponse
from kvorum.raft.message import NONE
from kvorum.server import reconfiguration
from kvorum.server.server import Server
from kvorum.state import go_json
from kvorum.state.v2_store import clean

PREFIX = "/v2/"
JSON = ("Content-Type", "application/json")
_SAFE_IN_PATH = "$&+,/:;=@~-_."
NO_AUTH = (
    "kvorum has no users for the v2 API. Keep --enable-v2 to a network or a client certificate that you trust, or use "
    "the v3 API with its users"
)

Answer = Callable[[HttpRequest, Exchange], None]


class V2Api:
    def __init__(self, server: Server, name: str, traffic: Traffic) -> None:
        """name: of this member."""
        self._server = server
        self._keys, self._members, self._stats = Keys(server), Members(server), Stats(server, name, traffic)

    def handle(self, request: HttpRequest, exchange: Exchange) -> None:
        server = self._server
        if (path := _clean_path(request.path)) != request.path:
            _redirect(request, path, exchange)
            return
        found = self._route(path)
        if found is None:
            exchange(text(404, "404 page not found\n"))
            return
        answer, methods = found
        if request.method not in methods:
            exchange(text(405, "Method Not Allowed\n", ("Allow", ",".join(methods))))
        elif server.removed:
            _unavailable(exchange, "this member was removed from its cluster")
        elif not server.ready:
            _unavailable(exchange, "this member has just started, and does not know yet what the others know")
        elif server.raft.leader == NONE and reconfiguration.foreign_voters(server):
            _unavailable(exchange, "foreign-cluster: this member's data is of another cluster than its peers")
        else:
            answer(request, exchange)

    def _route(self, path: str) -> tuple[Answer, tuple[str, ...]] | None:
        if path == v2_keys.PREFIX or path.startswith(v2_keys.PREFIX + "/"):
            return self._keys.handle, v2_keys.METHODS
        if path == v2_members.PREFIX or path.startswith(v2_members.PREFIX + "/"):
            return self._members.handle, v2_members.METHODS
        if path.startswith("/v2/auth/"):
            return self._auth, ("GET", "PUT", "DELETE")
        stats = self._stats
        return {
            "/v2/machines": (self._machines, ("GET", "HEAD")),
            "/v2/stats/self": (lambda _, exchange: exchange(stats.own()), ("GET",)),
            "/v2/stats/leader": (lambda _, exchange: exchange(stats.leader()), ("GET",)),
            "/v2/stats/store": (lambda _, exchange: exchange(stats.store()), ("GET",)),
        }.get(path)

    def _machines(self, request: HttpRequest, exchange: Exchange) -> None:
        v2_members.machines(self._server, request, exchange)

    def _auth(self, request: HttpRequest, exchange: Exchange) -> None:
        if request.method == "GET" and request.path == "/v2/auth/enable":
            enabled = v2_keys.auth_enabled(self._server)
            body = go_json.dumps({"enabled": enabled}) + b"\n"
            exchange(HttpResponse(200, body, (JSON, ("X-Etcd-Cluster-Id", f"{self._server.cluster_id:x}"))))
        else:
            exchange(HttpResponse(501, go_json.dumps({"message": NO_AUTH}), (JSON,)))


def _unavailable(exchange: Exchange, why: str) -> None:
    """Clients go to another member. etcd's port is not open in such a case."""
    exchange(HttpResponse(503, go_json.dumps({"message": f"kvorum: {why}"}), (JSON,)))


def _clean_path(path: str) -> str:
    """What Go's mux takes a path for; a slash at its end stays."""
    cleaned = clean(path)
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def _redirect(request: HttpRequest, path: str, exchange: Exchange) -> None:
    location = quote(path.encode("utf-8", "surrogateescape"), safe=_SAFE_IN_PATH)
    if request.query:
        location += f"?{request.query}"
    headers: list[tuple[str, str]] = [("Location", location)]
    body = b""
    if request.method in ("GET", "HEAD"):
        headers.insert(0, ("Content-Type", "text/html; charset=utf-8"))
        told = location.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;")
        told = told.replace("'", "&#39;")
        body = f'<a href="{told}">Moved Permanently</a>.\n\n'.encode()
    exchange(HttpResponse(301, body, headers))
