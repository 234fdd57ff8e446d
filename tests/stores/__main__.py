"""`python -m tests.stores --write docs/why-raft-store.md`: etcd, ZooKeeper and ours, three members each, in turns.

What is measured is put between two marks of that page; the words around it are written by hand. Each store is asked by
a client in Python, one call at a time: the figures are those of a client like Patroni, and not of a store's most.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil
from kvorum import __version__

from tests.bench.__main__ import wait_for_quiet
from tests.bench.load import Processor
from tests.kit.deadline import DeadlineMissed, wait_until
from tests.kit.etcd import CACHE, REPOSITORY, EtcdMissing, require_etcd
from tests.kit.processes import etcd_program, kvorum_program
from tests.patroni.machine import CannotRun
from tests.stores import debian
from tests.stores.debian import Footprint
from tests.stores.members import Members
from tests.stores.zookeeper import Ensemble

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
KEYS, VALUE = 10_000, b"v" * 256
WRITES, WARM_UP = 500, 200
CHANGES = 500
PATIENCE_S = 60.0
RETRY_S = 0.02
MEGABYTE = 1_000_000
MARK = b"the last one"


class Client(Protocol):
    refusals: tuple[type[Exception], ...]

    def put(self, key: str, value: bytes) -> None: ...
    def fill(self, count: int, value: bytes) -> None: ...
    def watch(self, key: str, seen: Callable[[bytes], None]) -> None: ...
    def close(self) -> None: ...


class Store(Protocol):
    def start(self) -> None: ...
    def wait_serving(self) -> None: ...
    def pids(self) -> list[int]: ...
    def kill_leader(self) -> None: ...
    def kill(self) -> None: ...
    def client(self) -> Client: ...


@dataclass
class Figures:
    """Of one store, a value for each round."""

    ready_s: list[float] = field(default_factory=list)
    idle_bytes: list[float] = field(default_factory=list)
    filled_bytes: list[float] = field(default_factory=list)
    write_ms: list[float] = field(default_factory=list)
    write_p99_ms: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)
    failover_s: list[float] = field(default_factory=list)


def one_round(store: Store, figures: Figures) -> None:
    """Raises DeadlineMissed."""
    try:
        began_s = time.monotonic()
        store.start()
        store.wait_serving()
        figures.ready_s.append(time.monotonic() - began_s)
        client = store.client()
        client.put("key", b"first")
        figures.idle_bytes.append(memory_bytes(store))
        client.fill(KEYS, VALUE)
        figures.filled_bytes.append(memory_bytes(store))
        times_ms = writes_ms(client)
        figures.write_ms.append(statistics.median(times_ms))
        figures.write_p99_ms.append(times_ms[int(len(times_ms) * 0.99)])
        figures.seen.append(changes_seen(store, client))
        figures.failover_s.append(gap_s(store, client))
        client.close()
    finally:
        store.kill()


def memory_bytes(store: Store) -> float:
    """Of a member: what it alone has in memory, and its share of what it has in common with others (PSS)."""
    return statistics.mean(psutil.Process(pid).memory_full_info().pss for pid in store.pids())


def writes_ms(client: Client) -> list[float]:
    """Of one client that waits for each answer, ascending."""
    times = []
    for number in range(WARM_UP + WRITES):
        began_s = time.perf_counter()
        client.put("key", b"%d" % number)
        if number >= WARM_UP:
            times.append(1000 * (time.perf_counter() - began_s))
    return sorted(times)


def changes_seen(store: Store, client: Client) -> int:
    """Of a key's changes, one after the other, those that a watching client is told."""
    client.put("watched", b"before")
    watching = store.client()
    told: list[bytes] = []
    watching.watch("watched", told.append)
    for number in range(CHANGES):
        client.put("watched", b"%d" % number)
    client.put("watched", MARK)
    wait_until(lambda: told and told[-1] == MARK, PATIENCE_S, "the watching client is told the last change")
    watching.close()
    return len(set(told) - {b"before", MARK})


def gap_s(store: Store, client: Client) -> float:
    """From the leader's death to the first write that is acknowledged again."""
    store.kill_leader()
    began_s = time.monotonic()
    while time.monotonic() < began_s + PATIENCE_S:
        try:
            client.put("key", b"again")
        except client.refusals:
            time.sleep(RETRY_S)
        else:
            return time.monotonic() - began_s
    raise DeadlineMissed(f"no write within {PATIENCE_S:g} s of the leader's death")


