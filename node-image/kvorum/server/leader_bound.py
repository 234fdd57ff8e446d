"""Streams whose client asked (metadata `hasleader`) to be told when there is no leader."""

from typing import TYPE_CHECKING, Protocol

from kvorum.raft.message import NONE

if TYPE_CHECKING:
    from kvorum.server.server import Server

LEADERLESS_ELECTIONS = 3  # timeouts without a leader until they are ended (etcd's)


class LeaderBound(Protocol):
    def refuse_leaderless(self) -> None: ...


class LeaderBoundStreams:
    """Those that are open on one member."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._open: set[LeaderBound] = set()

    def add(self, stream: LeaderBound) -> None:
        self._open.add(stream)

    def discard(self, stream: LeaderBound) -> None:
        self._open.discard(stream)

    def tick(self) -> None:
        server = self._server
        if not self._open or server.raft.leader != NONE:
            return
        if server.ticks - server.leader_lost_tick > LEADERLESS_ELECTIONS * server.settings.election_ticks:
            for stream in list(self._open):
                stream.refuse_leaderless()
