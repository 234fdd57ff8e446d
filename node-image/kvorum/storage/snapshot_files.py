"""What snapshots leave in a member's directory, and how the tables of a received one take the place of the old ones.

    member/snap/TERM-INDEX.snap        see snap_file
    member/snap/sent-….db, got-….db    on their way to or from another member, or to a client; gone after that
    member/store.incoming-INDEX/       a received snapshot's tables, whole before the log mentions its index
    member/store.replaced/             the tables before it, until they are removed

Once the log durably mentions a snapshot that the tables have not reached, the incoming ones are the member's state: a
crash at any point before or after the two renames is finished at the next start. Knows no raft and no peer.
"""

import itertools
import logging
import os
import re
import sys
from pathlib import Path

from kvorum.raft.message import Snapshot
from kvorum.state.store import META
from kvorum.storage import store_check
from kvorum.storage.disk import Disk
from kvorum.storage.fault import CorruptStore
from kvorum.storage.lmdb_store import LmdbStore
from kvorum.storage.snap_file import purge_snaps, write_snap

log = logging.getLogger(__name__)

_INCOMING, _REPLACED = "store.incoming-", "store.replaced"
_PASSING = re.compile(r"(sent|got)-.*\.db")
_CONSISTENT_INDEX = b"consistent_index"  # of the table meta: up to where the tables hold what the log says


class SnapshotFiles:
    """marked_index: of the newest snapshot that the log mentions, as far as finish() was told; 0 for none."""

    def __init__(self, store_path: Path, disk: Disk | None = None) -> None:
        self.store_path = store_path
        self.directory = store_path.parent / "snap"
        self.marked_index = 0
        self._disk = disk or Disk()
        self._numbers = itertools.count(1)

    # -- names

    def new_passing(self, kind: str) -> Path:
        """kind: sent or got. A name of this process alone: what an orphan of a killed one still writes is not ours."""
        return self.directory / f"{kind}-{os.getpid()}-{next(self._numbers)}.db"

    def incoming(self, index: int) -> Path:
        return self.store_path.with_name(f"{_INCOMING}{index:016x}")

    def remove(self, path: Path) -> None:
        self._disk.remove(path)

    # -- small files

    def save(self, snapshot: Snapshot) -> None:
        """Durable once this returns. Raises SnapFailed."""
        write_snap(self.directory, snapshot, disk=self._disk)

    def purge(self, keep_count: int) -> int:
        """Keeps so many of the newest (0: all); the index of the oldest that stays. Raises SnapFailed."""
        kept = purge_snaps(self.directory, keep_count or sys.maxsize, disk=self._disk)
        return min((snapshot.index for snapshot in kept), default=0)

    # -- tables

    def remove_incoming(self) -> None:
        """Tables that came, whole or not, and took nobody's place."""
        for name in self._disk.names(self.store_path.parent):
            if name.startswith(_INCOMING):
                self._disk.remove(self.store_path.with_name(name))

    def swap_in(self, index: int) -> None:
        """Puts the incoming tables in the place of the present ones; only once the log mentions index.

        Raises OSError.
        """
        replaced = self.store_path.with_name(_REPLACED)
        self._disk.remove(replaced)
        if self._disk.exists(self.store_path):
            self._disk.rename(self.store_path, replaced)
        self._disk.rename(self.incoming(index), self.store_path)
        self._disk.sync_directory(self.store_path.parent)
        self._disk.remove(replaced)

    def finish(self, index: int) -> None:
        """At the start: what a crash interrupted is finished, and what it left is removed.

        index: of the newest snapshot that the log mentions. Raises CorruptStore, StoreFailed (all is as it was then),
        OSError.
        """
        self.marked_index = index
        if index and self._disk.exists(self.incoming(index)) and self._is_due(index):
            self.swap_in(index)
        self.remove_incoming()
        replaced = self.store_path.with_name(_REPLACED)
        if self._disk.exists(replaced) and not self._disk.exists(self.store_path):
            # What was to take its place is gone. These are the last; what they lack is for others to say.
            self._disk.rename(replaced, self.store_path)
            self._disk.sync_directory(self.store_path.parent)
        self._disk.remove(replaced)
        if self._disk.exists(self.directory):
            for name in self._disk.names(self.directory):
                if _PASSING.fullmatch(name):
                    self._disk.remove(self.directory / name)

    def _is_due(self, index: int) -> bool:
        """Whether the incoming tables, which are of this mark, are the member's state. Raises CorruptStore."""
        if not self._disk.exists(self.store_path):
            return True  # the first rename was made
        try:
            return self._reached(self.store_path) < index
        except CorruptStore as damage:
            # Whole ones do, however far the damaged were: what was committed up to the mark is in them, whoever sent
            # them, and what came after it is in the log.
            if self._reached(self.incoming(index)) < index:
                raise
            why = damage.why
        log.warning("the tables are damaged; those that were received take their place", extra={"why": why})
        return True

    def _reached(self, tables: Path) -> int:
        """Up to where they hold what the log says. Raises CorruptStore: LMDB itself would end the process."""
        store_check.require_whole(tables)
        store = LmdbStore.open(tables)
        try:
            return int.from_bytes(store.get(META, _CONSISTENT_INDEX) or b"", "big")
        finally:
            store.close()
