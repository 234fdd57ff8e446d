"""The log: etcd's bytes and logs, what it keeps, and what it refuses."""

import itertools
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from kvorum.raft import change_codec
from kvorum.raft.message import ConfChange, ConfChangeType, ConfState, Entry, HardState, Snapshot
from kvorum.storage.disk import Disk
from kvorum.storage.entry_codec import (
    decode_entry,
    decode_hard_state,
    encode_entry,
    encode_hard_state,
    encode_metadata,
)
from kvorum.storage.fault import CorruptWal, Locked, WalFailed
from kvorum.storage.record import CRC, ENTRY, METADATA, SNAPSHOT, STATE, encode_record, extend_crc, read_record
from kvorum.storage.replay import Replay
from kvorum.storage.segment import SEGMENT_BYTES
from kvorum.storage.wal import Wal

from tests.kit.power_cut import SimDisk

TESTDATA = Path(__file__).parent / "testdata"
METADATA_BYTES = encode_metadata(7, 9)
MEMBER = Path("/member")
DIRECTORY = MEMBER / "wal"
SEGMENT = 20_000


def entries(first: int, last: int, term: int = 2, size: int = 100) -> list[Entry]:
    return [Entry(term, index, (b"%d " % index * size)[:size]) for index in range(first, last + 1)]


def sim_disk() -> SimDisk:
    disk = SimDisk()
    disk.make_directory(MEMBER)
    disk.sync_directory(Path("/"))
    return disk


def sim_wal(disk: SimDisk) -> Wal:
    return Wal.create(DIRECTORY, METADATA_BYTES, disk=disk, segment_bytes=SEGMENT)


def sim_open(disk: SimDisk) -> tuple[Wal, Replay]:
    return Wal.open(DIRECTORY, disk=disk, segment_bytes=SEGMENT)


def segment(disk: SimDisk, sequence: int) -> bytearray:
    (name,) = [name for name in disk.names(DIRECTORY) if name.startswith(f"{sequence:016x}-") and name.endswith(".wal")]
    return disk.content(DIRECTORY / name)


def records(file: bytearray) -> list[tuple[int, bytes]]:
    content, found, offset, crc = bytes(file), [], 0, 0
    while (record := read_record(content, offset, crc)) is not None:
        found.append((record.kind, record.data))
        offset, crc = record.end, record.crc
    return found


def captured(member: str, tmp_path: Path) -> tuple[Path, list[dict[str, Any]]]:
    directory = tmp_path / "wal"
    directory.mkdir(mode=0o700)
    for path in (TESTDATA / member).glob("*.wal"):
        shutil.copy(path, directory)
    return directory, [json.loads(line) for line in (TESTDATA / member / "wal.jsonl").read_text().splitlines()]


# --- etcd's logs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["member-life", "member-snapshot"])
def test_a_log_of_etcd_is_read_as_it_was_decoded(member: str, tmp_path: Path) -> None:
    directory, lines = captured(member, tmp_path)
    wal, replay = Wal.open(directory)
    wal.close()
    told: dict[int, str] = {}
    for line in lines:
        if line["type"] == "entry":
            told = {index: data for index, data in told.items() if index < line["index"]}
            told[line["index"]] = line["data_hex"]
    assert [(entry.index, encode_entry(entry).hex()) for entry in replay.entries] == list(told.items())
    states = [bytes.fromhex(line["data_hex"]) for line in lines if line["type"] == "state"]
    assert replay.hard_state == decode_hard_state(states[-1])
    assert replay.metadata.hex() == lines[1]["data_hex"]
    assert replay.set_aside is None


