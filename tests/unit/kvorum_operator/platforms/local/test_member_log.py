"""Logs of members: bounded, and their last word."""

import json
import stat
from pathlib import Path

import pytest
from kvorum_operator.platforms.local import member_log

BYTES_MAX = 100


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_log_that_is_too_big_moves_on_and_the_writer_goes_on_in_the_same_file(log: Path) -> None:
    with member_log.open_for_writing(log) as writer:
        for part in range(6):
            writer.write(f"{part}".encode() * 101)
            writer.flush()
            assert member_log.rotate(log, BYTES_MAX)
            assert log.stat().st_size == 0
        writer.write(b"after")
    assert log.read_text() == "after", "no hole of zeros in front: the file is appended to"
    assert sorted(path.name for path in log.parent.iterdir()) == ["log", "log.1", "log.2", "log.3"]
    assert [log.with_name(f"log.{part}").read_text()[0] for part in (1, 2, 3)] == ["5", "4", "3"]


def test_log_and_its_older_parts_are_their_owners_alone(log: Path) -> None:
    with member_log.open_for_writing(log) as writer:
        writer.write(b"x" * (BYTES_MAX + 1))
    assert member_log.rotate(log, BYTES_MAX)
    assert [stat.S_IMODE(path.stat().st_mode) for path in sorted(log.parent.iterdir())] == [0o600, 0o600]


def test_log_within_bounds_or_missing_stays(log: Path) -> None:
    assert not member_log.rotate(log, BYTES_MAX)
    log.write_text("x" * 100)
    assert not member_log.rotate(log, BYTES_MAX)
    assert log.stat().st_size == 100


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (['{"level":"fatal","msg":"a","error":"b"}', '{"level":"info","msg":"c"}'], "a: b"),
        (['{"level":"info","msg":"c"}', "kvorum: no such flag", ""], "kvorum: no such flag"),
        (['{"level":"fatal","msg":"broken: Traceback:\\n  File\\n"}'], "broken: Traceback: File"),
        (['{"level":"panic","msg":"a"}', "goroutine 1 [running]:"], "a"),
        (['{"level":"info","ts":"2026-11-25T18:40:04.186920Z","msg":"ready to serve"}'], ""),
        (["[1]", "3", '{"level":"fatal"}'], ""),
        ([], ""),
    ],
)
def test_last_complaint_is_the_fatal_line_else_the_last_one(log: Path, lines: list[str], complaint: str) -> None:
    log.write_text("\n".join(lines))
    assert member_log.last_complaint(log) == complaint


def test_long_complaint_keeps_its_beginning_and_its_end(log: Path) -> None:
    log.write_text(json.dumps({"level": "fatal", "msg": "broken: " + "x" * 5000 + " KeyError: 7"}))
    said = member_log.last_complaint(log)
    assert said.startswith("broken: x")
    assert said.endswith("x KeyError: 7")
    assert len(said) < 320
    log.write_text("y" * 5000)
    assert len(member_log.last_complaint(log)) < 320


def test_tail_is_the_end(log: Path) -> None:
    assert member_log.tail(log, 5) == []
    log.write_text("a\nb\nc\n")
    assert member_log.tail(log, 2) == ["b", "c"]
    assert member_log.tail(log, 0) == []


def test_reading_on_gives_whole_lines_once_and_starts_anew_after_a_rotation(log: Path) -> None:
    log.write_bytes(b"a\nb")
    lines, offset = member_log.read_from(log, 0)
    assert (lines, offset) == (["a"], 2)
    with log.open("ab") as file:
        file.write(b"b\nc\n")
    assert member_log.read_from(log, offset) == (["bb", "c"], 7)
    log.write_bytes(b"d\n")
    assert member_log.read_from(log, 7) == (["d"], 2)
    log.unlink()
    assert member_log.read_from(log, 2) == ([], 0)


def test_lines_of_several_members_are_merged_by_time_and_keep_their_order() -> None:
    def line(second: int) -> str:
        return json.dumps({"level": "info", "ts": f"2026-11-25T17:00:{second:02d}.000001Z", "msg": "m"})

    found = {"kv-0": [line(1), "no JSON", "[]", line(4)], "kv-1": ["before any", line(2), line(3)], "kv-2": []}
    assert member_log.by_time(found) == [
        ("kv-1", "before any"),
        ("kv-0", line(1)),
        ("kv-0", "no JSON"),
        ("kv-0", "[]"),
        ("kv-1", line(2)),
        ("kv-1", line(3)),
        ("kv-0", line(4)),
    ]
