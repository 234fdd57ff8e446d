"""`make example-patroni`: PostgreSQL with Patroni on a cluster of three, and two deaths to watch.

Brings up what examples/patroni has in a folder of its own, lets a client write rows all the while, kills the store's
leader, which PostgreSQL does not notice, then the primary, whose standby takes over; says what was lost, and ends all.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.kit.deadline import DeadlineMissed
from tests.patroni.machine import CannotRun, Machine, require_machine
from tests.patroni.pair import DRIVERS, Pair, Writer
from tests.patroni.store import MEMBERS, Store

EXIT_FAILED, EXIT_CANNOT, EXIT_INTERRUPTED = 1, 2, 130
PATIENCE_S = 120.0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.patroni.failover", description=__doc__)
    parser.add_argument("--section", choices=DRIVERS, default="etcd3", help="of Patroni's configuration (etcd3)")
    options = parser.parse_args(arguments)
    try:
        machine = require_machine()
    except CannotRun as why:
        print(f"make: {why}", file=sys.stderr)
        return EXIT_CANNOT
    folder = Path(tempfile.mkdtemp(prefix="kvorum-patroni-"))
    folder.chmod(0o755)  # Patroni's account has to get to its own part of it
    say("begin", f"{version(machine)}; everything is below {folder}")
    store = Store(folder / "store")
    pair = Pair(machine, machine.give(folder / "pg"), store.endpoints(MEMBERS), driver=options.section)
    whole = False
    try:
        whole = show(store, pair, options.section)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except DeadlineMissed as missed:
        print(missed, *getattr(missed, "__notes__", ()), sep="\n", file=sys.stderr)
    finally:
        pair.destroy()
        store.destroy()
        if whole:
            shutil.rmtree(folder)
            say("end", f"all processes are gone, and {folder}")
        else:
            say("end", f"all processes are gone; what they left is in {folder}")
    return 0 if whole else EXIT_FAILED


def show(store: Store, pair: Pair, section: str) -> bool:
    """Whether all was as promised. Raises DeadlineMissed."""
    if section == "etcd":
        store.edit(settings={"enableV2": True})
    say("store", f"kvorum-operator local: three members, {', '.join(store.endpoints(MEMBERS))}")
    store.up()
    say("store", f"ready, {store.leader()} leads")
    say("pg", f"two Patronis, by their {section}: section; the first makes a PostgreSQL, the second a copy of it")
    pair.start()
    primary = pair.primary()
    standby = pair.other(primary)
    say("pg", f"{primary.name} is the primary, timeline {primary.timeline()}; {standby.name} its synchronous standby")
    with Writer(pair) as writer:
        writer.wait_acknowledged(100)
        say("client", "writes rows, one after the other, to whichever is the primary")

        leader = store.leader()
        pid, began_s = store.pids()[leader], time.monotonic()
        say("kill -9", f"{leader}, the store's leader")
        store.kill([leader])
        other = store.wait_other_leader(leader)
        say("store", f"{other} leads after {time.monotonic() - began_s:.1f} s")
        store.wait_member_back(leader, pid)
        say("store", f"{leader} was started again by the operator, and follows")
        writer.wait_acknowledged(100)
        unmoved = pair.primary() is primary and primary.timeline() == 1
        say("pg", f"{primary.name} is still the primary, timeline {primary.timeline()}")
        say("client", f"longest time without a row: {writer.said().gap_s(began_s):.2f} s")

        say("kill -9", f"{primary.name}, the primary: its Patroni and its PostgreSQL")
        began_s = time.monotonic()
        primary.kill()
        say("pg", f"its place in the store is free after ttl, {pair.ttl_s:g} s")
        pair.wait(lambda: standby in pair.primaries(), f"{standby.name} takes over", PATIENCE_S)
        took_s = time.monotonic() - began_s
        say("pg", f"{standby.name} is the primary after {took_s:.1f} s, timeline {standby.timeline()}")
        writer.wait_acknowledged(100)
        said, lost = writer.said(), writer.lost()
        say(
            "client", f"writes again, {said.gap_s(began_s):.1f} s after the last row; {len(said.failures)} tries failed"
        )
        say("client", f"{len(said.acknowledged)} rows were acknowledged, {len(lost)} of them are lost")

        say("pg", f"{primary.name} is started again, and rewound to what {standby.name} has")
        primary.start()
        pair.wait_synchronous(PATIENCE_S)
        say("pg", f"{primary.name} is the synchronous standby of {standby.name}")
        return unmoved and not lost and took_s <= pair.ttl_s + pair.loop_wait_s


def version(machine: Machine) -> str:
    postgresql = subprocess.run(
        [str(machine.programs / "postgres"), "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[2]
    patroni = next(machine.libraries.glob("patroni-*.dist-info")).name.split("-")[1].removesuffix(".dist")
    return f"PostgreSQL {postgresql}, Patroni {patroni}"


def say(what: str, text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {what:8} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
