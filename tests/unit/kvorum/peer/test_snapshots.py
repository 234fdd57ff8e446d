"""POST /raft/snapshot, both ends over a real connection."""

import asyncio
from pathlib import Path

import pytest
from kvorum.peer.streams import MESSAGE_BYTES_MAX
from kvorum.raft.message import ConfState, Message, MessageType, Snapshot
from kvorum.server.peers import PeerRefused
from kvorum.storage.entry_codec import encode_message

from tests.unit.kvorum.peer.loopback import HOST, Here, in_loop, until
from tests.unit.kvorum.peer.test_handlers import member_headers, raw
from tests.unit.kvorum.peer.test_transport import TERM, A, B, close, two

MESSAGE = Message(
    MessageType.SNAPSHOT, B, A, TERM, commit=70, snapshot=Snapshot(69, 4, ConfState((A, B)), b'{"Root":{}}')
)


def body(message: Message = MESSAGE, database: bytes = b"db") -> bytes:
    encoded = encode_message(message)
    return len(encoded).to_bytes(8, "big") + encoded + database


def make_large(path: Path) -> None:
    """More than what sockets hold."""
    with open(path, "wb") as file:
        file.truncate(64 << 20)


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
@in_loop
async def test_message_and_database_arrive_whole(size: int, tmp_path: Path) -> None:
    a, b = await two()
    database = bytes(range(251)) * (size // 251 + 1)
    (tmp_path / "db").write_bytes(database[:size])
    await a.transport.send_snapshot(MESSAGE, tmp_path / "db")
    (taken,) = b.answers.snapshots
    assert (taken.message.type, taken.message.commit) == (MESSAGE.type, MESSAGE.commit)
    assert taken.message.snapshot == MESSAGE.snapshot
    assert bytes(taken.database) == database[:size]
    assert taken.finished
    assert not taken.abandoned
    await close(a, b)


@in_loop
async def test_the_body_may_come_in_any_pieces_and_with_a_length() -> None:
    a, b = await two()
    for piece_bytes in (1, 7, 64):
        reader, writer = await asyncio.open_connection(HOST, b.port)
        data = raw("POST /raft/snapshot", member_headers(), body(database=b"0123456789"))
        for at in range(0, len(data), piece_bytes):
            writer.write(data[at : at + piece_bytes])
            await writer.drain()
        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 204 No Content\r\n"
        assert bytes(b.answers.snapshots[-1].database) == b"0123456789"
        writer.close()
    await close(a, b)


@in_loop
async def test_a_refusal_before_the_database_has_left_ends_the_sending(tmp_path: Path) -> None:
    a, b = await two()
    b.answers.wants_no_snapshot = "not now"
    make_large(tmp_path / "db")
    with pytest.raises(PeerRefused, match=r"answered 500 failed to process raft message \(not now\)"):
        await a.transport.send_snapshot(MESSAGE, tmp_path / "db")
    await close(a, b)


@in_loop
async def test_a_database_that_is_refused_is_told_to_the_sender(tmp_path: Path) -> None:
    a, b = await two()
    b.answers.refuses_snapshot = "it is broken"
    (tmp_path / "db").write_bytes(b"x")
    with pytest.raises(PeerRefused, match="it is broken"):
        await a.transport.send_snapshot(MESSAGE, tmp_path / "db")
    await close(a, b)


@in_loop
async def test_while_the_receiver_has_no_room_nothing_is_read(tmp_path: Path) -> None:
    a, b = await two()
    b.answers.begins_full = True
    make_large(tmp_path / "db")
    sending = asyncio.get_running_loop().create_task(a.transport.send_snapshot(MESSAGE, tmp_path / "db"))
    await until(lambda: b.answers.snapshots, "the beginning")
    (taken,) = b.answers.snapshots
    await asyncio.wait({sending}, timeout=1.0)  # it would be done by then
    assert len(taken.database) < 8 << 20
    assert not sending.done()
    taken.is_full = False
    taken.on_drained()
    await sending
    assert len(taken.database) == 64 << 20
    await close(a, b)


@in_loop
async def test_a_sender_that_dies_half_way_leaves_nothing_taken() -> None:
    a, b = await two()
    _, writer = await asyncio.open_connection(HOST, b.port)
    writer.write(raw("POST /raft/snapshot", member_headers() | {"Content-Length": "100000"}) + body())
    await until(lambda: b.answers.snapshots, "the beginning")
    writer.transport.abort()
    await until(lambda: b.answers.snapshots[0].abandoned, "it is given up")
    assert not b.answers.snapshots[0].finished
    await close(a, b)


@in_loop
async def test_a_receiver_that_dies_half_way_is_an_error(tmp_path: Path) -> None:
    a, b = await two()
    b.answers.begins_full = True
    make_large(tmp_path / "db")
    sending = asyncio.get_running_loop().create_task(a.transport.send_snapshot(MESSAGE, tmp_path / "db"))
    await until(lambda: b.answers.snapshots, "the beginning")
    await b.close()
    with pytest.raises(OSError):
        await sending
    await close(a)


@in_loop
async def test_a_length_beyond_the_limit_is_refused() -> None:
    member = await Here(B).start()
    reader, writer = await asyncio.open_connection(HOST, member.port)
    writer.write(raw("POST /raft/snapshot", member_headers(), (MESSAGE_BYTES_MAX + 1).to_bytes(8, "big")))
    assert b"failed to decode raft message" in await reader.readuntil(b"exceeded)\n")
    writer.close()
    await member.close()


@in_loop
async def test_a_member_that_is_no_peer_gets_none(tmp_path: Path) -> None:
    a, b = await two()
    a.transport.remove_peer(B)
    with pytest.raises(ConnectionError):
        await a.transport.send_snapshot(MESSAGE, tmp_path / "db")
    await close(a, b)
