"""What something costs: a cell measured without it, with it and without it again, in rounds, ours beside etcd's.

With is compared with the mean of the two runs without. Figures on a shared machine drift: only so do they compare.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench import load
from tests.bench.report import Cell
from tests.kit.etcd import CACHE, EtcdMissing
from tests.kit.processes import Program, etcd_program, kvorum_program


class Pair(NamedTuple):
    """Requests a second."""

    without: float
    with_it: float

    @property
    def ratio(self) -> float:
        return self.with_it / self.without


Pairs = dict[tuple[str, Cell], list[Pair]]  # by engine; a round each
Measure = Callable[[], float]  # requests a second; raises LoadFailed
Round = Callable[[Program, Sequence[Cell], Path, float, Pairs], None]


def options_of(
    arguments: Sequence[str], module: str, about: str | None, *, streams: Sequence[int], operations: Sequence[str]
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long a run lasts")
    parser.add_argument("--streams", type=int, nargs="+", default=streams)
    parser.add_argument("--operations", nargs="+", choices=("put", "range"), default=operations)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, one_round: Round) -> tuple[Sequence[Cell], Pairs] | None:
    """None: NOT RUN, and said why. Who is first changes with the round."""
    if load.require_h2load() is None:
        print("bench: NOT RUN: needs h2load: apt-get install nghttp2-client", file=sys.stderr)
        return None
    try:
        programs = [etcd_program(), kvorum_program()]
    except EtcdMissing as why:
        print(f"bench: NOT RUN: {why}", file=sys.stderr)
        return None
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
    return cells, pairs


def measure(engine: str, cell: Cell, without: Measure, with_it: Measure, pairs: Pairs) -> None:
    """Adds a pair; none where a figure has no proof, and says so."""
    try:
        before, between, after = without(), with_it(), without()
    except load.LoadFailed as why:
        print(f"{engine:8}{cell.operation:6}{cell.streams:4}  no figure: {why}")
        return
    pair = Pair(statistics.mean((before, after)), between)
    pairs[engine, cell].append(pair)
    print(
        f"{engine:8}{cell.operation:6}{cell.streams:4}  without {before:8,.0f}/s  with {between:8,.0f}/s  "
        f"without {after:8,.0f}/s  ratio {pair.ratio:.3f}",
        flush=True,
    )
