"""Transports that talk to each other over loopback, with a proxy between them that splits, cuts, stalls and refuses."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
from kvorum.peer import outbound, pipeline
from kvorum.peer.outbound import Outbound
from kvorum.peer.streams import MessageEncoder
from kvorum.peer.transport import Transport
from kvorum.peer.wiring import TIMINGS, Timings
from kvorum.raft.message import Entry, Message, MessageType, Snapshot
from kvorum.wire import http1

from tests.unit.kvorum.peer.loopback import HOST, Here, Proxy, connected, in_loop, until

A, B, C = 0xA, 0xB0B, 0xC
TERM = 7


def append(index: int, entries: int = 1, *, to: int = B, sender: int = A, size: int = 10) -> Message:
    log = [Entry(TERM, index + 1 + n, bytes(size)) for n in range(entries)]
    return Message(MessageType.APPEND, to, sender, TERM, TERM, index, log, index)


def heartbeat(commit: int = 0, *, to: int = B, sender: int = A) -> Message:
    return Message(MessageType.HEARTBEAT, to, sender, TERM, entries=[], commit=commit)


def of_type(messages: Sequence[Message], kind: MessageType) -> list[Message]:
    return [message for message in messages if message.type is kind]


async def two(proxy: Proxy | None = None, timings: Timings = TIMINGS) -> tuple[Here, Here]:
    """A and B. A's dials to B go through the proxy, if there is one: B's messages to A travel there."""
    a, b = await Here(A, timings=timings).start(), await Here(B, timings=timings).start()
    if proxy:
        proxy.target_port = b.port
    a.transport.add_peer(B, [proxy.url if proxy else b.url])
    b.transport.add_peer(A, [a.url])
    await connected(a, b)
    return a, b


async def close(*parts: Here | Proxy) -> None:
    for part in parts:
        await part.close()


# What is sent arrives


@in_loop
async def test_messages_arrive_whole_and_in_order_both_ways() -> None:
    a, b = await two()
    sent = [append(0, 3), append(3, 0), append(3, 64), append(10, 2), append(12, 1, size=3 << 20)]
    a.transport.send(sent)
    a.transport.send([heartbeat(1), heartbeat(2)])
    b.transport.send([Message(MessageType.APPEND_REPLY, A, B, TERM, index=n, entries=[]) for n in range(100)])
    await until(lambda: len(b.received) == 7 and len(a.received) == 100, "all messages")
    assert of_type(b.received, MessageType.APPEND) == sent
    assert of_type(b.received, MessageType.HEARTBEAT) == [heartbeat(1), heartbeat(2)]
    assert [message.index for message in a.received] == list(range(100))
    assert (a.unreachable, b.unreachable) == ([], [])
    assert 3 << 20 < a.transport.traffic()[B].sent_bytes < 4 << 20
    assert 3 << 20 < b.transport.traffic()[A].received_bytes < 4 << 20
    await close(a, b)


@in_loop
async def test_what_one_turn_sends_to_a_member_arrives_in_one_call() -> None:
    a, b = await two()
    a.transport.send([heartbeat(n) for n in range(50)])
    await until(lambda: b.received, "the messages")
    assert b.reads == [50]
    await close(a, b)


@in_loop
async def test_messages_arrive_alike_when_they_are_split_at_every_byte() -> None:
    proxy = await Proxy().start()
    proxy.piece_bytes = 1
    a, b = await Here(A).start(), await Here(B).start()
    proxy.target_port = b.port
    a.transport.add_peer(B, [proxy.url])
    b.transport.add_peer(A, [a.url])
    await connected(a, b)
    sent = [append(0, 3, to=A, sender=B), append(3, 0, to=A, sender=B), append(3, 20, to=A, sender=B)]
    b.transport.send([*sent, heartbeat(3, to=A, sender=B)])
    await until(lambda: len(a.received) == 4, "all messages")
    assert of_type(a.received, MessageType.APPEND) == sent
    await close(a, b, proxy)


@in_loop
async def test_without_a_stream_messages_go_by_post() -> None:
    """B knows A, but dials nothing yet: as while a member joins."""
    a, b = await Here(A).start(), await Here(B).start()
    a.transport.add_peer(B, [b.url])
    sent = [append(0, 2), heartbeat(1), append(2, 1)]
    for message in sent:
        a.transport.send([message])
    await until(lambda: len(b.received) == 3, "three posts")
    assert b.received == sent  # one worker: in order, too
    assert a.transport.active_since(B) is not None
    assert a.unreachable == []
    await close(a, b)


@in_loop
async def test_messages_to_nobody_are_dropped() -> None:
    a, b = await two()
    a.transport.send([heartbeat(1, to=0), heartbeat(2, to=0xDEAD), heartbeat(3)])
    await until(lambda: b.received, "the one message that has a receiver")
    assert b.received == [heartbeat(3)]
    assert a.unreachable == []
    await close(a, b)


@in_loop
async def test_messages_for_another_member_and_raft_s_own_do_not_reach_raft() -> None:
    a, b = await two()
    stream = a.transport._peers[B]._message_stream
    assert stream is not None
    stream.send([heartbeat(1, to=A), Message(MessageType.HUP, B, A), Message(MessageType.BEAT, B, A), heartbeat(2)])
    await until(lambda: b.received, "the one message that is for raft")
    assert b.received == [heartbeat(2)]
    await close(a, b)


@in_loop
async def test_a_snapshot_goes_to_who_makes_it_and_not_into_a_stream() -> None:
    a, b = await two()
    snapshot = Message(MessageType.SNAPSHOT, B, A, TERM, snapshot=Snapshot(5, 5))
    a.transport.send([snapshot, heartbeat(1)])
    await until(lambda: b.received, "the heartbeat beside it")
    assert a.wanted == [snapshot]
    assert b.received == [heartbeat(1)]
    await close(a, b)


# Trouble


@in_loop
async def test_streams_that_are_cut_come_back_and_raft_is_told() -> None:
    proxy = await Proxy().start()
    a, b = await two(proxy)
    for _ in range(3):
        b.unreachable.clear()
        proxy.cut()
        await until(lambda: A in b.unreachable, "B knows that its messages may be lost")
        await connected(a, b)
    b.transport.send([heartbeat(9, to=A, sender=B)])
    await until(lambda: a.received, "a message after the cuts")
    await close(a, b, proxy)


@in_loop
async def test_a_member_is_dialed_at_most_ten_times_a_second_for_each_stream() -> None:
    proxy = await Proxy().start()
    proxy.refusing = True
    a, b = await Here(A).start(), await Here(B).start()
    proxy.target_port = b.port
    a.transport.add_peer(B, [proxy.url])
    loop = asyncio.get_running_loop()
    started = loop.time()
    await until(lambda: proxy.accepted >= 20, "twenty dials")
    assert loop.time() - started > 0.8  # two readers, each at once and then every 100 ms
    assert a.transport.active_since(B) is None
    await close(a, b, proxy)


@in_loop
async def test_a_member_that_restarts_is_found_again() -> None:
    a, b = await two()
    port = b.port
    await b.close()
    await until(lambda: a.transport.active_since(B) is None, "A notices")
    a.transport.send([heartbeat(1)])
    await until(lambda: B in a.unreachable, "what is sent meanwhile is reported as lost")
    b = await Here(B).start(port)
    b.transport.add_peer(A, [a.url])
    await connected(a, b)
    a.transport.send([heartbeat(2)])
    await until(lambda: heartbeat(2) in b.received, "a message to the new process")
    await close(a, b)


@in_loop
async def test_the_end_of_a_process_is_told_apart_from_a_connection_that_was_cut() -> None:
    proxy = await Proxy().start()
    a, b = await two(proxy)
    proxy.cut()
    await until(lambda: A in b.unreachable, "the streams are cut")
    await connected(a, b)
    assert a.ended == []
    await proxy.close()
    await until(lambda: B in a.ended, "nothing listens at B's address any more")
    await close(a, b)


@pytest.mark.parametrize("is_etcd", [False, True])
@in_loop
async def test_beside_an_etcd_the_end_of_a_process_is_not_told(is_etcd: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kvorum.peer")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        kind = b"" if is_etcd else b"X-Kvorum-Version: 9\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\nX-Server-Version: 3.5.30\r\n" + kind + b"Transfer-Encoding: chunked\r\n\r\n")
        writers.append(writer)

    writers: list[asyncio.StreamWriter] = []
    third = await asyncio.start_server(answer, HOST, 0)
    a, b = await two()
    a.transport.add_peer(C, [f"http://{HOST}:{third.sockets[0].getsockname()[1]}"])
    await until(lambda: a.transport.active_since(C) is not None, "a stream from C")
    await b.close()
    await until(lambda: f"{b.url}: [Errno 111]" in caplog.text, "B's port refuses")
    assert set(a.ended) == (set() if is_etcd else {B})
    third.close()
    for writer in writers:
        writer.transport.abort()
    await close(a)


@in_loop
async def test_the_next_url_is_tried_when_one_fails() -> None:
    a, b = await Here(A).start(), await Here(B).start()
    a.transport.add_peer(B, [f"http://{HOST}:1", "http://localhost.invalid:1", b.url])
    b.transport.add_peer(A, [f"http://{HOST}:1", a.url])
    await connected(a, b)
    await close(a, b)


@in_loop
async def test_new_urls_are_used_at_the_next_dial() -> None:
    a, b = await Here(A).start(), await Here(B).start()
    b.transport.add_peer(A, [a.url])
    a.transport.add_peer(B, [f"http://{HOST}:1"])
    await until(lambda: a.transport._peers[B].active_since is None, "nothing there")
    a.transport.add_peer(B, [b.url])  # a known one: its URLs have changed
    await connected(a, b)
    a.transport.add_peer(B, [f"http://{HOST}:1"])
    a.transport.send([heartbeat(1)])
    await until(lambda: b.received, "what stands goes on")
    await close(a, b)


async def stalled(timings: Timings) -> tuple[Here, Here, Proxy, Outbound]:
    """A, whose appends to B go as far as they are taken, B, the proxy that takes nothing, and the stream into it."""
    proxy = await Proxy().start()
    a, b = await Here(A, timings=timings).start(), await Here(B, timings=timings).start()
    proxy.target_port = a.port
    a.transport.add_peer(B, [b.url])
    b.transport.add_peer(A, [proxy.url])
    await connected(a, b)
    proxy.flowing.clear()
    stream = a.transport._peers[B]._append_stream
    assert stream is not None
    return a, b, proxy, stream


async def send_appends(a: Here, enough: Callable[[], object]) -> None:
    """64 KiB each: into the sockets, then the buffer, then the queue, then away."""
    index = 0
    while not enough():
        a.transport.send([append(index, 1, size=65536)])
        index += 1
        assert index < 3 * outbound.QUEUE_COUNT_MAX
        await asyncio.sleep(0)


@in_loop
async def test_a_stalled_member_costs_a_bounded_queue() -> None:
    a, b, proxy, stream = await stalled(Timings(heartbeat_s=0.05, stalled_s=1000.0, read_timeout_s=1000.0))
    await send_appends(a, lambda: a.unreachable)
    assert len(stream._queue) == outbound.QUEUE_COUNT_MAX
    assert stream._carrier.buffered_bytes() < 4 << 20
    await close(a, b, proxy)


@in_loop
async def test_a_stalled_member_is_given_up() -> None:
    a, b, proxy, stream = await stalled(Timings(heartbeat_s=0.05, stalled_s=0.2, read_timeout_s=1000.0))
    await send_appends(a, lambda: stream._paused or a.unreachable)
    await until(lambda: a.transport._peers[B]._append_stream is not stream, "the stream is given up")
    assert len(stream._queue) == 0
    proxy.flowing.set()
    await connected(a, b)
    await close(a, b, proxy)


@in_loop
async def test_a_slow_member_gets_everything_in_order() -> None:
    """The socket stops taking and goes on again: what waits meanwhile neither overtakes nor is lost."""
    a, b, proxy, stream = await stalled(TIMINGS)
    sent: list[Message] = []
    while len(stream._queue) < 50:
        sent.append(append(len(sent), 1, size=65536))
        a.transport.send(sent[-1:])
        await asyncio.sleep(0)
    proxy.flowing.set()
    for _ in range(50):
        sent.append(append(len(sent), 1))
        a.transport.send(sent[-1:])
        await asyncio.sleep(0)
    await until(lambda: len(b.received) >= len(sent), "everything")
    assert b.received == sent
    assert a.unreachable == []
    await close(a, b, proxy)


@in_loop
async def test_more_than_the_queue_in_one_turn_is_cut_to_its_bound() -> None:
    a, b = await two()
    a.transport.send([heartbeat(n) for n in range(outbound.QUEUE_COUNT_MAX + 10)])
    assert a.unreachable == []  # never from within: raft is still handing these messages out
    await until(lambda: a.unreachable, "raft is told")
    assert len(b.received) <= outbound.QUEUE_COUNT_MAX
    await close(a, b)


@in_loop
async def test_posts_wait_in_a_bounded_queue() -> None:
    proxy = await Proxy().start()
    proxy.flowing.clear()
    a, b = await Here(A).start(), await Here(B).start()
    proxy.target_port = b.port
    a.transport.add_peer(B, [proxy.url])
    for n in range(pipeline.QUEUE_COUNT_MAX):
        a.transport.send([heartbeat(n)])
    await asyncio.sleep(0)
    assert a.unreachable == []
    for n in range(3):
        a.transport.send([heartbeat(n)])
    await until(lambda: a.unreachable, "raft is told")
    assert len(a.transport._peers[B]._pipeline._queue) <= pipeline.QUEUE_COUNT_MAX
    await close(a, b, proxy)


@in_loop
async def test_silence_of_5_s_ends_a_stream_and_heartbeats_prevent_it() -> None:
    proxy = await Proxy().start()
    a, b = await two(proxy, Timings(heartbeat_s=0.1, read_timeout_s=0.5))
    readers = dict(a.transport._peers[B]._inbound)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await until(lambda: loop.time() - started > 1.2, "two time-outs pass")
    assert a.transport._peers[B]._inbound == readers
    proxy.flowing.clear()
    await until(lambda: a.transport.active_since(B) is None or not a.transport._peers[B]._inbound, "A gives up")
    proxy.flowing.set()
    await connected(a, b)
    await close(a, b, proxy)


@in_loop
async def test_a_second_stream_replaces_the_first_which_ends_in_good_order() -> None:
    a, b = await Here(A).start(), await Here(B).start()
    a.transport.add_peer(B, [f"http://{HOST}:1"])
    request = http1.request(
        "GET", f"/raft/stream/message/{B:x}", "a", [*b.transport.identity.headers(), ("X-Raft-To", f"{A:x}")]
    )
    first, first_writer = await asyncio.open_connection(HOST, a.port)
    first_writer.write(request)
    await first.readuntil(b"\r\n\r\n")
    second, second_writer = await asyncio.open_connection(HOST, a.port)
    second_writer.write(request)
    await second.readuntil(b"\r\n\r\n")
    assert await first.read() == b"0\r\n\r\n"
    a.transport.send([heartbeat(1)])
    assert (await second.readuntil(b"\r\n")) != b"0\r\n"
    assert a.unreachable == []
    first_writer.close()
    second_writer.close()
    await close(a, b)


class Wire:
    """A connection whose other end reads everything at once, or only what the test takes (outbound.Carrier)."""

    def __init__(self) -> None:
        self.written = b""
        self.ended = False
        self.reading = True
        self.taking = 0  # bytes between two looks at what is left
        self.looks = 0
        self.left = 0

    def write(self, data: bytes) -> None:
        self.written += data
        self.left += 0 if self.reading else len(data)

    def buffered_bytes(self) -> int:
        self.looks += 1
        self.left -= self.taking
        return self.left

    def end(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True


@in_loop
async def test_a_stream_says_nothing_after_its_end() -> None:
    timings = Timings(heartbeat_s=0.02)
    broken: list[Outbound] = []
    wire, other = Wire(), Wire()
    stream = Outbound(wire, MessageEncoder(), broken.append, timings)
    second = Outbound(other, MessageEncoder(), broken.append, timings)
    await until(lambda: wire.written, "a heartbeat")
    wire.written = b""
    stream.end()
    assert stream.send([heartbeat(1)]) is False
    stream.end()
    stream.lost()
    heartbeats = len(other.written)
    await until(lambda: len(other.written) > heartbeats + 200, "heartbeats of the stream that goes on")
    assert wire.written == b"0\r\n\r\n"
    second.lost()
    assert broken == [second]  # only this one ended without being told to


@in_loop
async def test_a_stream_that_moves_slowly_is_not_stalled() -> None:
    timings = Timings(heartbeat_s=0.01, stalled_s=0.1)
    broken: list[Outbound] = []
    wire = Wire()
    stream = Outbound(wire, MessageEncoder(), broken.append, timings)
    wire.reading = False
    stream.send([heartbeat(n) for n in range(100)])
    stream.pause()
    wire.taking = 1
    looks = wire.looks
    # Looks are a heartbeat apart: five times as long as a stream may stall.
    await until(lambda: broken or wire.looks > looks + 50, "fifty looks")
    assert broken == []
    wire.taking = 0
    await until(lambda: broken == [stream], "it takes nothing more")
    assert wire.ended


@pytest.mark.parametrize("version", [None, "2.0.0", "abc"])
@in_loop
async def test_a_stream_of_a_member_that_speaks_otherwise_is_given_up(version: str | None) -> None:
    """It answers 200, and sends what would be a message; nothing of it reaches raft."""
    asked = 0
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        serving.add(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        told = [] if version is None else [("X-Server-Version", version)]
        writer.write(http1.response_head(200, [*told, ("Transfer-Encoding", "chunked")]))
        with suppress(ConnectionResetError):  # given up without a word
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    a = await Here(A).start()
    a.transport.add_peer(B, [f"http://{HOST}:{server.sockets[0].getsockname()[1]}"])
    await until(lambda: asked >= 4, "each stream is dialed again")
    assert a.transport.active_since(B) is None
    await close(a)
    server.close()
    await server.wait_closed()
    await until(lambda: all(task is not None and task.done() for task in serving), "the last connection ends")


# Members come and go


@in_loop
async def test_a_removed_member_is_cut_off_and_told_so_once_it_asks() -> None:
    a, b = await two()
    a.answers.removed.add(B)
    a.transport.remove_peer(B)
    await until(lambda: b.removals, "B is told")
    a.transport.send([heartbeat(1)])
    assert not a.transport.knows(B)
    assert a.transport.active_since(B) is None
    assert b.received == []
    # It was told by both readers, and neither dials again.
    await until(lambda: b.removals == 2, "both readers")
    assert all(task.done() for task in b.transport._peers[A]._tasks[:2])
    await close(a, b)


@in_loop
async def test_a_member_is_never_its_own_peer() -> None:
    a = await Here(A).start()
    a.transport.add_peer(A, [a.url])
    a.transport.add_stranger(A, [a.url])
    assert not a.transport.knows(A)
    assert not a.transport._strangers
    await close(a)


@in_loop
async def test_a_stranger_that_becomes_a_member_has_streams_then() -> None:
    a, b = await Here(A).start(), await Here(B).start()
    a.transport.add_stranger(B, [b.url])
    assert a.transport.active_since(B) is None
    a.transport.send([heartbeat(1)])
    await until(lambda: b.received, "a post to the stranger")
    a.transport.add_peer(B, [b.url])
    b.transport.add_peer(A, [a.url])
    await connected(a, b)
    assert not a.transport._strangers
    await close(a, b)


@in_loop
async def test_activity_tells_since_when_a_member_is_reachable_without_a_break() -> None:
    proxy = await Proxy().start()
    a, b = await two(proxy)
    first = a.transport.active_since(B)
    assert first is not None
    assert first <= asyncio.get_running_loop().time()
    assert a.transport.active_since(0xDEAD) is None
    await b.transport.close()
    await b.listener.close()
    await until(lambda: a.transport.active_since(B) is None, "the break")
    b = await Here(B).start(b.port)
    b.transport.add_peer(A, [a.url])
    await until(lambda: a.transport.active_since(B) is not None, "the return")
    second = a.transport.active_since(B)
    assert second is not None
    assert second > first
    await close(a, b, proxy)


@in_loop
async def test_a_member_that_is_away_is_logged_once_and_not_ten_times_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    proxy = await Proxy().start()
    proxy.refusing = True
    a, b = await Here(A).start(), await Here(B).start()
    proxy.target_port = b.port
    with caplog.at_level(logging.INFO, "kvorum.peer"):
        a.transport.add_peer(B, [proxy.url])
        await until(lambda: proxy.accepted >= 12, "a dozen dials")
    about_b = [record.getMessage() for record in caplog.records if f"peer {B:x}" in record.getMessage()]
    assert len(about_b) == len(set(about_b))
    assert 1 <= len(about_b) <= 3
    await close(a, b, proxy)


# Probes


@in_loop
async def test_probes_go_on_the_kept_connection_and_on_a_new_one() -> None:
    proxy = await Proxy().start()
    a, b = await two(proxy, Timings(probe_s=0.1))
    # One new connection a round, and one that is kept for all of them.
    idle = a.transport._peers[B]._pipeline._connections._idle
    await until(lambda: idle.get(proxy.url), "a first probe")
    since, kept = idle[proxy.url][0]
    before = proxy.accepted
    await until(lambda: proxy.accepted >= before + 4, "probes on new connections")
    await until(lambda: [each for at, each in idle[proxy.url] if at > since] == [kept], "probes on the kept one")
    await close(a, b, proxy)


@pytest.mark.parametrize(
    ("body", "drift_s"),
    [
        (b'{"OK":true,"Now":"2026-11-23T01:51:07.443611514Z"}\n', 0.443611 + 0.1),
        (b'{"OK":true,"Now":"2026-11-23T01:51:09Z"}\n', 2.1),
        (b'{"OK":true,"Now":"2026-11-23T01:51:07.5Z"}\n', 0.6),
        (b'{"OK":true}', None),
        (b'{"Now":"yesterday"}', None),
        (b"", None),
    ],
)
def test_clock_drift_is_told_from_a_probe(body: bytes, drift_s: float | None) -> None:
    unix_s = 1795398667.0  # 2026-11-23T01:51:07Z
    found = pipeline.clock_drift_s(body, unix_s, 0.2)
    assert found == (None if drift_s is None else pytest.approx(drift_s, abs=1e-3))


# The end


def open_sockets() -> int:
    folder = f"/proc/{os.getpid()}/fd"
    return sum(
        os.readlink(f"{folder}/{fd}").startswith("socket:")
        for fd in os.listdir(folder)
        if os.path.islink(f"{folder}/{fd}")
    )


@in_loop
async def test_close_leaves_no_socket_and_no_task() -> None:
    before = open_sockets()
    proxy = await Proxy().start()
    a, b = await two(proxy)
    c = await Here(0xC).start()
    c.transport.add_peer(A, [f"http://{HOST}:1"])
    c.transport.add_stranger(B, [b.url])
    a.transport.add_peer(0xD, ["http://192.0.2.1:2380"])  # a dial that nobody answers
    a.transport.send([heartbeat(1), heartbeat(1, to=0xD)])
    await close(a, b, c, proxy)
    await asyncio.sleep(0)
    assert open_sockets() == before
    for late in (a.transport, b.transport):
        late.add_peer(0xE, [f"http://{HOST}:1"])
        late.send([heartbeat(1, to=0xE)])
    # in_loop looks for tasks


@in_loop
async def test_close_does_not_wait_for_a_stalled_member() -> None:
    a, b, proxy, stream = await stalled(TIMINGS)
    await send_appends(a, lambda: stream._queue)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await close(a)
    assert loop.time() - started < 4
    await close(b, proxy)


def test_a_version_that_is_none_is_refused_at_once() -> None:
    """A real etcd that reads it in a stream's answer ends its process."""
    for version in ("abc", "3.5", "v3.5.30", "", "3.5.30.1", "03.5.0"):
        with pytest.raises(ValueError):
            Here(A, version=version)


def test_transport_is_made_within_a_loop() -> None:
    with pytest.raises(RuntimeError):
        Here(A)
    assert Transport.__doc__ is not None
