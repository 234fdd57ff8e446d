"""The operator around its passes, on a real API server: the Lease, the watches, what it says when it may not."""

import base64
import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.kit.deadline import wait_until
from tests.kubernetes import audit, shared_kubernetes
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.figures import note
from tests.kubernetes.operators import OperatorProcess, holder_of_lease
from tests.kubernetes.stage import CRD, Images, Stage, grant, make_namespace, remove_namespace

NAMESPACE = "kvorum-controller"
STOPPED_S = 60.0
RENEW_DEADLINE_S = 10.0
STATUS_S = 2.0
STOP_S = 5.0
OK, CONFLICT = 200, 409
READS = {"get", "list", "watch"}
ASLEEP = 20
# What CEL cannot see: it is left to the operator to refuse.
WRONG_OVERLAY = {"spec": {"$patch": "replace", "terminationGracePeriodSeconds": 5}}


@pytest.fixture(scope="module")
def own_stage(api: ApiServer, names: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A namespace and an account of its own, and no operator but those of the cases: no other writes there."""
    api.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    api.kubectl("wait", "--for=condition=Established", "crd/kvclusters.kvorum.dev", "--timeout=30s")
    make_namespace(api, NAMESPACE)
    grant(api, (NAMESPACE,))
    try:
        yield Stage(api, (NAMESPACE,), names, tmp_path_factory.mktemp("controller"))
    finally:
        remove_namespace(api, NAMESPACE)


@contextmanager
def replica(stage: Stage, name: str) -> Iterator[OperatorProcess]:
    """One that runs, and whose watches have had their lists."""
    one = stage.replica(name)
    one.start()
    try:
        wait_until(lambda: page(one, "readyz")[0] == 200, 60, f"{name} is ready", poll_s=0.1)
        yield one
        if one.runs():
            assert one.end() == 0
    finally:
        one.destroy()


def page(one: OperatorProcess, name: str) -> tuple[int, str]:
    """Status and text; 0 where nothing answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{one.metrics_port}/{name}", timeout=5) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def leads(one: OperatorProcess) -> bool:
    return "kvorum_operator_leader 1.0" in page(one, "metrics")[1]


def apply(api: ApiServer, name: str, **spec: Any) -> None:
    document = {
        "apiVersion": "kvorum.dev/v1alpha1",
        "kind": "KVCluster",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }
    api.kubectl("apply", "-f", "-", text=json.dumps(document))


def status_of(api: ApiServer, name: str) -> dict[str, Any]:
    status: dict[str, Any] = (api.get("kvclusters", NAMESPACE, name) or {}).get("status") or {}
    return status


def reason_of(status: dict[str, Any], kind: str) -> str:
    return next((str(one["reason"]) for one in status.get("conditions", ()) if one["type"] == kind), "")


def reason_of_ready(api: ApiServer, name: str) -> str:
    return reason_of(status_of(api, name), "Ready")


def credential_of(one: Path) -> str:
    """How the audit log names the token of a kubeconfig: two replicas with one account have two."""
    token = json.loads(one.read_text())["users"][0]["user"]["token"]
    payload = token.split(".")[1]
    return f"JTI={json.loads(base64.urlsafe_b64decode(payload + '=' * (-len(payload) % 4)))['jti']}"


def seconds(instant: str) -> float:
    return datetime.strptime(instant, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()


def test_status_appears_soon_also_for_a_spec_that_cannot_work(own_stage: Stage) -> None:
    api = own_stage.api
    with replica(own_stage, "prompt") as one:
        wait_until(lambda: leads(one), 30, "it leads", poll_s=0.1)
        for name, spec, reason in (
            ("asleep", {"replicas": 0}, "NeverBootstrapped"),
            ("wrong", {"pod": {"overlay": WRONG_OVERLAY}}, "SpecInvalid"),
        ):
            apply(api, name, **spec)
            applied_s = time.monotonic()
            wait_until(partial(reason_of_ready, api, name), 10, f"{name} has a status", poll_s=0.02)
            note(f"status after kubectl apply ({name})", time.monotonic() - applied_s, "s", STATUS_S)
            status = status_of(api, name)
            assert status["observedGeneration"] == 1
            assert reason_of(status, "Ready") == reason_of(status, "Stalled") == reason, status
        api.kubectl("wait", "-n", NAMESPACE, "kvc/wrong", "--for=condition=Stalled", "--timeout=5s")
        api.patch("kvclusters", NAMESPACE, "wrong", {"spec": {"replicas": 0, "pod": None}})
        wait_until(lambda: reason_of_ready(api, "wrong") == "NeverBootstrapped", 5, "it is put right")
        assert status_of(api, "wrong")["observedGeneration"] == 2
        api.patch("kvclusters", NAMESPACE, "wrong", {"spec": {"pod": {"overlay": WRONG_OVERLAY}}})
        wait_until(lambda: reason_of(status_of(api, "wrong"), "Stalled") == "SpecInvalid", 5, "it is wrong again")
        assert status_of(api, "wrong")["observedGeneration"] == 3


def test_status_that_somebody_else_wrote_or_took_away_is_put_right(own_stage: Stage) -> None:
    api = own_stage.api
    with replica(own_stage, "righting") as one:
        wait_until(lambda: leads(one), 30, "it leads", poll_s=0.1)
        apply(api, "asleep", replicas=0)
        wait_until(lambda: reason_of_ready(api, "asleep"), 10, "it has a status", poll_s=0.1)
        api.patch("kvclusters", NAMESPACE, "asleep", {"status": None}, part="/status")
        api.kubectl("annotate", "-n", NAMESPACE, "kvc/asleep", f"kvorum.dev/looked-at={time.time():.0f}", "--overwrite")
        wait_until(lambda: reason_of_ready(api, "asleep") == "NeverBootstrapped", 5, "it is there again")


def test_server_sends_only_objects_of_ours_and_nothing_of_kopf_is_written(own_stage: Stage) -> None:
    if not shared_kubernetes.CLUSTER.exists():
        pytest.skip("NOT RUN: this Kubernetes shows no audit log")
    with replica(own_stage, "selecting") as one:
        wait_until(lambda: leads(one), 30, "it leads", poll_s=0.1)
        apply(own_stage.api, "asleep", replicas=0)
        wait_until(lambda: reason_of_ready(own_stage.api, "asleep"), 10, "it has a status", poll_s=0.1)
        own_stage.api.kubectl("annotate", "-n", NAMESPACE, "kvc/asleep", f"a/b={time.time():.0f}", "--overwrite")
        wait_until(lambda: 'result="done"' in page(one, "metrics")[1], 10, "passes were made", poll_s=0.1)
        credential = credential_of(own_stage.folder / "kubeconfig-selecting")
        asked = audit.events_with(credential)
    watched = [event for event in asked if event["verb"] == "watch"]
    assert {event["objectRef"]["resource"] for event in watched} >= {"kvclusters", "pods", "statefulsets", "services"}
    for event in watched:
        ours = event["objectRef"]["resource"] == "kvclusters"
        assert ours or "labelSelector=kvorum.dev/cluster" in event["requestURI"], event["requestURI"]
        assert f"/namespaces/{NAMESPACE}/" in event["requestURI"], "nothing cluster-wide is watched"
    passes = [event for event in asked if not event["userAgent"].startswith("kopf/")]
    listed = [event["requestURI"] for event in passes if event["verb"] == "list"]
    assert listed, "passes have looked"
    assert [uri for uri in listed if not re.search("(label|field)Selector=", uri)] == [], "no pass lists all objects"
    assert {event["verb"] for event in asked if event["userAgent"].startswith("kopf/")} <= READS
    for cluster in own_stage.api.list("kvclusters", NAMESPACE):
        assert "finalizers" not in cluster["metadata"]
        assert not any("kopf" in name for name in cluster["metadata"].get("annotations", {}))


def test_operator_that_is_asked_to_end_gives_the_lease_back_and_the_other_acts_at_once(own_stage: Stage) -> None:
    api = own_stage.api
    with replica(own_stage, "first") as first, replica(own_stage, "second") as second:
        wait_until(lambda: leads(first), 30, "the first leads", poll_s=0.1)
        assert not leads(second)
        before = holder_of_lease(api, NAMESPACE)
        ended_s = time.monotonic()
        assert first.end() == 0
        note("operator ends after SIGTERM", time.monotonic() - ended_s, "s", STOP_S)
        wait_until(lambda: leads(second), 10, "the second leads", poll_s=0.05)
        note("the other replica leads after SIGTERM of the leading one", time.monotonic() - ended_s, "s", STOP_S)
        assert holder_of_lease(api, NAMESPACE) not in ("", before)


@pytest.mark.timeout(900)
def test_leader_that_was_stopped_for_a_minute_writes_nothing_stale_when_it_wakes(own_stage: Stage) -> None:
    if not shared_kubernetes.CLUSTER.exists():
        pytest.skip("NOT RUN: this Kubernetes shows no audit log")
    api = own_stage.api
    names = [f"edited-{number}" for number in range(ASLEEP)]

    def edit_all(*, paused: bool) -> None:
        """Their statuses change with each edit, and no pod is needed for that."""
        for name in names:
            api.patch("kvclusters", NAMESPACE, name, {"spec": {"paused": paused}})

    with replica(own_stage, "stopped") as old, replica(own_stage, "waiting") as new:
        wait_until(lambda: leads(old), 30, "the first leads", poll_s=0.1)
        for name in names:
            apply(api, name, replicas=0)
        wait_until(lambda: all(reason_of_ready(api, name) for name in names), 30, "all have a status")
        edit_all(paused=True)  # so that it is stopped in the middle of its work
        old.send(signal.SIGSTOP)
        stopped_s = time.monotonic()
        wait_until(lambda: leads(new), 30, "the other leads", poll_s=0.1)
        note("the other replica leads after the leading one was stopped", time.monotonic() - stopped_s, "s", 20)
        wait_until(lambda: time.monotonic() - stopped_s > STOPPED_S, STOPPED_S + 5, "a minute", poll_s=0.5)
        edit_all(paused=False)
        old.send(signal.SIGCONT)
        wait_until(lambda: page(old, "metrics")[0] == 200 and not leads(old), 30, "it knows", poll_s=0.05)
        wait_until(
            lambda: all(status_of(api, name)["observedGeneration"] == 3 for name in names), 30, "the other works"
        )
        assert leads(new)
        assert old.end() == 0  # before the other: else it would rightly lead again

    asked = audit.events_with(credential_of(own_stage.folder / "kubeconfig-stopped"))
    renewals = [
        event
        for event in asked
        if event.get("objectRef", {}).get("resource") == "leases" and event["verb"] == "update" and code_of(event) == OK
    ]
    deadline_s = max(seconds(event["requestReceivedTimestamp"]) for event in renewals) + RENEW_DEADLINE_S
    late = [
        (event["verb"], event["requestURI"], event["requestReceivedTimestamp"], code_of(event))
        for event in asked
        if event["verb"] not in READS and seconds(event["requestReceivedTimestamp"]) > deadline_s
    ]
    # A renewal that was on its way meets another resourceVersion, which is what that is for.
    assert [one for one in late if not ("/leases/" in one[1] and one[3] == CONFLICT)] == []
    assert "Traceback" not in old.log()


def code_of(event: dict[str, Any]) -> int:
    return int(event.get("responseStatus", {}).get("code", 0))


def test_permission_that_is_missing_is_named_without_a_traceback(own_stage: Stage) -> None:
    api = own_stage.api
    role = api.kubectl("get", "roles", "-n", NAMESPACE, "-o", "name").split()
    name = next(one for one in role if "lease" not in one)
    rules = json.loads(api.kubectl("get", name, "-n", NAMESPACE, "-o", "json"))["rules"]
    without = [rule for rule in rules if "poddisruptionbudgets" not in rule["resources"]]
    one = own_stage.replica("powerless")
    try:
        api.kubectl("patch", name, "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"rules": without}))
        one.start()
        wait_until(lambda: "may not list and watch" in page(one, "readyz")[1], 30, "it says what is missing")
        status, text = page(one, "readyz")
        assert status == 503
        assert f"the operator may not list and watch poddisruptionbudgets in namespace {NAMESPACE}" in text
        assert page(one, "healthz")[0] == 200, "a new start would not help"
        lines = [json.loads(line) for line in one.log().splitlines()]
        assert [line["level"] for line in lines if "may not list" in line["message"]] == ["error"], "once"
        assert "Traceback" not in one.log()
        api.kubectl("patch", name, "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"rules": rules}))
        wait_until(lambda: page(one, "readyz")[0] == 200, 30, "it goes on by itself")
    finally:
        api.kubectl("patch", name, "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"rules": rules}))
        one.destroy()


def test_log_is_json_and_tells_no_token(own_stage: Stage) -> None:
    with replica(own_stage, "talking") as one:
        wait_until(lambda: leads(one), 30, "it leads", poll_s=0.1)
    token = json.loads((own_stage.folder / "kubeconfig-talking").read_text())["users"][0]["user"]["token"]
    lines = [json.loads(line) for line in one.log().splitlines()]
    assert all({"time", "level", "message"} <= line.keys() for line in lines)
    assert token not in one.log()
