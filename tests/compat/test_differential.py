"""The same random requests to a real etcd and to our node: answers, error texts, hashes, leases and events are equal.

KVORUM_SEED=n repeats a run; the seed of each run is printed.
"""

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.differential.operations import COUNTS
from tests.compat.differential.run import Report, Run
from tests.compat.differential.sides import Side
from tests.kit.processes import Node, Program

CALLS_MIN = 20_000
EACH_MIN = 500

# All that a request to a single member can be refused with. What needs more members, a full disk or a lost leader is in
# test_refusals.py.
REACHED = {
    "etcdserver: key is not provided",
    "etcdserver: key not found",
    "etcdserver: value is provided",
    "etcdserver: lease is provided",
    "etcdserver: too many operations in txn request",
    "etcdserver: duplicate key given in txn request",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: mvcc: database space exceeded",
    "etcdserver: requested lease not found",
    "etcdserver: lease already exists",
    "etcdserver: too large lease TTL",
    "etcdserver: given member URLs are invalid",
    "etcdserver: member not found",
    "etcdserver: can only promote a learner member",
    "etcdserver: can only promote a learner member which is in sync with leader",
    "etcdserver: too many learner members in cluster",
    "etcdserver: re-configuration failed due to not enough started members",
    "etcdserver: request is too large",
    "etcdserver: corrupt cluster",
    "etcdserver: bad leader transferee",
    "unknown service",
}


@pytest.mark.timeout(290)
def test_node_answers_what_etcd_answers(
    reference: Program, subject: Program, tmp_path: Path, show: Callable[[str], None]
) -> None:
    seed = int(os.environ.get("KVORUM_SEED") or random.SystemRandom().randrange(1 << 32))
    show(f"KVORUM_SEED={seed}")
    with Node(reference, tmp_path / "reference") as left, Node(subject, tmp_path / "subject") as right:
        report = asyncio.run(compared(left, right, seed))
    show(report.table())
    assert report.calls.total() >= CALLS_MIN
    assert {name: report.calls[name] for name in COUNTS if report.calls[name] < EACH_MIN} == {}
    told = " ".join(report.errors)
    assert {text for text in REACHED if text not in told} == set()


async def compared(left: Node, right: Node, seed: int) -> Report:
    sides = [await Side.connect("reference", left), await Side.connect("subject", right)]
    try:
        return await Run(sides[0], sides[1], seed).go()
    finally:
        for side in sides:
            await side.close()
