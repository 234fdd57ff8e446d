"""Requests to other members: kept connections, every wait bounded, and servers that are not what they should be."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from kvorum.peer import dial
from kvorum.peer.dial import Connection, Connections
from kvorum.peer.discovery import Discovery
from kvorum.server.peers import PeerRefused
from kvorum.wire import http1

from tests.unit.kvorum.peer.loopback import HOST, in_loop, until


class Scripted:
    """A server that answers each request with what the script says; None leaves it without an answer."""

    def __init__(self, answer: Callable[[http1.Request], bytes | None]) -> None:
        self.answer = answer
        self.requests: list[http1.Request] = []
        self.connections = 0
        self.writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        http = http1.WholeRequests(body_bytes_max=1 << 20)
        while data := await reader.read(65536):
            for request in http.feed(data):
                assert isinstance(request, http1.Request)
                self.requests.append(request)
                answer = self.answer(request)
                if answer is not None:
                    writer.write(answer)
                if not request.keep_alive or (answer or b"").endswith(b"<close>"):
                    writer.close()
        writer.close()
        self.writers.discard(writer)

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


@asynccontextmanager
async def scripted(answer: Callable[[http1.Request], bytes | None]) -> AsyncIterator[Scripted]:
    script = Scripted(answer)
    server = await asyncio.start_server(script.serve, HOST, 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        script.cut()
        await until(lambda: not script.writers, "connections end")
        await server.wait_closed()


def ok(request: http1.Request) -> bytes:
    return http1.response(200, request.target.encode())


@in_loop
async def test_one_connection_serves_many_requests() -> None:
    async with scripted(ok) as server:
        connections = Connections(dial_timeout_s=5)
        for number in range(5):
            answer = await connections.ask(server.url, "POST", f"/{number}", [("A", "b")], b"body", timeout_s=5)
            assert (answer.status, answer.body) == (200, b"/%d" % number)
        assert server.connections == 1
        assert [request.body for request in server.requests] == [b"body"] * 5
        assert server.requests[0].headers == {"host": f"{HOST}:{server.port}", "a": "b", "content-length": "4"}
        connections.close()


@in_loop
async def test_a_connection_that_was_closed_while_idle_is_replaced_unseen() -> None:
    async with scripted(ok) as server:
        connections = Connections(dial_timeout_s=5)
        for _ in range(3):
            assert (await connections.ask(server.url, "GET", "/", timeout_s=5)).status == 200
            server.cut()  # the answer is there, the reset comes with the next request
        assert server.connections == 3
        connections.close()


@in_loop
async def test_an_answer_that_closes_is_the_last_on_its_connection() -> None:
    async with scripted(lambda request: http1.response(200, b"", keep_alive=False)) as server:
        connections = Connections(dial_timeout_s=5)
        for _ in range(2):
            await connections.ask(server.url, "GET", "/", timeout_s=5)
        assert server.connections == 2
        connections.close()


@in_loop
async def test_an_old_idle_connection_is_not_used() -> None:
    async with scripted(ok) as server:
        connections = Connections(dial_timeout_s=5, idle_s_max=-1.0)
        for _ in range(2):
            await connections.ask(server.url, "GET", "/", timeout_s=5)
        assert server.connections == 2
        connections.close()


@in_loop
async def test_idle_connections_are_few() -> None:
    async with scripted(ok) as server:
        connections = Connections(dial_timeout_s=5)
        await asyncio.gather(*[connections.ask(server.url, "GET", "/", timeout_s=5) for _ in range(10)])
        assert len(connections._idle[server.url]) == dial.IDLE_COUNT_MAX
        connections.close()
        assert connections._idle == {}


@in_loop
async def test_no_answer_is_a_timeout_and_the_connection_is_gone() -> None:
    async with scripted(lambda request: None) as server:
        connection = await Connection.open(server.url, timeout_s=5)
        with pytest.raises(TimeoutError):
            await connection.request("GET", "/", timeout_s=0.05)
        assert not connection.usable
        with pytest.raises(ConnectionError):
            await connection.request("GET", "/", timeout_s=5)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<close>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n",
        b"<close>",
    ],
)
@in_loop
async def test_an_answer_that_is_none_is_a_connection_error(answer: bytes) -> None:
    async with scripted(lambda request: answer) as server:
        connections = Connections(dial_timeout_s=5)
        with pytest.raises(ConnectionError):
            await connections.ask(server.url, "GET", "/", timeout_s=5)
        connections.close()


@in_loop
async def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    async with scripted(lambda request: ok(request) + b"HTTP/1.1 200 OK\r\n\r\n") as server:
        connection = await Connection.open(server.url, timeout_s=5)
        assert (await connection.request("GET", "/", timeout_s=5)).status == 200
        assert not connection.usable
        connection.close()


@pytest.mark.parametrize(
    "url",
    [
        "https://a:1",
        "http://a",
        "unix:///a",
        "a:1",
        "http://:1",
        "http://a:port",
        "http://a..b:1",
        f"http://{'a' * 64}:1",
    ],
)
@in_loop
async def test_a_url_that_cannot_be_dialed_is_an_os_error_that_names_it(url: str) -> None:
    with pytest.raises(OSError, match=re.escape(url)):
        await Connection.open(url, timeout_s=5)


@pytest.mark.parametrize("host", ["\x00", "a b", "a\tb", "\u4f8b", "\xe9", "a\u202eb"])
@in_loop
async def test_a_host_that_no_header_could_name_is_not_dialed(host: str) -> None:
    """Anything but an OSError would end the member, and every time it starts: such a URL stays in the member list."""
    with pytest.raises(OSError, match=r"ASCII|no host"):
        await Connection.open(f"http://{host}:1", timeout_s=5)


@pytest.mark.parametrize(
    ("url", "target", "header"),
    [
        ("http://kv-0.kv:2380", ("kv-0.kv", 2380), "kv-0.kv:2380"),
        ("http://[::1]:2380", ("::1", 2380), "[::1]:2380"),
        ("http://10.0.0.1:2380/", ("10.0.0.1", 2380), "10.0.0.1:2380"),
    ],
)
def test_urls_are_taken_apart(url: str, target: tuple[str, int], header: str) -> None:
    assert dial.host_and_port(url) == target
    assert dial.host_header(url) == header


# Discovery


def answers(table: dict[str, bytes]) -> Callable[[http1.Request], bytes]:
    return lambda request: table.get(request.path, http1.response(404, b"404 page not found\n"))


@in_loop
async def test_the_next_url_is_asked_where_one_does_not_answer_as_a_member() -> None:
    members = http1.response(200, b'[{"id":5,"peerURLs":["http://a:1"],"name":"n"}]\n', [("X-Etcd-Cluster-Id", "bc")])
    nameless = http1.response(200, b"[]\n")
    listless = http1.response(200, b'{"members":[]}', [("X-Etcd-Cluster-Id", "bc")])
    failing = http1.response(500, b"", [("X-Etcd-Cluster-Id", "bc")])
    discovery = Discovery(dial_timeout_s=5, timeout_s=5)
    async with (
        scripted(answers({})) as nobody,
        scripted(answers({"/members": nameless})) as without_id,
        scripted(answers({"/members": listless})) as without_list,
        scripted(answers({"/members": failing})) as broken,
        scripted(answers({"/members": members})) as member,
    ):
        strange = [f"http://{HOST}:1", nobody.url, without_id.url, without_list.url, broken.url]
        seen = await discovery.cluster([*strange, member.url])
        assert (seen.cluster_id, [each.id for each in seen.members]) == (0xBC, [5])
        assert not any(request.headers.get("x-server-from") for request in member.requests)
        with pytest.raises(OSError) as failed:
            await discovery.cluster(strange)
        assert all(url in str(failed.value) for url in strange)
        with pytest.raises(OSError):
            await discovery.cluster([])
        discovery.close()


@in_loop
async def test_versions_are_told_or_not_decided() -> None:
    discovery = Discovery(dial_timeout_s=5, timeout_s=5)
    table = {"/version": http1.response(200, b'{"etcdserver":"3.5.30","etcdcluster":"not_decided"}')}
    async with scripted(answers(table)) as member:
        versions = await discovery.versions([member.url])
        assert (versions.server, versions.cluster) == ("3.5.30", None)
        table["/version"] = http1.response(200, b'{"etcdserver":"3.5.30","etcdcluster":"3.5.0"}')
        assert (await discovery.versions([member.url])).cluster == "3.5.0"
        for bad in (b"[]", b"{}", b"x"):
            table["/version"] = http1.response(200, bad)
            with pytest.raises(OSError):
                await discovery.versions([member.url])
    discovery.close()


@in_loop
async def test_a_leader_that_says_no_is_not_asked_again_at_its_other_url() -> None:
    discovery = Discovery(dial_timeout_s=5, timeout_s=5)
    table = {
        "/leases": http1.response(400, b"not a primary lessor\n"),
        "/leases/internal": http1.response(200, b"\xff"),
    }
    async with scripted(answers(table)) as leader:
        with pytest.raises(PeerRefused) as refused:
            await discovery.renew_lease([leader.url, leader.url], 7)
        assert (refused.value.text, refused.value.not_found) == ("not a primary lessor", False)
        assert len(leader.requests) == 1
        assert leader.requests[0].headers["content-type"] == "application/protobuf"
        with pytest.raises(OSError):
            await discovery.lease_life([leader.url], 7, keys=True)
        with pytest.raises(PeerRefused) as refused:
            await discovery.promote([leader.url], 7)
        assert refused.value.not_found
        assert (leader.requests[-1].target, leader.requests[-1].body) == ("/members/promote/7", b"")
    discovery.close()


@in_loop
async def test_a_promotion_is_never_asked_twice() -> None:
    """A leader that dies with the request may have promoted; who asks again would hear that there is no learner."""
    discovery = Discovery(dial_timeout_s=5, timeout_s=5)
    async with scripted(ok) as leader:
        await discovery.promote([leader.url], 7)
        leader.answer = lambda request: b"<close>"
        with pytest.raises(OSError):
            await discovery.promote([leader.url], 7)
        assert len(leader.requests) == 2
    discovery.close()
