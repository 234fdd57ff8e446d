"""What an overlay of members' pods must leave alone: what the operator itself relies on. Pure.

Judged by the patch alone, before it meets a pod: whatever it does not mention, a strategic merge leaves as it is. So a
mention is refused, with its path and the field that is there for it, if there is one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MEMBER = "member"  # the container that is ours
DATA_VOLUME, CONFIG_VOLUME, TEMPORARY_VOLUME = "data", "config", "tmp"
DATA_PATH, CONFIG_PATH, TEMPORARY_PATH = "/var/lib/kvorum", "/etc/kvorum", "/tmp"
PORTS = frozenset({2379, 2380, 2381})


@dataclass(frozen=True, slots=True)
class MergedList:
    """A list whose items a strategic merge finds by their key, and the lists in those items that it so merges."""

    key: str
    below: Mapping[str, "MergedList"] = field(default_factory=dict)


OF_CONTAINER: Mapping[str, MergedList] = {
    "env": MergedList("name"),
    "ports": MergedList("containerPort"),
    "volumeMounts": MergedList("mountPath"),
    "volumeDevices": MergedList("devicePath"),
}
# By the merge keys of Kubernetes' own types (core/v1, PodSpec). All other lists are replaced as a whole.
MERGED_LISTS: Mapping[str, MergedList] = {
    "containers": MergedList("name", OF_CONTAINER),
    "initContainers": MergedList("name", OF_CONTAINER),
    "volumes": MergedList("name"),
    "imagePullSecrets": MergedList("name"),
    "hostAliases": MergedList("ip"),
    "topologySpreadConstraints": MergedList("topologyKey"),
    "schedulingGates": MergedList("name"),
    "resourceClaims": MergedList("name"),
}
NOTHING_BELOW: Mapping[str, MergedList] = {}
DIRECTIVE = "$patch"

OF_POD = {
    "restartPolicy": "",
    "hostname": "",
    "subdomain": "",
    "setHostnameAsFQDN": "",
    "serviceAccountName": "",
    "serviceAccount": "",
    "activeDeadlineSeconds": "",
    "ephemeralContainers": "",
}
OF_MEMBER = {
    "image": "spec.pod.image or spec.version",
    "imagePullPolicy": "spec.pod.imagePullPolicy",
    "resources": "spec.pod.resources",
    "command": "",
    "args": "",
    "workingDir": "",
    "startupProbe": "",
    "livenessProbe": "",
    "readinessProbe": "",
    "lifecycle": "",
    "restartPolicy": "",
    "terminationMessagePath": "",
    "terminationMessagePolicy": "",
}
OWN_ITEMS_OF_MEMBER: Mapping[str, frozenset[object]] = {
    "env": frozenset({"POD_NAME"}),
    "ports": PORTS,
    "volumeMounts": frozenset({DATA_PATH, CONFIG_PATH, TEMPORARY_PATH}),
}
OWN_VOLUMES = frozenset({DATA_VOLUME, CONFIG_VOLUME, TEMPORARY_VOLUME})


def objection(patch: Mapping[str, Any]) -> str | None:
    """Why this overlay is refused, as the rest of a sentence that begins with must; None if it may be merged."""
    return next(iter(objections(patch)), None)


def objections(patch: Mapping[str, Any]) -> Iterator[str]:
    for key in patch:
        if key == "metadata":
            yield "must not have metadata: labels and annotations of the pods are spec.pod.metadata"
        elif key != "spec":
            yield f"must have nothing but spec, as a pod has it, and {key} is something else"
    spec = patch.get("spec")
    if spec is None:
        if "spec" in patch:
            yield "must not take spec away"
        return
    if not isinstance(spec, Mapping):
        yield "must have a mapping as spec, as a pod has it"
        return
    yield from malformed(spec, "spec", MERGED_LISTS)
    if DIRECTIVE in spec:
        yield "must not replace or delete spec as a whole"
    for key in spec:
        if key in OF_POD:
            yield refused(f"spec.{key}", OF_POD[key])
    yield from own_items(spec, "volumes", OWN_VOLUMES, "spec", "name")
    yield from of_containers(spec)


def of_containers(spec: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("containers", "initContainers"):
        if kind == "containers" and kind in spec and spec[kind] is None:
            yield refused("spec.containers")
        for container in items(spec, kind):
            if container.get(DIRECTIVE) == "replace" and kind == "containers":
                yield "must not replace spec.containers as a whole: that would take the member away"
            if container.get("name") != MEMBER:
                continue
            path = f"spec.{kind}[{MEMBER}]"
            if kind == "initContainers" or DIRECTIVE in container:
                yield refused(path)
            for key in container:
                if key in OF_MEMBER:
                    yield refused(f"{path}.{key}", OF_MEMBER[key])
            for key, own in OWN_ITEMS_OF_MEMBER.items():
                yield from own_items(container, key, own, path, OF_CONTAINER[key].key)


def own_items(node: Mapping[str, Any], key: str, own: frozenset[object], path: str, merge_key: str) -> Iterator[str]:
    """What the list below key says about items that are the operator's."""
    if key in node and node[key] is None:
        yield refused(f"{path}.{key}")
    for item in items(node, key):
        if item.get(DIRECTIVE) == "replace":
            yield f"must not replace {path}.{key} as a whole: the operator has some of its own there"
        value = item.get(merge_key)
        if isinstance(value, str | int) and value in own:
            yield refused(f"{path}.{key}[{value}]")


def malformed(node: object, path: str, lists: Mapping[str, MergedList]) -> Iterator[str]:
    """What no strategic merge could be made of. lists: those among the node's fields that are merged by a key."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if not isinstance(key, str):
                yield f"must have names of fields as keys, and {path}.{key} is none"
            elif key == DIRECTIVE:
                if value not in ("replace", "delete"):
                    yield f"must say replace or delete at {path}.{DIRECTIVE}"
            elif key.startswith("$"):
                yield f"must not have {path}.{key}: of directives only {DIRECTIVE} is taken"
            elif key in lists and value is not None:
                yield from malformed_items(value, lists[key], f"{path}.{key}")
            else:
                yield from malformed(value, f"{path}.{key}", NOTHING_BELOW)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from malformed(value, f"{path}[{index}]", NOTHING_BELOW)


def malformed_items(values: object, merged: MergedList, path: str) -> Iterator[str]:
    if not isinstance(values, list):
        yield f"must have a list as {path}"
        return
    for index, value in enumerate(values):
        if not isinstance(value, Mapping):
            yield f"must have mappings in {path}, and [{index}] is none"
            continue
        key = value.get(merged.key)
        if (not isinstance(key, str | int) or isinstance(key, bool)) and value.get(DIRECTIVE) != "replace":
            yield f"must say {merged.key} in each item of {path}, and [{index}] does not"
        yield from malformed(value, f"{path}[{index if key is None else key}]", merged.below)


def items(node: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = node.get(key)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def refused(path: str, instead: str = "") -> str:
    return f"must not set {path}, {f'for which there is {instead}' if instead else 'which the operator relies on'}"
