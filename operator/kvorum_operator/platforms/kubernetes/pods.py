"""A pod as a node of the pass: whether its member runs, and if not, what Kubernetes itself says about why.

Pure: one pod as the API server has it, and what follows from that. Kubernetes starts containers and pods again by
itself, so a pod that does not run is held up, never blocked. Texts are Kubernetes' own words, in one line.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kvorum_operator.api.overlay import MEMBER
from kvorum_operator.api.reasons import Reason
from kvorum_operator.cluster.observation import HeldUp, Node
from kvorum_operator.members.last_words import complaint, last_words, shortened
from kvorum_operator.objects.member_file import SEALED_REFUSAL
from kvorum_operator.objects.names import CLIENT_PORT
from kvorum_operator.platforms.kubernetes.client import Manifest

# Waiting reasons of the kubelet that have nothing wrong yet.
ON_ITS_WAY = frozenset({"", "ContainerCreating", "PodInitializing"})
CRASH_LOOP = "CrashLoopBackOff"
OVER = ("Failed", "Succeeded")  # phases of a pod whose containers have all ended, for good
OVERDUE_S = 10.0
REVISION = "controller-revision-hash"


def node_of(pod: Manifest, revision: str | None, *, fresh: bool) -> Node:
    """revision: what the StatefulSet would make its pods from now, None where its controller has not said it yet.

    fresh: the pod was made on an empty volume that was no member's by then. A sealed file keeps it from serving (I7).
    """
    metadata, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    member = container_named(MEMBER, status.get("containerStatuses"))
    running = member.get("state", {}).get("running")
    over = status.get("phase") in OVER
    stopping = "deletionTimestamp" in metadata
    ended = ended_of(member)
    runs = not over and not fresh and (running is not None or stopping)
    return Node(
        metadata["name"],
        running=runs,
        since_s=seconds(running["startedAt"] if running else ended.get("finishedAt") or metadata["creationTimestamp"]),
        ended=why_ended(ended) if ended and not runs else "",
        failures_count=member.get("restartCount", 0) if not runs else 0,
        current=revision is None or metadata.get("labels", {}).get(REVISION) == revision,
        found_no_data=found_no_data(ended),
        held_up=None if runs or (fresh and not stopping) else held_up(pod, member),
        stopping=stopping,
        ready=is_ready(status) if runs else False,
        host=spec.get("nodeName", ""),
        client_url=client_url(status.get("podIP", "")),
        uid=metadata["uid"],
    )


def held_up(pod: Manifest, member: Mapping[str, Any]) -> HeldUp:
    """Of a pod whose member does not run."""
    metadata, status = pod["metadata"], pod.get("status", {})
    if "deletionTimestamp" in metadata:
        waits_for = ", ".join(metadata.get("finalizers", ())) or "its kubelet"
        return HeldUp(Reason.WAKING, f"its former pod is being deleted, and waits for {waits_for}")
    if status.get("phase") in OVER:
        said = ": ".join(status[key] for key in ("reason", "message") if status.get(key))
        return HeldUp(Reason.WAKING, shortened(f"its pod ended and is made anew ({said or status['phase']})"))
    if not pod.get("spec", {}).get("nodeName"):
        return without_node(status)
    for initial in status.get("initContainerStatuses", ()):
        if not initial.get("started") and (why := why_waiting(initial)) is not None:
            return HeldUp(why.reason, shortened(f"its init container {initial['name']}: {why.text}"))
    return why_waiting(member) or HeldUp(Reason.WAKING, f"its pod starts on {pod['spec']['nodeName']}")


def without_node(status: Mapping[str, Any]) -> HeldUp:
    scheduled = condition("PodScheduled", status)
    if scheduled.get("reason") in ("Unschedulable", "SchedulingGated"):
        # What a preemption would not change either, which follows, says it all a second time.
        said, _, _ = scheduled.get("message", "").partition(" preemption: ")
        return HeldUp(Reason.POD_UNSCHEDULABLE, shortened(f"no node takes its pod: {said or scheduled['reason']}"))
    return HeldUp(Reason.WAKING, "its pod is being given a node")


def why_waiting(container: Mapping[str, Any]) -> HeldUp | None:
    """Why a container does not run; None while nothing is wrong."""
    ended = ended_of(container)
    waiting = container.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason == CRASH_LOOP:
        pause = re.search(r"back-off (\S+) ", message)
        again = f"it is started again after at most {pause[1]}" if pause else "it is started again after a pause"
        count = container.get("restartCount", 0) + 1
        return HeldUp(Reason.MEMBER_FAILING, shortened(f"{why_ended(ended)}; start {count} failed, {again}"))
    if reason not in ON_ITS_WAY:
        return HeldUp(Reason.IMAGE_UNAVAILABLE, shortened(f"{reason}: {message}" if message else reason))
    if ended and ended.get("exitCode") != 0:
        return HeldUp(Reason.WAKING, shortened(f"{why_ended(ended)}; it is started again"))
    return None


def ended_of(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a container ended last; empty if it never did, or if it runs."""
    state = container.get("state", {})
    if "running" in state:
        return {}
    found: Mapping[str, Any] = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
    return found


