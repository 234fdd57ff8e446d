"""Kubernetes as a platform of the pass: what put_objects and each step do to the objects of one cluster.

Decides nothing: rules and guard did, on what `look` saw, and what is done here is done to these very objects: deletes
carry the UID that was seen, changes the resourceVersion. Whoever finds another object by then has lost a race and is
told by Conflict or NotFound; the next pass sees what is there now. Each call may be cut short anywhere (I10).
"""

import time
from collections.abc import Collection
from dataclasses import replace

from kvorum_operator.api.v1alpha1 import REPLICAS_MAX, KVCluster
from kvorum_operator.cluster.observation import Observation
from kvorum_operator.cluster.step import Bootstrap, Discard, Restart, StartNodes, StopNodes
from kvorum_operator.objects import labels, names
from kvorum_operator.objects.config_maps import bootstrap_record
from kvorum_operator.objects.desired import desired_objects
from kvorum_operator.objects.images import Images
from kvorum_operator.objects.stateful_set import stateful_set
from kvorum_operator.objects.volume_claim import volume_claim
from kvorum_operator.platforms.kubernetes import observe
from kvorum_operator.platforms.kubernetes.apply import Objects, place_of, require_ours
from kvorum_operator.platforms.kubernetes.client import (
    CONFIG_MAPS,
    POD_DISRUPTION_BUDGETS,
    POD_MONITORS,
    PODS,
    STATEFUL_SETS,
    VOLUME_CLAIMS,
    AlreadyExists,
    Client,
    Conflict,
    Manifest,
    NotFound,
    Refused,
    Resource,
)
from kvorum_operator.platforms.kubernetes.observe import Sight
from kvorum_operator.platforms.kubernetes.pods import is_beyond_reach, seconds
from kvorum_operator.platforms.kubernetes.volumes import adopted, corrected, is_before, is_fresh, is_going, volume_of
from kvorum_operator.reconcile import ObjectRefused, Scene, StepFailed

# The API server's own words: those of 1.29 to 1.36, and those since.
IMMUTABLE = ("updates to statefulset spec for fields other than", "field is immutable")
# Made for some clusters only, and deleted where they are not wanted any more. No member needs them to run.
EXTRA = frozenset({POD_DISRUPTION_BUDGETS, POD_MONITORS})

# For a pod whose process is no member, or none any more: it has nothing to hand over and no data that anybody wants.
# Not 0, which would remove it from the API while it may still run.
GRACE_OF_NOBODY_S = 1
CLAIM_S_MAX = 30.0  # for a claim to be deleted; later somebody has to know what keeps it


