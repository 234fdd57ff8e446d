"""The HTTP endpoints over a real server without its sockets: what depends on the member's state, answered once.

Statuses, types and bodies beside a real etcd's are tests/e2e/test_http.py's.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from kvorum.api.http import Endpoints
from kvorum.api.metrics import Traffic
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.exchange import HttpRequest, HttpResponse
from kvorum.server.server import Server

from tests.unit.kvorum.server.cluster import Cluster, propose, put

ALARM = b"\x52"  # the field of InternalRaftRequest that holds an AlarmRequest
ANSWER_S = 10.0


class Asked:
    """Endpoints of one server, asked as the listener asks them."""

    def __init__(self, server: Server) -> None:
        described = {"name": "n1", "memberID": f"{server.member_id:x}"}
        self.endpoints = Endpoints(server, lambda: described, lambda: Traffic(0, 0, {}, {}))

    async def ask(self, target: str, method: str = "GET") -> HttpResponse:
        answered: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        path, _, query = target.partition("?")
        request = HttpRequest(method, target, path, query, headers={}, minor=1, keep_alive=True)
        self.endpoints.probe(request, answered.set_result)  # which refuses a second answer
        return await asyncio.wait_for(answered, ANSWER_S)

    async def text(self, target: str) -> tuple[int, str]:
        answer = await self.ask(target)
        return answer.status, bytes(answer.body).decode()

    async def state(self) -> dict[str, Any]:
        told = json.loads((await self.text("/kvorum/v1/member"))[1])
        assert isinstance(told, dict)
        return told


def run(folder: Path, count: int, story: Callable[[Cluster], Awaitable[None]]) -> None:
    async def told() -> None:
        cluster = await Cluster(folder).start(count)
        try:
            await story(cluster)
        finally:
            cluster.stop()

    asyncio.run(told())


async def alarmed(server: Server, action: str, kind: str) -> None:
    request = rpc.AlarmRequest(action=action, memberID=server.member_id, alarm=kind)
    await propose(server, ALARM, request).body()


def test_health_is_counted(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        asked = Asked(cluster.leader())
        for _ in range(3):
            assert (await asked.ask("/health")).status == 200
        await alarmed(cluster.leader(), "ACTIVATE", "NOSPACE")
        for _ in range(2):
            assert (await asked.ask("/health")).status == 503
        assert (await asked.ask("/health", "POST")).status == 405  # asked for nothing
        assert (asked.endpoints.health_successes, asked.endpoints.health_failures) == (3, 2)
        _, metrics = await asked.text("/metrics")
        assert "\n# TYPE etcd_server_health_success counter\netcd_server_health_success 3\n" in metrics
        assert "\netcd_server_health_failures 2\n" in metrics
        await alarmed(cluster.leader(), "DEACTIVATE", "NOSPACE")
        assert (await asked.ask("/health")).status == 200

    run(tmp_path, 1, story)


def test_a_check_answers_for_itself_and_all_that_are_excluded_leave_nothing_to_fail(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        asked = Asked(cluster.leader())
        await alarmed(cluster.leader(), "ACTIVATE", "CORRUPT")
        corrupt = "[-]data_corruption failed: alarm activated: CORRUPT\n\n"
        assert await asked.text("/readyz/data_corruption") == (503, corrupt)
        assert await asked.text("/readyz/data_corruption?exclude=data_corruption") == (503, corrupt)
        assert await asked.text("/readyz/linearizable_read") == (200, "ok\n")
        names = ("data_corruption", "serializable_read", "linearizable_read", "non_learner")
        everything = "&".join(f"exclude={name}" for name in names)
        assert await asked.text(f"/readyz?{everything}") == (200, "ok\n")
        assert await asked.text(f"/readyz?verbose&{everything}") == (200, "ok\n")
        assert await asked.text("/livez") == (200, "ok\n")
        for unknown in ("/readyz/", "/readyz/nope", "/livez/data_corruption", "/readyz/non_learner/x", "/readyzz", ""):
            assert await asked.text(unknown) == (404, "404 page not found\n")

    run(tmp_path, 1, story)


@pytest.mark.parametrize("path", ["/version", "/health", "/livez", "/readyz", "/kvorum/v1/member"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_only_get_is_allowed(method: str, path: str, tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        answer = await Asked(cluster.leader()).ask(path, method)
        assert answer.status == 405
        assert ("Allow", "GET") in answer.headers

    run(tmp_path, 1, story)


def test_a_member_tells_its_state_and_where_it_is(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader, follower = cluster.leader(), cluster.follower()
        await put(leader, b"a", b"1").body()
        told = await Asked(leader).state()
        assert (told["state"], told["reason"]) == ("starting", "tells the cluster its name and client URLs")
        for server in cluster.servers.values():
            server.ready = True
        told = await Asked(leader).state()
        assert (told["state"], told["reason"], told["revision"]) == ("leader", "", 2)
        assert told["leader"] == told["memberID"] == f"{leader.member_id:x}"
        assert told["term"] == leader.raft.term
        assert 0 < told["appliedIndex"] <= told["commitIndex"]
        told = await Asked(follower).state()
        assert (told["state"], told["leader"]) == ("follower", f"{leader.member_id:x}")

        cluster.cut_off(follower.member_id)
        await cluster.until(lambda: not follower.raft.leader, "who is cut off sees no leader")
        told = await Asked(follower).state()
        assert (told["state"], told["leader"]) == ("no-quorum", "")
        assert "no leader" in told["reason"]
        assert await Asked(follower).text("/health") == (503, '{"health":"false","reason":"RAFT NO LEADER"}\n')
        assert await Asked(follower).text("/health?serializable=true") == (200, '{"health":"true","reason":""}')

        cluster.wires[follower.member_id].foreign = {leader.member_id}
        assert (await Asked(follower).state())["state"] == "no-quorum", "two of three may still be its own"
        cluster.wires[follower.member_id].foreign = set(cluster.servers) - {follower.member_id}
        told = await Asked(follower).state()
        assert told["state"] == "foreign-cluster"
        assert f"{leader.member_id:x}" in told["reason"]
        assert "empty the data directory" in told["reason"]
        follower.stopping = True
        assert (await Asked(follower).state())["state"] == "stopping"

    run(tmp_path, 3, story)


def test_a_full_disk_is_told_and_how_it_ends(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        server.ready = True
        cluster.space[server.member_id].free_bytes = 3 << 20
        await cluster.until(lambda: server.full_disk.is_full, "the disk is seen to be full")
        told = await Asked(server).state()
        assert told["state"] == "disk-full"
        assert "3 MiB are left on the disk, 8 are needed; free space on the volume" in told["reason"]
        cluster.space[server.member_id].free_bytes = 1 << 30
        await cluster.until(lambda: not server.full_disk.is_full, "the disk is seen to have space")
        assert (await Asked(server).state())["state"] == "leader"

    run(tmp_path, 1, story)


def test_a_removed_member_says_so_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        follower = cluster.follower()
        asked = Asked(follower)
        follower.retire()
        told = await asked.state()
        assert told["state"] == "removed"
        assert "delete its data" in told["reason"]
        stopped = "etcdserver: server stopped"
        status, body = await asked.text("/readyz")
        assert (status, f"[-]linearizable_read failed: {stopped}" in body) == (503, True)
        assert await asked.text("/health") == (503, f'{{"health":"false","reason":"QGET ERROR:{stopped}"}}\n')
        assert await asked.text("/livez") == (200, "ok\n")

    run(tmp_path, 3, story)
