"""Alarms raised and cleared on purpose, and heard of from each member. Works with any server of etcd's API."""

from collections.abc import Sequence

import grpc
from kvorum.client import Client
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.processes import Node

CALL_S = 10.0


async def activate(node: Node, member_id: int) -> None:
    """NOSPACE of a member, by way of a node. Raises grpc.aio.AioRpcError."""
    request = rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, memberID=member_id, alarm="NOSPACE")
    options = (("grpc.enable_http_proxy", 0),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{node.client_port}", options=options) as channel:
        await channel.unary_unary(
            "/etcdserverpb.Maintenance/Alarm",
            request_serializer=rpc.AlarmRequest.SerializeToString,
            response_deserializer=rpc.AlarmResponse.FromString,
        )(request, timeout=CALL_S)


async def alarms_are(nodes: Sequence[Node], wanted: set[tuple[int, str]]) -> bool:
    """Each node asked for itself, which goes through the log there: what it has applied. Raises ClientError."""
    for node in nodes:
        async with Client([node.endpoint], timeout_s=CALL_S) as one:
            if {(alarm.member_id, alarm.type.name) for alarm in await one.alarms()} != wanted:
                return False
    return True