def test_each_record_of_etcds_log_is_where_it_was_decoded(tmp_path: Path) -> None:
    directory, lines = captured("member-life", tmp_path)
    (path,) = directory.glob("*.wal")
    content, offset, crc = path.read_bytes(), 0, 0
    names = {METADATA: "metadata", ENTRY: "entry", STATE: "state", CRC: "crc", SNAPSHOT: "snapshot"}
    for line in lines:
        record = read_record(content, offset, crc)
        assert record is not None
        assert (offset, names[record.kind], record.crc) == (line["offset"], line["type"], line["crc"])
        assert encode_record(record.kind, record.crc, record.data or None) == content[offset : record.end]
        offset, crc = record.end, record.crc
    assert read_record(content, offset, crc) is None


def test_the_newest_snapshot_mark_of_etcds_log_is_found(tmp_path: Path) -> None:
    directory, _ = captured("member-snapshot", tmp_path)
    wal, replay = Wal.open(directory)
    wal.close()
    voters = (4763056397444500823, 14459138218702858744, 16588202835693067167)
    assert replay.snapshot == Snapshot(63, 2, ConfState(voters))


def test_a_log_of_etcd_goes_on(tmp_path: Path) -> None:
    directory, _ = captured("member-life", tmp_path)
    wal, before = Wal.open(directory)
    more = entries(wal.last_index + 1, wal.last_index + 5, term=6)
    wal.write(HardState(6, 0, 45), more)
    wal.sync()
    wal.close()
    wal, replay = Wal.open(directory)
    wal.close()
    assert replay.entries == [*before.entries, *more]
    assert replay.hard_state == HardState(6, 0, 45)


def test_a_bootstrap_writes_the_464_bytes_that_etcd_wrote(tmp_path: Path) -> None:
    """From what n1 was started with: names, URLs and ids of three members (captures, `life`)."""
    members = {  # ascending ids
        6183596441604373225: '{"id":6183596441604373225,"peerURLs":["http://127.0.0.1:24102"],"name":"n1"}',
        9447328442032054562: '{"id":9447328442032054562,"peerURLs":["http://127.0.0.1:24112"],"name":"n2"}',
        12683383893584920705: '{"id":12683383893584920705,"peerURLs":["http://127.0.0.1:24122"],"name":"n3"}',
    }
    bootstrap = [
        Entry(1, index, change_codec.encode(ConfChange(ConfChangeType.ADD_NODE, node_id, 0, context.encode())), 1)
        for index, (node_id, context) in enumerate(members.items(), 1)
    ]
    metadata = encode_metadata(6183596441604373225, 17401657456753770893)
    wal = Wal.create(tmp_path / "wal", metadata, HardState(1, 0, 3), bootstrap)
    wal.close()
    ours = (tmp_path / "wal" / "0000000000000000-0000000000000000.wal").read_bytes()
    theirs = (TESTDATA / "member-life" / "0000000000000000-0000000000000000.wal").read_bytes()
    assert ours[:464] == theirs[:464]
    assert not any(ours[464:])
    assert len(ours) == SEGMENT_BYTES


# --- a log's life ----------------------------------------------------------------------------------------------------


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    wal = Wal.create(tmp_path / "wal", METADATA_BYTES)
    wal.write(HardState(2, 7, 0), entries(1, 3))
    wal.write(HardState(2, 7, 2), entries(4, 10))
    wal.sync()
    wal.close()
    wal, replay = Wal.open(tmp_path / "wal")
    assert replay == Replay(METADATA_BYTES, HardState(2, 7, 2), entries(1, 10), Snapshot(), None)
    assert wal.last_index == replay.last_index == 10
    wal.close()


def test_files_and_directories_are_for_the_owner_only(tmp_path: Path) -> None:
    Wal.create(tmp_path / "wal", METADATA_BYTES).close()
    assert stat.S_IMODE((tmp_path / "wal").stat().st_mode) == 0o700
    (path,) = (tmp_path / "wal").iterdir()
    assert path.name == "0000000000000000-0000000000000000.wal"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_blocks * 512 >= SEGMENT_BYTES, "space is not reserved"


