"""What the comparisons share: a real etcd, without which none of them runs, and the program compared with it."""

import os

import pytest

from tests.kit.etcd import Etcd, EtcdMissing, require_etcd
from tests.kit.processes import Program, etcd_program, kvorum_program


@pytest.fixture(scope="session")
def real_etcd() -> Etcd:
    """Skips, saying NOT RUN and why, where there is none to be had."""
    try:
        found = require_etcd()
    except EtcdMissing as why:
        pytest.skip(f"NOT RUN: {why}")
    for sentence in found.passed_over:
        print(sentence)
    return found


@pytest.fixture(scope="session")
def reference(real_etcd: Etcd) -> Program:
    return etcd_program()


@pytest.fixture(scope="session")
def subject(real_etcd: Etcd) -> Program:
    """Our node; with KVORUM_COMPAT_SUBJECT=etcd another etcd, to see that a comparison compares nothing by chance."""
    return etcd_program() if os.environ.get("KVORUM_COMPAT_SUBJECT") == "etcd" else kvorum_program()
