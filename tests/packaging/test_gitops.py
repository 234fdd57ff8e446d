"""What Argo CD and Flux make of a KVCluster: the shipped Lua in a real Lua 5.1, on statuses that the operator composes.

Argo's interpreter has neither string nor math, so they are taken away here. Statuses that a run on a real Kubernetes
left below KVORUM_E2E_STATUSES are judged, too. The expressions for Flux need the API server's CEL: tests/kubernetes.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Spec, Status
from kvorum_operator.cluster import status as statuses
from kvorum_operator.cluster.diagnosis import diagnose
from kvorum_operator.cluster.plan import plan
from kvorum_operator.cluster.step import Hold
from lupa.lua51 import LuaRuntime, lua_type

from tests.tidy.sources import REPOSITORY
from tests.unit.kvorum_operator.cluster import test_reasons
from tests.unit.kvorum_operator.cluster.situations import read_situation

ARGOCD = REPOSITORY / "manifests" / "gitops" / "argocd"
HEALTH = (ARGOCD / "health.lua").read_text("utf-8")
ACTIONS = yaml.safe_load((ARGOCD / "actions.yaml").read_text("utf-8"))
TESTDATA = Path(__file__).parent / "testdata" / "health.txt"
FROM_E2E = os.environ.get("KVORUM_E2E_STATUSES", "")
HEALTHS = {"Healthy", "Progressing", "Degraded", "Suspended"}

Object = dict[str, Any]


def run(script: str, resource: Object) -> Any:
    """What a script answers for a resource, as Python's values."""
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    lua.execute('getmetatable("").__index = nil')
    for name in ("string", "math", "io", "coroutine", "debug", "python", "load", "loadstring", "dofile"):
        lua.globals()[name] = None
    lua.globals().obj = to_lua(lua, resource)
    return from_lua(lua.execute(script))


