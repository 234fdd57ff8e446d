"""What every part of the transport needs to know of this member, and whom it tells what happens."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from kvorum.net.tls_connection import Policy
from kvorum.peer.identity import Identity
from kvorum.peer.streams import EntryBlocks
from kvorum.raft.message import Message

FAILURES_TOLD_MAX = 16  # different ones, until it is reached again

log = logging.getLogger("kvorum.peer")


@dataclass(frozen=True, slots=True)
class Timings:
    """How patient a member is with another, in seconds. The defaults are etcd's: both sides have to go by them."""

    redial_s: float = 0.1  # from the start of one dial to the next, after a failure and after a good end alike
    probe_s: float = 4.0
    heartbeat_s: float = 5 / 3  # on a stream; its reading side gives up after read_timeout_s
    read_timeout_s: float = 5.0  # without a byte from the other side; etcd's --raft-read-timeout
    stalled_s: float = 5.0  # not a byte was taken for this long: the peer is gone or stuck; --raft-write-timeout

    @classmethod
    def of(cls, *, read_timeout_s: float, write_timeout_s: float) -> "Timings":
        """As etcd makes the rest of them: three signs of life in a reader's patience, and a probe a second before it
        ends."""
        return cls(
            probe_s=read_timeout_s - 1.0,
            heartbeat_s=read_timeout_s / 3,
            read_timeout_s=read_timeout_s,
            stalled_s=write_timeout_s,
        )


TIMINGS = Timings()


@dataclass(frozen=True, slots=True)
class Wiring:
    """dial_timeout_s: for a connection to be made; 1 s and one election timeout in etcd.

    deliver:        messages of one read, in the order of their stream, for this member and for raft.
    on_unreachable: messages to this member were lost. Never called from within Transport.send.
    on_removed:     another member says that this one is no longer in the cluster.
    on_ended:       a member's process has ended: its stream broke, and its port takes no connection any more.
    """

    identity: Identity
    dial_timeout_s: float
    deliver: Callable[[list[Message]], None]
    on_unreachable: Callable[[int], None]
    on_removed: Callable[[], None]
    on_ended: Callable[[int], None]
    tls: Policy | None = None  # for URLs with https
    timings: Timings = TIMINGS
    blocks: EntryBlocks = field(default_factory=EntryBlocks)

    def unreachable(self, member_id: int) -> None:
        # Not at once: raft may be in the middle of handing these very messages out.
        asyncio.get_running_loop().call_soon(self.on_unreachable, member_id)


class Activity:
    """Whether a member can be reached, by the last success or failure, and since when (the loop's clock)."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._time = asyncio.get_running_loop().time
        self._told: set[str] = set()  # failures since the last success: dialing ten times a second, each is told once
        self.since: float | None = None

    def succeeded(self) -> None:
        if self.since is None:
            self.since = self._time()
            self._told.clear()
            log.info("peer %s became active", self._name)

    def failed(self, what: str) -> None:
        if self.since is not None:
            log.warning("peer %s became inactive: %s", self._name, what)
        elif what not in self._told and len(self._told) < FAILURES_TOLD_MAX:
            self._told.add(what)
            log.info("peer %s is not reachable: %s", self._name, what)
        self.since = None


def report_crash(task: "asyncio.Task[None]") -> None:
    """For tasks that only ever end by being cancelled: any other end is a defect, and goes to the loop's handler."""
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": f"task {task.get_name()} failed", "exception": error, "task": task}
        task.get_loop().call_exception_handler(context)
