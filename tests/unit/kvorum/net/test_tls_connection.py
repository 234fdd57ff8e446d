"""TLS on real sockets: handshakes that fail, hang, flood or come in pieces, and what a protocol sees of a connection.

The other side is Python's own ssl, or asyncio's.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kvorum.net.tls import ClientTls, ServerTls, TlsFiles
from kvorum.net.tls_connection import REFUSALS_TOLD_MAX, Identified, NotTrusted, TlsDoor, TlsFailed, connect_tls

from tests.kit.certificates import Authority
from tests.unit.kvorum.peer.loopback import HOST, in_loop, until

TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


class Echo(asyncio.Protocol):
    """Sends back what it gets; `!` at the end of a read closes, `?` aborts. half: goes on after the client's end."""

    def __init__(self, *, half: bool = False) -> None:
        self.half = half
        self.received = b""
        self.reads = 0
        self.ended = self.paused = 0
        self.lost: list[Exception | None] = []
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.reads += 1
        self.transport.write(data)
        if data.endswith(b"!"):
            self.transport.close()
        elif data.endswith(b"?"):
            self.transport.abort()

    def eof_received(self) -> bool:
        self.ended += 1
        return self.half

    def pause_writing(self) -> None:
        self.paused += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Kept(Echo):
    """Only listens."""

    def data_received(self, data: bytes) -> None:
        self.received += data


class Served:
    """A door with echoes behind it."""

    def __init__(self, tls: ServerTls, *, timeout_s: float, half: bool, plain_too: bool) -> None:
        self.echoes: list[Echo] = []
        self._half = half
        self.door = TlsDoor(
            tls,
            self._make,
            timeout_s=timeout_s,
            log=logging.getLogger("test.tls"),
            whose="client",
            plain=self._make if plain_too else None,
        )
        self.port = 0

    def _make(self) -> Echo:
        self.echoes.append(Echo(half=self._half))
        return self.echoes[-1]


@asynccontextmanager
async def served(
    ca: Authority,
    *,
    timeout_s: float = TIMEOUT_S,
    half: bool = False,
    plain_too: bool = False,
    asks: bool = False,
    policy: Callable[[TlsFiles], ServerTls] | None = None,
) -> AsyncIterator[Served]:
    pair = ca.sign("served")
    trusted_ca = str(ca.cert) if asks else ""
    files = TlsFiles(cert=str(pair.cert), key=str(pair.key), trusted_ca=trusted_ca, asks_client=asks)
    tls = policy(files) if policy is not None else ServerTls(files, alpn=("h2", "http/1.1"))
    here = Served(tls, timeout_s=timeout_s, half=half, plain_too=plain_too)
    server = await asyncio.get_running_loop().create_server(here.door, HOST, 0)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()
        here.door.close()
        for echo in here.echoes:
            if hasattr(echo, "transport"):
                echo.transport.abort()
        await server.wait_closed()


def trusting(ca: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca.cert))


async def opened(
    here: Served, ca: Authority, context: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, here.port, ssl=context or trusting(ca))


