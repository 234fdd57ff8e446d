"""`kvorum data …`: its arguments, what it prints, and how it ends: 0, 1 for damage or a refusal, 2 for wrong usage."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from kvorum.data.check import check
from kvorum.data.directory import stopped_member
from kvorum.data.state import hash_of, state_of
from kvorum.data.transfer import Transferred, export_to_etcd, import_from_etcd
from kvorum.state.refusal import Refusal
from kvorum.storage.fault import StorageFault

PROGRAM = "kvorum data"


def main(arguments: Sequence[str] | None = None) -> None:
    logging.getLogger("kvorum").setLevel(logging.ERROR)  # a node's log is told of a take-over; here it was asked for
    given = parser().parse_args(sys.argv[2:] if arguments is None else arguments)
    try:
        status: int = given.run(given)
    except StorageFault as fault:
        print(f"kvorum: {fault}", file=sys.stderr)  # noqa: T201 - for the user
        status = 1
    sys.exit(status)


def parser() -> argparse.ArgumentParser:
    told = argparse.ArgumentParser(PROGRAM, description="A member's data directory while no member runs on it.")
    commands = told.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, short: str, run: object) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=short, description=short)
        command.add_argument("--data-dir", type=Path, required=True, help="the member's data directory")
        command.set_defaults(run=run)
        return command

    looked_at = [
        add("check", "says what is damaged: log, snapshot, tables, and whether they belong together", run_check),
        add("hashkv", "the hash of all keys with their history, equal on all members: hash, revision, compacted",
            run_hashkv),
        add("export", "makes a data directory of etcd's out of one of ours", run_export),
    ]  # fmt: skip
    imported = add("import", "makes a data directory of ours (--data-dir, new or empty) out of etcd's", run_import)
    for command in (*looked_at, imported):
        command.add_argument("--wal-dir", type=Path, help="of the log, where it has a place of its own")
    looked_at[1].add_argument("--rev", type=int, default=0, help="up to this revision (0: the newest)")
    looked_at[2].add_argument("--etcd", type=Path, required=True, metavar="DIR", help="to be made: new or empty")
    imported.add_argument("--etcd", type=Path, required=True, metavar="DIR", help="of a stopped etcd")
    return told


def run_check(given: argparse.Namespace) -> int:
    report = check(given.data_dir, given.wal_dir)
    for line in report.lines:
        say(line)
    for damage in report.damages:
        print(f"DAMAGED: {damage}", file=sys.stderr)  # noqa: T201 - for the user
    if report.damages:
        return 1
    say("whole")
    return 0


def run_hashkv(given: argparse.Namespace) -> int:
    with stopped_member(given.data_dir, given.wal_dir) as member, state_of(member) as machine:
        found = hash_of(machine, given.rev)
    if isinstance(found, Refusal):
        print(f"kvorum: {found.text}", file=sys.stderr)  # noqa: T201 - for the user
        return 1
    say(f"{found.hash}, {found.revision}, {found.compact_revision}")
    return 0


def run_export(given: argparse.Namespace) -> int:
    done = export_to_etcd(given.data_dir, given.wal_dir, given.etcd)
    tell(done, given.etcd, given.data_dir, "etcd", given.wal_dir)
    return 0


def run_import(given: argparse.Namespace) -> int:
    done = import_from_etcd(given.etcd, given.wal_dir, given.data_dir)
    tell(done, given.data_dir, given.etcd, "kvorum", given.wal_dir)
    return 0


def tell(done: Transferred, new: Path, old: Path, program: str, old_wal: Path | None) -> None:
    say(f"{new}: entry {done.applied_index} is in the tables, the log goes on to {done.last_index}")
    say(f"Start {program} on it with the flags that the member had. It is the same member: never start {old} again.")
    if old_wal is not None:
        say(f"But without --wal-dir {old_wal}: the log is in {new / 'member' / 'wal'}, until you move it.")


def say(line: str) -> None:
    print(line)  # noqa: T201 - this is the answer
