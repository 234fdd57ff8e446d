"""What is shipped for installing, on the real API server: charts, manifests, rights, policies, Flux's expressions.

The operator is installed for a namespace of its own, so that it acts on nobody else's clusters. The CRD, which other
tests have applied, is taken over by the release.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.deadline import wait_until
from tests.kubernetes.api_server import ApiServer, Refused
from tests.kubernetes.cluster import kvcluster, takes_writes
from tests.kubernetes.stage import REPOSITORY, Images, make_namespace, remove_namespace
from tests.packaging.test_gitops import situations

NAMESPACE = f"{os.environ.get('KVORUM_E2E_NAMESPACE', 'e2e')}-charts"
CHARTS, MANIFESTS = REPOSITORY / "charts", REPOSITORY / "manifests"
CRD = "kvclusters.kvorum.dev"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:kvorum-operator"
KEEP = "helm.sh/resource-policy"
# Of the CRD some fields are those of whoever applied it for the tests.
WAIT = ("--wait", "--timeout", "180s", "--force-conflicts")


@pytest.fixture(scope="module")
def namespace(api: ApiServer) -> Iterator[str]:
    api.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(REPOSITORY / "crds" / "kvclusters.yaml"))
    api.kubectl("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=30s")
    make_namespace(api, NAMESPACE)
    try:
        yield NAMESPACE
    finally:
        remove_namespace(api, NAMESPACE)


def helm(api: ApiServer, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
    given = ["--values", "-"] if values is not None else []
    done = subprocess.run(
        ["helm", *arguments, "--namespace", NAMESPACE, *given],
        input=json.dumps(values or {}),
        capture_output=True,
        text=True,
        env=api.environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def values_of(images: Images) -> dict[str, Any]:
    operator, node = images.operator.rpartition(":"), images.kvorum.rpartition(":")
    return {
        "image": {"repository": operator[0], "tag": operator[2]},
        "nodeImage": {"repository": node[0], "tag": node[2]},
        "watchNamespaces": [NAMESPACE],
    }


def crd_of(api: ApiServer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(api.kubectl("get", "crd", CRD, "-o", "json"))
    return found


def newer_chart(folder: Path) -> Path:
    """As the next version of the operator would come: another version, and one more word in the CRD."""
    chart = Path(shutil.copytree(CHARTS / "kvorum-operator", folder / "kvorum-operator"))
    about = chart / "Chart.yaml"
    about.write_text(re.sub(r"(?m)^(version|appVersion): .*$", r'\1: "99.0.0"', about.read_text("utf-8")), "utf-8")
    crd = chart / "files" / "kvclusters.yaml"
    document = yaml.safe_load(crd.read_text("utf-8"))
    document["spec"]["versions"][0]["additionalPrinterColumns"].append(
        {"name": "Newer", "type": "string", "jsonPath": ".spec.version", "priority": 1}
    )
    crd.write_text(yaml.safe_dump(document), "utf-8")
    return chart


def columns_of(crd: Mapping[str, Any]) -> list[str]:
    return [column["name"] for column in crd["spec"]["versions"][0]["additionalPrinterColumns"]]


@pytest.mark.timeout(900)  # two installations, three upgrades, and each waits for what it made
def test_clusters_outlive_upgrades_and_the_uninstallation_of_the_operator(
    api: ApiServer, namespace: str, names: Images, tmp_path: Path
) -> None:
    values = values_of(names)

    def operator(verb: str, chart: Path = CHARTS / "kvorum-operator", *more: str) -> None:
        helm(api, verb, "kvorum-operator", str(chart), *WAIT, *more, values=values)

    operator("install", CHARTS / "kvorum-operator", "--take-ownership")
    assert crd_of(api)["metadata"]["annotations"].get(KEEP) == "keep", "or everybody's clusters go with the release"
    require_rights(api)
    with kvcluster(api, NAMESPACE, "demo") as cluster:
        helm(api, "install", "demo", str(CHARTS / "kvcluster"), values={"replicas": 3})
        cluster.wait_ready(3)
        before = {name: pod["metadata"]["uid"] for name, pod in cluster.pods().items()}
        crd = crd_of(api)
        assert cluster.seen()["spec"]["replicas"] == 3  # type: ignore[index]  # it is there

        operator("upgrade", newer_chart(tmp_path))
        upgraded = crd_of(api)
        assert upgraded["metadata"]["uid"] == crd["metadata"]["uid"], "the CRD was changed, not made anew"
        assert "Newer" in columns_of(upgraded)
        helm(api, "upgrade", "demo", str(CHARTS / "kvcluster"), values={"replicas": 1})
        cluster.wait_ready(1, 240)

        helm(api, "uninstall", "kvorum-operator", "--wait")
        assert crd_of(api)["metadata"]["uid"] == crd["metadata"]["uid"]
        assert "metadata" in (cluster.seen() or {})
        assert takes_writes(cluster.service_endpoint())
        after = {name: pod["metadata"]["uid"] for name, pod in cluster.pods().items()}
        assert after.items() <= before.items(), "no member was restarted by any of it"

        operator("install")
        assert "Newer" not in columns_of(crd_of(api))
        helm(api, "upgrade", "demo", str(CHARTS / "kvcluster"), values={"replicas": 3})
        cluster.wait_ready(3, 240)
        helm(api, "uninstall", "demo")
        wait_until(lambda: not cluster.pods(), 120, "the members end with their release", poll_s=0.5)
        assert set(cluster.volumes()) == {"demo-0", "demo-1", "demo-2"}, "the data stays"
        helm(api, "uninstall", "kvorum-operator", "--wait")


def require_rights(api: ApiServer) -> None:
    """By the API server's word: what the chart lists, beyond what every account may. No more comes to it."""
    manifest = yaml.safe_load_all(helm(api, "get", "manifest", "kvorum-operator"))
    (role,) = [one for one in manifest if one["kind"] == "Role" and not one["metadata"]["name"].endswith("-lease")]
    listed = {right for rule in role["rules"] for right in triples(rule)}
    listed |= {("coordination.k8s.io", "leases", verb) for verb in ("create", "get", "update")}
    everybodys = rights_of(api, f"system:serviceaccount:{NAMESPACE}:default")
    assert rights_of(api, ACCOUNT) - everybodys == listed
    for question in (
        ("get", "secrets", "-n", NAMESPACE),
        ("create", "pods", "-n", NAMESPACE),
        ("create", "pods/exec", "-n", NAMESPACE),
        ("delete", "kvclusters", "-n", NAMESPACE),
        ("update", "kvclusters", "-n", NAMESPACE),
        ("update", "leases/somebody-elses", "-n", NAMESPACE),
        ("list", "pods", "-n", "kube-system"),
        ("list", "kvclusters", "--all-namespaces"),
        ("list", "nodes"),
        ("list", "namespaces"),
        ("patch", "customresourcedefinitions"),
    ):
        answer = api.try_kubectl("auth", "can-i", *question, "--as", ACCOUNT)
        assert answer.stdout.strip() == "no", question