def size_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def ours(system: debian.EmptySystem) -> Footprint:
    """Debian's Python, and beside it the node with the distributions that it needs, as its image has them."""
    from tests.patroni.machine import require_libraries

    python = system.footprint("python3", "python3-venv")
    needed = size_bytes(require_libraries(REPOSITORY / "node-image" / "requirements.txt", Path(sys.executable), ()))
    return Footprint(python.packages, python.download_bytes, python.disk_bytes + needed + size_bytes(NODE))


NODE = REPOSITORY / "node-image" / "kvorum"


def table(versions: Sequence[str], footprints: Sequence[Footprint], figures: Sequence[Figures]) -> str:
    def row(title: str, cells: Sequence[str]) -> str:
        return f"| {title} | {' | '.join(cells)} |"

    def middle(name: str, scale: float = 1.0, form: str = "{:.1f}") -> list[str]:
        return [form.format(statistics.median(getattr(one, name)) / scale) for one in figures]

    megabytes = "{:,.0f} MB"
    return "\n".join(
        [
            row("", versions),
            "|---|---|---|---|",
            row(f"packages of Debian {debian.suite()} that it brings", [str(one.packages) for one in footprints]),
            row("on disk", [megabytes.format(one.disk_bytes / MEGABYTE) for one in footprints]),
            row("three members serve, from nothing, after", middle("ready_s", form="{:.1f} s")),
            row("memory of a member, empty", middle("idle_bytes", MEGABYTE, megabytes)),
            row(f"the same with {KEYS:,} keys of {len(VALUE)} bytes", middle("filled_bytes", MEGABYTE, megabytes)),
            row("a write, median", middle("write_ms", form="{:.2f} ms")),
            row("a write, 99 of 100", middle("write_p99_ms", form="{:.2f} ms")),
            row(f"of {CHANGES} changes of a key a watch tells", middle("seen", form="{:.0f}")),
            row("leader killed: no write for", middle("failover_s", form="{:.2f} s")),
        ]
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stores", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put it into this page, between its two marks")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    try:
        with debian.apt() as system:
            tree = system.unpack_zookeeper()
            zookeeper = system.version("zookeeper").split("-")[0]
            names = [f"etcd {require_etcd().version}", f"ZooKeeper {zookeeper}", f"kvorum {__version__}"]
            footprints = [system.footprint("etcd-server"), system.footprint("zookeeper"), ours(system)]
    except (EtcdMissing, CannotRun) as why:
        print(f"NOT RUN: {why}", file=sys.stderr)
        return 2
    figures = [Figures(), Figures(), Figures()]
    machine, loads = Processor(), []
    for number in range(options.rounds):
        # Below .cache and not in a temporary directory, which may be memory: then fdatasync would cost nothing.
        folder = Path(tempfile.mkdtemp(prefix="stores-", dir=CACHE))
        makers: list[Callable[[], Store]] = [
            lambda folder=folder: Members(etcd_program(), folder / "etcd"),  # type: ignore[misc]  # bound at once
            lambda folder=folder: Ensemble(tree, folder / "zookeeper"),  # type: ignore[misc]  # bound at once
            lambda folder=folder: Members(kvorum_program(), folder / "kvorum"),  # type: ignore[misc]  # bound at once
        ]
        try:
            for name, make, one in zip(names, makers, figures, strict=True):
                wait_for_quiet()
                machine.cores()
                loads.append(os.getloadavg()[0])
                one_round(make(), one)
                print(f"round {number + 1}  {name:16} {one}", flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    note = (
        f"Measured by `python -m tests.stores` on {psutil.cpu_count()} processors, medians of {options.rounds} rounds; "
        f"load of the machine before a store was started: {statistics.median(loads):.1f} (median), "
        f"{max(loads):.1f} at most."
    )
    text = f"{note}\n\n{table(names, footprints, figures)}"
    print(text)
    if options.write is not None:
        page = options.write.read_text("utf-8")
        before, rest = page.split(BEGIN)
        after = rest.split(END)[1]
        options.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
