"""A PersistentVolumeClaim as a volume of the pass, and what of it the operator changes: labels and owner.

Pure. A claim that is being deleted is gone: it will not be mounted again. One that the StatefulSet controller made, in
place of one that is gone, is none either: there is no data on it. One that a KVCluster owns that was deleted goes with
that, sooner or later: it is as good as foreign to who has its name by now.
"""

from kvorum_operator.api.v1alpha1 import GROUP, KIND, KVCluster
from kvorum_operator.cluster.observation import Volume
from kvorum_operator.objects import labels, names
from kvorum_operator.objects.labels import VolumeLabels
from kvorum_operator.objects.volume_claim import owners_of_data
from kvorum_operator.platforms.kubernetes.client import Manifest

FORMER_POD = f"{GROUP}/former-pod"  # annotation of a claim: the UID of the pod that was on it when it was adopted


def volume_of(claim: Manifest, cluster: KVCluster) -> Volume | None:
    metadata = claim["metadata"]
    found = metadata.get("labels") or {}
    if is_going(claim) or is_fresh(claim):
        return None
    member, known = names.member_of_claim(metadata["name"]), labels.from_labels(found, cluster.metadata.name)
    if known is None or goes_with_another(claim, cluster):
        return Volume(member, ours=False)
    return Volume(member, True, known.cluster_id, known.member_id, known.engine)


def is_fresh(claim: Manifest) -> bool:
    return labels.FRESH in (claim["metadata"].get("labels") or {})


def is_going(thing: Manifest) -> bool:
    return "deletionTimestamp" in thing["metadata"]


def phase_of(claim: Manifest) -> str:
    """Pending, Bound or Lost: what it was bound to is gone."""
    phase: str = claim.get("status", {}).get("phase", "")
    return phase


def adopted(claim: Manifest, cluster: KVCluster, known: VolumeLabels, pod: Manifest | None) -> Manifest:
    """A patch of a fresh claim: a member's volume from now on. pod: whoever is on it, and is no member."""
    wanted = {**labels.common(cluster.metadata.name), **labels.to_labels(known), labels.FRESH: None}
    former = pod["metadata"]["uid"] if pod is not None else None
    return patch_of(claim, labels=wanted, annotations={FORMER_POD: former}, ownerReferences=owners(claim, cluster))


def is_before(pod: Manifest, claim: Manifest | None) -> bool:
    """Whether a pod was made on the claim before it was a member's volume: it runs, if it does, as nobody."""
    if claim is None:
        return False
    return is_fresh(claim) or (claim["metadata"].get("annotations") or {}).get(FORMER_POD) == pod["metadata"]["uid"]


def corrected(data: Manifest, cluster: KVCluster, known: VolumeLabels | None) -> Manifest | None:
    """A patch of a claim or of the record, None where nothing has to change.

    known: what the labels shall say, None to leave them. The owner is as deletionPolicy says: data goes with the
    KVCluster, or outlives it.
    """
    changes: dict[str, object] = {}
    found = data["metadata"].get("labels") or {}
    wanted = labels.to_labels(known) if known is not None else {}
    if any(found.get(key) != value for key, value in wanted.items()):
        changes["labels"] = wanted
    if (data["metadata"].get("ownerReferences") or []) != (wanted_owners := owners(data, cluster)):
        changes["ownerReferences"] = wanted_owners
    return patch_of(data, **changes) if changes else None


def owners(data: Manifest, cluster: KVCluster) -> list[Manifest]:
    others = [one for one in data["metadata"].get("ownerReferences") or () if not is_cluster(one)]
    return others + owners_of_data(cluster)


def goes_with_another(data: Manifest, cluster: KVCluster) -> bool:
    """Whether a KVCluster owns it that is not this one: the garbage collector takes it once that one is gone."""
    owned_by = data["metadata"].get("ownerReferences") or ()
    return any(is_cluster(one) and one["uid"] != cluster.metadata.uid for one in owned_by)


def is_cluster(owner: Manifest) -> bool:
    group: str = owner["apiVersion"].partition("/")[0]
    return (group, owner["kind"]) == (GROUP, KIND)


def patch_of(thing: Manifest, **changes: object) -> Manifest:
    """Of this very object, as it was read."""
    this = {key: thing["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    return {"metadata": {**this, **changes}}
