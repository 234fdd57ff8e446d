"""KVCluster, kvorum.dev/v1alpha1: the document a person writes, and the status they read.

Data from outside is checked here and nowhere else; the rest of the operator works with values that are right. A field
exists once it works on every engine and platform that takes it; an unknown field is an error with its path, never
ignored. Fields without a meaning on a platform are accepted there and named once (`without_meaning_locally`).
"""

import copy
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError, field_validator
from pydantic_core.core_schema import ValidationInfo

from kvorum_operator.api.model import Model, NumberOrText, Rule, cel, field_name, quoted, wrong
from kvorum_operator.api.pod import SUBDOMAIN_PATTERN, Pod
from kvorum_operator.api.quantities import Duration, Measure, Quantity

GROUP = "kvorum.dev"
VERSION = "v1alpha1"
KIND = "KVCluster"
PLURAL = "kvclusters"

REPLICAS_MAX = 9  # with more, each write waits for more disks and little safety is won
STORAGE_PER_QUOTA, STORAGE_MORE = 3, Quantity("1Gi")
MUST_FIT = "the database, its copy while it is defragmented, a received snapshot and the log must fit"
NEW_CLUSTER = "make a new cluster and move the data to it, as with etcdctl make-mirror"
NAME_CHARACTERS_MAX = 52  # a StatefulSet's pods carry a controller hash in a label of 63 characters
ELECTION_PER_HEARTBEAT_MIN = 5  # etcd's own rule: fewer, and a late heartbeat is an election
NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
PEERS_SUFFIX = "-peers"  # of the Service with the members' own names; a cluster of that name would take it
NAME_MESSAGE = f"must not end in {PEERS_SUFFIX}, as the Service of another cluster's members does"
DATABASE_QUOTA_MIN = Quantity("64Mi")  # the floor catches a forgotten unit: 8 bytes are full at once
HEARTBEAT_MIN, HEARTBEAT_MAX = Duration("10ms"), Duration("10s")
ELECTION_MIN, ELECTION_MAX = Duration("100ms"), Duration("50s")  # etcd's ceiling
RETENTION_MIN = Duration("1m")
REVISIONS_PATTERN = r"^[1-9][0-9]{0,17}$"
REVISIONS_MESSAGE = "must be a number of revisions of at least 1 with mode Revision, like 1000"
PERIOD_MESSAGE = "must be a duration with its unit with mode Periodic, like 1h"


class Engine(StrEnum):
    KVORUM = "kvorum"
    ETCD = "etcd"


class CompactionMode(StrEnum):
    PERIODIC = "Periodic"
    REVISION = "Revision"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


def require_range(value: Duration, low: Duration, high: Duration | None) -> Duration:
    if value < low or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise wrong(f"must be {bounds}")
    return value


def in_range(low: Duration, high: Duration) -> Rule:
    """require_range, in CEL. What is no duration another rule has told already."""
    return Rule(
        f"!self.matches({quoted(Duration.pattern)}) || (duration(self) >= duration('{low}') && "
        f"duration(self) <= duration('{high}'))",
        f"must be between {low} and {high}",
    )


def int_or_string(schema: dict[str, Any]) -> None:
    del schema["type"]
    schema.update({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True})


