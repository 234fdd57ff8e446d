"""Two servers that are asked the same, and what of their answers must be equal.

Requests leave as the same bytes. Equal must be everything in an answer but what is chosen by the server or by time: ids
of the cluster and of members (replaced by the order they appeared in), raft terms, sizes and indexes of Status, the
seconds a lease has left. Unknown fields of an answer count: comparing is done on re-encoded messages, which keep them.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import Message
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.processes import Node

CALL_TIMEOUT_S = 20.0
OWN = 1  # the alias of a side's own member
TTL_SLACK_S = 30  # by how much the rest of a lease may differ: the two sides are not asked at the same instant

PATHS: dict[str, tuple[str, type[Message]]] = {
    "Range": ("/etcdserverpb.KV/Range", rpc.RangeResponse),
    "Put": ("/etcdserverpb.KV/Put", rpc.PutResponse),
    "DeleteRange": ("/etcdserverpb.KV/DeleteRange", rpc.DeleteRangeResponse),
    "Txn": ("/etcdserverpb.KV/Txn", rpc.TxnResponse),
    "Compact": ("/etcdserverpb.KV/Compact", rpc.CompactionResponse),
    "LeaseGrant": ("/etcdserverpb.Lease/LeaseGrant", rpc.LeaseGrantResponse),
    "LeaseRevoke": ("/etcdserverpb.Lease/LeaseRevoke", rpc.LeaseRevokeResponse),
    "LeaseTimeToLive": ("/etcdserverpb.Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveResponse),
    "LeaseLeases": ("/etcdserverpb.Lease/LeaseLeases", rpc.LeaseLeasesResponse),
    "LeaseKeepAlive": ("/etcdserverpb.Lease/LeaseKeepAlive", rpc.LeaseKeepAliveResponse),
    "MemberList": ("/etcdserverpb.Cluster/MemberList", rpc.MemberListResponse),
    "MemberAdd": ("/etcdserverpb.Cluster/MemberAdd", rpc.MemberAddResponse),
    "MemberRemove": ("/etcdserverpb.Cluster/MemberRemove", rpc.MemberRemoveResponse),
    "MemberUpdate": ("/etcdserverpb.Cluster/MemberUpdate", rpc.MemberUpdateResponse),
    "MemberPromote": ("/etcdserverpb.Cluster/MemberPromote", rpc.MemberPromoteResponse),
    "Alarm": ("/etcdserverpb.Maintenance/Alarm", rpc.AlarmResponse),
    "Status": ("/etcdserverpb.Maintenance/Status", rpc.StatusResponse),
    "HashKV": ("/etcdserverpb.Maintenance/HashKV", rpc.HashKVResponse),
    "Defragment": ("/etcdserverpb.Maintenance/Defragment", rpc.DefragmentResponse),
    "MoveLeader": ("/etcdserverpb.Maintenance/MoveLeader", rpc.MoveLeaderResponse),
    "Health": ("/grpc.health.v1.Health/Check", rpc.HealthCheckResponse),
}
WATCH = "/etcdserverpb.Watch/Watch"

# A member's id is made of its URLs and the second it was added in, so a URL added twice is refused as either of these.
SAME_TEXTS = {"etcdserver: member ID already exist": "etcdserver: Peer URLs already exists"}


class Answer(NamedTuple):
    """code: gRPC's, 0 for OK with a message; else text."""

    code: int
    text: str
    message: Message | None


@dataclass
class Names:
    """One of the two servers, and its names for the members that both know by alias."""

    name: str
    node: Node
    members: dict[int, int] = field(default_factory=dict, init=False)  # alias -> id
    aliases: dict[int, int] = field(default_factory=dict, init=False)  # id -> alias
    cluster_id: int = field(default=0, init=False)

    def learn(self, alias: int, member_id: int) -> None:
        self.members[alias] = member_id
        self.aliases[member_id] = alias

    def alias(self, member_id: int) -> int:
        """The common name of a member's id; an id that this side never heard of stays as it is."""
        return self.aliases.get(member_id, member_id)


