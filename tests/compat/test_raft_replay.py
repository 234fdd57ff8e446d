"""The core prints what etcd's raft prints: every data-driven file of its module, replayed with equal output."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kvorum.raft.replay.__main__ import replay

from tests.kit.go_raft import GoRaftMissing, require_go_raft

FOLDERS = {
    "testdata": """
        async_storage_writes async_storage_writes_append_aba_race campaign campaign_learner_must_vote checkquorum
        confchange_disable_validation confchange_v1_add_single confchange_v1_remove_leader
        confchange_v1_remove_leader_stepdown confchange_v2_add_double_auto confchange_v2_add_double_implicit
        confchange_v2_add_single_auto confchange_v2_add_single_explicit confchange_v2_replace_leader
        confchange_v2_replace_leader_stepdown forget_leader forget_leader_prevote_checkquorum
        forget_leader_read_only_lease_based heartbeat_resp_recovers_from_probing lagging_commit prevote
        prevote_checkquorum probe_and_replicate replicate_pause single_node slow_follower_after_compaction
        snapshot_succeed_via_app_resp snapshot_succeed_via_app_resp_behind
    """,
    "confchange/testdata": """
        joint_autoleave joint_idempotency joint_learners_next joint_safety simple_idempotency simple_promote_demote
        simple_safety update zero
    """,
    "quorum/testdata": "joint_commit joint_vote majority_commit majority_vote",
}
FILES = [f"{folder}/{name}.txt" for folder, names in FOLDERS.items() for name in names.split()]


@pytest.fixture(scope="session")
def go_raft() -> Path:
    """Skips, saying NOT RUN and why, where the module cannot be had."""
    try:
        return require_go_raft()
    except GoRaftMissing as why:
        pytest.skip(f"NOT RUN: {why}")


def test_no_file_is_left_out(go_raft: Path) -> None:
    assert len(FILES) == 28 + 9 + 4
    found = {str(path.relative_to(go_raft)) for folder in FOLDERS for path in (go_raft / folder).iterdir()}
    assert found == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_file_is_replayed_with_equal_output(name: str, go_raft: Path) -> None:
    assert replay(go_raft / name) == []


def test_a_changed_expectation_ends_with_a_difference_and_a_status(go_raft: Path, tmp_path: Path) -> None:
    """As a user runs it: of two files one is changed in one character."""
    for name in ("single_node", "campaign"):
        shutil.copy(go_raft / "testdata" / f"{name}.txt", tmp_path)
    path = tmp_path / "campaign.txt"
    path.chmod(0o644)
    text = path.read_text()
    line = "INFO 1 became leader at term 1"
    assert text.count(line) == 1
    path.write_text(text.replace(line, "INFO 1 became leader at term 2"))
    command = [sys.executable, "-m", "kvorum.raft.replay", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"{tmp_path / 'single_node.txt'}: equal\n" in done.stdout
    assert "-  INFO 1 became leader at term 2\n+  INFO 1 became leader at term 1\n" in done.stdout
