"""Engines of the end-to-end tests: every case runs on a real etcd and on our node."""

import pytest

from tests.kit.etcd import EtcdMissing, require_etcd


@pytest.fixture(params=["etcd", "kvorum"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "etcd":
        try:
            require_etcd()
        except EtcdMissing as why:
            pytest.skip(f"NOT RUN: {why}")
    return name
