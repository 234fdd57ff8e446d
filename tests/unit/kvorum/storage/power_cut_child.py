"""A process that does with its disk what a node does, until it is killed: run by test_power_cut.

Says `found LAST APPLIED` once it has read what the last one left and found it good, then `ack LAST` after each sync.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from kvorum.raft.message import Entry, HardState
from kvorum.state.store import KEY, META
from kvorum.storage.entry_codec import encode_metadata
from kvorum.storage.lmdb_store import LmdbStore

from tests.kit.power_cut import RecordedDataDir


def data_of(index: int, term: int) -> bytes:
    """What entry `index` of `term` must hold, so that whoever reads it can tell."""
    return b"%d/%d " % (term, index) + bytes([index % 251]) * (index * 37 % 900)


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def apply(store: LmdbStore, entry: Entry) -> None:
    index = entry.index.to_bytes(8, "big")
    store.put(KEY, index, entry.data)
    store.put(META, b"consistent_index", index)


def main(root: Path, beside: Path, seed: int) -> None:
    random = Random(seed)
    data_dir = RecordedDataDir.record(root, beside)
    if data_dir.is_new:
        data_dir.create_wal(encode_metadata(7, 9)).close()
    wal, replay = data_dir.open_wal()
    store = data_dir.open_store(2 << 30)
    applied = int.from_bytes(store.get(META, b"consistent_index") or b"", "big")
    data_dir.check_applied(replay, applied)
    for entry in replay.entries:
        assert entry.data == data_of(entry.index, entry.term), entry
        if entry.index <= applied:
            assert store.get(KEY, entry.index.to_bytes(8, "big")) == entry.data, (entry, applied)
        else:
            apply(store, entry)
    assert len(list(store.scan(KEY))) == replay.last_index
    say(f"found {replay.last_index} {applied}")

    term = replay.hard_state.term + 1
    wal.write(HardState(term, 7, replay.last_index), ())
    wal.sync()
    last = replay.last_index
    with ThreadPoolExecutor(1) as thread:
        while True:
            batch = [
                Entry(term, index, data_of(index, term)) for index in range(last + 1, last + random.randint(2, 20))
            ]
            wal.write(HardState(term, 7, last), batch)
            wal.sync()
            last = batch[-1].index if batch else last
            say(f"ack {last}")
            for entry in batch:
                apply(store, entry)
            if random.random() < 0.2:
                commit = store.begin_commit()
                future = thread.submit(commit)
                commit.wait_filled()
                future.result()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
