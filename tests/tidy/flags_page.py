"""docs/flags.md, out of the node's table of flags: what becomes of each, and the test that shows it.

Which test shows a flag is a fact of this repository and not of the node, so it stands here.
"""

from kvorum.flags import FLAGS, GROUPS, OWN, Flag, Status, variable

CONFIG = "tests/unit/kvorum/test_config.py"
SNAPSHOTS = "tests/e2e/test_snapshots.py"
GATEWAY = "tests/e2e/test_gateway_flags.py::test_hosts_origins_and_the_gateway_are_as_the_flags_say"
AUTH = "tests/e2e/test_auth_flags.py"
TLS = "tests/e2e/test_tls.py"
MIXED_TLS = "tests/compat/test_mixed_tls.py::test_members_check_each_others_certificates"
CERTIFICATES = "tests/unit/kvorum/test_certificates.py"
LEASES = "tests/unit/kvorum/server/test_lessor.py"
SERVER = "tests/unit/kvorum/server/test_server.py"
EFFECT = "tests/e2e/test_flags.py"  # on a running node, and on a real etcd beside it

REFUSED_BY = f"{CONFIG}::test_what_is_not_supported_yet_is_refused_by_name"
IGNORED_BY = f"{CONFIG}::test_what_is_ignored_is_said_in_a_warning"

