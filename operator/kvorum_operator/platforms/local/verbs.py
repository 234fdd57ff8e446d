"""What a person does to a local cluster beside running it: stop, delete, list, logs, and a few calls to its members.

Each finds the cluster by its state directory, so that a document which is broken or gone keeps nobody from stopping
it. Whatever changes something takes the operator's lock first, or asks the operator that holds it.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from kvorum.client import Client, KeyValue, prefix_end

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import GROUP, KIND, VERSION, KVCluster, Status, parse
from kvorum_operator.cluster.rules.sleep import stop_order
from kvorum_operator.cluster.step import Hold
from kvorum_operator.members.asking import Members
from kvorum_operator.platforms.local import member_log
from kvorum_operator.platforms.local.machine import LocalPlatform
from kvorum_operator.platforms.local.run import Refused, state_path
from kvorum_operator.platforms.local.state_directory import Identity, StateDirectory, StateRefused, addresses
from kvorum_operator.reconcile import Reconciler

OPERATOR_STOP_S = 60.0  # an operator that was asked to end stops its members first
POLL_S = 0.1
FOLLOW_POLL_S = 0.3
CALL_TIMEOUT_S = 5.0


def require_state(file: Path, state_dir: Path | None) -> tuple[StateDirectory, Identity]:
    """The cluster that a file or a state directory names. Raises Refused."""
    path = state_dir.absolute() if state_dir is not None else path_of(file)
    state = StateDirectory(path)
    try:
        identity = state.read_identity()
    except StateRefused as error:
        raise Refused(str(error)) from None
    if identity is None:
        raise Refused(f"there is no cluster in {path}\n  Name its file with -f, or its directory with --state-dir.")
    return state, identity


def path_of(file: Path) -> Path:
    """By the name in the file, however broken the rest is; else the only cluster beside it."""
    try:
        name = yaml.safe_load(file.read_text())["metadata"]["name"]
        return state_path(file, str(name), None)
    except (OSError, yaml.YAMLError, TypeError, KeyError, UnicodeDecodeError):
        pass
    found = sorted(clusters_below(file.parent / ".kvorum"))
    if len(found) != 1:
        beside = "none" if not found else ", ".join(path.name for path in found)
        raise Refused(
            f"{file} names no cluster, and beside it there is not just one: {beside}\n"
            "  Name the file with -f, or the directory of the cluster with --state-dir."
        )
    return found[0].absolute()


def clusters_below(folder: Path) -> Iterator[Path]:
    for path in folder.glob("*/cluster.json"):
        yield path.parent


# Stop and delete.


async def stop(state: StateDirectory, identity: Identity) -> None:
    """Ends the operator, if one runs, and every member; the data is kept."""
    if state.is_locked():
        await stop_operator(state)
    async with locked(state):
        await stop_members(state, identity)
    say(f"{identity.name} is stopped; its data is kept in {state.path}")


async def stop_operator(state: StateDirectory) -> None:
    """By a signal to whoever holds the lock. Raises Refused if it does not end."""
    pid = state.operator_pid()
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + OPERATOR_STOP_S
    while state.is_locked():
        if time.monotonic() > until:
            raise Refused(f"the operator (pid {pid}) did not end within {OPERATOR_STOP_S:g} s of SIGTERM")
        await asyncio.sleep(POLL_S)


@asynccontextmanager
async def locked(state: StateDirectory) -> AsyncIterator[None]:
    try:
        state.lock()
    except StateRefused as error:
        raise Refused(str(error)) from None
    try:
        yield
    finally:
        state.unlock()


async def stop_members(state: StateDirectory, identity: Identity) -> None:
    resource = state.read_resource() or minimal(identity)
    platform, members = LocalPlatform(state, identity, None), Members()
    try:
        reconciler = Reconciler(platform, members, resource.status or Status())
        seen = await reconciler.observe(resource)
        await platform.stop(stop_order(seen))
        held = Hold(Reason.STOPPED, "the members were stopped", "the operator to be started")
        outcome = await reconciler.run_pass(resource, reconciler.status.observed_generation, held)
        state.write_status(resource, outcome.status)
    finally:
        await members.close()


def minimal(identity: Identity) -> KVCluster:
    return parse(
        {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": identity.name},
            "spec": {"engine": identity.engine},
        }
    )


async def delete(state: StateDirectory, identity: Identity, *, confirmed: bool) -> None:
    """Stops the cluster and deletes all of it. Raises Refused when nobody confirms."""
    if not confirmed:
        if not sys.stdin.isatty():
            raise Refused(f"delete takes {identity.name} and all its data away for good\n  Say so with --yes.")
        question = f"This deletes {identity.name} and all its data in {state.path}. Its name to confirm: "
        if await asyncio.to_thread(input, question) != identity.name:
            raise Refused("not confirmed; nothing was touched")
    if state.is_locked():
        await stop_operator(state)
    async with locked(state):
        await stop_members(state, identity)
        # The identity goes last: what is cut short here can be deleted again.
        for folder in ("volumes", "members"):
            shutil.rmtree(state.path / folder, ignore_errors=True)
        for file in ("bootstrap.json", "status.yaml", "lock", "cluster.json"):
            (state.path / file).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something else lies there: not ours to delete
        state.path.rmdir()
        state.path.parent.rmdir()
    say(f"{identity.name} is deleted")


# List and logs.


def list_clusters(folder: Path) -> None:
    """Every cluster whose state directory lies in folder."""
    rows: list[tuple[str, ...]] = [("NAME", "ENGINE", "RUNNING", "OPERATOR", "READY", "BASE-PORT", "DIRECTORY")]
    for path in sorted(clusters_below(folder)):
        state = StateDirectory(path)
        try:
            identity = state.read_identity()
        except StateRefused as error:
            say(str(error))
            continue
        if identity is not None:
            rows.append(row_of(state, identity))
    if len(rows) == 1:
        say(f"there is no cluster in {folder}")
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def row_of(state: StateDirectory, identity: Identity) -> tuple[str, ...]:
    platform = LocalPlatform(state, identity, None)
    names = state.member_names(identity.name)
    running = len(platform.processes.running(names))
    resource = state.read_resource()
    conditions = resource.status.conditions if resource is not None and resource.status is not None else ()
    # Without an operator nobody has looked since: what was true then is not said of now.
    ready = next((one.status for one in conditions if one.type == "Ready"), "-") if state.is_locked() else "-"
    operator = str(state.operator_pid()) if state.is_locked() else "-"
    directory = str(state.path)
    found = {volume.engine for volume in state.read_volumes(identity).values() if volume.engine is not None}
    return (
        identity.name,
        ",".join(sorted(found)) or identity.engine,
        f"{running}/{len(names)}",
        operator,
        ready,
        str(identity.base_port),
        directory,
    )


async def logs(state: StateDirectory, identity: Identity, member: str | None, lines: int, *, follow: bool) -> None:
    """The ends of members' logs; with follow, what is added from now on too."""
    known = sorted(state.member_names(identity.name))
    if member is not None and member not in known:
        raise Refused(f"{identity.name} has no member {member!r}; there are: {', '.join(known) or 'none'}")
    names = [member] if member is not None else known
    ends, found = {}, {}
    for name in names:
        path = state.member(name) / "log"
        ends[name] = path.stat().st_size if path.exists() else 0
        found[name] = member_log.tail(path, lines)
    show_lines(found)
    while follow:
        for name in names:
            found[name], ends[name] = member_log.read_from(state.member(name) / "log", ends[name])
        show_lines(found)
        await asyncio.sleep(FOLLOW_POLL_S)


