"""`python -m tests.bench.tls`: what TLS costs, for clients and between members, ours beside etcd's.

In each round a cluster without TLS and one with it are started anew and filled, and each cell is measured without, with
and without again; with is compared with the mean of the two. What counts is the last line: our speed by that of etcd,
with TLS and without, and the one by the other.
"""

import asyncio
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench import costs
from tests.bench.__main__ import fill, measured
from tests.bench.costs import Pairs
from tests.bench.report import Cell
from tests.kit.certificates import Authority
from tests.kit.ports import free_port
from tests.kit.processes import Cluster, Program


def main(arguments: Sequence[str]) -> int:
    options = costs.options_of(arguments, "tests.bench.tls", __doc__, streams=(1, 64), operations=["put"])
    found = costs.run(options, one_round)
    if found is None:
        return 2
    cells, pairs = found
    for cell in cells:
        print(*rows(cell, pairs), sep="\n")
    return 0


def one_round(program: Program, cells: Sequence[Cell], folder: Path, seconds: float, pairs: Pairs) -> None:
    secure, loaded = secure_cluster(program, folder / "secure")
    with Cluster(program, folder / "plain") as plain, secure:
        for cluster in (plain, secure):
            asyncio.run(fill(cluster))
        for cell in cells:

            def without(cell: Cell = cell) -> float:
                return measured(plain, cell, folder, seconds).requests_per_s

            def with_it(cell: Cell = cell) -> float:
                return measured(secure, cell, folder, seconds, loaded=loaded).requests_per_s

            costs.measure(program.engine, cell, without, with_it, pairs)


def secure_cluster(program: Program, folder: Path) -> tuple[Cluster, Mapping[str, str]]:
    """Not started; and where each member takes clients by TLS. They ask for its figures without, beside it."""
    pair = Authority(folder).sign("member")
    authority = folder / "ca.pem"
    cluster = Cluster(program, folder, flags=[*pair.peer_flags, f"--peer-trusted-ca-file={authority}"])
    loaded = {}
    for node in cluster.nodes:
        node.peer_scheme = "https"
        node.trust = Authority.trusting(authority, pair)
        loaded[node.name] = f"https://127.0.0.1:{free_port()}"
        urls = f"--listen-client-urls={node.endpoint},{loaded[node.name]}"
        node.flags = [*node.flags, "--peer-client-cert-auth", *pair.server_flags, urls]
    for node in cluster.nodes:
        node.initial_cluster = ",".join(f"{one.name}={one.peer_url}" for one in cluster.nodes)
    return cluster, loaded


def rows(cell: Cell, pairs: Pairs) -> list[str]:
    """Medians; empty of figures where a side has none."""
    name = f"{cell.operation}, {cell.streams} streams"
    ours, theirs = pairs["kvorum", cell], pairs["etcd", cell]
    if not ours or not theirs:
        return [f"{name}: no figure"]
    told = [
        f"{name}, TLS/plain: {engine} {statistics.median(one.ratio for one in found):.3f} of {len(found)}"
        for engine, found in (("etcd", theirs), ("kvorum", ours))
    ]
    both = list(zip(ours, theirs, strict=False))
    plain = statistics.median(mine.without / other.without for mine, other in both)
    secure = statistics.median(mine.with_it / other.with_it for mine, other in both)
    told.append(f"{name}, kvorum/etcd: plain {plain:.2f}, TLS {secure:.2f}; the one by the other {secure / plain:.3f}")
    return told


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
