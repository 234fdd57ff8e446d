"""Line 6 of the peer protocol's test plan: a fake peer sends every request that members know, well and badly formed,
to the peer port of a whole etcd and of a whole node of ours that hold the same; status, headers and body must be equal,
and what the protocol says.

Both are started on the same ports one after the other, so that ids, which are made of URLs, are equal too.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
from kvorum.client import Client, ClientError
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.raft.message import Message, MessageType
from kvorum.storage.entry_codec import encode_message

from tests.kit.deadline import wait_until_async
from tests.kit.processes import Node, Program

ANSWER_S = 30.0
LEASE = 0x0EEE_0000_0000_0077
TOKEN = "requests"
# Dates and lengths say nothing, and the last is what our nodes tell each other by.
NOT_COMPARED = {"date", "content-length", "x-kvorum-version"}


@dataclass
class Setting:
    """A cluster of one that knows of a learner who never came and of one who was removed."""

    node: Node
    own: int
    cluster: str
    peer: int
    gone: int

    def headers(self, **changed: str | None) -> dict[str, str]:
        """What a member sends with all that is about raft; None leaves a header out."""
        usual: dict[str, str | None] = {
            "cluster": self.cluster,
            "sender": f"{self.peer:x}",
            "version": "3.5.30",
            "least": "3.0.0",
            "urls": "http://127.0.0.1:9",
            "to": f"{self.own:x}",
        }
        names = {
            "cluster": "X-Etcd-Cluster-Id",
            "sender": "X-Server-From",
            "version": "X-Server-Version",
            "least": "X-Min-Cluster-Version",
            "urls": "X-Peerurls",
            "to": "X-Raft-To",
        }
        return {names[name]: value for name, value in (usual | changed).items() if value is not None}

    def message(self, kind: MessageType, *, to: int = 0, sender: int = 0, **fields: object) -> bytes:
        return encode_message(Message(kind, to or self.own, sender or self.peer, 0, **fields))  # type: ignore[arg-type]  # by name

    def named(self, text: str) -> str:
        """Without what is another one at each run: the id of who was added, which is made of the time."""
        names = {self.peer: "PEER", self.gone: "GONE"}
        if text.startswith("[{"):  # members, in the order of their ids
            text = json.dumps(sorted(json.loads(text), key=lambda member: str(member["peerURLs"])))
        for number, name in names.items():
            text = text.replace(f"{number:x}", name).replace(str(number), name)
        return re.sub(r'"Now":"[^"]+"', '"Now":"TIME"', text)


@dataclass(frozen=True)
class Answer:
    """headers: without Date and Content-Length. ends: whether the connection was closed after it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str
    ends: bool


