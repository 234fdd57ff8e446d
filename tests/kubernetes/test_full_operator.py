"""The operator is killed or upgraded in the middle of every change, cut off, or without an API server."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest

from tests.kit.deadline import DeadlineMissed, wait_until
from tests.kit.ports import free_port
from tests.kubernetes import shared_kubernetes
from tests.kubernetes.changes import ENOUGH, lose, under_writer
from tests.kubernetes.cluster import Cluster, takes_writes
from tests.kubernetes.operators import holder_of_lease, server_of, wait_acting
from tests.kubernetes.stage import Stage

STORAGE = {"className": "network"}
KILLS = 3
CUT_S = 90.0
TAKEOVER_S = 60.0


@pytest.fixture(autouse=True)
def _operator(stage: Stage) -> None:
    stage.ensure_operator()


def interrupt(stage: Stage, cluster: Cluster, instants: random.Random, done: Callable[[], bool]) -> None:
    """Kills it or has it replaced, in turns, each time at some instant of what follows."""
    for turn in range(KILLS):
        longest_s = instants.uniform(0.2, 3.0)
        try:
            wait_until(done, longest_s, "the change is over", poll_s=0.1)
        except DeadlineMissed:
            if turn % 2:
                # While Python still starts, a signal ends it as any other program: there is nothing to hand over yet.
                assert stage.operator.end() in (0, -signal.SIGTERM)
                stage.operator.start()
            else:
                stage.operator.restart()


def test_operator_killed_or_upgraded_in_the_middle_of_each_change_carries_on(stage: Stage) -> None:
    instants = random.Random(5)
    with stage.cluster("pestered") as cluster:
        cluster.apply(replicas=1, storage=STORAGE)
        interrupt(stage, cluster, instants, lambda: cluster.is_ready(1))
        cluster.wait_ready(1, 240)
        with under_writer(cluster) as writer:
            for wanted in (3, 1, 3):
                cluster.edit(replicas=wanted)
                interrupt(stage, cluster, instants, partial(cluster.is_ready, wanted))
                cluster.wait_ready(wanted, 300)
                writer.wait_acknowledged(ENOUGH)
            before = cluster.uids()
            cluster.edit(settings={"logLevel": "debug"})
            interrupt(stage, cluster, instants, lambda: not set(before.values()) & set(cluster.uids().values()))
            cluster.wait(
                lambda: cluster.is_ready(3) and not set(before.values()) & set(cluster.uids().values()), "rolled", 300
            )
            ids = cluster.member_ids()
            lose(cluster, "pestered-1")
            interrupt(stage, cluster, instants, lambda: cluster.member_ids() != ids and cluster.is_ready(3))
            cluster.wait(lambda: cluster.member_ids() != ids and cluster.is_ready(3), "repaired", 300)
            cluster.edit(replicas=0)
            interrupt(stage, cluster, instants, lambda: cluster.condition("Ready").get("reason") == "Asleep")
            cluster.wait_reason("Ready", "Asleep")
            cluster.edit(replicas=3)
            interrupt(stage, cluster, instants, lambda: cluster.is_ready(3))
            cluster.wait_ready(3, 300)
            writer.wait_acknowledged(ENOUGH)
        assert set(cluster.pods()) == set(cluster.volumes()) == {f"pestered-{ordinal}" for ordinal in range(3)}


def test_operator_gone_for_a_while_hangs_nothing(stage: Stage) -> None:
    """There is no finalizer: what is deleted while no operator runs goes."""
    with stage.cluster("orphaned") as cluster:
        cluster.apply(replicas=1, deletionPolicy="Delete")
        cluster.wait_ready(1)
        stage.operator.end()
        cluster.delete()
        cluster.wait(lambda: not cluster.volumes(), "its volumes go with it")


def test_restart_of_the_api_server_is_survived(stage: Stage) -> None:
    if not shared_kubernetes.CLUSTER.exists():
        pytest.skip("NOT RUN: the control plane of this Kubernetes is not ours to stop")
    with stage.cluster("cutoff") as cluster:
        cluster.apply(replicas=3, storage=STORAGE)
        cluster.wait_ready(3)
        with under_writer(cluster) as writer:
            shared_kubernetes.command("stop", "control-plane", "kube-apiserver")
            try:
                writer.wait_acknowledged(10 * ENOUGH)
            finally:
                start_control_plane(stage)
            assert writer.failed == [], "members need no API server"
            stage.ensure_operator()  # it may have ended: in a pod it is started again
            cluster.edit(settings={"logLevel": "debug"})
            cluster.wait_step("Restart")
            cluster.wait_ready(3, 240)


def start_control_plane(stage: Stage) -> None:
    """Also what ends where it finds no API server; a control plane elsewhere is started again by its kubelet."""
    shared_kubernetes.command("start", "control-plane", "kube-apiserver")
    wait_until(lambda: stage.api.try_kubectl("get", "--raw", "/readyz").returncode == 0, 120, "it is back", poll_s=0.5)
    for program in ("kube-controller-manager", "kube-scheduler"):
        shared_kubernetes.command("start", "control-plane", program)


def test_health_fails_while_the_operator_is_cut_off_and_recovers(stage: Stage) -> None:
    port = free_port()
    way = subprocess.Popen([sys.executable, "-m", "tests.kubernetes.forward", str(port), server_of(stage.api)])
    replica = stage.replica("distant", port=port, lease="distant")
    try:
        replica.start()
        wait_until(lambda: replica.health() == 200, 60, "it is healthy", poll_s=0.5)
        way.send_signal(signal.SIGSTOP)  # what is sent is swallowed, as by a link that is down
        wait_until(lambda: replica.health() == 500, CUT_S, "it says that it is cut off", poll_s=0.5)
        way.send_signal(signal.SIGCONT)
        wait_until(lambda: replica.health() == 200, 120, "it recovers", poll_s=0.5)
    finally:
        replica.destroy()
        way.send_signal(signal.SIGCONT)
        way.kill()
        way.wait()


def test_other_replica_acts_once_the_leading_one_is_cut_off_and_goes_on_when_that_is_back(stage: Stage) -> None:
    port = free_port()
    way = subprocess.Popen([sys.executable, "-m", "tests.kubernetes.forward", str(port), server_of(stage.api)])
    distant = stage.replica("cut-off", port=port)
    try:
        with stage.cluster("handed-on") as cluster:
            cluster.apply(replicas=1)
            cluster.wait_ready(1)
            assert stage.operator.end() == 0
            distant.start()
            first = wait_acting(distant, stage.api, stage.namespace)
            stage.operator.start()
            wait_until(lambda: stage.operator.health() == 200, 60, "the other runs", poll_s=0.2)
            with under_writer(cluster):
                way.send_signal(signal.SIGSTOP)
                cluster.edit(replicas=3)
                cluster.wait_step("AddLearner", TAKEOVER_S)
                second = holder_of_lease(stage.api, stage.namespace)
                assert second != first
                way.send_signal(signal.SIGCONT)
                cluster.wait_ready(3)
            assert holder_of_lease(stage.api, stage.namespace) == second, "who came back waits"
            lines = [json.loads(line) for line in stage.operator.log().splitlines()]
            told = {(line["cluster"], line["step"]) for line in lines if "step" in line}
            assert (f"{cluster.namespace}/handed-on", "AddLearner handed-on-1") in told, "by cluster and step"
            assert "Traceback" not in distant.log()
    finally:
        way.send_signal(signal.SIGCONT)
        distant.destroy()
        way.kill()
        way.wait()


def test_one_stuck_cluster_delays_no_other(stage: Stage) -> None:
    with stage.cluster("stuck") as stuck, stage.cluster("lively") as lively:
        stuck.apply(replicas=3, pod={"scheduling": {"nodeSelector": {"disk": "golden"}}})
        lively.apply(replicas=1)
        lively.wait_ready(1)
        stuck.wait_reason("Ready", "PodUnschedulable")
        lively.edit(replicas=2)
        lively.wait_step("AddLearner", 10)
        assert takes_writes(lively.service_endpoint())