def why_ended(ended: Mapping[str, Any]) -> str:
    """For a person: `exit 1: what it said last`; with the kubelet's word for it where that says more than Error."""
    reason = ended.get("reason", "")
    code = f"signal {ended['signal']}" if ended.get("signal") else f"exit {ended.get('exitCode', '?')}"
    how = code if reason in ("", "Error", "Completed") else f"{reason} ({code})"
    message = ended.get("message", "")
    said = last_words(message.splitlines())
    return f"{how}: {said}" if said else how


def found_no_data(ended: Mapping[str, Any]) -> bool:
    """Whether it ended because its file is sealed and its volume empty: what follows deletes that volume.

    By the fatal line alone. Other last lines may quote requests, and so the keys that some client chose.
    """
    return any(SEALED_REFUSAL in (complaint(line) or "") for line in ended.get("message", "").splitlines())


def is_ready(status: Mapping[str, Any]) -> bool | None:
    """By the kubelet. None when it does not say: what its node's silence makes of Ready is no observation (I8)."""
    if condition("Ready", status).get("status") == "True":
        return True
    return False if condition("ContainersReady", status).get("status") == "False" else None


def is_beyond_reach(pod: Manifest, now_s: float) -> bool:
    """Whether a pod that was told to end is on a machine where nobody is there to end it.

    As far as the pod shows that: its containers were ready when its kubelet was last heard of and it is not by now; or
    it is still there long after the time it had.
    """
    deleted = pod["metadata"].get("deletionTimestamp")
    if deleted is None:
        return False
    status = pod.get("status", {})
    silent = is_ready(status) is None and condition("Ready", status).get("status") == "False"
    return silent or now_s > seconds(deleted) + OVERDUE_S  # the timestamp is the end of the grace it was given


def is_creating(pod: Manifest, now_s: float, longer_than_s: float) -> bool:
    """Whether its kubelet has been about to make its containers for so long."""
    status = pod.get("status", {})
    if status.get("phase") != "Pending" or "startTime" not in status:
        return False
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    waiting = [one.get("state", {}).get("waiting", {}).get("reason", "") for one in containers]
    started = any("running" in one.get("state", {}) or ended_of(one) for one in containers)
    return not started and ON_ITS_WAY.issuperset(waiting) and now_s - seconds(status["startTime"]) > longer_than_s


def condition(kind: str, status: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((one for one in status.get("conditions", ()) if one["type"] == kind), {})


def container_named(name: str, containers: list[Mapping[str, Any]] | None) -> Mapping[str, Any]:
    return next((one for one in containers or () if one["name"] == name), {})


def client_url(address: str) -> str:
    """At the pod's own address, which nothing has to resolve; empty while it has none."""
    if not address:
        return ""
    return f"http://[{address}]:{CLIENT_PORT}" if ":" in address else f"http://{address}:{CLIENT_PORT}"


def seconds(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()