SHOWN_BY = {
    "name": f"{EFFECT}::test_a_member_is_listed_with_its_name_and_urls",
    "data-dir": f"{EFFECT}::test_data_lies_where_it_is_told_to",
    "wal-dir": f"{EFFECT}::test_the_log_lies_where_it_is_told_to",
    "heartbeat-interval": f"{EFFECT}::test_ticks_are_advanced_before_the_first_election_if_asked",
    "election-timeout": f"{EFFECT}::test_ticks_are_advanced_before_the_first_election_if_asked",
    "initial-election-tick-advance": f"{EFFECT}::test_ticks_are_advanced_before_the_first_election_if_asked",
    "listen-peer-urls": f"{EFFECT}::test_clients_and_members_are_answered_at_every_url",
    "listen-client-urls": f"{EFFECT}::test_clients_and_members_are_answered_at_every_url",
    "listen-metrics-urls": f"{EFFECT}::test_metrics_and_health_answer_at_a_port_of_their_own",
    "snapshot-count": f"{EFFECT}::test_a_snapshot_is_taken_after_so_many_entries",
    "max-snapshots": f"{SNAPSHOTS}::test_snapshots_and_log_files_come_and_go_as_the_flags_say",
    "max-wals": f"{SNAPSHOTS}::test_snapshots_and_log_files_come_and_go_as_the_flags_say",
    "experimental-snapshot-catchup-entries": f"{SNAPSHOTS}::test_a_member_behind_the_log_is_caught_up_over_the_network",
    "quota-backend-bytes": f"{EFFECT}::test_writes_above_the_quota_are_refused",
    "backend-batch-interval": f"{EFFECT}::test_commits_wait_for_their_interval",
    "backend-batch-limit": f"{EFFECT}::test_a_commit_follows_every_so_many_operations",
    "max-txn-ops": f"{EFFECT}::test_a_transaction_of_too_many_operations_is_refused",
    "max-request-bytes": f"{EFFECT}::test_a_request_that_is_too_large_is_refused",
    "max-concurrent-streams": f"{EFFECT}::test_a_connection_is_told_how_many_streams_it_may_have",
    "grpc-keepalive-min-time": f"{EFFECT}::test_a_client_that_pings_too_often_is_sent_away",
    "grpc-keepalive-interval": f"{EFFECT}::test_a_silent_connection_is_pinged_and_kept_while_it_answers",
    "grpc-keepalive-timeout": f"{EFFECT}::test_a_connection_that_does_not_answer_pings_is_closed",
    "socket-reuse-port": f"{EFFECT}::test_two_nodes_may_share_a_port_only_if_both_say_so",
    "socket-reuse-address": f"{EFFECT}::test_a_port_just_left_is_taken_again_at_once",
    "initial-advertise-peer-urls": f"{EFFECT}::test_a_member_is_listed_with_its_name_and_urls",
    "initial-cluster": f"{EFFECT}::test_the_members_of_the_initial_cluster_find_each_other",
    "initial-cluster-state": f"{EFFECT}::test_a_member_of_an_existing_cluster_does_not_bootstrap",
    "initial-cluster-token": f"{EFFECT}::test_the_token_makes_the_cluster_another",
    "advertise-client-urls": f"{EFFECT}::test_a_member_is_listed_with_its_name_and_urls",
    "strict-reconfig-check": f"{EFFECT}::test_a_change_that_endangers_the_quorum_is_refused_if_checked",
    "pre-vote": f"{EFFECT}::test_with_pre_vote_a_member_without_quorum_leaves_the_term_alone",
    "auto-compaction-retention": f"{EFFECT}::test_old_revisions_go_after_the_retention",
    "auto-compaction-mode": "tests/unit/kvorum/server/test_server.py::test_history_is_compacted_by_itself",
    "logger": f"{EFFECT}::test_logs_are_json_with_level_time_and_message",
    "log-outputs": f"{EFFECT}::test_logs_go_where_they_are_told_to",
    "log-level": f"{EFFECT}::test_logs_hold_what_is_as_grave_as_asked",
    "listen-client-http-urls": f"{EFFECT}::test_plain_http_leaves_the_client_urls_for_those_of_its_own",
    "raft-read-timeout": "tests/unit/kvorum/peer/test_wiring.py::test_timings_follow_from_two_timeouts_as_in_etcd",
    "raft-write-timeout": "tests/unit/kvorum/peer/test_wiring.py::test_timings_follow_from_two_timeouts_as_in_etcd",
    "experimental-enable-lease-checkpoint": f"{LEASES}::test_what_long_leases_have_left_is_told_each_five_minutes",
    "experimental-enable-lease-checkpoint-persist": (
        "tests/unit/kvorum/state/test_leases.py::test_a_checkpoint_is_known_after_a_restart_if_it_is_persisted"
    ),
    "experimental-compaction-batch-limit": f"{SERVER}::test_compaction_goes_in_batches_with_a_pause_between_them",
    "experimental-compaction-sleep-interval": f"{SERVER}::test_compaction_goes_in_batches_with_a_pause_between_them",
    "experimental-stop-grpc-service-on-defrag": (
        f"{EFFECT}::test_health_says_not_serving_while_the_store_is_defragmented_if_asked"
    ),
    "metrics": "tests/e2e/test_metrics.py::test_how_long_calls_take_is_told_on_request_alone",
    "enable-v2": "tests/e2e/test_v2.py::test_v2_keys_and_a_stage_that_forbids_them_exclude_each_other",
    "v2-deprecation": "tests/e2e/test_v2.py::test_v2_keys_and_a_stage_that_forbids_them_exclude_each_other",
    "enable-pprof": "tests/e2e/test_debug.py::test_profiles_are_served_at_the_client_url_alone_and_only_if_asked_for",
    "experimental-watch-progress-notify-interval": f"{EFFECT}::test_an_idle_watcher_is_told_the_revision",
    "experimental-warning-apply-duration": f"{EFFECT}::test_a_request_that_is_slow_to_apply_is_logged",
    "experimental-initial-corrupt-check": "tests/e2e/test_corruption.py::test_a_member_with_other_keys_does_not_start",
    "experimental-corrupt-check-time": "tests/e2e/test_corruption.py::test_a_flipped_value_raises_the_alarm",
    "experimental-compact-hash-check-enabled": "tests/e2e/test_corruption.py::test_a_flipped_value_raises_the_alarm",
    "experimental-compact-hash-check-time": "tests/e2e/test_corruption.py::test_a_flipped_value_raises_the_alarm",
    "auth-token": f"{AUTH}::test_tokens_are_signed_by_the_method_asked_for",
    "auth-token-ttl": f"{AUTH}::test_a_simple_token_ends_when_it_is_not_used_for_its_time",
    "bcrypt-cost": f"{AUTH}::test_passwords_are_kept_as_hashes_of_the_cost_asked_for",
    "cert-file": f"{TLS}::test_a_certificate_is_shown_and_http_is_spoken_in_both_versions",
    "key-file": f"{TLS}::test_a_certificate_is_shown_and_http_is_spoken_in_both_versions",
    "client-cert-file": f"{CERTIFICATES}::test_what_cannot_be_is_named_by_flag",
    "client-key-file": f"{CERTIFICATES}::test_what_cannot_be_is_named_by_flag",
    "client-cert-auth": f"{TLS}::test_with_client_cert_auth_only_certificates_of_the_authority_come_in",
    "client-crl-file": f"{TLS}::test_with_client_cert_auth_only_certificates_of_the_authority_come_in",
    "trusted-ca-file": f"{TLS}::test_with_client_cert_auth_only_certificates_of_the_authority_come_in",
    "client-cert-allowed-cn": "tests/e2e/test_config_file.py::test_a_file_may_name_whom_a_client_must_be",
    "client-cert-allowed-hostname": f"{TLS}::test_only_a_certificate_with_an_allowed_hostname_comes_in",
    "auto-tls": f"{TLS}::test_auto_tls_makes_certificates_once_and_keeps_them",
    "self-signed-cert-validity": f"{TLS}::test_auto_tls_makes_certificates_once_and_keeps_them",
    "peer-cert-file": f"{TLS}::test_a_member_without_a_certificate_that_will_do_is_kept_out",
    "peer-key-file": f"{TLS}::test_a_member_without_a_certificate_that_will_do_is_kept_out",
    "peer-client-cert-auth": f"{TLS}::test_a_member_without_a_certificate_that_will_do_is_kept_out",
    "peer-trusted-ca-file": f"{TLS}::test_a_member_without_a_certificate_that_will_do_is_kept_out",
    "peer-cert-allowed-cn": f"{TLS}::test_a_member_without_a_certificate_that_will_do_is_kept_out",
    "peer-client-cert-file": MIXED_TLS,
    "peer-client-key-file": MIXED_TLS,
    "peer-crl-file": MIXED_TLS,
    "peer-cert-allowed-hostname": MIXED_TLS,
    "experimental-peer-skip-client-san-verification": MIXED_TLS,
    "peer-auto-tls": "tests/compat/test_mixed_tls.py::test_members_take_each_others_made_certificates",
    "cipher-suites": f"{TLS}::test_no_version_below_1_2_is_spoken_and_no_lower_one_than_told",
    "tls-min-version": f"{TLS}::test_no_version_below_1_2_is_spoken_and_no_lower_one_than_told",
    "tls-max-version": f"{TLS}::test_no_version_below_1_2_is_spoken_and_no_lower_one_than_told",
    "cors": GATEWAY,
    "host-whitelist": GATEWAY,
    "enable-grpc-gateway": GATEWAY,
    "force-new-cluster": "tests/e2e/test_force_new_cluster.py::test_one_member_of_three_goes_on_alone_with_its_data",
    "config-file": f"{EFFECT}::test_a_config_file_is_all_that_counts",
    "version": f"{CONFIG}::test_the_version_is_etcds_line_first_and_ours_second",
    "print-config-sample": "tests/unit/kvorum/test_config_sample.py::test_loading_the_sample_changes_nothing",
    "claim-etcd-version": f"{CONFIG}::test_the_version_is_etcds_line_first_and_ours_second",
}

