"""/v2/stats: what a member says of itself, of those that follow it, and of the v2 store."""

import time
from collections.abc import Callable, Mapping

from kvorum.net.exchange import HttpResponse
from kvorum.raft.core import Role
from kvorum.raft.message import NONE
from kvorum.server.peers import PeerTraffic
from kvorum.server.server import Server
from kvorum.state import go_json, go_time
from kvorum.state.membership import hex_id

JSON = ("Content-Type", "application/json")
Traffic = Callable[[], Mapping[int, PeerTraffic]]  # with each other member
STATES = {Role.LEADER: "StateLeader", Role.FOLLOWER: "StateFollower"}


class Stats:
    def __init__(self, server: Server, name: str, traffic: Traffic) -> None:
        self._server = server
        self._name = name
        self._traffic = traffic
        self._started_ns = self._led_since_ns = time.time_ns()
        self._leader = server.raft.leader
        server.on_role_change.append(self._role_changed)

    def _role_changed(self) -> None:
        leader = self._server.raft.leader
        if leader not in (NONE, self._leader):
            self._leader, self._led_since_ns = leader, time.time_ns()

    def own(self) -> HttpResponse:
        server = self._server
        leader = "" if self._leader == NONE else hex_id(self._leader)
        return _answer(
            {
                "name": self._name,
                "id": hex_id(server.member_id),
                "state": STATES.get(server.raft.role, "StateCandidate"),
                "startTime": go_time.format_ns(self._started_ns),
                "leaderInfo": {
                    "leader": leader,
                    "uptime": duration(time.time_ns() - self._led_since_ns),
                    "startTime": go_time.format_ns(self._led_since_ns),
                },
                "recvAppendRequestCnt": 0,
                "sendAppendRequestCnt": 0,
            }
        )

    def leader(self) -> HttpResponse:
        server = self._server
        if not server.is_leader:
            return HttpResponse(403, go_json.dumps({"message": "not current leader"}), (JSON,))
        followers = {hex_id(member): _follower(seen) for member, seen in sorted(self._traffic().items())}
        return _answer({"leader": hex_id(server.member_id), "followers": followers})

    def store(self) -> HttpResponse:
        server = self._server
        return _answer({**server.machine.v2.counts, "watchers": server.v2.watchers_count})


def _follower(seen: PeerTraffic) -> dict[str, object]:
    """In milliseconds, and of the probes that members answer each other: what carries entries is not timed."""
    trips = seen.round_trips
    count = sum(trips.counts)
    average_ms = 1000 * trips.sum_s / count if count else 0.0
    latency = dict.fromkeys(("current", "average", "standardDeviation", "minimum", "maximum"), average_ms)
    return {
        "latency": latency | {"standardDeviation": 0.0},
        "counts": {"fail": seen.sent_failures, "success": count},
    }


def _answer(document: object) -> HttpResponse:
    return HttpResponse(200, go_json.dumps(document), (JSON,))


def duration(time_ns: int) -> str:
    """As Go writes it: 1h2m3.5s, 1.5ms, 0s."""
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if time_ns < size * 1000 and size < 1_000_000_000 and time_ns:
            return f"{_decimal(time_ns, size)}{unit}"
    minutes, left_ns = divmod(time_ns, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(left_ns, 1_000_000_000)}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(number: int, unit: int) -> str:
    whole, rest = divmod(number, unit)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}}".rstrip("0") if rest else str(whole)