class Compaction(Model):
    """How members forget old revisions of keys."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            Rule(
                f"self.mode != 'Revision' || string(self.retention).matches({quoted(REVISIONS_PATTERN)})",
                REVISIONS_MESSAGE,
                field="retention",
            ),
            Rule(
                f"self.mode != 'Periodic' || string(self.retention).matches({quoted(Duration.pattern)})",
                PERIOD_MESSAGE,
                field="retention",
            ),
            Rule(
                f"self.mode != 'Periodic' || !string(self.retention).matches({quoted(Duration.pattern)}) || "
                f"duration(string(self.retention)) >= duration('{RETENTION_MIN}')",
                f"must be at least {RETENTION_MIN}",
                field="retention",
            ),
        )
    )

    mode: CompactionMode = Field(
        default=CompactionMode.PERIODIC,
        description="Periodic keeps the revisions of the last `retention`; Revision keeps that many of the latest.",
    )
    retention: NumberOrText = Field(
        default="1h",
        pattern=r"^[0-9a-z.]+$",
        max_length=32,
        json_schema_extra=int_or_string,
        validate_default=True,  # so that mode Revision alone is told that the two must fit
        description="With mode Periodic a duration of at least 1m, like 1h; with mode Revision a number, like 1000.",
    )

    @field_validator("retention")
    @classmethod
    def _fits_mode(cls, value: str, info: ValidationInfo) -> str:
        # A duration where a count belongs compacts nothing, silently, in etcd: so the two are told apart here.
        if info.data.get("mode") is CompactionMode.REVISION:
            if not re.fullmatch(REVISIONS_PATTERN, value):
                raise wrong(REVISIONS_MESSAGE)
            return value
        if not re.fullmatch(Duration.pattern, value):
            raise wrong(PERIOD_MESSAGE)
        require_range(Duration(value), RETENTION_MIN, None)
        return value


class Settings(Model):
    """What members are started with: typed, with units and floors. Free-form flags are not taken."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            Rule(
                f"!self.heartbeatInterval.matches({quoted(Duration.pattern)}) || "
                f"!self.electionTimeout.matches({quoted(Duration.pattern)}) || "
                "duration(self.electionTimeout) >= "
                + " + ".join(["duration(self.heartbeatInterval)"] * ELECTION_PER_HEARTBEAT_MIN),
                f"must be at least {ELECTION_PER_HEARTBEAT_MIN} heartbeat intervals",
                says=f"'must be at least {ELECTION_PER_HEARTBEAT_MIN} heartbeat intervals of ' "
                "+ self.heartbeatInterval",
                field="electionTimeout",
            )
        )
    )

    database_quota: Quantity = Field(
        default=Quantity("2Gi"),
        description="Size at which members refuse writes until space is freed; at least 64Mi. "
        "Memory and restart time grow with it.",
        json_schema_extra=cel(
            Rule(
                f"!isQuantity(string(self)) || !quantity(string(self)).isLessThan(quantity('{DATABASE_QUOTA_MIN}'))",
                f"must be at least {DATABASE_QUOTA_MIN}",
            )
        ),
    )
    compaction: Compaction = Field(default=Compaction(), description="How members forget old revisions of keys.")
    heartbeat_interval: Duration = Field(
        default=Duration("100ms"),
        description="How often the leader shows that it is there, 10ms to 10s. About one round trip between members.",
        json_schema_extra=cel(in_range(HEARTBEAT_MIN, HEARTBEAT_MAX)),
    )
    election_timeout: Duration = Field(
        default=Duration("1s"),
        description="How long members wait for a silent leader before they elect another, 100ms to 50s and at least "
        "5 heartbeat intervals.",
        json_schema_extra=cel(in_range(ELECTION_MIN, ELECTION_MAX)),
        validate_default=True,  # so that a heartbeat raised alone is told that the two must fit
    )
    log_level: LogLevel = Field(default=LogLevel.INFO, description="How much members write to their logs.")
    enable_v2: bool = Field(
        default=False,
        description="Serve etcd's old v2 API, too, for Patroni's etcd: section. Its keys are apart from all others.",
    )

    @field_validator("database_quota")
    @classmethod
    def _not_tiny(cls, value: Quantity) -> Quantity:
        if value < DATABASE_QUOTA_MIN:
            raise wrong(f"must be at least {DATABASE_QUOTA_MIN}")
        return value

    @field_validator("heartbeat_interval")
    @classmethod
    def _heartbeat_in_range(cls, value: Duration) -> Duration:
        return require_range(value, HEARTBEAT_MIN, HEARTBEAT_MAX)

    @field_validator("election_timeout")
    @classmethod
    def _election_in_range(cls, value: Duration, info: ValidationInfo) -> Duration:
        heartbeat = info.data.get("heartbeat_interval")
        if heartbeat is not None and value.value < ELECTION_PER_HEARTBEAT_MIN * heartbeat.value:
            message = f"must be at least {ELECTION_PER_HEARTBEAT_MIN} heartbeat intervals of {heartbeat}"
            raise wrong(message)
        return require_range(value, ELECTION_MIN, ELECTION_MAX)


