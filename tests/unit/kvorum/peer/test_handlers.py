"""The peer port answered by hand: status, body and headers as a real etcd 3.5.30 gave them to the same bytes."""

import asyncio
import json
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from kvorum.peer.handlers import SMALL_BODY_BYTES_MAX
from kvorum.peer.wiring import TIMINGS, Timings
from kvorum.raft.message import Entry, Message, MessageType
from kvorum.server.peers import LeaseLife
from kvorum.state.membership import Member
from kvorum.storage.entry_codec import encode_message

from tests.unit.kvorum.peer.loopback import CLUSTER, HOST, Here, ask, in_loop, still_open, until

OWN = 0xB0046E73A70A4081
PEER = 0x55D08C339832BAE9
GONE = 0xB18ED2EFBE3A4DF9
UNKNOWN = 0xABC
CLUSTER_HEX = "f17f1b424cd6018d"

MEMBERS = [
    Member(9447328442032054562, ("http://127.0.0.1:24112",), False, "n2", ("http://127.0.0.1:24110",)),
    Member(PEER, ("http://127.0.0.1:24102",), False, "n1", ("http://127.0.0.1:24100",)),
    Member(GONE + 1, ("http://127.0.0.1:24132", "http://[::1]:24132"), True, "", ()),
]
MEMBERS_JSON = (
    '[{"id":6183596441604373225,"peerURLs":["http://127.0.0.1:24102"],"name":"n1","clientURLs":["http://127.0.0.1:24100"]},'
    '{"id":9447328442032054562,"peerURLs":["http://127.0.0.1:24112"],"name":"n2","clientURLs":["http://127.0.0.1:24110"]},'
    f'{{"id":{GONE + 1},"peerURLs":["http://127.0.0.1:24132","http://[::1]:24132"],"isLearner":true}}]\n'
)
LEASE = 4245102270854565125

TEXT = {"content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff"}
ID = {"x-etcd-cluster-id": CLUSTER_HEX}
VERSION = {"x-server-version": "3.5.30"}
JSON = {"content-type": "application/json"}
PROTOBUF = {"content-type": "application/protobuf"}


def member_headers(**changed: str | None) -> dict[str, str]:
    """What etcd sends with each request that carries raft messages; None leaves a header out."""
    headers: dict[str, str | None] = {
        "X-Etcd-Cluster-Id": CLUSTER_HEX,
        "X-Server-From": f"{PEER:x}",
        "X-Server-Version": "3.5.30",
        "X-Min-Cluster-Version": "3.0.0",
        "X-Peerurls": "http://127.0.0.1:9",
        "X-Raft-To": f"{OWN:x}",
    }
    names = {
        "cluster": "X-Etcd-Cluster-Id",
        "version": "X-Server-Version",
        "least": "X-Min-Cluster-Version",
        "to": "X-Raft-To",
    }
    headers |= {names[name]: value for name, value in changed.items()}
    return {name: value for name, value in headers.items() if value is not None}


