"""A figure stands only where the work was done."""

import struct
from pathlib import Path

import pytest
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.bench import load
from tests.bench.bodies import KEY_BYTES, ChangingBody, framed, key
from tests.kit.deadline import wait_until

REPORT = """
finished in 1.99s, 10025.14 req/s, 637.23KB/s
requests: 20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 20000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1.24MB (1301773) total, 39.07KB (40012) headers (space savings 94.74%), 628.41KB (640000) data
                     min         max         mean         sd        +/- sd
time for request:     1.59ms     16.85ms      6.33ms      2.13ms    79.32%
time for connect:      274us       274us       274us         0us   100.00%
"""


def test_report_of_h2load_is_read() -> None:
    assert load.parse(REPORT, 20_000) == load.Result(20_000, 10_025.14, 6.33, 32.0)
    fast = REPORT.replace("     6.33ms ", "      633us ")
    assert load.parse(fast, 20_000).latency_ms == pytest.approx(0.633)


@pytest.mark.parametrize(
    ("part", "instead", "why"),
    [
        ("20000 succeeded, 0 failed", "19999 succeeded, 1 failed", "19999 of 20000"),
        ("finished in", "ended in", "not understood"),
        ("time for request", "time", "not understood"),
        (" data\n", "\n", "not understood"),
    ],
)
def test_run_that_did_not_succeed_gives_no_figure(part: str, instead: str, why: str) -> None:
    with pytest.raises(load.LoadFailed, match=why):
        load.parse(REPORT.replace(part, instead), 20_000)


def test_puts_that_the_store_did_not_count_give_no_figure() -> None:
    result = load.parse(REPORT, 20_000)
    load.require_puts(7, 20_007, result)
    for after in (20_006, 20_008, 7):
        with pytest.raises(load.LoadFailed, match=f"rose by {after - 7}"):
            load.require_puts(7, after, result)


def test_ranges_that_found_nothing_give_no_figure() -> None:
    load.require_ranges(load.Result(10, 1.0, 1.0, 300.4), 303)
    with pytest.raises(load.LoadFailed, match="answers of 32 bytes"):
        load.require_ranges(load.Result(10, 1.0, 1.0, 32.0), 303)


@pytest.mark.parametrize(
    "request_",
    [rpc.PutRequest(key=key(0), value=bytes(range(256))), rpc.RangeRequest(key=key(0))],
    ids=["put", "range"],
)
def test_body_changes_and_is_a_request_at_any_time(request_: rpc.PutRequest | rpc.RangeRequest, tmp_path: Path) -> None:
    seen: set[bytes] = set()
    with ChangingBody(tmp_path / "body", request_, seed=1) as body:

        def another() -> bool:
            data = body.path.read_bytes()
            parsed = type(request_).FromString(data[5:])
            assert struct.unpack(">BI", data[:5]) == (0, len(data) - 5)
            assert len(parsed.key) == KEY_BYTES
            assert parsed.key.startswith(b"key-")
            assert parsed.key[4:].isdigit()
            seen.add(parsed.key)
            return len(seen) >= 20

        wait_until(another, 10, "20 keys are seen")
    assert framed(request_)[:5] == body.path.read_bytes()[:5]
