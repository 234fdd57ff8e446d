"""What a person or the Kubernetes around it does wrong: the status says what, and all is well once it is put right."""

import json

import pytest

from tests.kubernetes.changes import ENOUGH, under_writer
from tests.kubernetes.cluster import Cluster, Sentinel, takes_writes
from tests.kubernetes.stage import Stage

STORAGE = {"className": "network"}
ABSENT = "localhost/there-is-no-such-image:1"
APART = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"kvorum.dev/cluster": "apart"}}}
        ]
    }
}


@pytest.fixture(autouse=True)
def _operator(stage: Stage) -> None:
    stage.ensure_operator()


def wait_says(cluster: Cluster, reason: str, *words: str) -> None:
    """Until Ready is False and some condition gives that reason, with these words for a person."""

    def says() -> bool:
        found = [one for one in cluster.status().get("conditions", ()) if one["reason"] == reason]
        return cluster.condition("Ready").get("status") == "False" and any(
            all(word in one["message"] for word in words) for one in found
        )

    cluster.wait(says, f"a condition says {reason} with {words}")


def test_image_that_cannot_be_pulled_is_said_and_the_right_one_recovers(stage: Stage) -> None:
    with stage.cluster("pulled") as cluster:
        cluster.apply(replicas=3, pod={"image": ABSENT})
        wait_says(cluster, "ImageUnavailable", ABSENT)
        cluster.keep("image-unavailable")
        cluster.edit(pod={"image": stage.images.kvorum})
        cluster.wait_ready(3)


def test_pods_that_no_node_takes_are_said_and_recover(stage: Stage) -> None:
    with stage.cluster("homeless") as cluster:
        cluster.apply(replicas=3, pod={"scheduling": {"nodeSelector": {"disk": "golden"}}})
        wait_says(cluster, "PodUnschedulable")
        cluster.keep("unschedulable")
        cluster.edit(pod={"scheduling": {"nodeSelector": None}})
        cluster.wait_ready(3)


def test_pods_that_a_quota_refuses_are_said_and_recover(stage: Stage) -> None:
    with stage.cluster("refused", stage.narrow) as cluster:
        with stage.quota(pods=2):
            cluster.apply(replicas=3)
            wait_says(cluster, "PodRefused", "quota")
            cluster.keep("pod-refused")
        cluster.wait_ready(3)


def test_broken_image_stops_at_the_first_member_and_the_fixed_one_recovers_also_three(stage: Stage) -> None:
    with stage.cluster("broken") as cluster:
        cluster.apply(replicas=3, storage=STORAGE)
        cluster.wait_ready(3)
        ids, before = cluster.member_ids(), cluster.uids()
        with under_writer(cluster) as writer:
            cluster.edit(pod={"image": stage.images.broken})
            cluster.wait(lambda: cluster.condition("Degraded").get("status") == "True", "the loss of a member is seen")
            writer.wait_acknowledged(10 * ENOUGH)
            replaced = {name for name, uid in cluster.uids().items() if uid != before[name]}
            assert len(replaced) == 1, "the roll stops at the member that does not come back"
            cluster.wait(
                lambda: any(one["type"] == "Warning" and one["reason"] == "MemberFailing" for one in cluster.events()),
                "a Warning event says so",
                30,
            )
            cluster.keep("broken-image-on-one")
            cluster.edit(pod={"image": stage.images.kvorum})
            cluster.wait_ready(3, 240)
        sentinel = Sentinel(cluster)
        cluster.edit(pod={"image": stage.images.broken})
        cluster.wait(lambda: cluster.condition("Degraded").get("status") == "True", "the loss of a member is seen")
        for name in ids:
            cluster.delete_pod(name)
        cluster.wait(lambda: cluster.condition("Available").get("status") == "False", "no quorum runs")
        cluster.keep("broken-image-on-all")
        cluster.edit(pod={"image": stage.images.kvorum})
        cluster.wait_ready(3, 240)
        assert cluster.member_ids() == ids
        sentinel.check()


def test_learner_that_never_schedules_is_withdrawn_when_the_spec_goes_back(stage: Stage) -> None:
    with stage.cluster("apart") as cluster:
        cluster.apply(replicas=3, storage=STORAGE, pod={"scheduling": {"affinity": APART}})
        cluster.wait_ready(3)
        ids = cluster.member_ids()
        with under_writer(cluster) as writer:
            cluster.edit(replicas=4)  # there are three nodes
            wait_says(cluster, "PodUnschedulable")
            cluster.wait(lambda: "apart-3" in cluster.member_ids(), "it is in the member list")
            cluster.keep("learner-unschedulable")
            cluster.edit(replicas=3)
            cluster.wait_ready(3)
        assert writer.failed == []
        assert cluster.member_ids() == ids
        assert set(cluster.volumes()) == set(ids)
        cluster.wait(lambda: set(cluster.pods()) == set(ids), "its pod is gone")


