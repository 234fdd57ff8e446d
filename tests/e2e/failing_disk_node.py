"""`kvorum` on a disk that can fail: python -m tests.e2e.failing_disk_node TRIGGER FLAGS…

Once the file TRIGGER is there, each sync of the log ends with EIO, as on a disk whose block cannot be written.
"""

import errno
import os
import sys
from pathlib import Path

from kvorum.main import main
from kvorum.storage.data_dir import DataDir
from kvorum.storage.disk import Disk, File


class FailingFile(File):
    def __init__(self, file: File, trigger: Path) -> None:
        super().__init__(file._fd)
        self._trigger = trigger

    def fdatasync(self) -> None:
        if self._trigger.exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fdatasync()


class FailingDisk(Disk):
    def __init__(self, trigger: Path) -> None:
        self._trigger = trigger

    def create(self, path: Path) -> File:
        return FailingFile(super().create(path), self._trigger)

    def open(self, path: Path) -> File:
        return FailingFile(super().open(path), self._trigger)


if __name__ == "__main__":
    trigger = Path(sys.argv.pop(1))
    main(open_data_dir=lambda root, wal_path: DataDir.open(root, wal_path, disk=FailingDisk(trigger)))
