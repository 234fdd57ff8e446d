"""A pod as a node: what runs, and why not, in one line of Kubernetes' own words.

Statuses are those that a Kubernetes 1.37 gave to members' pods.
"""

import json
from typing import Any

import pytest
from kvorum_operator.api.reasons import Reason
from kvorum_operator.cluster.observation import HeldUp
from kvorum_operator.platforms.kubernetes import pods
from kvorum_operator.platforms.kubernetes.pods import node_of

MADE, STARTED, ENDED = "2026-11-25T20:00:00Z", "2026-11-25T20:00:05Z", "2026-11-25T20:01:00Z"
MADE_S = 1_795_636_800.0
RUNNING = {"state": {"running": {"startedAt": STARTED}}, "restartCount": 0}
READY = [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}]
NOT_READY = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "False"}]
# Its kubelet is silent: the node controller has taken Ready away, and nobody the rest.
SILENT = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]
REFUSAL = 'couldn\'t find local name "kv-1"'
SEALED = json.dumps({"level": "fatal", "ts": ENDED, "msg": "discovery failed", "error": REFUSAL})


def pod(
    member: dict[str, Any] | None = None, *, node: str = "node-2", metadata: dict[str, Any] | None = None, **status: Any
) -> dict[str, Any]:
    labels = {"kvorum.dev/cluster": "kv", "controller-revision-hash": "kv-5f"}
    about = {"name": "kv-1", "uid": "u1", "creationTimestamp": MADE, "labels": labels, **(metadata or {})}
    mesh = RUNNING if status.get("phase") != "Pending" else waiting("ContainerCreating")  # somebody put it in there
    statuses = [{"name": "mesh", **mesh}, {"name": "member", **member}] if member is not None else []
    return {
        "metadata": about,
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": "Running", "podIP": "10.1.0.7", "containerStatuses": statuses, **status},
    }


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, **({"message": message} if message else {})}}, **more}


