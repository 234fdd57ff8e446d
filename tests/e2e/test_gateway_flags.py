"""What may be asked of the client port over HTTP, by flag: whether there is JSON, of which pages, by which names.

On both engines. What the gateway itself answers is tests/compat/test_gateway.py's.
"""

import http.client
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kit.deadline import wait_until
from tests.kit.processes import Node, Program, etcd_program, kvorum_program

DEADLINE_S = 30.0
FLAGS = ("--cors=http://a:1,https://b:2", "--host-whitelist=localhost,10.0.0.7", "--enable-grpc-gateway=false")


class Answer(NamedTuple):
    status: int
    body: str
    cors: tuple[str, ...]  # values of the headers that tell a browser what a page may do


def ask(node: Node, method: str, path: str, headers: Mapping[str, str]) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", node.client_port, timeout=DEADLINE_S)
    try:
        connection.request(method, path, headers={"Host": "localhost", **headers})
        answer = connection.getresponse()
        told = answer.headers
        names = sorted(name for name in told if name.startswith("Access-Control-"))
        return Answer(answer.status, answer.read().decode(), tuple(f"{name}: {told[name]}" for name in names))
    finally:
        connection.close()


def serves(node: Node) -> bool:
    assert node.alive, node.log_tail()
    try:
        return ask(node, "GET", "/health", {}).status == 200
    except OSError:
        return False


@pytest.fixture
def node(engine: str, tmp_path: Path) -> Iterator[Node]:
    program: Program = etcd_program() if engine == "etcd" else kvorum_program()
    node = Node(program, tmp_path, flags=FLAGS)
    node.start()
    try:
        wait_until(lambda: serves(node), DEADLINE_S, f"{node.describe()} serves")
        yield node
    finally:
        node.kill()


ALLOWED = (
    "Access-Control-Allow-Headers: accept, content-type, authorization",
    "Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE",
)


def test_hosts_origins_and_the_gateway_are_as_the_flags_say(node: Node) -> None:
    for host in ("localhost", "10.0.0.7", "localhost:1", "10.0.0.7:2379"):
        assert ask(node, "GET", "/version", {"Host": host}).status == 200, host
    for host in ("127.0.0.1", f"127.0.0.1:{node.client_port}", "LOCALHOST", "evil.example", "[::1]:7", "localhost."):
        refused = ask(node, "GET", "/version", {"Host": host})
        assert (refused.status, refused.cors) == (421, ()), host
        assert "--host-whitelist" in refused.body
        assert ask(node, "OPTIONS", "/version", {"Host": host}).status == 421, host

    for origin in ("http://a:1", "https://b:2"):
        answer = ask(node, "GET", "/version", {"Origin": origin})
        assert answer.cors == (*ALLOWED, f"Access-Control-Allow-Origin: {origin}")
        preflight = ask(node, "OPTIONS", "/v3/kv/range", {"Origin": origin})
        assert (preflight.status, preflight.body, preflight.cors) == (200, "", answer.cors)
    for origin in ("http://b:2", "http://a", "http://a:1/", "*", "null"):
        assert ask(node, "GET", "/version", {"Origin": origin}).cors == (), origin
    assert ask(node, "GET", "/version", {}).cors == ()

    for path in ("/v3/kv/range", "/v3beta/kv/range", "/v3/nothing"):
        off = ask(node, "POST", path, {})
        assert (off.status, off.body) == (404, "404 page not found\n"), path


def test_without_flags_every_page_may_ask_by_every_name(engine: str, tmp_path: Path) -> None:
    with Node(etcd_program() if engine == "etcd" else kvorum_program(), tmp_path) as node:
        answer = ask(node, "GET", "/health", {"Host": "evil.example", "Origin": "http://anybody"})
        assert (answer.status, answer.cors) == (200, (*ALLOWED, "Access-Control-Allow-Origin: *"))
        assert ask(node, "POST", "/v3/kv/range", {"Host": "evil.example"}).status == 400  # no key
