"""Asking members, over real gRPC with scripted answers: silence, refusals, and whom a change goes to."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import psutil
import pytest
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum_operator.api.reasons import Reason
from kvorum_operator.cluster.observation import Address, Answer, Entry, Node, Observation, OwnWord
from kvorum_operator.cluster.step import AddLearner, HandOver, Hold, PromoteMember, RemoveMember, Step
from kvorum_operator.members.asking import Asked, Members

from tests.kit.deadline import wait_until
from tests.kit.ports import free_port
from tests.kit.scripted_server import ScriptedServer

CLUSTER_ID, LEADER, FOLLOWER = 0xC1, 0x100, 0x101
STATUS = "/etcdserverpb.Maintenance/Status"
LIST = "/etcdserverpb.Cluster/MemberList"
Handler = Callable[[bytes, Any], Awaitable[bytes]]


def answering(answer: Any) -> Handler:
    async def handler(request: bytes, context: Any) -> bytes:
        encoded: bytes = answer.SerializeToString()
        return encoded

    return handler


def refusing(code: grpc.StatusCode, text: str) -> Handler:
    async def handler(request: bytes, context: Any) -> bytes:
        await context.abort(code, text)
        raise AssertionError("abort raises")

    return handler


async def hanging(request: bytes, context: Any) -> bytes:
    await asyncio.Event().wait()
    raise AssertionError("never set")


def status_of(member_id: int, *, leader: int = LEADER, learner: bool = False, cluster_id: int = CLUSTER_ID) -> Handler:
    header = rpc.ResponseHeader(cluster_id=cluster_id, member_id=member_id, revision=7, raft_term=3)
    return answering(
        rpc.StatusResponse(
            header=header,
            version="3.5.30",
            dbSize=4096,
            leader=leader,
            raftIndex=50,
            raftTerm=3,
            raftAppliedIndex=49,
            isLearner=learner,
        )
    )


def list_of(server: ScriptedServer) -> Handler:
    members = [
        rpc.Member(ID=LEADER, name="kv-0", peerURLs=["http://kv-0:2380"], clientURLs=[server.endpoint]),
        rpc.Member(ID=FOLLOWER, name="", peerURLs=["http://kv-1:2380"], isLearner=True),
        rpc.Member(ID=0x999, name="guest", peerURLs=["http://elsewhere:2380"], clientURLs=["http://elsewhere:2379"]),
    ]
    return answering(rpc.MemberListResponse(members=members))


def addresses(*servers: ScriptedServer) -> dict[str, Address]:
    return {f"kv-{k}": Address(f"kv-{k}", server.endpoint, f"http://kv-{k}:2380") for k, server in enumerate(servers)}


def ask(*servers: ScriptedServer) -> Asked:
    async def asked() -> Asked:
        for server in servers:
            await server.start()
        members = Members()
        try:
            found = addresses(*servers)
            return await members.ask(found, found)
        finally:
            await members.close()
            for server in servers:
                await server.stop()

    return asyncio.run(asked())


def test_members_say_how_they_are_and_a_quorum_who_they_are() -> None:
    leader = ScriptedServer({STATUS: status_of(LEADER)})
    leader.unary[LIST] = list_of(leader)
    asked = ask(leader, ScriptedServer({STATUS: status_of(FOLLOWER, learner=True)}))
    assert asked.answered["kv-0"] == Answer(LEADER, CLUSTER_ID, LEADER, 3, 50, 49, 7, 4096, "3.5.30", is_learner=False)
    assert asked.answered["kv-1"].is_learner
    assert asked.entries == (
        Entry(LEADER, "kv-0", ("http://kv-0:2380",), started=True),
        Entry(FOLLOWER, "kv-1", ("http://kv-1:2380",), started=False, is_learner=True),
        Entry(0x999, None, ("http://elsewhere:2380",), started=True),
    )
    requests = [rpc.MemberListRequest.FromString(request) for path, request in leader.calls if path == LIST]
    assert [one.linearizable for one in requests] == [True], "an old list would make new members look like leftovers"


def test_own_word_is_read_where_there_is_one_and_missed_nowhere() -> None:
    """On the client port of a real server; where only gRPC is spoken there is none."""

    async def asked() -> Asked:
        said = b'"version": "0.1.0", "state": "removed", "reason": "by a person"}'

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b'HTTP/1.0 200 OK\r\n\r\n{"name": "kv-1", ' + said)
            writer.close()

        async with ScriptedServer({STATUS: status_of(LEADER)}) as silent:
            port = free_port()
            server, members = await asyncio.start_server(answer, "127.0.0.1", port), Members()
            found = addresses(silent) | {
                name: Address(name, f"http://127.0.0.1:{port}", f"http://{name}:2380") for name in ("kv-1", "kv-2")
            }
            try:
                return await members.ask(found, found)
            finally:
                await members.close()
                server.close()

    found = asyncio.run(asked())
    assert found.own_words == {"kv-1": OwnWord("0.1.0", "removed", "by a person", "kv-1")}, "kv-2's it is not"
    assert set(found.answered) == {"kv-0"}


def test_silent_member_costs_a_bounded_time_and_hides_no_other() -> None:
    leader = ScriptedServer({STATUS: status_of(LEADER)})
    leader.unary[LIST] = list_of(leader)
    asked = ask(leader, ScriptedServer({STATUS: hanging}))
    assert set(asked.answered) == {"kv-0"}
    assert asked.entries is not None


def test_connections_to_where_nobody_is_asked_any_more_are_closed() -> None:
    """A pod that is made anew has another address: an operator of weeks would else keep each of them."""

    def connections(server: ScriptedServer) -> int:
        ends = [one.raddr.port for one in psutil.Process().net_connections("tcp") if one.raddr]
        return ends.count(server.port)

    async def counted() -> tuple[int, int]:
        async with ScriptedServer({STATUS: status_of(LEADER)}) as one, ScriptedServer({STATUS: hanging}) as other:
            members = Members()
            try:
                await members.ask(addresses(one), addresses(one))
                before = connections(one)
                await members.ask(addresses(other), addresses(other))
                await asyncio.to_thread(wait_until, lambda: connections(one) == 0, 5.0, "no connection to the first")
                return before, connections(other)
            finally:
                await members.close()

    before, others = asyncio.run(counted())
    assert before > 0
    assert others > 0


def test_list_that_no_quorum_confirms_is_unknown() -> None:
    refused = refusing(grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out")
    assert ask(ScriptedServer({STATUS: status_of(LEADER), LIST: refused})).entries is None
    assert ask(ScriptedServer({STATUS: status_of(LEADER), LIST: hanging})).entries is None


def test_list_is_asked_of_no_learner_and_of_nobody_without_a_leader() -> None:
    for handler in (status_of(LEADER, learner=True), status_of(LEADER, leader=0)):
        server = ScriptedServer({STATUS: handler})
        server.unary[LIST] = list_of(server)
        assert ask(server).entries is None
        assert [path for path, _ in server.calls] == [STATUS]


def test_list_of_two_clusters_is_nobodys() -> None:
    one, other = ScriptedServer({STATUS: status_of(LEADER)}), ScriptedServer({STATUS: status_of(5, cluster_id=0xC2)})
    one.unary[LIST], other.unary[LIST] = list_of(one), list_of(other)
    assert ask(one, other).entries is None


ADD = "/etcdserverpb.Cluster/MemberAdd"
PROMOTE = "/etcdserverpb.Cluster/MemberPromote"
REMOVE = "/etcdserverpb.Cluster/MemberRemove"
MOVE = "/etcdserverpb.Maintenance/MoveLeader"


def test_member_of_another_cluster_at_an_address_that_was_ours_is_not_heard() -> None:
    leader = ScriptedServer({STATUS: status_of(LEADER)})
    leader.unary[LIST] = list_of(leader)
    stranger = ScriptedServer({STATUS: status_of(0x999, leader=0x999, cluster_id=0xBAD)})
    theirs = rpc.Member(ID=0x999, name="kv-0", peerURLs=["http://elsewhere:2380"], clientURLs=["http://elsewhere:2379"])
    stranger.unary[LIST] = answering(rpc.MemberListResponse(members=[theirs]))
    asked = ask(leader, stranger)
    assert set(asked.answered) == {"kv-0"}
    assert asked.entries is not None
    assert ask(stranger) == Asked({}, None)


def perform(step: Step, leader: ScriptedServer, other: ScriptedServer | None = None) -> Hold | None:
    async def performed() -> Hold | None:
        await leader.start()
        members = Members()
        found = addresses(leader, other or ScriptedServer())
        answered = {"kv-0": Answer(LEADER, CLUSTER_ID, LEADER, 3, 50, 49, 7, 4096, "3.5.30")}
        entries = (Entry(LEADER, "kv-0", ("http://kv-0:2380",), started=True),)
        seen = Observation(now_s=1.0, addresses=found, answered=answered, entries=entries)
        try:
            return await members.perform(step, seen)
        finally:
            await members.close()
            await leader.stop()

    return asyncio.run(performed())


def test_steps_are_etcds_requests_to_the_leader() -> None:
    server = ScriptedServer(
        {
            ADD: answering(rpc.MemberAddResponse(member=rpc.Member(ID=9))),
            PROMOTE: answering(rpc.MemberPromoteResponse()),
            REMOVE: answering(rpc.MemberRemoveResponse()),
            MOVE: answering(rpc.MoveLeaderResponse()),
        }
    )
    steps: list[Step] = [
        AddLearner(because="", name="kv-1", peer_url="http://kv-1:2380"),
        PromoteMember(because="", name="kv-1", member_id=7),
        RemoveMember(because="", name="kv-1", member_id=8),
        HandOver(because="", leader=LEADER, leader_name="kv-0", to=9, to_name="kv-1"),
    ]
    for step in steps:
        assert perform(step, server) is None
    sent = dict(server.calls)
    added = rpc.MemberAddRequest.FromString(sent[ADD])
    assert (list(added.peerURLs), added.isLearner) == (["http://kv-1:2380"], True)
    assert rpc.MemberPromoteRequest.FromString(sent[PROMOTE]).ID == 7
    assert rpc.MemberRemoveRequest.FromString(sent[REMOVE]).ID == 8
    assert rpc.MoveLeaderRequest.FromString(sent[MOVE]).targetID == 9


@pytest.mark.parametrize(
    ("path", "step", "code", "text", "reason"),
    [
        (
            ADD,
            AddLearner(because="", name="kv-1", peer_url="http://kv-1:2380"),
            grpc.StatusCode.UNAVAILABLE,
            "etcdserver: unhealthy cluster",
            Reason.CLUSTER_UNSETTLED,
        ),
        (
            PROMOTE,
            PromoteMember(because="", name="kv-1", member_id=7),
            grpc.StatusCode.FAILED_PRECONDITION,
            "etcdserver: can only promote a learner member which is in sync with leader",
            Reason.LEARNER_BEHIND,
        ),
        (
            REMOVE,
            RemoveMember(because="", name="kv-1", member_id=7),
            grpc.StatusCode.FAILED_PRECONDITION,
            "etcdserver: re-configuration failed due to not enough started members",
            Reason.CLUSTER_UNSETTLED,
        ),
        (
            REMOVE,
            RemoveMember(because="", name="kv-1", member_id=7),
            grpc.StatusCode.NOT_FOUND,
            "etcdserver: member not found",
            Reason.REQUEST_REFUSED,
        ),
    ],
)
def test_refusal_of_members_is_a_hold_in_their_words(
    path: str, step: Step, code: grpc.StatusCode, text: str, reason: Reason
) -> None:
    held = perform(step, ScriptedServer({path: refusing(code, text)}))
    assert held is not None
    assert held.reason is reason
    assert text in held.because


def test_change_leaves_once() -> None:
    """What becomes of it is observed: asked twice, a member could be added twice."""
    server = ScriptedServer({ADD: refusing(grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out")})
    held = perform(AddLearner(because="", name="kv-1", peer_url="http://kv-1:2380"), server)
    assert held is not None
    assert [path for path, _ in server.calls] == [ADD]


def test_change_goes_to_where_the_leaders_node_is_asked_now() -> None:
    """Its address is a name in a Kubernetes cluster's DNS, which the operator does not need."""
    server = ScriptedServer({REMOVE: answering(rpc.MemberRemoveResponse())})

    async def performed() -> Hold | None:
        members = Members()
        seen = Observation(
            now_s=1.0,
            addresses={"kv-0": Address("kv-0", "http://kv-0.nowhere.invalid:2379", "http://kv-0:2380")},
            nodes={"kv-0": Node("kv-0", running=True, since_s=0.0, client_url=server.endpoint)},
            answered={"kv-0": Answer(LEADER, CLUSTER_ID, LEADER, 3, 50, 49, 7, 4096, "3.5.30")},
            entries=(Entry(LEADER, "kv-0", ("http://kv-0:2380",), started=True),),
        )
        async with server:
            try:
                return await members.perform(RemoveMember(because="", name="kv-1", member_id=7), seen)
            finally:
                await members.close()

    assert asyncio.run(performed()) is None
    assert [path for path, _ in server.calls] == [REMOVE]


def test_change_without_a_known_leader_is_not_sent() -> None:
    async def performed() -> Hold | None:
        members = Members()
        seen = Observation(now_s=1.0, addresses=addresses(ScriptedServer()))
        try:
            return await members.perform(RemoveMember(because="", name="kv-1", member_id=7), seen)
        finally:
            await members.close()

    held = asyncio.run(performed())
    assert held is not None
    assert held.reason is Reason.REQUEST_REFUSED
