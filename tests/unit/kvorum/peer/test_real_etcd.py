"""A real etcd of two members, the other of which is our transport with an obedient follower behind it.

etcd can elect itself, commit and serve only if it takes our frames and we take its: every put here is acknowledged
through both. A frame it cannot parse, or a version it cannot read, would end its process.
"""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kvorum.peer.dial import Connections
from kvorum.peer.discovery import Discovery
from kvorum.raft.message import Entry, Message, MessageType
from kvorum.server.peers import PeerRefused
from kvorum.state import membership

from tests.kit.etcd import EtcdMissing
from tests.kit.ports import free_port
from tests.kit.processes import Node, etcd_program
from tests.unit.kvorum.peer.loopback import HOST, Here, in_loop, until

TOKEN = "kvorum-peer-test"


class Follower:
    """Grants every vote, takes every entry, and confirms it at once. No disk: the test outlives it."""

    def __init__(self, here: Here) -> None:
        self.log: dict[int, Entry] = {}
        self.commit = 0
        self.types: set[MessageType] = set()
        self._here = here
        here.take = self.step

    def step(self, messages: list[Message]) -> None:
        replies: list[Message] = []
        for message in messages:
            self.types.add(message.type)
            reply = Message(MessageType.HUP, message.sender, self._here.id, message.term, context=message.context)
            if message.type is MessageType.PRE_VOTE:
                reply.type, reply.context = MessageType.PRE_VOTE_REPLY, b""
            elif message.type is MessageType.VOTE:
                reply.type, reply.context = MessageType.VOTE_REPLY, b""
            elif message.type is MessageType.HEARTBEAT:
                reply.type = MessageType.HEARTBEAT_REPLY
            elif message.type is MessageType.APPEND:
                self.log |= {entry.index: entry for entry in message.entries}
                reply.type, reply.index = MessageType.APPEND_REPLY, message.index + len(message.entries)
            else:
                continue
            self.commit = max(self.commit, message.commit)
            replies.append(reply)
        self._here.transport.send(replies)


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Leader:
    """Leads term 2 without asking: appends, announces commits, takes proposals, answers reads; repeats."""

    def __init__(self, here: Here, follower_id: int) -> None:
        self.log = [
            Entry(1, 1),
            Entry(1, 2),
            Entry(2, 3),
        ]  # two of the bootstrap, which etcd has too, and the leader's own
        self.match = 2
        self.proposals: list[bytes] = []
        self._here = here
        self._to = follower_id
        self._sent = 2
        self._unanswered_ticks = 0
        here.take = self.step

    async def lead(self) -> None:
        while True:
            self._unanswered_ticks += 1
            if self._unanswered_ticks > 10 and self.match < len(self.log):
                self._sent = self.match  # a probe: the stream's state does not fit, so it is a whole message
            heartbeat = Message(MessageType.HEARTBEAT, self._to, self._here.id, 2, commit=self.match)
            self._here.transport.send([heartbeat])
            self.append([])
            await asyncio.sleep(0.05)

    def append(self, data: list[bytes]) -> None:
        self.log += [Entry(2, len(self.log) + 1 + n, each) for n, each in enumerate(data)]
        entries = self.log[self._sent :]
        if entries:
            self._send(entries)
            self._unanswered_ticks = 0

    def _send(self, entries: list[Entry]) -> None:
        index = self._sent
        term = self.log[index - 1].term
        commit = self.match
        self._here.transport.send(
            [Message(MessageType.APPEND, self._to, self._here.id, 2, term, index, entries, commit)]
        )
        self._sent += len(entries)

    def step(self, messages: list[Message]) -> None:
        for message in messages:
            if message.type is MessageType.APPEND_REPLY and not message.reject and message.index > self.match:
                self.match = message.index
                self._send(self.log[self._sent :])  # with nothing new it only announces the commit
            elif message.type is MessageType.PROPOSE:
                self.proposals += [entry.data for entry in message.entries]
                self.append([entry.data for entry in message.entries])
            elif message.type is MessageType.READ_INDEX:
                reply = Message(MessageType.READ_INDEX_REPLY, self._to, self._here.id, 2)
                reply.index, reply.entries = self.match, message.entries
                self._here.transport.send([reply])


