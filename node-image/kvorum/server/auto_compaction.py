"""Compaction by the clock: what of the history the leader drops by itself (etcd's two modes).

periodic: ten times in each interval the revision is noted; once an interval what is older than the retention goes. The
interval is the retention, but an hour at most. revision: every five minutes all but the last N revisions go.
Both run on the leader only, and start anew with it.
"""

from collections import deque
from typing import TYPE_CHECKING

from kvorum.server.answer import Done
from kvorum.state.row import varint

if TYPE_CHECKING:
    from kvorum.server.server import Server

REVISION_INTERVAL_S = 300.0
PERIODIC_INTERVAL_MAX_S = 3600.0
NOTES_AN_INTERVAL = 10


class AutoCompaction:
    """Asked at every tick."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._notes: deque[int] = deque()  # revisions, one for each note interval of the retention
        self._next = 0.0
        self._next_compaction = 0.0

    def tick(self) -> None:
        settings, now = self._server.settings, self._server.loop.time()
        if not self._server.is_leader:
            self._notes.clear()
            return
        if now < self._next:
            return
        if settings.auto_compaction_revisions:
            self._next = now + REVISION_INTERVAL_S
            self._compact(self._server.machine.revision - settings.auto_compaction_revisions)
        elif settings.auto_compaction_period_ms:
            self._note(now, settings.auto_compaction_period_ms / 1000)

    def _note(self, now: float, retention_s: float) -> None:
        interval_s = min(retention_s, PERIODIC_INTERVAL_MAX_S)
        note_s = interval_s / NOTES_AN_INTERVAL
        self._next = now + note_s
        if not self._notes:
            self._next_compaction = now + retention_s  # what came before this member led is of unknown age
        self._notes.append(self._server.machine.revision)
        if len(self._notes) > retention_s / note_s + 1:
            self._notes.popleft()
        if now >= self._next_compaction:
            self._next_compaction = now + interval_s
            self._compact(self._notes[0])

    def _compact(self, revision: int) -> None:
        if revision <= self._server.machine.compact_revision:
            return
        body = b"\x08" + varint(revision)
        self._server.propose(b"\x3a" + varint(len(body)) + body, Done(lambda refused: None))
