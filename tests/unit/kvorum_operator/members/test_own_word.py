"""A member's own word: read when present, and nothing said where the answer is anything else."""

import asyncio
import contextlib
import time

import pytest
from kvorum_operator.cluster.observation import OwnWord
from kvorum_operator.members.own_word import ANSWER_BYTES_MAX, WORD_CHARACTERS_MAX, fetch_own_word

from tests.kit.ports import free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


def fetch(answer: bytes | None, timeout_s: float = 5.0) -> tuple[OwnWord | None, bytes]:
    """What is understood of an answer, and what was asked. None is a server that says nothing."""

    async def fetched() -> tuple[OwnWord | None, bytes]:
        asked, done = bytearray(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.extend(await reader.readuntil(b"\r\n\r\n"))
            if answer is None:
                await done.wait()
            with contextlib.suppress(ConnectionError):
                for part in (answer or b"")[:7], (answer or b"")[7:]:
                    writer.write(part)
                    await writer.drain()
            writer.close()

        port = free_port()
        async with await asyncio.start_server(serve, "127.0.0.1", port):
            try:
                return await fetch_own_word(f"http://127.0.0.1:{port}", timeout_s), bytes(asked)
            finally:
                done.set()

    return asyncio.run(fetched())


def test_version_state_reason_and_name_are_read() -> None:
    body = b'{"name":"m","version":"0.1.0","state":"data-lost","reason":"its data\\n is gone","term":2}'
    word, asked = fetch(OK + body)
    assert word == OwnWord("0.1.0", "data-lost", "its data is gone", "m")
    assert asked.startswith(b"GET /kvorum/v1/member HTTP/1.0\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 404 Not Found\r\n\r\n404 page not found\n",
        b"HTTP/1.0 404 Not Found\r\n\r\n" + b'{"version":"0.1.0"}',
        b"",
        b"\x00\x00\x12\x04",
        b"HTTP/1.1",
        OK,
        OK + b"[]",
        OK + b"{}",
        OK + b'{"version":1,"state":null}',
        OK + b'{"version":"\\u001b[2J"}',
        OK + b"\xff",
        OK + b"[" * (ANSWER_BYTES_MAX - 100),
        OK + b'{"version":"0.1.0"}' + b" " * ANSWER_BYTES_MAX,
    ],
    ids=range(13),
)
def test_anything_else_is_nothing_said(answer: bytes) -> None:
    assert fetch(answer)[0] is None


def test_long_word_is_cut() -> None:
    word, _ = fetch(OK + b'{"version":"0.1.0","reason":"' + b"x" * 1000 + b'"}')
    assert word is not None
    assert word.reason == "x" * WORD_CHARACTERS_MAX


def test_silence_and_a_closed_port_cost_a_bounded_time() -> None:
    begun = time.monotonic()
    assert fetch(None, timeout_s=0.2)[0] is None
    assert asyncio.run(fetch_own_word(f"http://127.0.0.1:{free_port()}", 5.0)) is None
    assert time.monotonic() - begun < 4.0
    assert asyncio.run(fetch_own_word("https://127.0.0.1:2379", 5.0)) is None
    assert asyncio.run(fetch_own_word("http://127.0.0.1", 5.0)) is None