class KubernetesPlatform:
    """One cluster. What it keeps from look to the end of a pass is what that pass was decided on."""

    def __init__(self, client: Client, namespace: str, name: str, images: Images) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._images = images
        self._objects = Objects(client)
        self._sight = Sight()
        self._cluster: KVCluster | None = None
        self._built: tuple[object, tuple[Manifest, ...]] | None = None

    def forget_objects(self) -> None:
        """Somebody touched an object that is not read in each pass."""
        self._objects.forget()

    async def look(self, cluster: KVCluster) -> Scene:
        self._sight = await observe.look(self._client, self._namespace, self._name)
        self._cluster = cluster
        return observe.scene_of(self._sight, cluster, time.time())

    # Objects and labels.

    async def put_objects(self, cluster: KVCluster, seen: Observation) -> None:
        await self._correct_data(cluster, seen)
        replicas = replicas_kept(cluster, seen, self._sight)
        desired = self._desired(cluster, seen, replicas)
        for one in desired:
            if place_of(one)[0] not in EXTRA:
                await self._put(one, cluster)
        await self._delete_leftovers(replicas)
        try:
            await self._put_extras([one for one in desired if place_of(one)[0] in EXTRA], cluster)
        except ObjectRefused as refusal:
            raise ObjectRefused(str(refusal), needed=False) from refusal

    def _desired(self, cluster: KVCluster, seen: Observation, replicas: int) -> tuple[Manifest, ...]:
        """Built anew only when something else than figures is seen: it is a third of a settled pass's work."""
        steady = replace(seen, now_s=0.0, nodes={}, answered={}, own_words={}, hand_overs={}, joining_since_s={})
        wish = (cluster, replicas, seen.cluster_id, steady)
        if self._built is None or self._built[0] != wish:
            self._built = wish, desired_objects(cluster, seen, self._images, replicas)
        return self._built[1]

    async def _put(self, desired: Manifest, cluster: KVCluster) -> None:
        if desired["kind"] == STATEFUL_SETS.kind:
            await self._put_stateful_set(desired, cluster)
        else:
            await self._objects.put(desired, cluster)

    async def _put_extras(self, desired: list[Manifest], cluster: KVCluster) -> None:
        for one in desired:
            await self._put(one, cluster)
        for resource in EXTRA - {place_of(one)[0] for one in desired}:
            await self._objects.remove(resource, self._namespace, self._name, cluster)

    async def _correct_data(self, cluster: KVCluster, seen: Observation) -> None:
        """What volumes and record say of themselves, which is more as the cluster forms."""
        missing = labels.missing(seen)
        for name, volume in seen.volumes.items():
            if volume.ours and (patch := corrected(self._sight.claims[name], cluster, missing.get(name))):
                await self._patch(VOLUME_CLAIMS, patch)
        record = self._sight.record
        if record is not None and seen.record is not None and (patch := corrected(record, cluster, None)):
            await self._patch(CONFIG_MAPS, patch)

    async def _put_stateful_set(self, desired: Manifest, cluster: KVCluster) -> None:
        live = self._sight.stateful_set
        if live is not None and is_going(live):
            return  # it is made anew in the pass that does not find it any more
        try:
            found: Manifest | None = await self._objects.put_over(live, desired, cluster)
        except ObjectRefused as refusal:
            if live is None or not is_immutable(refusal.__cause__):
                raise
            # Its pods stay, serve on, and belong to the one that is made in its place.
            uid = live["metadata"]["uid"]
            await self._client.delete(STATEFUL_SETS, self._namespace, self._name, uid=uid, propagation="Orphan")
            found = None
        self._sight = replace(self._sight, stateful_set=found)

    async def _delete_leftovers(self, replicas: int) -> None:
        """Empty volumes that the StatefulSet controller made for pods that are not wanted any more."""
        for name, claim in self._sight.claims.items():
            unused = names.ordinal(name) >= replicas and name not in self._sight.pods
            if unused and is_fresh(claim) and not is_going(claim):
                await self._delete(VOLUME_CLAIMS, claim)

    # Steps.

    async def bootstrap(self, step: Bootstrap) -> None:
        cluster = self._require_cluster()
        token = f"{self._namespace}/{self._name}/{cluster.metadata.uid}"
        try:
            await self._client.create(CONFIG_MAPS, bootstrap_record(cluster, step, token))
        except AlreadyExists:
            raise StepFailed("the bootstrap was recorded before") from None
        except Refused as refusal:
            raise ObjectRefused(str(refusal)) from refusal

    async def start_nodes(self, step: StartNodes, cluster: KVCluster, seen: Observation) -> None:
        """Those that can be: a quota that is too small for all of them is no reason to start none."""
        startable: list[int] = []
        refusals: dict[int, ObjectRefused | StepFailed] = {}
        for name in step.names:
            try:
                await self._put_volume(name, cluster, seen)
            except (ObjectRefused, StepFailed) as refusal:
                refusals[names.ordinal(name)] = refusal
            else:
                startable.append(names.ordinal(name))
        if startable:
            await self._scale(replicas_reached(self._sight.replicas, startable, refusals))
        if refusals:
            raise next(iter(refusals.values()))

    async def _put_volume(self, name: str, cluster: KVCluster, seen: Observation) -> None:
        """A volume for the member, labelled from the start, before its pod is made. Whoever is on it already goes."""
        claim, pod = self._sight.claims.get(name), self._sight.pods.get(name)
        known = labels.at_creation(name, cluster.spec.engine, seen)
        if claim is None:
            await self._create_volume(volume_claim(cluster, name, known), cluster)
            await self._end_nobody(pod)
        elif is_going(claim):
            await self._end_nobody(pod)  # it goes only once no pod is on it; the next pass makes another
            require_in_time(claim, time.time())
        elif is_fresh(claim):
            await self._patch(VOLUME_CLAIMS, adopted(claim, cluster, known, pod))
            await self._end_nobody(pod)
        elif pod is not None and is_before(pod, claim):
            await self._end_nobody(pod)

    async def _end_nobody(self, pod: Manifest | None) -> None:
        """Of a pod that was made before its member's file was opened: it would see that only within a minute or so."""
        if pod is not None:
            await self._delete(PODS, pod, grace_s=GRACE_OF_NOBODY_S)

    async def _create_volume(self, desired: Manifest, cluster: KVCluster) -> None:
        name = desired["metadata"]["name"]
        try:
            await self._client.create(VOLUME_CLAIMS, desired)
        except AlreadyExists:
            live = await self._client.get(VOLUME_CLAIMS, self._namespace, name)
            if live is not None:
                require_ours(live, VOLUME_CLAIMS, cluster)
            raise  # the StatefulSet controller was faster: it is seen in the next pass
        except Refused as refusal:
            raise ObjectRefused(str(refusal)) from refusal

    async def stop_nodes(self, step: StopNodes) -> None:
        await self._scale(0)

    async def _scale(self, replicas: int) -> None:
        cluster, live = self._require_cluster(), self._sight.stateful_set
        if live is None or is_going(live):
            raise StepFailed(f"StatefulSet {self._name} is being made anew")
        if live["spec"].get("replicas") != replicas:
            await self._put_stateful_set(stateful_set(cluster, self._images, replicas), cluster)

    async def restart(self, step: Restart, seen: Observation) -> None:
        pod = self._sight.pods.get(step.name)
        if pod is not None and pod["metadata"]["uid"] == step.uid:
            await self._delete(PODS, pod)

    async def discard(self, step: Discard) -> None:
        """Its pod is removed by force where nobody is there to end it: a removed member votes no more (I6)."""
        pod, claim = self._sight.pods.get(step.name), self._sight.claims.get(step.name)
        if pod is not None:
            await self._delete(PODS, pod, grace_s=0 if is_beyond_reach(pod, time.time()) else GRACE_OF_NOBODY_S)
        volume = volume_of(claim, self._require_cluster()) if claim is not None else None
        if claim is not None and volume is not None and volume.ours and volume.member_id == step.member_id:
            await self._delete(VOLUME_CLAIMS, claim)

    async def _patch(self, resource: Resource, patch: Manifest) -> None:
        try:
            await self._client.patch(resource, patch)
        except Refused as refusal:
            raise ObjectRefused(str(refusal)) from refusal

    async def _delete(self, resource: Resource, thing: Manifest, grace_s: int | None = None) -> None:
        """This very object, unless it is gone or going. By force, with no grace at all, also what is going."""
        metadata = thing["metadata"]
        if is_going(thing) and grace_s != 0:
            return
        try:
            await self._client.delete(resource, self._namespace, metadata["name"], uid=metadata["uid"], grace_s=grace_s)
        except (NotFound, Conflict):
            pass  # gone, and another of that name may be there
        except Refused as refusal:
            raise StepFailed(str(refusal)) from refusal

    def _require_cluster(self) -> KVCluster:
        assert self._cluster is not None, "a step before the first look"
        return self._cluster


