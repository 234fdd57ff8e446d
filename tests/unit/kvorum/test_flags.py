"""The table of flags and the kinds of their values."""

import pytest
from kvorum.flags import (
    BOOL,
    FLAGS,
    INT,
    LIST,
    OPTIONAL_URLS,
    ORIGINS,
    UINT,
    UINT32,
    URLS,
    Invalid,
    Kind,
    Status,
    Url,
    choice,
    parse_duration_ns,
    parse_url,
    variable,
)

# Every flag of etcd 3.5 (machine-extracted from 3.5.33; --help of 3.5.30 leaves some of them out).
ETCD_3_5 = """
advertise-client-urls auth-token auth-token-ttl auto-compaction-mode auto-compaction-retention auto-tls
backend-batch-interval backend-batch-limit backend-bbolt-freelist-type bcrypt-cost cert-file cipher-suites
client-cert-allowed-hostname client-cert-auth client-cert-file client-crl-file client-key-file config-file cors
data-dir discovery discovery-fallback discovery-proxy discovery-srv discovery-srv-name election-timeout
enable-grpc-gateway enable-log-rotation enable-pprof enable-v2 experimental-bootstrap-defrag-threshold-megabytes
experimental-compact-hash-check-enabled experimental-compact-hash-check-time experimental-compaction-batch-limit
experimental-compaction-sleep-interval experimental-corrupt-check-time experimental-distributed-tracing-address
experimental-distributed-tracing-instance-id experimental-distributed-tracing-sampling-rate
experimental-distributed-tracing-service-name experimental-downgrade-check-time
experimental-enable-distributed-tracing experimental-enable-lease-checkpoint
experimental-enable-lease-checkpoint-persist experimental-enable-v2v3 experimental-initial-corrupt-check
experimental-memory-mlock experimental-peer-skip-client-san-verification experimental-snapshot-catchup-entries
experimental-stop-grpc-service-on-defrag experimental-txn-mode-write-with-shared-buffer
experimental-warning-apply-duration experimental-watch-progress-notify-interval force-new-cluster
grpc-keepalive-interval grpc-keepalive-min-time grpc-keepalive-timeout heartbeat-interval host-whitelist
initial-advertise-peer-urls initial-cluster initial-cluster-state initial-cluster-token
initial-election-tick-advance key-file listen-client-http-urls listen-client-urls listen-metrics-urls
listen-peer-urls log-level log-outputs log-rotation-config-json logger max-concurrent-streams max-request-bytes
max-snapshots max-txn-ops max-wals metrics name peer-auto-tls peer-cert-allowed-cn peer-cert-allowed-hostname
peer-cert-file peer-client-cert-auth peer-client-cert-file peer-client-key-file peer-crl-file peer-key-file
peer-trusted-ca-file pre-vote proxy proxy-dial-timeout proxy-failure-wait proxy-read-timeout proxy-refresh-interval
proxy-write-timeout quota-backend-bytes raft-read-timeout raft-write-timeout self-signed-cert-validity
snapshot-count socket-reuse-address socket-reuse-port strict-reconfig-check tls-max-version tls-min-version
trusted-ca-file unsafe-no-fsync v2-deprecation version wal-dir
"""

MAY_BE_IGNORED = (
    "discovery-",
    "proxy-",
    "experimental-distributed-tracing-",
    "experimental-enable-distributed-tracing",
)
MAY_BE_IGNORED_TOO = {
    "enable-log-rotation",
    "log-rotation-config-json",
    "backend-bbolt-freelist-type",
    "experimental-memory-mlock",
}


def test_the_table_has_every_flag_of_etcd_and_no_other() -> None:
    assert len(ETCD_3_5.split()) == 112
    assert sorted(FLAGS) == ETCD_3_5.split()


def test_every_default_is_a_value_of_its_kind() -> None:
    for flag in FLAGS.values():
        flag.kind.parse(flag.default)
        for text in flag.accepts:
            flag.kind.parse(text)


def test_only_what_changes_nothing_a_client_sees_is_ignored() -> None:
    ignored = {flag.name for flag in FLAGS.values() if flag.status is Status.IGNORED}
    assert {name for name in ignored if not name.startswith(MAY_BE_IGNORED)} == MAY_BE_IGNORED_TOO


