"""Whether the tables can be read to their last byte. Run before they are opened for good, and in a process of its own.

LMDB trusts its file, which has no checksums and is read as memory: a page that points outside of it, or a file that is
shorter than its pages say, ends the process that reads it by a signal. So another one goes first (60 ms, and 0.5 s for
each million rows).

    python -m kvorum.storage.store_check DIRECTORY      status 0: whole; 3: damaged, and a line that says how
"""

import signal
import subprocess
import sys
from pathlib import Path

import lmdb

from kvorum.state.store import ALL_TABLES
from kvorum.storage.fault import CorruptStore, StoreFailed

DAMAGED = 3
DAMAGE = ("SIGBUS", "SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL")  # what damaged pages do to LMDB
TIMEOUT_S = 600.0


def require_whole(directory: Path) -> None:
    """Raises CorruptStore; StoreFailed where they could not be checked. No store yet, or one just made, is no error."""
    file = directory / "data.mdb"
    if not file.exists() or file.stat().st_size == 0:
        return
    command = [sys.executable, "-m", "kvorum.storage.store_check", str(directory)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise _unread(directory, f"that took more than {TIMEOUT_S:g} s") from None
    if done.returncode == DAMAGED:
        raise CorruptStore(directory, done.stdout.strip())
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        if name in DAMAGE:
            raise CorruptStore(
                directory, f"reading them ends the reader by {name}: a page is missing, or points nowhere"
            )
        raise _unread(directory, f"the process that did was ended by {name}: by somebody, or for want of memory")
    if done.returncode:
        raise _unread(directory, done.stderr.strip().rpartition("\n")[2] or f"status {done.returncode}")


def _unread(directory: Path, why: str) -> StoreFailed:
    """Not a word on the tables: who takes it for damage would throw them away."""
    return StoreFailed(directory, "check the tables", why, "Nothing was changed: start again once it can be.")


def check(directory: Path) -> str:
    """What is wrong; "" if nothing is."""
    try:
        with lmdb.open(str(directory), readonly=True, lock=False, max_dbs=len(ALL_TABLES)) as env, env.begin() as txn:
            for table in ALL_TABLES:
                if txn.get(table.encode()) is not None:
                    check_table(env, txn, table)
    except (lmdb.Error, Disordered) as error:
        return str(error)
    return ""


class Disordered(Exception):
    """Rows that cannot stand where they do."""


def check_table(env: lmdb.Environment, txn: "lmdb.Transaction[bytes]", table: str) -> None:
    """Raises lmdb.Error, Disordered, or ends this process."""
    handle = env.open_db(table.encode(), txn=txn, create=False)
    before, count = b"", 0
    with txn.cursor(handle) as cursor:
        for key, _ in cursor.iternext():  # each value is copied, so all of its pages are read
            if key <= before:
                raise Disordered(f"row {count} of table {table} is not above the one before it")
            before = key
            count += 1
    told = txn.stat(handle)["entries"]
    if count != told:
        raise Disordered(f"table {table} has {count} rows where {told} should be")


if __name__ == "__main__":
    problem = check(Path(sys.argv[1]))
    print(problem)  # noqa: T201 - this is the answer
    sys.exit(DAMAGED if problem else 0)
