"""The guard trusts no rule: wishes that no rule has are objected to as well, by the number of the invariant."""

import pytest
from kvorum_operator.api.reasons import Reason
from kvorum_operator.cluster import guard
from kvorum_operator.cluster.step import (
    AddLearner,
    Bootstrap,
    Discard,
    HandOver,
    Hold,
    PromoteMember,
    RemoveMember,
    Restart,
    StartNodes,
    Step,
    StopNodes,
)

from tests.unit.kvorum_operator.cluster.situations import id_of, read_situation


def add(name: str) -> Step:
    return AddLearner(because="", name=name, peer_url=f"http://{name}:2380")


def promote(name: str) -> Step:
    return PromoteMember(because="", name=name, member_id=id_of(name))


def remove(name: str, member_id: int | None = None) -> Step:
    return RemoveMember(because="", name=name, member_id=member_id or id_of(name))


def start(*names: str) -> Step:
    return StartNodes(because="", names=names)


def stop(*names: str) -> Step:
    return StopNodes(because="", names=names)


def restart(name: str, uid: str = "") -> Step:
    return Restart(because="", name=name, uid=uid)


def hand_over(leader: str, to: str) -> Step:
    return HandOver(because="", leader=id_of(leader), leader_name=leader, to=id_of(to), to_name=to)


def discard(name: str, member_id: int | None) -> Step:
    return Discard(because="", name=name, member_id=member_id)


def bootstrap(*names: str) -> Step:
    return Bootstrap(because="", members=names)


