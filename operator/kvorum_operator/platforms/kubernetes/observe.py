"""What a pass looks at on Kubernetes: read live, all at once, and turned into a scene.

StatefulSet, pods, claims and the record of the bootstrap are read in each pass, by their names or labels. More is read
only while something is missing: claims that have lost their labels, and events, which alone say why no pod or no volume
is made, or why a container is not. Nothing is decided here.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import KVCluster
from kvorum_operator.cluster.observation import HeldUp, Node, Record, Volume
from kvorum_operator.members.last_words import shortened
from kvorum_operator.objects import labels, names
from kvorum_operator.objects.config_maps import read_record
from kvorum_operator.platforms.kubernetes.apply import controller_of, why_not_ours
from kvorum_operator.platforms.kubernetes.client import (
    CONFIG_MAPS,
    EVENTS,
    PODS,
    STATEFUL_SETS,
    VOLUME_CLAIMS,
    Client,
    Manifest,
)
from kvorum_operator.platforms.kubernetes.pods import is_creating, node_of, seconds
from kvorum_operator.platforms.kubernetes.volumes import goes_with_another, is_before, is_going, phase_of, volume_of
from kvorum_operator.reconcile import Scene

CREATING_S = 10.0  # for a kubelet to mount volumes and to make a container; later its events are worth a read
EVENT_AGE_S_MAX = 1_000.0  # the StatefulSet controller's longest pause between two attempts to make a pod
NO_POD, POD_MADE = "FailedCreate", "SuccessfulCreate"
NO_VOLUME = frozenset({"ProvisioningFailed", "FailedBinding"})
NO_CONTAINER = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox"})


@dataclass(frozen=True, slots=True)
class Sight:
    """The objects themselves, as read: pods and claims by the member's name."""

    stateful_set: Manifest | None = None
    pods: Mapping[str, Manifest] = field(default_factory=dict)
    claims: Mapping[str, Manifest] = field(default_factory=dict)
    record: Manifest | None = None
    events: tuple[Manifest, ...] = ()

    @property
    def replicas(self) -> int:
        """How many pods the StatefulSet is to have; what is there without one."""
        if self.stateful_set is not None:
            replicas: int = self.stateful_set["spec"].get("replicas", 1)
            return replicas
        orphans = [name for name, pod in self.pods.items() if controller_of(pod) is None]
        return max((names.ordinal(name) + 1 for name in orphans), default=0)

    @property
    def revision(self) -> str | None:
        """What pods would be made from now; None while the StatefulSet controller has not seen its latest template."""
        if self.stateful_set is None:
            return None
        status = self.stateful_set.get("status", {})
        seen = status.get("observedGeneration") == self.stateful_set["metadata"].get("generation")
        return status.get("updateRevision") if seen else None


async def look(client: Client, namespace: str, name: str) -> Sight:
    """Raises KubernetesError."""
    members = labels.CLUSTER + "=" + name
    stateful_set, pods, claims, record = await asyncio.gather(
        client.get(STATEFUL_SETS, namespace, name),
        client.list(PODS, namespace, members),
        client.list(VOLUME_CLAIMS, namespace, members),
        client.get(CONFIG_MAPS, namespace, names.bootstrap_record(name)),
    )
    known = names.all_members(name)
    pods_by_name = {pod["metadata"]["name"]: pod for pod in pods}
    claims_by_name = {claim["metadata"]["name"]: claim for claim in claims}
    sight = Sight(
        stateful_set,
        {member: pods_by_name[member] for member in known if member in pods_by_name},
        {member: claims_by_name[claim] for member in known if (claim := names.volume_claim(member)) in claims_by_name},
        record,
    )
    wanted = known[: sight.replicas]
    if unlabelled := [member for member in {*wanted, *sight.pods} if member not in sight.claims]:
        found = await asyncio.gather(
            *(client.get(VOLUME_CLAIMS, namespace, names.volume_claim(member)) for member in unlabelled)
        )
        others = {member: claim for member, claim in zip(unlabelled, found, strict=True) if claim is not None}
        sight = replace(sight, claims={**sight.claims, **others})
    return replace(sight, events=await complaints(client, namespace, name, sight))


async def complaints(client: Client, namespace: str, name: str, sight: Sight) -> tuple[Manifest, ...]:
    """Events about what does not come to be. One read for each of the things they are about, none if all is well."""
    about: list[str] = []
    now_s = time.time()
    for member in names.all_members(name):
        pod, claim = sight.pods.get(member), sight.claims.get(member)
        if pod is None and names.ordinal(member) < sight.replicas:
            about.append(f"involvedObject.kind={STATEFUL_SETS.kind},involvedObject.name={name}")
        elif pod is not None and is_creating(pod, now_s, CREATING_S):
            about.append(f"involvedObject.uid={pod['metadata']['uid']},type=Warning")
        elif pod is not None and claim is not None and phase_of(claim) == "Pending":
            about.append(f"involvedObject.uid={claim['metadata']['uid']}")
    found = await asyncio.gather(*(client.list(EVENTS, namespace, fields=one) for one in dict.fromkeys(about)))
    return tuple(event for events in found for event in events)


def scene_of(sight: Sight, cluster: KVCluster, now_s: float) -> Scene:
    name, namespace = cluster.metadata.name, cluster.metadata.namespace
    assert namespace is not None
    record, damage = record_of(sight.record, cluster)
    volumes = volumes_of(sight, cluster)
    blocked = of_other_engine(volumes, cluster)
    return Scene(
        now_s=now_s,
        addresses=names.addresses(name, namespace),
        nodes=nodes_of(sight, cluster, now_s),
        volumes=volumes,
        blocked=blocked,
        record=record,
        record_damage=damage,
        engine_blocked=next(iter(blocked.values()), ""),
    )


