"""The status: conditions that kstatus understands, members by their id, and what is worth writing (I9)."""

from dataclasses import replace

import pytest
from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.timestamps import from_seconds
from kvorum_operator.api.v1alpha1 import Condition, Status
from kvorum_operator.cluster import status as statuses
from kvorum_operator.cluster.diagnosis import diagnose
from kvorum_operator.cluster.plan import plan
from kvorum_operator.cluster.step import Hold, Step

from tests.unit.kvorum_operator.cluster.situations import NOW_S, id_of, read_situation

UNCHANGED = object()


def composed(question: str, before: Status | None = None, decision: object = UNCHANGED, later_s: float = 0.0) -> Status:
    spec, seen = read_situation(question)
    seen = replace(seen, now_s=NOW_S + later_s)
    decided = plan(spec, seen) if decision is UNCHANGED else decision
    assert decided is None or isinstance(decided, Step | Hold)
    return statuses.compose("kv", spec, seen, diagnose(spec, seen), decided, before or Status(), generation=4)


def condition(status: Status, kind: str) -> Condition:
    return next(one for one in status.conditions if one.type == kind)


def truths(status: Status) -> dict[str, str]:
    return {one.type: one.status for one in status.conditions}


THREE = "plan replicas=3\nkv-0 leader\nkv-1 follower\nkv-2 follower"


def test_cluster_as_specified_is_ready_and_nothing_else() -> None:
    status = composed(THREE)
    assert truths(status) == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "Available": "True",
        "Progressing": "False",
        "Degraded": "False",
    }
    assert {one.observed_generation for one in status.conditions} == {status.observed_generation} == {4}
    assert status.leader == "kv-0"
    assert (status.replicas, status.ready_replicas) == (3, 3)
    assert status.cluster_id == "c1"
    assert status.endpoints == ("http://kv-0:2379", "http://kv-1:2379", "http://kv-2:2379")
    assert status.selector == "kvorum.dev/cluster=kv"
    assert status.plan is not None
    assert status.plan.next is None


@pytest.mark.parametrize(
    ("question", "reason", "true"),
    [
        ("plan replicas=5\nkv-0 leader\nkv-1 follower\nkv-2 follower", "ChangingMembers", {"Reconciling", "Available"}),
        ("plan replicas=3\nkv-0 leader\nkv-1 learner log=10%", "LearnerBehind", {"Reconciling", "Available"}),
        (
            "plan replicas=3\nkv-0 leader\nkv-1 follower\nkv-2 follower silent=4m",
            "MemberUnreachable",
            {"Reconciling", "Available", "Degraded"},
        ),
        (
            "plan replicas=3\nkv-0 leader\nkv-1 follower\nkv-2 follower down no-volume",
            "QuorumAtRisk",
            {"Reconciling", "Available", "Degraded"},
        ),
        (
            "plan replicas=3 list=unknown\nbefore kv-1\nkv-0 follower leaderless\nkv-1 nobody down no-volume",
            "QuorumLost",
            {"Stalled", "Degraded"},
        ),
        (f"{THREE} of=etcd", "Migrating", {"Reconciling", "Available"}),
        ("plan replicas=1 engine=etcd\nkv-0 leader", "TooFewMembers", {"Stalled", "Available"}),
        (f"{THREE} outdated", "Rolling", {"Reconciling", "Available"}),
        (f"{THREE} outdated stopping", "Rolling", {"Reconciling", "Available"}),
        (f"{THREE} stopping", "Waking", {"Reconciling", "Available"}),
        (f"{THREE} held-up=ImageUnavailable,ErrImagePull", "ImageUnavailable", {"Stalled", "Available", "Degraded"}),
        (f"{THREE} held-up=PodRefused,exceeded_quota", "PodRefused", {"Stalled", "Available", "Degraded"}),
        (f"{THREE} held-up=PodUnschedulable,no_room", "PodUnschedulable", {"Reconciling", "Available", "Degraded"}),
        (
            "plan replicas=3 list=unknown\nkv-0 follower leaderless\nkv-1 follower silent=4m\nkv-2 follower silent=4m",
            "QuorumLost",
            {"Reconciling", "Degraded"},
        ),
        ("plan replicas=3\nkv-0 leader\nkv-1 follower other-cluster", "ClusterIDMismatch", {"Stalled", "Degraded"}),
        ("plan replicas=0 no-id list=unknown", "NeverBootstrapped", {"Stalled"}),
        ("plan replicas=3 no-id list=unknown\nrecord-damaged", "RecordDamaged", {"Stalled"}),
        ("plan replicas=1\nrecord-damaged\nkv-0 leader", "RecordDamaged", {"Stalled", "Available"}),
        ("plan replicas=3 no-id list=unknown", "Bootstrapping", {"Reconciling"}),
        ("plan replicas=3 paused\nkv-0 leader", "Paused", {"Available"}),
        ("plan replicas=3\nkv-0 leader\nkv-1 follower\nkv-2 nobody blocked=taken no-volume", "NodeBlocked",
         {"Stalled", "Available"}),
    ],
)  # fmt: skip
def test_cluster_that_is_not_ready_says_why_and_who_has_to_act(question: str, reason: str, true: set[str]) -> None:
    status = composed(question)
    found = truths(status)
    assert {kind for kind, truth in found.items() if truth == "True"} == true | (
        {"Progressing"} if "Reconciling" in true else set()
    )
    assert condition(status, "Ready").reason == reason
    assert not (found["Reconciling"] == "True" and found["Stalled"] == "True"), "kstatus knows one or the other"