def show_lines(found: Mapping[str, Sequence[str]]) -> None:
    for name, line in member_log.by_time(found):
        say(line if len(found) == 1 else f"{name}  {line}")


# Calls to members, for whoever has no etcdctl.


def client_of(state: StateDirectory, identity: Identity) -> Client:
    """Of all members that run. Raises Refused when none does."""
    platform = LocalPlatform(state, identity, None)
    found = addresses(identity)
    urls = [found[name].client_url for name in platform.processes.running(found)]
    if not urls:
        raise Refused(
            f"no member of {identity.name} runs now\n"
            "  Start it with: kvorum-operator local -f FILE. If that runs, status.yaml says what it waits for."
        )
    return Client(urls, timeout_s=CALL_TIMEOUT_S)


async def put(state: StateDirectory, identity: Identity, key: str, value: str) -> None:
    async with client_of(state, identity) as client:
        await client.put(os.fsencode(key), os.fsencode(value))
    say("OK")


async def get(state: StateDirectory, identity: Identity, key: str, *, prefix: bool) -> int:
    """Key and value on a line each, as etcdctl shows them. How many there were."""
    async with client_of(state, identity) as client:
        first = os.fsencode(key)
        found: tuple[KeyValue, ...] = (await client.range(first, prefix_end(first) if prefix else b"")).kvs
    for one in found:
        sys.stdout.buffer.write(one.key + b"\n" + one.value + b"\n")
    sys.stdout.buffer.flush()
    return len(found)


async def delete_key(state: StateDirectory, identity: Identity, key: str, *, prefix: bool) -> None:
    async with client_of(state, identity) as client:
        first = os.fsencode(key)
        result = await client.delete(first, prefix_end(first) if prefix else b"")
    say(str(result.deleted))


async def members(state: StateDirectory, identity: Identity) -> None:
    async with client_of(state, identity) as client:
        rows = [("ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER")]
        for one in await client.members():
            rows.append(
                (
                    f"{one.id:x}",
                    "started" if one.client_urls else "unstarted",
                    one.name,
                    ",".join(one.peer_urls),
                    ",".join(one.client_urls),
                    str(one.is_learner).lower(),
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is the program's output
