"""The long way of sizes, on both engines, and a size that is edited while the cluster bootstraps."""

import pytest

from tests.kubernetes.changes import ENOUGH, assert_only_members_have_data, lose, roll, under_writer, wait_replaced
from tests.kubernetes.cluster import takes_writes
from tests.kubernetes.stage import Stage

SIZES = (3, 5, 3, 5, 1, 0, 3)


@pytest.fixture(autouse=True)
def _operator(stage: Stage) -> None:
    stage.ensure_operator()


@pytest.fixture(params=["kvorum", "etcd"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_edits_of_replicas_lose_no_acknowledged_write(stage: Stage, engine: str) -> None:
    with stage.cluster(f"sizes-{engine}") as cluster:
        cluster.apply(replicas=1, **stage.engine(engine))
        cluster.wait_ready(1)
        used_ids = set(cluster.member_ids().values())
        with under_writer(cluster) as writer:
            for wanted in SIZES:
                before = cluster.member_ids()
                cluster.edit(replicas=wanted)
                if wanted == 0:
                    cluster.wait_reason("Ready", "Asleep")
                    cluster.wait(lambda: not cluster.pods(), "no pod runs")
                    assert set(cluster.volumes()) == {f"{cluster.name}-0"}, "the data is kept"
                    continue
                cluster.wait_ready(wanted, 300)
                after = cluster.member_ids()
                assert not {after[name] for name in after.keys() - before.keys()} & used_ids, "removed ones stay away"
                assert {name: after[name] for name in before.keys() & after.keys()} == {
                    name: before[name] for name in before.keys() & after.keys()
                }, "who stays is who it was"
                used_ids |= set(after.values())
                assert_only_members_have_data(cluster, wanted)
                writer.wait_acknowledged(ENOUGH)
        cluster.keep(f"sizes-{engine}")


def test_three_members_are_repaired_and_rolled(stage: Stage) -> None:
    """With engine etcd; with our own that is a core case."""
    with stage.cluster("etcd") as cluster:
        cluster.apply(replicas=3, **stage.engine("etcd"))
        cluster.wait_ready(3)
        for role in ("follower", "leader"):
            victim = next(name for name, one in cluster.members().items() if one["role"] == role)
            ids = cluster.member_ids()
            with under_writer(cluster):
                lose(cluster, victim)
                wait_replaced(cluster, victim, ids)
        roll(cluster, lambda: cluster.edit(settings={"logLevel": "debug"}), "etcd: roll of settings")
        cluster.keep("etcd-rolled")


def test_size_edited_while_the_cluster_bootstraps_is_reached(stage: Stage, engine: str) -> None:
    with stage.cluster(f"hasty-{engine}") as cluster:
        cluster.apply(replicas=3, **stage.engine(engine))
        cluster.wait(cluster.pods, "a first pod is there")
        cluster.edit(replicas=5)
        cluster.wait_ready(5, 240)
        assert takes_writes(cluster.service_endpoint())
        assert len(set(cluster.member_ids().values())) == 5
        assert_only_members_have_data(cluster, 5)
