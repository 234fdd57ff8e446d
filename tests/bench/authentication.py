"""`python -m tests.bench.authentication`: what it costs that a node asks who asks.

In each round both clusters are started anew and filled, and each cell is measured with authentication off, on, and off
again; what on costs is compared with the mean of the two. The user is no root: his permission is looked up.
"""

import asyncio
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from kvorum.etcdpb import rpc_pb2 as rpc

from tests.bench import costs
from tests.bench.__main__ import User, Users, fill, measured
from tests.bench.costs import Pairs
from tests.bench.report import Cell
from tests.kit import users
from tests.kit.processes import Cluster, Program

ROOT: User = ("root", "r")
WORKER: User = ("worker", "w")


def main(arguments: Sequence[str]) -> int:
    options = costs.options_of(
        arguments, "tests.bench.authentication", __doc__, streams=(64,), operations=["put", "range"]
    )
    found = costs.run(options, one_round)
    if found is None:
        return 2
    cells, pairs = found
    for cell in cells:
        print(row(cell, pairs))
    return 0


def one_round(program: Program, cells: Sequence[Cell], folder: Path, seconds: float, pairs: Pairs) -> None:
    with Cluster(program, folder) as cluster:
        asyncio.run(fill(cluster))
        prepare(cluster)
        for cell in cells:

            def without(cell: Cell = cell) -> float:
                return measured(cluster, cell, folder, seconds).requests_per_s

            def with_it(cell: Cell = cell) -> float:
                users.Client(cluster.nodes[0]).done("Auth/AuthEnable", rpc.AuthEnableRequest())
                figure = measured(cluster, cell, folder, seconds, Users(ROOT, WORKER)).requests_per_s
                root = users.Client(cluster.nodes[0]).signed_in(*ROOT)
                root.done("Auth/AuthDisable", rpc.AuthDisableRequest())
                return figure

            costs.measure(program.engine, cell, without, with_it, pairs)


def prepare(cluster: Cluster) -> None:
    client = users.Client(cluster.nodes[0])
    users.add_user(client, *ROOT, "root")
    client.done("Auth/RoleAdd", rpc.AuthRoleAddRequest(name="all"))
    users.grant(client, "all", "READWRITE", "\0", "\0")
    users.add_user(client, *WORKER, "all")


def row(cell: Cell, pairs: Pairs) -> str:
    told = []
    for engine in ("etcd", "kvorum"):
        ratios = [pair.ratio for pair in pairs[engine, cell]]
        told.append(f"{engine} {statistics.median(ratios):.3f} of {len(ratios)}" if ratios else f"{engine} no figure")
    return f"{cell.operation}, {cell.streams} streams, on/off: {', '.join(told)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
