"""Rules and dashboard: every metric they ask for is one that the operator or a member has, with these labels.

The pages of metrics are real: the operator's own, and a real node's. What promtool finds in the rules, and whether each
alert fires when it should, the real promtool says; where there is none, that is NOT RUN.
"""

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kvorum.api.metrics import render_bystander
from kvorum_operator.api.v1alpha1 import Condition, Status
from kvorum_operator.metrics import Metrics
from prometheus_client.parser import text_string_to_metric_families

from tests.kit.etcd import EtcdMissing
from tests.kit.processes import Node, etcd_program, kvorum_program
from tests.packaging.helm import OPERATOR

RULES = OPERATOR / "files" / "rules.yaml"
DASHBOARD = json.loads((OPERATOR / "files" / "dashboard.json").read_text("utf-8"))
ALERTS = [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]
TESTS = Path(__file__).parent / "testdata" / "alerts.yaml"

OF_THE_KUBELET = {"kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}
# What scraping adds: the target's, and the label of the pod that podTargetLabels names.
OF_SCRAPING = {"namespace", "pod", "kvorum_dev_cluster"}
METRIC = re.compile(r"\b((?:kvorum|etcd|grpc_server|process|kubelet)_\w+)(?:\{([^}]*)\})?")
NOT_METRICS = {"kvorum_dev_cluster"}
# A member that is alone has none of these; tests/e2e/test_metrics.py has three.
OF_PEERS = {"etcd_network_peer_round_trip_time_seconds_bucket": {"To", "le"}}

Pages = dict[str, set[str]]


def labels_by_name(page: str) -> Pages:
    """The samples of a page of metrics: names, each with its labels."""
    found: Pages = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.fixture(scope="module")
def operators() -> Pages:
    """The page of an operator that has done something of each kind."""
    metrics = Metrics()
    metrics.watch_queue(lambda: 0.0, lambda: 0.0)
    metrics.pass_seconds.observe(0.1)
    metrics.count_pass("done")
    metrics.count_step("AddLearner", "done")
    metrics.count_call("get", "pods", 200, 0.01)
    one = Condition(type="Ready", status="True", reason="Healthy", message="", last_transition_time="")
    metrics.clusters.show("ns", "kv", Status(conditions=(one,)))
    return labels_by_name(metrics.text().decode())


@pytest.fixture(scope="module", params=["kvorum", "etcd"])
def members(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """The page of a real member. Skips, saying NOT RUN and why, where there is no etcd."""
    try:
        program = kvorum_program() if request.param == "kvorum" else etcd_program()
    except EtcdMissing as error:
        pytest.skip(f"NOT RUN: {error}")
    node = Node(program, tmp_path_factory.mktemp("member"))
    node.start()
    try:
        node.wait_healthy()
        with urllib.request.urlopen(f"{node.endpoint}/metrics", timeout=10) as answer:
            yield labels_by_name(answer.read().decode())
    finally:
        node.stop()


def asked(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Metrics of an expression, each with the labels that it is chosen by."""
    for name, chosen in METRIC.findall(expression):
        if name not in NOT_METRICS:
            yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", chosen))


def expressions() -> Iterator[tuple[str, str]]:
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield f"${variable['name']}", variable["query"]["query"]


def missing(pages: Pages, prefixes: tuple[str, ...], added: set[str]) -> list[str]:
    """Whatever rules and dashboard ask for of these metrics that the page has not."""
    return [
        f"{where}: {name}{sorted(labels - pages.get(name, set()) - added)}"
        for where, expression in expressions()
        for name, labels in asked(expression)
        if name.startswith(prefixes) and (name not in pages or labels - pages[name] - added)
    ]


def test_every_expression_asks_for_metrics_of_ours() -> None:
    for where, expression in expressions():
        names = {name for name, _ in asked(expression)}
        assert names, where
        assert {name for name in names if name.startswith("kubelet_")} <= OF_THE_KUBELET


def test_what_is_asked_of_the_operator_it_has(operators: Pages) -> None:
    assert missing(operators, ("kvorum_operator_",), OF_SCRAPING) == []


def test_what_is_asked_of_members_either_engine_has(members: Pages) -> None:
    assert missing({**members, **OF_PEERS}, ("etcd_", "grpc_", "process_"), OF_SCRAPING) == []


def test_what_is_asked_of_a_member_that_takes_no_part_it_has() -> None:
    _, page = render_bystander("data-lost", "3.5.30", 0)
    assert missing(labels_by_name(page.decode()), ("kvorum_member_",), OF_SCRAPING) == []


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identities)) == len(identities)
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    named = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"])))
    assert used - {"__rate_interval"} <= named


def test_no_two_panels_lie_on_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


# The rules, by Prometheus' own tool.


def promtool(*arguments: str) -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("NOT RUN: no promtool on PATH (Debian's package prometheus)")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_rules() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", str(RULES))


def test_alerts_fire_when_they_should_and_not_otherwise() -> None:
    promtool("test", "rules", str(TESTS))


def test_every_alert_is_seen_to_fire_and_to_be_silent() -> None:
    cases: list[Any] = yaml.safe_load(TESTS.read_text("utf-8"))["tests"]
    looked = [(one["alertname"], bool(one["exp_alerts"])) for case in cases for one in case["alert_rule_test"]]
    assert {name for name, fires in looked if fires} == {alert["alert"] for alert in ALERTS}
    assert {name for name, fires in looked if not fires} == {alert["alert"] for alert in ALERTS}