class Pair:
    """The etcd process and us."""

    def __init__(self, etcd: Node) -> None:
        self.port = free_port()
        self.etcd = etcd
        own_url = f"http://{HOST}:{self.port}"
        etcd.token = TOKEN
        etcd.initial_cluster = f"n1={etcd.peer_url},f1={own_url}"
        self.members = membership.bootstrap_members([("n1", [etcd.peer_url]), ("f1", [own_url])], TOKEN)
        self.etcd_id = membership.member_id([etcd.peer_url], TOKEN)
        self.own_id = membership.member_id([own_url], TOKEN)
        cluster_id = membership.cluster_id(member.id for member in self.members)
        self.here = Here(self.own_id, cluster_id=cluster_id, url=own_url)
        self.here.answers.listed = self.members
        self.follower = Follower(self.here)
        self.client = Connections(dial_timeout_s=2)
        self.discovery = Discovery(dial_timeout_s=2, timeout_s=5)

    def meet(self) -> None:
        self.etcd.start()
        self.here.transport.add_peer(self.etcd_id, [self.etcd.peer_url])

    async def ask(self, path: str, **body: object) -> dict[str, object]:
        """etcd's JSON gateway on its client port."""
        headers = [("Content-Type", "application/json")]
        encoded = json.dumps(body).encode()
        answer = await self.client.ask(self.etcd.endpoint, "POST", path, headers, encoded, timeout_s=10)
        assert answer.status == 200, (path, answer)
        decoded = json.loads(answer.body)
        assert isinstance(decoded, dict)
        return decoded

    async def put(self, key: str, value: str) -> None:
        await self.ask("/v3/kv/put", key=base64_of(key), value=base64_of(value))

    async def serving(self) -> None:
        await until(lambda: self.follower.commit >= 3, "etcd leads and has committed its first entry")
        await until(lambda: "ready to serve client requests" in self.etcd.log(), "etcd serves")

    async def close(self) -> None:
        assert self.etcd.alive, self.etcd.describe()
        await self.here.close()
        self.client.close()
        self.discovery.close()


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Node]:
    try:
        program = etcd_program()
    except EtcdMissing as missing:
        pytest.skip(f"NOT RUN: {missing}")
    flags = ("--heartbeat-interval=50", "--election-timeout=500", "--strict-reconfig-check=false")
    node = Node(program, tmp_path, "n1", flags=flags)
    yield node
    node.kill()


@pytest.mark.parametrize("etcd_reaches_us", [True, False], ids=["by streams", "by posts"])
@in_loop
async def test_etcd_leads_commits_and_serves_with_us_as_its_quorum(etcd: Node, etcd_reaches_us: bool) -> None:
    """Where etcd cannot dial us it has no streams to carry what we say: all of it goes by POST /raft."""
    pair = Pair(etcd)
    if etcd_reaches_us:
        await pair.here.start(pair.port)
    pair.meet()
    await pair.serving()
    for number in range(50):
        await pair.put(f"key {number}", "x" * 1000)
    await pair.put("large", "y" * (1 << 20))
    data = b"".join(entry.data for entry in pair.follower.log.values())
    assert all(b"key %d" % number in data for number in range(50))
    assert b"y" * (1 << 20) in data
    # In one piece: from the entry after those that both members have from the bootstrap.
    assert sorted(pair.follower.log) == list(range(3, max(pair.follower.log) + 1))
    assert {MessageType.APPEND, MessageType.HEARTBEAT} <= pair.follower.types
    assert pair.here.transport.active_since(pair.etcd_id) is not None
    log = etcd.log()
    established = log.count("established TCP streaming connection with remote peer")
    if etcd_reaches_us:
        assert established >= 4  # two that it dialed, two that we did
        assert pair.here.unreachable == []
    assert "panic" not in log
    await pair.close()


