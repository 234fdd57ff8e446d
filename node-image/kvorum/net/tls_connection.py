"""TLS between a socket and a protocol: the protocol takes it for a transport, the socket's transport for a protocol.

Of our own, over memory BIOs, because asyncio's costs more for each read and write, keeps one context for as long as a
server listens (so no file could change under it), and can neither ask back about a certificate nor say who was refused.
Knows no files and no names: what context a handshake begins with, and whether its certificate will do, is tls.py's.

Hot path: one SSL write and one socket write for each write of the protocol, one SSL read for each record.
"""

import asyncio
import contextlib
import logging
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

RECORD_BYTES: Final = 16_384  # of plain text, at most; an SSL read gives no more than one record
TURN_S: Final = (
    0.005  # for handshakes in one turn of the loop: a thousand clients that come at once take a second in all
)
REFUSALS_TOLD_MAX: Final = 20  # in REFUSALS_S: whoever knocks all day must not fill a disk with the log of it
REFUSALS_S: Final = 10.0
_HANDSHAKE_RECORD: Final = 22  # the first byte of who speaks TLS
NOT_TLS: Final = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

# One for all: what a read puts here leaves it before the next. asyncio's own buffer, new for each read, is longer than
# malloc likes: 31 us for an echo instead of 15.
_RECEIVED: Final = memoryview(bytearray(256 << 10))

ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)

log = logging.getLogger(__name__)


class TlsFailed(OSError):
    """No connection came of a handshake, or the other side broke one off. The text says why, in words."""


class Identified:
    """What a handshake has shown. Names are the other side's certificate's; common_name is empty where that has none,
    and None without a certificate."""

    __slots__ = ("alpn", "common_name", "dns_names", "ip_addresses")

    def __init__(
        self,
        *,
        alpn: str | None = None,
        common_name: str | None = None,
        dns_names: tuple[str, ...] = (),
        ip_addresses: tuple[str, ...] = (),
    ) -> None:
        self.alpn = alpn
        self.common_name = common_name
        self.dns_names = dns_names
        self.ip_addresses = ip_addresses


class NotTrusted(Exception):
    """The other side's certificate is genuine and will not do. who: what it says, for the log."""

    def __init__(self, text: str, who: Identified | None = None) -> None:
        super().__init__(text)
        self.who = who


class Policy(Protocol):
    """Of one side; tls.ServerTls and tls.ClientTls."""

    def context(self) -> ssl.SSLContext:
        """For the next handshake."""
        ...

    def identify(self, shaken: ssl.SSLObject) -> Identified:
        """After a handshake. Raises NotTrusted."""
        ...

    async def check_address(self, who: Identified, host: str) -> None:
        """Whether a certificate may come from there; may ask the resolver. Raises NotTrusted."""
        ...

    @property
    def checks_address(self) -> bool: ...