THREE = "kv-0 leader\nkv-1 follower\nkv-2 follower"
OUTDATED = "kv-0 leader outdated\nkv-1 follower outdated\nkv-2 follower outdated"
OBJECTED = [
    # I1, I2, I3: who serves is restarted while the rest carries on.
    ("I1", "replicas=3 list=unknown", OUTDATED, restart("kv-2")),
    ("I1", "replicas=4", f"{OUTDATED}\nkv-3 added", restart("kv-2")),
    ("I1", "replicas=4", f"{OUTDATED}\nkv-3 learner outdated", restart("kv-3")),
    ("I1", "replicas=2", "kv-0 leader\nkv-1 follower outdated silent=9h", restart("kv-1")),
    ("I2", "replicas=0", OUTDATED, restart("kv-2")),
    ("I2", "replicas=3", THREE, restart("kv-2")),
    ("I2", "replicas=3", OUTDATED, restart("kv-2", "another")),
    ("I2", "replicas=3", f"{OUTDATED} stopping", restart("kv-2")),
    ("I2", "replicas=3", f"{OUTDATED} stopping", restart("kv-1")),
    ("I2", "replicas=3", f"{OUTDATED}\nkv-3 nobody stopping", restart("kv-1")),
    ("I2", "replicas=3", "kv-0 leader\nkv-1 follower outdated\nkv-2 follower down", restart("kv-1")),
    ("I2", "replicas=3", "kv-0 leader\nkv-1 follower outdated\nkv-2 follower behind=5001", restart("kv-1")),
    ("I2", "replicas=3", "kv-0 leader\nkv-1 follower outdated\nkv-2 follower no-volume", restart("kv-1")),
    ("I2", "replicas=2", "kv-0 follower behind=5001\nkv-1 leader outdated", restart("kv-1")),
    ("I2", "replicas=1", "kv-0 leader\nkv-1 nobody outdated", restart("kv-1")),
    ("I2", "replicas=3", f"{THREE} silent=1m says=data-lost", restart("kv-2")),
    ("I2", "replicas=3", "kv-0 leader\nkv-1 follower\nkv-2 unstarted says=starting", restart("kv-2")),
    ("I3", "replicas=3", OUTDATED, restart("kv-0")),
    ("I3", "replicas=2\nhand-overs kv-0 2 9s", "kv-0 leader outdated\nkv-1 follower", restart("kv-0")),
    # I8: silence is no word of whether others rely on it.
    ("I1", "replicas=3 list=unknown", "kv-0 follower silent=9h outdated\nkv-1 follower silent=9h", restart("kv-0")),
    (
        "I1",
        "replicas=3 list=unknown",
        "kv-0 follower silent=9h outdated unready\nkv-1 follower silent=9h ready",
        restart("kv-0"),
    ),
    (
        "I2",
        "replicas=5",
        "kv-0 leader\nkv-1 follower\nkv-2 follower outdated\nkv-3 follower silent=9h unready\nkv-4 follower down",
        restart("kv-2"),
    ),
    # I4: a record that cannot be read is no reason to begin again.
    ("I4", "replicas=3 no-id list=unknown", "record-damaged", bootstrap("kv-0")),
    # I1: one change at a time, and a quorum before and after it.
    ("I1", "replicas=5", "kv-0 leader\nkv-1 learner", add("kv-2")),
    ("I1", "replicas=5", "kv-0 leader\nkv-1 added", add("kv-2")),
    ("I1", "replicas=5", "kv-0 leader\nkv-1 unstarted down", add("kv-2")),
    ("I1", "replicas=1", "kv-0 leader\nkv-1 follower\nkv-2 learner", remove("kv-1")),
    ("I1", "replicas=5", "kv-0 leader\nkv-1 learner\nkv-2 learner", promote("kv-1")),
    ("I1", "replicas=5 list=unknown", THREE, add("kv-3")),
    ("I1", "replicas=5", "kv-0 leader\nkv-1 follower down\nkv-2 follower down", add("kv-3")),
    ("I1", "replicas=5", "kv-0 leader\nkv-1 follower down", add("kv-2")),
    ("I1", "replicas=3", "kv-0 leader\nkv-1 learner silent=1m", promote("kv-1")),
    (
        "I1",
        "replicas=3",
        "kv-0 leader\nkv-1 follower\nkv-2 follower down\nkv-3 follower down\nkv-4 follower",
        remove("kv-4"),
    ),
    ("I1", "replicas=0", "kv-0 leader", remove("kv-0")),
    # I2: many go down together only to sleep, and what stays has caught up.
    ("I2", "replicas=3", THREE, stop("kv-0")),
    ("I2", "replicas=3", THREE, start("kv-0")),
    ("I2", "replicas=1", "kv-0 leader\nkv-1 follower behind=5001\nkv-2 follower", remove("kv-2")),
    ("I2", "replicas=1", "kv-0 leader\nkv-1 follower behind=5001\nkv-2 follower silent=1m", remove("kv-2")),
    (
        "I1",
        "replicas=3",
        "kv-0 leader\nkv-1 follower no-volume\nkv-2 follower down no-volume\nkv-3 follower",
        remove("kv-3"),
    ),
    # I2, I6: who changes its engine has all others beside it, caught up, and two of them.
    ("I2", "replicas=1 engine=etcd", "kv-0 leader", remove("kv-0")),
    ("I2", "replicas=2 engine=etcd", "kv-0 leader\nkv-1 follower", remove("kv-1")),
    ("I2", "replicas=3 engine=etcd", "kv-0 leader\nkv-1 follower", remove("kv-1")),
    ("I2", "replicas=3 engine=etcd", THREE + " of=etcd behind=5001", remove("kv-1")),
    ("I2", "replicas=5 engine=etcd", f"{THREE}\nkv-3 follower\nkv-4 follower silent=1s", remove("kv-1")),
    ("I2", "replicas=5 engine=etcd", f"{THREE}\nkv-3 follower\nkv-4 follower no-volume", remove("kv-1")),
    ("I6", "replicas=3 engine=etcd engine-blocked=gone", THREE, remove("kv-1")),
    ("I3", "replicas=3 engine=etcd", THREE, remove("kv-0")),
    ("I1", "replicas=4 engine=etcd", f"{THREE}\nkv-3 learner of=etcd", remove("kv-2")),
    # I3: leaders hand over first, to somebody who can lead.
    ("I3", "replicas=1", "kv-0 follower\nkv-1 leader", remove("kv-1")),
    ("I3", "replicas=1", "kv-0 follower\nkv-1 leader silent=1s\nkv-2 follower", remove("kv-1")),
    ("I3", "replicas=1\nhand-overs kv-1 2 1s", "kv-0 follower\nkv-1 leader", remove("kv-1")),
    ("I3", "replicas=1", "kv-0 leader\nkv-1 follower", hand_over("kv-1", "kv-0")),
    ("I3", "replicas=1", "kv-0 follower behind=5001\nkv-1 leader", hand_over("kv-1", "kv-0")),
    ("I3", "replicas=1", "kv-0 follower silent=1s\nkv-1 leader\nkv-2 follower", hand_over("kv-1", "kv-0")),
    ("I3", "replicas=1", "kv-0 learner\nkv-1 leader", hand_over("kv-1", "kv-0")),
    # I4: begun once, and frozen with two ids.
    ("I4", "replicas=3", "", bootstrap("kv-0")),
    ("I4", "replicas=3 no-id list=unknown\nrecord kv-0", "", bootstrap("kv-0")),
    ("I4", "replicas=3 no-id list=unknown", "kv-5 follower down", bootstrap("kv-0")),
    ("I4", "replicas=3 no-id list=unknown", "kv-5 nobody down unlabelled", bootstrap("kv-0")),
    ("I4", "replicas=3 no-id list=unknown\nrecord kv-0", "", start("kv-1")),
    ("I4", "replicas=0", "kv-0 leader\nkv-1 follower other-cluster", stop("kv-0")),
    ("I4", "replicas=3", "kv-0 leader\nkv-1 follower other-cluster\nkv-2 follower down", start("kv-2")),
    # I5: only members start; from zero those that the volumes name.
    ("I5", "replicas=0 no-id", "", bootstrap()),
    ("I5", "replicas=3", "kv-0 leader", start("kv-1")),
    ("I5", "replicas=3 list=unknown", "kv-0 follower down", start("kv-1")),
    ("I5", "replicas=3 list=unknown", "kv-1 nobody down unlabelled", start("kv-1")),
    ("I5", "replicas=0", "kv-0 follower down", start("kv-0")),
    ("I5", "replicas=3", THREE, add("kv-2")),
    ("I5", "replicas=3", THREE, promote("kv-2")),
    ("I5", "replicas=3", "kv-0 leader\nkv-1 added", promote("kv-1")),
    # I6, I7: nothing joins on a leftover, nothing that voted comes back empty.
    ("I6", "replicas=3", "kv-0 leader\nkv-1 nobody down", add("kv-1")),
    ("I6", "replicas=3", "kv-0 leader\nkv-1 nobody down foreign-volume", add("kv-1")),
    ("I6", "replicas=3", "kv-0 leader\nkv-1 added down stale-volume", start("kv-1")),
    ("I7", "replicas=3", "kv-0 leader\nkv-1 follower down no-volume", start("kv-1")),
    ("I7", "replicas=3", "kv-0 leader\nkv-1 learner down no-volume", start("kv-1")),
    ("I7", "replicas=3", "kv-0 leader\nkv-1 follower down stale-volume", start("kv-1")),
    # I8: nothing destructive from missing information.
    ("I8", "replicas=1 list=unknown", "kv-0 leader\nkv-1 nobody", discard("kv-1", id_of("kv-1"))),
    ("I8", "replicas=1", "kv-0 leader\nkv-1 nobody foreign-volume", discard("kv-1", None)),
    ("I8", "replicas=1", "kv-0 leader\nkv-1 follower", discard("kv-1", id_of("kv-1"))),
    ("I8", "replicas=1", "kv-0 leader\nkv-1 follower no-volume", discard("kv-1", None)),
    ("I8", "replicas=1", "kv-0 leader\nkv-1 follower stale-volume", discard("kv-1", 0x800 + id_of("kv-1"))),
    ("I8", "replicas=1", "kv-0 leader\nkv-1 nobody", discard("kv-1", 0x777)),
    ("I8", "replicas=1", "kv-0 leader\nkv-1 nobody labelled=kv-0", discard("kv-1", id_of("kv-0"))),
    ("I8", "replicas=3", THREE, remove("kv-2")),
    ("I8", "replicas=3", "kv-0 leader\nkv-1 follower silent=9m\nkv-2 follower", remove("kv-1")),
    ("I8", "replicas=3", "kv-0 leader\nkv-1 learner", remove("kv-1")),
    ("I8", "replicas=3", "kv-0 leader\nkv-1 added down since=299s", remove("kv-1")),
    ("I8", "replicas=1", "kv-0 leader\nkv-1 follower", remove("kv-1", 0x777)),
    # I1, I8: who is lost is replaced while a quorum holds, and nobody is by what a member that serves says.
    ("I1", "replicas=3 list=unknown", "kv-0 leader\nkv-1 nobody down no-volume", remove("kv-1")),
    ("I1", "replicas=2", "kv-0 leader\nkv-1 follower emptied", remove("kv-1")),
    ("I1", "replicas=1", "kv-0 leader no-volume", remove("kv-0")),
    ("I8", "replicas=3", f"{THREE} says=corrupt", remove("kv-2")),
    ("I8", "replicas=3", f"{THREE} silent=9h says=no-quorum", remove("kv-2")),
    ("I8", "replicas=3", f"{THREE} down foreign-volume", remove("kv-2")),
    ("I8", "replicas=3", f"{THREE} stale-volume", remove("kv-2")),
    ("I8", "replicas=3", f"{THREE} silent=1s foreign-volume says=corrupt", remove("kv-2")),
    ("I8", "replicas=3", f"{THREE} foreign-volume emptied", remove("kv-2")),
    ("I8", "replicas=3 engine-blocked=gone", "kv-0 leader\nkv-1 learner of=etcd", remove("kv-1")),
    ("I8", "replicas=1", "kv-0 leader\nkv-1 follower\nkv-8 follower elsewhere", remove("kv-8")),
]