def raw(line: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> bytes:
    fields = {"Host": "127.0.0.1", **(headers or {})}
    if body is not None:
        fields["Content-Length"] = str(len(body))
    return "".join([f"{line} HTTP/1.1\r\n", *[f"{k}: {v}\r\n" for k, v in fields.items()], "\r\n"]).encode() + (
        body or b""
    )


async def here(timings: Timings = TIMINGS) -> Here:
    member = Here(OWN, timings=timings)
    member.answers.listed = list(MEMBERS)
    member.answers.removed = {GONE}
    member.answers.leases = {LEASE: LeaseLife(599, 600, (b"e",))}
    member.answers.hashes = {0: 0, 7: 409507257, 9: 2979852305}
    member.answers.compacted = 5
    member.transport.add_peer(PEER, ["http://127.0.0.1:9"])
    return await member.start()


HEARTBEAT = encode_message(Message(MessageType.HEARTBEAT, OWN, PEER, 3))
STREAM = f"/raft/stream/message/{PEER:x}"
LEASE_LIFE_ASKED = bytes.fromhex("0a0c08859af6cbe1c0e8f43a1001")


# Each row: request; status, body and all headers but Date and Content-Length.
TABLE = {
    "unknown path": (raw("GET /nosuch"), 404, b"404 page not found\n", TEXT),
    "root": (raw("GET /"), 404, b"404 page not found\n", TEXT),
    "version": (raw("GET /version"), 200, b'{"etcdserver":"3.5.30","etcdcluster":"not_decided"}', JSON),
    "version by POST": (raw("POST /version", body=b""), 405, b"Method Not Allowed\n", {"allow": "GET", **TEXT}),
    "members": (raw("GET /members"), 200, MEMBERS_JSON.encode(), JSON | ID),
    "members/": (raw("GET /members/"), 404, b"404 page not found\n", TEXT),
    "members by PUT": (raw("PUT /members", body=b""), 405, b"Method Not Allowed\n", {"allow": "GET", **TEXT}),
    "promote nobody": (raw("POST /members/promote/1", body=b""), 404, b"membership: ID not found\n", TEXT | ID),
    "promote a word": (raw("POST /members/promote/n4", body=b""), 404, b"member n4 not found in cluster\n", TEXT | ID),
    "promote a hex id": (
        raw("POST /members/promote/b18ed2efbe3a4dfa", body=b""),
        404,
        b"member b18ed2efbe3a4dfa not found in cluster\n",
        TEXT | ID,
    ),
    "promote too large an id": (
        raw(f"POST /members/promote/{1 << 64}", body=b""),
        404,
        f"member {1 << 64} not found in cluster\n".encode(),
        TEXT | ID,
    ),
    "promote a voter": (
        raw(f"POST /members/promote/{PEER}", body=b""),
        412,
        b"membership: can only promote a learner member\n",
        TEXT | ID,
    ),
    "promote one that is behind": (
        raw(f"POST /members/promote/{GONE + 1}", body=b""),
        412,
        b"etcdserver: can only promote a learner member which is in sync with leader\n",
        TEXT | ID,
    ),
    "promote by GET": (raw("GET /members/promote/1"), 405, b"Method Not Allowed\n", {"allow": "POST", **TEXT}),
    "hash": (
        raw("GET /members/hashkv", body=b'{"revision":7}'),
        200,
        b'{"header":{"revision":9},"hash":409507257,"compact_revision":5}',
        JSON | ID,
    ),
    "hash of all": (
        raw("GET /members/hashkv", ID, b"{}"),
        200,
        b'{"header":{"revision":9},"hash":2979852305,"compact_revision":5}',
        JSON | ID,
    ),
    "hash of the future": (
        raw("GET /members/hashkv", body=b'{"revision":99}'),
        400,
        b"mvcc: required revision is a future revision\n",
        TEXT,
    ),
    "hash of the past": (
        raw("GET /members/hashkv", body=b'{"revision":3}'),
        400,
        b"mvcc: required revision has been compacted\n",
        TEXT,
    ),
    "hash of nothing": (raw("GET /members/hashkv", body=b"x"), 400, b"error unmarshalling request\n", TEXT),
    "hash of depths": (
        raw("GET /members/hashkv", body=b"[" * 50_000),
        400,
        b"error unmarshalling request\n",
        TEXT,
    ),
    "hash of a list": (raw("GET /members/hashkv", body=b"[]"), 400, b"error unmarshalling request\n", TEXT),
    "hash of a word": (
        raw("GET /members/hashkv", body=b'{"revision":"7"}'),
        400,
        b"error unmarshalling request\n",
        TEXT,
    ),
    "hash by POST": (raw("POST /members/hashkv", body=b"{}"), 405, b"Method Not Allowed\n", {"allow": "GET", **TEXT}),
    "hash for another cluster": (
        raw("GET /members/hashkv", {"X-Etcd-Cluster-ID": "1"}, b"{}"),
        412,
        b"cluster ID mismatch\n",
        TEXT,
    ),
    "renew": (
        raw("POST /leases", PROTOBUF, bytes.fromhex("08859af6cbe1c0e8f43a")),
        200,
        bytes.fromhex("10859af6cbe1c0e8f43a18d804"),
        PROTOBUF,
    ),
    "renew nothing": (raw("POST /leases", body=b"\x08\x07"), 404, b"lease not found\n", TEXT),
    "renew by GET": (raw("GET /leases"), 405, b"Method Not Allowed\n", TEXT),
    "renew garbage": (raw("POST /leases", body=b"\xff"), 400, b"error unmarshalling request\n", TEXT),
    "lease life": (
        raw("POST /leases/internal", PROTOBUF, LEASE_LIFE_ASKED),
        200,
        bytes.fromhex("0a150a0010859af6cbe1c0e8f43a18d70420d8042a0165"),
        PROTOBUF,
    ),
    "life of nothing": (raw("POST /leases/internal", body=bytes.fromhex("0a020807")), 404, b"lease not found\n", TEXT),
    "life by GET": (raw("GET /leases/internal"), 405, b"Method Not Allowed\n", TEXT),
    "life of garbage": (raw("POST /leases/internal", body=b"\xff"), 400, b"error unmarshalling request\n", TEXT),
    "downgrade": (raw("GET /downgrade/enabled"), 200, b"false", {"content-type": "text/plain", **ID}),
    "downgrade by POST": (
        raw("POST /downgrade/enabled", body=b""),
        405,
        b"Method Not Allowed\n",
        {"allow": "GET", **TEXT},
    ),
    "message": (raw("POST /raft", member_headers(to=None), HEARTBEAT), 204, b"", ID),
    "message by GET": (raw("GET /raft"), 405, b"Method Not Allowed\n", {"allow": "POST", **TEXT}),
    "message without headers": (raw("POST /raft", body=b"x"), 412, b"incompatible version\n", TEXT | ID),
    "message of an old version": (
        raw("POST /raft", member_headers(version="2.3.8"), HEARTBEAT),
        412,
        b"incompatible version\n",
        TEXT | ID,
    ),
    "message of no version": (
        raw("POST /raft", member_headers(version="abc"), HEARTBEAT),
        412,
        b"incompatible version\n",
        TEXT | ID,
    ),
    "message of a later cluster": (
        raw("POST /raft", member_headers(least="3.6.0"), HEARTBEAT),
        412,
        b"incompatible version\n",
        TEXT | ID,
    ),
    "message of a later version": (raw("POST /raft", member_headers(version="4.1.0"), HEARTBEAT), 204, b"", ID),
    "message for another cluster": (
        raw("POST /raft", member_headers(cluster="f17f1b424cd6018e"), HEARTBEAT),
        412,
        b"cluster ID mismatch\n",
        TEXT | ID,
    ),
    "message for our cluster in capitals": (
        raw("POST /raft", member_headers(cluster=CLUSTER_HEX.upper()), HEARTBEAT),
        412,
        b"cluster ID mismatch\n",
        TEXT | ID,
    ),
    "garbage for a message": (
        raw("POST /raft", member_headers(), b"x"),
        400,
        b"error unmarshalling raft message\n",
        TEXT | ID,
    ),
    "message with a hole": (
        raw(
            "POST /raft",
            member_headers(),
            encode_message(Message(MessageType.APPEND, OWN, PEER, 3, entries=[Entry(3, 9)])),
        ),
        400,
        b"error unmarshalling raft message\n",
        TEXT | ID,
    ),
    "message for another member": (
        raw("POST /raft", member_headers(), encode_message(Message(MessageType.HEARTBEAT, OWN + 1, PEER, 3))),
        500,
        b"error processing raft message\n",
        {"connection": "close"} | TEXT | ID,
    ),
    "message of a removed member": (
        raw("POST /raft", member_headers(), encode_message(Message(MessageType.HEARTBEAT, OWN, GONE, 3))),
        500,
        b"error processing raft message\n",
        {"connection": "close"} | TEXT | ID,
    ),
    "message of raft's own": (
        raw("POST /raft", member_headers(), encode_message(Message(MessageType.HUP, OWN, PEER))),
        204,
        b"",
        ID,
    ),
    "snapshot that is another message": (
        raw("POST /raft/snapshot", member_headers(), bytes(100)),
        400,
        b"wrong raft message type\n",
        {"connection": "close"} | TEXT | ID,
    ),
    "snapshot cut off within its message": (
        raw("POST /raft/snapshot", member_headers(), b"\0\0\0\0\0\0\0\x64\x08\x07"),
        400,
        b"failed to decode raft message (unexpected EOF)\n",
        TEXT | ID,
    ),
    "snapshot with nothing in it": (
        raw("POST /raft/snapshot", member_headers(), b""),
        400,
        b"failed to decode raft message (EOF)\n",
        TEXT | ID,
    ),
    "snapshot by GET": (raw("GET /raft/snapshot"), 405, b"Method Not Allowed\n", {"allow": "POST", **TEXT}),
    "snapshot for another cluster": (
        raw("POST /raft/snapshot", member_headers(cluster="1"), bytes(100)),
        412,
        b"cluster ID mismatch\n",
        TEXT | ID,
    ),
    "stream by POST": (
        raw(f"POST {STREAM}", member_headers(), b""),
        405,
        b"Method Not Allowed\n",
        {"allow": "GET", **TEXT},
    ),
    "stream of nobody known": (
        raw(f"GET /raft/stream/message/{UNKNOWN:x}", member_headers()),
        404,
        b"error sender not found\n",
        TEXT | ID | VERSION,
    ),
    "stream of one removed": (
        raw(f"GET /raft/stream/msgapp/{GONE:x}", member_headers()),
        410,
        b"removed member\n",
        TEXT | ID | VERSION,
    ),
    "stream of no id": (
        raw("GET /raft/stream/msgapp/n1", member_headers()),
        404,
        b"invalid from\n",
        TEXT | ID | VERSION,
    ),
    "stream of an empty id": (
        raw("GET /raft/stream/msgapp/", member_headers()),
        404,
        b"invalid from\n",
        TEXT | ID | VERSION,
    ),
    "stream of another kind": (
        raw(f"GET /raft/stream/msgappv2/{PEER:x}", member_headers()),
        404,
        b"invalid path\n",
        TEXT | ID | VERSION,
    ),
    "stream further down": (
        raw(f"GET /raft/stream/msgapp/x/{PEER:x}", member_headers()),
        404,
        b"invalid path\n",
        TEXT | ID | VERSION,
    ),
    "stream to another member": (
        raw(f"GET {STREAM}", member_headers(to="b0046e73a70a4082")),
        412,
        b"to field mismatch\n",
        TEXT | ID | VERSION,
    ),
    "stream to nobody": (
        raw(f"GET {STREAM}", member_headers(to=None)),
        412,
        b"to field mismatch\n",
        TEXT | ID | VERSION,
    ),
    "stream of another cluster": (
        raw(f"GET {STREAM}", member_headers(cluster="1")),
        412,
        b"cluster ID mismatch\n",
        TEXT | ID | VERSION,
    ),
    "stream of no version": (
        raw(f"GET {STREAM}", member_headers(version=None)),
        412,
        b"incompatible version\n",
        TEXT | ID | VERSION,
    ),
}


@pytest.mark.parametrize("case", TABLE)
@in_loop
async def test_the_port_answers_as_etcd_does(case: str) -> None:
    request, status, body, headers = TABLE[case]
    member = await here()
    answer = await ask(member.port, request, request.split(b" ")[0].decode())
    await member.close()
    told = {name: value for name, value in answer.headers.items() if name not in ("date", "content-length")}
    assert (answer.status, answer.body, told) == (status, body, headers)
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"])
    assert answer.status != 403


@pytest.mark.parametrize("piece_bytes", [11, 1 << 20])
@in_loop
async def test_pipelined_requests_are_answered_in_order_and_none_is_lost(piece_bytes: int) -> None:
    """Those that wait for the log and those that do not, on one connection, in small pieces and all at once."""
    member = await here()
    cases = [case for case in TABLE if "connection" not in TABLE[case][3]]
    reader, writer = await asyncio.open_connection(HOST, member.port)
    data = b"".join(TABLE[case][0] for case in cases)
    for at in range(0, len(data), piece_bytes):
        writer.write(data[at : at + piece_bytes])
        await asyncio.sleep(0)
    for case in cases:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        assert (int(head.split(b" ")[1]), body) == TABLE[case][1:3], case
    writer.close()
    await member.close()


@in_loop
async def test_a_message_by_post_reaches_raft() -> None:
    member = await here()
    heartbeat = Message(MessageType.HEARTBEAT, OWN, PEER, 3, entries=[])
    for message in (heartbeat, Message(MessageType.HUP, OWN, PEER), Message(MessageType.SNAPSHOT, OWN, PEER, 3)):
        assert (await ask(member.port, raw("POST /raft", member_headers(), encode_message(message)))).status == 204
    assert member.received == [heartbeat]  # the others are raft's own business, or come another way
    await member.close()


@in_loop
async def test_the_version_of_the_cluster_is_told_once_decided() -> None:
    member = await here()
    member.answers.version = "3.5.0"
    answer = await ask(member.port, raw("GET /version"))
    assert answer.body == b'{"etcdserver":"3.5.30","etcdcluster":"3.5.0"}'
    await member.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
@in_loop
async def test_a_probe_is_answered_with_the_time(method: str) -> None:
    member = await here()
    answer = await ask(member.port, raw(f"{method} /raft/probing", body=b""))
    told = json.loads(answer.body)
    assert answer.body.endswith(b"}\n")
    assert told["OK"] is True
    now = datetime.fromisoformat(told["Now"].replace("Z", "+00:00"))
    assert abs((datetime.now(UTC) - now).total_seconds()) < 5
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "x-etcd-cluster-id" not in answer.headers
    await member.close()


@in_loop
async def test_promotion_answers_with_all_members() -> None:
    member = await here()
    member.answers.ready.add(GONE + 1)
    answer = await ask(member.port, raw(f"POST /members/promote/{GONE + 1}", body=b""))
    assert answer.status == 200
    assert answer.body.decode() == MEMBERS_JSON.replace(',"isLearner":true', "")
    await member.close()


@in_loop
async def test_what_only_the_leader_knows_is_refused_elsewhere() -> None:
    member = await here()
    member.answers.leads = False
    answer = await ask(member.port, raw("POST /leases", body=b"\x08\x07"))
    assert (answer.status, answer.body) == (400, b"not a primary lessor\n")
    answer = await ask(member.port, raw(f"POST /members/promote/{GONE + 1}", body=b""))
    assert (answer.status, answer.body) == (500, b'{"message":"Internal Server Error"}')
    assert answer.headers["content-type"] == "application/json"
    await member.close()


@in_loop
async def test_a_member_that_cannot_catch_up_says_so() -> None:
    member = await here()
    member.answers.applied = False
    timed_out = b"waiting for node to catch up its applied index has timed out\n"
    for path, body in (("/leases", b"\x08\x07"), ("/leases/internal", LEASE_LIFE_ASKED)):
        answer = await ask(member.port, raw(f"POST {path}", body=body))
        assert (answer.status, answer.body) == (408, timed_out)
    assert (await ask(member.port, raw("GET /downgrade/enabled"))).status == 500
    answer = await ask(member.port, raw(f"POST /members/promote/{GONE + 1}", body=b""))
    assert (answer.status, answer.body) == (500, b'{"message":"Internal Server Error"}')
    await member.close()


@in_loop
async def test_go_escapes_are_in_the_member_list() -> None:
    member = await here()
    member.answers.listed = [Member(1, ("http://a:1",), False, "<ä&>\u2028", ())]
    answer = await ask(member.port, raw("GET /members"))
    assert answer.body.decode() == '[{"id":1,"peerURLs":["http://a:1"],"name":"\\u003cä\\u0026\\u003e\\u2028"}]\n'
    await member.close()


# Streams


@in_loop
async def test_a_stream_is_open_before_there_is_anything_to_send() -> None:
    member = await here()
    reader, writer = await asyncio.open_connection(HOST, member.port)
    writer.write(raw(f"GET {STREAM}", member_headers()))
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert {"X-Server-Version: 3.5.30", f"X-Etcd-Cluster-Id: {CLUSTER_HEX}", "Transfer-Encoding: chunked"} <= set(lines)
    assert "Content-Length" not in head.decode()
    await member.close()
    assert await reader.read() == b"0\r\n\r\n"  # the stream ends in good order
    writer.close()


@in_loop
async def test_a_stranger_with_our_cluster_id_is_answered_by_post() -> None:
    """A member that joins is known to the leader before it knows the leader from its own log."""
    member = await here()
    other = await Here(UNKNOWN).start()
    headers = member_headers() | {"X-Server-From": f"{UNKNOWN:x}", "X-Peerurls": f"http://127.0.0.1:1,{other.url}"}
    assert (await ask(member.port, raw(f"GET /raft/stream/message/{UNKNOWN:x}", headers))).status == 404
    reply = Message(MessageType.HEARTBEAT_REPLY, UNKNOWN, OWN, 3, entries=[])
    member.transport.send([reply])
    # Its first URL leads nowhere: that message is lost, raft is told, and the next one takes the other URL.
    await until(lambda: member.unreachable == [UNKNOWN], "the dead URL is reported")
    member.transport.send([reply])
    await until(lambda: other.received == [reply], "the stranger has its answer")
    await member.close()
    await other.close()


@in_loop
async def test_strangers_are_few_and_never_removed_ones() -> None:
    member = await here()
    for stranger in (GONE, *range(0x1000, 0x1020)):
        headers = member_headers() | {"X-Server-From": f"{stranger:x}"}
        await ask(member.port, raw("POST /raft", headers, HEARTBEAT))
    assert sorted(member.transport._strangers) == list(range(0x1000, 0x1010))
    await member.close()


# Who does not speak as members do


@in_loop
async def test_garbage_on_the_port_is_answered_400_and_ends() -> None:
    member = await here()
    for data in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"hello\r\n\r\n", b"GET / HTTP/1.1\n\n"):
        reader, writer = await asyncio.open_connection(HOST, member.port)
        writer.write(data)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        writer.close()
    await member.close()


