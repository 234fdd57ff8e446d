"""The replicated state of a stopped member: its tables, and what its log has committed since, applied in memory.

So it is what the member would serve after a start. Tables of etcd's are held in memory; ours are read where they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from google.protobuf.message import DecodeError

from kvorum.data.directory import StoppedMember
from kvorum.raft import change_codec
from kvorum.raft.message import EntryType
from kvorum.state.dict_store import DictStore
from kvorum.state.hash_kv import Hashing, KeySpaceHash
from kvorum.state.machine import Machine, UnknownEntry
from kvorum.state.membership import BadVersion, UnknownMember
from kvorum.state.refusal import Refusal
from kvorum.state.store import TABLES, Store
from kvorum.state.txn import BrokenTxn
from kvorum.state.v2_request import BadV2Request
from kvorum.storage import store_check
from kvorum.storage.bbolt_reader import BboltFile
from kvorum.storage.fault import CorruptStore, CorruptWal
from kvorum.storage.lmdb_store import LmdbStore

ROWS_A_STEP = 100_000
LEASE_TTL_MIN_S = 2  # of no account: nobody is granted a lease here
NO_QUOTA = -1

# What a row that is none can do to who reads it: the tables have no checksums.
UNREADABLE = (DecodeError, ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError)
UNAPPLICABLE = (UnknownEntry, BrokenTxn, BadV2Request, UnknownMember, BadVersion)


@contextmanager
def state_of(member: StoppedMember) -> Iterator[Machine]:
    """As of the log's commit. Raises CorruptStore, CorruptDb, CorruptWal."""
    if member.db is None:
        store_check.require_whole(member.store)
        store: Store = LmdbStore.open(member.store)
    else:
        with BboltFile.open(member.db) as file:
            names = {name.decode(errors="replace") for name in file.bucket_names()}
            store = DictStore({table: dict(file.rows(table.encode())) for table in TABLES if table in names})
    try:
        machine = Machine(store, lease_ttl_min_s=LEASE_TTL_MIN_S, quota_bytes=NO_QUOTA)
        try:
            machine.load()
        except UNREADABLE as error:
            raise CorruptStore(
                member.db or member.store, f"a row cannot be read ({type(error).__name__}: {error})"
            ) from error
        apply_log(machine, member)
        yield machine
    finally:
        if isinstance(store, LmdbStore):
            store.close()  # without a commit: what was applied here is not for the disk


def apply_log(machine: Machine, member: StoppedMember) -> None:
    """The entries from the tables on up to the commit. Raises CorruptWal where they do not fit."""
    replay = member.log.replay
    applied = machine.applied_index
    if applied > replay.last_index:
        raise CorruptWal(
            member.wal, None, f"the log ends with {replay.last_index}, but {applied} is in the tables already"
        )
    since = [entry for entry in replay.entries if applied < entry.index <= replay.hard_state.commit]
    if applied < replay.hard_state.commit and (not since or since[0].index != applied + 1):
        raise CorruptWal(
            member.wal, None, f"the log begins with {since[0].index if since else 'nothing'}, but the tables end with "
            f"{applied}"
        )  # fmt: skip
    for entry in since:
        try:
            if entry.type == EntryType.CONF_CHANGE:
                machine.apply_conf_change(entry, change_codec.decode_single(entry.data))
            else:
                machine.apply(entry, answering=False)
        except UNAPPLICABLE as error:
            raise CorruptWal(member.wal, None, f"entry {entry.index} cannot be applied: {error}") from error


def hash_of(machine: Machine, revision: int) -> KeySpaceHash | Refusal:
    """HashKV at a revision, 0 for the newest."""
    found = machine.hash_at(revision)
    if isinstance(found, Hashing):
        while not found.step(ROWS_A_STEP):
            pass
        return found.result
    return found
