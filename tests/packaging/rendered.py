"""manifests/install and manifests/monitoring out of the chart: `python -m tests.packaging.rendered` writes them.

So that who uses kustomize gets what who uses Helm gets. A test fails when they are not what would be made now.
"""

import sys
from pathlib import Path

import yaml

from tests.packaging import helm
from tests.packaging.helm import Object
from tests.tidy.sources import REPOSITORY

INSTALL, MONITORING = REPOSITORY / "manifests" / "install", REPOSITORY / "manifests" / "monitoring"
HEAD = "# Made by `python -m tests.packaging.rendered` out of charts/kvorum-operator. Do not edit.\n"
HELMS_OWN = ("helm.sh/chart", "app.kubernetes.io/managed-by")
MONITORS = {
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "grafanaDashboard": {"enabled": True},
}


def manifests(program: str) -> dict[Path, str]:
    plain = helm.template(program, helm.OPERATOR, {"crds": {"install": False}})
    monitored = helm.template(program, helm.OPERATOR, {"crds": {"install": False}, **MONITORS})
    names = {(made["kind"], made["metadata"]["name"]) for made in plain}
    added = [made for made in monitored if (made["kind"], made["metadata"]["name"]) not in names]
    return {INSTALL / "operator.yaml": text(plain), MONITORING / "operator.yaml": text(added)}


def text(objects: list[Object]) -> str:
    return HEAD + yaml.safe_dump_all([without_helm(made) for made in objects], sort_keys=False, width=120)


def without_helm(node: object) -> object:
    """Without the labels that would say that Helm looks after it."""
    if isinstance(node, dict):
        return {key: without_helm(value) for key, value in node.items() if key not in HELMS_OWN}
    return [without_helm(value) for value in node] if isinstance(node, list) else node


def main() -> int:
    if "4" not in helm.found():
        print("needs helm 4 on PATH", file=sys.stderr)
        return 2
    for path, made in manifests(helm.found()["4"]).items():
        path.write_text(made, "utf-8")
        print(f"wrote {path.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
