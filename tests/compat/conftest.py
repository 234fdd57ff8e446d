"""What the comparisons share: a real etcd, without which none of them runs, and the program compared with it."""

import os
from collections.abc import Callable

import pytest
from _pytest.terminal import TerminalReporter

from tests.kit.etcd import Etcd, EtcdMissing, require_etcd
from tests.kit.processes import Program, etcd_program, kvorum_program


@pytest.fixture(scope="session")
def real_etcd() -> Etcd:
    """Skips, saying NOT RUN and why, where there is none to be had."""
    try:
        return require_etcd()
    except EtcdMissing as why:
        pytest.skip(f"NOT RUN: {why}")


@pytest.fixture(scope="session")
def reference(real_etcd: Etcd) -> Program:
    return etcd_program()


@pytest.fixture(scope="session")
def subject(real_etcd: Etcd) -> Program:
    """Our node; with KVORUM_COMPAT_SUBJECT=etcd another etcd, to see that a comparison compares nothing by chance."""
    return etcd_program() if os.environ.get("KVORUM_COMPAT_SUBJECT") == "etcd" else kvorum_program()


@pytest.fixture
def show(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Shows a text at the end of the run, also of a test that passes, and from any worker."""
    return lambda text: record_property(SHOWN, text)


SHOWN = "shown"


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Which etcd it was, what was passed over, and what tests have to show."""
    try:
        found = require_etcd()
    except EtcdMissing as why:
        terminalreporter.write_line(f"NOT RUN, all comparisons with a real etcd: {why}")
        return
    for line in (*found.passed_over, f"compared with etcd {found.version} at {found.etcd}"):
        terminalreporter.write_line(line)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, text in report.user_properties:
                if name == SHOWN and report.when == "call":
                    terminalreporter.write_line(str(text))
