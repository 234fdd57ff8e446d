"""Events: one for each step, refusal and change of a condition, and none for a pass that finds nothing new."""

from dataclasses import replace

import pytest
from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Status
from kvorum_operator.cluster import status as statuses
from kvorum_operator.cluster.diagnosis import diagnose
from kvorum_operator.cluster.events import Event, events_of, uncounted
from kvorum_operator.cluster.plan import plan
from kvorum_operator.cluster.step import Hold
from kvorum_operator.platforms.kubernetes.pods import why_waiting

from tests.unit.kvorum_operator.cluster.situations import read_situation

THREE = "plan replicas=3\nkv-0 leader\nkv-1 follower\nkv-2 follower"


class Story:
    """Passes over one situation after the other, each with the status of the one before."""

    def __init__(self) -> None:
        self.status = Status()

    def goes_on(self, question: str, *, refused: Hold | None = None, generation: int = 1) -> tuple[Event, ...]:
        spec, seen = read_situation(question)
        seen = replace(seen, woken=statuses.served_nobody(self.status))
        decision, before = plan(spec, seen), self.status
        diagnosis = diagnose(spec, seen)
        self.status = statuses.compose("kv", spec, seen, diagnosis, refused or decision, before, generation)
        return events_of(before, self.status, decision, refused, spec)


@pytest.fixture
def story() -> Story:
    return Story()


def types_and_reasons(events: tuple[Event, ...]) -> set[tuple[str, str]]:
    return {(event.type, event.reason) for event in events}


@pytest.mark.parametrize(
    "question",
    [
        THREE,
        f"{THREE} silent=4m",
        f"{THREE} held-up=ImageUnavailable,ErrImagePull",
        f"{THREE} outdated stopping",
        "plan replicas=2\nkv-0 leader host=m1\nkv-1 follower host=m1",
        "plan replicas=0 list=unknown\nkv-0 follower down",
        "plan replicas=3 paused\nkv-0 leader",
    ],
)
def test_pass_over_an_unchanged_cluster_gives_none(story: Story, question: str) -> None:
    story.goes_on(question)
    assert story.goes_on(question) == ()


def test_operator_that_was_started_anew_repeats_nothing_that_the_status_says() -> None:
    earlier, later = Story(), Story()
    earlier.goes_on(f"{THREE} silent=4m")
    later.status = earlier.status
    assert later.goes_on(f"{THREE} silent=4m") == ()


def test_step_is_told_once_by_its_name_with_why(story: Story) -> None:
    story.goes_on(THREE)
    events = story.goes_on("plan replicas=4\nkv-0 leader\nkv-1 follower\nkv-2 follower", generation=2)
    told = "AddLearner kv-3: spec.replicas is 4, the member list has 3"
    assert [event for event in events if event.reason == "AddLearner"] == [Event("Normal", "AddLearner", told)]
    assert [event.message for event in events if told in event.message] == [
        told,
        f"Ready is False, Reconciling is True, Progressing is True: {told}",
    ]


def test_new_cluster_tells_of_its_bootstrap_and_no_trouble(story: Story) -> None:
    events = story.goes_on("plan replicas=3 no-id list=unknown")
    assert types_and_reasons(events) == {("Normal", "Bootstrap")}
    events = story.goes_on("plan replicas=3 no-id list=unknown\nrecord kv-0 kv-1 kv-2")
    assert types_and_reasons(events) == {("Normal", "StartNodes")}


def test_leadership_that_was_not_handed_over_is_a_warning(story: Story) -> None:
    leader = "plan replicas=3\nhand-overs kv-0 3 2s\nkv-0 leader outdated\nkv-1 follower\nkv-2 follower"
    (event,) = (one for one in story.goes_on(leader) if one.reason == "Restart")
    assert event.type == "Warning"
    assert "leadership was not handed over in 3 tries" in event.message


def test_refused_step_is_a_warning_and_told_once(story: Story) -> None:
    refused = Hold(Reason.REQUEST_REFUSED, "AddLearner kv-1 was refused: permission denied", "the members to take it")
    events = story.goes_on("plan replicas=3\nkv-0 leader", refused=refused)
    assert Event("Warning", "RequestRefused", refused.because) in events
    assert "AddLearner" not in {event.reason for event in events}
    assert story.goes_on("plan replicas=3\nkv-0 leader", refused=refused) == ()