@in_loop
async def test_a_body_that_is_too_long_is_refused_before_it_is_all_there() -> None:
    member = await here()
    reader, writer = await asyncio.open_connection(HOST, member.port)
    writer.write(
        b"POST /leases HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + bytes(SMALL_BODY_BYTES_MAX + 1)
    )
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413 ")
    writer.close()
    await member.close()
    assert member.answers.asked == 0


@in_loop
async def test_a_sender_of_another_cluster_is_refused_before_its_body_and_its_connection_stays() -> None:
    member = await here()
    reader, writer = await asyncio.open_connection(HOST, member.port)
    for _ in range(2):
        writer.write(raw("POST /raft", member_headers(cluster="1"), bytes(1000)))
        assert (await reader.readuntil(b"mismatch\n")).startswith(b"HTTP/1.1 412 ")
    writer.write(raw("POST /raft", member_headers(cluster="1") | {"Content-Length": "500000000"}) + bytes(300 << 10))
    head = await reader.readuntil(b"mismatch\n")
    assert b"Connection: close" in head
    writer.close()
    await member.close()


@in_loop
async def test_a_leader_that_streams_a_snapshot_reads_its_refusal() -> None:
    """The answer must not be lost in a reset because the leader is still sending."""
    member = await here()
    reader, writer = await asyncio.open_connection(HOST, member.port)
    writer.write(raw("POST /raft/snapshot", member_headers() | {"Transfer-Encoding": "chunked"}))
    for _ in range(20):
        writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
        await writer.drain()
    assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 400 Bad Request\r\n"
    await reader.read()
    writer.close()
    await member.close()
    assert member.received == []


