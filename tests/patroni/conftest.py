"""A store, two Patronis on it and a writer, for a whole file of tests: they are told one after the other, as a life is.

$PATRONI_CASES names engines and drivers, like kvorum:etcd3 kvorum:etcd; without it the first of these is run.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.patroni.machine import CannotRun, Machine, require_machine
from tests.patroni.pair import Pair, Writer
from tests.patroni.store import Store

CASES = os.environ.get("PATRONI_CASES", "kvorum:etcd3").split()


@dataclass(frozen=True, slots=True)
class Setup:
    store: Store
    pair: Pair
    writer: Writer


@pytest.fixture(scope="session")
def machine() -> Machine:
    try:
        return require_machine()
    except CannotRun as why:
        pytest.skip(f"NOT RUN: {why}")


@pytest.fixture(scope="module", params=CASES)
def setup(request: pytest.FixtureRequest, machine: Machine) -> Iterator[Setup]:
    engine, driver = request.param.split(":")
    # Not pytest's own folder, which only this account may read.
    folder = Path(tempfile.mkdtemp(prefix="kvorum-patroni-"))
    folder.chmod(0o755)
    failed_before = request.session.testsfailed
    store = Store(folder / "store", engine, etcd_too="FULL" in os.environ)
    pair = Pair(machine, machine.give(folder / "pg"), store.endpoints(3), driver=driver)
    try:
        if driver == "etcd":
            store.edit(settings={"enableV2": True})
        store.up()
        pair.start()
        with Writer(pair) as writer:
            yield Setup(store, pair, writer)
    finally:
        pair.destroy()
        store.destroy()
        if request.session.testsfailed == failed_before:
            shutil.rmtree(folder)
        else:
            print(f"what it left is in {folder}")