def test_step_that_only_comes_early_is_no_warning(story: Story) -> None:
    refused = Hold(Reason.CLUSTER_UNSETTLED, "AddLearner kv-1: the members are not ready for it yet", "5s")
    assert ("Normal", "ClusterUnsettled") in types_and_reasons(
        story.goes_on("plan replicas=3\nkv-0 leader", refused=refused)
    )


def test_member_that_is_lost_is_a_warning_and_its_return_is_told(story: Story) -> None:
    story.goes_on(THREE)
    events = story.goes_on(f"{THREE} silent=4m")
    assert types_and_reasons(events) == {("Warning", "QuorumAtRisk"), ("Normal", "MemberUnreachable")}
    (warning,) = (event for event in events if event.type == "Warning")
    assert warning.message.startswith("Degraded is True: 2 of 3 voters serve; kv-2 is Unreachable: ")
    assert types_and_reasons(story.goes_on(THREE)) == {("Normal", "Healthy")}


def test_loss_of_the_quorum_is_a_warning_of_its_own(story: Story) -> None:
    story.goes_on(f"{THREE} silent=4m")
    events = story.goes_on(
        "plan replicas=3 list=unknown\nkv-0 follower leaderless\nkv-1 follower silent=4m\nkv-2 follower silent=4m"
    )
    assert ("Warning", "QuorumLost") in types_and_reasons(events)


def test_member_that_only_restarts_is_no_warning(story: Story) -> None:
    story.goes_on(THREE)
    for member in ("outdated", "outdated stopping", "held-up=Waking,its_pod_is_being_made", "silent=5s"):
        events = story.goes_on(f"plan replicas=3\nkv-0 leader\nkv-1 follower outdated\nkv-2 follower {member}")
        assert "Warning" not in {event.type for event in events}, member


def test_member_that_fails_in_its_restart_is_a_warning(story: Story) -> None:
    roll = "plan replicas=3\nkv-0 leader outdated\nkv-1 follower outdated\nkv-2 follower"
    story.goes_on(f"{roll} outdated")
    story.goes_on(f"{roll} outdated stopping")
    events = story.goes_on(f"{roll} held-up=MemberFailing,exit_1:_no_such_flag")
    (event,) = (one for one in events if one.reason == "MemberFailing")
    assert event.type == "Warning"
    assert "exit 1: no such flag" in event.message


def crash_loop(start: int, pause: str) -> str:
    """What a pod is held up by, in the words of platforms/kubernetes/pods.py."""
    waiting = {"reason": "CrashLoopBackOff", "message": f"back-off {pause} restarting failed container=member pod=kv-2"}
    ended = {"exitCode": 1, "reason": "Error", "message": "no such flag"}
    member = {"name": "member", "restartCount": start - 1, "state": {"waiting": waiting}}
    why = why_waiting({**member, "lastState": {"terminated": ended}})
    assert why is not None
    assert why.reason is Reason.MEMBER_FAILING
    return why.text


def test_member_that_fails_again_and_again_is_told_of_in_the_same_words(story: Story) -> None:
    """So that whoever makes events of them makes one."""
    told = []
    for start, pause in ((2, "10s"), (3, "20s"), (9, "5m0s")):
        starts = story.goes_on(f"{THREE} silent={start}s")
        assert "started at" not in "".join(one.message for one in starts)
        assert any("kv-2 is Starting; the next loss" in one.message for one in starts)
        words = crash_loop(start, pause).replace(" ", "_")
        told.append(story.goes_on(f"{THREE} held-up=MemberFailing,{words}"))
        assert f"start {start} failed" in next(one for one in story.status.conditions if one.type == "Ready").message
    assert told[1] == told[2]
    (event,) = (one for one in told[1] if one.reason == "MemberFailing")
    assert "kv-2 is Failing: exit 1: no such flag; the next loss stops writes; waits for kv-2 to run" in event.message


def test_process_that_fails_again_and_again_is_told_of_in_the_same_words() -> None:
    holds = [plan(*read_situation(f"{THREE} failing={starts},2s")) for starts in (2, 9)]
    told = {uncounted(hold.because) for hold in holds if isinstance(hold, Hold)}
    assert told == {"kv-2 ended soon after each of its starts: ended with exit code 1"}


