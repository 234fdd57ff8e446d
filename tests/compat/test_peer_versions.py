"""Line 14 of the peer protocol's test plan, the versions: lines 7 to 9 with the oldest etcd that may be in a cluster
with ours, 3.5.16; the newest is what all other tests here run with. Its TLS half comes with TLS.
"""

import asyncio
from pathlib import Path

import pytest

from tests.compat.test_mixed_member import CORRUPT_CHECK, story
from tests.compat.test_mixed_snapshots import FLAGS, caught_up_by_ours, joined_by_snapshot
from tests.kit.etcd import EtcdMissing
from tests.kit.processes import Cluster, Program, oldest_etcd_program


@pytest.fixture(scope="module")
def oldest() -> Program:
    """Skips, saying NOT RUN and why, where it is not to be had."""
    try:
        return oldest_etcd_program()
    except EtcdMissing as why:
        pytest.skip(f"NOT RUN: etcd 3.5.16: {why}")


def test_ours_joins_is_promoted_and_carries_the_quorum(oldest: Program, subject: Program, tmp_path: Path) -> None:
    """Line 7."""
    with Cluster(oldest, tmp_path, members=2, flags=CORRUPT_CHECK) as etcds:
        ours = etcds.joining(subject, "ours", flags=CORRUPT_CHECK)
        try:
            asyncio.run(story(etcds, ours))
        finally:
            ours.kill()


def test_it_sends_its_snapshot_to_ours(oldest: Program, subject: Program, tmp_path: Path) -> None:
    """Line 8."""
    with Cluster(oldest, tmp_path, members=2, flags=FLAGS) as etcds:
        ours = etcds.joining(subject, "ours", flags=FLAGS)
        try:
            asyncio.run(joined_by_snapshot(etcds.nodes, ours))
        finally:
            ours.kill()


def test_ours_sends_its_snapshot_to_it(oldest: Program, subject: Program, tmp_path: Path) -> None:
    """Line 9."""
    with Cluster([subject, subject, oldest], tmp_path, flags=FLAGS) as members:
        asyncio.run(caught_up_by_ours(members.nodes[:2], members.nodes[2]))
