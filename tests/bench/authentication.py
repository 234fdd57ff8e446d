"""`python -m tests.bench.authentication`: what it costs that a node asks who asks.

In each round both clusters are started anew and filled, and each cell is measured with authentication off, on, and off
again; what on costs is compared with the mean of the two. The user is no root: his permission is looked up.
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kvorum.etcdpb import rpc_pb2 as rpc

from tests.bench import load
from tests.bench.__main__ import User, Users, fill, measured
from tests.bench.report import Cell
from tests.kit import users
from tests.kit.etcd import CACHE, EtcdMissing
from tests.kit.processes import Cluster, Program, etcd_program, kvorum_program

ROOT: User = ("root", "r")
WORKER: User = ("worker", "w")
Ratios = dict[tuple[str, Cell], list[float]]  # requests a second with it by those without, a round each


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.authentication", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long a run lasts")
    parser.add_argument("--streams", type=int, nargs="+", default=(64,))
    options = parser.parse_args(arguments)
    if load.require_h2load() is None:
        print("bench: needs h2load: apt-get install nghttp2-client", file=sys.stderr)
        return 2
    try:
        programs = [etcd_program(), kvorum_program()]
    except EtcdMissing as why:
        print(f"bench: NOT RUN: {why}", file=sys.stderr)
        return 2
    cells = [Cell(operation, streams) for operation in ("put", "range") for streams in options.streams]
    ratios: Ratios = {(program.engine, cell): [] for program in programs for cell in cells}
    CACHE.mkdir(exist_ok=True)
    for _ in range(options.rounds):
        for program in programs:
            folder = Path(tempfile.mkdtemp(prefix="bench-", dir=CACHE))
            try:
                one_round(program, cells, folder, options.seconds, ratios)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    for cell in cells:
        print(row(cell, ratios))
    return 0


def one_round(program: Program, cells: Sequence[Cell], folder: Path, seconds: float, ratios: Ratios) -> None:
    with Cluster(program, folder) as cluster:
        asyncio.run(fill(cluster))
        prepare(cluster)
        for cell in cells:
            try:
                before = measured(cluster, cell, folder, seconds).requests_per_s
                users.Client(cluster.nodes[0]).done("Auth/AuthEnable", rpc.AuthEnableRequest())
                with_it = measured(cluster, cell, folder, seconds, Users(ROOT, WORKER)).requests_per_s
                root = users.Client(cluster.nodes[0]).signed_in(*ROOT)
                root.done("Auth/AuthDisable", rpc.AuthDisableRequest())
                after = measured(cluster, cell, folder, seconds).requests_per_s
            except load.LoadFailed as why:
                print(f"{program.engine:8}{cell.operation:6}{cell.streams:4}  no figure: {why}")
                continue
            ratio = with_it / statistics.mean((before, after))
            ratios[program.engine, cell].append(ratio)
            print(
                f"{program.engine:8}{cell.operation:6}{cell.streams:4}  off {before:8,.0f}/s  on {with_it:8,.0f}/s  "
                f"off {after:8,.0f}/s  ratio {ratio:.3f}",
                flush=True,
            )


def prepare(cluster: Cluster) -> None:
    client = users.Client(cluster.nodes[0])
    users.add_user(client, *ROOT, "root")
    client.done("Auth/RoleAdd", rpc.AuthRoleAddRequest(name="all"))
    users.grant(client, "all", "READWRITE", "\0", "\0")
    users.add_user(client, *WORKER, "all")


def row(cell: Cell, ratios: Ratios) -> str:
    told = []
    for engine in ("etcd", "kvorum"):
        found = ratios[engine, cell]
        told.append(f"{engine} {statistics.median(found):.3f} of {len(found)}" if found else f"{engine} no figure")
    return f"{cell.operation}, {cell.streams} streams, on/off: {', '.join(told)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
