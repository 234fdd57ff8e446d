"""The network between members does what it says: what a fault test rests on is tested itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.kit.ports import free_port
from tests.kit.proxy import Fate, PeerNetwork

ANSWER_S = 5.0
HOLD_S = 0.3


class Pair:
    """a dials b through the network; b sends back what it gets. reads: the sizes of what b read at once."""

    def __init__(self, network: PeerNetwork) -> None:
        self.network = network
        self.reads: list[int] = []
        self.port = free_port()
        self.advertised = network.add("b", self.port)
        network.add("a", free_port())
        network.identify(0xA, "a")
        network.identify(0xB, "b")

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                self.reads.append(len(data))
                writer.write(data)
            writer.close()

    async def dial(self, sender: str = "a") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.advertised)
        head = b"GET /raft/stream/message/a HTTP/1.1\r\n" + (
            b"X-Server-From: %s\r\n" % sender.encode() if sender else b""
        )
        writer.write(head + b"\r\n")
        return reader, writer


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    network = PeerNetwork()
    try:
        made = Pair(network)
        async with await asyncio.start_server(made.echo, "127.0.0.1", made.port):
            yield made
    finally:
        await asyncio.to_thread(network.close)


async def answer(reader: asyncio.StreamReader, timeout_s: float = ANSWER_S) -> bytes:
    async with asyncio.timeout(timeout_s):
        return await reader.read(1 << 16)


async def head(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(ANSWER_S):
        await reader.readuntil(b"\r\n\r\n")


def test_all_passes_until_something_is_set_and_who_dials_is_known() -> None:
    async def story() -> None:
        async with pair() as two:
            reader, writer = await two.dial()
            await head(reader)
            writer.write(b"hello")
            assert await answer(reader) == b"hello"
            assert [(dial.sender, dial.to, dial.what) for dial in two.network.dials] == [
                ("a", "b", "GET /raft/stream/message/a")
            ]
            writer.close()

    asyncio.run(story())


@pytest.mark.parametrize(("sender", "to"), [("a", "b"), ("b", "a")])
def test_what_is_held_one_way_arrives_once_the_way_is_free(sender: str, to: str) -> None:
    async def story() -> None:
        async with pair() as two:
            reader, writer = await two.dial()
            await head(reader)
            two.network.set(sender, to, Fate.HELD)
            writer.write(b"hello")
            with pytest.raises(TimeoutError):
                await answer(reader, HOLD_S)
            assert (len(two.reads) == 1) is (sender == "a")  # one way only: b has heard it when b is the one unheard
            two.network.heal()
            assert await answer(reader) == b"hello"
            writer.close()

    asyncio.run(story())


def test_what_is_cut_is_reset_and_nothing_is_dialed_until_it_heals() -> None:
    async def story() -> None:
        async with pair() as two:
            reader, _ = await two.dial()
            await head(reader)
            two.network.set("a", "b", Fate.CUT)
            with pytest.raises(ConnectionResetError):
                await answer(reader)
            again, _ = await two.dial()
            with pytest.raises(ConnectionResetError):
                await answer(again)
            two.network.heal()
            reader, writer = await two.dial()
            await head(reader)
            writer.close()

    asyncio.run(story())


def test_what_is_swallowed_never_comes_and_its_connection_ends_with_the_fault() -> None:
    async def story() -> None:
        async with pair() as two:
            reader, writer = await two.dial()
            await head(reader)
            two.network.set("a", "b", Fate.SWALLOWED)
            writer.write(b"hello")
            with pytest.raises(TimeoutError):
                await answer(reader, HOLD_S)
            two.network.heal()
            with pytest.raises(ConnectionResetError):
                await answer(reader)
            assert len(two.reads) == 1  # the head

    asyncio.run(story())


def test_pieces_and_delays() -> None:
    async def story() -> None:
        async with pair() as two:
            reader, writer = await two.dial()
            await head(reader)
            two.network.set("a", "b", delay_s=0.1, piece_bytes=1)
            two.reads.clear()
            started_s = asyncio.get_running_loop().time()
            writer.write(bytes(50))
            async with asyncio.timeout(ANSWER_S):
                await reader.readexactly(50)
            assert asyncio.get_running_loop().time() - started_s >= 0.1
            assert len(two.reads) >= 3
            writer.close()

    asyncio.run(story())


def test_who_says_no_name_passes_unless_nobody_gets_through() -> None:
    async def story() -> None:
        async with pair() as two:
            two.network.add("c", free_port())
            two.network.set("a", "b", Fate.CUT)
            reader, _ = await two.dial(sender="")
            await head(reader)
            two.network.set("c", "b", Fate.CUT)
            reader, _ = await two.dial(sender="")
            with pytest.raises(ConnectionResetError):
                await answer(reader)

    asyncio.run(story())


def test_a_reset_cuts_once() -> None:
    async def story() -> None:
        async with pair() as two:
            reader, _ = await two.dial()
            await head(reader)
            two.network.reset("b", "a")
            with pytest.raises(ConnectionResetError):
                await answer(reader)
            reader, writer = await two.dial()
            await head(reader)
            writer.close()

    asyncio.run(story())
