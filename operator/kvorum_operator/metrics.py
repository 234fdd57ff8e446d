"""What the operator tells Prometheus of itself and of its clusters.

No work with labels where work is done: children of counters are kept by what they count, and conditions are only read
when somebody asks. A cluster that is gone takes its series with it.
"""

from collections.abc import Callable, Iterator
from importlib.metadata import version
from platform import python_version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from kvorum_operator.api.v1alpha1 import Condition, Status

PASS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 10)


class Metrics:
    """One operator's. `text` is the page."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.pass_seconds = Histogram(
            "kvorum_operator_pass_seconds",
            "How long a pass over one cluster took.",
            buckets=PASS_SECONDS,
            registry=self.registry,
        )
        self.leader = Gauge(
            "kvorum_operator_leader", "1 where this operator holds the Lease and acts.", registry=self.registry
        )
        self._passes = Counter(
            "kvorum_operator_passes",
            "Passes by how they ended: done, failed, conflict, fenced or bug.",
            ("result",),
            registry=self.registry,
        )
        self._steps = Counter(
            "kvorum_operator_steps",
            "Steps taken, by kind and result: done, or refused by the platform or the members.",
            ("kind", "result"),
            registry=self.registry,
        )
        self._calls = Counter(
            "kvorum_operator_api_calls",
            "Calls of the Kubernetes API by verb, resource and HTTP status; code 0: no answer.",
            ("verb", "resource", "code"),
            registry=self.registry,
        )
        self._call_seconds = Histogram(
            "kvorum_operator_api_call_seconds",
            "How long calls of the Kubernetes API took.",
            ("verb", "resource"),
            buckets=CALL_SECONDS,
            registry=self.registry,
        )
        info = Gauge(
            "kvorum_operator_build_info",
            "1, with the versions of this operator as labels.",
            ("version", "python"),
            registry=self.registry,
        )
        info.labels(version("kvorum-operator"), python_version()).set(1)
        self._counted: dict[tuple[Counter, tuple[str, ...]], Counter] = {}
        self._timed: dict[tuple[str, str], Histogram] = {}
        self.clusters = Clusters()
        self.registry.register(self.clusters)

    def watch_queue(self, depth: Callable[[], float], oldest_s: Callable[[], float]) -> None:
        """depth, oldest_s: asked whenever somebody reads the page."""
        depth_gauge = Gauge(
            "kvorum_operator_queue_depth", "Clusters that are due and wait for a worker.", registry=self.registry
        )
        depth_gauge.set_function(depth)
        oldest_gauge = Gauge(
            "kvorum_operator_queue_oldest_seconds",
            "For how long the oldest cluster has been due or worked on.",
            registry=self.registry,
        )
        oldest_gauge.set_function(oldest_s)

    def _count(self, counter: Counter, *labels: str) -> None:
        child = self._counted.get((counter, labels))
        if child is None:
            child = self._counted[counter, labels] = counter.labels(*labels)
        child.inc()

    def count_pass(self, result: str) -> None:
        self._count(self._passes, result)

    def count_step(self, kind: str, result: str) -> None:
        self._count(self._steps, kind, result)

    def count_call(self, verb: str, resource: str, status: int, seconds: float) -> None:
        self._count(self._calls, verb, resource, str(status))
        timed = self._timed.get((verb, resource))
        if timed is None:
            timed = self._timed[verb, resource] = self._call_seconds.labels(verb, resource)
        timed.observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class Clusters(Collector):
    """The conditions and figures of each cluster, as its status says them, made when they are asked for."""

    def __init__(self) -> None:
        self._statuses: dict[tuple[str, str], Status] = {}

    def show(self, namespace: str, name: str, status: Status) -> None:
        self._statuses[namespace, name] = status

    def forget(self, namespace: str, name: str) -> None:
        self._statuses.pop((namespace, name), None)

    def clear(self) -> None:
        self._statuses.clear()

    def collect(self) -> Iterator[Metric]:
        condition = GaugeMetricFamily(
            "kvorum_operator_cluster_condition",
            "1 where the condition is true, 0 where it is false, -1 where nobody knows; reason as in the status.",
            labels=("namespace", "name", "type", "reason"),
        )
        members = GaugeMetricFamily(
            "kvorum_operator_cluster_members", "Members in the member list.", labels=("namespace", "name")
        )
        serving = GaugeMetricFamily(
            "kvorum_operator_cluster_members_ready", "Members that serve.", labels=("namespace", "name")
        )
        for (namespace, name), status in self._statuses.items():
            for one in status.conditions:
                condition.add_metric((namespace, name, one.type, one.reason), value_of(one))
            members.add_metric((namespace, name), status.replicas)
            serving.add_metric((namespace, name), status.ready_replicas)
        yield from (condition, members, serving)


def value_of(condition: Condition) -> float:
    return {"True": 1.0, "False": 0.0}.get(condition.status, -1.0)
