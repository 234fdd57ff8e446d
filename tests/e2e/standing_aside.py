"""What a node that stands aside owes whoever asks: one word, why, what to do, and no service."""

import json
import signal
import socket
import urllib.error
import urllib.request
from typing import Any

import grpc
import pytest
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.deadline import wait_until
from tests.kit.processes import Node, fetch_json

ANSWER_S = 60.0


def fetch(url: str) -> tuple[int, str]:
    """Status and body, whatever the status."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def member_page(node: Node) -> dict[str, Any]:
    page = fetch_json(f"{node.endpoint}/kvorum/v1/member")
    return page if isinstance(page, dict) else {}


def wait_state(node: Node, state: str) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        assert node.alive, f"{node.name} ended\n{node.log_tail()}"
        page = member_page(node)
        return page if page.get("state") == state else None

    page = wait_until(reached, ANSWER_S, f"{node.name} says {state}")
    assert page is not None
    return page


def require_aside(node: Node, state: str, *words: str) -> str:
    """The reason, once the node says `state`; everything else that it owes is checked, and that SIGTERM ends it."""
    page = wait_state(node, state)
    reason = page["reason"]
    assert isinstance(reason, str)
    for word in words:
        assert word in reason, f"{word!r} is missing in: {reason}"
    assert "\n" not in reason
    assert (page["name"], page["version"] != "") == (node.name, True)
    assert fetch(f"{node.endpoint}/livez") == (200, "ok\n")
    status, text = fetch(f"{node.endpoint}/readyz")
    assert (status, reason in text, state in text) == (503, True, True)
    status, text = fetch(f"{node.endpoint}/health")
    assert (status, json.loads(text)["health"], reason in json.loads(text)["reason"]) == (503, "false", True)
    status, text = fetch(f"{node.endpoint}/metrics")
    assert (status, f'kvorum_member_state{{state="{state}"}} 1' in text) == (200, True)
    require_no_service(node, state)
    with socket.socket() as knocking:
        assert knocking.connect_ex(("127.0.0.1", node.peer_port)) != 0, "it takes part among the members"
    said = node.log()
    assert "Traceback" not in said
    grave = [line for line in said.splitlines() if line.startswith("{") and json.loads(line)["level"] == "fatal"]
    assert len(grave) == 1, grave
    assert node.stop() == -signal.SIGTERM
    return reason


def require_no_service(node: Node, state: str) -> None:
    calls: list[tuple[str, Any]] = [
        ("KV/Range", rpc.RangeRequest(key=b"a", serializable=True)),
        ("KV/Put", rpc.PutRequest(key=b"a")),
        ("KV/Txn", rpc.TxnRequest()),
        ("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=10)),
        ("Cluster/MemberList", rpc.MemberListRequest()),
        ("Maintenance/Status", rpc.StatusRequest()),
        ("Maintenance/Alarm", rpc.AlarmRequest()),
    ]
    with grpc.insecure_channel(f"127.0.0.1:{node.client_port}", options=(("grpc.enable_http_proxy", 0),)) as channel:
        for method, request in calls:
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(f"/etcdserverpb.{method}", type(request).SerializeToString, None)(
                    request, timeout=ANSWER_S
                )
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE, method
            assert state in (refused.value.details() or ""), method
        with pytest.raises(grpc.RpcError) as refused:
            list(
                channel.stream_stream(
                    "/etcdserverpb.Watch/Watch", rpc.WatchRequest.SerializeToString, rpc.WatchResponse.FromString
                )(iter([rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"a"))]), timeout=ANSWER_S)
            )
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            rpc.HealthCheckRequest.SerializeToString,
            rpc.HealthCheckResponse.FromString,
        )
        assert check(rpc.HealthCheckRequest(), timeout=ANSWER_S).status == rpc.HealthCheckResponse.NOT_SERVING
