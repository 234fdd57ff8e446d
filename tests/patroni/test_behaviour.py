"""What the store's troubles may do to PostgreSQL, and what a primary's death does: two Patronis, ttl 30, loop_wait 10.

One life, told in order: first all that must cause no failover, so that the timeline is 1 to the end of that part; then
what must cause one; the mode that outlives a store without a quorum last. Figures are printed (pytest -rP).
"""

import os
import signal
import time

import psutil

from tests.patroni.conftest import Setup
from tests.patroni.pair import Pair, PatroniNode

GAP_S_MAX = 4.0  # a row was not acknowledged for so long while only the store had trouble; on any machine
SLOW_S = 10.0  # what a busy machine may add to a promise
PATIENCE_S = 120.0


class Unchanged:
    """As a context: the primary stays the same process on the same timeline, and the writer notices nothing."""

    def __init__(self, setup: Setup, what: str) -> None:
        self._setup, self._what = setup, what

    def __enter__(self) -> None:
        self._setup.pair.wait_synchronous()
        self._primary = self._setup.pair.primary()
        self._before = identity(self._primary)
        self._since_s = time.monotonic()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            return
        pair, writer = self._setup.pair, self._setup.writer
        wait_heard(pair)
        writer.wait_acknowledged(10)
        gap_s, took_s = writer.said().gap_s(self._since_s), time.monotonic() - self._since_s
        print(f"{self._what}: {took_s:.1f} s, no failover, longest time without a row {gap_s:.2f} s")
        assert pair.primary() is self._primary
        assert identity(self._primary) == self._before
        assert writer.said().failures_since(self._since_s) == []
        assert gap_s < GAP_S_MAX


def identity(node: PatroniNode) -> tuple[int, str]:
    """Differs once PostgreSQL was restarted, or gave its place up and took it again."""
    return node.timeline(), node.query("SELECT pg_postmaster_start_time()")[0]


def wait_heard(pair: Pair) -> None:
    """Until both Patronis have reached the store after this moment: what went before has had its effect."""
    now_s = time.time()
    for node in pair.nodes:
        pair.wait(
            lambda node=node: (node.ask("/patroni") or {}).get("dcs_last_seen", 0) > now_s,
            f"{node.name} reaches the store",
            PATIENCE_S,
        )


def lives_on(setup: Setup) -> None:
    """The store is whole, there is one primary with a synchronous standby, and no acknowledged row is missing."""
    setup.store.wait_ready(3, PATIENCE_S)
    setup.pair.wait_synchronous(PATIENCE_S)
    setup.writer.wait_acknowledged(10)
    assert setup.writer.lost() == []


def set_failsafe(pair: Pair) -> None:
    assert pair.primary().ask("/config", "PATCH", {"failsafe_mode": True}) is not None
    wait_heard(pair)  # they read it
    wait_heard(pair)  # and the primary has told the other, and the store, whom it counts on


def test_death_of_the_stores_leader_is_not_noticed(setup: Setup) -> None:
    leader = setup.store.leader()
    pid = setup.store.pids()[leader]
    with Unchanged(setup, "kill -9 of the store's leader"):
        began_s = time.monotonic()
        setup.store.kill([leader])
        setup.store.wait_other_leader(leader)
        print(f"another member of the store is seen to lead after {time.monotonic() - began_s:.1f} s")
        setup.store.wait_member_back(leader, pid)


def test_restart_of_each_member_of_the_store_is_not_noticed(setup: Setup) -> None:
    with Unchanged(setup, "a restart of each member of the store"):
        for name, pid in setup.store.pids().items():
            os.kill(pid, signal.SIGTERM)
            setup.store.wait_member_back(name, pid)


def test_roll_by_the_operator_is_not_noticed(setup: Setup) -> None:
    before = setup.store.pids()
    with Unchanged(setup, "new settings, rolled by the operator, the leader last"):
        setup.store.edit(settings={**setup.store.spec.get("settings", {}), "logLevel": "warn"})
        setup.store.wait_rolled(before)


def test_change_of_the_stores_engine_is_not_noticed(setup: Setup) -> None:
    """Part of make e2e-patroni-full."""
    here = setup.store.engine
    there = "etcd" if here == "kvorum" else "kvorum"
    for engine in (there, here):
        before = setup.store.pids()
        with Unchanged(setup, f"the store's members become {engine}, one at a time"):
            setup.store.edit(engine=engine)
            setup.store.wait_rolled(before)


def test_none_of_this_made_a_standby_take_over(setup: Setup) -> None:
    assert setup.pair.primary().timeline() == 1
    assert setup.writer.lost() == []


def test_loss_of_the_stores_quorum_demotes_the_primary_within_ttl(setup: Setup) -> None:
    setup.pair.wait_synchronous()
    primary = setup.pair.primary()
    began_s = time.monotonic()
    setup.store.end_members(sorted(setup.store.pids())[:2])
    setup.pair.wait(lambda: not setup.pair.primaries(), "no primary", setup.pair.ttl_s + SLOW_S)
    demoted_s = time.monotonic() - began_s
    print(f"the store without a quorum: {primary.name} is demoted after {demoted_s:.1f} s (ttl {setup.pair.ttl_s:g} s)")
    began_s = time.monotonic()
    setup.store.up()
    setup.pair.wait(setup.pair.primaries, "a primary again", PATIENCE_S)
    print(f"a primary {time.monotonic() - began_s:.1f} s after the operator was started again")
    lives_on(setup)


def test_death_of_the_primary_loses_no_acknowledged_row(setup: Setup) -> None:
    setup.pair.wait_synchronous()
    setup.writer.wait_acknowledged(100)
    old = setup.pair.primary()
    new, timeline = setup.pair.other(old), old.timeline()
    promised_s = setup.pair.ttl_s + setup.pair.loop_wait_s
    began_s = time.monotonic()
    old.kill()
    setup.pair.wait(lambda: new in setup.pair.primaries(), f"{new.name} takes over", promised_s + SLOW_S)
    took_s = time.monotonic() - began_s
    setup.writer.wait_acknowledged(100)
    print(
        f"kill -9 of the primary: {new.name} is the primary after {took_s:.1f} s (ttl + loop_wait {promised_s:g} s), "
        f"rows after {setup.writer.said().gap_s(began_s):.1f} s"
    )
    assert new.timeline() > timeline
    lost, acknowledged = setup.writer.lost(), len(setup.writer.said().acknowledged)
    print(f"of {acknowledged} acknowledged rows {len(lost)} are lost")
    assert lost == []
    old.start()
    lives_on(setup)
    assert psutil.pid_exists(new.postmaster().pid)  # type: ignore[union-attr]  # it runs


def test_loss_of_the_stores_quorum_is_outlived_in_failsafe_mode(setup: Setup) -> None:
    set_failsafe(setup.pair)
    with Unchanged(setup, "the store without a quorum for longer than ttl + loop_wait, in failsafe mode"):
        setup.store.end_members(sorted(setup.store.pids())[:2])
        until_s = time.monotonic() + setup.pair.ttl_s + setup.pair.loop_wait_s
        setup.pair.wait(lambda: time.monotonic() > until_s, "ttl and loop_wait are over", 2 * setup.pair.ttl_s)
        assert setup.pair.primary().query("SELECT pg_is_in_recovery()") == ["f"]
        setup.store.up()
    lives_on(setup)