def test_volume_of_somebody_else_is_said_and_never_touched(stage: Stage) -> None:
    """One of a member's name is there before the cluster is; once it is gone all is well."""
    api, name = stage.api, "data-squatted-1"
    body = {
        "metadata": {"name": name, "labels": {"theirs": "x"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    theirs = api.create("persistentvolumeclaims", stage.namespace, body)["metadata"]
    try:
        with stage.cluster("squatted") as cluster:
            cluster.apply(replicas=3)
            cluster.wait(lambda: name in cluster.condition("Ready").get("message", ""), "Ready names it")
            assert cluster.condition("Stalled")["status"] == "True"
            cluster.keep("foreign-volume")
            now = (api.get("persistentvolumeclaims", stage.namespace, name) or {})["metadata"]
            assert [now[key] for key in ("uid", "labels")] == [theirs["uid"], theirs["labels"]]
            assert "deletionTimestamp" not in now
            api.delete("persistentvolumeclaims", stage.namespace, name)
            cluster.wait_ready(3)
            assert takes_writes(cluster.service_endpoint())
    finally:
        api.delete("persistentvolumeclaims", stage.namespace, name)


def test_paused_cluster_is_reported_and_not_touched(stage: Stage) -> None:
    with stage.cluster("paused") as cluster:
        cluster.apply(replicas=1)
        cluster.wait_ready(1)
        cluster.edit(replicas=3, paused=True)
        cluster.wait_reason("Reconciling", "Paused")
        cluster.keep("paused")
        uid = cluster.uids()["paused-0"]
        cluster.delete_pod("paused-0")
        cluster.wait(lambda: cluster.uids().get("paused-0") not in (None, uid), "Kubernetes itself makes the pod anew")
        cluster.wait(lambda: takes_writes(cluster.service_endpoint()), "it serves again")
        assert set(cluster.pods()) == {"paused-0"}
        cluster.edit(paused=False)
        cluster.wait_ready(3)


def test_two_voters_on_one_node_are_a_condition_of_their_own(stage: Stage) -> None:
    node = str(stage.api.list("nodes", "")[0]["metadata"]["name"])
    with stage.cluster("together") as cluster:
        hostname = {"nodeSelector": {"kubernetes.io/hostname": node}}
        cluster.apply(replicas=3, storage=STORAGE, pod={"scheduling": hostname})
        cluster.wait_ready(3)
        cluster.wait(lambda: cluster.condition("Spread").get("reason") == "MembersShareNode", "Spread is False")
        assert node in cluster.condition("Spread")["message"]
        cluster.keep("share-a-node")
        with under_writer(cluster):
            cluster.edit(pod={"scheduling": {"nodeSelector": None}})
            cluster.wait(lambda: cluster.condition("Spread").get("reason") == "SpreadOut", "they spread out", 240)
            cluster.wait_ready(3)


def test_even_number_of_members_is_warned_of_by_an_event_and_in_ready(stage: Stage) -> None:
    with stage.cluster("even") as cluster:
        cluster.apply(replicas=2)
        cluster.wait_ready(2)
        assert "odd" in cluster.condition("Ready")["message"]
        cluster.wait(
            lambda: any(one["type"] == "Warning" and "odd" in one["message"] for one in cluster.events()),
            "a Warning event says so",
            30,
        )


def test_spec_that_cannot_work_is_said_within_seconds(stage: Stage) -> None:
    """What the schema cannot refuse: an overlay that contradicts what the operator needs."""
    with stage.cluster("contradicting") as cluster:
        cluster.apply(replicas=1, storage={"className": "there-is-no-such-class"})
        cluster.wait(lambda: cluster.chronicle.first_s(lambda status: "conditions" in status), "a status is there", 8)
        wait_says(cluster, "PodUnschedulable")
        cluster.keep("no-such-storage-class")


def test_peer_port_is_closed_to_other_pods_and_the_client_port_is_open(stage: Stage) -> None:
    with stage.cluster("walled") as cluster:
        cluster.apply(replicas=1)
        cluster.wait_ready(1)
        address = str(cluster.pods()["walled-0"]["status"]["podIP"])
        tries = (
            "import socket, sys\n"
            "for port in (2379, 2380):\n"
            "    try:\n"
            f"        socket.create_connection(('{address}', port), 3).close()\n"
            "        print(port, 'open')\n"
            "    except OSError as error:\n"
            "        print(port, 'closed')\n"
        )
        stage.api.kubectl("apply", "-f", "-", text=json.dumps(stranger(stage, tries)))
        stage.api.kubectl(
            *("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/stranger", "-n", stage.narrow, "--timeout=60s")
        )
        said = stage.api.kubectl("logs", "stranger", "-n", stage.narrow)
        stage.api.delete("pods", stage.narrow, "stranger")
        assert said.split("\n")[:2] == ["2379 open", "2380 closed"]


def stranger(stage: Stage, program: str) -> dict[str, object]:
    """A pod of another namespace that runs a few lines of Python."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "stranger",
        "image": stage.images.kvorum,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", program],
        "securityContext": security,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "namespace": stage.narrow},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
