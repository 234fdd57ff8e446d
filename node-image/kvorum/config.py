"""The node's settings: etcd 3.5's flags, environment and config file, all from the one table in flags.py.

Knows texts and what they mean, and which of them counts; what a config file says is config_file.py's. Whether a data
directory exists, a name resolves or a port is free is main's business. Rules and error texts are etcd's: Go's flag
syntax, `ETCD_*` for what no flag says, a flag that shadows its variable is fatal, a config file makes all the rest
ignored (reference: etcd 1.12).
"""

import ipaddress
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvorum import __version__, config_file
from kvorum.config_sample import sample
from kvorum.flags import (
    BOOL,
    CLAIM,
    ENVIRONMENT_PREFIX,
    ETCD_VERSION,
    FLAGS,
    GROUPS,
    KNOWN,
    OWN,
    PRINT_SAMPLE,
    Invalid,
    Setting,
    Status,
    Url,
    parse_duration_ns,
    parse_url,
    variable,
)
from kvorum.tls_settings import TlsRules, TlsSettings, read_rules

ELECTION_TIMEOUT_MAX_MS = 50_000
QUOTA_DEFAULT_BYTES = 2 << 30
SNAPSHOT_COUNT_DEFAULT = 100_000  # as for the quota, 0 asks for etcd's default
CATCH_UP_ENTRIES_DEFAULT = 5_000
COMPACTION_BATCH = 1_000
COMPACTION_SLEEP_MS = 10
RAFT_TIMEOUT_MIN_MS = 5_000
QUOTA_ADVISED_BYTES = 8 << 30
REQUEST_ADVISED_BYTES = 10 << 20
BCRYPT_COST_MIN, BCRYPT_COST_MAX, BCRYPT_COST_DEFAULT = 4, 31, 10
EXIT_FAILED = 1  # a setting that cannot be
EXIT_USAGE = 2  # words that are no setting at all
USAGE = "Usage: kvorum [--flag=value ...]; `kvorum --help` lists all flags"


