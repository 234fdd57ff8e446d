"""`kvorum` on a disk that can be slow and can forget: python -m tests.chaos.faulty_node BESIDE FLAGS...

BESIDE is a folder outside of the data directory. While BESIDE/slow is there, each sync takes up to as many milliseconds
as it says. After a `kill -9`, lose_unsynced() takes from the log what a power cut at that moment could have taken. The
tables keep what was written: LMDB syncs within each commit, and must never be ahead of what the log still holds.
"""

import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from kvorum.main import main
from kvorum.storage.data_dir import DataDir
from kvorum.storage.disk import File

from tests.kit.power_cut import RecordingDisk, replay_journal


class SlowFile(File):
    def __init__(self, file: File, switch: Path) -> None:
        super().__init__(file._fd)
        self._file = file
        self._switch = switch

    def _wait(self) -> None:
        try:
            most_ms = int(self._switch.read_text())
        except (FileNotFoundError, ValueError):  # ValueError: it is being written
            return
        time.sleep(random.uniform(0, most_ms / 1000))

    def pwrite(self, data: bytes, offset: int) -> None:
        self._file.pwrite(data, offset)

    def fdatasync(self) -> None:
        self._wait()
        self._file.fdatasync()

    def fsync(self) -> None:
        self._wait()
        self._file.fsync()

    def allocate(self, size_bytes: int) -> None:
        self._file.allocate(size_bytes)

    def truncate(self, size_bytes: int) -> None:
        self._file.truncate(size_bytes)


class FaultyDisk(RecordingDisk):
    """Keeps a journal of the log's directory alone: other files may be as large as the tables."""

    def __init__(self, beside: Path, log: Path) -> None:
        self._switch = beside / "slow"
        self._log = log
        self._others: set[int] = set()  # files that are not of the log
        super().__init__(beside / "journal", log)
        super().record("base_directory", log.parent)  # as if it had been there: the log's own directory is what counts

    def record(self, operation: str, *arguments: Any) -> None:
        of = arguments[0]
        if isinstance(of, int):
            is_of_log = of not in self._others
        else:
            being_made = self._log.with_suffix(".tmp")
            is_of_log = not {self._log, being_made}.isdisjoint((of, *of.parents))
            if operation == "sync_directory":
                is_of_log = is_of_log or of == self._log.parent
            elif operation in ("create", "open") and not is_of_log:
                self._others.add(arguments[1])
        if is_of_log:
            super().record(operation, *arguments)

    def create(self, path: Path) -> File:
        return SlowFile(super().create(path), self._switch)

    def open(self, path: Path) -> File:
        return SlowFile(super().open(path), self._switch)


class FaultyDataDir(DataDir):
    segment_bytes = 200_000  # cuts within seconds


def wal_of(root: Path) -> Path:
    return root / "member" / "wal"


def lose_unsynced(root: Path, beside: Path, dice: random.Random) -> int:
    """After a kill: of what the log had not synced any part is gone. How many bytes of it changed."""
    if not (beside / "journal").exists():
        return 0  # killed before it did anything
    disk = replay_journal(beside / "journal")
    disk.cut(dice)
    wal = wal_of(root)
    before = {path.name: path.read_bytes() for path in wal.glob("*")} if wal.exists() else {}
    try:
        disk.directory(wal)
    except FileNotFoundError:
        shutil.rmtree(wal, ignore_errors=True)
        return sum(map(len, before.values()))
    disk.write_to(wal)
    after = {path.name: path.read_bytes() for path in wal.glob("*")}
    return sum(
        sum(one != other for one, other in zip(before.get(name, b""), after.get(name, b""), strict=False))
        for name in before
        if before[name] != after.get(name)
    )


if __name__ == "__main__":
    folder = Path(sys.argv.pop(1))
    folder.mkdir(parents=True, exist_ok=True)
    main(open_data_dir=lambda root, wal: FaultyDataDir.open(root, wal, disk=FaultyDisk(folder, wal)))
