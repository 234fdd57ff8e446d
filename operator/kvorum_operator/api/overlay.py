"""What an overlay of members' pods must leave alone: what the operator itself relies on. Pure.

Judged by the patch alone, before it meets a pod: whatever it does not mention, a strategic merge leaves as it is. So a
mention is refused, with its path and the field that is there for it, if there is one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kvorum_operator.api.model import Rule, rules

MEMBER = "member"  # the container that is ours
DATA_VOLUME, CONFIG_VOLUME = "data", "config"
DATA_PATH, CONFIG_PATH = "/var/lib/kvorum", "/etc/kvorum"
PORTS = frozenset({2379, 2380, 2381})


@dataclass(frozen=True, slots=True)
class MergedList:
    """A list whose items a strategic merge finds by their key, and the lists in those items that it so merges."""

    key: str
    below: Mapping[str, "MergedList"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """A field that an overlay may not set. type: as a JSON schema has it."""

    type: str
    instead: str = ""

    @property
    def why(self) -> str:
        return f"for which there is {self.instead}" if self.instead else "which the operator relies on"


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
CONTAINERS_MAX, ITEMS_MAX = 16, 64
AS_IN_A_POD = "As in a pod."
PRESERVED = {"x-kubernetes-preserve-unknown-fields": True}

# Fields that are refused, with their types in the schema and the field that is there instead.
OF_POD: Mapping[str, Refused] = {
    "restartPolicy": Refused("string"),
    "hostname": Refused("string"),
    "subdomain": Refused("string"),
    "setHostnameAsFQDN": Refused("boolean"),
    "serviceAccountName": Refused("string"),
    "serviceAccount": Refused("string"),
    "activeDeadlineSeconds": Refused("integer"),
    "ephemeralContainers": Refused("array"),
}
OF_MEMBER: Mapping[str, Refused] = {
    "image": Refused("string", "spec.pod.image or spec.version"),
    "imagePullPolicy": Refused("string", "spec.pod.imagePullPolicy"),
    "resources": Refused("object", "spec.pod.resources"),
    "command": Refused("array"),
    "args": Refused("array"),
    "workingDir": Refused("string"),
    "startupProbe": Refused("object"),
    "livenessProbe": Refused("object"),
    "readinessProbe": Refused("object"),
    "lifecycle": Refused("object"),
    "restartPolicy": Refused("string"),
    "terminationMessagePath": Refused("string"),
    "terminationMessagePolicy": Refused("string"),
}
OWN_ITEMS_OF_MEMBER: Mapping[str, frozenset[object]] = {
    "env": frozenset({"POD_NAME"}),
    "ports": PORTS,
    "volumeMounts": frozenset({DATA_PATH, CONFIG_PATH}),
}
OWN_VOLUMES = frozenset({DATA_VOLUME, CONFIG_VOLUME})


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
            yield refused(f"spec.{key}", OF_POD[key].why)
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
                    yield refused(f"{path}.{key}", OF_MEMBER[key].why)
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


def refused(path: str, why: str = "which the operator relies on") -> str:
    return f"must not set {path}, {why}"


# The same, as far as the API server can be told.


def add_schema(schema: dict[str, Any]) -> None:
    """For json_schema_extra of the overlay: rules in CEL, and the fields that they look at.

    A rule sees only fields that the schema names, and no `$patch`: what passes here may still be refused by
    `objection`, which status then tells.
    """
    container = opened(
        {
            "name": {"type": "string", "maxLength": 63, "description": f"The members' container is {MEMBER}."},
            **{key: typed(field.type) for key, field in OF_MEMBER.items()},
            **{key: keyed(OF_CONTAINER[key].key, own) for key, own in OWN_ITEMS_OF_MEMBER.items()},
        },
        *(
            Rule(
                f"!has(self.name) || self.name != '{MEMBER}' || !has(self.{key})",
                f"must not be set for container {MEMBER}, {field.why}",
                field=key,
            )
            for key, field in OF_MEMBER.items()
        ),
        *(
            Rule(
                f"!has(self.name) || self.name != '{MEMBER}' || !has(self.{key}) || "
                f"!{has_own('self.' + key, OF_CONTAINER[key].key, own)}",
                f"must not change {', '.join(map(str, sorted(own, key=str)))} of container {MEMBER}, "
                "which the operator relies on",
                field=key,
            )
            for key, own in OWN_ITEMS_OF_MEMBER.items()
        ),
    )
    spec = opened(
        {
            **{key: typed(field.type, Rule("false", f"must not be set, {field.why}")) for key, field in OF_POD.items()},
            "containers": {
                "type": "array",
                "maxItems": CONTAINERS_MAX,
                "description": f"Merged by their names; the members' is {MEMBER}.",
                "items": container,
            },
            "initContainers": {
                "type": "array",
                "description": AS_IN_A_POD,
                "maxItems": CONTAINERS_MAX,
                "items": opened({"name": {**typed("string"), "maxLength": 63}}),
                **rules(
                    Rule(
                        f"!{has_own('self', 'name', frozenset({MEMBER}))}",
                        f"must have none named {MEMBER}, as the members' container is",
                    )
                ),
            },
            "volumes": {
                **keyed("name", OWN_VOLUMES),
                **rules(
                    Rule(
                        f"!{has_own('self', 'name', OWN_VOLUMES)}",
                        f"must not change {', '.join(sorted(OWN_VOLUMES))}, which the operator relies on",
                    )
                ),
            },
        }
    )
    metadata = {
        "type": "object",
        **PRESERVED,
        **rules(Rule("false", "must not be set: labels and annotations of the pods are spec.pod.metadata")),
    }
    schema.pop("additionalProperties", None)  # besides spec there is nothing to merge
    schema["properties"] = {
        "metadata": {**metadata, "description": "Not to be set: see spec.pod.metadata."},
        "spec": {**spec, "description": "As a pod's spec. Whatever else a pod may have is taken too."},
    }


def opened(properties: Mapping[str, Any], *given: Rule) -> dict[str, Any]:
    """An object that may have other fields too."""
    found: dict[str, Any] = {"type": "object", **PRESERVED, "description": AS_IN_A_POD}
    if properties:  # the API server drops an empty one, and whoever applies it after another conflicts with that
        found["properties"] = dict(properties)
    return {**found, **(rules(*given) if given else {})}


def typed(kind: str, *given: Rule) -> dict[str, Any]:
    found: dict[str, Any] = {"type": kind, "description": AS_IN_A_POD}
    match kind:
        case "array":
            found["items"] = {"type": "string"} if not given else opened({})
        case "object":
            found.update(PRESERVED)
    return {**found, **(rules(*given) if given else {})}


def keyed(key: str, own: frozenset[Any]) -> dict[str, Any]:
    """A list of objects with a key, of which some are the operator's."""
    kind = typed("integer") if all(isinstance(one, int) for one in own) else {**typed("string"), "maxLength": 512}
    return {"type": "array", "maxItems": ITEMS_MAX, "description": AS_IN_A_POD, "items": opened({key: kind})}


def has_own(items: str, key: str, own: frozenset[Any]) -> str:
    values = ", ".join(repr(one) for one in sorted(own, key=str))
    return f"{items}.exists(one, has(one.{key}) && one.{key} in [{values}])"