@in_loop
async def test_an_idle_connection_is_closed_and_one_that_waits_for_us_is_not() -> None:
    member = await here(Timings(read_timeout_s=0.2))
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(HOST, member.port)
    started = loop.time()
    assert await reader.read() == b""
    assert 0.1 < loop.time() - started < 5
    writer.close()
    reader, writer = await asyncio.open_connection(HOST, member.port)
    writer.write(raw(f"GET {STREAM}", member_headers()))
    await reader.readuntil(b"\r\n\r\n")
    for _ in range(10):
        assert await still_open(reader)
    writer.close()
    await member.close()


@pytest.mark.parametrize("turns", range(6))
@in_loop
async def test_a_connection_that_comes_while_the_port_closes_is_cut(turns: int) -> None:
    member = await here()
    with socket.create_connection((HOST, member.port)) as dialed:
        for _ in range(turns):
            await asyncio.sleep(0)
        await member.close()
        await until(lambda: not member.listener._connections, "nothing is left", deadline_s=2)
        dialed.settimeout(2)
        with suppress(ConnectionResetError):
            assert dialed.recv(1) == b""


@in_loop
async def test_who_asks_without_reading_is_not_answered_without_end() -> None:
    member = await here()
    _, writer = await asyncio.open_connection(HOST, member.port, limit=1024)
    writer.transport.set_write_buffer_limits(high=0)
    request = raw("GET /members") * 100
    await until(lambda: member.listener._connections, "the connection")
    (connection,) = member.listener._connections
    while True:  # until the port reads no more
        writer.write(request)
        try:
            await asyncio.wait_for(writer.drain(), 1.0)
        except TimeoutError:
            break
        assert connection.buffered_bytes() < 1 << 20
    writer.transport.abort()
    await member.close()


def test_the_cluster_id_here_is_the_captured_one() -> None:
    assert f"{CLUSTER:x}" == CLUSTER_HEX
