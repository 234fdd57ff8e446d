"""Maintenance.Downgrade and what the peer port tells of it, to a real etcd and to ours."""

from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.deadline import wait_until
from tests.kit.processes import Node, Program

VALIDATE, ENABLE, CANCEL = range(3)
TARGETS = ("3.4.0", "3.4", "3.4.7", "3.4.7-rc1", "03.4.0", "3.5.0", "3.3.0", "3.6.0", "x", "", "v3.4.0", "3.4.0.0", "3")
SOON_S = 30.0


@pytest.fixture(params=["etcd", "kvorum"])
def program(request: pytest.FixtureRequest, reference: Program, subject: Program) -> Program:
    return reference if request.param == "etcd" else subject


def ask(node: Node, action: int, version: str, timeout_s: float = 20.0) -> str:
    """The cluster's version, or how it was refused."""
    options = (("grpc.enable_http_proxy", 0),)
    with grpc.insecure_channel(f"127.0.0.1:{node.client_port}", options=options) as channel:
        method = channel.unary_unary(
            "/etcdserverpb.Maintenance/Downgrade",
            request_serializer=rpc.DowngradeRequest.SerializeToString,
            response_deserializer=rpc.DowngradeResponse.FromString,
        )
        request = rpc.DowngradeRequest(version=version)
        request.action = action  # type: ignore[assignment]  # one that is none, too
        try:
            answer = method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    assert (answer.header.revision, answer.header.cluster_id != 0) == (1, True)
    return str(answer.version)


def is_enabled(node: Node) -> str:
    with urlopen(f"{node.peer_url}/downgrade/enabled", timeout=20) as answer:
        return str(answer.read().decode())


def test_a_downgrade_is_judged_enabled_and_ended_as_etcd_does_it(program: Program, tmp_path: Path) -> None:
    in_progress = "FAILED_PRECONDITION: etcdserver: cluster has a downgrade job in progress"
    bad_format = "INVALID_ARGUMENT: etcdserver: wrong downgrade target version format"
    bad_target = "INVALID_ARGUMENT: etcdserver: invalid downgrade target version"
    with Node(program, tmp_path) as node:
        wait_until(lambda: (node.read_version() or {}).get("etcdcluster") == "3.5.0", SOON_S, "the version is decided")
        judged = {target: ask(node, VALIDATE, target) for target in TARGETS}
        assert judged == {
            **dict.fromkeys(("3.4.0", "3.4", "3.4.7", "3.4.7-rc1", "03.4.0"), "3.5.0"),
            **dict.fromkeys(("3.5.0", "3.3.0", "3.6.0"), bad_target),
            **dict.fromkeys(("x", "", "v3.4.0", "3.4.0.0", "3"), bad_format),
        }
        assert ask(node, CANCEL, "") == "FAILED_PRECONDITION: etcdserver: no inflight downgrade job"
        assert ask(node, 7, "3.4.0") == "UNKNOWN: etcdserver: unknown method"
        assert ask(node, ENABLE, "3.5.0") == bad_target
        assert is_enabled(node) == "false"

        # An etcd does it and never answers.
        answered = ask(node, ENABLE, "3.4.7", timeout_s=20 if program.engine == "kvorum" else 0.5)
        assert answered == "3.5.0" or program.engine == "etcd"
        wait_until(lambda: is_enabled(node) == "true", SOON_S, "the downgrade is enabled")
        assert (ask(node, VALIDATE, "3.4.0"), ask(node, ENABLE, "3.4.0")) == (in_progress, in_progress)
        assert ask(node, VALIDATE, "3.3.0") == bad_target
        answered = ask(node, CANCEL, "what is not read", timeout_s=20 if program.engine == "kvorum" else 0.5)
        assert answered == "3.5.0" or program.engine == "etcd"
        wait_until(lambda: is_enabled(node) == "false", SOON_S, "the downgrade is ended")
        assert ask(node, VALIDATE, "3.4.0") == "3.5.0"
