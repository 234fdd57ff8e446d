"""The client port: one TCP port for gRPC and HTTP/1.1, told apart by their first bytes, with TLS or without.

Knows sockets and their ends: who gets the bytes, when they are written, when a connection is given up. What the bytes
mean is wire/'s, what is answered is the handlers'. TLS is a door in front (tls_connection), behind which a connection
looks like any other; a connection of HTTP/1.1 is http1_port's, its requests over HTTP/2 are http_over_h2's.

A connection has one write for each tick of the loop, however many answers it carries: those made while bytes are read
go out right behind, the others are gathered until the tick's end.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from kvorum.net.call import Opening, Routes
from kvorum.net.exchange import HttpHandler
from kvorum.net.http1_port import Http1Port
from kvorum.net.http_over_h2 import HttpOverH2, open_either
from kvorum.net.port import UNREAD_BYTES_MAX, Port, name_of_peer, nothing_here
from kvorum.net.tls_connection import Policy, TlsDoor
from kvorum.wire import http2
from kvorum.wire.hpack import Header

BACKLOG: Final = 4096  # connections the kernel keeps for us; clients of a restarted node all come at once
WRITE_BUFFER_BYTES_MAX: Final = 256 << 10  # beyond it answers wait in their streams, where they are counted
SWEEP_S: Final = 5.0  # how often connections are looked at for silence
FIRST_BYTES_S: Final = 120.0  # for a client to say which protocol it speaks
TCP_KEEPALIVE_S: Final = 15  # idle time and interval, as Go's
HANDSHAKE_S: Final = 20.0  # for TLS, as long as grpc-go dials


class CannotListen(Exception):
    """The text says which address, why, and the way out."""


class Listener:
    """Serves routes (gRPC) and http (HTTP/1.1) on any number of addresses; without one of them, only the other.

    flag: the setting that names the addresses, for error texts.
    """

    def __init__(
        self,
        routes: Routes | None,
        http: HttpHandler | None,
        *,
        limits: http2.Limits,
        http_body_bytes_max: int,
        log: logging.Logger,
        flag: str = "--listen-client-urls",
        sweep_s: float = SWEEP_S,
    ) -> None:
        self.routes = routes
        self.http = http
        self.limits = limits
        self.http_body_bytes_max = http_body_bytes_max
        self.log = log
        self.received_bytes = 0  # by gRPC connections, since the start
        self.sent_bytes = 0
        self.addresses: list[tuple[str, int]] = []
        self.closing = False
        self._flag = flag
        self._sweep_s = sweep_s
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server] = []
        self._tls_doors: list[TlsDoor] = []
        self._ports: set[Port] = set()
        self._unflushed: list[_GrpcPort] = []
        self._next_connection_id = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None

    @property
    def connections_count(self) -> int:
        return len(self._ports)

    async def listen(
        self, url: str, *, reuse_port: bool = False, tls: Policy | None = None, plain_too: bool = False
    ) -> None:
        """Takes connections at url: `http://` with an IPv4 address, an IPv6 one in brackets, or localhost, and a port.

        Port 0 is any free one; `addresses` tells. reuse_port: others may listen there too. tls: for `https://`, and
        plain_too: with it whoever speaks no TLS is served as well. Raises CannotListen.
        """
        if url.startswith("https:") and tls is None:
            raise CannotListen(f"{self._flag}: {url} needs a certificate\n  Write it as http://IP:PORT, or give one")
        listening = bind(url, self._flag, reuse_port=reuse_port)
        door: Callable[[], asyncio.BaseProtocol] = partial(_Door, self)
        if tls is not None:
            plain = partial(_Door, self) if plain_too else None
            door = TlsDoor(tls, partial(_Door, self), timeout_s=HANDSHAKE_S, log=self.log, whose="client", plain=plain)
            self._tls_doors.append(door)
        server = await self._loop.create_server(door, sock=listening, backlog=BACKLOG)
        self._servers.append(server)
        address = listening.getsockname()
        self.addresses.append((address[0], address[1]))
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)

    async def close(self, *, grace_s: float) -> None:
        """Takes no more connections and requests, lets the open ones finish for grace_s, then drops them."""
        self.closing = True
        for server in self._servers:
            server.close()
        for door in self._tls_doors:
            door.close()
        for port in list(self._ports):
            port.drain()
        if self._ports:
            self._emptied = asyncio.Event()
            try:
                await asyncio.wait_for(self._emptied.wait(), grace_s)
            except TimeoutError:
                self.log.debug("%d connections did not end within %g s", len(self._ports), grace_s)
        for port in list(self._ports):
            port.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def flush(self) -> None:
        """Writes what calls have answered since the last time, one write a connection. Runs by itself each tick."""
        unflushed, self._unflushed = self._unflushed, []
        for port in unflushed:
            port.flush()

    # For the ports

    def flush_soon(self, port: "_GrpcPort") -> None:
        if not self._unflushed:
            self._loop.call_soon(self.flush)
        self._unflushed.append(port)

    def take_connection_id(self) -> int:
        self._next_connection_id += 1
        return self._next_connection_id

    def add(self, port: "Port") -> None:
        self._ports.add(port)

    def discard(self, port: "Port") -> None:
        self._ports.discard(port)
        if not self._ports and self._emptied is not None:
            self._emptied.set()

    def _sweep(self) -> None:
        now = self._loop.time()
        for port in list(self._ports):
            port.tick(now)
        self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)


def read_listen_url(url: str, flag: str) -> tuple[str, int]:
    """Host and port. Raises CannotListen with what is wrong with it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise CannotListen(f"{flag}: {url}: {error}\n  Write it as http://IP:PORT") from None
    if parts.scheme not in ("http", "https") or not host or port is None or parts.path not in ("", "/"):
        raise CannotListen(f"{flag}: {url} is no address to listen on\n  Write it as http://IP:PORT")
    return host, port


