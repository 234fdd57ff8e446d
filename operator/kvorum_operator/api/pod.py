"""spec.pod: what a person may say about members' pods. Only on Kubernetes; locally it is accepted and named once.

Fields for what most people set, and `overlay` for all else, which is merged over the pod as `kubectl patch` would. What
the operator itself relies on cannot be changed (overlay.py).
"""

import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, StrictInt, StringConstraints, WithJsonSchema, field_validator

from kvorum_operator.api import overlay
from kvorum_operator.api.model import Model, NumberOrText, Rule, cel, quoted, rules, wrong

IMAGE_PATTERN = r"^[a-z0-9][-a-zA-Z0-9._:/]*(@sha256:[0-9a-f]{64})?$"
RESOURCE_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
LABEL_VALUE_PATTERN = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
KEY_PATTERN = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
OWN_KEY_PATTERN = r"^(.*\.)?kvorum\.dev/|^app\.kubernetes\.io/(name|instance|component|managed-by)$"
ENTRIES_MAX = 32
AMOUNT_MESSAGE = "must be an amount, like 100m, 2 or 512Mi"
RESOURCE_UNITS = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P"), 1)},
    **{unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), 1)},
}


def no_amount(value: str) -> str:
    if not re.fullmatch(RESOURCE_PATTERN, value):
        raise wrong(AMOUNT_MESSAGE)
    return value


Amount = Annotated[
    NumberOrText,
    AfterValidator(no_amount),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            "pattern": RESOURCE_PATTERN,
            **rules(Rule(f"string(self).matches({quoted(RESOURCE_PATTERN)})", AMOUNT_MESSAGE)),
        }
    ),
]
LabelValue = Annotated[str, StringConstraints(pattern=LABEL_VALUE_PATTERN, max_length=63)]


def amount(text: str) -> Decimal:
    """An Amount as a number."""
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
    assert match is not None, text
    return Decimal(match[1]) * RESOURCE_UNITS[match[2]]


