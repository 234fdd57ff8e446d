"""kopf wiring. Events only say *look again at this cluster*: nothing is read from them but which one.

Of a KVCluster's events those are passed on that change what a pass decides from: generation, annotations, deletion.
Its status we write ourselves. Of the objects that belong to one, each event is: pods and volumes change without
a generation. After a 410 kopf lists anew and never tells of what was deleted meanwhile: the resync finds that.
"""

from collections.abc import Callable
from typing import Any

import kopf

from kvorum_operator.api.v1alpha1 import GROUP
from kvorum_operator.controller.work_queue import Key, Lane
from kvorum_operator.platforms.kubernetes import client as kubernetes
from kvorum_operator.platforms.kubernetes.client import Resource

CLUSTER_LABEL = f"{GROUP}/cluster"  # on every object of ours: the name of its cluster

# What a pass reads live, and what it looks at only when somebody touched it (`forget_objects`).
READ_LIVE = (kubernetes.STATEFUL_SETS, kubernetes.PODS, kubernetes.VOLUME_CLAIMS)
READ_WHEN_TOUCHED = (
    kubernetes.SERVICES,
    kubernetes.CONFIG_MAPS,
    kubernetes.SERVICE_ACCOUNTS,
    kubernetes.POD_DISRUPTION_BUDGETS,
    kubernetes.NETWORK_POLICIES,
)
WATCHED = (kubernetes.KVCLUSTERS, *READ_LIVE, *READ_WHEN_TOUCHED)


class Noticed:
    """What is told of events, by whatever thread kopf runs in."""

    def __init__(
        self,
        cluster_changed: Callable[[Key, Lane], None],
        cluster_gone: Callable[[Key], None],
        belonging_changed: Callable[[Key, bool], None],
    ) -> None:
        """belonging_changed: told the cluster, and whether the object is one that is read only when touched."""
        self.cluster_changed = cluster_changed
        self.cluster_gone = cluster_gone
        self.belonging_changed = belonging_changed
        self._last: dict[Key, int] = {}  # a hash of what a pass decides from

    def cluster(self, kind: str | None, body: Any) -> None:
        """kind: of the event; None where kopf lists what is there."""
        metadata = body["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        if kind == "DELETED":
            self._last.pop(key, None)
            self.cluster_gone(key)
            return
        annotations = tuple(sorted((metadata.get("annotations") or {}).items()))
        decisive = hash((metadata["uid"], metadata.get("generation"), annotations, metadata.get("deletionTimestamp")))
        if self._last.get(key) != decisive:
            self._last[key] = decisive
            self.cluster_changed(key, Lane.ORDINARY if kind is None else Lane.CHANGED)

    def belonging(self, body: Any, *, read_when_touched: bool) -> None:
        metadata = body["metadata"]
        name = (metadata.get("labels") or {}).get(CLUSTER_LABEL)
        if name:
            self.belonging_changed(Key(metadata["namespace"], name), read_when_touched)


def registry_of(noticed: Noticed) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    async def cluster(event: kopf.RawEvent, **_: object) -> None:
        noticed.cluster(event["type"], event["object"])

    async def read_live(event: kopf.RawEvent, **_: object) -> None:
        noticed.belonging(event["object"], read_when_touched=False)

    async def read_when_touched(event: kopf.RawEvent, **_: object) -> None:
        noticed.belonging(event["object"], read_when_touched=True)

    kopf.on.event(*place(kubernetes.KVCLUSTERS), registry=registry)(cluster)
    for resource in READ_LIVE:
        kopf.on.event(*place(resource), registry=registry)(read_live)
    for resource in READ_WHEN_TOUCHED:
        kopf.on.event(*place(resource), registry=registry)(read_when_touched)
    return registry


def place(resource: Resource) -> tuple[str, str, str]:
    """Group, version and plural name, as kopf selects resources."""
    group, _, version = resource.api_version.rpartition("/")
    return group, version, resource.plural


def kopf_settings() -> kopf.OperatorSettings:
    """Nothing is written by kopf: no finalizer, no annotation, no event. Only our objects are sent by the server."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # neither CRDs nor namespaces are listed: watches.py says when the CRD is missing
    settings.process.ultimate_exiting_timeout = None  # it would kill this process
    settings.networking.error_backoffs = (1, 2, 3, 5)  # then watches.py starts all of it anew
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.watching.connect_timeout = 5
    settings.watching.chunk_size = 250
    settings.queueing.exit_timeout = 0.5
    settings.queueing.idle_timeout = 1.0  # a task per object that was heard of
    for resource in WATCHED:
        if selector := label_selector(resource):
            settings.watching.label_selectors[place(resource)] = selector
    return settings


def label_selector(resource: Resource) -> str:
    """What the server is asked to choose by: of our own kind all, of others what belongs to a cluster."""
    return "" if resource is kubernetes.KVCLUSTERS else CLUSTER_LABEL