def bind(url: str, flag: str, *, reuse_port: bool) -> socket.socket:
    """A bound socket. SO_REUSEADDR: a restarted node must not wait for its old connections to time out.

    Raises CannotListen, which names the flag.
    """
    host, port = read_listen_url(url, flag)
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        # As Go does it: localhost is its IPv4 address if it has one, [::] takes IPv4 as well.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotListen(f"{flag}: cannot find {host}: {error.strerror}\n  Use an IP address") from None
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        # What the listening socket has, each accepted one inherits.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, TCP_KEEPALIVE_S)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, TCP_KEEPALIVE_S)
        listening.setblocking(False)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise CannotListen(_why_not(error, name, flag)) from None
    return listening


def _why_not(error: OSError, name: str, flag: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"{name} is in use by another process\n"
            f"  Only one can listen there: `ss -ltnp` names it.\n"
            f"  Stop it, or choose another address with {flag}"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{name} is no address of this machine\n  Set {flag} to one that is, or to http://0.0.0.0:PORT for all"
    if error.errno == errno.EACCES:
        return f"this user may not listen on {name}\n  Choose a port from 1024 up with {flag}"
    return f"cannot listen on {name}: {error.strerror}\n  Check {flag}"


class _Door(Port):
    """A connection whose protocol is not known yet."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self._data = b""
        self._opened_at = 0.0
        self._transport: asyncio.Transport | None = None

    def transport(self) -> asyncio.Transport | None:
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._opened_at = asyncio.get_running_loop().time()
        self._listener.add(self)
        if self._listener.closing:
            transport.close()

    def data_received(self, data: bytes) -> None:
        transport, listener = self._transport, self._listener
        assert transport is not None
        data = self._data = self._data + data
        agreed = transport.get_extra_info("alpn")  # who has agreed on one protocol is not heard in the other
        is_http2 = agreed == "h2" or (agreed is None and http2.PREFACE.startswith(data[: len(http2.PREFACE)]))
        if listener.routes is not None and is_http2:
            if agreed is None and len(data) < len(http2.PREFACE):
                return
            port: _GrpcPort | Http1Port = _GrpcPort(listener, listener.routes, transport)
        else:
            port = Http1Port(listener, transport)
        listener.add(port)
        listener.discard(self)
        self._transport = None
        transport.set_protocol(port)
        port.data_received(data)

    def tick(self, now: float) -> None:
        super().tick(now)
        if now - self._opened_at > FIRST_BYTES_S:
            self.drain()

    def drain(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _GrpcPort(Port):
    """Bytes between a socket and an HTTP/2 connection."""

    def __init__(self, listener: Listener, routes: Routes, transport: asyncio.Transport) -> None:
        super().__init__(listener)
        self._transport = transport
        self._time = asyncio.get_running_loop().time
        self._reading = True
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        read_request: Callable[[list[Header]], Any] = routes.open
        make_stream: Callable[[http2.Connection[Any], int, Any], http2.Stream] = routes.call_type
        if transport.get_extra_info("tls"):
            # There a client that asks for HTTP/2 gets it for all it has to ask, and etcd answers all of it.
            read_request = partial(open_either, routes)
            http, body_bytes_max = listener.http or nothing_here, listener.http_body_bytes_max

            def make_stream(connection: http2.Connection[Any], stream_id: int, request: Any) -> http2.Stream:
                if type(request) is Opening:
                    return routes.call_type(connection, stream_id, request)
                return HttpOverH2(http, body_bytes_max, connection, stream_id, request)

        self._connection: http2.Connection[Any] = http2.Connection(
            read_request,
            make_stream,
            self._wake,
            listener.limits,
            now=self._time(),
            connection_id=listener.take_connection_id(),
            peer=name_of_peer(transport),
            proven_name=transport.get_extra_info("common_name"),
        )

    def transport(self) -> asyncio.Transport:
        return self._transport

    def _wake(self) -> None:
        self._listener.flush_soon(self)

    def data_received(self, data: bytes) -> None:
        self._listener.received_bytes += len(data)
        self._connection.receive(data, self._time())
        self.flush()

    def flush(self) -> None:
        connection, transport = self._connection, self._transport
        data = connection.take()
        if transport.is_closing():
            return
        while data:
            self._listener.sent_bytes += len(data)
            transport.write(data)
            data = connection.take()
        if connection.closing:
            if connection.fault is not None:
                self._listener.log.debug("closed the connection of %s: %s", connection.peer, connection.fault)
            transport.close()
        elif connection.paused and self._reading:
            unread_bytes = connection.queued_bytes + transport.get_write_buffer_size()
            if unread_bytes > UNREAD_BYTES_MAX:
                self._reading = False
                transport.pause_reading()

    def pause_writing(self) -> None:
        self._connection.paused = True

    def resume_writing(self) -> None:
        self._connection.resume()
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connection.lost()

    def tick(self, now: float) -> None:
        super().tick(now)
        self._connection.tick(now)

    def drain(self) -> None:
        self._connection.drain()
