"""The tables in LMDB: what is read at each moment of a commit, what survives, and what is refused."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from kvorum.state.store import KEY, LEASE, META, TABLES, Store
from kvorum.storage.fault import CorruptStore, NoSpace, StoreFailed
from kvorum.storage.lmdb_store import KEY_BYTES_MAX, MAP_BYTES_MIN, Commit, KeyTooLong, LmdbStore, map_bytes

MAP_BYTES = 64 << 20


def open_store(directory: Path) -> LmdbStore:
    return LmdbStore.open(directory / "store", map_size_bytes=MAP_BYTES)


@pytest.fixture
def store(tmp_path: Path) -> LmdbStore:
    return open_store(tmp_path)


def rows(store: Store, table: str = KEY, start: bytes = b"", end: bytes | None = None) -> list[tuple[bytes, bytes]]:
    return list(store.scan(table, start, end))


# --- reads -----------------------------------------------------------------------------------------------------------


def test_a_write_is_read_at_once_and_at_each_stage_of_its_commit(store: LmdbStore) -> None:
    store.put(KEY, b"a", b"1")
    assert store.get(KEY, b"a") == b"1"
    commit = store.begin_commit()
    assert store.get(KEY, b"a") == b"1"
    store.put(KEY, b"a", b"2")
    assert store.get(KEY, b"a") == b"2"
    commit()
    assert store.get(KEY, b"a") == b"2"
    store.commit()
    assert store.get(KEY, b"a") == b"2"
    assert rows(store) == [(b"a", b"2")]


def test_a_deletion_hides_a_row_at_each_stage_of_its_commit(store: LmdbStore) -> None:
    store.put(KEY, b"a", b"1")
    store.commit()
    store.delete(KEY, b"a")
    store.delete(KEY, b"absent")
    assert store.get(KEY, b"a") is None
    assert rows(store) == []
    commit = store.begin_commit()
    assert store.get(KEY, b"a") is None
    assert rows(store) == []
    commit()
    assert store.get(KEY, b"a") is None
    store.commit()
    assert store.get(KEY, b"a") is None
    assert rows(store) == []


def test_tables_are_apart(store: LmdbStore) -> None:
    for stage in range(2):
        for table in TABLES:
            if stage == 0:
                store.put(table, b"k", table.encode())
            assert store.get(table, b"k") == table.encode()
            assert rows(store, table) == [(b"k", table.encode())]
        store.commit()


def test_an_empty_value_is_a_value(store: LmdbStore) -> None:
    store.put(LEASE, b"k", b"")
    assert store.get(LEASE, b"k") == b""
    store.commit()
    assert store.get(LEASE, b"k") == b""
    assert rows(store, LEASE) == [(b"k", b"")]


def test_a_scan_merges_what_is_stored_in_flight_and_pending(store: LmdbStore) -> None:
    for key in (b"b", b"d", b"f", b"h"):
        store.put(KEY, key, b"stored")
    store.commit()
    store.put(KEY, b"a", b"flight")
    store.put(KEY, b"d", b"flight")
    store.delete(KEY, b"f")
    store.put(KEY, b"h", b"flight")
    commit = store.begin_commit()
    store.put(KEY, b"c", b"pending")
    store.put(KEY, b"f", b"pending")
    store.delete(KEY, b"h")
    store.put(KEY, b"z", b"pending")
    expected = [
        (b"a", b"flight"),
        (b"b", b"stored"),
        (b"c", b"pending"),
        (b"d", b"flight"),
        (b"f", b"pending"),
        (b"z", b"pending"),
    ]
    assert rows(store) == expected
    assert rows(store, start=b"b", end=b"f") == expected[1:4]
    assert rows(store, start=b"c") == expected[2:]
    assert rows(store, end=b"b") == expected[:1]
    assert rows(store, start=b"zz") == []
    commit()
    assert rows(store) == expected
    store.commit()
    assert rows(store) == expected


def test_a_scan_shows_what_was_there_when_it_was_asked_for(store: LmdbStore) -> None:
    store.put(KEY, b"a", b"1")
    store.commit()
    store.put(KEY, b"b", b"1")
    scan = store.scan(KEY)
    store.put(KEY, b"c", b"2")
    store.put(KEY, b"a", b"2")
    store.delete(KEY, b"b")
    store.commit()
    assert list(scan) == [(b"a", b"1"), (b"b", b"1")]


def test_scans_that_are_dropped_leave_no_read_transaction_behind(store: LmdbStore) -> None:
    store.put(KEY, b"a", b"1")
    store.put(KEY, b"b", b"1")
    store.commit()
    for used in range(300):  # LMDB has 126 slots
        scan = store.scan(KEY)
        for _ in range(used % 4):
            next(scan, None)
    del scan
    assert rows(store) == [(b"a", b"1"), (b"b", b"1")]


# --- commits ---------------------------------------------------------------------------------------------------------


def test_what_is_committed_survives_and_nothing_else(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.put(KEY, b"a", b"1")
    store.put(META, b"consistent_index", b"1")
    store.commit()
    store.put(KEY, b"b", b"2")
    store.put(META, b"consistent_index", b"2")
    store.close()
    store = open_store(tmp_path)
    assert rows(store) == [(b"a", b"1")]
    assert store.get(META, b"consistent_index") == b"1"


def test_a_commit_in_another_thread_is_like_any_other(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with ThreadPoolExecutor(1) as thread:
        for turn in range(20):
            for n in range(50):
                store.put(KEY, b"%d-%d" % (turn, n), b"x" * n)
            commit = store.begin_commit()
            future = thread.submit(commit)
            commit.wait_filled()
            store.put(META, b"turn", b"%d" % turn)
            assert store.get(KEY, b"%d-49" % turn) == b"x" * 49
            future.result(timeout=30)
            assert commit.is_done
    store.commit()
    store.close()
    store = open_store(tmp_path)
    assert len(rows(store)) == 1000
    assert store.get(META, b"turn") == b"19"


def test_waiting_for_the_rows_ends_before_the_flush(store: LmdbStore) -> None:
    """Or it would be no better than an inline commit."""
    flush_may_begin = threading.Event()

    class Slow(LmdbStore):
        def _write(self, rows: dict[str, dict[bytes, bytes | None]], filled: Callable[[], None]) -> None:
            def filled_and_held() -> None:
                filled()
                assert flush_may_begin.wait(30)

            super()._write(rows, filled_and_held)

    slow = Slow.open(Path(store._path.parent / "slow"), map_size_bytes=MAP_BYTES)
    slow.put(KEY, b"a", b"1")
    with ThreadPoolExecutor(1) as thread:
        commit = slow.begin_commit()
        future = thread.submit(commit)
        commit.wait_filled()
        assert not commit.is_done
        flush_may_begin.set()
        future.result(timeout=30)


def test_waiting_for_the_rows_ends_too_if_the_commit_fails(tmp_path: Path) -> None:
    store = LmdbStore.open(tmp_path / "store", map_size_bytes=256 << 10)
    store.put(KEY, b"a", b"x" * (1 << 20))
    with ThreadPoolExecutor(1) as thread:
        commit = store.begin_commit()
        future = thread.submit(commit)
        commit.wait_filled()
        with pytest.raises(StoreFailed):
            future.result(timeout=30)


def test_a_commit_may_not_begin_before_the_one_before_has_ended(store: LmdbStore) -> None:
    store.put(KEY, b"a", b"1")
    store.begin_commit()
    with pytest.raises(AssertionError):
        store.begin_commit()


def test_pending_rows_are_counted(store: LmdbStore) -> None:
    store.put(KEY, b"a", b"1")
    store.put(KEY, b"a", b"2")
    store.delete(META, b"b")
    assert store.pending_count == 2
    store.commit()
    assert store.pending_count == 0


def test_a_commit_of_nothing_writes_nothing(store: LmdbStore) -> None:
    store.put(KEY, b"a", b"1")
    store.commit()
    before = store._env.info()["last_txnid"]
    store.commit()
    assert store._env.info()["last_txnid"] == before


def test_a_full_map_ends_the_commit_and_says_how_to_get_on(tmp_path: Path) -> None:
    store = LmdbStore.open(tmp_path / "store", map_size_bytes=1 << 20)
    store.put(KEY, b"small", b"1")
    store.commit()
    store.put(KEY, b"new", b"2")
    store.put(META, b"consistent_index", b"2")
    store.put(LEASE, b"large", b"x" * (2 << 20))
    with pytest.raises(StoreFailed, match=r"map of 1048576 bytes is full\n.*--quota-backend-bytes"):
        store.commit()
    with pytest.raises(AssertionError):
        store.commit()
    store._commit = None
    store.close()
    store = LmdbStore.open(tmp_path / "store", map_size_bytes=MAP_BYTES)
    assert rows(store) == [(b"small", b"1")]
    assert store.get(META, b"consistent_index") is None


def test_values_may_be_large(store: LmdbStore) -> None:
    large = os.urandom(3 << 20)
    store.put(KEY, b"large", large)
    store.commit()
    assert store.get(KEY, b"large") == large


def test_keys_have_a_limit(store: LmdbStore) -> None:
    longest = b"k" * KEY_BYTES_MAX
    store.put(LEASE, longest, b"1")
    store.commit()
    assert store.get(LEASE, longest) == b"1"
    assert store._env.max_key_size() == KEY_BYTES_MAX
    for key in (longest + b"k", b""):
        with pytest.raises(KeyTooLong, match=f"a key of {len(key)} bytes in table lease"):
            store.put(LEASE, key, b"1")


def test_the_map_is_far_above_the_quota() -> None:
    assert map_bytes(2 << 30) == MAP_BYTES_MIN == 16 << 30
    assert map_bytes(8 << 30) == 64 << 30


def test_address_space_is_reserved_but_no_disk(tmp_path: Path) -> None:
    store = LmdbStore.open(tmp_path / "store")
    store.put(KEY, b"a", b"1")
    store.commit()
    assert (tmp_path / "store" / "data.mdb").stat().st_size < 1 << 20


# --- size ------------------------------------------------------------------------------------------------------------


def test_size_is_the_files_and_falls_only_by_defragmentation(store: LmdbStore) -> None:
    file = store._path / "data.mdb"
    for n in range(2000):
        store.put(KEY, b"%06d" % n, b"x" * 500)
    store.commit()
    full = store.size_bytes
    assert full == file.stat().st_size
    assert 2000 * 500 < store.size_in_use_bytes <= full
    for n in range(1900):
        store.delete(KEY, b"%06d" % n)
    store.commit()
    assert store.size_bytes >= full
    assert store.size_in_use_bytes < full / 4
    store.defragment()
    assert store.size_bytes == file.stat().st_size
    assert store.size_bytes < full / 4
    assert store.size_in_use_bytes <= store.size_bytes < store.size_in_use_bytes + (64 << 10)


def test_rewriting_the_same_rows_does_not_make_the_file_grow_for_ever(store: LmdbStore) -> None:
    """It would, if a read transaction stayed open from before."""
    sizes = []
    for _ in range(60):
        for n in range(200):
            store.put(KEY, b"%d" % n, os.urandom(300))
        store.commit()
        assert store.get(KEY, b"0") is not None
        sizes.append(store.size_bytes)
    assert sizes[-1] == sizes[20]


# --- defragmentation -------------------------------------------------------------------------------------------------


def test_reads_and_writes_go_on_while_the_file_is_copied(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.put(KEY, b"a", b"1")
    copy = store.begin_defragment()
    store.put(KEY, b"b", b"2")
    assert rows(store) == [(b"a", b"1"), (b"b", b"2")]
    with ThreadPoolExecutor(1) as thread:
        thread.submit(copy).result(timeout=30)
    store.put(KEY, b"c", b"3")
    with pytest.raises(AssertionError, match="would be lost"):
        store.begin_commit()
    store.finish_defragment()
    assert rows(store) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
    store.commit()
    store.close()
    store = open_store(tmp_path)
    assert rows(store) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
    assert sorted(os.listdir(tmp_path / "store")) == ["data.mdb", "lock.mdb"]


def test_a_defragmentation_that_was_interrupted_changes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.put(KEY, b"a", b"1")
    store.begin_defragment()()
    store._env.close()  # the process dies before it is finished
    store = open_store(tmp_path)
    assert rows(store) == [(b"a", b"1")]
    assert sorted(os.listdir(tmp_path / "store")) == ["data.mdb", "lock.mdb"]


def test_a_copy_that_fails_leaves_the_store_as_it_was(store: LmdbStore) -> None:
    store.put(KEY, b"a", b"1")
    (store._path / "compaction").write_bytes(b"in the way")
    with pytest.raises(StoreFailed, match=r"cannot defragment: .*File exists.*\n.*Nothing was changed"):
        store.defragment()
    assert rows(store) == [(b"a", b"1")]
    store.put(KEY, b"b", b"2")
    store.commit()


def test_a_scan_across_the_end_of_a_defragmentation_is_told(store: LmdbStore) -> None:
    for n in range(10):
        store.put(KEY, b"%d" % n, b"x")
    store.commit()
    scan = store.scan(KEY)
    next(scan)
    store.defragment()
    with pytest.raises(StoreFailed, match="go on with a scan"):
        list(scan)
    assert len(rows(store)) == 10


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_lmdbs_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(CorruptStore, match=r"(?s)store: the tables are damaged: .*MDB_INVALID.*add it again"):
        open_store(tmp_path)


def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    env = lmdb.open(str(tmp_path / "store"))
    with env.begin(write=True) as txn:
        txn.put(b"\0format", b"2")
    env.close()
    with pytest.raises(
        StoreFailed, match=r"its format is b'2', this version knows b'1'\n.*version of kvorum that wrote it"
    ):
        open_store(tmp_path)


def test_tables_of_somebody_else_are_refused(tmp_path: Path) -> None:
    env = lmdb.open(str(tmp_path / "store"), max_dbs=1)
    env.open_db(b"key")
    env.close()
    with pytest.raises(StoreFailed, match="its format is None"):
        open_store(tmp_path)


def test_a_store_without_a_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="No such file or directory"):
        LmdbStore.open(tmp_path / "absent" / "store")


def test_files_are_for_the_owner_only(store: LmdbStore) -> None:
    assert store._path.stat().st_mode & 0o777 == 0o700
    assert (store._path / "data.mdb").stat().st_mode & 0o777 == 0o600


# --- against a dict --------------------------------------------------------------------------------------------------

KEYS = st.integers(0, 12).map(lambda n: b"%02d" % n)
SOME_TABLES = st.sampled_from((KEY, META))


class AgainstDicts(RuleBasedStateMachine):
    """Any mixture of writes, commits, starts and defragmentations reads like a dict; a start sees the last commit."""

    directory: Path

    @initialize()
    def begin(self) -> None:
        self.path = self.directory / os.urandom(8).hex()
        self.path.mkdir()
        self.store = open_store(self.path)
        self.now: dict[str, dict[bytes, bytes]] = {KEY: {}, META: {}}
        self.durable: dict[str, dict[bytes, bytes]] = {KEY: {}, META: {}}
        self.taken: tuple[Commit, dict[str, dict[bytes, bytes]]] | None = None

    def copy_of_now(self) -> dict[str, dict[bytes, bytes]]:
        return {table: dict(content) for table, content in self.now.items()}

    @rule(table=SOME_TABLES, key=KEYS, value=st.binary(max_size=5))
    def put(self, table: str, key: bytes, value: bytes) -> None:
        self.store.put(table, key, value)
        self.now[table][key] = value

    @rule(table=SOME_TABLES, key=KEYS)
    def delete(self, table: str, key: bytes) -> None:
        self.store.delete(table, key)
        self.now[table].pop(key, None)

    @rule()
    def take(self) -> None:
        if self.taken is None:
            self.taken = self.store.begin_commit(), self.copy_of_now()

    @rule()
    def write(self) -> None:
        if self.taken is not None:
            commit, content = self.taken
            commit()
            self.durable, self.taken = content, None

    @rule()
    def commit(self) -> None:
        self.write()
        self.store.commit()
        self.durable = self.copy_of_now()

    @rule()
    def defragment(self) -> None:
        self.write()
        self.store.defragment()
        self.durable = self.copy_of_now()

    @rule()
    def start_again(self) -> None:
        self.store._commit = None  # as after a kill: what was taken was not written
        self.store.close()
        self.store = open_store(self.path)
        self.taken, self.now = None, {table: dict(content) for table, content in self.durable.items()}

    @rule(table=SOME_TABLES, start=st.one_of(st.just(b""), KEYS), end=st.one_of(st.none(), KEYS))
    def scan(self, table: str, start: bytes, end: bytes | None) -> None:
        expected = [row for row in sorted(self.now[table].items()) if start <= row[0] and (end is None or row[0] < end)]
        assert rows(self.store, table, start, end) == expected

    @invariant()
    def reads_like_a_dict(self) -> None:
        if hasattr(self, "now"):
            for table, content in self.now.items():
                for n in range(13):
                    assert self.store.get(table, b"%02d" % n) == content.get(b"%02d" % n)

    def teardown(self) -> None:
        self.store._commit = None
        self.store.close()


def test_the_store_reads_like_a_dict_whatever_happens(tmp_path: Path) -> None:
    AgainstDicts.directory = tmp_path
    run_state_machine_as_test(
        AgainstDicts,
        settings=settings(
            max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


class FullStore(LmdbStore):
    """Its next commits find no space, or fail, as LMDB says it."""

    errors: list[lmdb.Error]

    def _fill(self, txn: lmdb.Transaction, table: str, changes: dict[bytes, bytes | None]) -> None:
        super()._fill(txn, table, changes)
        if self.errors:
            raise self.errors.pop()


def test_a_commit_that_finds_no_space_keeps_its_rows_for_the_next(tmp_path: Path) -> None:
    store = FullStore.open(tmp_path / "store")
    store.errors = []
    store.put(KEY, b"a", b"old")
    store.commit()
    store.put(KEY, b"a", b"1")
    store.put(KEY, b"b", b"1")
    store.delete(KEY, b"c")
    store.errors = [lmdb.DiskError("No space left on device"), lmdb.DiskError("No space left on device")]
    for _ in range(2):
        commit = store.begin_commit()
        store.put(KEY, b"b", b"2")  # meanwhile
        with pytest.raises(NoSpace):
            commit()
        store.take_back()
        assert rows(store) == [(b"a", b"1"), (b"b", b"2")]
    store.commit()
    store.close()
    again = open_store(tmp_path)
    assert rows(again) == [(b"a", b"1"), (b"b", b"2")]


def test_an_error_of_the_disk_ends_a_commit_for_good(tmp_path: Path) -> None:
    store = FullStore.open(tmp_path / "store")
    store.put(KEY, b"a", b"1")
    store.errors = [lmdb.Error("mdb_txn_commit: Input/output error")]
    with pytest.raises(StoreFailed, match=r"cannot commit: .*Input/output error"):
        store.begin_commit()()