def replicas_kept(cluster: KVCluster, seen: Observation, sight: Sight) -> int:
    """As many pods as the StatefulSet has: more only a step makes; fewer once the member list names nobody above."""
    if sight.stateful_set is None and cluster.spec.replicas == 0:
        return 0
    members = [names.ordinal(entry.name) for entry in seen.entries or () if entry.name is not None]
    split = len(seen.cluster_ids) > 1  # frozen: nobody can say whose member list that is (I4)
    if cluster.spec.replicas == 0 or not members or split:
        return min(sight.replicas, REPLICAS_MAX)
    return min(sight.replicas, 1 + max(members))


def replicas_reached(replicas: int, startable: Collection[int], refused: Collection[int]) -> int:
    """As many pods as those to start need, by ordinals; fewer where one on the way there was refused its volume.

    A StatefulSet leaves nobody out: its pod would come along, on whatever volume has that name, somebody else's too.
    """
    end = min((ordinal for ordinal in refused if ordinal >= replicas), default=REPLICAS_MAX)
    return max([replicas, *(1 + ordinal for ordinal in startable if ordinal < end)])


def require_in_time(claim: Manifest, now_s: float) -> None:
    """Of a claim that is being deleted. Raises StepFailed when that takes long."""
    metadata = claim["metadata"]
    if now_s > seconds(metadata["deletionTimestamp"]) + CLAIM_S_MAX:
        kept = ", ".join(metadata.get("finalizers", ())) or "nothing that is known"
        raise StepFailed(f"PersistentVolumeClaim {metadata['name']} is still being deleted; what keeps it: {kept}")


def is_immutable(refusal: BaseException | None) -> bool:
    """Whether the API server refused a StatefulSet for what cannot be changed, and for nothing else.

    What else it may object to it would object to in a new one, too: there would be none.
    """
    if not isinstance(refusal, Refused) or refusal.reason != "Invalid" or not refusal.causes:
        return False
    return all(any(words in cause for words in IMMUTABLE) for cause in refusal.causes)