@pytest.mark.parametrize(("invariant", "head", "members", "wish"), OBJECTED)
def test_wish_against_an_invariant_becomes_a_hold_that_names_it(
    invariant: str, head: str, members: str, wish: Step
) -> None:
    spec, seen = read_situation(f"plan {head}\n{members}")
    objection = guard.objection(wish, spec, seen)
    assert objection is not None, f"{wish} was permitted"
    assert objection.because.endswith(f" ({invariant})"), objection.because


PERMITTED = [
    ("replicas=3", OUTDATED, restart("kv-2")),
    ("replicas=5", f"{OUTDATED}\nkv-3 follower\nkv-4 follower down", restart("kv-2")),
    ("replicas=3\nhand-overs kv-0 3 1s", OUTDATED, restart("kv-0")),
    ("replicas=3", f"{OUTDATED} down", restart("kv-2")),
    ("replicas=3", f"{OUTDATED} silent=9h", restart("kv-2")),
    ("replicas=3 list=unknown", f"{OUTDATED} held-up=ImageUnavailable", restart("kv-2")),
    ("replicas=3 list=unknown", "kv-0 follower silent=9h outdated unready", restart("kv-0")),
    ("replicas=4", f"{OUTDATED}\nkv-3 added outdated held-up=ImageUnavailable", restart("kv-3")),
    ("replicas=4", f"{OUTDATED}\nkv-3 added outdated", restart("kv-3")),
    ("replicas=2", "kv-0 leader\nkv-1 follower outdated", restart("kv-1")),
    ("replicas=1", "kv-0 leader outdated", restart("kv-0")),
    ("replicas=3", "kv-0 leader\nkv-1 follower\nkv-2 unstarted says=data-lost", restart("kv-2")),
    ("replicas=3 no-id", "", bootstrap("kv-0", "kv-1", "kv-2")),
    ("replicas=5", THREE, add("kv-3")),
    ("replicas=3", "kv-0 leader\nkv-1 learner", promote("kv-1")),
    ("replicas=1", "kv-0 leader\nkv-1 follower", remove("kv-1")),
    ("replicas=1\nhand-overs kv-1 3 1s", "kv-0 follower\nkv-1 leader", remove("kv-1")),
    ("replicas=2", "kv-0 leader\nkv-1 follower\nkv-2 follower down", remove("kv-2")),
    ("replicas=3", "kv-0 leader\nkv-1 added down since=300s", remove("kv-1")),
    ("replicas=3", "kv-0 leader\nkv-1 learner down no-volume", remove("kv-1")),
    ("replicas=3", "kv-0 leader\nkv-1 learner of=etcd", remove("kv-1")),
    ("replicas=3", f"{THREE} emptied", remove("kv-2")),
    ("replicas=3", f"{THREE} silent=1s says=data-lost", remove("kv-2")),
    ("replicas=3", "kv-0 leader\nkv-1 follower\nkv-2 unstarted says=data-lost", remove("kv-2")),
    ("replicas=3 engine=etcd", THREE, remove("kv-1")),
    ("replicas=1 engine=etcd\nhand-overs kv-0 3 1s", THREE, remove("kv-0")),
    ("replicas=1", "kv-0 follower\nkv-1 leader", hand_over("kv-1", "kv-0")),
    ("replicas=1", "kv-0 leader\nkv-1 nobody", discard("kv-1", id_of("kv-1"))),
    ("replicas=2", "kv-0 leader\nkv-1 added stale-volume", discard("kv-1", 0x800 + id_of("kv-1"))),
    ("replicas=3 list=unknown", "kv-0 follower down\nkv-1 follower down", start("kv-0", "kv-1")),
    ("replicas=0", THREE, stop("kv-1", "kv-2", "kv-0")),
]


