"""The v2 API over a real server without its sockets: who is not answered, and watches that are left or not read."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvorum.api.v2 import V2Api
from kvorum.api.v2_keys import UNREAD_BYTES_MAX
from kvorum.api.v2_stats import duration
from kvorum.net.exchange import HttpRequest
from kvorum.server.histogram import PROBE_BOUNDS_S, Histogram
from kvorum.server.peers import PeerTraffic
from kvorum.server.server import Server

from tests.unit.kvorum.api.exchanges import Told
from tests.unit.kvorum.server.cluster import Cluster

FORM = "application/x-www-form-urlencoded"


class Asked:
    """One server's API, asked as the listener asks it."""

    def __init__(self, cluster: Cluster, server: Server) -> None:
        server.ready = True
        self._cluster = cluster
        self.server = server
        self.traffic: dict[int, PeerTraffic] = {}
        self.api = V2Api(server, "n1", lambda: self.traffic)

    def begin(self, method: str, target: str, body: bytes = b"", kind: str = FORM, told: Told | None = None) -> Told:
        told = told or Told()
        path, _, query = target.partition("?")
        path = unquote(path, errors="surrogateescape")
        self.api.handle(
            HttpRequest(
                method, target, path, query, headers={"content-type": kind}, minor=1, keep_alive=True, body=body
            ),
            told,
        )
        return told

    async def until(self, answered: Callable[[], bool]) -> None:
        await self._cluster.until(answered, "an answer")

    async def ask(self, method: str, target: str, body: bytes = b"", kind: str = FORM) -> tuple[int, Any]:
        told = self.begin(method, target, body, kind)
        await self.until(lambda: told.whole is not None)
        assert told.whole is not None
        text = bytes(told.whole.body)
        return told.status, json.loads(text) if text[:1] == b"{" else text.decode()


def run(folder: Path, story: Callable[[Asked], Awaitable[None]]) -> None:
    async def told() -> None:
        cluster = await Cluster(folder).start(1)
        try:
            await story(Asked(cluster, cluster.leader()))
        finally:
            cluster.stop()

    asyncio.run(told())