def test_a_new_log_of_a_member_that_joins_is_empty(tmp_path: Path) -> None:
    Wal.create(tmp_path / "wal", METADATA_BYTES).close()
    wal, replay = Wal.open(tmp_path / "wal")
    wal.close()
    assert replay == Replay(METADATA_BYTES, HardState(), [], Snapshot())


def test_a_creation_that_was_interrupted_leaves_no_log_and_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "wal.tmp").mkdir()
    (tmp_path / "wal.tmp" / "0000000000000000-0000000000000000.wal").write_bytes(b"half")
    assert not Wal.exists(tmp_path / "wal")
    Wal.create(tmp_path / "wal", METADATA_BYTES).close()
    assert Wal.exists(tmp_path / "wal")
    assert os.listdir(tmp_path) == ["wal"]


def test_an_entry_that_comes_again_replaces_the_end_of_the_log() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    wal.write(HardState(2, 1, 2), entries(1, 8))
    wal.write(HardState(3, 4, 2), entries(5, 6, term=3))
    wal.write(None, entries(7, 7, term=3))
    wal.close()
    _, replay = sim_open(disk)
    assert replay.entries == [*entries(1, 4), *entries(5, 7, term=3)]


def test_a_commit_is_kept_back_until_something_else_is_written() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    wal.write(HardState(2, 1, 0), entries(1, 4))
    wal.sync()
    operations = disk.operations_count
    for commit in (1, 2, 3):
        wal.write(HardState(2, 1, commit), ())
        wal.sync()
    assert disk.operations_count == operations
    wal.write(None, entries(5, 5))
    wal.sync()
    kinds_and_data = records(segment(disk, 0))
    states = [data for kind, data in kinds_and_data if kind == STATE]
    assert states == [encode_hard_state(HardState(2, 1, 0)), encode_hard_state(HardState(2, 1, 3))]
    assert kinds_and_data[-1][0] == STATE, "a state stands behind the entries it commits"


@pytest.mark.parametrize("state", [HardState(3, 1, 4), HardState(2, 5, 4)], ids=["term", "vote"])
def test_a_new_term_or_vote_is_written_at_once(state: HardState) -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    wal.write(HardState(2, 1, 0), entries(1, 4))
    wal.sync()
    wal.write(state, ())
    wal.sync()
    disk.cut(Random(0))
    _, replay = sim_open(disk)
    assert replay.hard_state == state


def test_a_commit_that_was_kept_back_is_written_at_the_end() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    wal.write(HardState(2, 1, 0), entries(1, 4))
    wal.write(HardState(2, 1, 4), ())
    wal.close()
    _, replay = sim_open(disk)
    assert replay.hard_state == HardState(2, 1, 4)


def test_the_same_state_is_not_written_again() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    for index in range(1, 4):
        wal.write(HardState(2, 1, 0), entries(index, index))
    assert [kind for kind, _ in records(segment(disk, 0))].count(STATE) == 1


def test_a_batch_is_one_write_and_a_sync_one_flush() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    before = disk.operations_count
    wal.write(HardState(2, 1, 0), entries(1, 64))
    assert disk.operations_count == before + 2  # an operation counts when it begins and when it ends
    wal.sync()
    assert disk.operations_count == before + 4
    wal.sync()
    assert disk.operations_count == before + 4, "nothing was written in between"


def test_the_log_and_the_peers_share_the_bytes_of_an_entry() -> None:
    wal = sim_wal(sim_disk())
    batch = entries(1, 3)
    wal.write(None, batch)
    assert all(entry.encoded is not None and decode_entry(entry.encoded) == entry for entry in batch)


def test_bytes_made_for_another_place_in_the_log_are_not_written() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    proposal = Entry(0, 0, b"data")
    encode_entry(proposal)
    proposal.term, proposal.index = 2, 1
    with pytest.raises(AssertionError):
        wal.write(None, [proposal])