def test_a_flag_that_is_not_honoured_says_why() -> None:
    assert [flag.name for flag in FLAGS.values() if flag.status is not Status.HONOURED and not flag.note] == []


def test_the_variable_of_a_flag_is_its_name_in_capitals() -> None:
    assert variable("listen-client-urls") == "ETCD_LISTEN_CLIENT_URLS"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (BOOL, "T", True),
        (BOOL, "FALSE", False),
        (BOOL, "0", False),
        (UINT, "0x10", 16),
        (UINT, "010", 8),
        (UINT, "0", 0),
        (UINT, "1_000", 1000),
        (UINT, "18446744073709551615", (1 << 64) - 1),
        (INT, "-1", -1),
        (INT, "+5", 5),
        (UINT32, "4294967295", 4294967295),
        (UINT32, "010", 10),
        (LIST, "stdout,a.log,stdout", ("stdout", "a.log")),
        (LIST, "", ()),
        (OPTIONAL_URLS, "", ()),
        (ORIGINS, "*", "*"),
        (URLS, "http://[::1]:2379", (Url("http", "::1", 2379),)),
        (URLS, "http://b:1, http://a:10,http://a:9", (Url("http", "a", 10), Url("http", "a", 9), Url("http", "b", 1))),
        (choice("new", "existing"), "new", "new"),
    ],
)
def test_texts_become_values_as_in_go(kind: Kind, text: str, value: object) -> None:
    assert kind.parse(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (BOOL, "yes", "parse error"),
        (BOOL, "", "parse error"),
        (UINT, "-1", "parse error"),
        (UINT, "+1", "parse error"),
        (UINT, "1e3", "parse error"),
        (UINT, "08", "parse error"),
        (UINT, "18446744073709551616", "value out of range"),
        (INT, "1GB", "parse error"),
        (INT, "99999999999999999999", "value out of range"),
        (UINT32, "x", 'strconv.ParseUint: parsing "x": invalid syntax'),
        (UINT32, "4294967296", 'strconv.ParseUint: parsing "4294967296": value out of range'),
        (choice("new", "existing"), "old", "invalid value"),
        (URLS, "", "URL scheme must be http, https, unix, or unixs: "),
        (URLS, "localhost:2380", "URL scheme must be http, https, unix, or unixs: localhost:2380"),
        (URLS, "ftp://127.0.0.1:1", "URL scheme must be http, https, unix, or unixs: ftp://127.0.0.1:1"),
        (URLS, "127.0.0.1:2380", 'parse "127.0.0.1:2380": first path segment in URL cannot contain colon'),
        (URLS, "http://127.0.0.1", 'URL address does not have the form "host:port": http://127.0.0.1'),
        (URLS, "http://::1:80", 'URL address does not have the form "host:port": http://::1:80'),
        (URLS, "http://127.0.0.1:x", 'parse "http://127.0.0.1:x": invalid port ":x" after host'),
        (URLS, "http://127.0.0.1:1/", "URL must not contain a path: http://127.0.0.1:1/"),
        (URLS, "http://127.0.0.1:65536", "URL has a port above 65535: http://127.0.0.1:65536"),
    ],
)
def test_texts_that_are_no_value_are_refused_in_gos_words(kind: Kind, text: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        kind.parse(text)
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("100ms", 100_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1.5s", 1_500_000_000),
        (".5s", 500_000_000),
        ("-2s", -2_000_000_000),
        ("+3us", 3_000),
        ("3µs", 3_000),
        ("7ns", 7),
    ],
)
def test_durations_are_gos(text: str, nanoseconds: int) -> None:
    assert parse_duration_ns(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "1d", "1h 30m", "h", ".s", "--1s", "1s5", "x1s"])
def test_what_is_no_duration_in_go_is_none_here(text: str) -> None:
    with pytest.raises(Invalid):
        parse_duration_ns(text)


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:2379", "https://kv-0.kv:2380", "http://[::1]:0", "unix:///run/kv.sock"]
)
def test_an_url_reads_back_as_it_was_written(text: str) -> None:
    assert str(parse_url(text)) == text