@pytest.mark.parametrize(("head", "members", "wish"), PERMITTED)
def test_wish_that_keeps_every_invariant_is_permitted(head: str, members: str, wish: Step) -> None:
    spec, seen = read_situation(f"plan {head}\n{members}")
    assert guard.objection(wish, spec, seen) is None


def test_unknown_member_list_is_not_told_as_an_empty_one() -> None:
    spec, seen = read_situation("plan replicas=5 list=unknown\nkv-0 leader")
    objection = guard.objection(add("kv-1"), spec, seen)
    assert objection is not None
    assert objection.because == "no quorum confirms the member list (I1)"


def test_leftover_of_ours_goes_by_itself_and_a_volume_of_somebody_elses_needs_a_person() -> None:
    for volume, reason in (("", Reason.CHANGE_PENDING), ("foreign-volume", Reason.FOREIGN_VOLUME)):
        spec, seen = read_situation(f"plan replicas=3\nkv-0 leader\nkv-1 nobody down {volume}")
        objection = guard.objection(add("kv-1"), spec, seen)
        assert objection is not None
        assert objection.reason is reason


def test_wish_to_do_nothing_is_always_permitted() -> None:
    spec, seen = read_situation("plan replicas=3\nkv-0 leader\nkv-1 follower other-cluster")
    assert guard.objection(None, spec, seen) is None
    assert guard.objection(Hold(Reason.PAUSED, ""), spec, seen) is None


def test_every_kind_of_step_is_judged() -> None:
    # By name: a dataclass with slots is made twice, and the first one remains as a subclass.
    assert {one.__name__ for one in guard.OBJECTIONS} == {one.__name__ for one in Step.__subclasses__()}