def raw(line: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> bytes:
    fields = {"Host": "127.0.0.1", **(headers or {})}
    if body is not None:
        fields["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{line} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")


Row = tuple[Callable[[Setting], bytes], int, str]


def stream(kind: str = "message", name: str | None = None, **changed: str | None) -> Callable[[Setting], bytes]:
    return lambda at: raw(f"GET /raft/stream/{kind}/{f'{at.peer:x}' if name is None else name}", at.headers(**changed))


def posted(body: Callable[[Setting], bytes], path: str = "/raft", **changed: str | None) -> Callable[[Setting], bytes]:
    return lambda at: raw(f"POST {path}", at.headers(**changed), body(at))


def plain(line: str, body: bytes | None = None) -> Callable[[Setting], bytes]:
    return lambda _: raw(line, None, body)


def heartbeat(at: Setting) -> bytes:
    return at.message(MessageType.HEARTBEAT)


def snapshot_body(at: Setting) -> bytes:
    """Of a message of another kind, with its length in front."""
    message = heartbeat(at)
    return len(message).to_bytes(8, "big") + message


# Request; status and body, as the protocol's tables have them (1.1 and 1.4).
TABLE: dict[str, Row] = {
    "unknown path": (plain("GET /nosuch"), 404, "404 page not found\n"),
    "version": (plain("GET /version"), 200, '{"etcdserver":"3.5.30","etcdcluster":"3.5.0"}'),
    "version by POST": (plain("POST /version", b""), 405, "Method Not Allowed\n"),
    "members by PUT": (plain("PUT /members", b""), 405, "Method Not Allowed\n"),
    "members/": (plain("GET /members/"), 404, "404 page not found\n"),
    "probe": (plain("GET /raft/probing"), 200, '{"OK":true,"Now":"TIME"}\n'),
    "promote nobody": (plain("POST /members/promote/1", b""), 404, "membership: ID not found\n"),
    "promote a word": (plain("POST /members/promote/n4", b""), 404, "member n4 not found in cluster\n"),
    "promote a voter": (
        lambda at: raw(f"POST /members/promote/{at.own}", None, b""),
        412,
        "membership: can only promote a learner member\n",
    ),
    "promote one that is behind": (
        lambda at: raw(f"POST /members/promote/{at.peer}", None, b""),
        412,
        "etcdserver: can only promote a learner member which is in sync with leader\n",
    ),
    "promote by GET": (plain("GET /members/promote/1"), 405, "Method Not Allowed\n"),
    "hash of the future": (
        plain("GET /members/hashkv", b'{"revision":99}'),
        400,
        "mvcc: required revision is a future revision\n",
    ),
    "hash of the past": (
        plain("GET /members/hashkv", b'{"revision":2}'),
        400,
        "mvcc: required revision has been compacted\n",
    ),
    "hash of nothing": (plain("GET /members/hashkv", b"x"), 400, "error unmarshalling request\n"),
    "hash by POST": (plain("POST /members/hashkv", b"{}"), 405, "Method Not Allowed\n"),
    "hash for another cluster": (
        lambda _: raw("GET /members/hashkv", {"X-Etcd-Cluster-ID": "1"}, b"{}"),
        412,
        "cluster ID mismatch\n",
    ),
    "renew nothing": (plain("POST /leases", b"\x08\x07"), 404, "lease not found\n"),
    "renew by GET": (plain("GET /leases"), 405, "Method Not Allowed\n"),
    "renew garbage": (plain("POST /leases", b"\xff"), 400, "error unmarshalling request\n"),
    "life of nothing": (plain("POST /leases/internal", bytes.fromhex("0a020807")), 404, "lease not found\n"),
    "life by GET": (plain("GET /leases/internal"), 405, "Method Not Allowed\n"),
    "life of garbage": (plain("POST /leases/internal", b"\xff"), 400, "error unmarshalling request\n"),
    "downgrade": (plain("GET /downgrade/enabled"), 200, "false"),
    "downgrade by POST": (plain("POST /downgrade/enabled", b""), 405, "Method Not Allowed\n"),
    "message": (posted(heartbeat), 204, ""),
    "message of a later version": (posted(heartbeat, version="4.1.0"), 204, ""),
    "message of raft's own": (posted(lambda at: at.message(MessageType.HUP)), 204, ""),
    "message by GET": (plain("GET /raft"), 405, "Method Not Allowed\n"),
    "message without headers": (plain("POST /raft", b"x"), 412, "incompatible version\n"),
    "message of an old version": (posted(heartbeat, version="2.3.8"), 412, "incompatible version\n"),
    "message without a version": (posted(heartbeat, version=None), 412, "incompatible version\n"),
    "message of a later cluster": (posted(heartbeat, least="3.6.0"), 412, "incompatible version\n"),
    "message for another cluster": (posted(heartbeat, cluster="f17f1b424cd6018e"), 412, "cluster ID mismatch\n"),
    "garbage for a message": (posted(lambda _: b"x"), 400, "error unmarshalling raft message\n"),
    "message for another member": (
        posted(lambda at: at.message(MessageType.HEARTBEAT, to=at.own + 1)),
        500,
        "error processing raft message\n",
    ),
    "message of a removed member": (
        posted(lambda at: at.message(MessageType.HEARTBEAT, sender=at.gone)),
        500,
        "error processing raft message\n",
    ),
    "snapshot by GET": (plain("GET /raft/snapshot"), 405, "Method Not Allowed\n"),
    "snapshot for another cluster": (
        posted(snapshot_body, "/raft/snapshot", cluster="1"),
        412,
        "cluster ID mismatch\n",
    ),
    "snapshot of no version": (posted(snapshot_body, "/raft/snapshot", version=None), 412, "incompatible version\n"),
    "snapshot that is another message": (
        posted(snapshot_body, "/raft/snapshot"),
        400,
        "wrong raft message type\n",
    ),
    "snapshot that is too short": (
        posted(lambda _: (100).to_bytes(8, "big") + bytes(9), "/raft/snapshot"),
        400,
        "failed to decode raft message (unexpected EOF)\n",
    ),
    "stream of messages": (stream(), 200, ""),
    "stream of appends": (stream("msgapp"), 200, ""),
    "stream by POST": (
        lambda at: raw(f"POST /raft/stream/message/{at.peer:x}", at.headers(), b""),
        405,
        "Method Not Allowed\n",
    ),
    "stream of nobody known": (stream(name="abc", urls=None), 404, "error sender not found\n"),
    "stream of one removed": (
        lambda at: raw(f"GET /raft/stream/msgapp/{at.gone:x}", at.headers()),
        410,
        "removed member\n",
    ),
    "stream of no id": (stream(name="n1"), 404, "invalid from\n"),
    "stream of another kind": (stream("msgappv2"), 404, "invalid path\n"),
    "stream to another member": (stream(to="b0046e73a70a4082"), 412, "to field mismatch\n"),
    "stream to nobody": (stream(to=None), 412, "to field mismatch\n"),
    "stream of another cluster": (stream(cluster="1"), 412, "cluster ID mismatch\n"),
    "stream of no version": (stream(version=None), 412, "incompatible version\n"),
    "stream of an old version": (stream(version="2.9.0"), 412, "incompatible version\n"),
}
# The same, with bodies that hold what is another number in each cluster.
WITHOUT_BODY: dict[str, tuple[Callable[[Setting], bytes], int]] = {
    "members": (plain("GET /members"), 200),
    "hash": (plain("GET /members/hashkv", b'{"revision":5}'), 200),
    "hash of all": (plain("GET /members/hashkv", b"{}"), 200),
    "renew": (plain("POST /leases", rpc.LeaseKeepAliveRequest(ID=LEASE).SerializeToString()), 200),
}


async def ask(port: int, request: bytes) -> tuple[int, dict[str, str], bytes, bool]:
    """The answer to one request on a connection of its own; of a stream the head only."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(ANSWER_S):
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *fields = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
            body = b""
            if "content-length" in headers:
                body = await reader.readexactly(int(headers["content-length"]))
            elif status_of(line) != 204 and not is_stream(line):
                body = without_chunks(await reader.read())
            ends = "content-length" not in headers and bool(body)
            if headers.get("connection") == "close":
                ends = await reader.read(1) == b""
        return status_of(line), headers, body, ends
    finally:
        writer.transport.abort()


def status_of(line: str) -> int:
    return int(line.split(" ")[1])


def is_stream(line: str) -> bool:
    return status_of(line) == 200  # of those without a length


def without_chunks(data: bytes) -> bytes:
    """As many chunks as came before the connection was cut."""
    body = b""
    while data:
        length, _, data = data.partition(b"\r\n")
        size = int(length, 16)
        body, data = body + data[:size], data[size + 2 :]
    return body


async def answers(program: Program, at: Node) -> dict[str, Answer]:
    """To every request, by a fresh member of this program."""
    at.program = program
    at.wipe()
    with at:
        setting = await furnished(at)
        said: dict[str, Answer] = {}
        rows: list[tuple[str, Callable[[Setting], bytes]]] = [(name, row[0]) for name, row in TABLE.items()]
        rows += [(name, each[0]) for name, each in WITHOUT_BODY.items()]
        for name, make in rows:
            status, headers, body, ends = await ask(at.peer_port, make(setting))
            kept = {k: v for k, v in headers.items() if k not in NOT_COMPARED}
            said[name] = Answer(
                status,
                tuple(sorted((k, setting.named(v)) for k, v in kept.items())),
                setting.named(body.decode("latin-1")),
                ends,
            )
        assert at.alive, f"{at.describe()} ended\n{at.log_tail()}"
    return said


async def furnished(at: Node) -> Setting:
    async with Client([at.endpoint], timeout_s=10) as client:
        status = await client.status()

        async def decided() -> bool:
            return (at.read_version() or {}).get("etcdcluster") == "3.5.0"

        await wait_until_async(decided, ANSWER_S, "the cluster's version is decided")
        for value in (b"1", b"2", b"3", b"4"):
            await client.put(b"a", value)
        await client.lease_grant(600, LEASE)
        await client.compact(3, physical=True)

        async def added(url: str) -> int:
            async def once() -> int:
                try:
                    return (await client.member_add([url], learner=True)).id
                except ClientError as refusal:
                    if "unhealthy cluster" not in refusal.text:
                        raise
                    return 0

            return await wait_until_async(once, ANSWER_S, "a learner is added")

        gone = await added("http://127.0.0.1:10")
        await client.member_remove(gone)
        peer = await added("http://127.0.0.1:9")
        return Setting(at, status.member_id, f"{status.cluster_id:x}", peer, gone)


@pytest.fixture(scope="module")
def said(
    reference: Program, subject: Program, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Answer]]:
    node = Node(
        reference,
        tmp_path_factory.mktemp("requests"),
        token=TOKEN,
        flags=("--heartbeat-interval=50", "--election-timeout=500"),
    )
    return {engine: asyncio.run(answers(program, node)) for engine, program in (("etcd", reference), ("ours", subject))}


@pytest.mark.parametrize("case", TABLE)
def test_the_port_of_a_whole_node_answers_as_the_table_and_as_etcd(
    case: str, said: dict[str, dict[str, Answer]]
) -> None:
    _, status, body = TABLE[case]
    etcd, ours = said["etcd"][case], said["ours"][case]
    assert (etcd.status, etcd.body) == (status, body)
    if status == 500:
        # etcd aborts its handler, which shows as a body without an end; ours says that the connection ends.
        assert (ours.status, ours.body, ours.ends, etcd.ends) == (status, body, True, True)
    elif case.startswith("snapshot that"):
        # ours does not read on what it has refused, and says that the connection ends.
        headers = tuple(header for header in ours.headers if header != ("connection", "close"))
        assert (ours.status, ours.body, headers) == (status, body, etcd.headers)
    else:
        assert ours == etcd


@pytest.mark.parametrize("case", WITHOUT_BODY)
def test_what_is_told_in_numbers_is_told_alike(case: str, said: dict[str, dict[str, Answer]]) -> None:
    etcd, ours = said["etcd"][case], said["ours"][case]
    assert etcd.status == WITHOUT_BODY[case][1]
    assert ours == etcd
