"""Putting a cluster's objects: applied where they differ, deleted where they are not wanted, and else left alone.

Knows objects of any kind, not what they mean. Each carries the mark of what it was applied as: by it, and by what is
there, an object is known to be as desired without anything remembered (I10). What still differs right after it was
applied, as a webhook may have it, is remembered as equal to what was desired: nobody is fought with. An object of
somebody else that has one of our names is never touched.
"""

import hashlib
import json
import time
from dataclasses import dataclass

from kvorum_operator.api.v1alpha1 import GROUP, KIND, KVCluster
from kvorum_operator.objects import labels
from kvorum_operator.platforms.kubernetes.client import (
    RESOURCES,
    Client,
    Conflict,
    Manifest,
    NotFound,
    Refused,
    Resource,
)
from kvorum_operator.platforms.kubernetes.drift import drift, part_of
from kvorum_operator.reconcile import ObjectRefused

APPLIED = f"{GROUP}/applied"  # annotation: the mark of what the object was applied as
LOOK_AGAIN_S = 600.0  # at objects that nobody was heard to have touched
NOT_WANTED = ""  # in place of a mark


@dataclass(frozen=True, slots=True)
class Settled:
    """An object that was found, or put, as desired, or found to be absent as it should be."""

    mark: str
    looked_s: float


class Objects:
    """Of one cluster. What is remembered may be lost at any moment: it only saves reads and writes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        # What need not be read again yet.
        self._settled: dict[tuple[Resource, str], Settled] = {}
        # What was not as desired even right after it was applied: the marks of what was desired, and of what was there.
        self._equal: dict[tuple[Resource, str], tuple[str, str]] = {}

    def forget(self) -> None:
        """Somebody touched one of them: each is looked at again."""
        self._settled.clear()

    async def put(self, desired: Manifest, cluster: KVCluster) -> None:
        """As desired, after a look at what is there if that may have changed. Raises ObjectRefused."""
        resource, name = place_of(desired)
        mark = mark_of(desired)
        if not self._is_settled(resource, name, mark):
            try:
                live = await self._client.get(resource, desired["metadata"]["namespace"], name)
            except Refused as refusal:
                raise ObjectRefused(str(refusal)) from refusal
            await self.put_over(live, desired, cluster)
            self._settled[resource, name] = Settled(mark, time.monotonic())

    async def put_over(self, live: Manifest | None, desired: Manifest, cluster: KVCluster) -> Manifest:
        """live: what was just read. Returns what is there afterwards. Raises ObjectRefused."""
        resource, name = place_of(desired)
        if live is not None:
            require_ours(live, resource, cluster)
        mark = mark_of(desired)
        if live is not None and self._is_as_desired(live, desired, mark):
            return live
        try:
            found = await self._apply(desired, live, mark)
        except NotFound as refusal:
            if refusal.reason:
                raise ObjectRefused(str(refusal)) from refusal
            # Of a kind that it does not know the API server says nothing but 404.
            text = f"{resource.kind} {name}: this Kubernetes has no such kind ({resource.api_version})"
            raise ObjectRefused(text) from refusal
        except Refused as refusal:
            raise ObjectRefused(str(refusal)) from refusal
        if drift(desired, found):
            self._equal[resource, name] = mark, mark_of(part_of(desired, found))
        return found

    async def _apply(self, desired: Manifest, live: Manifest | None, mark: str) -> Manifest:
        metadata = dict(desired["metadata"])
        metadata["annotations"] = {**metadata.get("annotations", {}), APPLIED: mark}
        marked = {**desired, "metadata": metadata}
        resource, name = place_of(desired)
        if live is None:
            return await self._client.apply(resource, marked)
        # What is written over must be what was read: of two operators the one that is late is refused.
        metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
        try:
            return await self._client.apply(resource, marked)
        except Conflict:
            again = await self._client.get(resource, metadata["namespace"], name)
            if again is None or specified(again) != specified(live):
                raise
            metadata["resourceVersion"] = again["metadata"]["resourceVersion"]  # only its status is another
            return await self._client.apply(resource, marked)

    async def remove(self, resource: Resource, namespace: str, name: str, cluster: KVCluster) -> None:
        """Not there, after a look if that may have changed. Somebody else's object of that name stays."""
        if self._is_settled(resource, name, NOT_WANTED):
            return
        try:
            live = await self._client.get(resource, namespace, name)
        except Refused:
            live = None  # who may not look at it made none: a Role need not name what is not used
        if live is not None and not why_not_ours(live, cluster):
            try:
                await self._client.delete(resource, namespace, name, uid=live["metadata"]["uid"])
            except NotFound:
                pass  # somebody was faster
            except Refused as refusal:
                raise ObjectRefused(str(refusal)) from refusal
        self._settled[resource, name] = Settled(NOT_WANTED, time.monotonic())

    def _is_settled(self, resource: Resource, name: str, mark: str) -> bool:
        found = self._settled.get((resource, name))
        return found is not None and found.mark == mark and time.monotonic() - found.looked_s < LOOK_AGAIN_S

    def _is_as_desired(self, live: Manifest, desired: Manifest, mark: str) -> bool:
        if (live["metadata"].get("annotations") or {}).get(APPLIED) != mark:
            return False  # it was applied as something else: what it says beyond today's wishes must go
        if not drift(desired, live):
            return True
        return self._equal.get(place_of(desired)) == (mark, mark_of(part_of(desired, live)))


def place_of(desired: Manifest) -> tuple[Resource, str]:
    return RESOURCES[desired["apiVersion"], desired["kind"]], desired["metadata"]["name"]


def mark_of(content: object) -> str:
    """Equal marks are equal contents."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def specified(live: Manifest) -> tuple[object, ...]:
    """What changes with an object's specification and not with its status."""
    metadata = live["metadata"]
    return metadata["uid"], metadata.get("generation"), metadata.get("annotations"), metadata.get("deletionTimestamp")


def require_ours(live: Manifest, resource: Resource, cluster: KVCluster) -> None:
    """Raises ObjectRefused for what is somebody else's."""
    if why := why_not_ours(live, cluster):
        metadata = live["metadata"]
        raise ObjectRefused(
            f"{resource.kind} {metadata['name']} is there and not this cluster's: {why}; it is left alone. "
            "Delete or rename it, or give the KVCluster another name"
        )


def why_not_ours(live: Manifest, cluster: KVCluster) -> str:
    """Empty for an object of this cluster: its KVCluster controls it, or nobody does and its label names it."""
    metadata, controller = live["metadata"], controller_of(live)
    if controller is not None:
        if controller["uid"] == cluster.metadata.uid:
            return ""
        if controller["kind"] == KIND and controller["name"] == cluster.metadata.name:
            return "it belongs to a KVCluster of this name that was deleted, and goes with that"
        return f"{controller['kind']} {controller['name']} controls it"
    if (metadata.get("labels") or {}).get(labels.CLUSTER) == cluster.metadata.name:
        return ""
    return f"it has no label {labels.CLUSTER}={cluster.metadata.name}"


def controller_of(live: Manifest) -> Manifest | None:
    """The owner that makes it anew and takes it along, if it has one."""
    return next((one for one in live["metadata"].get("ownerReferences") or () if one.get("controller")), None)