class TlsConnection(asyncio.BufferedProtocol, asyncio.Transport):
    """An open one. get_extra_info: "tls" is True, "alpn" and "common_name" as Identified; the rest is the socket's."""

    def __init__(
        self,
        raw: asyncio.Transport,
        ssl_object: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        who: Identified,
        protocol: asyncio.Protocol,
    ) -> None:
        super().__init__()
        self._raw = raw
        self._ssl = ssl_object
        self._incoming = incoming
        self._outgoing = outgoing
        self._who = who
        self._protocol = protocol
        self._said_all = False
        self._ended = False  # the other side has said all
        self._fault: Exception | None = None

    def begin(self) -> None:
        """Takes the place of the handshake; what came right behind it is delivered."""
        self._raw.set_protocol(self)
        self._protocol.connection_made(self)
        if self._incoming.pending and not self._raw.is_closing():
            self._read()

    # asyncio.BufferedProtocol: what the socket says

    def get_buffer(self, sizehint: int) -> memoryview:
        return _RECEIVED

    def buffer_updated(self, nbytes: int) -> None:
        self._incoming.write(_RECEIVED[:nbytes])
        self._read()

    def _read(self) -> None:
        """All whole records, in one call of the protocol, so that it answers them with one write."""
        if self._ended:
            self._incoming.read()  # whatever follows the last word
            return
        read, incoming = self._ssl.read, self._incoming
        data = b""
        pieces: list[bytes] | None = None
        try:
            data = read(RECORD_BYTES)
            # Most reads are one record. Asking for more than there is would cost an exception.
            while incoming.pending or self._ssl.pending():
                if pieces is None:
                    pieces = [data] if data else []
                piece = read(RECORD_BYTES)
                if not piece:
                    self._ended = True
                    break
                pieces.append(piece)
            if not data:
                self._ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError as error:
            self._fault = TlsFailed(describe(error))
        if self._outgoing.pending:  # an alert, or new keys that were asked for
            self._raw.write(self._outgoing.read())
        if pieces is not None:
            data = b"".join(pieces)
        if data:
            self._protocol.data_received(data)
        if self._fault is not None:
            self._raw.abort()
        elif self._ended and not self._said_all and not self._raw.is_closing() and not self._protocol.eof_received():
            self.close()

    def eof_received(self) -> bool:
        """Without a last word before it, something was cut off."""
        if self._ended:
            return not self._said_all
        if not self._said_all:
            self._fault = TlsFailed("cut off, without TLS's last word")
            self._raw.abort()
        return False

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(self._fault or exc)

    # asyncio.Transport: what the protocol says

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._said_all or not data or self._raw.is_closing():
            return
        write = self._ssl.write
        try:
            written = write(data)
            if written < len(data):
                rest = memoryview(data)
                while written < len(rest):
                    written += write(rest[written:])
        except ssl.SSLError as error:
            self._fault = TlsFailed(describe(error))
            self._raw.abort()
            return
        self._raw.write(self._outgoing.read())

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """The last word alone: what still comes is read."""
        self._say_goodbye()

    def close(self) -> None:
        if not self._raw.is_closing():
            self._say_goodbye()
            self._raw.close()

    def _say_goodbye(self) -> None:
        if self._said_all:
            return
        self._said_all = True
        with contextlib.suppress(ssl.SSLError):  # the other side has not said its own; nobody waits for it
            self._ssl.unwrap()
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    def abort(self) -> None:
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "tls":
            return True
        if name == "alpn":
            return self._who.alpn
        if name == "common_name":
            return self._who.common_name
        return self._raw.get_extra_info(name, default)