@in_loop
async def test_etcd_follows_us(etcd: Node) -> None:
    """Its puts come to us as proposals and go back as entries; one frame it could not read would end its process."""
    pair = Pair(etcd)
    await pair.here.start(pair.port)
    leader = Leader(pair.here, pair.etcd_id)
    pair.meet()
    leading = asyncio.create_task(leader.lead())
    await until(
        lambda: "ready to serve client requests" in etcd.log(), "etcd serves: it has published and read through us"
    )
    for number in range(50):
        await pair.put(f"key {number}", "x" * 1000)
    await asyncio.gather(*[pair.put(f"burst {number}", "z" * 100) for number in range(100)])
    await pair.put("large", "y" * (1 << 20))
    found = await pair.ask("/v3/kv/range", key=base64_of("key"), range_end=base64_of("kez"), count_only=True)
    assert found["count"] == "50"
    found = await pair.ask("/v3/kv/range", key=base64_of("large"))
    assert len(json.dumps(found)) > 1 << 20
    log = etcd.log()
    assert "lost TCP streaming connection" not in log
    assert "became follower at term 2" in log
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    await pair.close()


@in_loop
async def test_etcd_s_answers_are_understood(etcd: Node) -> None:
    pair = Pair(etcd)
    pair.here.answers.version = "3.5.0"
    await pair.here.start(pair.port)
    pair.meet()
    await pair.serving()
    urls = ["http://127.0.0.1:1", etcd.peer_url]
    seen = await pair.discovery.cluster(urls)
    assert seen.cluster_id == pair.here.transport.identity.cluster_id
    assert [(member.id, member.name, member.peer_urls) for member in seen.members] == [
        (member.id, member.name, member.peer_urls) for member in pair.members
    ]
    by_id = {member.id: member for member in seen.members}
    assert by_id[pair.etcd_id].client_urls == (etcd.endpoint,)
    assert by_id[pair.own_id].client_urls == ()
    versions = await pair.discovery.versions(urls)
    assert versions.server.startswith("3.5.")
    await pair.ask("/v3/lease/grant", ID="77", TTL="600")
    await pair.ask("/v3/kv/put", key=base64_of("k"), lease="77")
    assert await pair.discovery.renew_lease(urls, 77) == 600
    life = await pair.discovery.lease_life(urls, 77, keys=True)
    assert (life.granted_s, life.keys) == (600, (b"k",))
    assert 590 < life.ttl_s <= 600
    assert (await pair.discovery.lease_life(urls, 77, keys=False)).keys == ()
    for question in (pair.discovery.renew_lease(urls, 78), pair.discovery.lease_life(urls, 78, keys=True)):
        with pytest.raises(PeerRefused) as refused:
            await question
        assert (refused.value.text, refused.value.not_found) == ("lease not found", True)
    with pytest.raises(PeerRefused) as refused:
        await pair.discovery.promote(urls, pair.own_id)
    assert refused.value.text == "membership: can only promote a learner member"
    with pytest.raises(PeerRefused) as refused:
        await pair.discovery.promote(urls, 5)
    assert (refused.value.text, refused.value.not_found) == ("membership: ID not found", True)
    await pair.close()


@in_loop
async def test_etcd_tells_us_that_we_were_removed(etcd: Node) -> None:
    pair = Pair(etcd)
    await pair.here.start(pair.port)
    pair.meet()
    await pair.serving()
    # Through the log, with our vote; etcd closes our streams as it applies it.
    await pair.ask("/v3/cluster/member/remove", ID=str(pair.own_id))
    await until(lambda: pair.here.removals, "410 on the next dial")
    await pair.put("alone", "now")
    await pair.close()


@in_loop
async def test_a_restart_of_either_side_heals(etcd: Node) -> None:
    pair = Pair(etcd)
    await pair.here.start(pair.port)
    pair.meet()
    await pair.serving()
    await pair.put("before", "1")
    await asyncio.to_thread(etcd.kill)
    await until(lambda: pair.here.transport.active_since(pair.etcd_id) is None, "we notice")
    etcd.start()
    await until(lambda: pair.here.transport.active_since(pair.etcd_id) is not None, "we find it again")
    committed = pair.follower.commit
    await until(lambda: pair.follower.commit > committed, "it leads again with our vote")
    # And we go away and come back while it runs.
    await pair.here.listener.close()
    pair.here.transport.remove_peer(pair.etcd_id)
    pair.here.transport.add_peer(pair.etcd_id, [etcd.peer_url])
    await pair.here.restart_listener(pair.port)
    await pair.put("after", "2")
    await pair.close()
