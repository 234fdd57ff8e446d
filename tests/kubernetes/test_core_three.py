"""What three members live through, one thing after the other, on one cluster: created, lost, rolled, drained, asleep.

A case finds the three ready and leaves them so; the first has to pass for the others to say anything.
"""

import asyncio
import datetime
import os
import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.writer import hashes
from tests.kubernetes import audit, figures
from tests.kubernetes.changes import ENOUGH, lose, roll, under_writer, wait_replaced
from tests.kubernetes.cluster import Cluster, Sentinel, takes_writes
from tests.kubernetes.shared_kubernetes import CLUSTER
from tests.kubernetes.stage import Stage

QUIET_S = float(os.environ.get("KVORUM_E2E_QUIET_S", "70"))  # `make e2e` looks for longer
REFRESH_S = 60.0  # of the figures in the status
RENEWAL_S_MAX = 10.0  # an operator that renews its Lease less often does not lead any more
STORAGE = {"className": "network"}  # moves with its pod


@pytest.fixture(scope="module")
def three(stage: Stage) -> Iterator[Cluster]:
    with stage.cluster("three") as cluster:
        cluster.apply(replicas=3, storage=STORAGE)
        yield cluster


@pytest.fixture(autouse=True)
def _ready(stage: Stage, three: Cluster) -> None:
    stage.ensure_operator()
    three.wait_ready(3)


def test_three_members_are_ready_soon_after_apply_and_take_calls_at_their_service(three: Cluster) -> None:
    applied_s = three.applied_s
    said_s = three.chronicle.first_s(lambda status: "conditions" in status)
    ready_s = three.chronicle.first_s(
        lambda status: any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))
    )
    assert said_s is not None
    assert ready_s is not None
    three.api.kubectl("wait", "--for=condition=Ready", "kvc/three", "-n", three.namespace, "--timeout=30s")
    three.wait(lambda: takes_writes(three.service_endpoint()), "its Service takes writes", 30)
    served_s = time.monotonic()
    assert len(asyncio.run(hashes(three.endpoints()))) == 1
    assert three.status()["replicas"] == three.status()["readyReplicas"] == 3
    three.keep("created")
    figures.note("status after apply", said_s - applied_s, "s", 2)
    figures.note("three members Ready after apply", ready_s - applied_s, "s", 30)
    figures.note("its Service takes writes after apply", served_s - applied_s, "s", 30)


def test_member_whose_pod_and_volume_are_gone_is_a_voter_again(three: Cluster) -> None:
    for role in ("follower", "leader"):
        victim = next(name for name, one in three.members().items() if one["role"] == role)
        ids = three.member_ids()
        with under_writer(three) as writer:
            began_s = time.monotonic()
            lose(three, victim)
            wait_replaced(three, victim, ids)
            figures.note(f"{role} without pod and volume is a voter again", time.monotonic() - began_s, "s", 60)
        assert writer.failed == [] or role == "leader"
    three.keep("repaired")


def test_change_of_settings_is_rolled_with_the_leader_last_after_it_handed_over(three: Cluster) -> None:
    roll(three, lambda: three.edit(settings={"logLevel": "debug"}), "roll of settings")


def test_change_of_version_is_rolled_with_the_leader_last_after_it_handed_over(three: Cluster, stage: Stage) -> None:
    roll(three, lambda: three.edit(pod={"image": stage.images.kvorum_later}), "roll of version")
    assert {pod["spec"]["containers"][0]["image"] for pod in three.pods().values()} == {stage.images.kvorum_later}
    three.keep("rolled")


def test_change_of_resources_is_rolled_with_the_leader_last_after_it_handed_over(three: Cluster) -> None:
    requests = {"cpu": "90m", "memory": "240Mi"}
    roll(three, lambda: three.edit(pod={"resources": {"requests": requests}}), "roll of resources")
    assert [pod["spec"]["containers"][0]["resources"]["requests"] for pod in three.pods().values()] == 3 * [requests]


def test_each_node_is_drained_in_turn_and_no_write_fails(three: Cluster) -> None:
    nodes = [str(node["metadata"]["name"]) for node in three.api.list("nodes", "")]
    with under_writer(three) as writer:
        for node in nodes:
            try:
                three.api.kubectl(
                    *("drain", node, "--ignore-daemonsets", "--timeout=180s"),
                    f"--pod-selector={three.labels}",
                    deadline_s=200,
                )
                assert node not in three.nodes().values()
                three.wait_ready(3)
            finally:
                three.api.kubectl("uncordon", node)
            writer.wait_acknowledged(ENOUGH)
    figures.note("drain of every node: longest write gap", writer.largest_gap_s, "s", 2)
    assert writer.failed == [], "no write takes longer than a client's patience"


def test_operator_killed_in_the_middle_of_a_scale_and_of_a_roll_carries_on(three: Cluster, stage: Stage) -> None:
    with under_writer(three) as writer:
        three.edit(replicas=4, settings={"logLevel": "info"})
        for step in ("Restart", "AddLearner"):
            three.wait_step(step)
            stage.operator.restart()
        three.wait_ready(4, 240)
        writer.wait_acknowledged(ENOUGH)
        three.edit(replicas=3)
        three.wait_step("RemoveMember")
        stage.operator.restart()
        three.wait_ready(3, 240)
    assert set(three.volumes()) == set(three.pods()) == {"three-0", "three-1", "three-2"}


def test_settled_cluster_under_a_writer_is_not_written_to(three: Cluster, stage: Stage) -> None:
    if not CLUSTER.exists():
        pytest.skip("NOT RUN: this Kubernetes has no audit log at hand")
    with under_writer(three):
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        threading.Event().wait(QUIET_S)  # what does not happen can only be seen by waiting for it
        all_writes = audit.writes_of(stage.user, since)
    writes = [one for one in all_writes if one.resource != "leases"]
    assert len(all_writes) - len(writes) > QUIET_S / RENEWAL_S_MAX, "the log has all of the time: renewals stand in it"
    others = [one for one in writes if (one.resource, one.name) != ("kvclusters/status", "three")]
    assert others == [], "a pass over an unchanged world writes nothing"
    assert len(writes) <= QUIET_S / REFRESH_S + 1, f"figures are refreshed once a minute: {writes}"
    print(f"{len(writes)} writes in {QUIET_S:g} s, all of them the minute's figures")


def test_sleep_and_wake_keep_every_member_and_its_data(three: Cluster) -> None:
    ids, sentinel = three.member_ids(), Sentinel(three)
    three.edit(replicas=0)
    three.wait_reason("Ready", "Asleep")
    three.keep("asleep")
    three.wait(lambda: not three.pods(), "no pod runs")
    assert set(three.volumes()) == set(ids)
    three.edit(replicas=3)
    three.wait_ready(3)
    assert three.member_ids() == ids
    sentinel.check()


def test_cluster_deleted_and_applied_again_wakes_with_its_data(three: Cluster) -> None:
    ids, sentinel = three.member_ids(), Sentinel(three)
    three.delete()
    assert set(three.volumes()) == set(ids)
    three.apply(replicas=3, storage=STORAGE)
    three.wait_ready(3)
    assert three.member_ids() == ids
    sentinel.check()
