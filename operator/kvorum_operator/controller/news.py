"""Events of a KVCluster, as `kubectl describe` shows them: each once in some minutes, and never a reason to fail.

What they say is cluster/events.py's.
"""

import logging
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from kvorum_operator.cluster.events import Event
from kvorum_operator.platforms.kubernetes.client import KVCLUSTERS, Client, KubernetesError, Manifest, Resource

EVENTS = Resource("events.k8s.io/v1", "Event", "events")
AGAIN_S = 600.0  # the same of the same cluster is not told again before
NOTE_CHARACTERS_MAX = 1024  # the API's own bound
CONTROLLER = "kvorum.dev/operator"

log = logging.getLogger(__name__)


class News:
    """instance: the operator that tells them."""

    def __init__(self, client: Client, instance: str, clock: Callable[[], float]) -> None:
        self._client = client
        self._instance = instance[:128]
        self._clock = clock
        self._told_s: dict[str, dict[Event, float]] = {}  # by the cluster's UID
        self._complaint = ""

    async def tell(self, live: Manifest, events: Iterable[Event]) -> None:
        """live: the KVCluster. Raises Fenced."""
        for event in events:
            if not self._worth_telling(live["metadata"]["uid"], event):
                continue
            try:
                await self._client.create(EVENTS, self._body(live, event))
                self._complaint = ""
            except KubernetesError as error:
                if self._complaint != error.message:
                    log.warning("an event was not taken", extra={"cluster": where(live), "error": str(error)})
                self._complaint = error.message

    def _worth_telling(self, uid: str, event: Event) -> bool:
        now_s = self._clock()
        told_s = {one: at_s for one, at_s in self._told_s.get(uid, {}).items() if now_s - at_s < AGAIN_S}
        self._told_s[uid] = told_s
        if event in told_s:
            return False
        told_s[event] = now_s
        return True

    def forget(self, uid: str) -> None:
        self._told_s.pop(uid, None)

    def _body(self, live: Manifest, event: Event) -> Manifest:
        metadata = live["metadata"]
        note = event.message
        if len(note) > NOTE_CHARACTERS_MAX:
            note = note[: NOTE_CHARACTERS_MAX - 3] + "..."
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"namespace": metadata["namespace"], "name": f"{metadata['name']}.{secrets.token_hex(8)}"},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "type": event.type,
            "reason": event.reason,
            "note": note,
            "regarding": {
                "apiVersion": KVCLUSTERS.api_version,
                "kind": KVCLUSTERS.kind,
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }


def where(live: Manifest) -> str:
    return f"{live['metadata']['namespace']}/{live['metadata']['name']}"