@pytest.mark.parametrize("batch", [entries(6, 7), entries(0, 1), [*entries(5, 5), *entries(7, 7)]])
def test_a_gap_is_not_written(batch: list[Entry]) -> None:
    wal = sim_wal(sim_disk())
    wal.write(None, entries(1, 4))
    with pytest.raises(AssertionError):
        wal.write(None, batch)


# --- segments --------------------------------------------------------------------------------------------------------


def test_a_full_segment_is_cut_and_the_next_begins_with_all_it_takes_to_read_it_alone() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    wal.write(HardState(2, 7, 0), entries(1, 100))
    wal.sync()
    wal.write(HardState(2, 7, 90), entries(101, 170, size=200))
    wal.write(HardState(2, 7, 150), ())  # kept back: the head has it
    assert len(disk.names(DIRECTORY)) == 1
    wal.sync()
    assert disk.names(DIRECTORY) == [
        "0000000000000000-0000000000000000.wal",
        f"0000000000000001-{171:016x}.wal",
    ]
    first, second = segment(disk, 0), segment(disk, 1)
    assert len(first) >= SEGMENT
    assert any(first[-16:]), "the old one is cut where its records end"
    assert len(second) == SEGMENT
    head = records(second)
    assert [kind for kind, _ in head] == [CRC, METADATA, STATE]
    assert head[1][1] == METADATA_BYTES
    assert head[2][1] == encode_hard_state(HardState(2, 7, 150))
    wal.write(None, entries(171, 180))
    wal.close()
    _, replay = sim_open(disk)
    assert replay.entries == [*entries(1, 100), *entries(101, 170, size=200), *entries(171, 180)]


@pytest.mark.parametrize(("short_of_full", "segments_count"), [(8, 1), (0, 2)])
def test_a_segment_is_cut_at_its_size_and_not_before(short_of_full: int, segments_count: int) -> None:
    disk = sim_disk()
    probe = sim_wal(disk)
    probe.write(None, [Entry(2, 1, b"x" * 10_000)])
    # All records are multiples of 8 bytes, so the data can be chosen to end exactly there.
    size = 10_000 + SEGMENT - short_of_full - probe._offset
    wal = Wal.create(MEMBER / "other", METADATA_BYTES, disk=disk, segment_bytes=SEGMENT)
    wal.write(None, [Entry(2, 1, b"x" * size)])
    assert wal._offset == SEGMENT - short_of_full
    wal.sync()
    assert len(disk.names(MEMBER / "other")) == segments_count


def test_an_entry_may_be_longer_than_a_segment() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    long = Entry(2, 1, b"x" * 3 * SEGMENT)
    wal.write(None, [long])
    wal.sync()
    wal.write(None, entries(2, 2))
    wal.close()
    assert len(disk.names(DIRECTORY)) == 2
    _, replay = sim_open(disk)
    assert replay.entries == [long, *entries(2, 2)]


def test_a_log_of_many_segments_goes_on_after_each_start() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    for first in range(1, 1000, 50):
        wal.write(HardState(2, 1, first - 1), entries(first, first + 49))
        wal.sync()
        wal.close()
        wal, replay = sim_open(disk)
        assert replay.entries == entries(1, first + 49)
    assert len([name for name in disk.names(DIRECTORY) if name.endswith(".wal")]) > 5


def test_after_a_short_segment_space_is_reserved_again(tmp_path: Path) -> None:
    directory, _ = captured("member-life", tmp_path)
    Wal.open(directory)[0].close()
    (path,) = directory.iterdir()
    assert path.stat().st_size == SEGMENT_BYTES


# --- locks -----------------------------------------------------------------------------------------------------------


def test_a_log_in_use_is_refused_and_named(tmp_path: Path) -> None:
    wal = Wal.create(tmp_path / "wal", METADATA_BYTES)
    with pytest.raises(Locked, match=r"0000000000000000-0000000000000000\.wal is in use") as refusal:
        Wal.open(tmp_path / "wal")
    assert "--data-dir" in str(refusal.value)
    wal.close()
    Wal.open(tmp_path / "wal")[0].close()


