"""Changes that are made to a cluster under a writer, and what is asserted of each of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

from tests.kubernetes import figures
from tests.kubernetes.checking_writer import CheckingWriter
from tests.kubernetes.chronicle import LeaderWatch
from tests.kubernetes.cluster import Cluster, Sentinel, assert_nothing_lost, move_leader

ENOUGH = 50  # acknowledged writes before and after a change: it happened in the middle of writing
NEAR_S = 2.0


@contextmanager
def under_writer(cluster: Cluster) -> Iterator[CheckingWriter]:
    """A change under a checking writer: sentinels, hashes and every acknowledged write are there after it."""
    sentinel = Sentinel(cluster)
    with CheckingWriter(cluster.chronicle.endpoints) as writer:
        writer.wait_acknowledged(ENOUGH)
        writer.forget_gaps()
        yield writer
        writer.wait_acknowledged(ENOUGH)
    assert_nothing_lost(writer, cluster)
    sentinel.check()


def roll(cluster: Cluster, edit: Callable[[], None], figure: str) -> None:
    """Three members are rolled by an edit: followers first, the leader last and only after another leads."""
    leader = f"{cluster.name}-1"  # neither the first nor the last by ordinal, so that no order by name looks right
    move_leader(cluster, leader)
    before, ids = cluster.uids(), cluster.member_ids()
    urls = {name: cluster.endpoint(name) for name in before}
    with under_writer(cluster) as writer, LeaderWatch(cluster.chronicle) as leaders:
        writer.wait_acknowledged(ENOUGH)
        edit()
        since_s = cluster.applied_s
        cluster.wait(
            lambda: cluster.is_ready(3) and not set(before.values()) & set(cluster.uids().values()),
            "every member runs anew",
            240,
        )
    assert cluster.member_ids() == ids, "a roll changes no member"
    stops = cluster.chronicle.stopped(since_s)
    assert sorted(one.name for one in stops) == sorted(before), f"each pod is stopped once: {stops}"
    assert stops[-1].name == leader, f"the leader {leader} goes last: {stops}"
    for stop in stops:
        near = leaders.leaders_near(stop.at_s)
        assert near - {urls[stop.name]}, f"{stop.name} was stopped while it led"
    told = [
        (str((status.get("plan") or {}).get("next", "")), status.get("leader"))
        for at_s, status in cluster.chronicle.statuses
        if at_s >= since_s
    ]
    asked = [number for number, (step, _) in enumerate(told) if step.startswith(f"HandOver {leader} to ")]
    assert asked, "the leader was asked to hand over"
    led_by = [led for step, led in told[asked[0] :] if step == f"Restart {leader}"]
    assert led_by, "it was stopped after that"
    assert leader not in led_by, "and only once another led"
    for former, later in pairwise(stops):
        back = [
            one
            for one in cluster.chronicle.pod_events
            if one.what == "ready" and one.name == former.name and former.at_s < one.at_s <= later.at_s
        ]
        assert back, f"{later.name} was stopped before {former.name} was ready again"
    figures.note(f"{figure}: longest write gap", writer.largest_gap_s, "s", 1)
    changed_s = max((at_s for at_s, _ in leaders.seen if at_s >= since_s), default=None)
    assert changed_s is not None, "another leader was seen"
    near_it = [gap_s for at_s, gap_s in writer.gaps if abs(at_s - changed_s) < NEAR_S]
    figures.note(f"{figure}: write gap of the planned hand-over", max(near_it, default=0.2), "s", 1)
    assert writer.failed == [], "no write takes longer than a client's patience"


def lose(cluster: Cluster, name: str) -> None:
    """The pod and the volume of a member, at once."""
    cluster.delete_volume(name)  # stays until no pod uses it
    cluster.delete_pod(name)


def wait_replaced(cluster: Cluster, name: str, ids: dict[str, str], replicas: int = 3, deadline_s: float = 240) -> None:
    """It is a voter again under another id, and the others stayed who they were."""
    cluster.wait(
        lambda: cluster.is_ready(replicas) and cluster.member_ids().get(name) not in (None, ids[name]),
        f"{name} is replaced",
        deadline_s,
    )
    now = cluster.member_ids()
    assert {one for one in ids if now.get(one) != ids[one]} == {name}


def assert_only_members_have_data(cluster: Cluster, size: int) -> None:
    """Volumes, pods and the member list name the same members: nothing is left of those removed."""
    names = {f"{cluster.name}-{ordinal}" for ordinal in range(size)}
    cluster.wait(lambda: set(cluster.pods()) == names, f"just the pods of {sorted(names)} run", 60)
    cluster.wait(lambda: set(cluster.volumes()) == names, f"just the volumes of {sorted(names)} are there", 60)
    volumes = cluster.volumes()
    for name, member_id in cluster.member_ids().items():
        assert volumes[name]["metadata"]["labels"].get("kvorum.dev/member-id") == member_id
        assert volumes[name]["metadata"]["labels"].get("kvorum.dev/cluster-id") == cluster.status()["clusterID"]
        assert volumes[name]["metadata"]["labels"].get("kvorum.dev/fresh") is None
