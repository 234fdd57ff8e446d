"""`make e2e-patroni`: what the store's troubles do to PostgreSQL, and Patroni's own features beside it.

core, for CI: one life on our node by the etcd3: section, and one feature by the other section. full: lives of both
sections, one on a real etcd to compare with, and all features by both. Where PostgreSQL or Patroni cannot be had it
says NOT RUN and ends with 2, or with 0 where $CI is set: a machine of CI cannot help it.
"""

import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tests.kit.etcd import REPOSITORY, EtcdMissing
from tests.patroni import features
from tests.patroni.features import NAMES, Outcome
from tests.patroni.machine import CannotRun, Machine, require_machine
from tests.patroni.pair import DRIVERS

CANNOT = 2
LIFE_S = 900  # of one test, the first of which makes both PostgreSQL
FOLDER = Path(__file__).parent
CASES = {"core": ("kvorum:etcd3",), "full": ("kvorum:etcd3", "kvorum:etcd", "etcd:etcd3")}
FEATURES = {
    "core": (("dcs_failsafe_mode", "etcd"),),
    "full": tuple((name, driver) for driver in DRIVERS for name in NAMES),
}


def main(part: str) -> int:
    try:
        machine = require_machine()
        features.require_source()
    except (CannotRun, EtcdMissing) as why:
        print(f"NOT RUN: PostgreSQL with Patroni ({part}): {why}", flush=True)
        return 0 if os.environ.get("CI") else CANNOT
    # One after the other, and beside the lives: both mostly wait for Patroni's timers.
    with ThreadPoolExecutor(1) as beside:
        running = [beside.submit(one_feature, machine, *chosen) for chosen in FEATURES[part]]
        code = lives(part)
        return max(code, *(judge(one) for one in running))


def lives(part: str) -> int:
    environment = {**os.environ, "PATRONI_CASES": " ".join(CASES[part])}
    if part == "full":
        environment["FULL"] = "1"  # the other engine is on PATH
    command = [*(sys.executable, "-m", "pytest", "-q", "-rPs", f"--timeout={LIFE_S}"), str(FOLDER)]
    if part != "full":
        command += ["-k", "not change_of_the_stores_engine"]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, check=False).returncode


def one_feature(machine: Machine, name: str, driver: str) -> Outcome:
    """What failed is tried once more: its steps have deadlines of their own, and share the machine with the lives."""
    outcome = features.run(machine, name, driver, "kvorum")
    if outcome.passed:
        return outcome
    again = features.run(machine, name, driver, "kvorum")
    if again.passed:
        print(f"FLAKY: failed once, and passed when it was run again: {name} by {driver}", flush=True)
        print(outcome.text[-5000:])
    return again


def judge(running: "Future[Outcome]") -> int:
    try:
        outcome = running.result()
    except CannotRun as why:
        print(f"NOT RUN: {why}", flush=True)
        return 0 if os.environ.get("CI") else CANNOT
    if not outcome.passed:
        print(outcome.text[-20_000:])
    print(outcome.line(), flush=True)
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
