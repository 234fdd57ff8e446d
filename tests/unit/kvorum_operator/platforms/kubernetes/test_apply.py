"""What is put and removed where the operator may not even look. On a real Kubernetes: tests/kubernetes."""

import asyncio
from typing import Any, NoReturn

import pytest
from kvorum_operator.objects.access import service_account
from kvorum_operator.platforms.kubernetes.apply import Objects
from kvorum_operator.platforms.kubernetes.client import POD_MONITORS, Client, Refused
from kvorum_operator.reconcile import ObjectRefused

from tests.unit.kvorum_operator.objects.clusters import cluster


class ClientWithoutRights(Client):
    async def get(self, *_: Any) -> NoReturn:
        raise Refused("get", 403, "Forbidden", "is forbidden")


def test_object_that_may_not_be_looked_at_is_not_there_where_none_is_wanted() -> None:
    """A Role need not name kinds that no cluster of the namespace uses."""
    asyncio.run(Objects(ClientWithoutRights()).remove(POD_MONITORS, "prod", "kv", cluster()))


def test_object_that_may_not_be_looked_at_and_is_wanted_is_refused() -> None:
    with pytest.raises(ObjectRefused, match="is forbidden"):
        asyncio.run(Objects(ClientWithoutRights()).put(service_account(cluster()), cluster()))