def rights_of(api: ApiServer, account: str) -> set[tuple[str, str, str]]:
    """Group, resource and verb of whatever it may do in the namespace."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": NAMESPACE},
    }
    create = ("create", "--validate=false", "-o", "json", "-f", "-")  # to validate, kubectl would ask for CRDs
    said = json.loads(api.kubectl(*create, "--as", account, text=json.dumps(review)))
    return {right for rule in said["status"]["resourceRules"] for right in triples(rule)}


def triples(rule: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    """Group, resource and verb."""
    return set(itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"]))


def test_everything_in_the_manifests_is_taken(api: ApiServer, namespace: str, tmp_path: Path) -> None:
    """As a dry run: an operator for all namespaces would act on everybody's clusters."""
    shutil.copytree(MANIFESTS / "install", tmp_path / "install")
    over = {"namespace": NAMESPACE, "resources": ["install"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(over))
    apply = ("apply", "--server-side", "--force-conflicts", "--dry-run=server")
    said = api.kubectl(*apply, "-k", str(tmp_path))
    assert "deployment.apps/kvorum-operator serverside-applied" in said
    for sample in sorted((MANIFESTS / "samples").glob("*.yaml")):
        if sample.stem != "kustomization":
            api.kubectl(*apply, "-n", NAMESPACE, "-f", str(sample))
    api.kubectl(*apply, "-k", str(MANIFESTS / "policies"))


# Policies and expressions, by the API server's own CEL.


def test_policy_warns_of_an_even_number_of_members_and_refuses_nothing(api: ApiServer, namespace: str) -> None:
    policy, binding = yaml.safe_load_all((MANIFESTS / "policies" / "even-replicas.yaml").read_text("utf-8"))
    for one in (policy, binding):  # beside whatever is installed, and for this namespace alone
        one["metadata"]["name"] = f"{NAMESPACE}-even"
    binding["spec"]["policyName"] = f"{NAMESPACE}-even"
    ours = {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}
    binding["spec"]["matchResources"] = {"namespaceSelector": ours}
    api.kubectl("apply", "-f", "-", text=json.dumps(policy) + "\n---\n" + json.dumps(binding))
    try:

        def said(replicas: int | None) -> str:
            spec = {} if replicas is None else {"replicas": replicas}
            done = api.try_kubectl("apply", "--dry-run=server", "-f", "-", text=json.dumps(document("even", spec)))
            assert done.returncode == 0, done.stderr
            return done.stderr

        # It takes a moment until the API server has taken a policy in.
        wait_until(lambda: "an odd number is better" in said(4), 60, "the policy warns", poll_s=1)
        assert "survives no more losses than 3 members do" in said(4)
        for silent in (None, 0, 1, 3, 9):
            assert "odd number" not in said(silent)
    finally:
        api.kubectl("delete", "-f", "-", text=json.dumps(policy) + "\n---\n" + json.dumps(binding))


def document(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "kvorum.dev/v1alpha1", "kind": "KVCluster", "metadata": metadata, "spec": dict(spec)}


BELOW_OBJECT = r"object.\1"


def flux_expressions() -> dict[str, str]:
    text = (MANIFESTS / "gitops" / "flux" / "kustomization.yaml").read_text("utf-8")
    (checks,) = yaml.safe_load(text)["spec"]["healthCheckExprs"]
    return {name: checks[name] for name in ("inProgress", "failed", "current")}


@pytest.fixture
def evaluator(api: ApiServer, namespace: str) -> Iterator[ApiServer]:
    """A policy that refuses each status, and says in the refusal what Flux's expressions make of it."""
    # Flux calls an object's fields by their names, a policy has them below `object`.
    field = re.compile(r"(?<![.\w])(status|metadata)\b")
    asked = [f"'{name}=' + string({field.sub(BELOW_OBJECT, one)})" for name, one in flux_expressions().items()]
    name = f"{NAMESPACE}-flux"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
                "resourceRules": [
                    {
                        "apiGroups": ["kvorum.dev"],
                        "apiVersions": ["v1alpha1"],
                        "operations": ["UPDATE"],
                        "resources": ["kvclusters/status"],
                    }
                ],
            },
            "validations": [{"expression": "false", "messageExpression": " + ' ' + ".join(asked)}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    text = json.dumps(policy) + "\n---\n" + json.dumps(binding)
    api.kubectl("apply", "-f", "-", text=text)
    try:
        yield api
    finally:
        api.kubectl("delete", "-f", "-", text=text)


def test_flux_understands_each_reason(evaluator: ApiServer) -> None:
    """In Flux's order: what is in progress, else failed, else current."""
    evaluator.kubectl("apply", "-f", "-", text=json.dumps(document("flux", {"replicas": 0, "paused": True})))

    live = evaluator.get("kvclusters", NAMESPACE, "flux") or {}

    def judge(status: Mapping[str, Any], later: int = 0) -> str:
        observed = live["metadata"]["generation"] + later
        body = {"status": {**status, "observedGeneration": observed}}
        with pytest.raises(Refused) as refused:  # by the policy, always
            evaluator.patch("kvclusters", NAMESPACE, "flux", body, part="/status")
        found = dict(re.findall(r"(\w+)=(true|false)", str(refused.value)))
        assert set(found) == {"inProgress", "failed", "current"}, refused.value
        return next((name for name, value in found.items() if value == "true"), "inProgress")

    def is_asked() -> bool:
        """It takes a moment until the API server has taken a policy in."""
        try:
            evaluator.patch("kvclusters", NAMESPACE, "flux", {"status": healthy}, part="/status")
        except Refused:
            return True
        return False

    healthy = next(one["status"] for reason, one in situations() if reason == "Healthy")
    wait_until(is_asked, 60, "the policy is asked", poll_s=1)
    assert judge(healthy) == "current"
    assert judge(healthy, -1) == "inProgress", "of an earlier specification"
    for reason, one in situations():
        conditions = {condition["type"]: condition["status"] for condition in one["status"]["conditions"]}
        expected = "current" if conditions["Ready"] == "True" else "inProgress"
        expected = "failed" if conditions["Stalled"] == "True" else expected
        assert judge(one["status"]) == expected, reason
