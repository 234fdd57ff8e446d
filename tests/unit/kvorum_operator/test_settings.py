"""Flags before the environment before defaults, and one line for what is wrong."""

import argparse
import subprocess
import sys

import pytest
from kvorum_operator import settings
from kvorum_operator.main import main
from kvorum_operator.settings import Settings, WrongSettings

NEEDED = ("--lease-namespace", "ops", "--node-image", "example.org/kvorum:0.1.0")


def read(*flags: str, own_namespace: str | None = None, **environment: str) -> Settings:
    parser = argparse.ArgumentParser()
    settings.add_flags(parser)
    variables = {f"KVORUM_OPERATOR_{name}": value for name, value in environment.items()}
    return settings.read(parser.parse_args(flags), variables, own_namespace)


def test_defaults_look_after_all_namespaces() -> None:
    chosen = read(*NEEDED)
    assert chosen.namespaces == ()
    assert (chosen.lease_name, chosen.metrics_port, chosen.log_level) == ("kvorum-operator", 8080, "info")
    assert chosen.etcd_image_repository == "quay.io/coreos/etcd"


def test_flag_wins_over_the_environment() -> None:
    chosen = read(*NEEDED, "--log-level", "debug", LOG_LEVEL="error", WORKERS="3")
    assert (chosen.log_level, chosen.workers) == ("debug", 3)


def test_namespaces_are_flags_in_a_row_or_a_variable_with_commas() -> None:
    assert read(*NEEDED, "--namespace", "a", "--namespace=b", "--namespace", "a").namespaces == ("a", "b")
    assert read(*NEEDED, NAMESPACE="a, b").namespaces == ("a", "b")


def test_lease_is_in_the_pods_own_namespace_unless_another_is_named() -> None:
    assert read("--node-image", "kvorum:1", own_namespace="pods").lease_namespace == "pods"
    assert read(*NEEDED, own_namespace="pods").lease_namespace == "ops"


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        (NEEDED[2:], {}, "--lease-namespace is missing (or KVORUM_OPERATOR_LEASE_NAMESPACE in the environment)"),
        ((*NEEDED, "--metrics-port", "http"), {}, "--metrics-port must be a valid integer"),
        ((*NEEDED, "--metrics-port", "70000"), {}, "--metrics-port must be less than or equal to 65535"),
        (NEEDED, {"WORKERS": "0"}, "KVORUM_OPERATOR_WORKERS must be greater than or equal to 1"),
        ((*NEEDED, "--log-level", "loud"), {}, "--log-level must be one of debug, info, warning, error (it is 'loud')"),
        ((*NEEDED, "--namespace", "Prod"), {}, "--namespace must be names of namespaces, and 'Prod' is none"),
        ((*NEEDED[:2], "--node-image", "kvorum"), {}, "--node-image must be an image with its tag or digest"),
        ((*NEEDED, "--etcd-image-repository", "etcd:v3"), {}, "--etcd-image-repository must be an image without a tag"),
        (NEEDED, {"NAMESPACES": "a"}, "KVORUM_OPERATOR_NAMESPACES of the environment is no setting"),
    ],
)
def test_wrong_value_is_refused_with_its_flag_or_variable(
    flags: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(WrongSettings) as refusal:
        read(*flags, **environment)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_images_with_ports_and_digests_are_images() -> None:
    digest = f"example.org:5000/kvorum@sha256:{'0' * 64}"
    assert read(*NEEDED[:2], "--node-image", digest).node_image == digest
    with pytest.raises(WrongSettings, match="--node-image"):
        read(*NEEDED[:2], "--node-image", "example.org:5000/kvorum")
    assert read(*NEEDED, "--etcd-image-repository", "example.org:5000/etcd").etcd_image_repository.endswith("etcd")


def test_what_kubernetes_tells_of_a_service_of_that_name_is_no_setting() -> None:
    chosen = read(
        *NEEDED,
        METRICS_PORT="tcp://10.96.0.7:8080",  # of a Service kvorum-operator-metrics
        SERVICE_HOST="10.96.0.7",
        SERVICE_PORT_METRICS="8080",
        PORT="tcp://10.96.0.7:8080",
        PORT_8080_TCP_ADDR="10.96.0.7",
    )
    assert chosen.metrics_port == 8080


def test_wrong_settings_end_the_command_with_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *NEEDED, "--workers", "many"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("kvorum-operator: --workers must be a valid integer")
    assert said.count("\n") == 1


def test_who_runs_locally_does_not_wait_for_the_clients_of_kubernetes() -> None:
    check = (
        "import sys, kvorum_operator.main, kvorum_operator.platforms.local.run;"
        "print(sorted({'aiohttp', 'kopf', 'prometheus_client'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