def test_engine_of_each_member_is_that_of_its_data() -> None:
    status = composed("plan replicas=3 engine=etcd\nkv-0 leader\nkv-1 follower of=etcd\nkv-2 nobody down no-volume")
    assert [(one.name, one.engine) for one in status.members] == [("kv-0", "kvorum"), ("kv-1", "etcd")]


def test_paused_cluster_that_has_to_change_its_engine_is_not_ready() -> None:
    assert truths(composed(THREE.replace("=3", "=3 engine=etcd paused")))["Ready"] == "False"


def test_paused_cluster_that_has_to_be_rolled_is_not_ready() -> None:
    assert truths(composed(f"{THREE} outdated".replace("=3", "=3 paused")))["Ready"] == "False"


def test_member_whose_data_is_gone_is_not_forgotten_without_a_member_list() -> None:
    """By the status it is known that it had data; who was joining or leaving had none that counts."""
    lost = "plan replicas=3 list=unknown\nkv-0 follower leaderless\nkv-1 nobody down no-volume\nbefore "
    before = composed("plan replicas=3\nkv-0 leader\nkv-1 follower\nkv-2 added\nkv-3 nobody")
    assert statuses.had_data(before) == {"kv-0", "kv-1"}
    for _ in range(2):
        before = composed(lost + " ".join(sorted(statuses.had_data(before))), before)
        assert [(one.name, one.state) for one in before.members] == [("kv-0", "Unreachable"), ("kv-1", "DataLost")]


def test_sleeping_cluster_is_ready_and_not_available() -> None:
    status = composed("plan replicas=0 list=unknown\nkv-0 follower down=was_stopped")
    assert (truths(status)["Ready"], truths(status)["Available"]) == ("True", "False")
    assert condition(status, "Ready").reason == Reason.ASLEEP
    assert status.replicas == 1
    assert status.members[0].state == "Asleep"


def test_paused_cluster_as_specified_is_ready() -> None:
    assert truths(composed(THREE.replace("=3", "=3 paused")))["Ready"] == "True"


@pytest.mark.parametrize(
    ("question", "advice"),
    [
        ("plan replicas=1\nkv-0 leader", "a single member"),
        ("plan replicas=2\nkv-0 leader\nkv-1 follower", "2 survive no more losses than 1"),
    ],
)
def test_ready_message_warns_of_sizes_that_survive_little(question: str, advice: str) -> None:
    assert advice in condition(composed(question), "Ready").message
    assert advice not in condition(composed(THREE), "Ready").message


