"""What Prometheus is told."""

from kvorum_operator.api.v1alpha1 import Condition, Status
from kvorum_operator.metrics import Metrics


def condition(kind: str, status: str, reason: str) -> Condition:
    return Condition.model_validate(
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": "",
            "lastTransitionTime": "2026-11-25T20:00:00Z",
        }
    )


def series(metrics: Metrics, prefix: str) -> set[str]:
    return {line for line in metrics.text().decode().splitlines() if line.startswith(prefix)}


def test_calls_are_counted_by_verb_resource_and_code_and_timed() -> None:
    metrics = Metrics()
    for status in (200, 200, 0):
        metrics.count_call("get", "pods", status, 0.02)
    assert series(metrics, "kvorum_operator_api_calls_total") == {
        'kvorum_operator_api_calls_total{code="200",resource="pods",verb="get"} 2.0',
        'kvorum_operator_api_calls_total{code="0",resource="pods",verb="get"} 1.0',
    }
    assert 'kvorum_operator_api_call_seconds_count{resource="pods",verb="get"} 3.0' in series(
        metrics, "kvorum_operator_api_call_seconds_count"
    )


def test_steps_are_counted_by_kind_and_result() -> None:
    metrics = Metrics()
    metrics.count_step("AddLearner", "refused")
    assert series(metrics, "kvorum_operator_steps_total") == {
        'kvorum_operator_steps_total{kind="AddLearner",result="refused"} 1.0'
    }


def test_condition_has_one_series_whose_reason_follows_the_status_and_goes_with_the_cluster() -> None:
    metrics = Metrics()
    prefix = "kvorum_operator_cluster_condition{"
    labels = 'name="demo",namespace="prod"'
    metrics.clusters.show("prod", "demo", Status(conditions=(condition("Ready", "False", "Bootstrapping"),)))
    assert series(metrics, prefix) == {f'{prefix}{labels},reason="Bootstrapping",type="Ready"}} 0.0'}
    metrics.clusters.show(
        "prod",
        "demo",
        Status(conditions=(condition("Ready", "True", "Healthy"), condition("Available", "Unknown", "Healthy"))),
    )
    assert series(metrics, prefix) == {
        f'{prefix}{labels},reason="Healthy",type="Ready"}} 1.0',
        f'{prefix}{labels},reason="Healthy",type="Available"}} -1.0',
    }
    metrics.clusters.forget("prod", "demo")
    assert series(metrics, "kvorum_operator_cluster_members{") == series(metrics, prefix) == set()


def test_queue_is_asked_when_somebody_reads() -> None:
    metrics, depth = Metrics(), [0.0]
    metrics.watch_queue(lambda: depth[0], lambda: 2.5)
    depth[0] = 7
    assert "kvorum_operator_queue_depth 7.0" in series(metrics, "kvorum_operator_queue_depth")
    assert "kvorum_operator_queue_oldest_seconds 2.5" in series(metrics, "kvorum_operator_queue_oldest")