class _Handshake(asyncio.Protocol):
    """Of either side, until a TlsConnection takes its place or it has failed.

    turn:      called when there is something to do: calls step(), now or a little later.
    on_failed: with the reason, and what is known of the other side; once, and the socket is then being closed.
    """

    def __init__(
        self,
        policy: Policy,
        protocol: Callable[[], asyncio.Protocol],
        *,
        hostname: str | None,
        timeout_s: float | None,
        turn: Callable[["_Handshake"], None],
        on_done: Callable[["_Handshake", asyncio.Protocol], None],
        on_failed: Callable[["_Handshake", str, Identified | None], None],
        plain: Callable[[], asyncio.Protocol] | None = None,
    ) -> None:
        self._policy = policy
        self._make_protocol = protocol
        self._hostname = hostname  # whom we dial; None: we are dialed
        self._timeout_s = timeout_s
        self._turn = turn
        self._on_done = on_done
        self._on_failed = on_failed
        self._plain = plain  # for who speaks no TLS, where that is allowed
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._paused = False
        self._ssl: ssl.SSLObject | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._checking: asyncio.Task[None] | None = None
        self._over = False
        self.raw: asyncio.Transport

    @property
    def remote(self) -> str:
        peer = self.raw.get_extra_info("peername")
        if not peer:
            return "unknown"
        return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.raw = transport
        if self._timeout_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._timeout_s, self.fail, f"no handshake within {self._timeout_s:g} s")
        if self._hostname is not None:
            self.step()

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        if self._plain is not None:
            plain, self._plain = self._plain, None
            if data[0] != _HANDSHAKE_RECORD:
                self._become_plain(plain(), data)
                return
        self._incoming.write(data)  # no more than one read: OpenSSL takes it all, and until then nothing more is read
        self._turn(self)

    def pause(self) -> None:
        """Reads no more until the next step: a client may send a megabyte right behind its handshake."""
        if not self._paused:
            self._paused = True
            self.raw.pause_reading()

    def step(self) -> None:
        """Goes on with what has come."""
        if self._over or self._checking is not None:
            return
        if self._paused:
            self._paused = False
            self.raw.resume_reading()
        try:
            if self._ssl is None:  # not before a client has said something: this, too, is part of the turn's time
                self._ssl = self._policy.context().wrap_bio(
                    self._incoming, self._outgoing, server_side=self._hostname is None, server_hostname=self._hostname
                )
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ssl.CertificateError, ValueError) as error:
            if isinstance(error, ssl.SSLError) and error.reason == "HTTP_REQUEST":
                self._outgoing.read()  # an alert that a client of plain HTTP would not understand
                self._outgoing.write(NOT_TLS)
            self._flush()
            self.fail(describe(error))
            return
        self._flush()
        try:
            who = self._policy.identify(self._ssl)
        except NotTrusted as error:
            self.fail(str(error), error.who)
            return
        if self._policy.checks_address and (who.dns_names or who.ip_addresses):
            self.pause()
            self._checking = asyncio.get_running_loop().create_task(self._check_address(who))
        else:
            self._finish(who)

    async def _check_address(self, who: Identified) -> None:
        peer = self.raw.get_extra_info("peername")
        try:
            await self._policy.check_address(who, peer[0] if peer else "")
        except NotTrusted as error:
            self.fail(str(error), who)
            return
        if not self._over:
            self.raw.resume_reading()
            self._finish(who)

    def _finish(self, who: Identified) -> None:
        assert self._ssl is not None
        self._end()
        protocol = self._make_protocol()
        connection = TlsConnection(self.raw, self._ssl, self._incoming, self._outgoing, who, protocol)
        connection.begin()
        self._on_done(self, protocol)

    def _become_plain(self, protocol: asyncio.Protocol, data: bytes) -> None:
        self._end()
        self.raw.set_protocol(protocol)
        protocol.connection_made(self.raw)
        self._on_done(self, protocol)
        if not self.raw.is_closing():
            protocol.data_received(data)

    def fail(self, reason: str, who: Identified | None = None) -> None:
        if self._over:
            return
        self._end()
        self.raw.close()  # what was written, an alert perhaps, still leaves
        self._on_failed(self, reason, who)

    def abort(self) -> None:
        """Without a word to anybody."""
        self._end()
        self.raw.abort()

    def eof_received(self) -> None:
        self.fail("closed during the handshake")

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(str(exc) if exc else "closed during the handshake")

    def _end(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._checking is not None and self._checking is not asyncio.current_task():
            self._checking.cancel()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.raw.write(self._outgoing.read())


class TlsDoor:
    """Takes the connections of a listening socket: shakes hands, then hands over. Given to create_server.

    protocol: made once a handshake is done, with the connection as its transport.
    plain:    the same for who speaks no TLS on this port; None: nobody may.
    log:      where refusals are told in etcd's words. whose: "client" or "peer".
    """

    def __init__(
        self,
        policy: Policy,
        protocol: Callable[[], asyncio.Protocol],
        *,
        timeout_s: float,
        log: logging.Logger,
        whose: str,
        plain: Callable[[], asyncio.Protocol] | None = None,
    ) -> None:
        self._policy = policy
        self._protocol = protocol
        self._plain = plain
        self._timeout_s = timeout_s
        self._log = log
        self._whose = whose
        self._shaking: set[_Handshake] = set()
        self._waiting: deque[_Handshake] = deque()
        self._closed = False
        self._refusals_left = REFUSALS_TOLD_MAX
        self._refusals_from = 0.0
        self._loop = asyncio.get_running_loop()
        self._spent_s = 0.0  # in this turn of the loop
        self._renewing = False

    def __call__(self) -> asyncio.Protocol:
        handshake = _Handshake(
            self._policy,
            self._protocol,
            hostname=None,
            timeout_s=self._timeout_s,
            turn=self._turn,
            on_done=self._done,
            on_failed=self._failed,
            plain=self._plain,
        )
        self._shaking.add(handshake)
        return handshake

    @property
    def shaking_count(self) -> int:
        return len(self._shaking)

    def close(self) -> None:
        """Ends what has not shaken hands yet."""
        self._closed = True
        for handshake in list(self._shaking):
            if hasattr(handshake, "raw"):
                handshake.abort()
        self._shaking.clear()
        self._waiting.clear()

    def _turn(self, handshake: _Handshake) -> None:
        """One takes 1.5 ms of this thread. 300 at once: nobody else was heard for up to 270 ms on a busy machine, for
        3 to 5 s without this; heartbeats are due each 100 ms."""
        if self._spent_s < TURN_S and not self._waiting:
            self._step(handshake)
        else:
            handshake.pause()
            self._waiting.append(handshake)

    def _step(self, handshake: _Handshake) -> None:
        if not self._renewing:
            self._renewing = True
            self._loop.call_soon(self._next_turn)
        begun_s = time.perf_counter()
        handshake.step()
        self._spent_s += time.perf_counter() - begun_s

    def _next_turn(self) -> None:
        self._renewing = False
        self._spent_s = 0.0
        while self._waiting and self._spent_s < TURN_S:
            self._step(self._waiting.popleft())

    def _done(self, handshake: _Handshake, protocol: asyncio.Protocol) -> None:
        self._shaking.discard(handshake)

    def _failed(self, handshake: _Handshake, reason: str, who: Identified | None) -> None:
        self._shaking.discard(handshake)
        if self._closed:
            return
        now = self._loop.time()
        if now - self._refusals_from > REFUSALS_S:
            if self._refusals_left < 0:
                self._log.warning("rejected more connections", extra={"count": -self._refusals_left})
            self._refusals_from, self._refusals_left = now, REFUSALS_TOLD_MAX
        self._refusals_left -= 1
        if self._refusals_left >= 0:
            text = f"rejected connection on {self._whose} endpoint"
            self._log.warning(text, extra=_told(handshake.remote, reason, who))


def _told(remote: str, reason: str, who: Identified | None) -> dict[str, object]:
    """etcd's words, by which alerts look for it."""
    told: dict[str, object] = {"remote-addr": remote, "error": reason}
    if who is not None:
        told |= {"ip-addresses": list(who.ip_addresses), "dns-names": list(who.dns_names)}
    return told


async def connect_tls(policy: Policy, hostname: str, port: int, protocol: Callable[[], ProtocolT]) -> ProtocolT:
    """A protocol with a connection to whom hostname's certificate is for. Raises OSError (TlsFailed is one).

    How long it may take is the caller's to say: a cancellation leaves nothing behind.
    """
    loop = asyncio.get_running_loop()
    shaken: asyncio.Future[None] = loop.create_future()
    made: list[ProtocolT] = []

    def make() -> ProtocolT:
        made.append(protocol())
        return made[0]

    def done(handshake: _Handshake, _: asyncio.Protocol) -> None:
        if not shaken.done():
            shaken.set_result(None)

    def failed(handshake: _Handshake, reason: str, who: Identified | None) -> None:
        if not shaken.done():
            shaken.set_exception(TlsFailed(reason))

    raw, _ = await loop.create_connection(
        lambda: _Handshake(
            policy, make, hostname=hostname, timeout_s=None, turn=_Handshake.step, on_done=done, on_failed=failed
        ),
        hostname,
        port,
    )
    try:
        await shaken
    except BaseException:
        raw.abort()
        raise
    return made[0]


def describe(error: Exception) -> str:
    """OpenSSL's words without its numbers and file names: `[SSL: UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        reason = error.reason.lower().replace("_", " ")
        return _PLAINLY.get(error.reason) or (f"the other side says: {reason}" if "alert" in reason else reason)
    return str(error) or type(error).__name__


_PLAINLY: Final = {
    "HTTP_REQUEST": "an HTTP request to an HTTPS server",
    "WRONG_VERSION_NUMBER": "the other side does not speak TLS",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "client didn't provide a certificate",
    "UNEXPECTED_EOF_WHILE_READING": "closed during the handshake",
}