def test_each_segment_is_locked() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    for first in range(1, 500, 100):
        wal.write(None, entries(first, first + 99, size=200))
        wal.sync()
    names = disk.names(DIRECTORY)
    assert len(names) > 3
    assert not any(disk.open(DIRECTORY / name).lock() for name in names)
    wal.close()
    assert all(disk.open(DIRECTORY / name).lock() for name in names)


# --- a disk that fails -----------------------------------------------------------------------------------------------


def test_after_a_failed_sync_nothing_works_any_more() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    wal.write(None, entries(1, 2))
    disk.fail_sync = True
    with pytest.raises(WalFailed, match="cannot sync: Input/output error") as first:
        wal.sync()
    assert "0000000000000000-0000000000000000.wal" in str(first.value)
    assert "this process ends" in str(first.value)
    for call in (wal.sync, lambda: wal.write(None, entries(3, 3)), lambda: wal.write(HardState(9, 9, 1), ())):
        with pytest.raises(WalFailed):
            call()
    wal.close()  # unlocks
    sim_open(disk)


def test_after_a_failed_write_nothing_works_any_more() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    disk.fail_write = True
    with pytest.raises(WalFailed, match="Input/output error"):
        wal.write(None, entries(1, 2))
    disk.fail_write = False
    with pytest.raises(WalFailed):
        wal.sync()
    assert wal.last_index == 0


def test_a_cut_that_fails_ends_the_log_but_loses_nothing() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    wal.write(None, entries(1, 300))
    disk.fail_create = True
    with pytest.raises(WalFailed, match="Input/output error"):
        wal.sync()
    disk.fail_create = False
    with pytest.raises(WalFailed):
        wal.write(None, entries(301, 301))
    wal.close()
    disk.cut(Random(0))
    _, replay = sim_open(disk)
    assert replay.entries == entries(1, 300)


def test_a_real_write_error_is_told_with_its_file(tmp_path: Path) -> None:
    wal = Wal.create(tmp_path / "wal", METADATA_BYTES)
    wal._tail.close()  # as if the device had gone
    with pytest.raises(WalFailed, match="Bad file descriptor"):
        wal.write(None, entries(1, 1))


def test_a_log_that_cannot_be_created_says_why(tmp_path: Path) -> None:
    with pytest.raises(WalFailed, match="cannot create the log: No such file or directory"):
        Wal.create(tmp_path / "absent" / "wal", METADATA_BYTES)


# --- logs that are not as they were written --------------------------------------------------------------------------


