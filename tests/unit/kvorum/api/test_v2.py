"""The v2 API over a real server without its sockets: who is not answered, and watches that are left or not read."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from kvorum.api.v2 import V2Api
from kvorum.api.v2_keys import UNREAD_BYTES_MAX
from kvorum.api.v2_stats import duration
from kvorum.net.listener import HttpRequest
from kvorum.server.histogram import PROBE_BOUNDS_S, Histogram
from kvorum.server.peers import PeerTraffic
from kvorum.server.server import Server

from tests.unit.kvorum.api.exchanges import Told
from tests.unit.kvorum.server.cluster import Cluster

FORM = {"content-type": "application/x-www-form-urlencoded"}


class Asked:
    """One server's API, asked as the listener asks it."""

    def __init__(self, cluster: Cluster, server: Server) -> None:
        server.ready = True
        self._cluster = cluster
        self.server = server
        self.traffic: dict[int, PeerTraffic] = {}
        self.api = V2Api(server, "n1", lambda: self.traffic)

    def begin(self, method: str, target: str, body: bytes = b"") -> Told:
        told = Told()
        path, _, query = target.partition("?")
        path = unquote(path, errors="surrogateescape")
        self.api.handle(
            HttpRequest(method, target, path, query, headers=FORM, minor=1, keep_alive=True, body=body), told
        )
        return told

    async def until(self, answered: Callable[[], bool]) -> None:
        await self._cluster.until(answered, "an answer")

    async def ask(self, method: str, target: str, body: bytes = b"") -> tuple[int, Any]:
        told = self.begin(method, target, body)
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