class Storage(Model):
    """The volume each member keeps its data on."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            Rule(
                "has(self.className) == has(oldSelf.className) && "
                "(!has(self.className) || self.className == oldSelf.className)",
                f"cannot be changed: {NEW_CLUSTER}",
                field="className",
            )
        )
    )

    size: Quantity = Field(
        default=Quantity("8Gi"),
        description="Size of each member's volume: at least three times settings.databaseQuota and 1Gi, for the "
        "database, its copy while it is defragmented, a received snapshot and the log. Cannot be changed yet. "
        "Without meaning locally.",
        json_schema_extra=cel(
            Rule(
                "!isQuantity(string(self)) || !isQuantity(string(oldSelf)) || "
                "quantity(string(self)).compareTo(quantity(string(oldSelf))) == 0",
                f"cannot be changed yet: {NEW_CLUSTER}",
            )
        ),
    )
    class_name: str | None = Field(
        default=None,
        pattern=SUBDOMAIN_PATTERN,
        max_length=253,
        description="The StorageClass of the volumes; absent: the default one. Cannot be changed. Without meaning "
        "locally.",
    )


class ServiceType(StrEnum):
    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class ClientService(Model):
    """The Service, named after the cluster, that clients may use instead of the members' own names."""

    type: ServiceType = Field(
        default=ServiceType.CLUSTER_IP,
        description="ClusterIP, NodePort or LoadBalancer. The last two let in clients from outside: nothing is "
        "encrypted or authenticated yet.",
    )
    annotations: dict[str, str] = Field(
        default={}, max_length=32, description="Annotations of the Service, as load balancers read them."
    )


class Monitoring(Model):
    """What is made for Prometheus."""

    pod_monitor: StrictBool = Field(
        default=False, description="Make a PodMonitor, for which the Prometheus operator must be installed."
    )


class DeletionPolicy(StrEnum):
    RETAIN = "Retain"
    DELETE = "Delete"


SIZE_WHY = f"or settings.databaseQuota to be less: {MUST_FIT}"
SIZE_RULE = Rule(
    "!isQuantity(string(self.storage.size)) || !isQuantity(string(self.settings.databaseQuota)) || "
    "!quantity(string(self.storage.size)).isLessThan("
    f"quantity('{STORAGE_MORE}')" + ".add(quantity(string(self.settings.databaseQuota)))" * STORAGE_PER_QUOTA + ")",
    # By examples: a text with a number that was computed costs more than the API server allows a rule.
    f"must be at least {STORAGE_PER_QUOTA} times settings.databaseQuota and {STORAGE_MORE}, as 7Gi for 2Gi, 13Gi for "
    f"4Gi or 25Gi for 8Gi, {SIZE_WHY}",
    field="storage.size",
)
ETCD_VERSION_PATTERN = r"^v?3\.5\.(1[6-9]|[2-9][0-9])([^0-9]|$)"  # as engines.py locally: what was tried
ETCD_VERSION_MESSAGE = "must be 3.5.16 or a later 3.5 with engine etcd, like 3.5.30: no other one is promised yet"
ETCD_VERSION_RULE = Rule(
    f"self.engine != 'etcd' || !has(self.version) || self.version.matches({quoted(ETCD_VERSION_PATTERN)})",
    ETCD_VERSION_MESSAGE,
    field="version",
)


class Spec(Model):
    """What the cluster should be. Only `replicas` is usually worth writing down."""

    model_config = ConfigDict(json_schema_extra=cel(SIZE_RULE, ETCD_VERSION_RULE))

    replicas: Annotated[StrictInt, Field(ge=0, le=REPLICAS_MAX)] = Field(
        default=3,
        description="How many members: 0 to 9. 0 puts the cluster to sleep and keeps its data. An even number "
        "survives no more losses than the odd number below it.",
    )
    engine: Engine = Field(
        default=Engine.KVORUM,
        description="The program that members run: kvorum, or a real etcd 3.5. On Kubernetes it cannot be changed. "
        "Locally the members of a cluster of three or more move over one at a time.",
        json_schema_extra=cel(
            Rule(
                "self == oldSelf",
                f"cannot be changed on Kubernetes (locally members can move from one to the other): {NEW_CLUSTER}",
            )
        ),
    )
    version: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$",
        max_length=128,
        description="The version of the engine, which is the tag of its image; absent: the operator's default. "
        "With engine etcd 3.5.16 or a later 3.5. A change is rolled out one member at a time.",
    )
    storage: Storage = Field(default=Storage(), description="The volume each member keeps its data on.")
    settings: Settings = Field(default=Settings(), description="What members are started with.")
    pod: Pod = Field(default=Pod(), description="The members' pods: image, resources, scheduling and all else.")
    service: ClientService = Field(
        default=ClientService(), description="The Service that clients may use, named after the cluster."
    )
    monitoring: Monitoring = Field(default=Monitoring(), description="What is made for Prometheus.")
    deletion_policy: DeletionPolicy = Field(
        default=DeletionPolicy.RETAIN,
        description="What becomes of the volumes when this KVCluster is deleted. Retain keeps them, and a KVCluster "
        "of the same name finds its data again; Delete deletes them with it.",
    )
    paused: StrictBool = Field(
        default=False, description="Report, but touch nothing: no step is taken while this is true."
    )