def of_other_engine(volumes: Mapping[str, Volume], cluster: KVCluster) -> dict[str, str]:
    """Members whose volumes, kept from a KVCluster before this one, hold data that spec.engine cannot read."""
    wanted = cluster.spec.engine
    return {
        member: f"its volume was made for engine {volume.engine}, and spec.engine is {wanted}, which cannot be changed "
        "on Kubernetes: apply the KVCluster anew with the former, or delete the volumes' claims with what they hold"
        for member, volume in volumes.items()
        if volume.ours and volume.engine not in (None, wanted)
    }


def nodes_of(sight: Sight, cluster: KVCluster, now_s: float) -> dict[str, Node]:
    found = {}
    for ordinal, member in enumerate(names.all_members(cluster.metadata.name)):
        pod = sight.pods.get(member)
        if pod is not None and is_left_behind(pod, sight, cluster):
            held = HeldUp(Reason.WAKING, "a pod of its name is deleted with the StatefulSet that made it")
            uid = pod["metadata"]["uid"]
            found[member] = Node(member, running=False, since_s=now_s, held_up=held, stopping=True, uid=uid)
        elif pod is not None:
            claim = sight.claims.get(member)
            node = node_of(pod, sight.revision, fresh=is_before(pod, claim))
            found[member] = replace(node, held_up=with_complaint(node.held_up, pod, claim, sight))
        elif ordinal < sight.replicas:
            found[member] = Node(member, running=False, since_s=now_s, held_up=why_no_pod(member, sight, now_s))
    return found


def is_left_behind(pod: Manifest, sight: Sight, cluster: KVCluster) -> bool:
    """Whether what made the pod is gone or not this cluster's, as right after a KVCluster is deleted and made anew.

    The garbage collector ends it. What it still says is of the cluster before, whose id must not become this one's.
    """
    controller = controller_of(pod)
    if controller is None:
        return False
    live = sight.stateful_set
    return live is None or controller["uid"] != live["metadata"]["uid"] or bool(why_not_ours(live, cluster))


def with_complaint(held: HeldUp | None, pod: Manifest, claim: Manifest | None, sight: Sight) -> HeldUp | None:
    """Why a pod is held up, in the words of whoever cannot make its volume or its container."""
    if held is None or held.reason not in (Reason.WAKING, Reason.POD_UNSCHEDULABLE):
        return held
    if claim is not None and phase_of(claim) == "Lost":
        # Data may still be on what it was bound to: that is no evidence of a loss (I8).
        gone = claim["spec"].get("volumeName", "")
        return HeldUp(Reason.POD_UNSCHEDULABLE, f"its claim is Lost: PersistentVolume {gone} is gone")
    if claim is not None and (event := latest(sight.events, claim, NO_VOLUME)):
        return HeldUp(Reason.POD_UNSCHEDULABLE, shortened(f"its volume cannot be made: {event.get('message', '')}"))
    if event := latest(sight.events, pod, NO_CONTAINER):
        text = f"its container cannot be made: {event['reason']}: {event.get('message', '')}"
        return HeldUp(Reason.IMAGE_UNAVAILABLE, shortened(text))
    return held


def why_no_pod(member: str, sight: Sight, now_s: float) -> HeldUp:
    """Of a pod that the StatefulSet controller has to make."""
    claim = sight.claims.get(member)
    if claim is not None and is_going(claim):
        return HeldUp(Reason.WAKING, "its pod is made once its former volume is deleted")
    about = [event for event in sight.events if f"Pod {member} " in event.get("message", "")]
    event = latest(about, sight.stateful_set, (NO_POD, POD_MADE)) if sight.stateful_set is not None else None
    # What was said before the pod was made the last time is about another time.
    if event is None or event["reason"] == POD_MADE or now_s - event_s(event) > EVENT_AGE_S_MAX:
        return HeldUp(Reason.WAKING, "its pod is being made")
    said = event["message"].rpartition(" error: ")[2]
    return HeldUp(Reason.POD_REFUSED, shortened(f"its pod is not admitted: {said}"))


def latest(events: Iterable[Manifest], about: Manifest, reasons: Collection[str]) -> Manifest | None:
    """Of this very object, and for one of the reasons."""
    uid = about["metadata"]["uid"]
    found = [one for one in events if one["involvedObject"].get("uid") == uid and one.get("reason") in reasons]
    return max(found, key=event_s, default=None)


def event_s(event: Manifest) -> float:
    """When it happened last, in the words of either of the two APIs that events are made by."""
    instant = event.get("lastTimestamp") or (event.get("series") or {}).get("lastObservedTime")
    return seconds(instant or event.get("eventTime") or event["metadata"]["creationTimestamp"])


def volumes_of(sight: Sight, cluster: KVCluster) -> dict[str, Volume]:
    found = {member: volume_of(claim, cluster) for member, claim in sight.claims.items()}
    return {member: volume for member, volume in found.items() if volume is not None}


def record_of(record: Manifest | None, cluster: KVCluster) -> tuple[Record | None, str]:
    """The record, or why the one that is there cannot be read (I4)."""
    if record is None:
        return None, ""
    where = f"ConfigMap {record['metadata']['name']}"
    name = cluster.metadata.name
    if (record["metadata"].get("labels") or {}).get(labels.CLUSTER) != name:
        return None, f"{where} has no label {labels.CLUSTER}={name}: it is not this cluster's"
    if goes_with_another(record, cluster):
        return None, f"{where} belongs to a KVCluster of this name that was deleted, and goes with that"
    try:
        return read_record(record.get("data"), name), ""
    except ValueError as error:
        return None, f"{where} is damaged: {error}"