def to_lua(lua: LuaRuntime, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({key: to_lua(lua, one) for key, one in value.items() if one is not None})
    return lua.table_from([to_lua(lua, one) for one in value]) if isinstance(value, list | tuple) else value


def from_lua(value: Any) -> Any:
    if lua_type(value) != "table":
        return value
    items = {key: from_lua(one) for key, one in value.items()}
    return list(items.values()) if items and all(isinstance(key, int) for key in items) else items


def resource(spec: Spec, status: Status | None, generation: int = 1) -> Object:
    """As the API server has it."""
    written = {"replicas": spec.replicas, "engine": spec.engine.value, **({"paused": True} if spec.paused else {})}
    made = {"metadata": {"name": "kv", "generation": generation}, "spec": written}
    if status is None:
        return made
    return {**made, "status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}


def of_situation(question: str, hold: Hold | None = None) -> Object:
    """hold: what was answered by others than the plan, like a member's refusal."""
    spec, seen = read_situation(question)
    decision = hold or plan(spec, seen)
    status = statuses.compose("kv", spec, seen, diagnose(spec, seen), decision, Status(), generation=1)
    return resource(spec, status)


def situations() -> Iterator[tuple[str, Object]]:
    """Each reason once, in a status that gives it."""
    for reason in Reason:
        if reason in test_reasons.REACHED_AND_LEFT:
            yield reason, of_situation(test_reasons.REACHED_AND_LEFT[reason][0])
        else:
            yield reason, of_situation(test_reasons.THREE, Hold(reason, "said by others than the plan", "somebody"))


def test_health_of_each_reason_is_as_written(request: pytest.FixtureRequest) -> None:
    judged = "".join(f"{reason:<20} {run(HEALTH, one)['status']}\n" for reason, one in situations())
    if request.config.getoption("--rewrite"):
        TESTDATA.parent.mkdir(exist_ok=True)
        TESTDATA.write_text(judged)
        return
    assert judged == TESTDATA.read_text(), "pytest --rewrite writes it anew; the diff is then the review"


@pytest.mark.parametrize(
    ("reason", "one"), tuple(situations()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_health_agrees_with_the_conditions(reason: str, one: Object) -> None:
    check(one)


def check(one: Object) -> None:
    found = run(HEALTH, one)
    conditions = {condition["type"]: condition for condition in one["status"]["conditions"]}
    assert found["status"] in HEALTHS
    assert found["message"]
    if conditions["Stalled"]["status"] == "True":
        assert found["status"] == "Degraded"
        assert conditions["Stalled"]["message"] in found["message"]
    elif conditions["Ready"]["status"] == "True":
        assert found["status"] == ("Suspended" if one["spec"].get("paused") else "Healthy")
    else:
        assert found["status"] != "Healthy"


@pytest.mark.parametrize(
    "one",
    [
        resource(Spec(), None),
        {**of_situation(test_reasons.THREE), "metadata": {"name": "kv", "generation": 2}},
        resource(Spec(), Status()),
    ],
    ids=["no status", "an earlier generation's", "no conditions"],
)
def test_what_the_operator_has_not_seen_is_progressing(one: Object) -> None:
    assert run(HEALTH, one)["status"] == "Progressing"


def test_a_restart_in_a_rolling_change_does_not_fail_a_sync() -> None:
    """Two of three serve meanwhile, which is Degraded with reason QuorumAtRisk; the hold is the roll's."""
    question = "plan replicas=3\nkv-0 leader\nkv-1 follower outdated\nkv-2 follower down"
    restarting = of_situation(question, Hold(Reason.ROLLING, "kv-2 restarts", "kv-2"))
    conditions = {condition["type"]: condition["status"] for condition in restarting["status"]["conditions"]}
    assert conditions["Degraded"] == "True"
    assert run(HEALTH, restarting)["status"] == "Progressing"
    waiting = of_situation(question, Hold(Reason.MEMBER_DOWN, "kv-2 does not run", "kv-2"))
    assert run(HEALTH, waiting)["status"] == "Degraded"


def test_a_paused_cluster_with_something_broken_is_degraded() -> None:
    question = "plan replicas=3 paused\nkv-0 leader\nkv-1 follower\nkv-2 follower down"
    assert run(HEALTH, of_situation(question))["status"] == "Degraded"


def test_statuses_of_a_real_run_are_judged() -> None:
    files = sorted(Path(FROM_E2E).glob("**/*.json")) if FROM_E2E else []
    if not files:
        pytest.skip("NOT RUN: health.lua on statuses of a real run: KVORUM_E2E_STATUSES names no folder with any")
    judged = 0
    for path in files:
        kept = json.loads(path.read_text("utf-8"))
        if kept and "status" in kept and kept["status"].get("observedGeneration") == kept["metadata"]["generation"]:
            check(kept)
            judged += 1
            print(f"{path.name}: {run(HEALTH, kept)}")
    assert judged, "none of them is of the generation that was observed"


# Actions.


def test_there_is_a_definition_for_each_action_and_no_other() -> None:
    found = run(ACTIONS["discovery.lua"], of_situation(test_reasons.THREE))
    assert set(found) == {one["name"] for one in ACTIONS["definitions"]}


@pytest.mark.parametrize(
    ("question", "enabled"),
    [
        (test_reasons.THREE, {"pause", "sleep"}),
        (test_reasons.THREE.replace("replicas=3", "replicas=3 paused"), {"resume", "sleep"}),
        ("plan replicas=0 list=unknown\nkv-0 follower down", {"pause", "wake"}),
        ("plan replicas=0 no-id list=unknown", {"pause"}),
    ],
    ids=["serves", "paused", "asleep", "never had members"],
)
def test_an_action_is_offered_where_it_does_something(question: str, enabled: set[str]) -> None:
    offered = run(ACTIONS["discovery.lua"], of_situation(question))
    assert {name for name, one in offered.items() if not one["disabled"]} == enabled


def act(name: str, one: Object) -> Object:
    script = next(action["action.lua"] for action in ACTIONS["definitions"] if action["name"] == name)
    changed: Object = run(script, one)
    return changed


def test_actions_change_the_one_field_they_are_for() -> None:
    serving = of_situation(test_reasons.THREE)
    asleep = act("sleep", serving)
    assert asleep["spec"] == {**serving["spec"], "replicas": 0}
    assert act("wake", asleep)["spec"]["replicas"] == 3
    paused = act("pause", serving)
    assert paused["spec"] == {**serving["spec"], "paused": True}
    assert act("resume", paused)["spec"] == serving["spec"]


def test_the_interpreter_has_no_more_than_argos() -> None:
    """Or a script could pass here and fail there."""
    for script in ('return ("x"):upper()', "return string.format('%d', 1)", "return math.floor(1.5)"):
        with pytest.raises(Exception, match="attempt to index"):
            run(script, {})
