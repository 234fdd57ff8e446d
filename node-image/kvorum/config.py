"""The node's settings: etcd 3.5's flags, environment and config file, all from one table.

Knows texts and what they mean; reads one file, the config file. Whether a data directory exists, a name resolves
or a port is free is main's business. Rules and error texts are etcd's: Go's flag syntax, `ETCD_*` for what no flag
says, a flag that shadows its variable is fatal, a config file makes all the rest ignored (reference: etcd 1.12).

Each flag is HONOURED, REFUSED (known, but this version cannot do what it asks: say so and stop) or IGNORED with a
warning, which only discovery*, proxy*, tracing, log rotation, bbolt's freelist and mlock may be: a setting that
silently does nothing is worse than none.
"""

import ipaddress
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import yaml

VERSION = "0.1.0"
ETCD_VERSION = "3.5.30"  # what we claim to be, because clients, peers and harnesses choose their dialect by it

ELECTION_TIMEOUT_MAX_MS = 50_000
QUOTA_DEFAULT_BYTES = 2 << 30
QUOTA_ADVISED_BYTES = 8 << 30
REQUEST_ADVISED_BYTES = 10 << 20
ENVIRONMENT_PREFIX = "ETCD_"
EXIT_FAILED = 1  # a setting that cannot be
EXIT_USAGE = 2  # words that are no setting at all