def test_members_are_joined_by_their_id_and_roles_are_what_they_say() -> None:
    status = composed("plan replicas=5\nkv-0 follower behind=30\nkv-1 leader\nkv-2 learner\nkv-3 follower silent=4m")
    shown = {one.name: (one.id, one.role, one.healthy, one.lag_entries) for one in status.members}
    assert shown == {
        "kv-0": (f"{id_of('kv-0'):x}", "follower", True, 30),
        "kv-1": (f"{id_of('kv-1'):x}", "leader", True, 0),
        "kv-2": (f"{id_of('kv-2'):x}", "learner", True, 0),
        "kv-3": (f"{id_of('kv-3'):x}", None, False, None),
    }
    assert status.leader == "kv-1"


def test_own_word_of_a_member_gives_its_version_and_is_evidence_of_why_it_does_not_serve() -> None:
    status = composed(
        "plan replicas=5\nkv-0 leader says=leader\nkv-1 follower\nkv-2 follower silent=4m says=data-lost\n"
        "kv-3 follower leaderless says=removed\nkv-4 nobody says=removed\nkv-5 follower silent=4m says=starting\n"
        "kv-6 follower says=data-lost"
    )
    assert [(one.version, one.state, one.reason) for one in status.members] == [
        ("0.1.0", "Serving", None),
        ("3.5.30", "Serving", None),
        ("0.1.0", "DataLost", "says data-lost: of itself"),
        ("0.1.0", "DataLost", "says removed: of itself"),
        ("0.1.0", "Leaving", "is no member any more"),
        ("0.1.0", "Unreachable", f"runs since {from_seconds(NOW_S - 240)} and does not answer"),
        ("0.1.0", "Serving", None),
    ]


def test_state_of_a_node_that_its_platform_starts_or_stops_is_said_in_the_platforms_words() -> None:
    status = composed(
        "plan replicas=7\nkv-0 leader\nkv-1 follower held-up=Waking,its_pod_is_being_made\n"
        "kv-2 follower held-up=PodUnschedulable,0/3_nodes_are_available\n"
        "kv-3 follower held-up=MemberFailing,exit_137:_out_of_memory\nkv-4 follower stopping\n"
        "kv-5 added held-up=ImageUnavailable,ErrImagePull\nkv-6 follower outdated"
    )
    assert [(one.state, one.reason) for one in status.members] == [
        ("Serving", None),
        ("Starting", "its pod is being made"),
        ("Down", "0/3 nodes are available"),
        ("Failing", "exit 137: out of memory"),
        ("Stopping", "is being stopped"),
        ("Joining", "ErrImagePull"),
        ("Serving", "runs as an earlier specification says"),
    ]


def test_spread_is_said_of_voters_where_machines_are_known() -> None:
    """Of learners not: they carry no quorum."""
    shared = composed("plan replicas=3\nkv-0 leader host=m1\nkv-1 follower host=m2\nkv-2 follower host=m1")
    assert (condition(shared, "Spread").status, condition(shared, "Spread").message) == (
        "False",
        "kv-0, kv-2 run on m1",
    )
    apart = "plan replicas=3\nkv-0 leader host=m1\nkv-1 follower host=m2\nkv-2 learner log=10% host=m1"
    assert condition(composed(apart), "Spread").status == "True"
    assert "Spread" not in truths(composed(THREE))


def test_ready_says_what_is_wrong_and_what_is_done_about_it() -> None:
    down = "plan replicas=3\nkv-0 leader\nkv-1 follower\nkv-2 follower down=was_killed"
    message = condition(composed(down), "Ready").message
    assert message.startswith("2 of 3 voters serve; kv-2 is Down: was killed; ")
    assert message.endswith("; now: StartNodes kv-2")
    silent = condition(composed(down.replace("down=was_killed", "silent=4m")), "Ready").message
    assert silent.endswith("; waits for kv-2 to answer")


