"""Who this member says it is on the peer port, and whether it may talk to who is asking.

Knows the headers of etcd's rafthttp and the rules on versions behind them; no socket, no membership.
A real etcd compares ids as strings (lower-case hex, no leading zeros) and ends its process over a version in a stream's
answer that is not x.y.z: both are therefore made in one place only, here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kvorum.state.membership import hex_id

CLUSTER_ID: Final = "X-Etcd-Cluster-Id"
SERVER_FROM: Final = "X-Server-From"
SERVER_VERSION: Final = "X-Server-Version"
MIN_CLUSTER_VERSION: Final = "X-Min-Cluster-Version"
RAFT_TO: Final = "X-Raft-To"
PEER_URLS: Final = "X-Peerurls"
KVORUM_VERSION: Final = "X-Kvorum-Version"  # in a stream's answer: it comes from one of ours. etcd does not look at it

VERSION_MIN: Final = "3.0.0"  # of a cluster that an etcd 3.5 agrees to be in
VERSION_UNTOLD: Final = "2.0.0"  # who sends no version is taken for the last etcd that sent none

# What an etcd of each minor version may stream with although it is older than itself (rafthttp's table).
_STREAMING_MINORS: Final = frozenset({(2, 1), (2, 2), (2, 3), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 5)})

_VERSION: Final = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})(?:[-+][0-9A-Za-z.+-]*)?")
_HEX: Final = re.compile(r"[0-9a-fA-F]{1,16}")


@dataclass(frozen=True, slots=True)
class Identity:
    """version: the etcd version that is claimed, x.y.z."""

    member_id: int
    cluster_id: int
    peer_urls: tuple[str, ...]
    version: str

    def __post_init__(self) -> None:
        if not _VERSION.fullmatch(self.version):
            raise ValueError(f"{self.version!r} is not a version of the form x.y.z: etcd members would crash on it")

    def headers(self) -> list[tuple[str, str]]:
        """What a member says of itself in each request that carries raft messages."""
        return [
            (CLUSTER_ID, hex_id(self.cluster_id)),
            (SERVER_FROM, hex_id(self.member_id)),
            (SERVER_VERSION, self.version),
            (MIN_CLUSTER_VERSION, VERSION_MIN),
            (PEER_URLS, ",".join(self.peer_urls)),
        ]

    def objection(self, headers: Mapping[str, str]) -> str | None:
        """Why the sender of these headers (names in lower case) cannot be a member of this cluster, in etcd's words."""
        theirs = version_pair(headers.get(SERVER_VERSION.lower(), VERSION_UNTOLD))
        least = version_pair(headers.get(MIN_CLUSTER_VERSION.lower(), VERSION_UNTOLD))
        # etcd's handler panics on what is no version and gives no answer; its sender cannot tell that from this one.
        if theirs is None or least is None or theirs < (3, 0) or least > self._version_pair:
            return "incompatible version"
        if headers.get(CLUSTER_ID.lower()) != hex_id(self.cluster_id):
            return "cluster ID mismatch"
        return None

    def may_stream_from(self, headers: Mapping[str, str]) -> bool:
        """Whether a stream's answer comes from a member that speaks our two stream codecs."""
        theirs = version_pair(headers.get(SERVER_VERSION.lower(), VERSION_UNTOLD))
        return theirs is not None and (theirs >= self._version_pair or theirs in _STREAMING_MINORS)

    @property
    def _version_pair(self) -> tuple[int, int]:
        pair = version_pair(self.version)
        assert pair is not None
        return pair


def version_pair(version: str) -> tuple[int, int] | None:
    """Major and minor of x.y.z; None if it is something else."""
    match = _VERSION.fullmatch(version)
    return (int(match[1]), int(match[2])) if match else None


def parse_hex_id(text: str) -> int | None:
    return int(text, 16) if _HEX.fullmatch(text) else None