def torn_log(lost_sector: int) -> tuple[SimDisk, int]:
    """A log whose last batch (entries 4 to 6) misses one sector of entry 5, and the offset where entry 5 begins."""
    disk = sim_disk()
    wal = sim_wal(disk)
    wal.write(HardState(2, 1, 1), entries(1, 3))
    wal.sync()
    wal.write(None, entries(4, 4))
    offset = wal._offset
    wal.write(None, entries(5, 6, size=3000))
    wal._tail.fdatasync()
    start = (offset // 512 + 1 + lost_sector) * 512
    segment(disk, 0)[start : start + 512] = bytes(512)
    disk.kill()
    return disk, offset


@pytest.mark.parametrize("lost_sector", range(5))
def test_a_torn_end_is_set_aside_and_cut_off(lost_sector: int) -> None:
    disk, offset = torn_log(lost_sector)
    before = bytes(segment(disk, 0))
    wal, replay = sim_open(disk)
    assert replay.entries == entries(1, 4)
    copy = DIRECTORY / "0000000000000000-0000000000000000.wal.broken"
    assert replay.set_aside == copy
    assert bytes(disk.content(copy)) == before.rstrip(b"\0")
    content = segment(disk, 0)
    assert not any(content[offset:])
    assert len(content) == SEGMENT
    wal.write(None, entries(5, 7, term=3))
    wal.close()
    _, replay = sim_open(disk)
    assert replay.entries == [*entries(1, 4), *entries(5, 7, term=3)]
    assert replay.set_aside is None


def test_what_was_cut_off_does_not_come_back_after_a_power_cut() -> None:
    disk, offset = torn_log(0)
    sim_open(disk)
    for seed in range(20):
        disk.cut(Random(seed))
        assert not any(segment(disk, 0)[offset:])


def test_remains_behind_a_lost_length_are_set_aside_and_zeroed() -> None:
    """The sector with a record's length was lost, later ones were not: the log ends there, but what follows must go."""
    disk = sim_disk()
    wal = sim_wal(disk)
    wal.write(None, entries(1, 3))
    offset = wal._offset
    wal.write(None, entries(4, 20))
    disk.kill()
    sector_end = (offset // 512 + 1) * 512
    segment(disk, 0)[offset:sector_end] = bytes(sector_end - offset)
    _, replay = sim_open(disk)
    assert replay.entries == entries(1, 3)
    assert replay.set_aside is not None
    assert not any(segment(disk, 0)[offset:])


@pytest.mark.parametrize("at", ["first", "middle", "last"])
def test_a_flipped_bit_refuses_to_start_and_says_where(at: str) -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    offsets = []
    for index in range(1, 10):
        offsets.append(wal._offset)
        wal.write(HardState(2, 1, 0), entries(index, index))
    wal.close()
    offset = offsets[{"first": 0, "middle": 4, "last": 8}[at]]
    segment(disk, 0)[offset + 40] ^= 0x10
    before = bytes(segment(disk, 0))
    with pytest.raises(CorruptWal) as refusal:
        sim_open(disk)
    assert refusal.value.offset == offset
    text = str(refusal.value)
    assert text.startswith(f"/member/wal/0000000000000000-0000000000000000.wal, byte {offset}: checksum ")
    assert "etcdctl member remove" in text
    assert bytes(segment(disk, 0)) == before, "nothing may be touched"
    assert disk.names(DIRECTORY) == ["0000000000000000-0000000000000000.wal"]
    with pytest.raises(CorruptWal):
        sim_open(disk)  # and it is not locked either


def test_a_flipped_bit_anywhere_refuses_to_start_or_changes_nothing() -> None:
    """Also in what the checksum does not cover: lengths, padding, kinds, and the sums themselves."""
    disk = sim_disk()
    wal = sim_wal(disk)
    wal.write(HardState(2, 1, 0), entries(1, 2, size=30))
    wal.write(HardState(3, 4, 2), [Entry(3, 3), Entry(3, 4, b"change", 1)])
    wal.write(HardState(4, 2, 3), [Entry(4, 5)])
    end = wal._offset
    wal.close()
    expected = sim_open(disk)[1]
    content = segment(disk, 0)
    refused = 0
    for at in range(end):
        for bit in range(8):
            disk.kill()
            content[at] ^= 1 << bit
            before = bytes(content)
            try:
                assert sim_open(disk)[1] == expected, (at, bit)
            except CorruptWal:
                refused += 1
                assert content == before
            content[at] ^= 1 << bit
    assert refused > 0.9 * 8 * end


def log_of_three_segments() -> SimDisk:
    disk = sim_disk()
    wal = sim_wal(disk)
    for first in (1, 201, 401):
        wal.write(HardState(2, 1, first - 1), entries(first, first + 199))
        wal.sync()
    wal.close()
    names = [name for name in disk.names(DIRECTORY) if name.endswith(".wal")]
    assert len(names) == 4
    return disk


def test_a_torn_record_in_any_but_the_last_segment_is_corruption() -> None:
    disk = log_of_three_segments()
    segment(disk, 1)[1024:1536] = bytes(512)
    with pytest.raises(CorruptWal, match="only the last segment can have been torn"):
        sim_open(disk)


def test_a_missing_segment_is_named() -> None:
    disk = log_of_three_segments()
    (name,) = [name for name in disk.names(DIRECTORY) if name.startswith(f"{1:016x}")]
    disk.remove(DIRECTORY / name)
    with pytest.raises(CorruptWal, match="segment 0000000000000001 is missing between 0000000000000000-"):
        sim_open(disk)


def test_records_missing_at_the_end_of_a_segment_are_noticed_by_the_next() -> None:
    disk = log_of_three_segments()
    content = segment(disk, 0)
    offset, crc = 0, 0
    ends = [0]
    while (record := read_record(bytes(content), offset, crc)) is not None:
        offset, crc = record.end, record.crc
        ends.append(offset)
    del content[ends[-3] :]
    with pytest.raises(
        CorruptWal, match=r"0000000000000001-00000000000000c9\.wal, byte 0: .*records at its end are lost"
    ):
        sim_open(disk)


def test_a_last_segment_that_is_empty_is_corruption() -> None:
    disk = log_of_three_segments()
    segment(disk, 3)[:] = bytes(SEGMENT)
    with pytest.raises(CorruptWal, match="head is not all there"):
        sim_open(disk)


def test_a_segment_of_another_member_is_refused() -> None:
    disk = log_of_three_segments()
    other = SimDisk()
    other.make_directory(MEMBER)
    wal = Wal.create(DIRECTORY, encode_metadata(8, 9), disk=other, segment_bytes=SEGMENT)
    content = bytearray(segment(other, 0))
    wal.close()
    last = segment(disk, 3)
    crc = read_record(bytes(last), 0, 0)
    assert crc is not None
    foreign = encode_metadata(8, 9)
    content[:16] = encode_record(CRC, crc.crc, None)
    replaced = encode_record(CRC, crc.crc, None) + encode_record(METADATA, extend_crc(crc.crc, foreign), foreign)
    last[:] = replaced + bytes(SEGMENT - len(replaced))
    with pytest.raises(CorruptWal, match="belongs to another member"):
        sim_open(disk)


def log_with(*more: tuple[int, bytes]) -> SimDisk:
    """A log of entries 1 to 4 at commit 2, with records behind it that a Wal would not write."""
    disk = sim_disk()
    wal = sim_wal(disk)
    wal.write(HardState(2, 1, 2), entries(1, 4))
    wal.sync()
    offset, crc = wal._offset, wal._crc
    wal.close()
    content = segment(disk, 0)
    for kind, data in more:
        crc = extend_crc(crc, data)
        raw = encode_record(kind, crc, data or None)
        content[offset : offset + len(raw)] = raw
        offset += len(raw)
    return disk


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ([(ENTRY, encode_entry(Entry(2, 6)))], "entry 6 follows entry 4"),
        ([(ENTRY, encode_entry(Entry(3, 2)))], "entry 2 of term 3 replaces a committed one: commit is 2"),
        ([(STATE, encode_hard_state(HardState(2, 1, 5)))], "entries up to 5 were committed, but the log ends with 4"),
        ([(ENTRY, b"\x08")], "cut off"),
        ([(METADATA, encode_metadata(8, 9))], "belongs to another member"),
        ([(CRC, b"")], "cannot be of kind 4"),
        ([(CRC, b"x")], "with data"),
        ([(STATE, encode_hard_state(HardState(1, 1, 2)))], "never go back"),
        ([(STATE, encode_hard_state(HardState(2, 1, 1)))], "never go back"),
        ([(STATE, encode_hard_state(HardState(2, 1, 2)) + b"\x22\x00")], "never go back"),
    ],
)
def test_records_that_make_no_sense_together_are_refused(more: list[tuple[int, bytes]], why: str) -> None:
    with pytest.raises(CorruptWal, match=why):
        sim_open(log_with(*more))


