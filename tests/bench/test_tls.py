"""What the figures of TLS are compared by."""

from tests.bench.costs import Pair
from tests.bench.report import Cell
from tests.bench.tls import rows

CELL = Cell("put", 64)


def test_the_last_line_is_our_speed_by_etcds_with_it_and_without() -> None:
    pairs = {
        ("etcd", CELL): [Pair(100, 50), Pair(100, 60), Pair(100, 70)],
        ("kvorum", CELL): [Pair(200, 120), Pair(220, 150), Pair(180, 90)],
    }
    assert rows(CELL, pairs) == [
        "put, 64 streams, TLS/plain: etcd 0.600 of 3",
        "put, 64 streams, TLS/plain: kvorum 0.600 of 3",
        "put, 64 streams, kvorum/etcd: plain 2.00, TLS 2.40; the one by the other 1.200",
    ]


def test_without_a_figure_of_each_there_is_none() -> None:
    assert rows(CELL, {("etcd", CELL): [Pair(1, 1)], ("kvorum", CELL): []}) == ["put, 64 streams: no figure"]