class ConfigError(Exception):
    """The settings cannot be. lines: what was seen, then the way out, for stderr; then end with exit_code."""

    def __init__(self, exit_code: int, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.exit_code = exit_code
        self.lines = lines


class Answered(Exception):
    """--version, --help or --print-config-sample: text is for stdout (lines, the last without its end), then end with
    0."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


# ---- the outcome -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Config:
    """What the flags say, checked. Times are milliseconds; names are the flags'."""

    name: str
    data_dir: Path
    wal_dir: Path  # resolved: data_dir/member/wal unless --wal-dir says otherwise
    listen_peer_urls: tuple[Url, ...]
    listen_client_urls: tuple[Url, ...]
    listen_client_http_urls: tuple[Url, ...]  # none: plain HTTP is at the client URLs, too
    listen_metrics_urls: tuple[Url, ...]
    initial_advertise_peer_urls: tuple[str, ...]
    advertise_client_urls: tuple[str, ...]
    initial_cluster_text: str
    initial_cluster_state: str  # "new" | "existing"
    initial_cluster_token: str
    heartbeat_interval_ms: int
    election_timeout_ms: int
    initial_election_tick_advance: bool
    snapshot_count: int  # entries
    snapshot_catch_up_entries: int
    max_snapshots: int  # 0: all
    max_wals: int  # 0: all
    quota_backend_bytes: int  # negative: no quota
    backend_batch_interval_ms: int
    backend_batch_limit: int
    max_txn_ops: int
    max_request_bytes: int
    max_concurrent_streams: int
    raft_read_timeout_ms: int
    raft_write_timeout_ms: int
    lease_checkpoints: bool
    lease_checkpoint_persist: bool
    compaction_batch_limit: int
    compaction_sleep_ms: int
    stop_grpc_service_on_defrag: bool
    grpc_keepalive_min_time_ms: int
    grpc_keepalive_interval_ms: int  # 0: never ping
    grpc_keepalive_timeout_ms: int
    socket_reuse_port: bool
    client_tls: TlsSettings
    peer_tls: TlsSettings
    tls_rules: TlsRules
    self_signed_cert_validity_years: int
    peer_skip_client_san_verification: bool
    enable_grpc_gateway: bool
    enable_pprof: bool
    metrics: str  # "extensive", or any other word
    enable_v2: bool
    v2_keys_forbidden: str  # the stage of --v2-deprecation that forbids them; empty: none does
    cors: tuple[str, ...]  # origins; none: all
    host_whitelist: tuple[str, ...]  # none or `*`: all
    strict_reconfig_check: bool
    pre_vote: bool
    force_new_cluster: bool
    initial_corrupt_check: bool
    corrupt_check_interval_ms: int  # 0: never
    compact_hash_check: bool
    compact_hash_check_interval_ms: int
    auto_compaction_period_ms: int  # 0: not by time
    auto_compaction_revisions: int  # 0: not by count
    watch_progress_notify_interval_ms: int
    warning_apply_duration_s: float
    auth_token: str  # what auth_token.tokens reads
    auth_token_ttl_s: int  # 0: etcd's default
    bcrypt_cost: int
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
        pairs = sorted(f"{name}={url}" for name, members in cluster.items() for url in members)
        raise _failed(f"initial cluster {','.join(pairs)} has duplicate url", "Each URL belongs to one member")
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


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Config:
    """The settings that arguments (without the program's name), environment and config file amount to.

    Raises ConfigError, and Answered for --version, --help and --print-config-sample.
    """
    given = _parse_arguments(argv)
    if "version" in given and given["version"].value is True:
        claimed = given[CLAIM.name].text if CLAIM.name in given else ETCD_VERSION
        raise Answered(version_text(claimed))
    if PRINT_SAMPLE.name in given and given[PRINT_SAMPLE.name].value is True:
        raise Answered(sample().removesuffix("\n"))
    file_name = given["config-file"].text if "config-file" in given else environ.get("ETCD_CONFIG_FILE", "")
    warnings: list[str] = []
    if file_name:
        others = [setting.origin for name, setting in given.items() if name not in ("config-file", CLAIM.name)]
        others += sorted(key for key in environ if key.startswith(ENVIRONMENT_PREFIX) and key != "ETCD_CONFIG_FILE")
        if others:
            warnings.append(f"{file_name} is the config file, so these are ignored: {', '.join(others)}")
        claim = {CLAIM.name: given[CLAIM.name]} if CLAIM.name in given else {}
        try:
            filed, told = config_file.read(Path(file_name))
        except config_file.BadFile as error:
            raise _failed(*error.lines) from None
        given = filed | claim
        warnings += told
    else:
        given |= _parse_environment(given, environ, warnings)
    _refuse(given, warnings)
    return _settle(given, warnings, from_file=bool(file_name))


def _failed(what: str, *way_out: str) -> ConfigError:
    return ConfigError(EXIT_FAILED, what, *way_out)


def _usage_error(what: str) -> ConfigError:
    return ConfigError(EXIT_USAGE, what, USAGE)


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
            raise _failed(f"'{word}' is not a valid flag", USAGE)
        body = word[2:] if word.startswith("--") else word[1:]
        if not body or body[0] in "-=":
            raise _usage_error(f"bad flag syntax: {word}")
        name, has_value, text = body.partition("=")
        if name in ("h", "help"):
            raise Answered(help_text())
        flag = KNOWN.get(name)
        if flag is None:
            raise _usage_error(f"flag provided but not defined: -{name}")
        if not has_value and flag.kind is BOOL:
            text = "true"
        elif not has_value:
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
        raise _failed(f"'{rest}' is not a valid flag", USAGE)
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


def _refuse(given: Mapping[str, Setting], warnings: list[str]) -> None:
    for name, setting in given.items():
        flag = KNOWN[name]
        harmless = {flag.kind.parse(text) for text in flag.accepts or (flag.default,)}
        if flag.status is Status.HONOURED or setting.value in harmless:
            continue
        if flag.status is Status.IGNORED:
            warnings.append(f"{setting.origin} is ignored: {flag.note}")
            continue
        allowed = " or ".join(flag.accepts or (flag.default or "leaving it out",))
        raise _failed(
            f"{setting.origin}={setting.text} is not supported yet: {flag.note}",
            f"Kvorum {__version__} goes on only with {allowed}; docs/flags.md lists every flag",
        )


class _Values:
    """Given values over defaults, by type."""

    def __init__(self, given: Mapping[str, Setting]) -> None:
        self._given = given

    def _value(self, name: str) -> object:
        setting = self._given.get(name)
        return KNOWN[name].kind.parse(KNOWN[name].default) if setting is None else setting.value

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

    def origins(self, name: str) -> tuple[str, ...]:
        """None for `*`: all."""
        value = self._value(name)
        return tuple(map(str, value)) if isinstance(value, tuple) else ()

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._value(name)
        assert isinstance(value, tuple), name
        return value


def _settle(given: Mapping[str, Setting], warnings: list[str], *, from_file: bool) -> Config:
    """Defaults that depend on other settings, and etcd's checks in etcd's order."""
    values = _Values(given)
    log_level, log_outputs = _checked_logging(values)
    for flag in ("listen-peer-urls", "listen-client-urls", "listen-client-http-urls", "listen-metrics-urls"):
        _check_listen_urls(flag, values.urls(flag))
    _check_advertised("initial-advertise-peer-urls", values.urls("initial-advertise-peer-urls"))
    _check_advertised("advertise-client-urls", values.urls("advertise-client-urls"))
    heartbeat_ms, election_ms = values.integer("heartbeat-interval"), values.integer("election-timeout")
    _check_timing(heartbeat_ms, election_ms)
    # Of a file etcd does not ask for this: there the default stays.
    if "listen-client-urls" in given and "advertise-client-urls" not in given and not from_file:
        raise _failed(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            "Set it to the URLs at which clients reach this member",
        )
    # etcd's default of the mode is the flag's alone.
    mode = values.text("auto-compaction-mode") if "auto-compaction-mode" in given or not from_file else ""
    period_ms, revisions = _checked_retention(mode, values.text("auto-compaction-retention"), warnings)

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
    compact_hash_check = values.boolean("experimental-compact-hash-check-enabled")
    return Config(
        name=name,
        data_dir=data_dir,
        wal_dir=Path(values.text("wal-dir")) if values.text("wal-dir") else data_dir / "member" / "wal",
        listen_peer_urls=values.urls("listen-peer-urls"),
        listen_client_urls=values.urls("listen-client-urls"),
        listen_client_http_urls=values.urls("listen-client-http-urls"),
        listen_metrics_urls=values.urls("listen-metrics-urls"),
        initial_advertise_peer_urls=peer_urls,
        advertise_client_urls=tuple(map(str, values.urls("advertise-client-urls"))),
        initial_cluster_text=own_cluster if named else values.text("initial-cluster"),
        initial_cluster_state=values.text("initial-cluster-state"),
        initial_cluster_token=values.text("initial-cluster-token"),
        heartbeat_interval_ms=heartbeat_ms,
        election_timeout_ms=election_ms,
        initial_election_tick_advance=values.boolean("initial-election-tick-advance"),
        snapshot_count=values.integer("snapshot-count") or SNAPSHOT_COUNT_DEFAULT,
        snapshot_catch_up_entries=values.integer("experimental-snapshot-catchup-entries") or CATCH_UP_ENTRIES_DEFAULT,
        max_snapshots=values.integer("max-snapshots"),
        max_wals=values.integer("max-wals"),
        quota_backend_bytes=quota or QUOTA_DEFAULT_BYTES,
        backend_batch_interval_ms=values.milliseconds("backend-batch-interval") or 100,
        backend_batch_limit=values.integer("backend-batch-limit") or 10_000,
        max_txn_ops=values.integer("max-txn-ops"),
        max_request_bytes=request_bytes,
        max_concurrent_streams=values.integer("max-concurrent-streams"),
        raft_read_timeout_ms=_raft_timeout_ms(values, "raft-read-timeout", warnings),
        raft_write_timeout_ms=_raft_timeout_ms(values, "raft-write-timeout", warnings),
        lease_checkpoints=_checked_checkpoints(values, warnings),
        lease_checkpoint_persist=values.boolean("experimental-enable-lease-checkpoint-persist"),
        compaction_batch_limit=max(0, values.integer("experimental-compaction-batch-limit")) or COMPACTION_BATCH,
        compaction_sleep_ms=values.milliseconds("experimental-compaction-sleep-interval") or COMPACTION_SLEEP_MS,
        stop_grpc_service_on_defrag=values.boolean("experimental-stop-grpc-service-on-defrag"),
        grpc_keepalive_min_time_ms=values.milliseconds("grpc-keepalive-min-time"),
        grpc_keepalive_interval_ms=values.milliseconds("grpc-keepalive-interval"),
        grpc_keepalive_timeout_ms=values.milliseconds("grpc-keepalive-timeout"),
        socket_reuse_port=values.boolean("socket-reuse-port"),
        client_tls=_client_tls(values),
        peer_tls=_peer_tls(values),
        tls_rules=_tls_rules(values),
        self_signed_cert_validity_years=values.integer("self-signed-cert-validity") or (1 if from_file else 0),
        peer_skip_client_san_verification=values.boolean("experimental-peer-skip-client-san-verification"),
        metrics=values.text("metrics"),
        enable_pprof=values.boolean("enable-pprof"),
        enable_v2=values.boolean("enable-v2"),
        v2_keys_forbidden=_checked_v2(values),
        enable_grpc_gateway=values.boolean("enable-grpc-gateway"),
        cors=values.origins("cors"),
        host_whitelist=values.texts("host-whitelist"),
        strict_reconfig_check=values.boolean("strict-reconfig-check"),
        pre_vote=values.boolean("pre-vote"),
        force_new_cluster=values.boolean("force-new-cluster"),
        initial_corrupt_check=values.boolean("experimental-initial-corrupt-check"),
        corrupt_check_interval_ms=_checked_interval(values, "experimental-corrupt-check-time", least_ms=0),
        compact_hash_check=compact_hash_check,
        compact_hash_check_interval_ms=_checked_interval(
            values, "experimental-compact-hash-check-time", least_ms=1 if compact_hash_check else 0
        ),
        auto_compaction_period_ms=period_ms,
        auto_compaction_revisions=revisions,
        watch_progress_notify_interval_ms=values.milliseconds("experimental-watch-progress-notify-interval"),
        warning_apply_duration_s=values.integer("experimental-warning-apply-duration") / 1e9,
        auth_token=values.text("auth-token"),
        auth_token_ttl_s=values.integer("auth-token-ttl"),
        bcrypt_cost=_checked_cost(values.integer("bcrypt-cost"), warnings),
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
        if url.scheme.startswith("unix"):
            raise _failed(f"--{flag}={url} is not supported yet: there are no unix sockets", "Use an http or https URL")
        if url.host != "localhost" and not _is_address(url.host):
            raise _failed(
                f"expected IP in URL for binding ({url})", f"--{flag} takes addresses of this machine, or localhost"
            )


def _check_advertised(flag: str, urls: tuple[Url, ...]) -> None:
    for url in urls:
        if not url.host:
            listed = ",".join(map(str, urls))
            raise _failed(f'--{flag} "{listed}" must be "host:port" (unexpected empty host ({url}))')


def _checked_cost(cost: int, warnings: list[str]) -> int:
    if BCRYPT_COST_MIN <= cost <= BCRYPT_COST_MAX:
        return cost
    warnings.append(
        f"--bcrypt-cost={cost} is not between {BCRYPT_COST_MIN} and {BCRYPT_COST_MAX}: it is {BCRYPT_COST_DEFAULT}"
    )
    return BCRYPT_COST_DEFAULT


def _client_tls(values: _Values) -> TlsSettings:
    settings = TlsSettings(
        cert_file=values.text("cert-file"),
        key_file=values.text("key-file"),
        client_cert_file=values.text("client-cert-file"),
        client_key_file=values.text("client-key-file"),
        client_cert_auth=values.boolean("client-cert-auth"),
        trusted_ca_file=values.text("trusted-ca-file"),
        crl_file=values.text("client-crl-file"),
        auto_tls=values.boolean("auto-tls"),
        allowed_cns=values.texts("client-cert-allowed-cn"),
        allowed_hostnames=values.texts("client-cert-allowed-hostname"),
    )
    return _checked_names(settings, "client")


def _peer_tls(values: _Values) -> TlsSettings:
    settings = TlsSettings(
        cert_file=values.text("peer-cert-file"),
        key_file=values.text("peer-key-file"),
        client_cert_file=values.text("peer-client-cert-file"),
        client_key_file=values.text("peer-client-key-file"),
        client_cert_auth=values.boolean("peer-client-cert-auth"),
        trusted_ca_file=values.text("peer-trusted-ca-file"),
        crl_file=values.text("peer-crl-file"),
        auto_tls=values.boolean("peer-auto-tls"),
        allowed_cns=values.texts("peer-cert-allowed-cn"),
        allowed_hostnames=values.texts("peer-cert-allowed-hostname"),
    )
    return _checked_names(settings, "peer")


def _checked_names(settings: TlsSettings, whose: str) -> TlsSettings:
    if settings.allowed_cns and settings.allowed_hostnames:
        raise _failed(
            "AllowedCN and AllowedHostname are mutually exclusive "
            f"(cn={','.join(settings.allowed_cns)}, hostname={','.join(settings.allowed_hostnames)})",
            f"Give --{whose}-cert-allowed-cn or --{whose}-cert-allowed-hostname",
        )
    return settings


def _tls_rules(values: _Values) -> TlsRules:
    try:
        return read_rules(values.text("tls-min-version"), values.text("tls-max-version"), values.texts("cipher-suites"))
    except Invalid as error:
        raise _failed(str(error), "See --cipher-suites, --tls-min-version and --tls-max-version") from None


def _checked_interval(values: _Values, flag: str, *, least_ms: int) -> int:
    interval_ms = values.milliseconds(flag)
    if interval_ms < least_ms:
        raise _failed(f"--{flag} must be >{'0' if least_ms else '=0'} (set to {values.text(flag)})")
    return interval_ms


def _checked_checkpoints(values: _Values, warnings: list[str]) -> bool:
    enabled = values.boolean("experimental-enable-lease-checkpoint")
    persisted = values.boolean("experimental-enable-lease-checkpoint-persist")
    if persisted and not enabled:
        raise _failed(
            "setting experimental-enable-lease-checkpoint-persist requires experimental-enable-lease-checkpoint",
            "Give both",
        )
    if enabled and not persisted:
        warnings.append(
            "Detected that checkpointing is enabled without persistence. Consider enabling "
            "experimental-enable-lease-checkpoint-persist"
        )
    return enabled


def _raft_timeout_ms(values: _Values, flag: str, warnings: list[str]) -> int:
    """Not below etcd's default: members of etcd send no more often than they need for theirs."""
    timeout_ms = values.milliseconds(flag)
    if timeout_ms < RAFT_TIMEOUT_MIN_MS:
        warnings.append(f"{flag} increased to minimum value: {RAFT_TIMEOUT_MIN_MS // 1000}s")
    return max(timeout_ms, RAFT_TIMEOUT_MIN_MS)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _checked_v2(values: _Values) -> str:
    stage = values.text("v2-deprecation")
    if stage == "not-yet":
        return ""
    if values.boolean("enable-v2"):
        raise ConfigError(
            1,
            f"--enable-v2 and --v2-deprecation={stage} are mutually exclusive",
            "One serves v2 keys, the other starts only where there are none: leave one out.",
        )
    return stage


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


def _checked_retention(mode: str, retention: str, warnings: list[str]) -> tuple[int, int]:
    """Milliseconds of periodic compaction, and revisions of the other kind; at most one is not 0."""
    if mode not in ("periodic", "revision", ""):
        raise _failed(f'unknown auto-compaction-mode "{mode}"', "It is periodic or revision")
    if re.fullmatch(r"\d+", retention):
        if not mode and int(retention):
            warnings.append(
                f"auto-compaction-retention={retention} without auto-compaction-mode compacts nothing, as in etcd: "
                "set the mode to periodic (hours) or revision"
            )
        hours, revisions = int(mode == "periodic") * int(retention), int(mode == "revision") * int(retention)
        return hours * 3_600_000, revisions
    try:
        duration_ns = parse_duration_ns(retention)
    except Invalid:
        duration_ns = -1
    if duration_ns < 0:
        raise _failed(f'error parsing CompactionRetention: time: invalid duration "{retention}"')
    if not mode and duration_ns:
        raise _failed(
            f"auto-compaction-retention={retention} needs auto-compaction-mode: in a config file that has no default",
            "Write auto-compaction-mode: periodic",
        )
    if mode == "revision":
        raise _failed(f"--auto-compaction-retention={retention} of mode revision must be a number of revisions")
    return -(-duration_ns // 1_000_000), 0


# ---- texts -----------------------------------------------------------------------------------------------------------


def version_text(claimed: str) -> str:
    """Four lines like etcd's. Harnesses parse the first; the second is the truth."""
    return (
        f"etcd Version: {claimed}\n"
        f"Kvorum Version: {__version__}\n"
        f"Python Version: {platform.python_version()}\n"
        f"OS/Arch: {platform.system().lower()}/{platform.machine()}"
    )


def help_text() -> str:
    lines = [
        "Usage: kvorum [--flag=value ...]",
        "",
        f"Starts a member that speaks etcd {ETCD_VERSION}'s API.",
        "Every flag has a variable (--data-dir is ETCD_DATA_DIR). With --config-file, both are ignored.",
        "`kvorum data --help`: what can be done with the data directory of a member that does not run.",
    ]
    for title, flags in (*GROUPS, ("Kvorum's own", OWN)):
        lines += ["", f"{title}:"]
        for flag in flags:
            lines.append(f"  --{flag.name} '{flag.default}'")
            lines.append(f"      {flag.meaning}")
            if flag.status is not Status.HONOURED:
                lines.append(f"      {flag.status.value}: {flag.note}")
    return "\n".join(lines)