def test_a_segment_that_continues_another_sum_is_refused() -> None:
    disk = log_of_three_segments()
    segment(disk, 2)[:16] = encode_record(CRC, 12345, None)
    with pytest.raises(CorruptWal, match=r"0000000000000002-.*byte 0: this segment continues a sum of 00003039"):
        sim_open(disk)


def test_the_log_may_go_on_behind_a_snapshot_that_came_from_the_leader() -> None:
    mark = b"\x08\x45\x10\x02\x1a\x04\x08\x07\x28\x00"
    disk = log_with(
        (SNAPSHOT, mark), (STATE, encode_hard_state(HardState(2, 1, 69))), (ENTRY, encode_entry(Entry(2, 70)))
    )
    wal, replay = sim_open(disk)
    assert replay.entries == [Entry(2, 70)]
    assert replay.snapshot == Snapshot(69, 2, ConfState((7,)))
    assert replay.last_index == wal.last_index == 70


def test_a_snapshot_above_the_commit_is_not_used() -> None:
    _, replay = sim_open(log_with((SNAPSHOT, b"\x08\x03\x10\x02")))
    assert replay.snapshot == Snapshot()


def test_a_directory_without_a_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "wal").mkdir()
    (tmp_path / "wal" / "notes.txt").write_text("mine")
    assert not Wal.exists(tmp_path / "wal")
    with pytest.raises(CorruptWal, match="wal: holds no segment of a log"):
        Wal.open(tmp_path / "wal")