def terminated(**how: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": ENDED, **how}}


def held_up(one: dict[str, Any]) -> HeldUp:
    node = node_of(one, "kv-5f", fresh=False)
    assert not node.running
    assert node.held_up is not None
    return node.held_up


def test_member_that_runs_is_where_and_what_its_pod_says() -> None:
    node = node_of(pod(RUNNING, conditions=READY), "kv-5f", fresh=False)
    assert (node.name, node.uid, node.host, node.client_url) == ("kv-1", "u1", "node-2", "http://10.1.0.7:2379")
    assert node.running
    assert node.ready
    assert node.current
    assert node.since_s == MADE_S + 5
    assert (node.held_up, node.stopping, node.ended, node.failures_count) == (None, False, "", 0)


def test_member_that_is_not_ready_runs_all_the_same() -> None:
    node = node_of(pod(RUNNING, conditions=NOT_READY), "kv-5f", fresh=False)
    assert node.running
    assert node.ready is False


def test_silence_of_a_machine_says_nothing_about_its_member() -> None:
    node = node_of(pod(RUNNING, conditions=SILENT), "kv-5f", fresh=False)
    assert node.running
    assert node.ready is None


def test_address_of_the_next_internet_stands_in_brackets() -> None:
    assert node_of(pod(RUNNING, podIP="fd00::7"), None, fresh=False).client_url == "http://[fd00::7]:2379"


def test_member_without_an_address_is_asked_at_its_name() -> None:
    assert node_of(pod(RUNNING, podIP=""), None, fresh=False).client_url == ""


@pytest.mark.parametrize(("revision", "current"), [("kv-5f", True), ("kv-60", False), (None, True)])
def test_pod_is_current_by_its_revision_while_the_controller_has_said_one(revision: str | None, current: bool) -> None:
    assert node_of(pod(RUNNING), revision, fresh=False).current is current


def test_pod_that_was_told_to_end_runs_until_its_containers_have_ended() -> None:
    going = {"deletionTimestamp": ENDED}
    node = node_of(pod(RUNNING, metadata=going), None, fresh=False)
    assert node.running
    assert node.stopping
    over = node_of(pod({"state": terminated(exitCode=0)}, phase="Succeeded", metadata=going), None, fresh=False)
    assert not over.running
    assert over.stopping
    assert over.held_up == HeldUp(Reason.WAKING, "its former pod is being deleted, and waits for its kubelet")
    kept = pod({"state": terminated()}, phase="Failed", metadata={**going, "finalizers": ["example.com/keep"]})
    assert "waits for example.com/keep" in held_up(kept).text


def test_pod_on_a_volume_that_was_nobodys_does_not_run_and_waits_for_a_step() -> None:
    node = node_of(pod(RUNNING, conditions=READY), None, fresh=True)
    assert not node.running
    assert node.held_up is None
    going = node_of(pod(RUNNING, metadata={"deletionTimestamp": ENDED}), None, fresh=True)
    assert not going.running
    assert going.held_up is not None


@pytest.mark.parametrize(
    ("one", "reason", "text"),
    [
        (
            pod(node="", phase="Pending", conditions=[{"type": "PodScheduled", "status": "False",
                "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 "
                "nodes are available: 3 No preemption victims found for incoming pod."}]),
            Reason.POD_UNSCHEDULABLE,
            "no node takes its pod: 0/3 nodes are available: 3 Insufficient memory.",
        ),
        (
            pod(node="", phase="Pending", conditions=[{"type": "PodScheduled", "status": "False",
                "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates"}]),
            Reason.POD_UNSCHEDULABLE,
            "no node takes its pod: Scheduling is blocked due to non-empty scheduling gates",
        ),
        (pod(node="", phase="Pending"), Reason.WAKING, "its pod is being given a node"),
        (pod(phase="Pending"), Reason.WAKING, "its pod starts on node-2"),
        (pod(waiting("ContainerCreating"), phase="Pending"), Reason.WAKING, "its pod starts on node-2"),
        (
            pod(waiting("ImagePullBackOff", 'Back-off pulling image "kvorum:9": ErrImagePull: not found')),
            Reason.IMAGE_UNAVAILABLE,
            'ImagePullBackOff: Back-off pulling image "kvorum:9": ErrImagePull: not found',
        ),
        (pod(waiting("InvalidImageName")), Reason.IMAGE_UNAVAILABLE, "InvalidImageName"),
        (
            pod(waiting("CreateContainerConfigError", 'secret "none" not found')),
            Reason.IMAGE_UNAVAILABLE,
            'CreateContainerConfigError: secret "none" not found',
        ),
        (
            pod(waiting("CrashLoopBackOff", "back-off 40s restarting failed container=member pod=kv-1_db(u1)",
                restartCount=3, lastState=terminated(message="kvorum: --name is missing\n"))),
            Reason.MEMBER_FAILING,
            "exit 1: kvorum: --name is missing; start 4 failed, it is started again after at most 40s",
        ),
        (
            pod(waiting("CrashLoopBackOff", restartCount=1, lastState=terminated(exitCode=137, reason="OOMKilled"))),
            Reason.MEMBER_FAILING,
            "OOMKilled (exit 137); start 2 failed, it is started again after a pause",
        ),
        (
            pod({"state": terminated(exitCode=0, signal=9, reason="Error"), "restartCount": 0}),
            Reason.WAKING,
            "its pod starts on node-2",
        ),
        (
            pod({"state": terminated(message="panic"), "restartCount": 0}),
            Reason.WAKING,
            "exit 1: panic; it is started again",
        ),
        (
            pod(phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage."),
            Reason.WAKING,
            "its pod ended and is made anew (Evicted: The node was low on resource: ephemeral-storage.)",
        ),
        (pod(phase="Failed"), Reason.WAKING, "its pod ended and is made anew (Failed)"),
        (
            pod(waiting("PodInitializing"), phase="Pending", initContainerStatuses=[
                {"name": "prepare", **waiting("CrashLoopBackOff", restartCount=1, lastState=terminated(exitCode=3))}]),
            Reason.MEMBER_FAILING,
            "its init container prepare: exit 3; start 2 failed, it is started again after a pause",
        ),
        (
            pod(waiting("PodInitializing"), phase="Pending", initContainerStatuses=[
                {"name": "proxy", "started": True, **RUNNING}, {"name": "prepare", **RUNNING}]),
            Reason.WAKING,
            "its pod starts on node-2",
        ),
    ],
)  # fmt: skip
def test_pod_that_does_not_run_says_why_in_kubernetes_words(one: dict[str, Any], reason: Reason, text: str) -> None:
    assert held_up(one) == HeldUp(reason, text)


def test_refusal_of_a_sealed_file_is_evidence_only_while_nothing_runs() -> None:
    crashed = pod(waiting("CrashLoopBackOff", restartCount=2, lastState=terminated(message=SEALED)))
    node = node_of(crashed, None, fresh=False)
    assert node.found_no_data
    assert node.ended == f"exit 1: discovery failed: {REFUSAL}"
    again = pod({**RUNNING, "lastState": terminated(message=SEALED)})
    assert not node_of(again, None, fresh=False).found_no_data


def test_refusal_that_a_request_quotes_is_no_evidence() -> None:
    """An etcd logs slow requests with their keys, and its last lines are in its pod's status when it is killed."""
    slow = json.dumps({"level": "warn", "ts": ENDED, "msg": "apply request took too long", "request": REFUSAL})
    killed = pod(waiting("CrashLoopBackOff", lastState=terminated(message=f"{slow}\n{REFUSAL}\n", exitCode=137)))
    assert not node_of(killed, None, fresh=False).found_no_data


def test_long_words_of_kubernetes_keep_to_one_short_line() -> None:
    text = held_up(pod(waiting("ErrImagePull", "no such host\n" * 200))).text
    assert len(text) < 330
    assert "\n" not in text


def test_pod_is_beyond_reach_when_it_is_overdue_or_its_kubelet_is_silent_and_never_before_it_was_told_to_end() -> None:
    at_s = MADE_S + 60  # its grace ends there: the timestamp of a deletion is the end of it
    going = {"deletionTimestamp": ENDED}
    assert not pods.is_beyond_reach(pod(RUNNING, conditions=SILENT), at_s + 1_000)
    assert pods.is_beyond_reach(pod(RUNNING, conditions=SILENT, metadata=going), at_s - 20)
    assert not pods.is_beyond_reach(pod(RUNNING, conditions=READY, metadata=going), at_s + pods.OVERDUE_S)
    assert pods.is_beyond_reach(pod(RUNNING, conditions=NOT_READY, metadata=going), at_s + pods.OVERDUE_S + 1)


def test_kubelet_that_is_long_about_to_make_containers_is_worth_asking_after() -> None:
    creating = pod(waiting("ContainerCreating"), phase="Pending", startTime=MADE)
    assert not pods.is_creating(creating, MADE_S + 9, 10)
    assert pods.is_creating(creating, MADE_S + 11, 10)
    assert not pods.is_creating(pod(node="", phase="Pending"), MADE_S + 99, 10)
    assert not pods.is_creating(pod(waiting("ErrImagePull"), phase="Pending", startTime=MADE), MADE_S + 99, 10)
    initializing = pod(
        waiting("PodInitializing"),
        phase="Pending",
        startTime=MADE,
        initContainerStatuses=[{"name": "prepare", **RUNNING}],
    )
    assert not pods.is_creating(initializing, MADE_S + 99, 10)
