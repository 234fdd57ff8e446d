"""`python -m tests.bench`: pairs of three members each, loaded in turns by h2load.

In each round both clusters are started anew, filled with the same keys, and loaded one after the other, cell by cell;
who is first changes with the round. A figure needs proof: after puts the revision has risen by exactly their number,
after ranges every answer held its key.
"""

import argparse
import asyncio
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
from kvorum.client import Client, Put, Txn
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.bench import load
from tests.bench.bodies import KEYS, VALUE_BYTES, ChangingBody, framed, key
from tests.bench.report import Cell, Report, Sample
from tests.kit.deadline import wait_until
from tests.kit.etcd import CACHE, EtcdMissing, require_etcd
from tests.kit.processes import Cluster, Node, Program, etcd_program, kvorum_program
from tests.kit.users import Client as TokenClient

STREAMS = (1, 16, 64, 256)
TRIAL_REQUESTS = {1: 300, 16: 2_000, 64: 5_000, 256: 10_000}
QUIET_CORES = 0.15  # what others may use of the machine for a run to begin
QUIET_WAIT_S = 5.0
User = tuple[str, str]  # name and password
PATHS = {"put": "/etcdserverpb.KV/Put", "range": "/etcdserverpb.KV/Range"}


class Users(NamedTuple):
    """Where authentication is on: who asks for figures, and whose requests are measured."""

    root: User
    worker: User


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long a run lasts")
    parser.add_argument("--streams", type=int, nargs="+", default=STREAMS)
    parser.add_argument("--operations", nargs="+", choices=PATHS, default=list(PATHS))
    parser.add_argument("--against", choices=("kvorum", "etcd"), default="kvorum", help="etcd: to see the noise")
    options = parser.parse_args(arguments)
    if load.require_h2load() is None:
        print("bench: needs h2load: apt-get install nghttp2-client", file=sys.stderr)
        return 2
    try:
        programs = {"etcd": etcd_program()}
    except EtcdMissing as why:
        print(f"bench: NOT RUN: {why}", file=sys.stderr)
        return 2
    programs["kvorum" if options.against == "kvorum" else "etcd again"] = (
        kvorum_program() if options.against == "kvorum" else etcd_program()
    )
    cells = [Cell(operation, streams) for operation in options.operations for streams in options.streams]
    first, second = programs
    report = Report((first, second), described(options.rounds, options.seconds))
    CACHE.mkdir(exist_ok=True)
    for number in range(1, options.rounds + 1):
        # Below .cache and not in a temporary directory, which may be memory: then fdatasync would cost nothing.
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir=CACHE))
        try:
            one_round(programs, cells, number, folder, options.seconds, report)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print(report.table())
    for note in report.notes():
        print(note)
    if options.write is not None:
        options.write.write_text(report.page(), encoding="utf-8")
    return 0


def described(rounds: int, seconds: float) -> list[str]:
    virtual = Path("/sys/class/dmi/id/sys_vendor")
    vendor = virtual.read_text(encoding="utf-8").strip() if virtual.is_file() else ""
    return [
        f"{psutil.cpu_count()} processors, {psutil.virtual_memory().total >> 30} GiB"
        + (f", {vendor}" if vendor else "")
        + f", {platform.system()} {platform.release().split('-')[0]}, CPython {platform.python_version()}, "
        + f"etcd {require_etcd().version}.",
        f"Three members on 127.0.0.1 with their own data on one disk, fdatasync on; the leader is loaded by h2load, "
        f"{KEYS:,} keys of 8 bytes, values of {VALUE_BYTES} bytes, ranges of one key, linearizable.",
        f"{rounds} rounds, about {seconds:g} s a run, the two in turns; up to {load.CONNECTION_STREAMS_MAX} streams "
        "on a connection.",
        "A figure stands only where the revision rose by exactly the puts counted, or all ranges found their key.",
    ]


def one_round(
    programs: dict[str, Program], cells: Sequence[Cell], number: int, folder: Path, seconds: float, report: Report
) -> None:
    engines = list(programs)
    if number % 2 == 0:
        engines.reverse()
    clusters = {engine: Cluster(programs[engine], folder / engine.replace(" ", "-")) for engine in engines}
    try:
        for cluster in clusters.values():
            cluster.start()
        for cluster in clusters.values():
            cluster.wait_healthy()
            asyncio.run(fill(cluster))
        for cell in cells:
            for engine in engines:
                try:
                    sample = measured(clusters[engine], cell, folder, seconds)
                except load.LoadFailed as why:
                    report.missing[cell, engine, number] = str(why)
                    print(f"round {number}  {cell.operation:6}{cell.streams:4}  {engine:10}  no figure: {why}")
                    continue
                report.samples[cell, engine][number] = sample
                print(
                    f"round {number}  {cell.operation:6}{cell.streams:4}  {engine:10}"
                    f"{sample.requests_per_s:10,.0f}/s{sample.latency_ms:9.2f} ms"
                    f"  ({sample.foreign_cores:.2f} cores used by others)",
                    flush=True,
                )
    finally:
        for cluster in clusters.values():
            cluster.kill()


