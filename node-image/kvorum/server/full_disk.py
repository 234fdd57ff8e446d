"""A disk that is full, or nearly: writes of clients are refused, reads go on, and space that comes back ends it.

Noticed ahead where possible, by what the file system has left, so that the log's reserved space serves what a member
must still write: votes, and what a leader with more space sends. What finds no space all the same waits and is
tried again (LogWriter, Commits). A leader hands over once, when its disk gets full: another may have more space.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvorum.raft.message import NONE
from kvorum.server import reconfiguration
from kvorum.storage.fault import NoSpace

if TYPE_CHECKING:
    from kvorum.server.server import Server

log = logging.getLogger(__name__)

FREE_BYTES_MIN = 8 << 20  # with less left the disk counts as full: the tables may grow by that within a look
FREE_BYTES_AGAIN = 16 << 20  # with more it no longer does
LOOK_EVERY_MS = 500
HAND_OVERS_MAX = 3


class FullDisk:
    """One member's. `reason` is for people; empty while there is space."""

    def __init__(self, server: "Server", free_bytes: Callable[[], int]) -> None:
        """free_bytes: of the file system with the least, of those this member writes to. May raise OSError."""
        self._server = server
        self._free_bytes = free_bytes
        self._look_tick = 0
        self._failed_tick: int | None = None  # when a write last found no space
        self._hand_overs_left = 0
        self.reason = ""

    @property
    def is_full(self) -> bool:
        return bool(self.reason)

    def missing_bytes(self, file_bytes: int) -> int:
        """How much space is missing for one more file of this size, without the disk getting full; 0: it fits."""
        try:
            return max(0, file_bytes + FREE_BYTES_AGAIN - self._free_bytes())
        except OSError:
            return 0  # a file system that does not say; a write will

    def note(self, error: NoSpace) -> None:
        """A write found no space. Whoever wanted it tries again."""
        self._failed_tick = self._server.ticks
        self._begin(f"cannot write to {error.path}: no space left on the disk")

    def tick(self) -> None:
        server = self._server
        if server.ticks < self._look_tick:
            return
        self._look_tick = server.ticks + max(1, LOOK_EVERY_MS // server.settings.heartbeat_ms)
        if not server.log_writer.find_space():
            self._begin("there is no space for the next file of the log")
        try:
            free = self._free_bytes()
        except OSError:
            return  # a file system that does not say; a write will
        if free < FREE_BYTES_MIN:
            self._begin(f"{free >> 20} MiB are left on the disk, {FREE_BYTES_MIN >> 20} are needed")
        elif self.is_full and free >= FREE_BYTES_AGAIN and not server.wants_space and self._is_over():
            log.info("the disk has space again: writes are taken", extra={"free-bytes": free})
            self.reason = ""
        if self.is_full:
            self._hand_over()

    def _is_over(self) -> bool:
        return self._failed_tick is None or self._server.ticks > self._failed_tick + 1

    def _begin(self, why: str) -> None:
        if not self.reason:
            log.error("the disk is full: writes of clients are refused until it has space again: %s", why)
            self._hand_overs_left = HAND_OVERS_MAX if self._server.is_leader else 0
        self.reason = why

    def _hand_over(self) -> None:
        server = self._server
        if not self._hand_overs_left or not server.is_leader:
            self._hand_overs_left = 0  # it has gone; if it comes back there was nobody better
            return
        to = reconfiguration.best_transferee(server)
        if to != NONE:
            self._hand_overs_left -= 1
            log.warning("the disk is full: leadership is handed over", extra={"to": f"{to:x}"})
            server.transfer_leadership(to)