class ConfigError(Exception):
    """The settings cannot be. lines: what was seen and the way out, for stderr; then end with exit_code."""

    def __init__(self, exit_code: int, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.exit_code = exit_code
        self.lines = lines


class Answered(Exception):
    """--version or --help: text is for stdout, then end with 0."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Invalid(Exception):
    """What a kind says to a text that it cannot take; the caller adds whose text it was."""


class Url(NamedTuple):
    """An address as a flag names it. `unix` URLs have the socket's path as host, and port 0."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        if self.scheme.startswith("unix"):
            return f"{self.scheme}://{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


# ---- kinds: how a text becomes a value -------------------------------------------------------------------------------


class Kind(NamedTuple):
    """label: as the documentation names it. parse: raises Invalid with etcd's (that is, Go's) own words."""

    label: str
    parse: Callable[[str], object]


_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_DURATION_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>[^/?#@]*)(?P<rest>.*)", re.DOTALL)
_HOST_PORT = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>\d*)")


def parse_boolean(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise Invalid("parse error")


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        digits = text[1:] if text[:1] in ("-", "+") and low < 0 else text
        if re.fullmatch(r"0[0-7]+", digits):
            value = int(digits, 8)  # Go's base 0: a leading zero is octal
        elif re.fullmatch(r"[0-9][0-9a-zA-Z_]*", digits):
            try:
                value = int(digits, 0)
            except ValueError:
                raise Invalid("parse error") from None
        else:
            raise Invalid("parse error")
        value = -value if text.startswith("-") else value
        if not low <= value <= high:
            raise Invalid("value out of range")
        return value

    return parse


def parse_duration_ns(text: str) -> int:
    """Nanoseconds of Go's duration notation (`1h30m`, `100ms`). Raises Invalid."""
    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if body == "0":
        return 0
    total_ns, end = 0.0, 0
    for part in _DURATION_PART.finditer(body):
        if part.start() != end:
            break
        total_ns += float(part[1]) * _DURATION_NS[part[2]]
        end = part.end()
    if not body or end != len(body):
        raise Invalid("parse error")
    return sign * round(total_ns)


def parse_url(text: str) -> Url:
    """One address of a listener or a member. Raises Invalid with etcd's words."""
    text = text.strip()
    match = _URL.fullmatch(text)
    if match is None or match["scheme"] not in ("http", "https", "unix", "unixs"):
        raise Invalid(f"URL scheme must be http, https, unix, or unixs: {text}")
    if match["scheme"].startswith("unix"):
        return Url(match["scheme"], match["host"] + match["rest"], 0)
    address = _HOST_PORT.fullmatch(match["host"])
    if address is None:
        raise Invalid(f'URL address does not have the form "host:port": {text}')
    if match["rest"]:
        raise Invalid(f"URL must not contain a path: {text}")
    port = int(address["port"] or 0)
    if port > 65_535:
        raise Invalid(f"URL has a port above 65535: {text}")
    return Url(match["scheme"], address["v6"] if address["v6"] is not None else address["host"], port)


def parse_urls(text: str) -> tuple[Url, ...]:
    """Comma-separated addresses, sorted by their text as etcd sorts them (member ids are made of the sorted list)."""
    return tuple(sorted({parse_url(part) for part in text.split(",")}, key=str))


def _or_words(parse: Callable[[str], tuple[Url, ...]], *words: str) -> Callable[[str], tuple[Url, ...] | str]:
    return lambda text: text if text in words else parse(text)


def parse_optional_urls(text: str) -> tuple[Url, ...]:
    return parse_urls(text) if text else ()


def parse_list(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.split(","))) if text else ()


def choice(*words: str) -> Kind:
    def parse(text: str) -> str:
        if text not in words:
            raise Invalid("invalid value")
        return text

    return Kind(" or ".join(words), parse)


TEXT = Kind("text", str)
BOOL = Kind("bool", parse_boolean)
UINT = Kind("uint", _integer(0, (1 << 64) - 1))
UINT32 = Kind("uint32", _integer(0, (1 << 32) - 1))
INT = Kind("int", _integer(-(1 << 63), (1 << 63) - 1))
DURATION = Kind("duration", parse_duration_ns)
URLS = Kind("URLs", parse_urls)
OPTIONAL_URLS = Kind("URLs or nothing", parse_optional_urls)
ORIGINS = Kind("URLs or *", _or_words(parse_urls, "*", ""))
LIST = Kind("list", parse_list)


# ---- the table -------------------------------------------------------------------------------------------------------


class Status(StrEnum):
    HONOURED = "honoured"
    REFUSED = "refused"
    IGNORED = "ignored"


HONOURED, REFUSED, IGNORED = Status.HONOURED, Status.REFUSED, Status.IGNORED


class Flag(NamedTuple):
    """One flag of etcd 3.5.

    default: etcd's, as its text.   meaning: what it asks for.
    note:    what is different here; of a refused flag, why.
    accepts: of a refused flag, the texts that ask for nothing more than what happens anyway (its default, if empty).
    """

    name: str
    kind: Kind
    default: str
    status: Status
    meaning: str
    note: str = ""
    accepts: tuple[str, ...] = ()


_NO_TLS = "TLS comes with a later version"
_NO_SNAPSHOTS = "this version keeps its whole log and takes no snapshots"
_NO_V2 = "the v2 API comes with a later version"
_NO_AUTH = "authentication comes with a later version"
_NO_PROXY = "there is no proxy mode"
_NO_TRACING = "there is no tracing"

# One row a flag, whatever its length.
# fmt: off
GROUPS: tuple[tuple[str, tuple[Flag, ...]], ...] = (
    ("Member", (
        Flag("name", TEXT, "default", HONOURED, "this member's name, as --initial-cluster has it"),
        Flag("data-dir", TEXT, "${name}.etcd", HONOURED, "where everything lies"),
        Flag("wal-dir", TEXT, "", HONOURED, "where the log lies, if not in the data directory"),
        Flag("snapshot-count", UINT, "100000", REFUSED, "entries between two snapshots", _NO_SNAPSHOTS),
        Flag("heartbeat-interval", UINT, "100", HONOURED, "milliseconds between a leader's heartbeats"),
        Flag("election-timeout", UINT, "1000", HONOURED, "milliseconds of silence before an election"),
        Flag("initial-election-tick-advance", BOOL, "true", HONOURED, "at start, count all but one heartbeat of the first election timeout as passed"),
        Flag("listen-peer-urls", URLS, "http://localhost:2380", HONOURED, "where members reach this one"),
        Flag("listen-client-urls", URLS, "http://localhost:2379", HONOURED, "where clients reach this member"),
        Flag("listen-client-http-urls", OPTIONAL_URLS, "", REFUSED, "a port of their own for HTTP/1.1 clients", "HTTP/1.1 and gRPC share the client port here"),
        Flag("listen-metrics-urls", OPTIONAL_URLS, "", HONOURED, "where /metrics and /health answer as well"),
        Flag("max-snapshots", UINT, "5", REFUSED, "snapshot files to keep", _NO_SNAPSHOTS),
        Flag("max-wals", UINT, "5", REFUSED, "log files to keep", _NO_SNAPSHOTS),
        Flag("quota-backend-bytes", INT, "0", HONOURED, "bytes of data above which writes are refused; 0 is 2 GiB, negative is no limit"),
        Flag("backend-bbolt-freelist-type", TEXT, "map", IGNORED, "how bbolt keeps its free pages", "the store is LMDB"),
        Flag("backend-batch-interval", DURATION, "0s", HONOURED, "longest time between two commits; 0 is 100ms"),
        Flag("backend-batch-limit", INT, "0", HONOURED, "most operations between two commits; 0 is 10000"),
        Flag("max-txn-ops", UINT, "128", HONOURED, "most operations in a transaction"),
        Flag("max-request-bytes", UINT, "1572864", HONOURED, "largest request"),
        Flag("max-concurrent-streams", UINT32, "4294967295", HONOURED, "most streams of one client connection"),
        Flag("grpc-keepalive-min-time", DURATION, "5s", HONOURED, "a client that pings more often is sent away"),
        Flag("grpc-keepalive-interval", DURATION, "2h0m0s", HONOURED, "silence before a client is pinged; 0 never"),
        Flag("grpc-keepalive-timeout", DURATION, "20s", HONOURED, "how long the answer to a ping may take"),
        Flag("socket-reuse-port", BOOL, "false", HONOURED, "SO_REUSEPORT on listeners"),
        Flag("socket-reuse-address", BOOL, "false", HONOURED, "SO_REUSEADDR on listeners"),
        Flag("raft-read-timeout", DURATION, "5s", REFUSED, "read timeout of peer connections", "it is 5s here"),
        Flag("raft-write-timeout", DURATION, "5s", REFUSED, "write timeout of peer connections", "it is 5s here"),
    )),
    ("Clustering", (
        Flag("initial-advertise-peer-urls", URLS, "http://localhost:2380", HONOURED, "this member's peer URLs, told to the others"),
        Flag("initial-cluster", TEXT, "default=http://localhost:2380", HONOURED, "name=URL of every member at bootstrap"),
        Flag("initial-cluster-state", choice("new", "existing"), "new", HONOURED, "whether an empty data directory bootstraps or joins"),
        Flag("initial-cluster-token", TEXT, "etcd-cluster", HONOURED, "makes the cluster's id its own"),
        Flag("advertise-client-urls", URLS, "http://localhost:2379", HONOURED, "client URLs, told to everyone"),
        Flag("discovery", TEXT, "", REFUSED, "bootstrap by a discovery URL", "without it a cluster of one would start"),
        Flag("discovery-fallback", choice("exit", "proxy"), "proxy", IGNORED, "when discovery fails", _NO_PROXY),
        Flag("discovery-proxy", TEXT, "", IGNORED, "HTTP proxy for discovery", "there is no discovery"),
        Flag("discovery-srv", TEXT, "", REFUSED, "bootstrap by DNS", "without it a cluster of one would start"),
        Flag("discovery-srv-name", TEXT, "", IGNORED, "suffix of the DNS name", "there is no discovery"),
        Flag("strict-reconfig-check", BOOL, "true", HONOURED, "refuse membership changes that lose the quorum"),
        Flag("pre-vote", BOOL, "true", HONOURED, "ask before an election, so that a returning member disturbs none"),
        Flag("auto-compaction-retention", TEXT, "0", HONOURED, "what compaction leaves: hours, 10m, or revisions"),
        Flag("auto-compaction-mode", TEXT, "periodic", HONOURED, "what --auto-compaction-retention counts: periodic or revision"),
        Flag("enable-v2", BOOL, "false", REFUSED, "serve the v2 API", _NO_V2),
        Flag("v2-deprecation", choice("not-yet", "write-only", "write-only-drop-data", "gone"), "not-yet", REFUSED, "how much of the v2 store is left", _NO_V2),
    )),
    ("Security", (
        Flag("cert-file", TEXT, "", REFUSED, "certificate shown to clients", _NO_TLS),
        Flag("key-file", TEXT, "", REFUSED, "its key", _NO_TLS),
        Flag("client-cert-file", TEXT, "", REFUSED, "certificate shown as a client", _NO_TLS),
        Flag("client-key-file", TEXT, "", REFUSED, "its key", _NO_TLS),
        Flag("client-cert-auth", BOOL, "false", REFUSED, "ask clients for a certificate", _NO_TLS),
        Flag("client-crl-file", TEXT, "", REFUSED, "revoked certificates of clients", _NO_TLS),
        Flag("client-cert-allowed-hostname", TEXT, "", REFUSED, "host name of clients' certificates", _NO_TLS),
        Flag("trusted-ca-file", TEXT, "", REFUSED, "authority of clients' certificates", _NO_TLS),
        Flag("auto-tls", BOOL, "false", REFUSED, "make a certificate for clients", _NO_TLS),
        Flag("peer-cert-file", TEXT, "", REFUSED, "certificate shown to members", _NO_TLS),
        Flag("peer-key-file", TEXT, "", REFUSED, "its key", _NO_TLS),
        Flag("peer-client-cert-file", TEXT, "", REFUSED, "certificate shown when dialling members", _NO_TLS),
        Flag("peer-client-key-file", TEXT, "", REFUSED, "its key", _NO_TLS),
        Flag("peer-client-cert-auth", BOOL, "false", REFUSED, "ask members for a certificate", _NO_TLS),
        Flag("peer-trusted-ca-file", TEXT, "", REFUSED, "authority of members' certificates", _NO_TLS),
        Flag("peer-crl-file", TEXT, "", REFUSED, "revoked certificates of members", _NO_TLS),
        Flag("peer-auto-tls", BOOL, "false", REFUSED, "make a certificate for members", _NO_TLS),
        Flag("peer-cert-allowed-cn", TEXT, "", REFUSED, "common name of members' certificates", _NO_TLS),
        Flag("peer-cert-allowed-hostname", TEXT, "", REFUSED, "host name of members' certificates", _NO_TLS),
        Flag("self-signed-cert-validity", UINT, "1", REFUSED, "years that a made certificate is valid", _NO_TLS),
        Flag("cipher-suites", LIST, "", REFUSED, "cipher suites of TLS", _NO_TLS),
        Flag("tls-min-version", TEXT, "TLS1.2", REFUSED, "oldest version of TLS", _NO_TLS),
        Flag("tls-max-version", TEXT, "", REFUSED, "newest version of TLS", _NO_TLS),
        Flag("cors", ORIGINS, "*", REFUSED, "web origins allowed", "there is no JSON gateway yet"),
        Flag("host-whitelist", LIST, "*", REFUSED, "host names allowed over HTTP", "every name is allowed here"),
    )),
    ("Authentication", (
        Flag("auth-token", TEXT, "simple", REFUSED, "kind of tokens", _NO_AUTH),
        Flag("auth-token-ttl", UINT, "300", REFUSED, "seconds a token lives", _NO_AUTH),
        Flag("bcrypt-cost", UINT, "10", REFUSED, "cost of hashing passwords", _NO_AUTH),
    )),
    ("Logging and profiling", (
        Flag("logger", TEXT, "zap", HONOURED, "only zap: one JSON object a line"),
        Flag("log-outputs", LIST, "default", HONOURED, "default or stderr, stdout, or files, comma-separated"),
        Flag("log-level", TEXT, "info", HONOURED, "debug, info, warn, error, panic or fatal"),
        Flag("enable-log-rotation", BOOL, "false", IGNORED, "rotate log files", "log files grow; rotate outside"),
        Flag("log-rotation-config-json", TEXT, '{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}', IGNORED, "how to rotate log files", "log files grow; rotate outside"),
        Flag("enable-pprof", BOOL, "false", REFUSED, "serve profiles of a Go program", "this is not one"),
        Flag("metrics", TEXT, "basic", REFUSED, "basic or extensive", "histograms of every call are not kept"),
        Flag("enable-grpc-gateway", BOOL, "true", REFUSED, "serve JSON over HTTP/1.1", "the JSON gateway comes with a later version; until then it is off", ("false",)),
    )),
    ("v2 proxy", (
        Flag("proxy", choice("off", "readonly", "on"), "off", REFUSED, "be a proxy and no member", _NO_PROXY),
        Flag("proxy-failure-wait", UINT, "5000", IGNORED, "of the v2 proxy", _NO_PROXY),
        Flag("proxy-refresh-interval", UINT, "30000", IGNORED, "of the v2 proxy", _NO_PROXY),
        Flag("proxy-dial-timeout", UINT, "1000", IGNORED, "of the v2 proxy", _NO_PROXY),
        Flag("proxy-write-timeout", UINT, "5000", IGNORED, "of the v2 proxy", _NO_PROXY),
        Flag("proxy-read-timeout", UINT, "0", IGNORED, "of the v2 proxy", _NO_PROXY),
    )),
    ("Experimental", (
        Flag("experimental-initial-corrupt-check", BOOL, "false", REFUSED, "compare hashes with the other members before serving", "comparing comes with a later version"),
        Flag("experimental-corrupt-check-time", DURATION, "0s", REFUSED, "compare hashes with the other members, this often", "comparing comes with a later version"),
        Flag("experimental-compact-hash-check-enabled", BOOL, "false", REFUSED, "the leader compares the hashes of compactions", "comparing comes with a later version"),
        Flag("experimental-compact-hash-check-time", DURATION, "1m0s", REFUSED, "how often it does", "comparing comes with a later version"),
        Flag("experimental-enable-v2v3", TEXT, "", REFUSED, "the v2 API over the v3 store", _NO_V2),
        Flag("experimental-enable-lease-checkpoint", BOOL, "false", REFUSED, "tell the followers how long leases have left", "without it a new leader starts every lease afresh, as etcd's default does"),
        Flag("experimental-enable-lease-checkpoint-persist", BOOL, "false", REFUSED, "and store it", "see --experimental-enable-lease-checkpoint"),
        Flag("experimental-compaction-batch-limit", INT, "1000", REFUSED, "revisions compacted in one go", "compaction paces itself by time here"),
        Flag("experimental-compaction-sleep-interval", DURATION, "10ms", REFUSED, "pause between two batches of a compaction", "compaction paces itself by time here"),
        Flag("experimental-peer-skip-client-san-verification", BOOL, "false", REFUSED, "do not check names in members' certificates", _NO_TLS),
        Flag("experimental-watch-progress-notify-interval", DURATION, "10m0s", HONOURED, "how often an idle watcher is told the revision, if it asked for that"),
        Flag("experimental-warning-apply-duration", DURATION, "100ms", HONOURED, "a request that takes longer to apply is logged"),
        Flag("experimental-downgrade-check-time", DURATION, "5s", REFUSED, "how often a downgrade is looked after", "there are no downgrades"),
        Flag("experimental-memory-mlock", BOOL, "false", IGNORED, "keep etcd in memory", "the kernel decides here"),
        Flag("experimental-txn-mode-write-with-shared-buffer", BOOL, "true", REFUSED, "how writing transactions read", "they read what is current, without a copy"),
        Flag("experimental-stop-grpc-service-on-defrag", BOOL, "false", REFUSED, "grpc.health says NOT_SERVING while defragmenting", "it goes on saying SERVING"),
        Flag("experimental-bootstrap-defrag-threshold-megabytes", UINT, "0", REFUSED, "defragment at start, if that much is free", "use Defragment"),
        Flag("experimental-snapshot-catchup-entries", UINT, "5000", REFUSED, "entries kept for slow followers", _NO_SNAPSHOTS),
        Flag("experimental-enable-distributed-tracing", BOOL, "false", IGNORED, "send traces", _NO_TRACING),
        Flag("experimental-distributed-tracing-address", TEXT, "localhost:4317", IGNORED, "of traces", _NO_TRACING),
        Flag("experimental-distributed-tracing-service-name", TEXT, "etcd", IGNORED, "of traces", _NO_TRACING),
        Flag("experimental-distributed-tracing-instance-id", TEXT, "", IGNORED, "of traces", _NO_TRACING),
        Flag("experimental-distributed-tracing-sampling-rate", INT, "0", IGNORED, "of traces", _NO_TRACING),
    )),
    ("Unsafe", (
        Flag("unsafe-no-fsync", BOOL, "false", REFUSED, "answer before the disk has it", "nothing is acknowledged before it is durable, not even on request"),
        Flag("force-new-cluster", BOOL, "false", REFUSED, "make a cluster of one out of this member's data", "recovery from a lost quorum comes with a later version"),
    )),
    ("The rest", (
        Flag("config-file", TEXT, "", HONOURED, "a YAML file; makes all other flags and variables ignored"),
        Flag("version", BOOL, "false", HONOURED, "print versions and end"),
    )),
)
# fmt: on
FLAGS: Mapping[str, Flag] = {flag.name: flag for _, flags in GROUPS for flag in flags}

# Ours, not etcd's.
CLAIM = Flag("claim-etcd-version", TEXT, ETCD_VERSION, HONOURED, "the etcd version to claim, for tests of dialects")
_KNOWN: Mapping[str, Flag] = {**FLAGS, CLAIM.name: CLAIM}

# Where a config file nests what flags do not: section -> prefix of the flags' names.
SECTIONS = {"client-transport-security": "", "peer-transport-security": "peer-"}
_SECTION_KEYS = {"allowed-cn": "cert-allowed-cn", "allowed-hostname": "cert-allowed-hostname"}


# ---- the outcome -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Config:
    """What the flags say, checked. Times are milliseconds; names are the flags'."""

    name: str
    data_dir: Path
    wal_dir: Path  # resolved: data_dir/member/wal unless --wal-dir says otherwise
    listen_peer_urls: tuple[Url, ...]
    listen_client_urls: tuple[Url, ...]
    listen_metrics_urls: tuple[Url, ...]
    initial_advertise_peer_urls: tuple[str, ...]
    advertise_client_urls: tuple[str, ...]
    initial_cluster_text: str
    initial_cluster_state: str  # "new" | "existing"
    initial_cluster_token: str
    heartbeat_interval_ms: int
    election_timeout_ms: int
    initial_election_tick_advance: bool
    quota_backend_bytes: int  # negative: no quota
    backend_batch_interval_ms: int
    backend_batch_limit: int
    max_txn_ops: int
    max_request_bytes: int
    max_concurrent_streams: int
    grpc_keepalive_min_time_ms: int
    grpc_keepalive_interval_ms: int  # 0: never ping
    grpc_keepalive_timeout_ms: int
    socket_reuse_port: bool
    socket_reuse_address: bool
    strict_reconfig_check: bool
    pre_vote: bool
    auto_compaction_period_ms: int  # 0: not by time
    auto_compaction_revisions: int  # 0: not by count
    watch_progress_notify_interval_ms: int
    warning_apply_duration_ms: int
    log_level: str
    log_outputs: tuple[str, ...]  # "stderr", "stdout" or paths
    claim_etcd_version: str
    warnings: tuple[str, ...]  # for the log, once there is one

    @property
    def election_ticks(self) -> int:
        """Heartbeat intervals in an election timeout, at least 5."""
        return self.election_timeout_ms // self.heartbeat_interval_ms

    def initial_cluster(self) -> dict[str, tuple[str, ...]]:
        """Name -> sorted peer URLs. Raises ConfigError; a member with data never asks, so its text may be anything."""
        urls: dict[str, list[str]] = {}
        for part in filter(None, self.initial_cluster_text.split(",")):
            name, _, url = part.partition("=")
            try:
                urls.setdefault(name, []).append(str(parse_url(url)))
            except Invalid as error:
                raise _failed(
                    f"error setting up initial cluster: {error}", "Write --initial-cluster as NAME=URL,NAME=URL"
                ) from None
        return {name: tuple(sorted(members)) for name, members in urls.items()}


def check_bootstrap(config: Config, resolve: Callable[[str], str] | None = None) -> dict[str, tuple[str, ...]]:
    """The initial cluster of a member with an empty data directory. Raises ConfigError with etcd's words.

    resolve: host name -> address, so that `localhost` equals 127.0.0.1 as it does for etcd; None compares texts.
    """
    cluster = config.initial_cluster()
    own = cluster.get(config.name)
    if own is None:
        raise _failed(
            f'couldn\'t find local name "{config.name}" in the initial cluster configuration',
            f"--initial-cluster is {config.initial_cluster_text or 'empty'}; --name must be one of its names",
        )
    urls = [url for members in cluster.values() for url in members]
    if len(set(urls)) != len(urls):
        raise _failed(f"initial cluster {config.initial_cluster_text} has duplicate url")
    if config.initial_cluster_state == "existing":
        return cluster  # the cluster knows our URLs already, from MemberAdd

    advertised = config.initial_advertise_peer_urls
    if sorted(map(_resolved(resolve), own)) == sorted(map(_resolved(resolve), advertised)):
        return cluster
    if missing := sorted(set(own) - set(advertised)):
        raise _failed(
            f"--initial-cluster has {','.join(f'{config.name}={url}' for url in missing)} but missing from "
            f"--initial-advertise-peer-urls={','.join(advertised)}",
            "Other members dial the first, so the two must be equal",
        )
    missing = sorted(set(advertised) - set(own))
    raise _failed(
        f"--initial-advertise-peer-urls has {','.join(missing)} but missing from "
        f"--initial-cluster={','.join(f'{config.name}={url}' for url in own)}",
        "Other members dial the second, so the two must be equal",
    )


def _resolved(resolve: Callable[[str], str] | None) -> Callable[[str], str]:
    def canonical(text: str) -> str:
        url = parse_url(text)
        return str(url if resolve is None else url._replace(host=resolve(url.host)))

    return canonical


# ---- loading ---------------------------------------------------------------------------------------------------------


class Setting(NamedTuple):
    """A value somebody gave. origin: how they wrote it (`--name`, `ETCD_NAME`, `kvorum.yaml: name`)."""

    value: object
    text: str
    origin: str


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Config:
    """The settings that arguments (without the program's name), environment and config file amount to.

    Raises ConfigError, and Answered for --version and --help.
    """
    given = _parse_arguments(argv)
    if "version" in given and given["version"].value is True:
        claimed = given[CLAIM.name].text if CLAIM.name in given else ETCD_VERSION
        raise Answered(version_text(claimed))
    file_name = given["config-file"].text if "config-file" in given else environ.get("ETCD_CONFIG_FILE", "")
    warnings: list[str] = []
    if file_name:
        others = [setting.origin for name, setting in given.items() if name not in ("config-file", CLAIM.name)]
        others += sorted(key for key in environ if key.startswith(ENVIRONMENT_PREFIX) and key != "ETCD_CONFIG_FILE")
        if others:
            warnings.append(f"{file_name} is the config file, so these are ignored: {', '.join(others)}")
        claim = {CLAIM.name: given[CLAIM.name]} if CLAIM.name in given else {}
        given = _parse_file(Path(file_name), warnings) | claim
    else:
        given |= _parse_environment(given, environ, warnings)
    _refuse(given, warnings)
    return _settle(given, warnings, from_file=bool(file_name))


def _failed(what: str, *way_out: str) -> ConfigError:
    return ConfigError(EXIT_FAILED, f"kvorum: {what}", *(f"  {line}" for line in way_out))


def _usage_error(what: str) -> ConfigError:
    return ConfigError(
        EXIT_USAGE, f"kvorum: {what}", "  Usage: kvorum [--flag=value ...]; `kvorum --help` lists all flags"
    )


def _parse_arguments(argv: Sequence[str]) -> dict[str, Setting]:
    """Go's flag syntax: one or two dashes, `=` or the next word, booleans only with `=`; the last of equals counts."""
    if argv and argv[0] in ("gateway", "grpc-proxy"):
        raise _usage_error(f"there is no `{argv[0]}` here, only the server")
    given: dict[str, Setting] = {}
    words = iter(argv)
    for word in words:
        if word == "--":
            break
        if len(word) < 2 or word[0] != "-":
            raise ConfigError(
                EXIT_FAILED,
                f"kvorum: '{word}' is not a valid flag",
                "  Each setting is --flag=value; `kvorum --help` lists all flags",
            )
        body = word[2:] if word.startswith("--") else word[1:]
        if not body or body[0] in "-=":
            raise _usage_error(f"bad flag syntax: {word}")
        name, has_value, text = body.partition("=")
        if name in ("h", "help"):
            raise Answered(help_text())
        flag = _KNOWN.get(name)
        if flag is None:
            raise _usage_error(f"flag provided but not defined: -{name}")
        if not has_value:
            if flag.kind is BOOL:
                text = "true"
            else:
                following = next(words, None)
                if following is None:
                    raise _usage_error(f"flag needs an argument: -{name}")
                text = following
        try:
            given[name] = Setting(flag.kind.parse(text), text, f"--{name}")
        except Invalid as error:
            if flag.kind is BOOL:
                raise _usage_error(f'invalid boolean value "{text}" for -{name}: {error}') from None
            raise _usage_error(f'invalid value "{text}" for flag -{name}: {error}') from None
    if rest := next(words, None):
        raise ConfigError(EXIT_FAILED, f"kvorum: '{rest}' is not a valid flag")
    return given


def _parse_environment(
    given: Mapping[str, Setting], environ: Mapping[str, str], warnings: list[str]
) -> dict[str, Setting]:
    known = {variable(name): flag for name, flag in FLAGS.items()}
    found: dict[str, Setting] = {}
    for key, text in sorted(environ.items()):
        if not key.startswith(ENVIRONMENT_PREFIX):
            continue
        flag = known.get(key)
        if flag is None or flag.name == "version":
            warnings.append(f"unrecognized environment variable {key}")
        elif flag.name in given:
            raise _failed(
                f'conflicting environment variable "{key}" is shadowed by corresponding command-line flag '
                "(either unset environment variable or disable flag)"
            )
        elif text:
            try:
                found[flag.name] = Setting(flag.kind.parse(text), text, key)
            except Invalid as error:
                raise _failed(f'invalid value "{text}" for {key}: {error}') from None
    return found


def _parse_file(path: Path, warnings: list[str]) -> dict[str, Setting]:
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise _failed(f"the config file {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = " ".join(str(error).split())
        raise _failed(f"the config file {path} is no YAML: {place}") from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise _failed(f"the config file {path} must be a mapping of flags to values")
    given: dict[str, Setting] = {}
    for key, value, name in _file_entries(document):
        origin = f"{path}: {key}"
        flag = FLAGS.get(name) if name not in ("config-file", "version") else None
        if flag is None:
            warnings.append(f"{origin} is no setting, and ignored")
            continue
        text = _file_text(flag, value)
        if text is None:
            raise _failed(f"{origin} must be a {flag.kind.label}, not {value!r}")
        try:
            given[name] = Setting(flag.kind.parse(text), text, origin)
        except Invalid as error:
            raise _failed(f'invalid value "{text}" for {origin}: {error}') from None
    return given


def _file_entries(document: Mapping[object, object]) -> Iterable[tuple[str, object, str]]:
    """Of each value that is not null: its path in the file, itself, the flag's name."""
    for key, value in document.items():
        if value is None:
            continue
        prefix = SECTIONS.get(str(key))
        if prefix is None:
            yield str(key), value, str(key)
        elif isinstance(value, dict):
            for inner_key, inner in value.items():
                if inner is not None:
                    name = _SECTION_KEYS.get(str(inner_key), str(inner_key))
                    # Only clients' lists of revoked certificates have a prefix of their own.
                    full = "client-crl-file" if (prefix, name) == ("", "crl-file") else prefix + name
                    yield f"{key}.{inner_key}", inner, full
        else:
            yield str(key), value, str(key)


def _file_text(flag: Flag, value: object) -> str | None:
    """The value as a flag would have it; None if its type cannot be meant. A number for a duration is nanoseconds."""
    if isinstance(value, bool):
        return str(value).lower() if flag.kind is BOOL else None
    if flag.kind is BOOL:
        return None
    if isinstance(value, int):
        return f"{value}ns" if flag.kind is DURATION else str(value)
    if isinstance(value, str):
        return value
    if isinstance(value, list) and flag.kind in (LIST, URLS, OPTIONAL_URLS, ORIGINS):
        return ",".join(map(str, value))
    return None


def _refuse(given: Mapping[str, Setting], warnings: list[str]) -> None:
    for name, setting in given.items():
        flag = _KNOWN[name]
        harmless = {flag.kind.parse(text) for text in flag.accepts or (flag.default,)}
        if flag.status is HONOURED or setting.value in harmless:
            continue
        if flag.status is IGNORED:
            warnings.append(f"{setting.origin} is ignored: {flag.note}")
            continue
        allowed = " or ".join(flag.accepts or (flag.default or "leaving it out",))
        raise _failed(
            f"{setting.origin}={setting.text} is not supported yet: {flag.note}",
            f"Kvorum {VERSION} goes on only with {allowed}; docs/flags.md lists every flag",
        )


class _Values:
    """Given values over defaults, by type."""

    def __init__(self, given: Mapping[str, Setting]) -> None:
        self._given = given

    def _value(self, name: str) -> object:
        setting = self._given.get(name)
        return _KNOWN[name].kind.parse(_KNOWN[name].default) if setting is None else setting.value

    def text(self, name: str) -> str:
        value = self._value(name)
        assert isinstance(value, str), name
        return value

    def boolean(self, name: str) -> bool:
        value = self._value(name)
        assert isinstance(value, bool), name
        return value

    def integer(self, name: str) -> int:
        value = self._value(name)
        assert isinstance(value, int), name
        return value

    def milliseconds(self, name: str) -> int:
        """Of a duration, rounded up: what is not zero stays so."""
        return -(-self.integer(name) // 1_000_000)

    def urls(self, name: str) -> tuple[Url, ...]:
        value = self._value(name)
        assert isinstance(value, tuple), name
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._value(name)
        assert isinstance(value, tuple), name
        return value


def _settle(given: Mapping[str, Setting], warnings: list[str], *, from_file: bool) -> Config:
    """Defaults that depend on other settings, and etcd's checks in etcd's order."""
    values = _Values(given)
    log_level, log_outputs = _checked_logging(values)
    for flag in ("listen-peer-urls", "listen-client-urls", "listen-metrics-urls"):
        _check_listen_urls(flag, values.urls(flag))
    _check_advertised("initial-advertise-peer-urls", values.urls("initial-advertise-peer-urls"), plain_only=True)
    _check_advertised("advertise-client-urls", values.urls("advertise-client-urls"), plain_only=False)
    heartbeat_ms, election_ms = values.integer("heartbeat-interval"), values.integer("election-timeout")
    _check_timing(heartbeat_ms, election_ms)
    # Of a file etcd does not ask for this: there the default stays.
    if "listen-client-urls" in given and "advertise-client-urls" not in given and not from_file:
        raise _failed(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            "Set it to the URLs at which clients reach this member",
        )
    period_ms, revisions = _checked_retention(
        values.text("auto-compaction-mode"), values.text("auto-compaction-retention")
    )

    name = values.text("name")
    data_dir = Path(values.text("data-dir") if "data-dir" in given and given["data-dir"].text else f"{name}.etcd")
    peer_urls = tuple(map(str, values.urls("initial-advertise-peer-urls")))
    # Only a new name changes the default: with advertised URLs alone, etcd asks for --initial-cluster too.
    own_cluster = ",".join(f"{name or 'default'}={url}" for url in peer_urls)
    named = name != FLAGS["name"].default and "initial-cluster" not in given
    quota = values.integer("quota-backend-bytes")
    if quota > QUOTA_ADVISED_BYTES:
        warnings.append(f"--quota-backend-bytes={quota} is above the advised {QUOTA_ADVISED_BYTES}")
    request_bytes = values.integer("max-request-bytes")
    if request_bytes > REQUEST_ADVISED_BYTES:
        warnings.append(f"--max-request-bytes={request_bytes} is above the advised {REQUEST_ADVISED_BYTES}")
    claimed = values.text(CLAIM.name)
    if not re.fullmatch(r"\d+\.\d+\.\d+", claimed):
        raise _failed(f"--claim-etcd-version={claimed} must be three numbers, as in {ETCD_VERSION}")
    return Config(
        name=name,
        data_dir=data_dir,
        wal_dir=Path(values.text("wal-dir")) if values.text("wal-dir") else data_dir / "member" / "wal",
        listen_peer_urls=values.urls("listen-peer-urls"),
        listen_client_urls=values.urls("listen-client-urls"),
        listen_metrics_urls=values.urls("listen-metrics-urls"),
        initial_advertise_peer_urls=peer_urls,
        advertise_client_urls=tuple(map(str, values.urls("advertise-client-urls"))),
        initial_cluster_text=own_cluster if named else values.text("initial-cluster"),
        initial_cluster_state=values.text("initial-cluster-state"),
        initial_cluster_token=values.text("initial-cluster-token"),
        heartbeat_interval_ms=heartbeat_ms,
        election_timeout_ms=election_ms,
        initial_election_tick_advance=values.boolean("initial-election-tick-advance"),
        quota_backend_bytes=quota or QUOTA_DEFAULT_BYTES,
        backend_batch_interval_ms=values.milliseconds("backend-batch-interval") or 100,
        backend_batch_limit=values.integer("backend-batch-limit") or 10_000,
        max_txn_ops=values.integer("max-txn-ops"),
        max_request_bytes=request_bytes,
        max_concurrent_streams=values.integer("max-concurrent-streams"),
        grpc_keepalive_min_time_ms=values.milliseconds("grpc-keepalive-min-time"),
        grpc_keepalive_interval_ms=values.milliseconds("grpc-keepalive-interval"),
        grpc_keepalive_timeout_ms=values.milliseconds("grpc-keepalive-timeout"),
        socket_reuse_port=values.boolean("socket-reuse-port"),
        socket_reuse_address=values.boolean("socket-reuse-address"),
        strict_reconfig_check=values.boolean("strict-reconfig-check"),
        pre_vote=values.boolean("pre-vote"),
        auto_compaction_period_ms=period_ms,
        auto_compaction_revisions=revisions,
        watch_progress_notify_interval_ms=values.milliseconds("experimental-watch-progress-notify-interval"),
        warning_apply_duration_ms=values.milliseconds("experimental-warning-apply-duration"),
        log_level=log_level,
        log_outputs=log_outputs,
        claim_etcd_version=claimed,
        warnings=tuple(warnings),
    )


def _checked_logging(values: _Values) -> tuple[str, tuple[str, ...]]:
    if (logger := values.text("logger")) != "zap":
        raise _failed(f'unknown logger option "{logger}"', "The only logger is zap")
    level = values.text("log-level")
    if level not in ("debug", "info", "warn", "error", "panic", "fatal"):
        raise _failed(f'unrecognized level: "{level}"', "--log-level is debug, info, warn, error, panic or fatal")
    outputs = values.texts("log-outputs")
    for special in ("systemd/journal", "default"):
        if special in outputs and len(outputs) > 1:
            raise _failed(f'multi logoutput for "{special}" is not supported yet')
    if "systemd/journal" in outputs:
        raise _failed("--log-outputs=systemd/journal is not supported yet", "The journal takes stderr as it is")
    return level, tuple(dict.fromkeys("stderr" if output == "default" else output for output in outputs)) or ("stderr",)


def _check_listen_urls(flag: str, urls: tuple[Url, ...]) -> None:
    for url in urls:
        if url.scheme != "http":
            missing = "unix sockets" if url.scheme.startswith("unix") else "TLS"
            raise _failed(
                f"--{flag}={url} is not supported yet: {missing} comes with a later version", "Use an http URL"
            )
        if url.host != "localhost" and not _is_address(url.host):
            raise _failed(
                f"expected IP in URL for binding ({url})", f"--{flag} takes addresses of this machine, or localhost"
            )


def _check_advertised(flag: str, urls: tuple[Url, ...], *, plain_only: bool) -> None:
    for url in urls:
        if not url.host:
            listed = ",".join(map(str, urls))
            raise _failed(f'--{flag} "{listed}" must be "host:port" (unexpected empty host ({url}))')
        if plain_only and url.scheme != "http":
            raise _failed(
                f"--{flag}={url} is not supported yet: TLS between members comes with a later version",
                "Use an http URL",
            )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_timing(heartbeat_ms: int, election_ms: int) -> None:
    if heartbeat_ms == 0:
        raise _failed(f"--heartbeat-interval must be >0 (set to {heartbeat_ms}ms)")
    if election_ms == 0:
        raise _failed(f"--election-timeout must be >0 (set to {election_ms}ms)")
    if 5 * heartbeat_ms > election_ms:
        raise _failed(
            f"--election-timeout[{election_ms}ms] should be at least as 5 times as "
            f"--heartbeat-interval[{heartbeat_ms}ms]"
        )
    if election_ms > ELECTION_TIMEOUT_MAX_MS:
        raise _failed(
            f"--election-timeout[{election_ms}ms] is too long, and should be set less than {ELECTION_TIMEOUT_MAX_MS}ms"
        )


def _checked_retention(mode: str, retention: str) -> tuple[int, int]:
    """Milliseconds of periodic compaction, and revisions of the other kind; at most one is not 0."""
    if mode not in ("periodic", "revision"):
        raise _failed(f'unknown auto-compaction-mode "{mode}"', "It is periodic or revision")
    if re.fullmatch(r"\d+", retention):
        return (int(retention) * 3_600_000, 0) if mode == "periodic" else (0, int(retention))
    try:
        duration_ns = parse_duration_ns(retention)
    except Invalid:
        duration_ns = -1
    if duration_ns < 0:
        raise _failed(f'error parsing CompactionRetention: time: invalid duration "{retention}"')
    if mode == "revision":
        raise _failed(f"--auto-compaction-retention={retention} of mode revision must be a number of revisions")
    return -(-duration_ns // 1_000_000), 0


# ---- texts -----------------------------------------------------------------------------------------------------------


def variable(flag_name: str) -> str:
    """The environment variable of a flag."""
    return ENVIRONMENT_PREFIX + flag_name.upper().replace("-", "_")


def version_text(claimed: str) -> str:
    """Four lines like etcd's. Harnesses parse the first; the second is the truth."""
    return (
        f"etcd Version: {claimed}\n"
        f"Kvorum Version: {VERSION}\n"
        f"Python Version: {platform.python_version()}\n"
        f"OS/Arch: {platform.system().lower()}/{platform.machine()}\n"
    )


def help_text() -> str:
    lines = [
        "Usage: kvorum [--flag=value ...]",
        "",
        f"Starts a member that speaks etcd {ETCD_VERSION}'s API.",
        "Every flag has a variable (--data-dir is ETCD_DATA_DIR). With --config-file, both are ignored.",
    ]
    for title, flags in (*GROUPS, ("Kvorum's own", (CLAIM,))):
        lines += ["", f"{title}:"]
        for flag in flags:
            lines.append(f"  --{flag.name} '{flag.default}'")
            lines.append(f"      {flag.meaning}")
            if flag.status is not HONOURED:
                lines.append(f"      {flag.status.value}: {flag.note}")
    return "\n".join(lines) + "\n"
