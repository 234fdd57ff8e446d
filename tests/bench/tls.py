"""`python -m tests.bench.tls`: what TLS costs, for clients and between members, ours beside etcd's.

In each round a cluster without TLS and one with it are started anew and filled, and each cell is measured without, with
and without again; with is compared with the mean of the two. What counts is the last line: our speed by that of etcd,
with TLS and without, and the one by the other.
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench import load
from tests.bench.__main__ import PATHS, fill, measured
from tests.bench.report import Cell
from tests.kit.certificates import Authority
from tests.kit.etcd import CACHE, EtcdMissing
from tests.kit.ports import free_port
from tests.kit.processes import Cluster, Program, etcd_program, kvorum_program


class Pair(NamedTuple):
    """Requests a second."""

    plain: float
    secure: float


Pairs = dict[tuple[str, Cell], list[Pair]]  # a round each


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tls", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long a run lasts")
    parser.add_argument("--streams", type=int, nargs="+", default=(1, 64))
    parser.add_argument("--operations", nargs="+", choices=PATHS, default=["put"])
    options = parser.parse_args(arguments)
    if load.require_h2load() is None:
        print("bench: needs h2load: apt-get install nghttp2-client", file=sys.stderr)
        return 2
    try:
        programs = [etcd_program(), kvorum_program()]
    except EtcdMissing as why:
        print(f"bench: NOT RUN: {why}", file=sys.stderr)
        return 2
    cells = [Cell(operation, streams) for operation in options.operations for streams in options.streams]
    pairs: Pairs = {(program.engine, cell): [] for program in programs for cell in cells}
    CACHE.mkdir(exist_ok=True)
    for number in range(options.rounds):
        for program in programs if number % 2 == 0 else reversed(programs):
            # Below .cache and not in a temporary directory, which may be memory: then fdatasync would cost nothing.
            folder = Path(tempfile.mkdtemp(prefix="bench-", dir=CACHE))
            try:
                one_round(program, cells, folder, options.seconds, pairs)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    for cell in cells:
        print(*rows(cell, pairs), sep="\n")
    return 0


def one_round(program: Program, cells: Sequence[Cell], folder: Path, seconds: float, pairs: Pairs) -> None:
    secure, loaded = secure_cluster(program, folder / "secure")
    with Cluster(program, folder / "plain") as plain, secure:
        for cluster in (plain, secure):
            asyncio.run(fill(cluster))
        for cell in cells:
            try:
                before = measured(plain, cell, folder, seconds).requests_per_s
                with_it = measured(secure, cell, folder, seconds, loaded=loaded).requests_per_s
                after = measured(plain, cell, folder, seconds).requests_per_s
            except load.LoadFailed as why:
                print(f"{program.engine:8}{cell.operation:6}{cell.streams:4}  no figure: {why}")
                continue
            pair = Pair(statistics.mean((before, after)), with_it)
            pairs[program.engine, cell].append(pair)
            print(
                f"{program.engine:8}{cell.operation:6}{cell.streams:4}  plain {before:8,.0f}/s  TLS {with_it:8,.0f}/s  "
                f"plain {after:8,.0f}/s  ratio {pair.secure / pair.plain:.3f}",
                flush=True,
            )


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
        f"{name}, TLS/plain: {engine} {statistics.median(one.secure / one.plain for one in found):.3f} of {len(found)}"
        for engine, found in (("etcd", theirs), ("kvorum", ours))
    ]
    both = list(zip(ours, theirs, strict=False))
    plain = statistics.median(mine.plain / other.plain for mine, other in both)
    secure = statistics.median(mine.secure / other.secure for mine, other in both)
    told.append(f"{name}, kvorum/etcd: plain {plain:.2f}, TLS {secure:.2f}; the one by the other {secure / plain:.3f}")
    return told


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
