"""A line of JSON a record, whoever wrote it."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import kopf
import pytest
from kvorum_operator.controller import json_log


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, {name: logging.getLogger(name).level for name in json_log.QUIET})
    output = io.StringIO()
    json_log.configure("info", output)
    yield output
    root.handlers[:], level = before[0], before[1]
    root.setLevel(level)
    for name, least in before[2].items():
        logging.getLogger(name).setLevel(least)
    logging.captureWarnings(capture=False)


def read(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_record_is_one_line_with_time_level_message_and_what_it_was_given(lines: io.StringIO) -> None:
    logging.getLogger("kvorum_operator.x").warning(
        "a %s\nin two lines", "text", extra={"cluster": "prod/demo", "step": "AddLearner demo-3", "error": "no"}
    )
    (line,) = read(lines)
    assert line["time"].endswith("Z")
    assert "T" in line["time"]
    about = {"cluster": "prod/demo", "step": "AddLearner demo-3", "error": "no"}
    expected = {"level": "warning", "message": "a text\nin two lines", **about}
    assert expected.items() <= line.items()


def test_exception_stands_in_the_same_line(lines: io.StringIO) -> None:
    try:
        raise ValueError("what went wrong")
    except ValueError:
        logging.getLogger("kvorum_operator.x").exception("a bug")
    (line,) = read(lines)
    assert "ValueError: what went wrong" in line["error"]


def test_objects_that_kopf_attaches_are_not_printed(lines: io.StringIO) -> None:
    logging.getLogger("kopf.objects").warning(
        "of kopf", extra={"k8s_ref": {"uid": "1"}, "settings": kopf.OperatorSettings()}
    )
    (line,) = read(lines)
    assert "k8s_ref" not in line
    assert "settings" not in line


def test_kopf_is_not_heard_about_requests_that_it_tries_again(lines: io.StringIO) -> None:
    logging.getLogger("kopf._cogs.clients.watching").error("Request attempt #1/9 failed; will retry")
    logging.getLogger("kopf._core.reactor.running").warning("OS signals are ignored: running not in the main thread.")
    logging.getLogger("kopf").info("chatter")
    assert read(lines) == []
