"""Config files, given to a real etcd and to ours: the same ones are taken, and to the same effect.

The data directory cannot be made, so an etcd says what it has read, and ends: 30 ms a file.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kvorum.config import Config, ConfigError, load
from kvorum.config_sample import sample
from kvorum.flags import parse_duration_ns

from tests.kit.ports import free_port
from tests.kit.processes import Program

# What an etcd says that it goes by -> the same of ours.
SAID: dict[str, Callable[[Config], object]] = {
    "name": lambda config: config.name,
    "heartbeat-interval": lambda config: config.heartbeat_interval_ms,
    "election-timeout": lambda config: config.election_timeout_ms,
    "initial-election-tick-advance": lambda config: config.initial_election_tick_advance,
    "snapshot-count": lambda config: config.snapshot_count,
    "snapshot-catchup-entries": lambda config: config.snapshot_catch_up_entries,
    "max-wals": lambda config: config.max_wals,
    "max-snapshots": lambda config: config.max_snapshots,
    "initial-advertise-peer-urls": lambda config: list(config.initial_advertise_peer_urls),
    "listen-peer-urls": lambda config: list(map(str, config.listen_peer_urls)),
    "advertise-client-urls": lambda config: list(config.advertise_client_urls),
    "listen-metrics-urls": lambda config: list(map(str, config.listen_metrics_urls)),
    "initial-cluster": lambda config: config.initial_cluster_text,
    "initial-cluster-state": lambda config: config.initial_cluster_state,
    "initial-cluster-token": lambda config: config.initial_cluster_token,
    "quota-backend-bytes": lambda config: config.quota_backend_bytes,
    "max-request-bytes": lambda config: config.max_request_bytes,
    "max-concurrent-streams": lambda config: config.max_concurrent_streams,
    "pre-vote": lambda config: config.pre_vote,
    "force-new-cluster": lambda config: config.force_new_cluster,
    "initial-corrupt-check": lambda config: config.initial_corrupt_check,
    "corrupt-check-time-interval": lambda config: config.corrupt_check_interval_ms,
    "compact-check-time-enabled": lambda config: config.compact_hash_check,
    "compact-check-time-interval": lambda config: config.compact_hash_check_interval_ms,
}
DURATIONS = ("heartbeat-interval", "election-timeout", "corrupt-check-time-interval", "compact-check-time-interval")
CANNOT_BE_MADE = "/proc/none/etcd"

FILES = (
    "",
    "# nothing",
    "name: a",
    "Name: a",
    "NAME: a\nname: b",
    "name: a\nname: b",
    "name: ''",
    "name: ~",
    "name:",
    "name: 5",
    "name: '5'",
    "name: !!str 5",
    "name: y",
    "name: n",
    "name: yes",
    "name: 'yes'",
    "name: ok",
    "name: 1:30",
    "name: 2001-01-01",
    "name: 0x",
    "name: 08",
    "name: 1e3",
    "name: 1_0",
    "name: _1",
    "name: +",
    "name: .inf",
    "name: [a]",
    "name: {a: b}",
    "name: |\n  a b\n",
    "name: &x a\ninitial-cluster-token: *x",
    "<<: {name: merged}",
    "name: first\n---\nname: second",
    "snapshot-count: 1000",
    "snapshot-count: '1000'",
    "snapshot-count: 1e4",
    "snapshot-count: 1.5e3",
    "snapshot-count: 1.0",
    "snapshot-count: 10.5",
    "snapshot-count: 0x10",
    "snapshot-count: 010",
    "snapshot-count: 0o10",
    "snapshot-count: 0b11",
    "snapshot-count: +7",
    "snapshot-count: 1_000",
    "snapshot-count: -1",
    "snapshot-count: 99999999999999999999",
    "snapshot-count: true",
    "snapshot-count: x",
    "snapshot-count: ''",
    "snapshot-count:",
    "snapshot-count: [5]",
    "snapshot_count: 5",
    "experimental-snapshot-catch-up-entries: 77",
    "experimental-snapshot-catchup-entries: 77",
    "quota-backend-bytes: -1",
    "quota-backend-bytes: 1e10",
    "quota-backend-bytes: 4294967296",
    "max-concurrent-streams: 4294967296",
    "max-request-bytes: 1000",
    "max-snapshots: 0\nmax-wals: 0",
    "pre-vote: false",
    "pre-vote: n",
    "pre-vote: off",
    "pre-vote: 'false'",
    "pre-vote: 0",
    "pre-vote: f",
    "initial-election-tick-advance: No",
    "heartbeat-interval: 0",
    "heartbeat-interval: 500\nelection-timeout: 5000",
    "heartbeat-interval: 500",
    "grpc-keepalive-min-time: 5s",
    "grpc-keepalive-min-time: 5000000000",
    "experimental-corrupt-check-time: 60000000000",
    "experimental-corrupt-check-time: 1m",
    "experimental-compact-hash-check-enabled: true\nexperimental-compact-hash-check-time: 2000000000",
    "listen-metrics-urls: http://127.0.0.1:PORT",
    "listen-metrics-urls: [http://127.0.0.1:PORT]",
    "listen-metrics-urls: ''",
    "listen-metrics-urls: http://127.0.0.1:PORT/path",
    "advertise-client-urls: http://a:1,http://b:2",
    "advertise-client-urls: http://b:2,http://a:1",
    "advertise-client-urls: ''",
    "initial-cluster: ''",
    "initial-cluster: a=http://a:1",
    "initial-cluster-state: existing",
    "initial-cluster-state: ''",
    "initial-cluster-state: x",
    "initial-cluster-token: ''",
    "log-outputs: [stderr]",
    "log-outputs: stderr",
    "log-outputs: [1]",
    "log-outputs: []",
    "log-outputs: [stderr, default]",
    "log-level: x",
    "logger: x",
    "logger: ''",
    "metrics: basic",
    "auto-compaction-mode: x",
    "auto-compaction-mode: ''",
    "auto-compaction-retention: 1",
    "auto-compaction-retention: '1'",
    "auto-compaction-retention: ''",
    "auto-compaction-retention: 1h\nauto-compaction-mode: periodic",
    "auto-compaction-retention: '5'\nauto-compaction-mode: revision",
    "auto-compaction-retention: x\nauto-compaction-mode: periodic",
    "debug: true\nwal-log: a\nfoo: [1, {a: b}]",
    "1: 2\ntrue: b\nnull: c",
    "name: a\n? [b]\n: c",
    "client-transport-security:",
    "client-transport-security: {}",
    "client-transport-security: x",
    "client-transport-security: []",
    "client-transport-security: {cert-file: 1}",
    "client-transport-security: {cert-file: '', foo: 1}",
    "client-transport-security: {client-cert-auth: 'true'}",
    "client-transport-security: {allowed-hostname: a}",
    "peer-transport-security: {allowed-cn: a}",
    "peer-transport-security: {Cert-File: ''}",
    "socket-options: {reuse-port: true, reuse-address: true}",
    "socket-options: {reuse-port: 1}",
    "socket-reuse-port: 1",
    "proxy: off",
    "proxy: 'off'",
    "proxy: ''",
    "proxy: x",
    "discovery-fallback: x",
    "host-whitelist: ['*']",
    "cors: ['*']",
    "cors: ''\nhost-whitelist: ''",
    "a: b: c",
    "name: \tx\n\tb: c",
    "name: 'a",
    "name: *x",
    "name: a\n name: b",
)
WHOLE_FILES = ("- a", "abc", "5", "'", "a", "[", "{")  # no mapping, so nothing is listened to


def of_etcd(program: Program, path: Path) -> dict[str, object] | None:
    """What it says that it goes by, durations in milliseconds; None where it refuses the file."""
    command = [*program.command, f"--config-file={path}"]
    ended = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode != 0
    for line in ended.stderr.splitlines():
        said = json.loads(line) if line.startswith("{") else {}
        if said.get("msg") == "starting an etcd server":
            return {name: milliseconds(said[name]) if name in DURATIONS else said[name] for name in SAID}
    return None


def milliseconds(duration: str) -> int:
    return parse_duration_ns(duration) // 1_000_000


def of_ours(path: Path) -> dict[str, object] | None:
    try:
        config = load([f"--config-file={path}"], {})
    except ConfigError:
        return None
    return {name: ask(config) for name, ask in SAID.items()}


@pytest.mark.parametrize("text", [*FILES, *WHOLE_FILES])
def test_a_file_is_taken_or_refused_as_etcd_takes_it(text: str, tmp_path: Path, reference: Program) -> None:
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    addresses = (
        f"data-dir: {CANNOT_BE_MADE}\nlisten-client-urls: {client}\n"
        f"listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\n"
    )
    path = tmp_path / "node.yaml"
    path.write_text(("" if text in WHOLE_FILES else addresses) + text.replace("PORT", str(free_port())))
    assert of_ours(path) == of_etcd(reference, path)


def test_the_sample_is_one_that_an_etcd_takes_to_the_same_effect(tmp_path: Path, reference: Program) -> None:
    text = sample().replace("data-dir:\n", f"data-dir: {CANNOT_BE_MADE}\n").replace("listen-metrics-urls: ''\n", "")
    for port in (2379, 2380):
        text = text.replace(f":{port}", f":{free_port()}")
    path = tmp_path / "node.yaml"
    path.write_text(text)
    taken = of_ours(path)
    assert taken is not None
    assert taken == of_etcd(reference, path)
