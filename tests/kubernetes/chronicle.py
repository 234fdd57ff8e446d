"""What happened to one cluster, in the order in which it happened: pods that came and went, statuses, who led.

Seen by watches and by asking members, never by the operator's own word: it is what the operator is judged by.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvorum.client import Client, ClientError, Status

from tests.kubernetes.api_server import ApiServer, Object, Refused

AGAIN_S = 0.2
LEADER_EVERY_S = 0.05
ANSWER_S = 0.5


@dataclass(frozen=True, slots=True)
class PodEvent:
    at_s: float  # of the monotonic clock
    what: str  # "made", "ready" (again), "stopping" (it was told to end), "gone"
    name: str
    uid: str


class Chronicle:
    """Follows a cluster's pods and its KVCluster from `with` on."""

    def __init__(self, api: ApiServer, namespace: str, name: str) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._ended = threading.Event()
        self._pods: dict[str, Object] = {}  # by uid
        self.pod_events: list[PodEvent] = []
        self.statuses: list[tuple[float, Object]] = []
        self._threads = [
            threading.Thread(
                target=self._follow, args=("pods", f"kvorum.dev/cluster={name}", self._on_pod), daemon=True
            ),
            threading.Thread(target=self._follow, args=("kvclusters", "", self._on_cluster), daemon=True),
        ]

    def __enter__(self) -> "Chronicle":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()  # the threads end with their next event, at the latest with the process

    def endpoints(self) -> list[str]:
        """Of the members that take calls, as a client finds them by name: else of all that have an address."""
        pods = sorted(self._pods.copy().values(), key=lambda pod: str(pod["metadata"]["name"]))
        ready = [pod for pod in pods if is_ready(pod) and not is_stopping(pod)]
        return [f"http://{pod['status']['podIP']}:2379" for pod in ready or pods if pod["status"].get("podIP")]

    def first_s(self, reached: Callable[[Object], bool]) -> float | None:
        """When a status first said so."""
        return next((at_s for at_s, status in self.statuses if reached(status)), None)

    def stopped(self, since_s: float = 0.0) -> list[PodEvent]:
        """Pods told to end, in order."""
        return [one for one in self.pod_events if one.what == "stopping" and one.at_s >= since_s]

    def _follow(self, resource: str, labels: str, on_event: Callable[[float, str, Object], None]) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError, ValueError, Refused):  # the API server restarts in some tests
                for event in self._api.watch(resource, self._namespace, labels):
                    if self._ended.is_set():
                        return
                    if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                        on_event(time.monotonic(), event["type"], event["object"])
            self._ended.wait(AGAIN_S)

    def _on_pod(self, at_s: float, kind: str, pod: Object) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        known = self._pods.get(uid)
        if kind == "DELETED":
            self._pods.pop(uid, None)
            if known is not None and not is_stopping(known):
                self.pod_events.append(PodEvent(at_s, "stopping", name, uid))
            self.pod_events.append(PodEvent(at_s, "gone", name, uid))
            return
        if known is None:
            self.pod_events.append(PodEvent(at_s, "made", name, uid))
        if is_ready(pod) and (known is None or not is_ready(known)):
            self.pod_events.append(PodEvent(at_s, "ready", name, uid))
        if is_stopping(pod) and (known is None or not is_stopping(known)):
            self.pod_events.append(PodEvent(at_s, "stopping", name, uid))
        self._pods[uid] = pod

    def _on_cluster(self, at_s: float, kind: str, cluster: Object) -> None:
        if cluster["metadata"]["name"] == self._name and kind != "DELETED" and cluster.get("status"):
            self.statuses.append((at_s, cluster["status"]))


class LeaderWatch:
    """Who leads, asked of all members again and again from a thread of its own."""

    def __init__(self, chronicle: Chronicle) -> None:
        self._chronicle = chronicle
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.seen: list[tuple[float, str]] = []  # when an endpoint was first seen to lead, and which

    def __enter__(self) -> "LeaderWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def leaders_near(self, at_s: float) -> set[str]:
        """Whoever was seen to lead just before or, as far as one look at all members may be late, just after."""
        before = [url for seen_s, url in self.seen if seen_s <= at_s][-1:]
        after = [url for seen_s, url in self.seen if at_s < seen_s <= at_s + ANSWER_S + LEADER_EVERY_S]
        return {*before, *after}

    async def _run(self) -> None:
        clients: dict[str, Client] = {}
        while not self._stop.is_set():
            urls = self._chronicle.endpoints()
            for url in urls:
                if url not in clients:
                    clients[url] = Client([url], timeout_s=ANSWER_S)
            answers = await asyncio.gather(*(status_of(clients[url]) for url in urls))
            terms = [
                (answer.raft_term, url)
                for url, answer in zip(urls, answers, strict=True)
                if answer is not None and answer.leader == answer.member_id
            ]
            if terms:
                leader = max(terms)[1]
                if not self.seen or self.seen[-1][1] != leader:
                    self.seen.append((time.monotonic(), leader))
            await asyncio.sleep(LEADER_EVERY_S)
        for client in clients.values():
            await client.close()


async def status_of(client: Client) -> Status | None:
    try:
        return await client.status()
    except ClientError:
        return None


def is_ready(pod: Object) -> bool:
    conditions: Sequence[Object] = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def is_stopping(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]