def test_leftovers_of_a_cut_are_cleared_away_and_other_files_left() -> None:
    disk = sim_disk()
    sim_wal(disk).close()
    disk.create(DIRECTORY / "0000000000000001-0000000000000001.tmp")
    disk.create(DIRECTORY / "notes.txt")
    sim_open(disk)
    assert disk.names(DIRECTORY) == ["0000000000000000-0000000000000000.wal", "notes.txt"]


def test_the_real_disk_repairs_a_torn_end_too(tmp_path: Path) -> None:
    wal = Wal.create(tmp_path / "wal", METADATA_BYTES)
    wal.write(None, entries(1, 3, size=2000))
    offset = wal._offset
    wal.close()
    (path,) = (tmp_path / "wal").iterdir()
    with open(path, "r+b") as file:
        file.seek(offset // 512 * 512 - 1024)
        file.write(bytes(512))
    wal, replay = Wal.open(tmp_path / "wal")
    wal.close()
    assert replay.entries == entries(1, 2, size=2000)
    assert replay.set_aside == path.with_name(path.name + ".broken")
    assert stat.S_IMODE(replay.set_aside.stat().st_mode) == 0o600
    wal, again = Wal.open(tmp_path / "wal")
    wal.close()
    assert again.entries == replay.entries
    assert again.set_aside is None


def test_a_file_only_grows_when_space_is_reserved(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = Disk().create(path)
    file.allocate(5000)
    assert path.stat().st_size == 5000
    file.allocate(100)
    assert path.stat().st_size == 5000
    file.close()


def test_a_write_of_which_the_disk_takes_only_a_part_fails(tmp_path: Path) -> None:
    program = (
        "import pathlib, resource, signal, sys\n"
        "from kvorum.storage.disk import Disk\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "file = Disk().create(pathlib.Path(sys.argv[1]))\n"
        "try:\n    file.pwrite(b'x' * 8192, 0)\n"
        "except OSError as error:\n    print(error.strerror)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "file")]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == "File too large\n"
    assert (tmp_path / "file").stat().st_size == 4096


def test_writes_of_a_batch_follow_each_other_without_a_gap() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    for index in itertools.count(1):
        if wal._offset > SEGMENT // 2:
            break
        wal.write(HardState(2, 1, index - 1), entries(index, index, size=index))
    assert len(records(segment(disk, 0))) == 3 + 2 * (index - 1)
