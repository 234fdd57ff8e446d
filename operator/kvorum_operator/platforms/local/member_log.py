"""Logs of members: the file a process appends to, its older parts, and what it complained of last.

A member outlives operators, so the file cannot be handed another descriptor: it is copied and emptied in place. Lines
written between the two are lost; they are few, and a bound on the disk is worth more than they are.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from kvorum_operator.members.last_words import instant, last_words
from kvorum_operator.platforms.local.state_directory import privately

LOG_BYTES_MAX = 16 << 20
OLDER_PARTS_MAX = 3
TAIL_BYTES = 64 << 10
COMPLAINT_LINES_MAX = 200


def open_for_writing(path: Path) -> IO[bytes]:
    """Appending: after the file was emptied in place, writing goes on at its new end."""
    return open(path, "ab", opener=privately)


def rotate(path: Path, bytes_max: int = LOG_BYTES_MAX) -> bool:
    """Log to log.1, log.1 to log.2 and so on, once it is bigger than bytes_max. Whether it was."""
    try:
        if path.stat().st_size <= bytes_max:
            return False
    except FileNotFoundError:
        return False
    for part in range(OLDER_PARTS_MAX, 1, -1):
        newer = path.with_name(f"{path.name}.{part - 1}")
        if newer.exists():
            newer.rename(path.with_name(f"{path.name}.{part}"))
    with path.open("rb") as log, open(path.with_name(f"{path.name}.1"), "wb", opener=privately) as part_1:
        shutil.copyfileobj(log, part_1)
    os.truncate(path, 0)
    return True


def tail(path: Path, lines_count: int) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines_count:] if lines_count else []


def by_time(found: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Lines of several members with their names, as they were written; each member's stay in their order."""
    dated = []
    for name, lines in found.items():
        latest = ""
        for line in lines:
            latest = max(
                latest, instant(line)
            )  # what has no time of its own, as a traceback, goes with what is above it
            dated.append((latest, name, line))
    return [(name, line) for _, name, line in sorted(dated, key=lambda one: one[0])]


def last_complaint(path: Path) -> str:
    return last_words(tail(path, COMPLAINT_LINES_MAX))


def read_from(path: Path, offset: int) -> tuple[list[str], int]:
    """Whole lines added since offset, and the offset after them. A log that became shorter is read from its start."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(offset if offset <= size else 0)
            start = file.tell()
            data = file.read()
    except FileNotFoundError:
        return [], 0
    whole = data.rfind(b"\n") + 1
    return data[:whole].decode(errors="replace").splitlines(), start + whole