class Metadata(BaseModel):
    """The part of Kubernetes' metadata that the operator reads; the rest may be there."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    name: str = Field(
        pattern=NAME_PATTERN,
        max_length=NAME_CHARACTERS_MAX,
        description="Members are named after it: NAME-0, NAME-1, ...",
    )
    namespace: str | None = None
    uid: str | None = None  # absent locally


class MemberStatus(Model):
    """One member, as last seen."""

    name: str = Field(description="The member's name, and its pod's.")
    id: str | None = Field(default=None, description="The member id, in hexadecimal as etcdctl shows it.")
    role: str | None = Field(default=None, description="leader, follower, learner or joining; absent when unknown.")
    engine: str | None = Field(default=None, description="The engine that the member's data is of: kvorum or etcd.")
    version: str | None = Field(default=None, description="The version the member says it runs.")
    revision: StrictInt | None = Field(default=None, description="The latest revision the member has applied.")
    lag_entries: StrictInt | None = Field(
        default=None, description="How many log entries the member is behind the leader."
    )
    database_bytes: StrictInt | None = Field(default=None, description="Size of the member's database.")
    healthy: StrictBool = Field(description="Whether the member answers and sees the leader.")
    since: str | None = Field(default=None, description="Since when state is what it is.")
    state: str = Field(
        description="Serving, Joining, Starting, Stopping, Down, Failing, Unreachable, DataLost, Asleep or Leaving."
    )
    reason: str | None = Field(default=None, description="What is known about why, for a person.")


class PlanStatus(Model):
    """What the operator does next, or why it does nothing."""

    next: str | None = Field(default=None, description="The step that is taken next; absent when there is none.")
    because: str = Field(description="Why this step, or why none.")
    waits_for: str | None = Field(default=None, description="What has to come true before anything else is done.")
    until: str | None = Field(default=None, description="When the wait ends by itself.")


class Condition(Model):
    """A Kubernetes condition, computed anew on every pass."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    message: str = Field(max_length=32768)
    last_transition_time: str
    observed_generation: StrictInt | None = None


class Status(Model):
    """What the operator saw last, what it does next and why."""

    observed_generation: StrictInt = 0
    cluster_id: str | None = Field(
        default=None, description="The cluster's id, in hexadecimal. Once set, it never bootstraps again."
    )
    leader: str | None = None
    replicas: StrictInt = Field(default=0, description="How many members are in the member list.")
    ready_replicas: StrictInt = Field(default=0, description="How many of them serve.")
    serving: str | None = Field(default=None, description="How many serve, of how many are wanted: 3/3.")
    version: str | None = Field(
        default=None, description="The version that members run, by their own word; two while they are changed."
    )
    selector: str | None = Field(default=None, description="Selects the members' pods, for the scale subresource.")
    endpoints: tuple[str, ...] = Field(default=(), description="Where clients connect.")
    members: tuple[MemberStatus, ...] = ()
    plan: PlanStatus | None = None
    conditions: tuple[Condition, ...] = ()


class KVCluster(Model):
    """A cluster of etcd-compatible key-value servers."""

    api_version: Literal["kvorum.dev/v1alpha1"]
    kind: Literal["KVCluster"]
    metadata: Metadata
    spec: Spec = Spec()
    status: Status | None = None

    @field_validator("spec", mode="before")
    @classmethod
    def _empty_is_default(cls, value: object) -> object:
        return {} if value is None else value  # `spec:` with nothing below it is null in YAML