async def dropped(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@in_loop
async def test_what_one_side_writes_the_other_reads_whatever_its_length(ca: Authority) -> None:
    async with served(ca) as here:
        reader, writer = await opened(here, ca)
        for size in (1, 16_383, 16_384, 16_385, 300_000):
            writer.write(bytes(size))
            assert await reader.readexactly(size) == bytes(size)
        await dropped(writer)
        await until(lambda: here.echoes[0].lost, "the connection ends")
        assert here.echoes[0].lost == [None]
        assert here.echoes[0].ended == 1


@in_loop
async def test_many_records_of_one_read_reach_the_protocol_in_one_call(ca: Authority) -> None:
    async with served(ca) as here:
        reader, writer = await opened(here, ca)
        writer.write(b"x")
        await reader.readexactly(1)
        before = here.echoes[0].reads
        raw = writer.transport.get_extra_info("socket")
        assert raw is not None
        for _ in range(50):
            writer.write(b"y" * 10)
        await reader.readexactly(500)
        assert here.echoes[0].reads - before <= 50
        assert here.echoes[0].received.endswith(b"y" * 500)
        await dropped(writer)


@in_loop
async def test_bytes_that_come_one_by_one_are_the_same(ca: Authority) -> None:
    """The handshake, too: a proxy may cut wherever it likes."""
    async with served(ca) as here:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting(ca).wrap_bio(to_client, to_server, server_hostname=HOST)
        reader, writer = await asyncio.open_connection(HOST, here.port)

        async def send() -> None:
            for byte in to_server.read():
                writer.write(bytes([byte]))
                await asyncio.sleep(0)

        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                await send()
                to_client.write(await reader.read(65536))
        client.write(b"in pieces")
        await send()
        while True:
            try:
                assert client.read(100) == b"in pieces"
                break
            except ssl.SSLWantReadError:
                to_client.write(await reader.read(65536))
        await dropped(writer)


@in_loop
async def test_a_protocol_sees_what_was_agreed_and_may_hand_over_to_another(ca: Authority) -> None:
    async with served(ca, asks=True) as here:
        context = trusting(ca)
        pair = ca.sign("alice", common_name="alice")
        context.load_cert_chain(pair.cert, pair.key)
        context.set_alpn_protocols(["http/1.1"])
        reader, writer = await opened(here, ca, context)
        writer.write(b"a")
        await reader.readexactly(1)
        transport = here.echoes[0].transport
        told = [transport.get_extra_info(name) for name in ("tls", "alpn", "common_name")]
        assert told == [True, "http/1.1", "alice"]
        assert transport.get_extra_info("peername")[0] == HOST
        second = Echo()
        second.connection_made(transport)
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        writer.write(b"b")
        await reader.readexactly(1)
        assert second.received == b"b"
        await dropped(writer)


@in_loop
async def test_the_last_words_of_a_closed_connection_still_arrive(ca: Authority) -> None:
    async with served(ca) as here:
        reader, writer = await opened(here, ca)
        writer.write(bytes(200_000) + b"!")
        assert len(await reader.read(-1)) == 200_001
        assert here.echoes[0].transport.is_closing()
        here.echoes[0].transport.write(b"late")  # nobody minds
        await dropped(writer)


async def shaken_by_hand(
    here: Served, ca: Authority
) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO, asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that says its last word, or hears one, alone: asyncio's closes the connection at the same time."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(ca).wrap_bio(to_client, to_server, server_hostname=HOST)
    reader, writer = await asyncio.open_connection(HOST, here.port)
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            writer.write(to_server.read())
            to_client.write(await reader.read(65536))
    return client, to_server, to_client, reader, writer


@in_loop
async def test_a_client_that_has_said_all_may_still_get_its_answer(ca: Authority) -> None:
    async with served(ca, half=True) as here:
        client, to_server, to_client, reader, writer = await shaken_by_hand(here, ca)
        with contextlib.suppress(ssl.SSLWantReadError):
            client.unwrap()
        writer.write(to_server.read())
        writer.write_eof()
        await until(lambda: here.echoes and here.echoes[0].ended, "the client's end is seen")
        here.echoes[0].transport.write(b"answer")
        here.echoes[0].transport.close()
        to_client.write(await reader.read(-1))
        assert client.read(100) == b"answer"
        await dropped(writer)


@in_loop
async def test_who_has_said_all_still_hears_what_the_client_says(ca: Authority) -> None:
    """So an answer before the end of a request is not lost to a reset."""
    async with served(ca, half=True) as here:
        client, to_server, to_client, reader, writer = await shaken_by_hand(here, ca)
        writer.write(to_server.read())
        await until(lambda: here.echoes, "the handshake is done")
        echo = here.echoes[0]
        echo.transport.write(b"refused")
        echo.transport.write_eof()
        assert not echo.transport.is_closing()
        echo.transport.write(b"nothing more")
        client.write(b"still talking")
        writer.write(to_server.read())
        await until(lambda: echo.received, "it is heard")
        assert echo.received == b"still talking"
        while not to_client.pending or client.read(100) != b"refused":
            to_client.write(await reader.read(65536))
        assert client.read(100) == b""  # the last word
        writer.close()
        await until(lambda: echo.lost, "and then it is over")
        assert echo.lost == [None]


@in_loop
async def test_a_connection_that_is_cut_off_is_no_end_but_a_loss(ca: Authority) -> None:
    async with served(ca, half=True) as here:
        reader, writer = await opened(here, ca)
        writer.write(b"a")
        await reader.readexactly(1)
        raw = socket.socket(fileno=socket.dup(writer.get_extra_info("socket").fileno()))
        raw.shutdown(socket.SHUT_WR)
        await until(lambda: here.echoes[0].lost, "the loss is seen")
        assert isinstance(here.echoes[0].lost[0], TlsFailed)
        assert here.echoes[0].ended == 0
        raw.close()
        await dropped(writer)


@in_loop
async def test_a_forged_record_ends_the_connection(ca: Authority) -> None:
    async with served(ca) as here:
        reader, writer = await opened(here, ca)
        writer.write(b"a")
        await reader.readexactly(1)
        raw = socket.socket(fileno=socket.dup(writer.get_extra_info("socket").fileno()))
        raw.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        await until(lambda: here.echoes[0].lost, "the connection ends")
        assert here.echoes[0].received == b"a"
        assert isinstance(here.echoes[0].lost[0], TlsFailed)
        raw.close()
        await dropped(writer)


@in_loop
async def test_who_does_not_read_holds_up_the_writer_and_nobody_else(ca: Authority) -> None:
    async with served(ca) as here:
        _, writer = await opened(here, ca)
        writer.write(b"a")
        await until(lambda: here.echoes and here.echoes[0].received, "it is there")
        echo = here.echoes[0]
        echo.transport.set_write_buffer_limits(high=65_536)
        raw = writer.transport
        assert isinstance(raw, asyncio.Transport)
        raw.pause_reading()
        while not echo.paused:
            echo.transport.write(bytes(65_536))
        assert echo.transport.get_write_buffer_size() > 65_536
        reader, second = await opened(here, ca)
        second.write(b"b")
        assert await reader.readexactly(1) == b"b"
        await dropped(second)
        writer.transport.abort()


# ---- handshakes ------------------------------------------------------------------------------------------------------


@in_loop
async def test_a_handshake_that_hangs_is_given_up_and_holds_up_nobody(
    ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(ca, timeout_s=0.5) as here:
        silent = [await asyncio.open_connection(HOST, here.port) for _ in range(20)]
        silent[0][1].write(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a hello
        reader, writer = await opened(here, ca)
        writer.write(b"meanwhile")
        assert await reader.readexactly(9) == b"meanwhile"
        assert await silent[0][0].read() == b""
        await until(lambda: not here.door.shaking_count, "all are given up")
        assert "rejected connection on client endpoint" in caplog.text
        assert caplog.records[-1].__dict__["error"] == "no handshake within 0.5 s"
        assert caplog.records[-1].__dict__["remote-addr"].startswith(HOST)
        for _, each in silent:
            await dropped(each)
        await dropped(writer)


@in_loop
async def test_a_crowd_is_let_in_a_few_at_a_time_and_the_loop_goes_on(ca: Authority) -> None:
    async with served(ca) as here:
        port, count, failures, long = here.port, 60, [], bytes(600_000)
        context = trusting(ca)

        def knock() -> None:
            try:
                with (
                    socket.create_connection((HOST, port), timeout=TIMEOUT_S) as raw,
                    context.wrap_socket(raw, server_hostname=HOST) as secure,
                ):
                    secure.sendall(long)  # before its turn has come, perhaps
                    got = 0
                    while got < len(long):
                        got += len(secure.recv(65536))
            except OSError as error:
                failures.append(error)

        threads = [threading.Thread(target=knock) for _ in range(count)]
        for thread in threads:
            thread.start()
        await until(lambda: len(here.echoes) == count, "all are in")
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert failures == []
        assert not here.door._waiting


@in_loop
async def test_what_is_no_tls_is_refused_in_words_it_understands(
    ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(ca) as here:
        for sent, answer in (
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.0 400 Bad Request"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""),
            (bytes(100), b""),
        ):
            reader, writer = await asyncio.open_connection(HOST, here.port)
            writer.write(sent)
            with contextlib.suppress(ConnectionResetError):
                assert (await reader.read()).startswith(answer)
            await dropped(writer)
        assert here.echoes == []
        assert caplog.records[0].__dict__["error"] == "an HTTP request to an HTTPS server"
        assert len(caplog.records) == 3


@in_loop
async def test_both_are_served_on_one_port_where_both_are_asked_for(ca: Authority) -> None:
    async with served(ca, plain_too=True) as here:
        reader, writer = await asyncio.open_connection(HOST, here.port)
        writer.write(b"in the clear")
        assert await reader.readexactly(12) == b"in the clear"
        assert here.echoes[0].transport.get_extra_info("tls") is None
        secure_reader, secure_writer = await opened(here, ca)
        secure_writer.write(b"secret")
        assert await secure_reader.readexactly(6) == b"secret"
        await dropped(writer)
        await dropped(secure_writer)


@in_loop
async def test_a_hello_without_end_is_not_waited_for(ca: Authority) -> None:
    async with served(ca) as here:
        reader, writer = await asyncio.open_connection(HOST, here.port)
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                writer.write(b"\x16\x03\x01\x40\x00" + bytes(16_384))
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        await until(lambda: not here.door.shaking_count, "it is given up")
        await dropped(writer)


@in_loop
async def test_refusals_beyond_a_few_are_counted_and_not_told(ca: Authority, caplog: pytest.LogCaptureFixture) -> None:
    async with served(ca) as here:
        for _ in range(REFUSALS_TOLD_MAX + 5):
            _, writer = await asyncio.open_connection(HOST, here.port)
            writer.write(b"no tls")
            await dropped(writer)
        await until(lambda: not here.door.shaking_count, "all are refused")
        assert len(caplog.records) == REFUSALS_TOLD_MAX


class Doubting(ServerTls):
    """As the port of members: comes from elsewhere, says the resolver, after a while."""

    asked: asyncio.Event
    believes: bool

    async def check_address(self, who: Identified, host: str) -> None:
        await self.asked.wait()
        if not self.believes:
            raise NotTrusted(f"not from {host}", who)


@in_loop
async def test_a_slow_resolver_holds_up_one_connection_alone(ca: Authority, caplog: pytest.LogCaptureFixture) -> None:
    for believes in (True, False):
        asked = asyncio.Event()

        def doubting(files: TlsFiles, *, asked: asyncio.Event = asked, believes: bool = believes) -> ServerTls:
            policy = Doubting(files, alpn=("http/1.1",), checks_address=True)
            policy.asked, policy.believes = asked, believes
            return policy

        async with served(ca, asks=True, policy=doubting) as here:
            context = trusting(ca)
            pair = ca.sign("member")
            context.load_cert_chain(pair.cert, pair.key)
            reader, writer = await opened(here, ca, context)
            writer.write(b"early" + bytes(1 << 20))  # before anybody has said whether it may
            await until(lambda: here.door.shaking_count == 1, "it is being asked about")
            assert here.echoes == []
            for _ in range(200):
                await asyncio.sleep(0)
            [shaking] = here.door._shaking
            assert shaking._incoming.pending < 300_000, "what it sends meanwhile waits outside"
            asked.set()
            if believes:
                assert await reader.readexactly(5 + (1 << 20)) == b"early" + bytes(1 << 20)
            else:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                assert caplog.records[-1].__dict__["error"] == f"not from {HOST}"
                assert caplog.records[-1].__dict__["dns-names"] == ["localhost"]
            await dropped(writer)


@in_loop
async def test_a_door_that_closes_ends_what_is_still_shaking_hands(ca: Authority) -> None:
    async with served(ca) as here:
        reader, writer = await asyncio.open_connection(HOST, here.port)
        await until(lambda: here.door.shaking_count, "it has come")
        here.door.close()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await dropped(writer)


# ---- dialing ---------------------------------------------------------------------------------------------------------


def dialer(ca: Authority, name: str = "dialer") -> ClientTls:
    pair = ca.sign(name)
    return ClientTls(TlsFiles(cert=str(pair.cert), key=str(pair.key), trusted_ca=str(ca.cert)))


@in_loop
async def test_a_dialed_connection_is_as_good_as_an_accepted_one(ca: Authority) -> None:
    async with served(ca, asks=True) as here:
        mine = await connect_tls(dialer(ca), HOST, here.port, Kept)
        mine.transport.write(b"there and back!")
        await until(lambda: mine.lost, "it is closed from there")
        assert mine.received == b"there and back!"
        assert (mine.lost, mine.ended) == ([None], 1)


@in_loop
async def test_a_refusal_by_the_other_side_reaches_the_dialer_in_words(ca: Authority, tmp_path: Path) -> None:
    """In TLS 1.3 it comes only after the dialer's own handshake is done."""
    stranger = Authority(tmp_path, "stranger").sign("stranger")
    files = TlsFiles(cert=str(stranger.cert), key=str(stranger.key), trusted_ca=str(ca.cert))
    async with served(ca, asks=True) as here:
        mine = await connect_tls(ClientTls(files), HOST, here.port, Echo)
        await until(lambda: mine.lost, "it is refused")
        assert "the other side says: tlsv1 alert unknown ca" in str(mine.lost[0])


@in_loop
async def test_a_server_that_nobody_vouches_for_is_not_talked_to(ca: Authority, tmp_path: Path) -> None:
    async with served(Authority(tmp_path, "stranger")) as here:
        with pytest.raises(TlsFailed, match="the certificate is not trusted"):
            await connect_tls(dialer(ca), HOST, here.port, Echo)


@in_loop
async def test_a_server_that_never_answers_costs_the_dialer_its_patience_alone(ca: Authority) -> None:
    gone = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        gone.set()

    server = await asyncio.start_server(say_nothing, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await connect_tls(dialer(ca), HOST, port, Echo)
    await gone.wait()  # nothing of it is left open
    server.close()
    await server.wait_closed()
