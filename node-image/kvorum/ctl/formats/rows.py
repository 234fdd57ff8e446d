"""Answers as rows of cells: what the formats simple and table show of members and endpoints."""

from collections.abc import Sequence

from kvorum.ctl import go_text
from kvorum.ctl.formats.answers import Hashes, Healths, Statuses
from kvorum.ctl.go_text import boolean
from kvorum.etcdpb import rpc_pb2 as rpc

Rows = list[list[str]]

MEMBERS = ("ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner")
HEALTHS = ("endpoint", "health", "took", "error")
STATUSES = (
    "endpoint",
    "ID",
    "version",
    "db size",
    "is leader",
    "is learner",
    "raft term",
    "raft index",
    "raft applied index",
    "errors",
)
HASHES = ("endpoint", "hash")


def of_members(answer: rpc.MemberListResponse) -> Rows:
    return [
        [
            f"{member.ID:x}",
            "started" if member.name else "unstarted",
            member.name,
            ",".join(member.peerURLs),
            ",".join(member.clientURLs),
            boolean(member.isLearner),
        ]
        for member in answer.members
    ]


def of_healths(answer: Healths) -> Rows:
    return [[one.endpoint, boolean(one.healthy), one.took, one.error] for one in answer.members]


def of_statuses(answer: Statuses) -> Rows:
    return [
        [
            endpoint,
            f"{status.header.member_id:x}",
            status.version,
            go_text.size(status.dbSize),
            boolean(status.leader == status.header.member_id),
            boolean(status.isLearner),
            str(status.raftTerm),
            str(status.raftIndex),
            str(status.raftAppliedIndex),
            ", ".join(status.errors),
        ]
        for endpoint, status in answer.members
    ]


def of_hashes(answer: Hashes) -> Rows:
    return [[endpoint, str(one.hash)] for endpoint, one in answer.members]


def lines(rows: Sequence[Sequence[str]]) -> bytes:
    return b"".join(", ".join(row).encode(errors="surrogateescape") + b"\n" for row in rows)
