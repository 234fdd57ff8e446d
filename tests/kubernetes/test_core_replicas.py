"""Two replicas of the operator: one acts; where it is killed, the other does."""

import time

import pytest

from tests.kit.deadline import wait_until
from tests.kubernetes.changes import under_writer
from tests.kubernetes.operators import holder_of_lease
from tests.kubernetes.stage import Stage

TAKEOVER_S = 60.0


@pytest.fixture(autouse=True)
def _operator(stage: Stage) -> None:
    stage.ensure_operator()


def test_other_replica_acts_once_the_leading_one_is_killed(stage: Stage) -> None:
    second = stage.replica("second")
    with stage.cluster("watched") as cluster:
        try:
            cluster.apply(replicas=1)
            cluster.wait_ready(1)
            first_holder = holder_of_lease(stage.api, stage.namespace)
            second.start()
            wait_until(lambda: second.health() == 200, 60, "the second runs", poll_s=0.2)
            assert holder_of_lease(stage.api, stage.namespace) == first_holder, "one acts, and it goes on"
            with under_writer(cluster):
                killed_s = time.monotonic()
                stage.operator.kill()
                cluster.edit(replicas=3)
                cluster.wait_step("AddLearner", TAKEOVER_S)
                print(f"the other replica acted {time.monotonic() - killed_s:.1f} s after the leading one was killed")
                assert holder_of_lease(stage.api, stage.namespace) != first_holder
                cluster.wait_ready(3)
        finally:
            second.destroy()
