"""Segments: the files a log consists of, and what each of them begins with.

Knows names and heads; what the records in them add up to is replay's. A segment is SEGMENT_BYTES of preallocated
zeros that fill with records; it is cut at the first sync after it is full, so it may be a batch longer.
"""

import itertools
import re
from pathlib import Path
from typing import NamedTuple

from kvorum.raft.message import HardState
from kvorum.storage.disk import Disk
from kvorum.storage.entry_codec import encode_hard_state
from kvorum.storage.fault import CorruptWal
from kvorum.storage.record import CRC, METADATA, STATE, encode_record, extend_crc

SEGMENT_BYTES = 64_000_000  # etcd's; a round number, not a power of two
HEAD = (CRC, METADATA)  # each segment begins with these, so that it can be read alone; a STATE follows if there is one
NO_STATE = HardState()
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")


class SegmentName(NamedTuple):
    """sequence: counts the segments of a log from 0. first_index: of the entry expected next when it was begun."""

    sequence: int
    first_index: int

    def __str__(self) -> str:
        return f"{self.sequence:016x}-{self.first_index:016x}.wal"


def segment_names(disk: Disk, directory: Path) -> list[SegmentName]:
    """In order, other files passed over; none if the directory is absent. Raises CorruptWal if one is missing."""
    try:
        found = disk.names(directory)
    except FileNotFoundError:
        return []
    names = sorted(
        SegmentName(int(match[1], 16), int(match[2], 16)) for name in found if (match := _NAME.fullmatch(name))
    )
    for before, name in itertools.pairwise(names):
        if name.sequence != before.sequence + 1:
            raise CorruptWal(
                directory, None, f"segment {before.sequence + 1:016x} is missing between {before} and {name}"
            )
    return names


def encode_head(crc: int, metadata: bytes, hard_state: HardState) -> tuple[bytes, int]:
    """The records each segment begins with, so that it can be read alone, and the sum behind them.

    crc: the sum of all segments before. The empty hard state is left out: nobody voted yet.
    """
    parts = [encode_record(CRC, crc, None)]
    crc = extend_crc(crc, metadata)
    parts.append(encode_record(METADATA, crc, metadata))
    if hard_state != NO_STATE:
        data = encode_hard_state(hard_state)
        crc = extend_crc(crc, data)
        parts.append(encode_record(STATE, crc, data))
    return b"".join(parts), crc
