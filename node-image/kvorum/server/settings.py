"""What an operator may set about a running member, in the units of etcd's flags."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Durations in milliseconds, sizes in bytes. Defaults are etcd 3.5's."""

    heartbeat_ms: int = 100
    election_ms: int = 1000
    quota_bytes: int = 2 << 30
    request_bytes_max: int = 1_572_864
    txn_ops_max: int = 128
    strict_reconfig_check: bool = True
    election_tick_advance: bool = True
    commit_interval_ms: int = 100
    commit_rows_max: int = 10_000
    progress_notify_ms: int = 600_000
    auto_compaction_period_ms: int = 0  # 0: not by time
    auto_compaction_revisions: int = 0  # 0: not by count
    snapshot_count: int = 100_000  # entries between two snapshots
    snapshot_catch_up_entries: int = 5_000  # kept in memory before a snapshot, for followers that are a little late
    log_kept_after_snapshot_s: float = 30.0  # etcd's: for who has received one, to go on from it
    snapshots_max: int = 5  # files to keep; 0: all
    wals_max: int = 5  # segments to keep; 0: all
    bcrypt_cost: int = 10
    warning_apply_s: float = 0.1  # a batch that takes longer to apply is worth a line in the log
    claimed_version: str = "3.5.30"
    lease_checkpoints: bool = False  # the leader tells the others how long leases have left
    lease_checkpoint_persist: bool = False  # and they store it
    compaction_rows_max: int = 1_000  # of one batch
    compaction_pause_ms: int = 10  # between two
    stop_grpc_on_defrag: bool = False  # for whoever asks for gRPC's health

    @property
    def election_ticks(self) -> int:
        return self.election_ms // self.heartbeat_ms

    @property
    def request_timeout_ms(self) -> int:
        """How long a proposal or a linearizable read may wait: time for the disk and for two elections (etcd's
        rule)."""
        return 5_000 + 2 * self.election_ms

    @property
    def lease_ttl_min_s(self) -> int:
        """The shortest lease that outlives an election: etcd raises shorter ones when they are applied."""
        return -(-(3 * self.election_ticks // 2 * self.heartbeat_ms) // 1000)