def test_what_waits_for_a_person_is_a_warning(story: Story) -> None:
    story.goes_on(THREE)
    events = story.goes_on(f"{THREE} held-up=ImageUnavailable,ErrImagePull")
    (event,) = (one for one in events if one.reason == "ImageUnavailable")
    assert event.type == "Warning"
    assert "Stalled is True" in event.message


def test_voters_that_come_to_share_a_machine_are_a_warning_that_names_them(story: Story) -> None:
    story.goes_on("plan replicas=3\nkv-0 leader host=m1\nkv-1 follower host=m2\nkv-2 follower host=m3")
    (event,) = story.goes_on("plan replicas=3\nkv-0 leader host=m1\nkv-1 follower host=m2\nkv-2 follower host=m1")
    assert event == Event("Warning", "MembersShareNode", "Spread is False: kv-0, kv-2 run on m1")


def test_even_number_of_members_is_warned_of_once_for_each_generation(story: Story) -> None:
    two = "plan replicas=2\nkv-0 leader\nkv-1 follower"
    warning = Event(
        "Warning", "EvenReplicas", "spec.replicas: 2 survive no more losses than 1: an odd number is better"
    )
    assert warning in story.goes_on(two)
    assert story.goes_on(two) == ()
    assert story.goes_on(two, generation=2) == (warning,)
    assert story.goes_on(THREE, generation=3) == ()
    assert ("Warning", "EvenReplicas") not in types_and_reasons(
        story.goes_on("plan replicas=0\nkv-0 leader", generation=4)
    )


ASLEEP = "plan replicas=0 list=unknown\nkv-0 follower down\nkv-1 follower down\nkv-2 follower down"
WAKES = (
    "plan replicas=3 list=unknown\nkv-0 follower down\nkv-1 follower down\nkv-2 follower down",
    "plan replicas=3 list=unknown\nkv-0 follower silent=1s\nkv-1 follower silent=1s\n"
    "kv-2 follower held-up=Waking,made started=1s",
    "plan replicas=3 list=unknown\nkv-0 leader started=4s\nkv-1 follower started=4s\nkv-2 follower silent=3s",
    "plan replicas=3\nkv-0 leader started=5s\nkv-1 follower started=5s\nkv-2 follower silent=4s",
)
SILENT = "plan replicas=3 list=unknown\nkv-0 follower silent=31s\nkv-1 follower silent=31s\nkv-2 follower silent=31s"


@pytest.mark.parametrize("before", [(THREE, ASLEEP), (ASLEEP,), ()], ids=["fell asleep", "asleep", "kept volumes"])
def test_cluster_that_wakes_is_waking_and_no_warning(story: Story, before: tuple[str, ...]) -> None:
    told = [event for question in (*before, *WAKES, THREE) for event in story.goes_on(question)]
    assert "Warning" not in {event.type for event in told}, told
    assert Reason.QUORUM_LOST not in {event.reason for event in told}
    assert (story.status.conditions[0].type, story.status.conditions[0].status) == ("Ready", "True")


@pytest.mark.parametrize("question", WAKES[:3])
def test_cluster_that_wakes_is_neither_degraded_nor_available(story: Story, question: str) -> None:
    story.goes_on(ASLEEP)
    story.goes_on(question)
    found = {one.type: (one.status, one.reason) for one in story.status.conditions}
    assert (found["Available"], found["Degraded"]) == (("False", "Waking"), ("False", "Waking"))
    assert found["Ready"] == found["Stalled"] == ("False", "Waking")
    assert found["Reconciling"] == ("True", "Waking")


def test_cluster_that_does_not_wake_has_lost_its_quorum_and_keeps_saying_so(story: Story) -> None:
    for question in (ASLEEP, *WAKES[:2]):
        story.goes_on(question)
    assert ("Warning", "QuorumLost") in types_and_reasons(story.goes_on(SILENT))
    assert story.goes_on(WAKES[1].replace("silent=1s", "silent=3s")) != (), "the plan has changed"
    assert {one.reason for one in story.status.conditions if one.type == "Available"} == {"QuorumLost"}


def test_cluster_that_served_has_lost_its_quorum_though_its_members_just_start(story: Story) -> None:
    story.goes_on(THREE)
    assert ("Warning", "QuorumLost") in types_and_reasons(story.goes_on(WAKES[1]))
