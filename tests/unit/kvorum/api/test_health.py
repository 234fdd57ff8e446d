"""grpc.health.v1.Health while the store is defragmented. Over gRPC, and beside a real etcd: tests/e2e."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from kvorum.api import health
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import Call

from tests.unit.kvorum.server.cluster import Cluster
from tests.unit.kvorum.server.test_server import run


class WatchCall:
    """A client's stream: what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.on_message: Callable[[bytes], None] | None = None
        self.on_close: Callable[[], None] | None = None

    def push(self, body: bytes) -> None:
        status = rpc.HealthCheckResponse.FromString(body).status
        self.told.append(rpc.HealthCheckResponse.ServingStatus.Name(status))


@pytest.mark.parametrize(
    ("asked", "told"), [(True, ["SERVING", "NOT_SERVING", "SERVING"]), (False, ["SERVING"])], ids=["asked", "not asked"]
)
def test_who_watches_is_told_of_a_defragmentation_if_asked(
    asked: bool,
    told: list[str],
    tmp_path: Path,
) -> None:
    async def story(cluster: Cluster) -> None:
        server, call = cluster.leader(), WatchCall()
        health.watch(server, cast(Call, call))
        assert call.on_message is not None
        call.on_message(rpc.HealthCheckRequest().SerializeToString())
        await server.commits.defragment()
        assert call.told == told
        assert call.on_close is not None
        call.on_close()
        await server.commits.defragment()
        assert call.told == told, "the client is gone"
        assert not server.commits.on_defragmenting

    run(tmp_path, 1, story, stop_grpc_on_defrag=asked)


def test_a_service_that_is_none_is_told_of_nothing(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server, call = cluster.leader(), WatchCall()
        health.watch(server, cast(Call, call))
        assert call.on_message is not None
        call.on_message(rpc.HealthCheckRequest(service="nope").SerializeToString())
        await server.commits.defragment()
        assert call.told == ["SERVICE_UNKNOWN"]

    run(tmp_path, 1, story, stop_grpc_on_defrag=True)
