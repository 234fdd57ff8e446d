"""The Kubernetes of the tests, its API server, and the stage that all cases share."""

import contextlib
import os
from collections.abc import Generator, Iterator

import pytest

from tests.kit.etcd import EtcdMissing, require_etcd
from tests.kubernetes import images
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.stage import Images, Stage, set_stage
from tests.kubernetes.which import Kubernetes, NoKubernetes, NotForTests, require_kubernetes

# Of other people's runs beside it on one Kubernetes.
PREFIX = os.environ.get("KVORUM_E2E_NAMESPACE", "e2e")
LOG_LINES = 60

STAGE = pytest.StashKey[Stage]()


@pytest.fixture(scope="session")
def kubernetes() -> Kubernetes:
    try:
        return require_kubernetes()
    except NoKubernetes as why:
        pytest.skip(f"NOT RUN: {why}")
    except NotForTests as why:
        pytest.exit(str(why), returncode=2)


@pytest.fixture(scope="session")
def api(kubernetes: Kubernetes) -> Iterator[ApiServer]:
    with contextlib.closing(ApiServer(kubernetes.environment)) as server:
        yield server


@pytest.fixture(scope="session")
def names() -> Images:
    try:
        version = f"v{require_etcd().version}"
    except EtcdMissing as why:
        pytest.skip(f"NOT RUN: {why}")
    return Images(images.OPERATOR, images.NODE, images.NODE_LATER, images.BROKEN, images.ETCD, version)


@pytest.fixture(scope="session")
def stage(
    api: ApiServer, names: Images, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    with set_stage(api, (PREFIX, f"{PREFIX}-narrow"), names, folder) as made:
        request.config.stash[STAGE] = made
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What failed is told with the end of the operator's log: it says what it saw and did."""
    report = yield
    stage = item.config.stash.get(STAGE, None)
    if report.failed and stage is not None:
        report.sections.append(("the operator's log", "\n".join(stage.operator.log().splitlines()[-LOG_LINES:])))
    return report
