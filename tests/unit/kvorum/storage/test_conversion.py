"""Tables to a bbolt file and back: the same rows, and never half of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kvorum.state.store import KEY, MEMBERS, META, TABLES, V2
from kvorum.storage import conversion
from kvorum.storage.bbolt_reader import BboltFile
from kvorum.storage.bbolt_writer import write_bbolt
from kvorum.storage.conversion import SMALL_TABLES, export_db, import_db
from kvorum.storage.fault import CorruptDb, StoreFailed
from kvorum.storage.lmdb_store import FORMAT_KEY, LmdbStore

from tests.unit.kvorum.state.driver import captured_table

TESTDATA = Path(__file__).parent / "testdata"
LIFE = TESTDATA / "member-life" / "db"


def rows_of(store: LmdbStore) -> dict[str, dict[bytes, bytes]]:
    return {table: dict(store.scan(table)) for table in TABLES}


def open_rows(path: Path) -> dict[str, dict[bytes, bytes]]:
    store = LmdbStore.open(path)
    try:
        return rows_of(store)
    finally:
        store.close()


def filled(path: Path, rows_count: int = 10) -> LmdbStore:
    store = LmdbStore.open(path)
    for number in range(rows_count):
        store.put(KEY, b"%08d" % number, b"v" * 100)
    store.put(META, b"consistent_index", b"\0" * 8)
    store.put(MEMBERS, b"1", b"{}")
    store.commit()
    return store


def test_etcds_db_becomes_tables_and_the_tables_its_db(tmp_path: Path) -> None:
    captured = {table: captured_table("life-db.json", table) for table in TABLES}
    assert import_db(LIFE, tmp_path / "store", {}) == sum(map(len, captured.values()))
    assert open_rows(tmp_path / "store") == captured
    captured_and_v2 = captured | {V2: {}}
    exported = export_db(tmp_path / "store", tmp_path / "db")
    assert exported.size_bytes == (tmp_path / "db").stat().st_size
    assert exported.small == {table: sorted(captured_and_v2[table].items()) for table in SMALL_TABLES}
    with BboltFile.open(tmp_path / "db") as file:
        assert {name.decode(): dict(file.rows(name)) for name in file.bucket_names()} == captured
    assert sorted(os.listdir(tmp_path)) == ["db", "store"]


def test_an_export_shows_what_was_committed_and_the_owner_goes_on(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    store.put(KEY, b"uncommitted", b"")
    code = "import sys; from pathlib import Path; from kvorum.storage.conversion import export_db; "
    code += "export_db(Path(sys.argv[1]), Path(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", code, tmp_path / "store", tmp_path / "db"], check=True, timeout=60)
    store.commit()
    store.forget_dead_readers()
    with BboltFile.open(tmp_path / "db") as file:
        assert [key for key, _ in file.rows(b"key")] == [b"%08d" % number for number in range(10)]
    assert store.get(KEY, b"uncommitted") == b""
    store.close()


def test_rows_given_count_instead_of_the_files(tmp_path: Path) -> None:
    import_db(LIFE, tmp_path / "store", {MEMBERS: [(b"a", b"1"), (b"b", b"2")], META: []})
    found = open_rows(tmp_path / "store")
    assert (found[MEMBERS], found[META]) == ({b"a": b"1", b"b": b"2"}, {})
    assert found[KEY] == captured_table("life-db.json", KEY)


def test_a_file_of_another_version_lacks_buckets_and_has_others(tmp_path: Path) -> None:
    write_bbolt(tmp_path / "db", [(b"future", [(b"a", b"b")]), (b"key", [(b"k", b"v")])])
    assert import_db(tmp_path / "db", tmp_path / "store", {}) == 1
    assert open_rows(tmp_path / "store") == {table: {b"k": b"v"} if table == KEY else {} for table in TABLES}


def test_many_rows_take_several_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "ROWS_A_COMMIT", 7)
    filled(tmp_path / "store", 50).close()
    export_db(tmp_path / "store", tmp_path / "db")
    assert import_db(tmp_path / "db", tmp_path / "again", {}) == 52
    assert open_rows(tmp_path / "again") == open_rows(tmp_path / "store")


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_damaged_file_leaves_no_store(tmp_path: Path) -> None:
    rows = [(b"%08d" % number, b"v" * 100) for number in range(1000)]
    write_bbolt(tmp_path / "db", [(b"key", rows), (b"meta", [(b"a", b"b")])])
    content = bytearray((tmp_path / "db").read_bytes())
    content[20 * 4096 + 8] = 99
    (tmp_path / "db").write_bytes(content)
    with pytest.raises(CorruptDb, match=re.escape(f"{tmp_path / 'db'}: page 20 is neither leaf nor branch")):
        import_db(tmp_path / "db", tmp_path / "store", {})
    assert os.listdir(tmp_path) == ["db"]


def test_what_an_interrupted_import_left_is_cleared_away(tmp_path: Path) -> None:
    nursery = tmp_path / "store.tmp"
    nursery.mkdir()
    (nursery / "data.mdb").write_bytes(b"half")
    import_db(LIFE, tmp_path / "store", {})
    assert os.listdir(tmp_path) == ["store"]
    assert open_rows(tmp_path / "store")[KEY] == captured_table("life-db.json", KEY)


def test_a_store_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    filled(tmp_path / "store").close()
    before = open_rows(tmp_path / "store")
    with pytest.raises(StoreFailed, match="it exists already"):
        import_db(LIFE, tmp_path / "store", {})
    assert open_rows(tmp_path / "store") == before


def test_a_key_too_long_for_our_tables_is_named(tmp_path: Path) -> None:
    write_bbolt(tmp_path / "db", [(MEMBERS.encode(), [(b"u" * 512, b"")])])
    with pytest.raises(CorruptDb, match=r"bucket members: a key b'uuu.* has 512 bytes, and etcd writes none above 511"):
        import_db(tmp_path / "db", tmp_path / "store", {})
    assert os.listdir(tmp_path) == ["db"]


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match=rf"cannot convert {tmp_path}/absent: No such file"):
        import_db(tmp_path / "absent", tmp_path / "store", {})
    with pytest.raises(StoreFailed, match="No such file"):
        export_db(tmp_path / "absent", tmp_path / "db")
    filled(tmp_path / "store").close()
    with pytest.raises(StoreFailed, match=f"{tmp_path}/no/such/db: cannot write the file: No such file"):
        export_db(tmp_path / "store", tmp_path / "no" / "such" / "db")


def test_a_store_of_another_format_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    with store._env.begin(write=True) as txn:
        txn.put(FORMAT_KEY, b"2")
    store.close()
    with pytest.raises(StoreFailed, match="its format is b'2', this version knows b'1'"):
        export_db(tmp_path / "store", tmp_path / "db")
    assert not (tmp_path / "db").exists()


def test_what_a_killed_reader_held_is_used_again(tmp_path: Path) -> None:
    """An export that is killed leaves its place among LMDB's readers taken: no page freed since would be used again."""
    store = filled(tmp_path / "store")
    code = "import sys, os; from pathlib import Path; from kvorum.storage import conversion; "
    code += "env = conversion._open_beside(Path(sys.argv[1])); txn = env.begin(); print('reading', flush=True); "
    code += "sys.stdin.read()"
    reader = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "store"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == b"reading\n"
    reader.kill()
    reader.communicate()

    def growth() -> int:
        before = store.size_bytes
        for _ in range(20):
            for number in range(200):
                store.put(KEY, b"%08d" % number, os.urandom(300))
            store.commit()
        return store.size_bytes - before

    assert growth() > 1 << 20, "each commit takes new pages"
    store.forget_dead_readers()
    assert growth() < 1 << 20
    store.close()
