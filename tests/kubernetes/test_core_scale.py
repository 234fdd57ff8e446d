"""Edits of `replicas` under a checking writer, by an edit and by `kubectl scale`."""

import pytest

from tests.kubernetes.changes import ENOUGH, assert_only_members_have_data, under_writer
from tests.kubernetes.stage import Stage


@pytest.fixture(autouse=True)
def _operator(stage: Stage) -> None:
    stage.ensure_operator()


def test_scaling_from_1_to_5_and_back_loses_no_acknowledged_write(stage: Stage) -> None:
    with stage.cluster("scaled") as cluster:
        cluster.apply(replicas=1)
        cluster.wait_ready(1)
        used_ids = set(cluster.member_ids().values())
        with under_writer(cluster) as writer:
            for wanted in (3, 5, 3, 1):
                before = cluster.member_ids()
                if wanted == 5:
                    cluster.api.kubectl("scale", "kvc/scaled", f"--replicas={wanted}", "-n", cluster.namespace)
                else:
                    cluster.edit(replicas=wanted)
                cluster.wait_ready(wanted, 240)
                after = cluster.member_ids()
                for name in before.keys() & after.keys():
                    assert before[name] == after[name], f"{name} stayed the member it was"
                for name in after.keys() - before.keys():
                    assert after[name] not in used_ids, f"{name} is a new member, never one that was removed"
                used_ids |= set(after.values())
                assert_only_members_have_data(cluster, wanted)
                cluster.keep(f"scaled-to-{wanted}")
                writer.wait_acknowledged(ENOUGH)
