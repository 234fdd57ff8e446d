"""Files and directories, as the log needs them: the one door between it and the operating system.

A class and not calls of `os`, so that a test can stand behind it and know what a power cut would leave: what
fdatasync and sync_directory have covered, and nothing else. Knows no records. Errors are OSError, as they come.
"""

import errno
import fcntl
import os
import shutil
from pathlib import Path

FILE_MODE, DIRECTORY_MODE = 0o600, 0o700  # etcd's
FULL = (errno.ENOSPC, errno.EDQUOT)  # what the operating system says where there is no space left for us


class File:
    """An open file, for reading and writing at offsets."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def pwrite(self, data: bytes, offset: int) -> None:
        """All of data, at offset. Not durable before the next fdatasync or fsync."""
        written = os.pwrite(self._fd, data, offset)
        while written < len(data):  # a signal or a nearly full disk; the latter raises on the next turn
            data, offset = data[written:], offset + written
            written = os.pwrite(self._fd, data, offset)

    def fdatasync(self) -> None:
        """What was written, and the size if it grew, are on the disk once this returns. Releases the GIL."""
        os.fdatasync(self._fd)

    def fsync(self) -> None:
        """The same with everything else about the file."""
        os.fsync(self._fd)

    def read(self) -> bytes:
        """The whole file."""
        size = os.fstat(self._fd).st_size
        parts: list[bytes] = []
        offset = 0
        while offset < size:
            part = os.pread(self._fd, size - offset, offset)
            if not part:
                break  # somebody made it shorter: who reads on sees that
            parts.append(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def size(self) -> int:
        """Its length in bytes, what is reserved included."""
        return os.fstat(self._fd).st_size

    def allocate(self, size_bytes: int) -> None:
        """Grow to at least size_bytes, zeros at the end, with blocks reserved: fdatasync then need not log the size."""
        try:
            os.posix_fallocate(self._fd, 0, size_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            # A file system that cannot reserve: only slower.
            if os.fstat(self._fd).st_size < size_bytes:
                os.ftruncate(self._fd, size_bytes)

    def truncate(self, size_bytes: int) -> None:
        os.ftruncate(self._fd, size_bytes)

    def lock(self) -> bool:
        """Whether the file is now ours alone, until it is closed."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self._fd)


def free_bytes(path: Path) -> int:
    """What is left for us of the file system that path lies on. Raises OSError."""
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize


class Disk:
    """The directory's side. Renames, creations and removals are durable after sync_directory of their parent."""

    def create(self, path: Path) -> File:
        """A new, empty file. An old one of that name is emptied."""
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        return File(os.open(path, flags, FILE_MODE))

    def open(self, path: Path) -> File:
        return File(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def exists(self, path: Path) -> bool:
        return path.exists()

    def names(self, directory: Path) -> list[str]:
        """Sorted. Raises FileNotFoundError."""
        return sorted(os.listdir(directory))

    def make_directory(self, path: Path) -> None:
        """For the owner only. Its parent exists; it may exist too."""
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)

    def rename(self, old: Path, new: Path) -> None:
        os.rename(old, new)

    def remove(self, path: Path) -> None:
        """A file, or a directory with all that is in it. No error if it is absent."""
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            pass

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
