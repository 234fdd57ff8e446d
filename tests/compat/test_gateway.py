"""The JSON gateway beside a real etcd's: a table of requests, streams, locks and elections, and random requests.

KVORUM_SEED=n repeats the random part, whose seed is printed; a long run of it is
`python -m tests.compat.differential.gateway`. Bodies of errors have the fields of both versions of grpc-gateway here,
and the compared etcd's have those of one.
"""

import asyncio
import base64
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from tests.compat.differential import gateway
from tests.kit.deadline import wait_until
from tests.kit.gateway import DEADLINE_S, Answer, ask, key, keys_below, leased, plain, told_of, waits
from tests.kit.processes import Node, Program

OPERATIONS = 500
MIB = 1 << 20


class Pair(NamedTuple):
    reference: Node
    subject: Node


@pytest.fixture(scope="module")
def pair(reference: Program, subject: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """One of each, for all tests here: they do the same to both."""
    folder = tmp_path_factory.mktemp("gateway")
    with Node(reference, folder / "reference") as left, Node(subject, folder / "subject") as right:
        yield Pair(left, right)


def same(pair: Pair, path: str, body: str | bytes = "", **more: Any) -> Answer:
    """The answer of both."""
    left, right = (ask(node, path, body, **more) for node in pair)
    assert right == left, f"{path} {body!r:.500}"
    return left


def table() -> list[tuple[str, str]]:
    """Paths and bodies of testdata/gateway.txt."""
    lines = (Path(__file__).parent / "testdata" / "gateway.txt").read_text("utf-8").splitlines()
    return [(path, body) for path, _, body in (line.partition(" ") for line in lines if not line.startswith("#"))]


def test_each_path_is_answered_as_by_etcd(pair: Pair) -> None:
    asked = [(f"/{version}/{path}", body, "POST") for version in ("v3", "v3beta") for path, body in table()]
    for path in sorted({path for path, _ in table()}):
        asked += [(f"/v3/{path}", "", method) for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")]
    different = []
    for path, body, method in asked:
        left, right = (ask(node, path, body, method=method) for node in pair)
        if right != left:
            different.append(f"{method} {path} {body}\n  {left}\n  {right}")
    assert different == []


def test_headers_reach_the_call(pair: Pair) -> None:
    body = '{"key":"Zm9v"}'
    assert same(pair, "/v3/kv/range", body, headers={"Grpc-Timeout": "5S"}).status == 200
    assert same(pair, "/v3/kv/range", body, headers={"Grpc-Timeout": "soon"}).status == 400
    for header in ("Authorization", "Grpc-Metadata-Token", "Grpc-Metadata-hasleader", "Origin", "Accept"):
        assert same(pair, "/v3/kv/range", body, headers={header: "true"}).status == 200
    for content_type in ("text/plain", "application/json; charset=utf-8", "application/x-www-form-urlencoded"):
        assert same(pair, "/v3/kv/range", body, headers={"Content-Type": content_type}).status == 200


def test_a_hash_is_there_for_who_asks(pair: Pair) -> None:
    """Not etcd's: that is one of its file, equal on no two of them by rule."""
    for node in pair:
        told = [ask(node, "/v3/maintenance/hash").told for _ in range(2)]
        assert told[0] == told[1]
        assert isinstance(told[0], list)
        assert sorted(told[0][0]) == ["hash", "header"]
        assert isinstance(told[0][0]["hash"], int)


def test_what_is_too_large_is_refused(pair: Pair) -> None:
    for size in (MIB, 3 * MIB // 2 + 1000, 2 * MIB + 1000):
        body = json.dumps({"key": "Zm9v", "value": key("x" * size)})
        same(pair, "/v3/kv/put", body)


# Streams


@contextmanager
def stream(node: Node, path: str, body: str, headers: Mapping[str, str] | None = None) -> Iterator[Iterator[bytes]]:
    """The chunks of an answer, each as it came, without those of the connection's end."""
    with socket.create_connection(("127.0.0.1", node.client_port), timeout=DEADLINE_S) as connection:
        fields = {"Host": "localhost", "Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        connection.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n{body}".encode())
        with connection.makefile("rb") as file:
            assert file.readline().startswith(b"HTTP/1.1 200 OK")
            fields = {}
            while (line := file.readline()) != b"\r\n":
                name, _, value = line.decode().partition(":")
                fields[name.lower()] = value.strip()
            assert fields["transfer-encoding"] == "chunked"
            assert fields["content-type"] == "application/json"
            assert fields["grpc-metadata-content-type"] == "application/grpc"

            def chunks() -> Iterator[bytes]:
                while size := int(file.readline(), 16):
                    yield file.read(size)
                    assert file.readline() == b"\r\n"

            yield chunks()


def watching(**create: Any) -> str:
    return json.dumps({"create_request": create})


def test_a_watch_tells_each_document_in_a_chunk_of_its_own(pair: Pair) -> None:
    told = []
    for node in pair:
        with stream(node, "/v3/watch", watching(key=key("w"), range_end=key("x"), prev_kv=True)) as chunks:
            first = json.loads(next(chunks))
            seen = [first["result"].pop("created"), list(first["result"])]
            for path, body in (
                ("put", {"key": key("w1"), "value": "MQ=="}),
                ("put", {"key": key("w1"), "value": "Mg=="}),
                ("deleterange", {"key": key("w1")}),
            ):
                ask(node, f"/v3/kv/{path}", json.dumps(body))
                chunk = next(chunks)
                assert chunk.endswith(b"}\n"), chunk
                events = plain(json.loads(chunk))["result"]["events"]
                seen.append(re.sub(r'_revision": "\d+"', "", json.dumps(events)))
            told.append(seen)
    assert told[0] == told[1]


def test_one_request_may_hold_several_documents(pair: Pair) -> None:
    body = (
        watching(key=key("several"), watch_id=5)
        + watching(key=key("several"), watch_id="5")
        + '{"cancel_request":{"watch_id":5}}'
        + watching(key=key("b"), range_end=key("a"))
        + watching(key=key("b"), start_revision=-1)
        + watching(key=key("b"))
    )
    told = []
    for node in pair:
        with stream(node, "/v3/watch", body) as chunks:
            told.append([plain(json.loads(next(chunks))) for _ in range(6)])
    assert told[0] == told[1]
    assert told[0][1]["result"]["cancel_reason"].startswith("mvcc: duplicate watch ID")


def test_a_compacted_revision_ends_the_watch_and_not_the_stream(pair: Pair) -> None:
    told = []
    for node in pair:
        revision = ask(node, "/v3/kv/put", f'{{"key":"{key("c")}"}}').told[0]["header"]["revision"]  # type: ignore[index]  # JSON
        ask(node, "/v3/kv/compaction", json.dumps({"revision": revision}))
        with stream(node, "/v3/watch", watching(key=key("c"), start_revision="1")) as chunks:
            documents = [plain(json.loads(next(chunks)))["result"] for _ in range(2)]
            assert documents[1]["compact_revision"] == revision
            told.append([sorted(document) for document in documents])
    assert told[0] == told[1]


def test_a_watch_lasts_until_its_client_goes(pair: Pair) -> None:
    node = pair.subject
    before = watchers(node)
    with stream(node, "/v3/watch", watching(key=key("gone"))) as chunks:
        assert b"created" in next(chunks)
        assert watchers(node) == before + 1
    wait_until(lambda: watchers(node) == before, DEADLINE_S, "the watch ends with its client")


def watchers(node: Node) -> int:
    text = ask(node, "/metrics", method="GET").told
    assert isinstance(text, bytes)
    found = re.search(rb"^etcd_debugging_mvcc_watcher_total (\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_a_snapshot_is_the_database_with_its_hash(pair: Pair) -> None:
    for node in pair:
        with stream(node, "/v3/maintenance/snapshot", "{}") as chunks:
            told = list(chunks)
        if node is pair.subject:  # of what is long, etcd makes several chunks
            assert all(chunk.endswith(b"}\n") and chunk.count(b"\n") == 1 for chunk in told)
        pieces = [json.loads(line)["result"] for line in b"".join(told).splitlines()]
        data = b"".join(base64.b64decode(piece.get("blob", "")) for piece in pieces)
        assert len(data) % 512 == 32
        assert hashlib.sha256(data[:-32]).digest() == data[-32:]
        left = [int(piece.get("remaining_bytes", 0)) for piece in pieces]
        assert left == sorted(left, reverse=True)
        assert left[-1] == 0


def test_curl_reads_a_watch(pair: Pair) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("NOT RUN: there is no curl here")
    told = []
    for node in pair:
        ask(node, "/v3/kv/put", json.dumps({"key": key("curl"), "value": "MQ=="}))
        run = subprocess.run(
            [curl, "--silent", "--no-buffer", "--max-time", "1", "--noproxy", "*", f"{node.endpoint}/v3/watch"]
            + ["--data", watching(key=key("curl"), start_revision="1")],
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert run.returncode == 28, run  # its time was over, and the stream was not
        told.append([sorted(json.loads(line)["result"]) for line in run.stdout.splitlines()])
    assert told[0] == told[1]


# WebSocket


async def said_over(node: Node, path: str, messages: Sequence[str], answers_count: int) -> list[object]:
    """What comes back over a WebSocket: documents, and None where the server ends it."""
    told: list[object] = []
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{node.endpoint}{path}", max_msg_size=0) as socket,
    ):
        for message in messages:
            await socket.send_str(message)
        while len(told) < answers_count:
            answer = await socket.receive(timeout=DEADLINE_S)
            told.append(plain(answer.json()) if answer.type is aiohttp.WSMsgType.TEXT else None)
    return told


@pytest.mark.parametrize(
    ("path", "messages", "answers_count"),
    [
        ("watch", ['{"create_request":{"key":"d3M=","watch_id":3}}', '{"cancel_request":{"watch_id":"3"}}'], 2),
        ("lease/keepalive", ['{"ID":1}{"ID":2}', '{"ID":3}'], 3),
        ("kv/range", ['{"key":"d3M="}', "not looked at"], 2),
        ("kv/put", [json.dumps({"key": "d3M=", "value": "AAAA" * 50_000})], 2),
    ],
)
def test_websockets_are_answered_as_by_etcd(pair: Pair, path: str, messages: list[str], answers_count: int) -> None:
    for version in ("v3", "v3beta"):
        left, right = (asyncio.run(said_over(node, f"/{version}/{path}", messages, answers_count)) for node in pair)
        assert without_revisions(left) == without_revisions(right)


def without_revisions(document: Any) -> Any:
    return re.sub(r'"revision": "\d+"', "", json.dumps(document))


def test_a_watch_over_websocket_ends_with_its_client(pair: Pair) -> None:
    before = watchers(pair.subject)

    async def watch() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{pair.subject.endpoint}/v3/watch") as socket,
        ):
            await socket.send_str(watching(key=key("ws")))
            assert "created" in (await socket.receive_json(timeout=DEADLINE_S))["result"]
            assert await asyncio.to_thread(watchers, pair.subject) == before + 1

    asyncio.run(watch())
    wait_until(lambda: watchers(pair.subject) == before, DEADLINE_S, "the watch ends with its client")


# Locks and elections


def test_a_lock_goes_from_one_to_the_next_in_order(pair: Pair) -> None:
    stories = []
    for node in pair:
        leased(node, 17, 18, 19)
        with ThreadPoolExecutor(2) as pool:
            story = [told_of(ask(node, "/v3/lock/lock", json.dumps({"name": key("lock"), "lease": 17})))]
            story.append(told_of(ask(node, "/v3/lock/lock", json.dumps({"name": key("lock"), "lease": "17"}))))
            waiting = []
            for count, lease in ((2, 18), (3, 19)):
                body = json.dumps({"name": key("lock"), "lease": lease})
                waiting.append(pool.submit(ask, node, "/v3/lock/lock", body))
                waits(node, "lock", count)
            assert not waiting[0].done()
            story.append(told_of(ask(node, "/v3/lock/unlock", json.dumps({"key": story[0]["key"]}))))
            story.append(told_of(waiting[0].result(DEADLINE_S)))
            assert not waiting[1].done()
            ask(node, "/v3/lease/revoke", '{"ID":18}')  # whoever loses its lease loses the lock
            story.append(told_of(waiting[1].result(DEADLINE_S)))
            assert len(keys_below(node, "lock")) == 1
        stories.append(story)
    assert stories[0] == stories[1]


def test_whoever_waits_and_loses_its_lease_hears_of_it_when_its_turn_comes(pair: Pair) -> None:
    for node in pair:
        leased(node, 27, 28)
        held = told_of(ask(node, "/v3/lock/lock", json.dumps({"name": key("expires"), "lease": 27})))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(ask, node, "/v3/lock/lock", json.dumps({"name": key("expires"), "lease": 28}))
            waits(node, "expires", 2)
            ask(node, "/v3/lease/revoke", '{"ID":28}')
            ask(node, "/v3/lock/unlock", json.dumps({"key": held["key"]}))
            assert waiting.result(DEADLINE_S)[::2] == (500, (2, "mutex: session is expired"))


def test_a_call_ends_when_the_client_said_it_would_wait_no_longer(pair: Pair) -> None:
    for node in pair:
        leased(node, 57, 58)
        ask(node, "/v3/lock/lock", json.dumps({"name": key("timeout"), "lease": 57}))
    body = json.dumps({"name": key("timeout"), "lease": 58})
    given_up = same(pair, "/v3/lock/lock", body, headers={"Grpc-Timeout": "300m"})
    assert given_up[::2] == (504, (4, "context deadline exceeded"))
    for node in pair:
        waits(node, "timeout", 1)


def test_a_client_that_goes_away_while_it_waits_leaves_no_key(pair: Pair) -> None:
    for node in pair:
        leased(node, 37, 38, 39)
        ask(node, "/v3/lock/lock", json.dumps({"name": key("left"), "lease": 37}))
        ask(node, "/v3/election/campaign", json.dumps({"name": key("left"), "lease": 37}))
        for path, lease in (("lock/lock", 38), ("election/campaign", 39)):
            body = json.dumps({"name": key("left"), "lease": lease})
            connection = http.client.HTTPConnection("127.0.0.1", node.client_port, timeout=DEADLINE_S)
            connection.request("POST", f"/v3/{path}", body)
            waits(node, "left", 2)
            connection.close()
            waits(node, "left", 1)


def test_an_election_is_followed_by_who_observes_it(pair: Pair) -> None:
    stories = []
    for node in pair:
        leased(node, 47, 48)
        with ThreadPoolExecutor(1) as pool, stream_later(node, "election") as observed:
            first = {"name": key("election"), "lease": 47, "value": "MQ=="}
            story = [won(ask(node, "/v3/election/campaign", json.dumps(first)))]
            leader = ask(node, "/v3/election/campaign", json.dumps(first)).told[0]["leader"]  # type: ignore[index]  # JSON
            story.append(observed())
            ask(node, "/v3/election/proclaim", json.dumps({"leader": leader, "value": "Mg=="}))
            story.append(observed())
            second = {"name": key("election"), "lease": 48, "value": "Mw=="}
            waiting = pool.submit(ask, node, "/v3/election/campaign", json.dumps(second))
            waits(node, "election", 2)
            ask(node, "/v3/kv/put", json.dumps({"key": key("election/unrelated-lease"), "value": "NA=="}))
            story.append(told_of(ask(node, "/v3/election/resign", json.dumps({"leader": leader}))))
            story += [won(waiting.result(DEADLINE_S)), observed()]
            again = ask(node, "/v3/election/proclaim", json.dumps({"leader": leader, "value": "NQ=="}))
            story.append(again[::2])
            found = told_of(ask(node, "/v3/election/leader", json.dumps({"name": key("election")})))
            story.append((found["kv"]["key"], found["kv"]["value"]))
        stories.append(story)
    assert stories[0] == stories[1]
    assert stories[0][-2] == (500, (2, "election: not leader"))


def won(answer: Answer) -> Any:
    leader = told_of(answer)["leader"]
    assert int(leader.pop("rev")) > 1
    return leader


@contextmanager
def stream_later(node: Node, name: str) -> Iterator[Callable[[], tuple[str, str]]]:
    """An observer who is there before anybody is elected: nothing of the answer comes before the first leader."""
    with socket.create_connection(("127.0.0.1", node.client_port), timeout=DEADLINE_S) as connection:
        body = json.dumps({"name": key(name)})
        connection.sendall(
            f"POST /v3/election/observe HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        with connection.makefile("rb") as file:

            def observed() -> tuple[str, str]:
                while not (line := file.readline()).startswith(b"{"):
                    assert line, "the stream ended"
                kv = json.loads(line)["result"]["kv"]
                return kv["key"], kv["value"]

            yield observed


# Users


def test_users_have_their_rights_over_json(pair: Pair) -> None:
    """Who asks comes by the header Authorization; also in what a member does for its client."""
    same(pair, "/v3/auth/user/add", '{"name":"root","password":"r"}')
    same(pair, "/v3/auth/role/add", '{"name":"root"}')
    same(pair, "/v3/auth/user/grant", '{"user":"root","role":"root"}')
    same(pair, "/v3/auth/user/add", '{"name":"app","password":"a"}')
    same(pair, "/v3/auth/role/add", '{"name":"app"}')
    perm = {"permType": "READWRITE", "key": key("app"), "range_end": key("apq")}
    same(pair, "/v3/auth/role/grant", json.dumps({"name": "app", "perm": perm}))
    same(pair, "/v3/auth/user/grant", '{"user":"app","role":"app"}')
    same(pair, "/v3/auth/enable")
    try:
        stories = [story_of_users(node) for node in pair]
        # As a browser may have to send it, which etcd takes from 3.6 on.
        bearer = {"Authorization": f"Bearer {token(pair.subject, 'app', 'a')}"}
        assert ask(pair.subject, "/v3/auth/user/get", '{"name":"app"}', headers=bearer).status == 200
    finally:
        for node in pair:
            root = token(node, "root", "r")
            assert ask(node, "/v3/auth/disable", headers={"Authorization": root}).status == 200
    assert stories[0] == stories[1]


def token(node: Node, name: str, password: str) -> str:
    told = ask(node, "/v3/auth/authenticate", json.dumps({"name": name, "password": password})).told
    assert isinstance(told, list)
    return str(told[0]["token"])


def story_of_users(node: Node) -> list[object]:
    story: list[object] = [
        ask(node, "/v3/auth/authenticate", '{"name":"app","password":"wrong"}')[::2],
        ask(node, "/v3/auth/authenticate", '{"name":"nobody","password":"a"}')[::2],
    ]
    app = token(node, "app", "a")
    for given in ({}, {"Authorization": app}, {"Grpc-Metadata-Token": app}, {"Authorization": "nonsense"}):
        for path, body in (
            ("kv/put", {"key": key("app/1"), "value": "MQ=="}),
            ("kv/range", {"key": key("app/1"), "keys_only": True}),
            ("kv/range", {"key": key("other")}),
            ("cluster/member/list", {}),
            ("auth/user/list", {}),
            ("auth/user/get", {"name": "app"}),
            ("lock/unlock", {"key": key("app/nothing")}),
            ("lock/unlock", {"key": key("other/nothing")}),
            ("election/leader", {"name": key("app")}),
            ("election/leader", {"name": key("other")}),
            ("election/proclaim", {"leader": {"name": key("other"), "key": key("other/1"), "rev": "1", "lease": "1"}}),
        ):
            answer = ask(node, f"/v3/{path}", json.dumps(body), headers=given)
            story.append((path, answer.status, answer.told if answer.status != 200 else sorted(answer.told[0])))  # type: ignore[index]  # JSON
        for watched in ("app/1", "other"):
            if given:
                with stream(node, "/v3/watch", watching(key=key(watched)), given) as chunks:
                    told = plain(json.loads(next(chunks)))["result"]
                    told.pop("header")
                    story.append(told)
    return story


# At random


@pytest.mark.timeout(290)
def test_random_requests_are_answered_as_by_etcd(pair: Pair, tmp_path: Path, show: Callable[[str], None]) -> None:
    seed = int(os.environ.get("KVORUM_SEED") or random.SystemRandom().randrange(1 << 32))
    show(f"KVORUM_SEED={seed}")
    report = gateway.run(tmp_path, seed, OPERATIONS)
    assert report.calls.total() >= OPERATIONS
    show(report.table())
