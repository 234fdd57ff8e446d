"""examples/patroni/kubernetes as a person applies it: PostgreSQL with Patroni on a KVCluster, both on this Kubernetes.

A client in a pod of its own writes rows all the while. The store is rolled, which PostgreSQL must not notice; then the
primary's pod is taken with its node closed, and the standby takes over.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.deadline import wait_until
from tests.kit.etcd import REPOSITORY
from tests.kubernetes import figures, images
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.stage import Stage
from tests.kubernetes.which import Kubernetes
from tests.patroni.pair import WRITER, Written, parse

EXAMPLE = REPOSITORY / "examples" / "patroni" / "kubernetes"
IMAGE = "patroni:17"
PODS = ("pg-0", "pg-1")
BORN_S = 300.0
ROLLED_S = 240.0
PATIENCE_S = 180.0
DCS = yaml.safe_load((EXAMPLE / "patroni.yml").read_text())["bootstrap"]["dcs"]
CONNECTION = (
    "host=pg-0.pg,pg-1.pg user=postgres dbname=postgres target_session_attrs=read-write connect_timeout=3 "
    "keepalives_idle=2 keepalives_interval=1 tcp_user_timeout=3000"
)
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Pair:
    """The two PostgreSQL, as their Patronis and the API server tell of them."""

    api: ApiServer
    namespace: str

    def patroni(self, name: str) -> dict[str, Any]:
        """What the Patroni of a pod says of itself; empty if it does not answer."""
        pod = self.api.get("pods", self.namespace, name) or {}
        try:
            with _direct.open(f"http://{pod['status']['podIP']}:8008/patroni", timeout=5) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as refusal:
            found = json.load(refusal)
        except (OSError, KeyError, ValueError):
            return {}
        return dict(found) if found.get("state") == "running" else {}

    def primary(self) -> str:
        """Empty unless there is exactly one."""
        found = [name for name in PODS if self.patroni(name).get("role") in ("primary", "master")]
        return found[0] if len(found) == 1 else ""

    def is_synchronous(self) -> bool:
        primary = self.primary()
        return bool(primary) and self.query(primary, "SELECT sync_state FROM pg_stat_replication") == ["sync"]

    def query(self, name: str, statement: str) -> list[str]:
        asked = ("exec", name, "-n", self.namespace, "--", "psql", "-h", "/tmp", "-XAt", "-c", statement)
        done = self.api.try_kubectl(*asked)
        return done.stdout.splitlines()

    def wait(self, condition: Callable[[], Any], what: str, deadline_s: float) -> Any:
        try:
            return wait_until(condition, deadline_s, what, poll_s=0.5)
        except AssertionError as error:
            for name in PODS:
                error.add_note(self.api.try_kubectl("describe", f"pod/{name}", "-n", self.namespace).stdout[-3000:])
                error.add_note(self.api.try_kubectl("logs", name, "-n", self.namespace, "--tail=30").stdout)
            raise

    def said(self) -> Written:
        text = self.api.kubectl("logs", "writer", "-n", self.namespace)
        return parse(text.split("\n")[:-1])

    def wait_rows(self, more: int) -> None:
        wanted = len(self.said().acknowledged) + more
        self.wait(lambda: len(self.said().acknowledged) >= wanted, f"{more} rows more", PATIENCE_S)


@pytest.fixture(scope="module")
def image(kubernetes: Kubernetes) -> None:
    archive, dockerfile = images.archive_of(IMAGE), EXAMPLE / "Dockerfile"
    archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not archive.exists() or archive.stat().st_mtime < dockerfile.stat().st_mtime:
            images.require_builder().build(dockerfile, EXAMPLE, IMAGE, archive, {})
    except images.CannotBuild as why:
        pytest.skip(f"NOT RUN: PostgreSQL with Patroni on Kubernetes: no image of it can be built: {str(why)[-300:]}")
    kubernetes.load([archive])


@pytest.fixture(scope="module")
def pair(image: None, stage: Stage) -> Iterator[Pair]:
    made = Pair(stage.api, stage.namespace)
    example = ("-n", stage.namespace, "-k", str(EXAMPLE))
    stage.api.kubectl("apply", *example)
    try:
        made.wait(made.is_synchronous, "a primary with a synchronous standby", BORN_S)
        start_writer(made)
        made.wait_rows(10)
        yield made
    finally:
        stage.api.try_kubectl("delete", "pod/writer", "configmap/writer", "-n", stage.namespace, "--grace-period=1")
        stage.api.kubectl("delete", *example)
        stage.api.kubectl("delete", "pvc", "--all", "-n", stage.namespace, "--wait=false")


def start_writer(pair: Pair) -> None:
    namespace = ("-n", pair.namespace)
    pair.api.kubectl("create", "configmap", "writer", f"--from-file={WRITER}", *namespace)
    (secret,) = [
        one["metadata"]["name"]
        for one in pair.api.list("secrets", pair.namespace)
        if "PATRONI_SUPERUSER_PASSWORD" in (one.get("data") or {})
    ]
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "writer",
        "image": IMAGE,
        "command": ["python3", f"/writer/{Path(WRITER).name}", CONNECTION],
        "env": [
            {
                "name": "PGPASSWORD",
                "valueFrom": {"secretKeyRef": {"name": secret, "key": "PATRONI_SUPERUSER_PASSWORD"}},
            }
        ],
        "securityContext": restricted,
        "volumeMounts": [{"name": "writer", "mountPath": "/writer"}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "writer"},
        "spec": {
            "containers": [container],
            "volumes": [{"name": "writer", "configMap": {"name": "writer"}}],
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    }
    pair.api.kubectl("apply", "-f", "-", *namespace, text=json.dumps(pod))
    pair.wait(lambda: pair.api.try_kubectl("logs", "writer", *namespace).returncode == 0, "the writer runs", PATIENCE_S)


def test_roll_of_the_store_to_another_version_is_not_noticed(pair: Pair, stage: Stage) -> None:
    store = Cluster(stage.api, stage.namespace, "store")
    store.wait_ready(3)
    primary, before = pair.primary(), store.uids()
    since_s = pair.said().acknowledged[-1][1]  # by the writer's own clock
    store.edit(pod={"image": stage.images.kvorum_later})
    store.wait(
        lambda: store.is_ready(3) and not set(before.values()) & set(store.uids().values()),
        "every member runs anew",
        ROLLED_S,
    )
    pair.wait_rows(50)
    said = pair.said()
    gap_s = said.gap_s(since_s, said.acknowledged[-1][1])
    figures.note("PostgreSQL while its store is rolled: longest time without a row", gap_s, "s", 2)
    assert said.failures_since(since_s) == []
    assert pair.primary() == primary
    assert pair.patroni(primary)["timeline"] == 1


def test_standby_takes_over_from_a_primary_whose_node_is_closed_and_no_row_is_lost(pair: Pair) -> None:
    pair.wait(pair.is_synchronous, "a synchronous standby", PATIENCE_S)
    old = pair.primary()
    (new,) = set(PODS) - {old}
    node = str((pair.api.get("pods", pair.namespace, old) or {})["spec"]["nodeName"])
    promised_s = DCS["ttl"] + DCS["loop_wait"]
    pair.api.kubectl("cordon", node)
    try:
        began_s = time.monotonic()
        pair.api.delete("pods", pair.namespace, old, grace_s=0)
        pair.wait(lambda: pair.primary() == new, f"{new} takes over", promised_s + PATIENCE_S)
        took_s = time.monotonic() - began_s
    finally:
        pair.api.kubectl("uncordon", node)
    figures.note("primary's pod taken: the standby is primary", took_s, "s", promised_s)
    pair.wait_rows(50)
    acknowledged = {number for number, _ in pair.said().acknowledged}
    there = {int(row) for row in pair.query(new, "SELECT number FROM written")}
    figures.require_kept(acknowledged <= there, f"acknowledged rows are lost: {sorted(acknowledged - there)[:10]}")
    pair.wait(pair.is_synchronous, f"{old} is a synchronous standby", BORN_S)
