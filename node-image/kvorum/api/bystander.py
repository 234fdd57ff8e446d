"""What a node answers that cannot be a member as things are: what is wrong, what to do, and nothing else.

It stays up so that its state can be read where its data lies, and so that nobody restarts it for ever. Knows no raft,
no store and no cluster: whatever a client asks for is refused, and members never reach it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kvorum import __version__
from kvorum.api import metrics
from kvorum.api.gateway import Gateway
from kvorum.api.health import NOT_SERVING
from kvorum.api.http import JSON, as_json, text
from kvorum.api.routes import STREAMS, UNARY
from kvorum.net.call import Call
from kvorum.net.exchange import Exchange, HttpRequest, HttpResponse, Respond
from kvorum.state import refusal
from kvorum.state.membership import NOT_DECIDED

MESSAGE_BYTES_MAX = 2 << 20  # etcd's for its default of max-request-bytes; here everything is refused anyway
HEALTH = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")


@dataclass(frozen=True, slots=True)
class Trouble:
    """state: a word of /kvorum/v1/member. lines: what was seen, then why that stops the node and the way out."""

    state: str
    lines: tuple[str, ...]

    @property
    def reason(self) -> str:
        """On one line."""
        first, *more = self.lines
        return f"{first}. {' '.join(more)}" if more else first


class Bystander:
    """The answers, over HTTP and gRPC."""

    def __init__(self, trouble: Trouble, *, name: str, claimed_version: str) -> None:
        self._trouble = trouble
        self._name = name
        self._claimed_version = claimed_version
        self._health_failures = 0
        self._gateway = Gateway(
            unary=self.unary(),
            streams=self.streams(),
            message_bytes_max=MESSAGE_BYTES_MAX,
            counts={},
            auth_enabled=lambda: False,  # nobody is asked who he is, for nobody is served
        )

    def unary(self) -> Mapping[str, Callable[[Call], None]]:
        return {path: self._not_serving if path in HEALTH else self._refuse for path in UNARY}

    def streams(self) -> Mapping[str, Callable[[Call], None]]:
        return {path: self._watch_health if path in HEALTH else self._refuse for path in STREAMS}

    def _refuse(self, call: Call) -> None:
        trouble = self._trouble
        call.fail(refusal.UNAVAILABLE, f"kvorum: this member is {trouble.state} and serves nobody: {trouble.lines[0]}")

    def _not_serving(self, call: Call) -> None:
        call.reply(NOT_SERVING)

    def _watch_health(self, call: Call) -> None:
        def on_message(message: bytes) -> None:
            call.push(NOT_SERVING)

        call.on_message = on_message

    def handle(self, request: HttpRequest, exchange: Exchange) -> None:
        """On the client port."""
        if request.path.startswith(("/v3/", "/v3beta/")):
            self._gateway.handle(request, exchange)
        else:
            self.probe(request, exchange)

    def probe(self, request: HttpRequest, respond: Respond) -> None:
        """Plain HTTP: the paths of api.http."""
        trouble, path = self._trouble, request.path
        ill = f"{trouble.state}: {trouble.reason}"
        if path in ("/livez", "/livez/serializable_read"):
            answer = text(200, "ok\n")
        elif path == "/readyz" or path.startswith("/readyz/"):
            answer = text(503, f"[-]member failed: {ill}\n\n")
        elif path == "/health":
            self._health_failures += 1
            answer = text(503, json.dumps({"health": "false", "reason": ill}, separators=(",", ":")) + "\n")
        elif path == "/version":
            versions = {"etcdserver": self._claimed_version, "etcdcluster": NOT_DECIDED}
            answer = HttpResponse(200, json.dumps(versions, separators=(",", ":")).encode(), (JSON,))
        elif path == "/metrics":
            content_type, body = metrics.render_bystander(trouble.state, self._claimed_version, self._health_failures)
            answer = HttpResponse(200, body, (("Content-Type", content_type),))
        elif path == "/kvorum/v1/member":
            answer = as_json(200, self._describe())
        else:
            answer = text(404, "404 page not found\n")
        if answer.status != 404 and request.method != "GET" and path != "/metrics":
            answer = text(405, "Method Not Allowed\n", ("Allow", "GET"))
        respond(answer)

    def _describe(self) -> dict[str, object]:
        return {
            "name": self._name,
            "claimedVersion": self._claimed_version,
            "version": __version__,
            "state": self._trouble.state,
            "reason": self._trouble.reason,
        }
