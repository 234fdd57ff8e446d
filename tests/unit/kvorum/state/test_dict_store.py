"""The store in memory keeps the protocol that the machine relies on."""

import pytest
from kvorum.state.dict_store import ROW_OVERHEAD_BYTES, DictStore
from kvorum.state.store import KEY, META, Store


def test_a_scan_gives_a_range_in_order_as_it_was_when_it_began() -> None:
    store: Store = DictStore()
    for key in (b"c", b"a", b"b", b"d"):
        store.put(KEY, key, key)
    scan = store.scan(KEY, b"b", b"d")
    store.delete(KEY, b"c")
    store.put(KEY, b"bb", b"")
    assert list(scan) == [(b"b", b"b"), (b"c", b"c")]
    assert [key for key, _ in store.scan(KEY, b"bb")] == [b"bb", b"d"]
    assert list(store.scan(META)) == []


def test_the_size_follows_the_rows() -> None:
    store = DictStore({KEY: {b"a": b"12"}})
    assert store.size_bytes == store.size_in_use_bytes == ROW_OVERHEAD_BYTES + 3
    store.put(KEY, b"a", b"1234")
    assert store.size_bytes == ROW_OVERHEAD_BYTES + 5
    store.delete(KEY, b"a")
    store.delete(KEY, b"a")
    assert store.size_bytes == 0
    assert store.get(KEY, b"a") is None


def test_an_unknown_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        DictStore().put("keys", b"a", b"")
