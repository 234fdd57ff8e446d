"""Who leads, by a clock that is told. With a real API server: tests/kubernetes/test_full_controller.py."""

import asyncio
import time

import pytest
from kvorum_operator.controller.lease import DURATION_S, RENEW_DEADLINE_S, Election, Leadership, Record
from kvorum_operator.metrics import Metrics
from kvorum_operator.platforms.kubernetes.client import Client
from kvorum_operator.reconcile import Fenced


def of(holder: str, version: str = "1", duration_s: float = DURATION_S) -> Record:
    return Record(holder, 0, version, duration_s)


def test_lease_of_another_is_taken_only_once_it_did_not_change_for_its_duration() -> None:
    election = Election("me")
    election.see(of("other", "1"), 100)
    assert not election.may_take(100 + DURATION_S - 0.1)
    election.see(of("other", "2"), 114)  # renewed
    election.see(of("other", "2"), 120)  # only looked at
    assert not election.may_take(114 + DURATION_S - 0.1)
    assert election.may_take(114 + DURATION_S)


def test_duration_that_counts_is_the_one_its_holder_wrote() -> None:
    election = Election("me")
    election.see(of("other", duration_s=60), 0)
    assert not election.may_take(59)
    assert election.may_take(60)


def test_lease_that_was_given_back_or_that_nobody_else_took_is_taken_at_once() -> None:
    election = Election("me")
    assert not election.may_take(0), "nothing is known yet"
    election.see(of(""), 0)
    assert election.may_take(0)
    election.see(of("me", "2"), 0)
    assert election.may_take(0)


def test_leader_leads_from_before_its_renewal_left_and_not_a_moment_longer() -> None:
    election = Election("me")
    election.renewed(of("me"), began_s=50)
    assert election.holds(50 + RENEW_DEADLINE_S - 0.01)
    assert not election.holds(50 + RENEW_DEADLINE_S)


def test_leader_stops_before_another_may_begin() -> None:
    assert RENEW_DEADLINE_S < DURATION_S


def test_answer_to_a_renewal_that_comes_after_a_long_sleep_gives_no_lead() -> None:
    election = Election("me")
    election.renewed(of("me", "1"), began_s=0)
    election.renewed(of("me", "2"), began_s=4)  # sent at 4, and read at 64: the process was stopped in between
    assert not election.holds(64)


def test_leader_that_sees_another_holder_stops_at_once() -> None:
    election = Election("me")
    election.renewed(of("me", "1"), began_s=0)
    election.see(of("other", "2"), 1)
    assert not election.holds(1)
    assert not election.may_take(1)


def test_fence_stands_until_the_lease_is_held() -> None:
    async def case() -> None:
        async with Client() as client:
            leadership = Leadership(client, "ns", "lease", "me", time.monotonic, Metrics())
            with pytest.raises(Fenced, match="does not hold the Lease"):
                leadership.fence()
            assert leadership.lost.is_set()
            assert not leadership.led.is_set()

    asyncio.run(case())


def test_leader_that_was_stopped_beyond_its_deadline_has_lost_before_it_takes_the_lease_again() -> None:
    async def case() -> None:
        clock_s = [0.0]
        async with Client() as client:
            leadership = Leadership(client, "ns", "lease", "me", lambda: clock_s[0], Metrics())
            leadership._election.renewed(of("me"), began_s=0)
            leadership._tell()
            assert leadership.led.is_set()
            clock_s[0] = RENEW_DEADLINE_S + 50
            running = asyncio.create_task(leadership.run())
            await asyncio.sleep(0)  # until it asks the API server
            assert leadership.lost.is_set()
            assert not leadership.led.is_set()
            running.cancel()
            await asyncio.wait((running,))

    asyncio.run(case())