@pytest.mark.parametrize(
    ("question", "leading"),
    [
        (f"{THREE} held-up=ImageUnavailable,ErrImagePull:_no_such_host", "Stalled"),
        (
            "plan replicas=3 no-id list=unknown\nrecord kv-0 kv-1\n"
            "kv-0 follower held-up=ImageUnavailable,ErrImagePull:_no\n"
            "kv-1 follower held-up=ImageUnavailable,ErrImagePull:_no",
            "Stalled",
        ),
        (f"{THREE} held-up=PodUnschedulable,ErrImagePull", "Ready"),
        (
            "plan replicas=3 list=unknown\nkv-0 follower leaderless\nkv-1 follower held-up=MemberFailing,ErrImagePull\n"
            "kv-2 follower held-up=MemberFailing,ErrImagePull",
            "Ready",
        ),
    ],
)
def test_why_a_member_does_not_run_is_said_once_and_the_rest_is_said_as_before(question: str, leading: str) -> None:
    status = composed(question)
    found = {one.type: one.message.count("ErrImagePull") for one in status.conditions}
    assert found == {kind: int(kind == leading) for kind in found}
    assert status.plan is not None
    assert "ErrImagePull" in status.plan.because
    assert "; waits for kv-" in condition(status, "Ready").message
    assert all("kv-" in condition(status, kind).message for kind in ("Ready", "Stalled", "Reconciling"))


def test_since_and_transition_times_stay_until_something_changes() -> None:
    first = composed(THREE)
    same = composed(THREE, first, later_s=60)
    assert same == first
    broken = composed("plan replicas=3\nkv-0 leader\nkv-1 follower\nkv-2 follower silent=4m", same, later_s=120)
    assert broken.members[2].since == from_seconds(NOW_S + 120)
    assert broken.members[1].since == first.members[1].since
    assert condition(broken, "Ready").last_transition_time == from_seconds(NOW_S + 120)
    assert condition(broken, "Available").last_transition_time == from_seconds(NOW_S)
    well = composed(THREE, broken, later_s=180)
    assert truths(well) == truths(first), "every condition is computed anew"


def test_known_cluster_id_is_kept_when_nobody_answers_or_two_do() -> None:
    before = Status(cluster_id="c1")
    assert composed("plan replicas=3 no-id list=unknown\nrecord kv-0", before).cluster_id == "c1"
    assert composed("plan replicas=3 no-id\nkv-0 leader\nkv-1 follower other-cluster", before).cluster_id == "c1"


def test_refused_step_shows_its_hold() -> None:
    until_s = NOW_S + 5
    held = Hold(Reason.CLUSTER_UNSETTLED, "AddLearner kv-1 was refused", "members to be connected", until_s)
    status = composed("plan replicas=3\nkv-0 leader", decision=held)
    assert status.plan is not None
    assert status.plan.waits_for == "members to be connected"
    assert status.plan.until == from_seconds(until_s)
    assert condition(status, "Reconciling").reason == "ClusterUnsettled"


def test_plan_without_a_step_says_that_all_is_well_only_when_it_is() -> None:
    well, unready = composed(THREE).plan, composed(f"{THREE} unready").plan
    assert well is not None
    assert well.because == "all is as specified: 3 of 3 voters serve"
    assert unready is not None
    assert unready.because == "no step is needed: 3 of 3 voters serve; not given to clients yet: kv-2"


def test_plan_names_the_step_and_why() -> None:
    plan_status = composed("plan replicas=3\nkv-0 leader").plan
    assert plan_status is not None
    assert plan_status.next == "AddLearner kv-1"
    assert "spec.replicas is 3" in plan_status.because


def test_busy_and_unchanged_cluster_is_not_worth_writing_for_a_minute() -> None:
    written = composed(THREE)
    figures = [
        one.model_copy(update={"revision": 99, "lag_entries": 7, "database_bytes": 1}) for one in written.members
    ]
    busier = written.model_copy(update={"members": tuple(figures)})
    assert not statuses.worth_writing(busier, written, 0.0, 59.9)
    assert statuses.worth_writing(busier, written, 0.0, 60.0)
    assert not statuses.worth_writing(written, written, 0.0, 1000.0)
    assert statuses.worth_writing(written, None, 0.0, 0.0)
    other = composed("plan replicas=3\nkv-0 leader\nkv-1 follower\nkv-2 follower silent=4m", written)
    assert statuses.worth_writing(other, written, 0.0, 0.1)


def test_joining_members_and_their_time_are_found_again_in_a_status() -> None:
    status = composed("plan replicas=3\nkv-0 leader\nkv-1 added down")
    assert statuses.joining_since(status) == {id_of("kv-1"): NOW_S}
