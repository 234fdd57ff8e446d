"""What can be set: one row for each flag of etcd 3.5, and how the text of each kind becomes a value.

Knows no file, no environment and no order of precedence: that is config.py. Error texts are those of etcd and of
Go's flag package, because scripts match on them (reference: etcd 1.12, appendix B).

Each flag is HONOURED, REFUSED (known, but this version cannot do what it asks: say so and stop) or IGNORED with a
warning, which only discovery*, proxy*, tracing, log rotation, bbolt's freelist and mlock may be: a setting that
silently does nothing is worse than none.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

ETCD_VERSION = "3.5.30"  # what we claim to be, because clients, peers and harnesses choose their dialect by it
ENVIRONMENT_PREFIX = "ETCD_"


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
_SCHEMELESS = re.compile(r"(?![A-Za-z])[^/]*:")  # what Go takes for a path with a colon, and refuses
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>[^/?#@]*)(?P<rest>.*)", re.DOTALL)
_HOST_PORT = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[^:]*)")


def parse_boolean(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise Invalid("parse error")


def _integer(low: int, high: int) -> Callable[[str], int]:
    """Go's integers of base 0, underscores included."""

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


def parse_uint32(text: str) -> int:
    """Decimal only, and with Go's other words: etcd parses this one by itself."""
    if not re.fullmatch(r"[0-9]+", text):
        raise Invalid(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) >= 1 << 32:
        raise Invalid(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


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
    if _SCHEMELESS.match(text):
        raise Invalid(f'parse "{text}": first path segment in URL cannot contain colon')
    match = _URL.fullmatch(text)
    if match is None or match["scheme"] not in ("http", "https", "unix", "unixs"):
        raise Invalid(f"URL scheme must be http, https, unix, or unixs: {text}")
    if match["scheme"].startswith("unix"):
        return Url(match["scheme"], match["host"] + match["rest"], 0)
    address = _HOST_PORT.fullmatch(match["host"])
    if address is None:
        raise Invalid(f'URL address does not have the form "host:port": {text}')
    if not re.fullmatch(r"[0-9]*", address["port"]):
        raise Invalid(f'parse "{text}": invalid port ":{address["port"]}" after host')
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
UINT32 = Kind("uint32", parse_uint32)
INT = Kind("int", _integer(-(1 << 63), (1 << 63) - 1))
DURATION = Kind("duration", parse_duration_ns)
URLS = Kind("URLs", parse_urls)
OPTIONAL_URLS = Kind("URLs or nothing", parse_optional_urls)
ORIGINS = Kind("URLs or *", _or_words(parse_urls, "*", ""))
LIST = Kind("list", parse_list)


class Setting(NamedTuple):
    """A value somebody gave. origin: how they wrote it (`--name`, `ETCD_NAME`, `kvorum.yaml: name`)."""

    value: object
    text: str
    origin: str


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


_NO_V2V3 = "the v2 API has a store of its own, as it has in etcd without this flag"
_NO_PROXY = "there is no proxy mode"
_NO_TRACING = "there is no tracing"

# One row a flag, whatever its length.
# fmt: off
GROUPS: tuple[tuple[str, tuple[Flag, ...]], ...] = (
    ("Member", (
        Flag("name", TEXT, "default", HONOURED, "this member's name, as --initial-cluster has it"),
        Flag("data-dir", TEXT, "${name}.etcd", HONOURED, "where everything lies"),
        Flag("wal-dir", TEXT, "", HONOURED, "where the log lies, if not in the data directory"),
        Flag("snapshot-count", UINT, "100000", HONOURED, "entries between two snapshots; 0 is 100000"),
        Flag("heartbeat-interval", UINT, "100", HONOURED, "milliseconds between a leader's heartbeats"),
        Flag("election-timeout", UINT, "1000", HONOURED, "milliseconds of silence before an election"),
        Flag("initial-election-tick-advance", BOOL, "true", HONOURED, "at start, count all but one heartbeat of the first election timeout as passed"),
        Flag("listen-peer-urls", URLS, "http://localhost:2380", HONOURED, "where members reach this one"),
        Flag("listen-client-urls", URLS, "http://localhost:2379", HONOURED, "where clients reach this member"),
        Flag("listen-client-http-urls", OPTIONAL_URLS, "", HONOURED, "URLs of their own for plain HTTP; it then leaves those of --listen-client-urls to gRPC"),
        Flag("listen-metrics-urls", OPTIONAL_URLS, "", HONOURED, "where /metrics and /health answer as well"),
        Flag("max-snapshots", UINT, "5", HONOURED, "snapshot files to keep; 0 is all", "the log is kept back to the oldest of them"),
        Flag("max-wals", UINT, "5", HONOURED, "log files to keep, or as many as the kept snapshots need; 0 is all"),
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
        Flag("socket-reuse-address", BOOL, "false", HONOURED, "SO_REUSEADDR on listeners: always set, as by Go"),
        Flag("raft-read-timeout", DURATION, "5s", HONOURED, "silence of a member's stream before it is given up; not below 5s"),
        Flag("raft-write-timeout", DURATION, "5s", HONOURED, "how long a member may take nothing of its stream; not below 5s"),
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
        Flag("enable-v2", BOOL, "false", HONOURED, "serve the v2 API, too", "its keys are kept either way; it knows no users, neither v3's nor its own"),
        Flag("v2-deprecation", choice("not-yet", "write-only", "write-only-drop-data", "gone"), "not-yet", HONOURED, "from write-only on: start only if no v2 keys are there"),
    )),
    ("Security", (
        Flag("cert-file", TEXT, "", HONOURED, "certificate shown to clients, its chain behind it"),
        Flag("key-file", TEXT, "", HONOURED, "its key"),
        Flag("client-cert-file", TEXT, "", HONOURED, "certificate that the gateway shows to its own member", "here the gateway is in the member, and shows none; the pair must be one"),
        Flag("client-key-file", TEXT, "", HONOURED, "its key"),
        Flag("client-cert-auth", BOOL, "false", HONOURED, "ask clients for a certificate, whose common name is a user's where users are on"),
        Flag("client-crl-file", TEXT, "", HONOURED, "revoked certificates of clients"),
        Flag("client-cert-allowed-hostname", LIST, "", HONOURED, "a host name of these must be in a client's certificate"),
        Flag("trusted-ca-file", TEXT, "", HONOURED, "authorities of clients' certificates; alone, too, it asks for one"),
        Flag("auto-tls", BOOL, "false", HONOURED, "make a certificate for clients, where none is given"),
        Flag("peer-cert-file", TEXT, "", HONOURED, "certificate shown to members"),
        Flag("peer-key-file", TEXT, "", HONOURED, "its key"),
        Flag("peer-client-cert-file", TEXT, "", HONOURED, "certificate shown when dialing members, if not the same"),
        Flag("peer-client-key-file", TEXT, "", HONOURED, "its key"),
        Flag("peer-client-cert-auth", BOOL, "false", HONOURED, "ask members for a certificate"),
        Flag("peer-trusted-ca-file", TEXT, "", HONOURED, "authorities of members' certificates; alone, too, it asks for one"),
        Flag("peer-crl-file", TEXT, "", HONOURED, "revoked certificates of members"),
        Flag("peer-auto-tls", BOOL, "false", HONOURED, "make a certificate for members, where none is given: encrypted, and nobody is checked"),
        Flag("peer-cert-allowed-cn", LIST, "", HONOURED, "the common name of a member's certificate must be one of these"),
        Flag("peer-cert-allowed-hostname", LIST, "", HONOURED, "a host name of these must be in a member's certificate"),
        Flag("self-signed-cert-validity", UINT, "1", HONOURED, "years that a made certificate is valid"),
        Flag("cipher-suites", LIST, "", HONOURED, "cipher suites of TLS 1.2, by Go's names; none is OpenSSL's choice"),
        Flag("tls-min-version", TEXT, "TLS1.2", HONOURED, "oldest version of TLS: TLS1.2 or TLS1.3"),
        Flag("tls-max-version", TEXT, "", HONOURED, "newest version of TLS; none is the newest there is"),
        Flag("cors", ORIGINS, "*", HONOURED, "web origins whose pages may ask"),
        Flag("host-whitelist", LIST, "*", HONOURED, "host names that may be asked for by HTTP without TLS"),
    )),
    ("Authentication", (
        Flag("auth-token", TEXT, "simple", HONOURED, "kind of tokens: simple, or jwt,sign-method=RS256,priv-key=FILE,pub-key=FILE,ttl=5m"),
        Flag("auth-token-ttl", UINT, "300", HONOURED, "seconds that a simple token lasts without being used; 0 is 300"),
        Flag("bcrypt-cost", UINT, "10", HONOURED, "cost of hashing passwords, 4 to 31: each more doubles the time"),
    )),
    ("Logging and profiling", (
        Flag("logger", TEXT, "zap", HONOURED, "only zap: one JSON object a line"),
        Flag("log-outputs", LIST, "default", HONOURED, "default or stderr, stdout, or files, comma-separated"),
        Flag("log-level", TEXT, "info", HONOURED, "debug, info, warn, error, panic or fatal"),
        Flag("enable-log-rotation", BOOL, "false", IGNORED, "rotate log files", "log files grow; rotate outside"),
        Flag("log-rotation-config-json", TEXT, '{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}', IGNORED, "how to rotate log files", "log files grow; rotate outside"),
        Flag("enable-pprof", BOOL, "false", HONOURED, "serve profiles and stacks at the client URLs, below /debug/pprof/", "those of a Python program"),
        Flag("metrics", TEXT, "basic", HONOURED, "extensive: /metrics has how long calls took, by method"),
        Flag("enable-grpc-gateway", BOOL, "true", HONOURED, "serve the API as JSON over HTTP, below /v3/"),
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
        Flag("experimental-initial-corrupt-check", BOOL, "false", HONOURED, "compare hashes with the other members before serving; where they differ this member stands aside as corrupt"),
        Flag("experimental-corrupt-check-time", DURATION, "0s", HONOURED, "the leader compares hashes with the other members, this often; 0 never"),
        Flag("experimental-compact-hash-check-enabled", BOOL, "false", HONOURED, "the leader compares the hashes of compactions"),
        Flag("experimental-compact-hash-check-time", DURATION, "1m0s", HONOURED, "how often it does"),
        Flag("experimental-enable-v2v3", TEXT, "", REFUSED, "the v2 API over the v3 store", _NO_V2V3),
        Flag("experimental-enable-lease-checkpoint", BOOL, "false", HONOURED, "each five minutes the leader tells the others how long longer leases have left; without it a new leader starts them afresh"),
        Flag("experimental-enable-lease-checkpoint-persist", BOOL, "false", HONOURED, "and all store it, for after a restart of all"),
        Flag("experimental-compaction-batch-limit", INT, "1000", HONOURED, "most revisions looked at in one go of a compaction; 0 is 1000", "500 at most: requests wait for it"),
        Flag("experimental-compaction-sleep-interval", DURATION, "10ms", HONOURED, "pause between two of them; 0 is 10ms"),
        Flag("experimental-peer-skip-client-san-verification", BOOL, "false", HONOURED, "do not compare the names in members' certificates with their addresses"),
        Flag("experimental-watch-progress-notify-interval", DURATION, "10m0s", HONOURED, "how often an idle watcher is told the revision, if it asked for that"),
        Flag("experimental-warning-apply-duration", DURATION, "100ms", HONOURED, "a request that takes longer to apply is logged"),
        Flag("experimental-downgrade-check-time", DURATION, "5s", REFUSED, "how often a downgrade is looked after", "nobody looks after one here: it lasts until it is cancelled"),
        Flag("experimental-memory-mlock", BOOL, "false", IGNORED, "keep etcd in memory", "the kernel decides here"),
        Flag("experimental-txn-mode-write-with-shared-buffer", BOOL, "true", REFUSED, "how writing transactions read", "they read what is current, without a copy"),
        Flag("experimental-stop-grpc-service-on-defrag", BOOL, "false", HONOURED, "grpc.health says NOT_SERVING while defragmenting"),
        Flag("experimental-bootstrap-defrag-threshold-megabytes", UINT, "0", REFUSED, "defragment at start, if that much is free", "use Defragment"),
        Flag("experimental-snapshot-catchup-entries", UINT, "5000", HONOURED, "entries before a snapshot kept for slow followers; 0 is 5000"),
        Flag("experimental-enable-distributed-tracing", BOOL, "false", IGNORED, "send traces", _NO_TRACING),
        Flag("experimental-distributed-tracing-address", TEXT, "localhost:4317", IGNORED, "of traces", _NO_TRACING),
        Flag("experimental-distributed-tracing-service-name", TEXT, "etcd", IGNORED, "of traces", _NO_TRACING),
        Flag("experimental-distributed-tracing-instance-id", TEXT, "", IGNORED, "of traces", _NO_TRACING),
        Flag("experimental-distributed-tracing-sampling-rate", INT, "0", IGNORED, "of traces", _NO_TRACING),
    )),
    ("Unsafe", (
        Flag("unsafe-no-fsync", BOOL, "false", REFUSED, "answer before the disk has it", "nothing is acknowledged before it is durable, not even on request"),
        Flag("force-new-cluster", BOOL, "false", HONOURED, "make a cluster of one out of this member's data: for a quorum that is lost for good"),
    )),
    ("The rest", (
        Flag("config-file", TEXT, "", HONOURED, "a YAML file; makes all other flags and variables ignored"),
        Flag("version", BOOL, "false", HONOURED, "print versions and end"),
    )),
)
FLAGS: Mapping[str, Flag] = {flag.name: flag for _, flags in GROUPS for flag in flags}

# Ours, not etcd's.
CLAIM = Flag("claim-etcd-version", TEXT, ETCD_VERSION, HONOURED, "the etcd version to claim, for tests of dialects")
PRINT_SAMPLE = Flag("print-config-sample", BOOL, "false", HONOURED, "print a config file with every key and its default, and end")
# Of etcd's file, where no flag of etcd's is for it: the key allowed-cn in client-transport-security.
CLIENT_CN = Flag("client-cert-allowed-cn", LIST, "", HONOURED, "the common name of a client's certificate must be one of these")
OWN = (CLAIM, PRINT_SAMPLE, CLIENT_CN)
# fmt: on
KNOWN: Mapping[str, Flag] = {**FLAGS, **{flag.name: flag for flag in OWN}}


def variable(flag_name: str) -> str:
    """The environment variable of a flag."""
    return ENVIRONMENT_PREFIX + flag_name.upper().replace("-", "_")
