"""What makes a node stand aside, and what ends it."""

from pathlib import Path

import pytest
from kvorum.aside import lines_of, trouble_of
from kvorum.server.corruption import Differs
from kvorum.server.joining import DataLost, JoinRefused
from kvorum.server.snapshot_db import ConversionFailed
from kvorum.storage.fault import (
    CorruptDb,
    CorruptSnap,
    CorruptStore,
    CorruptWal,
    Locked,
    LogLost,
    NoSpace,
    StoreFailed,
    UnusableDataDir,
    WalFailed,
)

HERE = Path("/data")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (DataLost("member 1 lost it\n  Bring it back."), "data-lost"),
        (LogLost(HERE, "no log", "Bring it back."), "data-lost"),
        (CorruptWal(HERE, 60, "a checksum"), "corrupt"),
        (CorruptStore(HERE, "a page"), "corrupt"),
        (CorruptSnap(HERE, "the log mentions this snapshot, and its file is broken"), "corrupt"),
        (CorruptDb(HERE, "page 5 is neither leaf nor branch"), "corrupt"),
        (Differs("other keys\n  Remove it."), "corrupt"),
    ],
)
def test_what_no_further_start_mends_is_stood_aside_for(error: Exception, state: str) -> None:
    trouble = trouble_of(error)
    assert trouble is not None
    assert trouble.state == state
    assert trouble.lines[0] == str(error).split("\n")[0]
    assert "\n" not in trouble.reason
    assert all(line == line.strip() for line in trouble.lines)


@pytest.mark.parametrize(
    "error",
    [
        JoinRefused("member count is unequal"),
        UnusableDataDir(HERE, "holds thesis.txt", "Give another."),
        Locked(HERE),
        StoreFailed(HERE, "open the store", "Permission denied", "See to it."),
        WalFailed(HERE, "read the log", OSError(5, "Input/output error")),
        NoSpace(HERE, "write"),
        ConversionFailed("/data: the process that read it was ended by SIGKILL"),
    ],
)
def test_what_a_setting_or_a_later_start_mends_ends_the_process(error: Exception) -> None:
    assert trouble_of(error) is None
    assert lines_of(error)[0] == str(error).split("\n")[0]
