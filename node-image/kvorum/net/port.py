"""A connection of a listener, whatever it speaks: counted, looked at for silence, drained, dropped."""

import asyncio
from typing import TYPE_CHECKING, Final

from kvorum.net.exchange import HttpRequest, HttpResponse, Respond

if TYPE_CHECKING:
    from kvorum.net.listener import Listener

UNREAD_BYTES_MAX: Final = 16 << 20  # of answers; with more, a client that does not read is not read either
CLOSING_TICKS_MAX: Final = 3  # sweeps for a client to read the last bytes of a closed connection


class Port(asyncio.Protocol):
    """In one of its stages: not known yet what it speaks, or known."""

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._closing_ticks = 0

    def transport(self) -> asyncio.Transport | None:
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.discard(self)

    def tick(self, now: float) -> None:
        """A closed connection whose client does not read its last bytes would stay for ever."""
        transport = self.transport()
        if transport is not None and transport.is_closing():
            self._closing_ticks += 1
            if self._closing_ticks > CLOSING_TICKS_MAX:
                transport.abort()

    def drain(self) -> None:
        """Nothing new; close when what is under way is done."""
        raise NotImplementedError

    def abort(self) -> None:
        transport = self.transport()
        if transport is not None:
            transport.abort()


def name_of_peer(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    if not peer:
        return "a client that is gone"
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"


def nothing_here(_: HttpRequest, respond: Respond) -> None:
    respond(HttpResponse(404, b"404 page not found\n", [("Content-Type", "text/plain; charset=utf-8")]))