async def fill(cluster: Cluster) -> None:
    async with Client(cluster.endpoints, timeout_s=30) as client:
        for first in range(0, KEYS, 100):
            await client.txn(Txn(success=[Put(key(one), bytes(VALUE_BYTES)) for one in range(first, first + 100)]))


def measured(
    cluster: Cluster,
    cell: Cell,
    folder: Path,
    seconds: float,
    users: Users | None = None,
    loaded: Mapping[str, str] | None = None,
) -> Sample:
    """One run, sized by a short one before it. loaded: by name of the node, where it is loaded, if not at its endpoint.

    Raises LoadFailed.
    """
    root = None if users is None else users.root
    leader = asyncio.run(find_leader(cluster, root))
    headers = () if users is None else (f"token: {token_of(leader, users.worker)}",)
    url = (leader.endpoint if loaded is None else loaded[leader.name]) + PATHS[cell.operation]
    request: rpc.PutRequest | rpc.RangeRequest = rpc.RangeRequest(key=key(0))
    if cell.operation == "put":
        request = rpc.PutRequest(key=key(0), value=bytes(range(256)))
    with ChangingBody(folder / "body", request, random.SystemRandom().randrange(1 << 32)) as body:
        trial = load.run(
            url, body.path, requests=TRIAL_REQUESTS.get(cell.streams, 2_000), streams=cell.streams, headers=headers
        )
        requests = max(cell.streams, int(trial.requests_per_s * seconds))
        wait_for_quiet()
        before = asyncio.run(revision_of(leader, root))
        machine = load.Processor()
        own, started = own_cpu_s(cluster), time.monotonic()
        result = load.run(url, body.path, requests=requests, streams=cell.streams, headers=headers)
        used = machine.cores()
        ours = (own_cpu_s(cluster) - own) / (time.monotonic() - started)
    if cell.operation == "put":
        load.require_puts(before, asyncio.run(revision_of(leader, root)), result)
    else:
        load.require_ranges(result, asyncio.run(answer_bytes(leader, root)))
    return Sample(result.requests_per_s, result.latency_ms, max(0.0, used - ours))


def wait_for_quiet() -> None:
    """For others to leave the machine alone, but not for long: how much they used is part of the result."""
    machine = load.Processor()
    checked: list[float] = []

    def quiet() -> bool:
        if len(checked) >= QUIET_WAIT_S / 0.02:
            return True
        checked.append(0.0)
        return len(checked) % 10 == 0 and machine.cores() < QUIET_CORES

    wait_until(quiet, QUIET_WAIT_S * 2, "the machine is quiet, or that was waited for")


def own_cpu_s(cluster: Cluster) -> float:
    """Processor time of the members, of this process and of the load generators it has run, in seconds."""
    members = [psutil.Process(node.pid).cpu_times() for node in cluster.nodes]
    own = psutil.Process().cpu_times()
    return float(
        sum(times.user + times.system for times in members)
        + own.user
        + own.system
        + own.children_user
        + own.children_system
    )


def client_of(endpoints: Sequence[str], user: User | None) -> Client:
    name, password = user or (None, None)
    return Client(endpoints, timeout_s=10, user=name, password=password)


async def find_leader(cluster: Cluster, user: User | None = None) -> Node:
    async with client_of(cluster.endpoints, user) as client:
        for node in cluster.nodes:
            status = await client.status(node.endpoint)
            if status.member_id == status.leader:
                return node
    raise load.LoadFailed("no member leads")


def token_of(node: Node, user: User) -> str:
    token = TokenClient(node).signed_in(*user).token
    assert token is not None
    return token


async def revision_of(node: Node, user: User | None = None) -> int:
    async with client_of([node.endpoint], user) as client:
        return (await client.range(b"\0")).header.revision


async def answer_bytes(node: Node, user: User | None = None) -> int:
    """Of a range that finds its key."""
    async with client_of([node.endpoint], user) as client:
        answer = await client.range(key(KEYS // 2))
    [found] = answer.kvs
    header = rpc.ResponseHeader(
        cluster_id=answer.header.cluster_id,
        member_id=answer.header.member_id,
        revision=answer.header.revision,
        raft_term=answer.header.raft_term,
    )
    kv = rpc.KeyValue(
        key=found.key,
        value=found.value,
        create_revision=found.create_revision,
        mod_revision=found.mod_revision,
        version=found.version,
    )
    return len(framed(rpc.RangeResponse(header=header, kvs=[kv], count=1)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
