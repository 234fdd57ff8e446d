"""Member files: new, open and sealed (I7), and what of the specification goes into them."""

from dataclasses import replace

import pytest
import yaml
from kvorum_operator.api.v1alpha1 import Settings
from kvorum_operator.objects.member_file import FileState, Place, file_state, member_file, settings_mark

from tests.unit.kvorum_operator.cluster.situations import read_situation

PLACE = Place("/data", "http://0.0.0.0:2379", "http://0.0.0.0:2380")


def content(situation: str, name: str, settings: Settings | None = None) -> dict[str, object]:
    _, seen = read_situation(situation)
    loaded = yaml.safe_load(member_file(name, settings or Settings(), PLACE, seen))
    assert isinstance(loaded, dict)
    return loaded


def test_file_is_new_until_the_cluster_has_an_id_and_names_the_recorded_members() -> None:
    found = content("plan replicas=5 no-id list=unknown\nrecord kv-0 kv-1", "kv-0")
    assert found["initial-cluster"] == "kv-0=http://kv-0:2380,kv-1=http://kv-1:2380"
    assert found["initial-cluster-state"] == "new"
    assert found["initial-cluster-token"] == "local/kv/uid"


@pytest.mark.parametrize("joining", ["added down no-volume", "added", "unstarted down unlabelled"])
def test_file_is_open_for_an_entry_that_never_started_and_names_every_member(joining: str) -> None:
    found = content(f"plan replicas=3\nrecord kv-0\nkv-0 leader\nkv-1 {joining}", "kv-1")
    assert found["initial-cluster"] == "kv-0=http://kv-0:2380,kv-1=http://kv-1:2380"
    assert found["initial-cluster-state"] == "existing"


def test_open_file_names_members_that_are_not_ours_too() -> None:
    found = content("plan replicas=3\nkv-0 leader\nkv-8 follower elsewhere\nkv-1 added", "kv-1")
    assert found["initial-cluster"] == "kv-0=http://kv-0:2380,108=http://kv-8:2380,kv-1=http://kv-1:2380"


@pytest.mark.parametrize(
    "situation",
    [
        "plan replicas=3\nrecord kv-0\nkv-0 leader\nkv-1 follower",
        "plan replicas=3\nrecord kv-0\nkv-0 leader\nkv-1 learner",
        "plan replicas=3\nrecord kv-0\nkv-0 leader\nkv-1 follower down no-volume",
        "plan replicas=3 list=unknown\nrecord kv-0 kv-1\nkv-0 follower leaderless\nkv-1 follower down",
        "plan replicas=3 no-id list=unknown\nkv-1 follower down",
    ],
)
def test_file_is_sealed_from_the_first_start_on_also_without_a_member_list(situation: str) -> None:
    found = content(situation, "kv-1")
    assert found["initial-cluster"] == "sealed=http://kv-1:2380"
    assert found["initial-cluster-state"] == "existing"


def test_first_member_to_answer_does_not_seal_the_files_of_the_others() -> None:
    """Seen with our node: it answers before it has a leader, and the others had not read their files yet."""
    situation = "plan replicas=3 no-id list=unknown\nrecord kv-0 kv-1 kv-2\nkv-0 follower leaderless unlabelled"
    _, seen = read_situation(situation)
    assert seen.answered["kv-0"].cluster_id in seen.cluster_ids
    assert file_state("kv-1", seen) is FileState.NEW


def test_settings_are_etcds_own_keys_and_units() -> None:
    settings = Settings.model_validate(
        {
            "databaseQuota": "128Mi",
            "compaction": {"mode": "Revision", "retention": 1000},
            "heartbeatInterval": "250ms",
            "electionTimeout": "2500ms",
            "logLevel": "warn",
        }
    )
    found = content("plan replicas=1\nrecord kv-0\nkv-0 leader", "kv-0", settings)
    assert found["quota-backend-bytes"] == 134_217_728
    assert found["auto-compaction-mode"] == "revision"
    assert found["auto-compaction-retention"] == "1000"
    assert (found["heartbeat-interval"], found["election-timeout"]) == (250, 2500)
    assert found["log-level"] == "warn"
    assert found["data-dir"] == "/data"
    assert found["listen-client-urls"] == "http://0.0.0.0:2379"
    assert found["advertise-client-urls"] == "http://kv-0:2379"


def test_metrics_have_a_port_of_their_own_only_where_a_place_gives_one() -> None:
    assert "listen-metrics-urls" not in content("plan replicas=1\nrecord kv-0\nkv-0 leader", "kv-0")
    place = replace(PLACE, listen_metrics_url="http://0.0.0.0:2381")
    _, seen = read_situation("plan replicas=1\nrecord kv-0\nkv-0 leader")
    assert "listen-metrics-urls: http://0.0.0.0:2381\n" in member_file("kv-0", Settings(), place, seen)


def test_equal_settings_have_equal_marks_however_they_are_written() -> None:
    assert settings_mark(Settings()) == settings_mark(Settings.model_validate({"electionTimeout": "1000ms"}))
    assert settings_mark(Settings()) != settings_mark(Settings.model_validate({"databaseQuota": "1Gi"}))


def test_old_api_is_served_where_it_is_asked_for_and_nobody_else_is_restarted_for_it() -> None:
    asked = Settings.model_validate({"enableV2": True})
    assert content("plan replicas=1\nrecord kv-0\nkv-0 leader", "kv-0", asked)["enable-v2"] is True
    assert settings_mark(asked) != settings_mark(Settings())
    assert settings_mark(Settings()) == "c264d21c56a9ce77", "the mark of members since before this setting"
