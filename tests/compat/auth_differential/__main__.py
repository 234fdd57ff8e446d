"""`python -m tests.compat.auth_differential`: many requests by many users, to a real etcd and to our node."""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.compat.auth_differential.run import Different, Report, compared
from tests.compat.differential.sides import Side
from tests.kit.etcd import EtcdMissing
from tests.kit.processes import Node, Program, etcd_program, kvorum_program

OPERATIONS = 20_000


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.compat.auth_differential", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--operations", type=int, default=OPERATIONS)
    parser.add_argument("--tokens", choices=("simple", "jwt"), default="simple")
    parser.add_argument("--against", choices=("kvorum", "etcd"), default="kvorum", help="etcd: to see the noise")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}, {options.operations} operations, {options.tokens} tokens", flush=True)
    try:
        programs = etcd_program(), kvorum_program() if options.against == "kvorum" else etcd_program()
    except EtcdMissing as why:
        print(f"NOT RUN: {why}", file=sys.stderr)
        return 2
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = run(programs, Path(folder), options.seed, options.operations, jwt=options.tokens == "jwt")
        except Different as difference:
            print(difference)
            return 1
    print(report.table())
    print(f"equal, in {time.monotonic() - started:.0f} s")
    return 0


def run(programs: tuple[Program, Program], folder: Path, seed: int, operations: int, *, jwt: bool) -> Report:
    """Raises Different."""
    key = folder / "jwt.key"
    key.write_bytes(b"a secret of this test alone, for HS256")
    tokens = f"--auth-token=jwt,sign-method=HS256,priv-key={key},ttl=1h" if jwt else "--auth-token-ttl=3600"
    flags = ("--bcrypt-cost=4", tokens)
    left = Node(programs[0], folder / "reference", flags=flags)
    right = Node(programs[1], folder / "subject", flags=flags)
    with left, right:
        return asyncio.run(_compared(left, right, seed, operations))


async def _compared(left: Node, right: Node, seed: int, operations: int) -> Report:
    sides = [await Side.connect("reference", left), await Side.connect("subject", right)]
    return await compared(sides, seed, operations)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
