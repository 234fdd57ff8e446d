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
from kvorum.net.exchange import Exchange, HttpRequest, HttpResponse
from kvorum.raft.message import NONE
from kvorum.server import reconfiguration
from kvorum.server.server import Server
from kvorum.state import go_json
from kvorum.state.v2_error import MESSAGES, RAFT_INTERNAL
from kvorum.state.v2_store import clean

PREFIX = "/v2/"
JSON = ("Content-Type", "application/json")
_SAFE_IN_PATH = "$&+,/:;=@~-_."
NO_AUTH = (
    "kvorum has no users for the v2 API. Keep --enable-v2 to a network or a client certificate that you trust, or use "
    "the v3 API with its users"
)

PATIENCE_S = 7.0  # etcd's for a request; clients give up before, and go to another member
RETRY_S = 0.05

Answer = Callable[[HttpRequest, Exchange], None]


class V2Api:
    def __init__(self, server: Server, name: str, traffic: Traffic, *, patience_s: float = PATIENCE_S) -> None:
        """name: of this member. patience_s: for a member that cannot answer to become one that can."""
        self._server = server
        self._patience_s = patience_s
        self._keys, self._members, self._stats = Keys(server), Members(server), Stats(server, name, traffic)

    def handle(self, request: HttpRequest, exchange: Exchange) -> None:
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
        else:
            self._answer(answer, request, exchange, self._server.loop.time() + self._patience_s)

    def _answer(self, answer: Answer, request: HttpRequest, exchange: Exchange, deadline: float) -> None:
        """Now, or as soon as this member can; at the deadline that it cannot.

        The port of an etcd that cannot is closed, at which clients go to another member. Of a refusal most of them
        make an error of their user's; but they do not wait for long.
        """
        server, why = self._server, self._hindrance()
        if why is None:
            answer(request, exchange)
        elif server.loop.time() < deadline and not server.stopped:
            server.loop.call_later(RETRY_S, self._answer, answer, request, exchange, deadline)
        else:
            error = {
                "errorCode": RAFT_INTERNAL,
                "message": MESSAGES[RAFT_INTERNAL],
                "cause": f"kvorum: {why}",
                "index": 0,
            }
            exchange(HttpResponse(503, go_json.dumps(error) + b"\n", (JSON,)))

    def _hindrance(self) -> str | None:
        """Why this member cannot answer."""
        server = self._server
        if server.removed:
            return "this member was removed from its cluster"
        if not server.ready:
            return "this member has just started, and does not know yet what the others know"
        if server.raft.leader == NONE and reconfiguration.foreign_voters(server):
            return "foreign-cluster: this member's data is of another cluster than its peers"
        return None

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
