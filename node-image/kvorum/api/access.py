"""What stands before every request to the client port over HTTP: names of hosts, and pages of other origins.

Without TLS a page of anywhere can have its own name lead to this address (DNS rebinding, CVE-2018-5702): who names the
hosts that may be asked for keeps such pages out. Over TLS the certificate does that. As etcd's, whose flags these are.
"""

from collections.abc import Iterable

from kvorum.net.exchange import Exchange, HttpHandler, HttpRequest, HttpResponse
from kvorum.wire import websocket

EVERYTHING = "*"
TEXT = ("Content-Type", "text/plain; charset=utf-8")
METHODS = ("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE")
HEADERS = ("Access-Control-Allow-Headers", "accept, content-type, authorization")


class Access:
    """handle: who answers what is let through. origins, hosts: those allowed; none or `*`: all."""

    def __init__(self, handle: HttpHandler, *, origins: Iterable[str], hosts: Iterable[str]) -> None:
        self._handle = handle
        self._origins = frozenset(origins) or {EVERYTHING}
        self._hosts = frozenset(hosts) or {EVERYTHING}

    def handle(self, request: HttpRequest, exchange: Exchange) -> None:
        if not exchange.secure and EVERYTHING not in self._hosts:
            host = host_of(request)
            if host not in self._hosts:
                exchange(HttpResponse(421, _why_not(host).encode(), [TEXT]))
                return
        origin = request.headers.get("origin", "")
        if EVERYTHING in self._origins:
            exchange.headers = _allowed(EVERYTHING)
        elif origin in self._origins:
            exchange.headers = _allowed(origin)
        if origin and not exchange.headers and websocket.is_asked_for(request.headers):
            # A browser asks nobody before it lets a page open one, and keeps no answer from it.
            exchange(HttpResponse(403, f"--cors does not allow pages of {origin}\n".encode(), [TEXT]))
        elif request.method == "OPTIONS":
            exchange(HttpResponse(200))
        else:
            self._handle(request, exchange)


def _allowed(origin: str) -> list[tuple[str, str]]:
    return [HEADERS, METHODS, ("Access-Control-Allow-Origin", origin)]


def host_of(request: HttpRequest) -> str:
    """Of the Host header, without port and brackets."""
    host = request.headers.get("host", "")
    name, colon, port = host.rpartition(":")
    if not colon or not (port.isdecimal() or not port) or (":" in name and not name.startswith("[")):
        return host
    return name.removeprefix("[").removesuffix("]")


def _why_not(host: str) -> str:
    return (
        f"The Host header says {host}, and --host-whitelist does not name it.\n"
        "  Ask for a host that it names, add this one to it, or use TLS, where every name is taken.\n"
        "  Without that, a page of any web site could reach this server by a name of its own (CVE-2018-5702).\n"
    )