HEAD = """<!-- Made by `make generate` out of node-image/kvorum/flags.py. Do not edit. -->
# The node's flags

Every flag of etcd 3.5 ({count}), with etcd's syntax: `--flag value`, `--flag=value`, booleans `--flag` or
`--flag=false`. Each has a variable (`--{example}` is `{variable}`) and a key in the file that `--config-file` names
([configuration](configuration.md)). A config file makes flags and variables ignored; a variable that a flag shadows is
an error.

- **honoured**: it does what it does in etcd. The test that shows it is named.
- **refused**: the node ends with a message that names the flag, unless the value is the one that asks for nothing more.
- **ignored**: the node warns and goes on.

{honoured} are honoured, {refused} refused for now, {ignored} ignored.
"""


def page() -> str:
    count = {status: sum(flag.status is status for flag in FLAGS.values()) for status in Status}
    parts = [
        HEAD.format(
            count=len(FLAGS),
            example="data-dir",
            variable=variable("data-dir"),
            honoured=count[Status.HONOURED],
            refused=count[Status.REFUSED],
            ignored=count[Status.IGNORED],
        )
    ]
    for title, flags in (*GROUPS, ("Kvorum's own, not etcd's", OWN)):
        parts.append(
            f"\n## {title}\n\n"
            "| Flag | etcd's default | Here | What it asks for | What is different | Shown by |\n"
            "|---|---|---|---|---|---|\n" + "".join(map(row, flags))
        )
    return "".join(parts)


def row(flag: Flag) -> str:
    accepted = ", ".join(f"`{text}`" for text in flag.accepts)
    here = f"{flag.status.value}, except {accepted}" if flag.accepts else flag.status.value
    default = f"`{flag.default}`" if flag.default else ""
    shown_by = shown(flag)
    cells = (f"`--{flag.name}`", default, here, flag.meaning, flag.note, f"`{shown_by}`")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def shown(flag: Flag) -> str:
    """The test, as pytest takes it, that shows what becomes of the flag."""
    if flag.status is Status.HONOURED:
        return SHOWN_BY[flag.name]
    return f"{REFUSED_BY if flag.status is Status.REFUSED else IGNORED_BY}[{flag.name}]"