class ImagePullPolicy(StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class DisruptionBudget(StrEnum):
    QUORUM = "Quorum"
    STRICT = "Strict"


class SecretName(Model):
    """A Secret of the cluster's namespace."""

    name: str = Field(pattern=SUBDOMAIN_PATTERN, max_length=253, description="The Secret's name.")


class Resources(Model):
    """What each member asks for and may take, as a container's resources."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            Rule(
                "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || "
                "!isQuantity(string(self.limits[name])) || !isQuantity(string(self.requests[name])) || "
                "!quantity(string(self.limits[name])).isLessThan(quantity(string(self.requests[name]))))",
                "must give each resource at least what requests asks for",
                field="limits",
            )
        )
    )

    requests: dict[str, Amount] = Field(
        default={},
        max_length=ENTRIES_MAX,
        description="What is set aside for each member. cpu: 100m and memory: 256Mi unless named here or in limits.",
    )
    limits: dict[str, Amount] = Field(
        default={},
        max_length=ENTRIES_MAX,
        description="What each member may take at most. A memory limit should be well above the database quota.",
    )

    @field_validator("limits")
    @classmethod
    def _not_below_requests(cls, value: dict[str, str], info: Any) -> dict[str, str]:
        for name, requested in (info.data.get("requests") or {}).items():
            if name in value and amount(value[name]) < amount(requested):
                raise wrong(f"must give {name} at least what requests asks for, {requested}")
        return value


KEY_RULES = (
    Rule(
        f"self.all(key, key.matches({quoted(KEY_PATTERN)}))",
        "must have keys like name or example.com/name",
    ),
    Rule(
        f"!self.exists(key, key.matches({quoted(OWN_KEY_PATTERN)}))",
        "must not have keys of kvorum.dev, nor app.kubernetes.io/name, instance, component or managed-by, "
        "which the operator sets itself",
    ),
)


class PodMetadata(Model):
    """Labels and annotations that members' pods carry besides the operator's."""

    labels: dict[str, LabelValue] = Field(
        default={},
        max_length=ENTRIES_MAX,
        description="Further labels of the pods.",
        json_schema_extra=cel(*KEY_RULES),
    )
    annotations: dict[str, str] = Field(
        default={},
        max_length=ENTRIES_MAX,
        description="Further annotations of the pods.",
        json_schema_extra=cel(*KEY_RULES),
    )

    @field_validator("labels", "annotations")
    @classmethod
    def _not_the_operators(cls, value: dict[str, str]) -> dict[str, str]:
        for key in value:
            if not re.fullmatch(KEY_PATTERN, key):
                raise wrong(f"must have keys like name or example.com/name, which {key} is not")
            if re.match(OWN_KEY_PATTERN, key):
                raise wrong(f"must not have {key}, which the operator sets itself")
        return value


class Toleration(Model):
    """A taint of nodes that members' pods tolerate."""

    key: str | None = Field(default=None, description="The taint's key; absent, with operator Exists, all of them.")
    operator: str | None = Field(default=None, description="Equal (the default) or Exists.")
    value: str | None = Field(default=None, description="The taint's value, with operator Equal.")
    effect: str | None = Field(default=None, description="NoSchedule, PreferNoSchedule or NoExecute; absent, all.")
    toleration_seconds: StrictInt | None = Field(
        default=None, description="For how many seconds NoExecute is tolerated; absent, for ever."
    )


class Scheduling(Model):
    """Where members' pods may run. They are spread over nodes and zones as far as possible without any of this."""

    node_selector: dict[str, LabelValue] = Field(
        default={}, max_length=ENTRIES_MAX, description="Labels that a node must have."
    )
    tolerations: tuple[Toleration, ...] = Field(
        default=(), max_length=ENTRIES_MAX, description="Taints of nodes that are tolerated."
    )
    affinity: dict[str, Any] | None = Field(
        default=None, description="As a pod's affinity: nodeAffinity, podAffinity, podAntiAffinity."
    )
    priority_class_name: str | None = Field(
        default=None,
        pattern=SUBDOMAIN_PATTERN,
        max_length=253,
        description="The PriorityClass of the pods; without one, members are among the first to go from a full node.",
    )


class Pod(Model):
    """Members' pods."""

    image: str | None = Field(
        default=None,
        pattern=IMAGE_PATTERN,
        max_length=512,
        description="The whole name of the image members run, like registry.example.com/kvorum:0.1.0. "
        "Absent: the operator's default, with spec.version as its tag.",
    )
    image_pull_policy: ImagePullPolicy | None = Field(
        default=None, description="Always, IfNotPresent or Never. Absent: as Kubernetes does by the tag."
    )
    image_pull_secrets: tuple[SecretName, ...] = Field(
        default=(), max_length=ENTRIES_MAX, description="Secrets to pull images with."
    )
    resources: Resources = Field(default=Resources(), description="What each member asks for and may take.")
    metadata: PodMetadata = Field(default=PodMetadata(), description="Further labels and annotations of the pods.")
    scheduling: Scheduling = Field(default=Scheduling(), description="Where the pods may run.")
    disruption_budget: DisruptionBudget = Field(
        default=DisruptionBudget.QUORUM,
        description="Quorum keeps a quorum through drains of clusters of three or more, and lets smaller ones be "
        "drained, which interrupts writes. Strict keeps a quorum there too: drains then wait for ever.",
    )
    overlay: dict[str, Any] = Field(
        default={},
        json_schema_extra=overlay.add_schema,
        description="Merged over the pod, like the patch of `kubectl patch pod --type=strategic`: "
        "{spec: {containers: [{name: exporter, image: ...}]}}. The members' container is named member. What the "
        "operator relies on (its command, ports, probes, data and config volumes, names) cannot be changed here.",
    )

    @field_validator("overlay")
    @classmethod
    def _leaves_the_operators_alone(cls, value: dict[str, Any]) -> dict[str, Any]:
        if objection := overlay.objection(value):
            raise wrong(objection)
        return value
