"""What follows from an observation, before any policy."""

from dataclasses import replace

from kvorum_operator.cluster.observation import (
    LAG_ENTRIES_MAX,
    WAKING_S_MAX,
    Address,
    Answer,
    Entry,
    Node,
    Observation,
    Volume,
)

BASE = Answer(
    member_id=1,
    cluster_id=0xC1,
    leader=1,
    term=2,
    raft_index=10_000,
    applied_index=10_000,
    revision=1,
    database_bytes=1,
    version="3.5.30",
)
ADDRESSES = {f"kv-{k}": Address(f"kv-{k}", f"http://kv-{k}:2379", f"http://kv-{k}:2380") for k in range(3)}


def seen(*answers: Answer, entries: tuple[Entry, ...] | None = None, **rest: Volume) -> Observation:
    return Observation(
        now_s=0.0,
        addresses=ADDRESSES,
        answered={f"kv-{k}": answer for k, answer in enumerate(answers)},
        entries=entries,
        volumes={volume.name: volume for volume in rest.values()},
    )


def test_member_is_waking_only_for_a_moment_whatever_its_machines_clock_says() -> None:
    def wakes(since_s: float) -> bool:
        return replace(seen(), nodes={"kv-0": Node("kv-0", running=True, since_s=since_s)}).is_waking("kv-0")

    assert wakes(-WAKING_S_MAX + 1)
    assert wakes(2)
    assert not wakes(-WAKING_S_MAX)
    assert not wakes(3600)


def test_leader_is_whom_the_highest_term_names() -> None:
    assert seen(BASE, replace(BASE, member_id=2, leader=2, term=3)).leader == 2
    assert seen(BASE, replace(BASE, member_id=2, leader=0, term=3)).leader == 1
    assert seen().leader == 0


def test_learner_that_names_a_leader_of_the_past_makes_none() -> None:
    learner = replace(BASE, member_id=3, is_learner=True)
    assert seen(replace(BASE, leader=0), learner).leader == 0
    assert seen(replace(BASE, leader=0), learner).healthy == set()
    assert seen(BASE, learner).healthy == {1, 3}


def test_member_is_healthy_when_it_follows_the_leader_of_this_cluster() -> None:
    others = (replace(BASE, member_id=2, leader=0), replace(BASE, member_id=3, cluster_id=0xC2))
    assert seen(BASE, *others).healthy == {1}


def test_id_counts_once_a_leader_is_followed() -> None:
    assert seen(replace(BASE, leader=0)).cluster_id is None
    assert seen(replace(BASE, leader=0)).cluster_ids == {0xC1}
    assert seen(BASE).cluster_id == 0xC1
    assert seen(volume=Volume("kv-0", cluster_id=0xC1)).cluster_id == 0xC1
    assert seen(volume=Volume("kv-0", ours=False, cluster_id=0xC1)).cluster_id is None


def test_lag_is_counted_from_the_leaders_log() -> None:
    behind = replace(BASE, member_id=2, applied_index=BASE.raft_index - LAG_ENTRIES_MAX)
    assert seen(BASE, behind).is_caught_up(2)
    assert not seen(BASE, replace(behind, applied_index=behind.applied_index - 1)).is_caught_up(2)
    assert not seen(BASE).is_caught_up(2), "who does not answer has not"
    assert seen(BASE, replace(BASE, member_id=2, raft_index=99_999, applied_index=99_999)).lag_entries(2) == 0


def test_volume_is_stale_when_a_confirmed_list_has_another_member_in_its_place() -> None:
    entry = Entry(1, "kv-0", ("http://kv-0:2380",), started=True)
    ours = Volume("kv-0", cluster_id=0xC1, member_id=1)
    assert not seen(entries=(entry,)).is_stale(ours)
    assert not seen(entries=(entry,)).is_stale(replace(ours, member_id=None)), "not labelled yet"
    assert seen(entries=(entry,)).is_stale(replace(ours, member_id=2))
    assert seen(entries=()).is_stale(ours)
    assert not seen(entries=None).is_stale(replace(ours, member_id=2)), "nobody confirms it"
    assert not seen(entries=()).is_stale(replace(ours, ours=False)), "not ours to judge"


def test_member_is_named_by_the_list_else_by_a_volume_else_by_its_id() -> None:
    entry = Entry(0xAB, "kv-0", ("http://kv-0:2380",), started=True)
    assert seen(entries=(entry,)).name_of(0xAB) == "kv-0"
    assert seen(volume=Volume("kv-1", member_id=0xAB)).name_of(0xAB) == "kv-1"
    assert seen().name_of(0xAB) == "ab"
