"""Tests drain nodes and install cluster-wide objects: only on a Kubernetes that is known to be for tests."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.kubernetes.which import ALLOWED, SHARED_CONTEXT, NoKubernetes, NotForTests, require_kubernetes

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="NOT RUN: there is no kubectl on PATH")


def kubeconfig(folder: Path, context: str) -> dict[str, str]:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "contexts": [{"name": context, "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
        "current-context": context,
    }
    file = folder / "kubeconfig"
    file.write_text(json.dumps(document))
    return {"PATH": os.environ["PATH"], "KUBECONFIG": str(file)}


def test_kubernetes_that_may_be_somebodys_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(NotForTests, match=rf"production.*{ALLOWED}=production"):
        require_kubernetes(kubeconfig(tmp_path, "production"))


@pytest.mark.parametrize("context", [SHARED_CONTEXT, "kind-mine"])
def test_kubernetes_for_tests_is_known_by_its_context(tmp_path: Path, context: str) -> None:
    assert require_kubernetes(kubeconfig(tmp_path, context)).context == context


def test_context_that_is_named_as_for_tests_is_taken_and_no_other(tmp_path: Path) -> None:
    environment = kubeconfig(tmp_path, "staging")
    assert require_kubernetes({**environment, ALLOWED: "staging"}).context == "staging"
    with pytest.raises(NotForTests):
        require_kubernetes({**environment, ALLOWED: "stag"})


def test_no_kubeconfig_is_no_kubernetes_whatever_kubectl_would_take(tmp_path: Path) -> None:
    environment = kubeconfig(tmp_path, SHARED_CONTEXT)
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text(Path(environment["KUBECONFIG"]).read_text())
    with pytest.raises(NoKubernetes, match="make e2e"):
        require_kubernetes({"PATH": environment["PATH"], "HOME": str(tmp_path)})
    with pytest.raises(NoKubernetes):
        require_kubernetes({**environment, "KUBECONFIG": str(tmp_path / "none")})
