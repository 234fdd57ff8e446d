"""Names of users and roles that are longer than LMDB's keys: kept in full, found, listed in order, and exported."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from kvorum.state.store import AUTH_ROLES, AUTH_USERS, TABLES
from kvorum.storage import long_keys
from kvorum.storage.bbolt_reader import BboltFile
from kvorum.storage.conversion import export_db, import_db
from kvorum.storage.lmdb_store import LmdbStore

BEGINNING = b"n" * long_keys.BEGINNING_BYTES
# Alike up to where a long key's hash begins: there the order of what is stored says nothing.
NAMES = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.builds(lambda end: BEGINNING + end, st.binary(max_size=40)),
    st.builds(lambda end: BEGINNING[:-1] + end, st.binary(min_size=1, max_size=2)),
    st.binary(min_size=500, max_size=600),
)


@given(rows=st.dictionaries(NAMES, st.binary(max_size=20), max_size=12))
@settings(max_examples=300)
def test_rows_come_back_as_they_were_and_in_order_of_their_names(rows: dict[bytes, bytes]) -> None:
    stored = list(long_keys.stored_rows(sorted(rows.items())))
    assert [key for key, _ in stored] == sorted({key for key, _ in stored}), "ascending, and none twice"
    assert all(len(key) <= long_keys.STORED_BYTES for key, _ in stored)
    assert list(long_keys.restored_rows(stored)) == sorted(rows.items())


def test_users_and_roles_of_any_length_are_kept_found_and_removed(tmp_path: Path) -> None:
    names = [b"a", BEGINNING + b"z", BEGINNING + b"z" * 100, BEGINNING + b"a" * 100, b"x" * 511, b"y" * 30_000]
    store = LmdbStore.open(tmp_path / "store")
    for commits in (False, True):
        for name in names:
            store.put(AUTH_USERS, name, b"row of " + name[-3:])
            store.put(AUTH_ROLES, name, b"")
        if commits:
            store.commit()
        assert list(store.scan(AUTH_USERS)) == [(name, b"row of " + name[-3:]) for name in sorted(names)]
        assert [store.get(AUTH_USERS, name) for name in names] == [b"row of " + name[-3:] for name in names]
        assert store.get(AUTH_USERS, BEGINNING + b"z" * 99) is None
    store.delete(AUTH_USERS, b"y" * 30_000)
    store.commit()
    assert store.get(AUTH_USERS, b"y" * 30_000) is None
    rows = {table: list(store.scan(table)) for table in TABLES}
    store.close()
    export_db(tmp_path / "store", tmp_path / "db")
    with BboltFile.open(tmp_path / "db") as file:
        assert [name for name, _ in file.rows(b"authUsers")] == sorted(names[:-1])
    import_db(tmp_path / "db", tmp_path / "again", {})
    again = LmdbStore.open(tmp_path / "again")
    assert {table: list(again.scan(table)) for table in TABLES} == rows
    again.close()
