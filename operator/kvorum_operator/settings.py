"""How `kvorum-operator run` is told what to do: flags, else KVORUM_OPERATOR_* of the environment, else defaults.

Imports nothing heavy: the command line of every command is read with it. A value that is wrong, whoever gave it, is
refused with one line that names the flag or the variable.

What the operator must be allowed to do, in each namespace it works in (a Role each; a ClusterRole if it works in all):
  kvorum.dev              kvclusters: get list watch; kvclusters/status: patch
  apps                    statefulsets: get list watch create patch delete
  (core)                  pods: list watch delete; persistentvolumeclaims: get list watch create patch delete;
                          configmaps, services, serviceaccounts: get list watch create patch; events: list
  policy                  poddisruptionbudgets: get list watch create patch delete
  networking.k8s.io       networkpolicies: get list watch create patch
  monitoring.coreos.com   podmonitors: get create patch delete (only where spec.monitoring is used)
  events.k8s.io           events: create
and in the namespace of the Lease
  coordination.k8s.io     leases: get create update
Nothing cluster-wide is needed where namespaces are named: neither the CRDs nor the namespaces are watched. What the API
offers (`/apis`) every authenticated account may read (system:discovery).
"""

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

ENVIRONMENT_PREFIX = "KVORUM_OPERATOR_"
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123 label
LEASE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
ETCD = "quay.io/coreos/etcd"
LOG_LEVELS = ("debug", "info", "warning", "error")
# What Kubernetes puts into pods beside a Service named kvorum-operator or kvorum-operator-metrics. The second's port
# would even be our KVORUM_OPERATOR_METRICS_PORT: an address where ours is a number.
SERVICE_LINK = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_.*)?)")
SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*")
IMAGE = re.compile(r"[a-z0-9][-a-z0-9._:/]*(:[A-Za-z0-9_][-A-Za-z0-9._]{0,127})?(@sha256:[0-9a-f]{64})?")
REPOSITORY = re.compile(r"[a-z0-9]([-a-z0-9._/]|:[0-9]+/)*")


class WrongSettings(Exception):
    """The text, one line, names the flag or variable, the value, and what it must be."""


class Settings(BaseModel):
    """Checked. `source` of a problem is the caller's to name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespaces: tuple[str, ...] = ()  # none: all
    lease_namespace: str
    lease_name: str = "kvorum-operator"
    metrics_port: int = Field(default=8080, ge=1, le=65_535)
    node_image: str
    etcd_image_repository: str
    log_level: str = "info"
    workers: int = Field(default=64, ge=1, le=1000)

    @field_validator("namespaces")
    @classmethod
    def _are_namespaces(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not NAMESPACE.fullmatch(one):
                raise ValueError(f"must be names of namespaces, and {one!r} is none")
        return tuple(dict.fromkeys(value))

    @field_validator("lease_namespace")
    @classmethod
    def _is_namespace(cls, value: str) -> str:
        if not NAMESPACE.fullmatch(value):
            raise ValueError("must be the name of a namespace")
        return value

    @field_validator("lease_name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not LEASE_NAME.fullmatch(value):
            raise ValueError("must be lower case letters, digits, - and .")
        return value

    @field_validator("node_image")
    @classmethod
    def _is_image(cls, value: str) -> str:
        if not IMAGE.fullmatch(value) or not has_tag(value):
            raise ValueError("must be an image with its tag or digest, like ghcr.io/kvorum/node:0.1.0")
        return value

    @field_validator("etcd_image_repository")
    @classmethod
    def _is_repository(cls, value: str) -> str:
        if not REPOSITORY.fullmatch(value):
            raise ValueError(f"must be an image without a tag, like {ETCD}: the tag follows spec.version")
        return value

    @field_validator("log_level")
    @classmethod
    def _is_level(cls, value: str) -> str:
        if value not in LOG_LEVELS:
            raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
        return value


def has_tag(image: str) -> bool:
    return "@" in image or ":" in image.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Option:
    """One setting as it is given. several: the flag may stand more than once, the variable has commas."""

    name: str
    flag: str
    help: str
    default: str | None = None
    several: bool = False

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.flag.removeprefix("--").replace("-", "_").upper()


OPTIONS = (
    Option(
        "namespaces", "--namespace", "look after the clusters of this namespace; repeatable; none: all", several=True
    ),
    Option("lease_namespace", "--lease-namespace", "where the Lease is (the operator's own namespace)"),
    Option("lease_name", "--lease-name", "of operators with one Lease one acts (kvorum-operator)", "kvorum-operator"),
    Option("metrics_port", "--metrics-port", "port of /metrics, /healthz and /readyz (8080)", "8080"),
    Option("node_image", "--node-image", "image of members without spec.version and spec.pod.image"),
    Option("etcd_image_repository", "--etcd-image-repository", f"image of engine etcd ({ETCD})", ETCD),
    Option("log_level", "--log-level", f"{', '.join(LOG_LEVELS)} (info)", "info"),
    Option("workers", "--workers", "how many clusters are worked on at once (64)", "64"),
)


def add_flags(command: argparse.ArgumentParser) -> None:
    for option in OPTIONS:
        name, text = option.flag, f"{option.help} [{option.variable}]"
        if option.several:
            command.add_argument(name, dest=option.name, action="append", metavar="NAME", help=text)
        else:
            command.add_argument(name, dest=option.name, metavar="VALUE", help=text)


def read(given: argparse.Namespace, environment: Mapping[str, str], own_namespace: str | None = None) -> Settings:
    """given: what `add_flags` made of the command line. own_namespace: of the pod. Raises WrongSettings."""
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for option in OPTIONS:
        value = getattr(given, option.name)
        sources[option.name] = option.flag
        text = environment.get(option.variable, "")
        if value is None and text and not SERVICE_ADDRESS.fullmatch(text):
            value = [part.strip() for part in text.split(",") if part.strip()] if option.several else text
            sources[option.name] = option.variable
        value = option.default if value is None else value
        if value is not None:
            values[option.name] = value
    variables = {option.variable for option in OPTIONS}
    unknown = sorted(name for name in named(environment) if name not in variables and not SERVICE_LINK.fullmatch(name))
    if unknown:
        raise WrongSettings(f"{unknown[0]} of the environment is no setting: take it away, or see --help for the names")
    if own_namespace is not None:
        values.setdefault("lease_namespace", own_namespace)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise WrongSettings(problem(error, sources)) from None


def named(environment: Mapping[str, str]) -> list[str]:
    return [name for name in environment if name.startswith(ENVIRONMENT_PREFIX)]


def problem(error: ValidationError, sources: Mapping[str, str]) -> str:
    details = error.errors()[0]
    option = next(one for one in OPTIONS if one.name == details["loc"][0])
    if details["type"] == "missing":
        return f"{option.flag} is missing (or {option.variable} in the environment): {option.help}"
    message = str(details["msg"]).removeprefix("Value error, ").removeprefix("Input should be ").strip()
    message = message if message.startswith("must be") else f"must be {message}"
    return f"{sources[option.name]} {message} (it is {details['input']!r})"


def from_process(given: argparse.Namespace) -> Settings:
    """From flags, this process's environment, and the namespace of the pod it runs in. Raises WrongSettings."""
    own = SERVICE_ACCOUNT_NAMESPACE.read_text("utf-8").strip() if SERVICE_ACCOUNT_NAMESPACE.is_file() else None
    return read(given, os.environ, own)


def host_name() -> str:
    """The pod's name, in a pod; the machine's elsewhere."""
    return os.environ.get("HOSTNAME") or os.uname().nodename