@dataclass
class Side(Names):
    """Asked over gRPC."""

    channel: grpc.aio.Channel
    keep_alive: Any = None

    @classmethod
    async def connect(cls, name: str, node: Node) -> "Side":
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ]
        side = cls(name, node, grpc.aio.insecure_channel(f"127.0.0.1:{node.client_port}", options))
        status: Any = (await side.answer_of("Status", side.start("Status", b""))).message
        side.cluster_id = status.header.cluster_id
        side.learn(OWN, status.header.member_id)
        return side

    def start(self, name: str, request: bytes) -> Any:
        """Sends a request and does not wait: what answer_of takes."""
        path, _ = PATHS[name]
        if name == "LeaseKeepAlive":
            return self._renew(request)
        return self.channel.unary_unary(path, None, None)(request, timeout=CALL_TIMEOUT_S)

    async def answer_of(self, name: str, call: Any) -> Answer:
        try:
            body: bytes = await call
        except grpc.aio.AioRpcError as error:
            return Answer(error.code().value[0], error.details() or "", None)
        return Answer(0, "", PATHS[name][1].FromString(body))

    async def _renew(self, request: bytes) -> bytes:
        """One stream for all renewals, as clients have it; opened anew when the server ended it."""
        if self.keep_alive is None:
            call: Any = self.channel.stream_stream(PATHS["LeaseKeepAlive"][0], None, None)
            self.keep_alive = call()
        try:
            await self.keep_alive.write(request)
            async with asyncio.timeout(CALL_TIMEOUT_S):
                body = await self.keep_alive.read()
        except grpc.aio.AioRpcError:
            self.keep_alive = None
            raise
        assert isinstance(body, bytes), f"{self.name} ended the keep-alive stream"
        return body

    async def close(self) -> None:
        if self.keep_alive is not None:
            self.keep_alive.cancel()
        await self.channel.close(None)


def comparable(side: Names, answer: Answer) -> tuple[int, str, bytes]:
    """What must be equal on both sides. Asserts what must hold on each."""
    if answer.message is None:
        return answer.code, SAME_TEXTS.get(answer.text, answer.text), b""
    message: Any = type(answer.message)()
    message.CopyFrom(answer.message)
    # A few answers of etcd have no header, and then neither has ours: an empty one would be seen as a difference.
    if "header" in message.DESCRIPTOR.fields_by_name and message.HasField("header"):
        normalise_header(side, message.header)
    match message:
        case rpc.StatusResponse():
            normalise_status(side, message)
        case rpc.LeaseTimeToLiveResponse():
            # TTL -1: no such lease. Keys come in no order.
            assert message.grantedTTL >= message.TTL or message.TTL == -1, message
            message.TTL = 0 if abs(message.grantedTTL - message.TTL) <= TTL_SLACK_S else message.TTL
            message.keys[:] = sorted(message.keys)
        case rpc.LeaseLeasesResponse():
            ids = sorted(
                lease.ID for lease in message.leases
            )  # etcd's order is that of their expiry, to the nanosecond
            del message.leases[:]
            message.leases.extend(rpc.LeaseStatus(ID=lease_id) for lease_id in ids)
        case rpc.AlarmResponse():
            alarms = sorted((side.alias(alarm.memberID), alarm.alarm) for alarm in message.alarms)
            del message.alarms[:]
            message.alarms.extend(rpc.AlarmMember(memberID=member, alarm=kind) for member, kind in alarms)
        case rpc.MemberUpdateResponse():
            normalise_members(side, message)
            for member in message.members:
                member.isLearner = False  # see Generator.member_update
        case rpc.MemberAddResponse():
            normalise_member(side, message.member)
            normalise_members(side, message)
        case rpc.MemberListResponse() | rpc.MemberRemoveResponse() | rpc.MemberPromoteResponse():
            normalise_members(side, message)
    return 0, "", message.SerializeToString(deterministic=True)


def normalise_header(side: Names, header: rpc.ResponseHeader) -> None:
    assert header.cluster_id == side.cluster_id, f"{side.name}: another cluster id in {header}"
    assert header.member_id == side.members[OWN], f"{side.name}: another member id in {header}"
    assert header.raft_term >= 2, f"{side.name}: {header}"
    header.cluster_id, header.member_id, header.raft_term = 1, OWN, 0


def normalise_status(side: Names, status: rpc.StatusResponse) -> None:
    assert status.raftIndex >= status.raftAppliedIndex > 0, status
    assert status.dbSize >= status.dbSizeInUse > 0, status
    assert status.raftTerm >= 2, status
    status.leader = side.alias(status.leader)
    status.raftIndex = status.raftAppliedIndex = status.raftTerm = status.dbSize = status.dbSizeInUse = 0
    for member_id, alias in side.aliases.items():
        status.errors[:] = [text.replace(str(member_id), f"<{alias}>") for text in status.errors]
    status.errors[:] = sorted(status.errors)
    # The node claims one version; the etcd at hand may be another 3.5.
    major, minor, _ = status.version.split(".")
    status.version = f"{major}.{minor}"


def normalise_members(side: Names, message: Any) -> None:
    ids = [member.ID for member in message.members]
    assert ids == sorted(ids), f"{side.name}: members are not in the order of their ids: {ids}"
    for member in message.members:
        normalise_member(side, member)
    members = sorted(message.members, key=lambda member: int(member.ID))
    del message.members[:]
    message.members.extend(members)


def normalise_member(side: Names, member: rpc.Member) -> None:
    member.ID = side.alias(member.ID)
    for urls in (member.peerURLs, member.clientURLs):
        urls[:] = [{side.node.peer_url: "own peer", side.node.endpoint: "own client"}.get(url, url) for url in urls]
