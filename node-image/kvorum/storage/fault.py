"""What can be wrong with the disk, each with a name, and each with a text for the person who has to act.

The first line of a text says where and what, the following ones, indented, why that stops the node and the way out.
"""

from pathlib import Path

_REPLACE_MEMBER = (
    "Remove this member from the cluster (etcdctl member remove), empty its data directory, and add it again.\n"
    "  With a single member: restore a backup."
)


class StorageFault(Exception):
    """The node cannot go on with its disk as it is. str() is for people: several lines, no traceback needed."""


class CorruptWal(StorageFault):
    """The log holds what was never written so. It may have been acknowledged: nothing is cut off, nothing guessed.

    offset: bytes from the start of the file `path`; None if the fault is the file itself, or `path` the directory.
    """

    def __init__(self, path: Path, offset: int | None, why: str) -> None:
        where = f"{path}" if offset is None else f"{path}, byte {offset}"
        super().__init__(
            f"{where}: {why}\n"
            "  What was lost there may have been acknowledged to clients or to other members, so this member stops.\n"
            f"  {_REPLACE_MEMBER}"
        )
        self.path, self.offset, self.why = path, offset, why


class WalFailed(StorageFault):
    """A write or sync of the log failed: what is on the disk is unknown. The process must end; nothing is retried."""

    def __init__(self, path: Path, doing: str, error: OSError) -> None:
        super().__init__(
            f"{path}: cannot {doing}: {error.strerror or error}\n"
            "  Whether the last entries are on the disk is unknown, so nothing is retried and this process ends.\n"
            "  See to the disk (space, errors in the kernel's log), then start again: the log is read from the start."
        )
        self.path, self.error = path, error


class StoreFailed(StorageFault):
    """The tables could not be opened, written or committed. The process must end; the log brings back what is lost."""

    def __init__(self, path: Path, doing: str, why: str, way_out: str) -> None:
        super().__init__(f"{path}: cannot {doing}: {why}\n  {way_out}")
        self.path = path


class CorruptStore(StorageFault):
    """The tables hold what was never written so, or cannot be read as tables at all."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path}: the tables are damaged: {why}\n"
            "  What this member would answer from them could be wrong, so it does not serve.\n"
            f"  {_REPLACE_MEMBER}"
        )
        self.path, self.why = path, why


class NoSpace(StorageFault):
    """The disk is full. Nothing of what was to be written is there, and it may be tried again when space is back."""

    def __init__(self, path: Path, doing: str) -> None:
        super().__init__(
            f"{path}: cannot {doing}: no space left on the disk\n"
            "  Free space on the volume, or enlarge it: this member goes on by itself then."
        )
        self.path = path


class Locked(StorageFault):
    """Another process uses the data."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is in use by another process\n"
            "  Two nodes on one data directory would destroy it, so this one stops.\n"
            f"  Stop the other (fuser {path}), or give this node a --data-dir of its own."
        )
        self.path = path


class UnusableDataDir(StorageFault):
    """The data directory is foreign, incomplete or out of reach. Nothing in it was touched."""

    def __init__(self, path: Path, why: str, way_out: str) -> None:
        super().__init__(f"{path}: {why}\n  {way_out}")
        self.path = path


class CorruptSnap(StorageFault):
    """A snapshot file is not as it was written. An older one may do; without any, the member cannot start."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}\n  {_REPLACE_MEMBER}")
        self.path, self.why = path, why


class SnapFailed(StorageFault):
    """A snapshot file could not be read, written or removed. What was there before is still there."""

    def __init__(self, path: Path, doing: str, error: OSError) -> None:
        super().__init__(
            f"{path}: cannot {doing}: {error.strerror or error}\n"
            "  The log still holds what the snapshot was to replace. See to the disk (space, permissions)."
        )
        self.path, self.error = path, error


class CorruptDb(StorageFault):
    """A bbolt file (etcd's db) is not one, or is damaged. why names the page."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path}: {why}\n"
            "  If it is a copy, use another one: of another member, or an older backup. If it is the member's own:\n"
            f"  {_REPLACE_MEMBER}"
        )
        self.path, self.why = path, why


class LogLost(UnusableDataDir):
    """The directory is a member's, and its log is gone: votes and entries may be forgotten."""
