"""Arguments, environment and config file: which one counts, what is checked, and in whose words."""

from pathlib import Path

import pytest
from kvorum import __version__
from kvorum.config import Answered, Config, ConfigError, check_bootstrap, load
from kvorum.flags import FLAGS, Status, Url, variable

LOCAL_PEERS = "http://localhost:2380"


def refused(*argv: str, environ: dict[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(argv, environ or {})
    return caught.value


def write(folder: Path, text: str) -> str:
    path = folder / "kvorum.yaml"
    path.write_text(text)
    return str(path)


# ---- defaults --------------------------------------------------------------------------------------------------------


def test_no_settings_are_what_plain_etcd_is() -> None:
    config = load([], {})
    assert config.name == "default"
    assert config.data_dir == Path("default.etcd")
    assert config.wal_dir == Path("default.etcd/member/wal")
    assert config.listen_client_urls == (Url("http", "localhost", 2379),)
    assert config.listen_peer_urls == (Url("http", "localhost", 2380),)
    assert config.listen_metrics_urls == ()
    assert config.advertise_client_urls == ("http://localhost:2379",)
    assert config.initial_advertise_peer_urls == (LOCAL_PEERS,)
    assert config.initial_cluster() == {"default": (LOCAL_PEERS,)}
    assert (config.initial_cluster_state, config.initial_cluster_token) == ("new", "etcd-cluster")
    assert (config.heartbeat_interval_ms, config.election_timeout_ms, config.election_ticks) == (100, 1000, 10)
    assert (config.quota_backend_bytes, config.max_request_bytes, config.max_txn_ops) == (2 << 30, 1_572_864, 128)
    assert (config.backend_batch_interval_ms, config.backend_batch_limit) == (100, 10_000)
    assert (config.grpc_keepalive_min_time_ms, config.grpc_keepalive_timeout_ms) == (5_000, 20_000)
    assert config.grpc_keepalive_interval_ms == 7_200_000
    assert (config.auto_compaction_period_ms, config.auto_compaction_revisions) == (0, 0)
    assert (config.log_level, config.log_outputs) == ("info", ("stderr",))
    assert config.pre_vote
    assert config.strict_reconfig_check
    assert config.initial_election_tick_advance
    assert config.warnings == ()
    assert check_bootstrap(config) == {"default": (LOCAL_PEERS,)}


def test_a_name_alone_renames_folder_and_initial_cluster() -> None:
    config = load(["--name", "kv-1"], {})
    assert config.data_dir == Path("kv-1.etcd")
    assert check_bootstrap(config) == {"kv-1": (LOCAL_PEERS,)}


def test_a_name_takes_the_advertised_urls_into_the_initial_cluster() -> None:
    config = load(["--name=a", "--initial-advertise-peer-urls=http://10.0.0.1:2380,http://10.0.0.2:2380"], {})
    assert check_bootstrap(config) == {"a": ("http://10.0.0.1:2380", "http://10.0.0.2:2380")}


def test_advertised_urls_alone_do_not_change_the_initial_cluster() -> None:
    """etcd asks for --initial-cluster too, and so do we: a cluster of one must be meant."""
    with pytest.raises(ConfigError, match="--initial-cluster has default=http://localhost:2380 but missing from"):
        check_bootstrap(load(["--initial-advertise-peer-urls=http://localhost:2381"], {}))


def test_a_log_folder_of_its_own_is_taken() -> None:
    assert load(["--wal-dir=/fast/wal"], {}).wal_dir == Path("/fast/wal")


# ---- arguments -------------------------------------------------------------------------------------------------------


def test_one_dash_is_as_good_as_two_and_the_value_may_be_the_next_word() -> None:
    config = load(
        ["-name", "a", "--data-dir=d=e", "-pre-vote=false", "--strict-reconfig-check=F", "--socket-reuse-port"], {}
    )
    assert (config.name, config.data_dir) == ("a", Path("d=e"))
    assert (config.pre_vote, config.strict_reconfig_check, config.socket_reuse_port) == (False, False, True)


def test_of_a_flag_given_twice_the_last_counts() -> None:
    assert load(["--name=a", "--name=b"], {}).name == "b"


def test_a_value_may_begin_with_a_dash() -> None:
    assert load(["--quota-backend-bytes", "-1"], {}).quota_backend_bytes == -1


@pytest.mark.parametrize(
    ("argv", "exit_code", "words"),
    [
        (["--foo"], 2, "flag provided but not defined: -foo"),
        (["--name"], 2, "flag needs an argument: -name"),
        (["---x"], 2, "bad flag syntax: ---x"),
        (["--=x"], 2, "bad flag syntax: --=x"),
        (["--pre-vote=maybe"], 2, 'invalid boolean value "maybe" for -pre-vote: parse error'),
        (["--heartbeat-interval=x"], 2, 'invalid value "x" for flag -heartbeat-interval: parse error'),
        (["--initial-cluster-state=x"], 2, 'invalid value "x" for flag -initial-cluster-state: invalid value'),
        (["--grpc-keepalive-min-time=5"], 2, 'invalid value "5" for flag -grpc-keepalive-min-time: parse error'),
        (["gateway"], 2, "there is no `gateway` here, only the server"),
        (["extra"], 1, "'extra' is not a valid flag"),
        (["--pre-vote", "true"], 1, "'true' is not a valid flag"),
        (["--", "extra"], 1, "'extra' is not a valid flag"),
        (["-"], 1, "'-' is not a valid flag"),
    ],
)
def test_words_that_are_no_flags_end_with_etcds_words_and_status(argv: list[str], exit_code: int, words: str) -> None:
    error = refused(*argv)
    assert error.lines[0] == words
    assert error.exit_code == exit_code


def test_a_wrong_word_names_the_way_out() -> None:
    assert "kvorum --help" in refused("--foo").lines[1]


# ---- checks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
        (["--election-timeout=0"], "--election-timeout must be >0 (set to 0ms)"),
        (
            ["--election-timeout=499"],
            "--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        (["--election-timeout=50001"], "--election-timeout[50001ms] is too long, and should be set less than 50000ms"),
        (
            ["--listen-client-urls=http://127.0.0.1:1"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (["--listen-peer-urls=http://foo:1"], "expected IP in URL for binding (http://foo:1)"),
        (["--listen-metrics-urls=http://foo:1"], "expected IP in URL for binding (http://foo:1)"),
        (
            ["--advertise-client-urls=http://:1"],
            '--advertise-client-urls "http://:1" must be "host:port" (unexpected empty host (http://:1))',
        ),
        (
            ["--initial-advertise-peer-urls=http://:1"],
            '--initial-advertise-peer-urls "http://:1" must be "host:port" (unexpected empty host (http://:1))',
        ),
        (["--auto-compaction-mode=x"], 'unknown auto-compaction-mode "x"'),
        (["--auto-compaction-retention=x"], 'error parsing CompactionRetention: time: invalid duration "x"'),
        (["--auto-compaction-retention=-1h"], 'error parsing CompactionRetention: time: invalid duration "-1h"'),
        (
            ["--auto-compaction-mode=revision", "--auto-compaction-retention=5m"],
            "--auto-compaction-retention=5m of mode revision must be a number of revisions",
        ),
        (["--logger=capnslog"], 'unknown logger option "capnslog"'),
        (["--log-level=loud"], 'unrecognized level: "loud"'),
        (["--log-outputs=default,stdout"], 'multi logoutput for "default" is not supported yet'),
        (["--claim-etcd-version=3.5"], "--claim-etcd-version=3.5 must be three numbers, as in 3.5.30"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_etcds_words(argv: list[str], words: str) -> None:
    error = refused(*argv)
    assert error.lines[0] == words
    assert error.exit_code == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["--election-timeout=500"],
        ["--election-timeout=50000"],
        ["--listen-peer-urls=http://localhost:1"],
        ["--listen-peer-urls=http://[::]:1"],
        ["--listen-client-urls=http://0.0.0.0:1", "--advertise-client-urls=https://proxy.example:443"],
    ],
)
def test_settings_at_the_bounds_are_taken(argv: list[str]) -> None:
    load(argv, {})


def test_retention_is_hours_a_duration_or_revisions() -> None:
    def retention(mode: str, text: str) -> tuple[int, int]:
        config = load([f"--auto-compaction-mode={mode}", f"--auto-compaction-retention={text}"], {})
        return config.auto_compaction_period_ms, config.auto_compaction_revisions

    assert retention("periodic", "2") == (7_200_000, 0)
    assert retention("periodic", "10m") == (600_000, 0)
    assert retention("periodic", "0") == (0, 0)
    assert retention("revision", "1000") == (0, 1000)


def test_zero_is_etcds_default_and_less_than_a_millisecond_is_not_zero() -> None:
    config = load(["--backend-batch-interval=1us", "--backend-batch-limit=0", "--quota-backend-bytes=0"], {})
    assert config.backend_batch_interval_ms == 1
    assert config.backend_batch_limit == 10_000
    assert config.quota_backend_bytes == 2 << 30


def test_members_are_waited_for_at_least_as_long_as_etcds_wait() -> None:
    config = load(["--raft-read-timeout=9s", "--raft-write-timeout=4999ms"], {})
    assert (config.raft_read_timeout_ms, config.raft_write_timeout_ms) == (9_000, 5_000)
    assert config.warnings == ("raft-write-timeout increased to minimum value: 5s",)


def test_checkpoints_of_leases_are_stored_only_where_they_are_made() -> None:
    made, stored = (f"--experimental-enable-lease-checkpoint{end}" for end in ("", "-persist"))
    words = "setting experimental-enable-lease-checkpoint-persist requires experimental-enable-lease-checkpoint"
    assert refused(stored).lines[0] == words
    both = load([made, stored], {})
    assert (both.lease_checkpoints, both.lease_checkpoint_persist, both.warnings) == (True, True, ())
    assert load([made], {}).warnings[0].startswith("Detected that checkpointing is enabled without persistence.")


@pytest.mark.parametrize(("limit", "batch"), [("1", 1), ("0", 1000), ("-1", 1000)])
def test_a_batch_of_a_compaction_has_rows(limit: str, batch: int) -> None:
    assert load([f"--experimental-compaction-batch-limit={limit}"], {}).compaction_batch_limit == batch


def test_a_cost_that_bcrypt_has_not_is_the_usual_one_with_a_warning() -> None:
    assert [load([f"--bcrypt-cost={cost}"], {}).bcrypt_cost for cost in (4, 12, 31)] == [4, 12, 31]
    for cost in (0, 3, 32):
        config = load([f"--bcrypt-cost={cost}"], {})
        assert (config.bcrypt_cost, len(config.warnings)) == (10, 1)
        assert config.warnings[0].startswith(f"--bcrypt-cost={cost} ")


def test_sizes_above_the_advised_ones_are_taken_with_a_warning() -> None:
    config = load([f"--quota-backend-bytes={(8 << 30) + 1}", f"--max-request-bytes={(10 << 20) + 1}"], {})
    assert (config.quota_backend_bytes, config.max_request_bytes) == ((8 << 30) + 1, (10 << 20) + 1)
    assert [warning.split("=")[0] for warning in config.warnings] == ["--quota-backend-bytes", "--max-request-bytes"]


def test_log_outputs_are_places_in_order() -> None:
    assert load(["--log-outputs=default"], {}).log_outputs == ("stderr",)
    assert load(["--log-outputs=stdout,stderr,/var/log/kv.log"], {}).log_outputs == (
        "stdout",
        "stderr",
        "/var/log/kv.log",
    )


# ---- refused and ignored ---------------------------------------------------------------------------------------------

OTHER_VALUES = {"bool": ("true", "false"), "uint": ("7",), "int": ("7",), "duration": ("7s",)}
OTHER_WORDS = {
    "discovery-fallback": "exit",
    "v2-deprecation": "gone",
    "proxy": "on",
}


def other_value(name: str) -> str:
    """A value of the flag that asks for something else than its default does."""
    flag = FLAGS[name]
    if name in OTHER_WORDS:
        return OTHER_WORDS[name]
    harmless = flag.accepts or (flag.default,)
    return next(text for text in OTHER_VALUES.get(flag.kind.label, ("something",)) if text not in harmless)


@pytest.mark.parametrize("name", [flag.name for flag in FLAGS.values() if flag.status is Status.REFUSED])
def test_what_is_not_supported_yet_is_refused_by_name(name: str) -> None:
    value = other_value(name)
    error = refused(f"--{name}={value}")
    assert error.lines[0] == f"--{name}={value} is not supported yet: {FLAGS[name].note}"
    assert error.exit_code == 1
    assert refused(environ={variable(name): value}).lines[0].startswith(f"{variable(name)}={value} is not")


@pytest.mark.parametrize("name", [flag.name for flag in FLAGS.values() if flag.status is not Status.HONOURED])
def test_what_asks_for_nothing_more_is_taken_in_silence(name: str) -> None:
    flag = FLAGS[name]
    for text in flag.accepts or (flag.default,):
        assert load([f"--{name}={text}"], {}) == load([], {})


@pytest.mark.parametrize("name", [flag.name for flag in FLAGS.values() if flag.status is Status.IGNORED])
def test_what_is_ignored_is_said_in_a_warning(name: str) -> None:
    config = load([f"--{name}={other_value(name)}"], {})
    assert config.warnings == (f"--{name} is ignored: {FLAGS[name].note}",)


@pytest.mark.parametrize(
    "argv",
    [
        ["--listen-client-urls=unix:///run/kv.sock", "--advertise-client-urls=http://a:1"],
        ["--log-outputs=systemd/journal"],
    ],
)
def test_addresses_and_outputs_of_later_versions_are_refused_by_name(argv: list[str]) -> None:
    assert refused(*argv).lines[0].startswith(f"{argv[0]} is not supported yet")


def test_the_gateway_is_there_unless_it_is_switched_off() -> None:
    assert load([], {}).enable_grpc_gateway
    assert not load(["--enable-grpc-gateway=false"], {}).enable_grpc_gateway


@pytest.mark.parametrize(
    ("argv", "origins", "hosts"),
    [
        ([], (), ("*",)),
        (["--cors=*", "--host-whitelist="], (), ()),
        (["--cors=https://b:2,http://a:1", "--host-whitelist=a,b,a"], ("http://a:1", "https://b:2"), ("a", "b")),
    ],
)
def test_origins_and_hosts_are_all_unless_some_are_named(
    argv: list[str], origins: tuple[str, ...], hosts: tuple[str, ...]
) -> None:
    config = load(argv, {})
    assert (config.cors, config.host_whitelist) == (origins, hosts)


# ---- environment -----------------------------------------------------------------------------------------------------


def test_a_variable_counts_where_no_flag_speaks() -> None:
    config = load(["--name=a"], {"ETCD_HEARTBEAT_INTERVAL": "50", "ETCD_PRE_VOTE": "false", "HOME": "/"})
    assert (config.name, config.heartbeat_interval_ms, config.pre_vote) == ("a", 50, False)
    assert config.warnings == ()


@pytest.mark.parametrize("value", ["b", "a", ""])
def test_a_flag_that_shadows_its_variable_is_fatal(value: str) -> None:
    error = refused("--name=a", environ={"ETCD_NAME": value})
    assert error.lines[0] == (
        'conflicting environment variable "ETCD_NAME" is shadowed by corresponding command-line flag '
        "(either unset environment variable or disable flag)"
    )
    assert error.exit_code == 1


def test_an_empty_variable_is_none() -> None:
    assert load([], {"ETCD_NAME": ""}).name == "default"


def test_a_wrong_value_of_a_variable_is_refused() -> None:
    error = refused(environ={"ETCD_HEARTBEAT_INTERVAL": "x"})
    assert error.lines[0] == 'invalid value "x" for ETCD_HEARTBEAT_INTERVAL: parse error'
    assert error.exit_code == 1


@pytest.mark.parametrize("key", ["ETCD_FOO", "ETCD_VERSION", "ETCD_CLAIM_ETCD_VERSION"])
def test_an_unknown_variable_is_only_warned_of(key: str) -> None:
    assert load([], {key: "true"}).warnings == (f"unrecognized environment variable {key}",)


def test_listening_by_variable_asks_for_advertised_urls_too() -> None:
    assert (
        "--advertise-client-urls is required"
        in refused(environ={"ETCD_LISTEN_CLIENT_URLS": "http://127.0.0.1:1"}).lines[0]
    )


# ---- config file -----------------------------------------------------------------------------------------------------


def test_a_config_file_makes_flags_and_variables_ignored(tmp_path: Path) -> None:
    path = write(tmp_path, "name: filed\nheartbeat-interval: 50\npre-vote: false\n")
    config = load(["--config-file", path, "--name=flagged", "--election-timeout=700"], {"ETCD_NAME": "variable"})
    assert (config.name, config.heartbeat_interval_ms, config.pre_vote) == ("filed", 50, False)
    assert config.election_timeout_ms == 1000
    assert config.data_dir == Path("filed.etcd")
    assert config.warnings == (
        f"{path} is the config file, so these are ignored: --name, --election-timeout, ETCD_NAME",
    )


def test_the_config_file_may_be_named_by_its_variable(tmp_path: Path) -> None:
    config = load([], {"ETCD_CONFIG_FILE": write(tmp_path, "name: filed\n")})
    assert config.name == "filed"
    assert config.warnings == ()


def test_a_file_may_leave_the_advertised_urls_to_their_default(tmp_path: Path) -> None:
    config = load(["--config-file", write(tmp_path, "listen-client-urls: http://127.0.0.1:1\n")], {})
    assert config.advertise_client_urls == ("http://localhost:2379",)


def test_lists_and_nanoseconds_are_read_from_a_file_as_etcd_reads_them(tmp_path: Path) -> None:
    text = (
        "log-outputs: [stdout, a.log]\nbackend-batch-interval: 5000000\ndata-dir: null\ninitial-cluster: a=http://b:1\n"
    )
    config = load(["--config-file", write(tmp_path, text)], {})
    assert config.log_outputs == ("stdout", "a.log")
    assert config.backend_batch_interval_ms == 5
    assert config.data_dir == Path("default.etcd")
    assert config.initial_cluster() == {"a": ("http://b:1",)}


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load(["--config-file", write(tmp_path, "")], {}) == load([], {})


def test_a_file_has_no_default_for_what_its_retention_counts(tmp_path: Path) -> None:
    """As in etcd: hours alone compact nothing, a duration alone ends the start; a flag's default is hours."""
    assert load(["--auto-compaction-retention=1"], {}).auto_compaction_period_ms == 3_600_000
    config = load(["--config-file", write(tmp_path, "auto-compaction-retention: '1'\n")], {})
    assert (config.auto_compaction_period_ms, config.auto_compaction_revisions) == (0, 0)
    assert "without auto-compaction-mode compacts nothing" in config.warnings[0]
    error = refused("--config-file", write(tmp_path, "auto-compaction-retention: 1h\n"))
    assert error.lines[0].startswith("auto-compaction-retention=1h needs auto-compaction-mode")
    both = "auto-compaction-retention: 1h\nauto-compaction-mode: periodic\n"
    assert load(["--config-file", write(tmp_path, both)], {}).auto_compaction_period_ms == 3_600_000


def test_claiming_another_version_goes_with_a_file(tmp_path: Path) -> None:
    config = load(["--config-file", write(tmp_path, ""), "--claim-etcd-version=3.4.23"], {})
    assert config.claim_etcd_version == "3.4.23"
    assert config.warnings == ()


def test_tls_nested_in_a_file_is_what_the_flags_say(tmp_path: Path) -> None:
    text = (
        "client-transport-security: {cert-file: /a, key-file: /b, client-cert-auth: true, trusted-ca-file: /c,"
        " crl-file: /d, allowed-hostname: [e, f]}\n"
        "peer-transport-security: {cert-file: /g, key-file: /h, allowed-cn: [i], crl-file: /j, auto-tls: true}\n"
        "tls-min-version: TLS1.3\nself-signed-cert-validity: 0\n"
    )
    flags = (
        "--cert-file=/a --key-file=/b --client-cert-auth --trusted-ca-file=/c --client-crl-file=/d"
        " --client-cert-allowed-hostname=e,f --peer-cert-file=/g --peer-key-file=/h --peer-cert-allowed-cn=i"
        " --peer-crl-file=/j --peer-auto-tls --tls-min-version=TLS1.3"
    )
    filed = load(["--config-file", write(tmp_path, text)], {})
    flagged = load(flags.split(), {})
    assert filed == flagged
    assert filed.client_tls.allowed_hostnames == ("e", "f")
    assert filed.peer_tls.allowed_cns == ("i",)
    assert filed.self_signed_cert_validity_years == 1  # none in a file is etcd's default


def test_a_made_certificate_that_is_never_valid_stays_so_by_flag() -> None:
    assert load(["--self-signed-cert-validity=0"], {}).self_signed_cert_validity_years == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--tls-min-version=TLS1.1"], 'unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)'),
        (["--tls-max-version=x"], 'unexpected TLS version "x" (must be one of: TLS1.2, TLS1.3)'),
        (
            ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (["--cipher-suites=NOPE"], 'unexpected TLS cipher suite "NOPE"'),
        (
            ["--tls-min-version=TLS1.3", "--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA"],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (
            ["--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"],
            "AllowedCN and AllowedHostname are mutually exclusive (cn=a, hostname=b)",
        ),
    ],
)
def test_tls_that_cannot_be_is_refused_with_etcds_words(argv: list[str], words: str) -> None:
    error = refused(*argv)
    assert error.lines[0] == words
    assert error.exit_code == 1


def test_tls_nested_but_empty_is_no_tls(tmp_path: Path) -> None:
    text = "peer-transport-security:\n  cert-file: ''\n  client-cert-auth: false\nclient-transport-security:\n"
    assert load(["--config-file", write(tmp_path, text)], {}) == load([], {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("initial-cluster-state: x", 'invalid value "x" for {path}: initial-cluster-state: invalid value'),
        ("election-timeout: 3", "--election-timeout[3ms] should be at least as 5 times as --heartbeat-interval[100ms]"),
        (
            "experimental-enable-v2v3: /v2",
            "{path}: experimental-enable-v2v3=/v2 is not supported yet: "
            "the v2 API has a store of its own, as it has in etcd without this flag",
        ),
    ],
)
def test_a_wrong_value_in_a_file_is_refused_with_its_path(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    error = refused("--config-file", path)
    assert error.lines[0] == words.format(path=path)
    assert error.exit_code == 1


# ---- the initial cluster ---------------------------------------------------------------------------------------------


def config(cluster: str, *argv: str) -> Config:
    return load(
        ["--name=a", "--initial-advertise-peer-urls=http://127.0.0.1:1", f"--initial-cluster={cluster}", *argv], {}
    )


def test_urls_of_one_name_gather_and_empty_parts_do_not_count() -> None:
    assert config("a=http://a:2,,b=http://b:1,a=http://a:1,").initial_cluster() == {
        "a": ("http://a:1", "http://a:2"),
        "b": ("http://b:1",),
    }


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ("b=http://127.0.0.1:1", 'couldn\'t find local name "a" in the initial cluster configuration'),
        ("", 'couldn\'t find local name "a" in the initial cluster configuration'),
        ("a=x", "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: x"),
        (
            "a=http://127.0.0.1:2",
            "--initial-cluster has a=http://127.0.0.1:2 but missing from "
            "--initial-advertise-peer-urls=http://127.0.0.1:1",
        ),
        (
            "a=http://127.0.0.1:1,b=http://127.0.0.1:1",
            "initial cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 has duplicate url",
        ),
    ],
)
def test_a_wrong_initial_cluster_is_refused_in_etcds_words(cluster: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_bootstrap(config(cluster))
    assert caught.value.lines[0] == words


def test_an_advertised_url_that_the_cluster_lacks_is_refused() -> None:
    wrong = config("a=http://127.0.0.1:1", "--initial-advertise-peer-urls=http://127.0.0.1:1,http://127.0.0.1:3")
    with pytest.raises(ConfigError) as caught:
        check_bootstrap(wrong)
    assert caught.value.lines[0] == (
        "--initial-advertise-peer-urls has http://127.0.0.1:3 but missing from --initial-cluster=a=http://127.0.0.1:1"
    )


def test_a_bad_initial_cluster_stops_nobody_who_does_not_ask() -> None:
    """With data present etcd does not read it, and neither do we."""
    assert config("nonsense").initial_cluster_text == "nonsense"


def test_a_joining_member_need_not_advertise_what_the_cluster_says() -> None:
    joining = config("a=http://127.0.0.1:2,b=http://b:1", "--initial-cluster-state=existing")
    assert check_bootstrap(joining) == {"a": ("http://127.0.0.1:2",), "b": ("http://b:1",)}


def test_names_that_resolve_to_the_same_address_are_equal() -> None:
    local = config("a=http://localhost:1")
    assert check_bootstrap(local, {"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1"}.__getitem__)
    with pytest.raises(ConfigError):
        check_bootstrap(local)


# ---- answers ---------------------------------------------------------------------------------------------------------


def answered(*argv: str) -> str:
    with pytest.raises(Answered) as caught:
        load(argv, {})
    return caught.value.text


def test_the_version_is_etcds_line_first_and_ours_second() -> None:
    lines = answered("--version").splitlines()
    assert lines[:2] == ["etcd Version: 3.5.30", f"Kvorum Version: {__version__}"]
    assert len(lines) == 4
    assert answered("--claim-etcd-version=3.4.23", "--version").splitlines()[0] == "etcd Version: 3.4.23"


@pytest.mark.parametrize("stage", ["write-only", "write-only-drop-data", "gone"])
def test_v2_keys_are_served_or_forbidden(stage: str) -> None:
    assert refused("--enable-v2", f"--v2-deprecation={stage}").lines[0] == (
        f"--enable-v2 and --v2-deprecation={stage} are mutually exclusive"
    )
    assert load([f"--v2-deprecation={stage}"], {}).v2_keys_forbidden == stage
    assert load(["--enable-v2", "--v2-deprecation=not-yet"], {}).v2_keys_forbidden == ""


def test_the_version_is_not_printed_on_request_of_its_opposite() -> None:
    assert load(["--version=false"], {}) == load([], {})


@pytest.mark.parametrize("word", ["-h", "--help", "-help"])
def test_help_lists_every_flag_and_what_becomes_of_it(word: str) -> None:
    text = answered(word)
    assert [name for name in FLAGS if f"  --{name} '" not in text] == []
    assert "--initial-cluster-state 'new'" in text
    assert f"refused: {FLAGS['experimental-enable-v2v3'].note}" in text
