"""What a person sees: every change once, and the table with what to do next."""

import io
from dataclasses import replace

import pytest
from kvorum_operator.api.v1alpha1 import Status
from kvorum_operator.cluster import status as statuses
from kvorum_operator.cluster.diagnosis import diagnose
from kvorum_operator.cluster.plan import plan
from kvorum_operator.cluster.step import Hold
from kvorum_operator.platforms.local.screen import Hints, Lines, drawing
from kvorum_operator.reconcile import Outcome
from rich.console import Console

from tests.unit.kvorum_operator.cluster.situations import read_situation

HINTS = Hints("demo", "/usr/bin/etcdctl --endpoints={endpoints} member list")


def outcome(question: str) -> Outcome:
    spec, seen = read_situation(question)
    diagnosis, decision = diagnose(spec, seen), plan(spec, seen)
    status = statuses.compose("kv", spec, seen, diagnosis, decision, Status(), 1)
    return Outcome(seen, diagnosis, decision, None, status)


THREE = outcome("plan replicas=3\nkv-0 leader\nkv-1 follower\nkv-2 follower behind=12")
FOUR = outcome("plan replicas=4\nkv-0 leader\nkv-1 follower\nkv-2 follower")
SILENT = outcome("plan replicas=3\nkv-0 leader\nkv-1 follower\nkv-2 follower silent=4m")


def drawn(one: Outcome) -> str:
    text = io.StringIO()
    Console(file=text, width=200).print(drawing(HINTS, one))
    return text.getvalue()


def test_lines_tell_each_thing_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(HINTS)
    for one in (SILENT, SILENT, THREE, THREE, SILENT, THREE):
        lines.show(one)
    said = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines() if line[:1].isdigit()]
    assert [one.split()[0] for one in said] == ["hold", "ready", "hold", "ready"]


def test_step_that_is_taken_again_is_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(HINTS)
    lines.show(FOUR)
    lines.show(FOUR)
    assert capsys.readouterr().out.count("AddLearner kv-3") == 2


def test_ready_cluster_is_shown_with_its_endpoints_and_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    Lines(HINTS).show(THREE)
    text = capsys.readouterr().out
    endpoints = "http://kv-0:2379,http://kv-1:2379,http://kv-2:2379"
    assert f"endpoints  {endpoints}" in text
    assert f"try        /usr/bin/etcdctl --endpoints={endpoints} member list" in text
    assert "kv-2    follower  Serving" in text


def test_refused_step_is_shown_as_what_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    held = SILENT.decision
    assert isinstance(held, Hold)
    Lines(HINTS).show(replace(FOUR, refused=held))
    text = capsys.readouterr().out
    assert "step" not in text
    assert "waits for kv-2 to answer" in text


def test_table_shows_members_conditions_and_the_next_step_with_its_reason() -> None:
    text = drawn(FOUR)
    for part in ("demo", "kv-0", "leader", "Serving", "Ready=False", "Available=True"):
        assert part in text
    assert "step   AddLearner kv-3: spec.replicas is 4" in text
    assert "/usr/bin/etcdctl --endpoints=http://kv-0:2379" in text
    silent = drawn(SILENT)
    assert "hold   MemberUnreachable: no answer from kv-2" in silent
    assert "runs since" in silent


def test_cluster_without_a_quorum_offers_no_command() -> None:
    assert "etcdctl" not in drawn(outcome("plan replicas=1 list=unknown\nkv-0 follower silent=4m"))