class InvalidCluster(Exception):
    """The document is not a KVCluster. Its problems are `path: what is wrong`, one for each field."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def parse(document: object) -> KVCluster:
    """A document, as YAML gave it, as a KVCluster. Raises InvalidCluster with a field's path for each problem."""
    if not isinstance(document, Mapping):
        raise InvalidCluster((f"the document must be a mapping with apiVersion: {GROUP}/{VERSION} and kind: {KIND}",))
    try:
        return KVCluster.model_validate(document)
    except ValidationError as error:
        raise InvalidCluster(tuple(problem(details) for details in error.errors())) from None


def problem(details: Mapping[str, Any]) -> str:
    path = ".".join(field_name(str(part)) for part in details["loc"])  # of a default pydantic names the attribute
    if details["type"] == "extra_forbidden":
        return f"{path}: there is no such field"
    if details["type"] == "missing":
        return f"{path}: is missing"
    value = details["input"]
    shown = (
        f" (it is {str(value) if isinstance(value, Measure) else value!r})" if not isinstance(value, Mapping) else ""
    )
    message = str(details["msg"])
    message = message.removeprefix("Input should be").strip() if message.startswith("Input should") else message
    return f"{path}: {message if message.startswith('must') else f'must be {message}'}{shown}"


def parse_spec(raw: Mapping[str, Any]) -> KVCluster:
    """An object of the API server as a KVCluster, without its status, which `status_of` reads.

    Raises InvalidCluster: the API server refuses what this refuses, but may hold objects from before a rule was made.
    """
    cluster = parse({key: value for key, value in raw.items() if key != "status"})
    if problems := tuple(wrong_on_kubernetes(cluster)):
        raise InvalidCluster(problems)
    return cluster


def wrong_on_kubernetes(cluster: KVCluster) -> Iterator[str]:
    """What is wrong with a document that would do on a single machine: there is no volume to fill, and no Service."""
    name, size, quota = cluster.metadata.name, cluster.spec.storage.size, cluster.spec.settings.database_quota
    if name.endswith(PEERS_SUFFIX):
        yield f"metadata.name: {NAME_MESSAGE} (it is {name!r})"
    if size.value < STORAGE_PER_QUOTA * quota.value + STORAGE_MORE.value:
        yield f"spec.storage.size: {storage_message(quota)} (it is {str(size)!r})"
    version = cluster.spec.version
    if cluster.spec.engine is Engine.ETCD and version is not None and not re.match(ETCD_VERSION_PATTERN, version):
        yield f"spec.version: {ETCD_VERSION_MESSAGE} (it is {version!r})"


def storage_message(quota: Quantity) -> str:
    least = Quantity.at_least(STORAGE_PER_QUOTA * quota.value + STORAGE_MORE.value)
    return f"must be at least {least}, {STORAGE_PER_QUOTA} times settings.databaseQuota and {STORAGE_MORE}, {SIZE_WHY}"


def status_of(raw: Mapping[str, Any]) -> Status:
    """The status of an object of the API server, as far as it can be read: whoever wrote it may know other fields.

    A field that cannot be read is left out, and the next pass computes it anew: only `clusterID` and what members had
    data are remembered from it, and volumes say the same (I4).
    """
    found = raw.get("status")
    legible = copy.deepcopy(dict(found)) if isinstance(found, Mapping) else {}
    while True:
        try:
            return Status.model_validate(legible)
        except ValidationError as error:
            for details in error.errors():
                # What is missing makes illegible what it is missing in.
                illegible = details["loc"][:-1] if details["type"] == "missing" else details["loc"]
                if not illegible:
                    return Status()
                take_out(legible, illegible)
                break  # places in a list have moved


def take_out(tree: Any, path: tuple[int | str, ...]) -> None:
    """Takes what stands at path out of a tree of dicts and lists."""
    for part in path[:-1]:
        tree = tree[part]
    del tree[path[-1]]


WITHOUT_MEANING_LOCALLY = ("version", "storage", "pod", "service", "monitoring", "deletion_policy")


def without_meaning_locally(cluster: KVCluster) -> tuple[str, ...]:
    """The paths of the fields that the document sets and that mean nothing on a single machine."""
    return tuple(f"spec.{field_name(one)}" for one in WITHOUT_MEANING_LOCALLY if one in cluster.spec.model_fields_set)