def test_a_member_that_may_know_too_little_answers_once_it_knows(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        asked.server.ready = False
        told = asked.begin("GET", "/v2/keys")
        assert told.status == 0
        asked.server.ready = True
        await asked.until(lambda: told.status == 200)

    run(tmp_path, story)


def test_a_member_that_cannot_answer_says_why_in_the_end(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        asked.api = V2Api(asked.server, "n1", dict, patience_s=0.2)
        asked.server.ready = False
        status, document = await asked.ask("GET", "/v2/keys/a")
        assert (status, document["errorCode"]) == (503, 300)
        assert document["cause"].startswith("kvorum: this member has just started")
        asked.server.retire()
        status, document = await asked.ask("GET", "/v2/machines")
        assert (status, document["cause"]) == (503, "kvorum: this member was removed from its cluster")

    run(tmp_path, story)


def test_a_watch_is_open_until_its_event(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        told = asked.begin("GET", "/v2/keys/a?wait=true")
        assert (told.status, told.chunks, told.closed) == (200, [], False)
        assert (await asked.ask("PUT", "/v2/keys/a", b"value=x"))[0] == 201
        assert told.closed
        (chunk,) = told.chunks
        assert json.loads(chunk)["node"]["value"] == "x"
        assert chunk.endswith(b"}\n")

    run(tmp_path, story)


def test_who_leaves_a_watch_is_forgotten(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        told = asked.begin("GET", "/v2/keys/a?wait=true&stream=true")
        assert asked.server.v2.watchers_count == 1
        told.leave()
        assert asked.server.v2.watchers_count == 0
        await asked.ask("PUT", "/v2/keys/a", b"value=x")
        assert told.chunks == []

    run(tmp_path, story)


def test_a_client_that_does_not_read_is_told_no_more(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        slow, quick = (asked.begin("GET", "/v2/keys/?wait=true&stream=true&recursive=true") for _ in range(2))
        slow.buffered_bytes = UNREAD_BYTES_MAX + 1
        for _ in range(2):
            await asked.ask("PUT", "/v2/keys/a", b"value=x")
        assert (len(slow.chunks), slow.closed) == (1, True)
        assert (len(quick.chunks), quick.closed) == (2, False)

    run(tmp_path, story)


def test_nor_of_what_it_missed(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        for _ in range(3):
            await asked.ask("PUT", "/v2/keys/a", b"value=x")
        first = asked.server.machine.v2.history.start_index
        slow = Told()
        slow.buffered_bytes = UNREAD_BYTES_MAX + 1
        asked.begin("GET", f"/v2/keys/?wait=true&stream=true&recursive=true&waitIndex={first}", told=slow)
        assert (len(slow.chunks), slow.closed, asked.server.v2.watchers_count) == (1, True, 0)

    run(tmp_path, story)


def test_keys_are_refused_where_a_member_of_etcds_switched_users_on(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        asked.server.machine.v2.set("/2/enabled", "true")
        for method, path in (("GET", "/v2/keys/a"), ("PUT", "/v2/keys/a"), ("GET", "/v2/keys/a?wait=true")):
            status, document = await asked.ask(method, path)
            assert (status, document["errorCode"], document["cause"]) == (401, 110, "Insufficient credentials")
        assert (await asked.ask("DELETE", "/v2/members/1"))[0] == 401
        assert (await asked.ask("GET", "/v2/members"))[0] == 200
        assert await asked.ask("GET", "/v2/auth/enable") == (200, {"enabled": True})

    run(tmp_path, story)


def test_what_is_no_text_is_refused_as_such(tmp_path: Path) -> None:
    """A path may be any bytes, and JSON can spell half of a surrogate pair."""

    async def story(asked: Asked) -> None:
        status, document = await asked.ask("DELETE", "/v2/members/%ff")
        assert (status, document["message"]) == (404, "No such member: \ufffd")
        half = b'{"peerURLs": ["http://\\ud800:2380"]}'
        status, document = await asked.ask("POST", "/v2/members", half, kind="application/json")
        assert (status, document["message"].endswith("http://\ufffd:2380")) == (400, True)
        assert len(asked.server.machine.membership.members) == 1

    run(tmp_path, story)


def test_what_is_counted_is_told(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        await asked.ask("PUT", "/v2/keys/a", b"value=x")
        await asked.ask("DELETE", "/v2/keys/none")
        asked.begin("GET", "/v2/keys/a?wait=true")
        status, counts = await asked.ask("GET", "/v2/stats/store")
        assert status == 200
        assert (counts["setsSuccess"], counts["deleteFail"], counts["watchers"]) == (1, 1, 1)

    run(tmp_path, story)


def test_a_leader_tells_of_its_followers(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        trips = Histogram(PROBE_BOUNDS_S)
        for seconds in (0.001, 0.003):
            trips.observe(seconds)
        asked.traffic = {0xB: PeerTraffic(10, 20, 5, 6, trips)}
        status, document = await asked.ask("GET", "/v2/stats/leader")
        assert (status, document["leader"]) == (200, f"{asked.server.member_id:x}")
        (follower,) = document["followers"].items()
        assert follower[0] == "b"
        assert follower[1]["counts"] == {"fail": 5, "success": 2}
        assert follower[1]["latency"]["average"] == pytest.approx(2.0)

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (2_000_000, "2ms"),
        (1_234_567_890, "1.23456789s"),
        (60_000_000_000, "1m0s"),
        (3_723_500_000_000, "1h2m3.5s"),
    ],
)
def test_durations_are_written_as_go_writes_them(time_ns: int, text: str) -> None:
    assert duration(time_ns) == text


PATHS = ("/v2/keys", "/v2/keys/", "/v2/keys/a", "/v2/members", "/v2/members/", "/v2/members/leader", "/v2/machines")
OTHERS = ("/v2/stats/self", "/v2/stats/leader", "/v2/stats/store", "/v2/auth/users", "/v2/auth/enable", "/v2/")
TARGETS = st.builds(
    lambda path, more, query: path + quote(more) + (f"?{quote(query, safe='=&;+%')}" if query else ""),
    st.sampled_from((*PATHS, *OTHERS)),
    st.binary(max_size=8),
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from((b"wait=true", b"ttl=99999999999999", b"dir=true", b"prevExist=true", b"recursive=true&dir=1")),
    ),
)
BODIES = st.one_of(
    st.binary(max_size=24),
    st.builds(lambda value: json.dumps({"peerURLs": value}).encode(), st.lists(st.text(max_size=12), max_size=2)),
    st.sampled_from((b'{"peerURLs":["http://\\ud800:1"]}', b'{"peerURLs":[{}]}', b'{"peerURLs":"x"}', b"[" * 5000)),
)
TYPES = st.one_of(
    st.sampled_from(("application/json", FORM, "")),
    st.text(st.characters(max_codepoint=255)),
)


def test_no_request_trips_a_handler(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        open_watches: list[Told] = []

        @settings(max_examples=400, deadline=None, database=None)
        @given(st.sampled_from(("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH")), TARGETS, BODIES, TYPES)
        def trip(method: str, target: str, body: bytes, content_type: str) -> None:
            told = Told()
            path, _, query = target.partition("?")
            path = unquote_to_bytes(path).decode("utf-8", "surrogateescape")
            headers = {"content-type": content_type}
            request = HttpRequest(method, target, path, query, headers=headers, minor=1, keep_alive=True, body=body)
            asked.api.handle(request, told)
            open_watches.append(told)

        trip()
        await asked.until(lambda: all(told.status for told in open_watches))
        assert {told.status for told in open_watches} >= {200, 201, 400, 404, 405, 415}

    run(tmp_path, story)
