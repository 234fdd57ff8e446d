"""lock and elect: held until a signal comes, or as long as a program runs."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from kvorum.client import Client, ClientError, Election, Lock, Session, observe
from kvorum.ctl.call import Call, raw
from kvorum.ctl.command import Command
from kvorum.ctl.commands.watches import message_of
from kvorum.ctl.exits import BAD_ARGS, ERROR, Exit, said
from kvorum.ctl.flags import BOOL, INT, Flag
from kvorum.etcdpb import rpc_pb2 as rpc

LOCK_TTL_S = 10
ELECTION_TTL_S = 60

T = TypeVar("T")


class Stopped(Exception):
    """A signal asked for the end."""


async def lock(call: Call, arguments: list[str]) -> None:
    if not arguments:
        raise Exit(BAD_ARGS, "lock takes a lock name argument and an optional command to execute")
    name, program = raw(arguments[0]), arguments[1:]
    async with call.client() as client, signals() as stopped:
        try:
            async with (
                Session(client, call.flags.integer("ttl")) as session,
                locked(session, name, stopped) as held,
            ):
                await hold(call, client, session, held, program, stopped)
        except Stopped:
            return
        except ClientError as error:
            raise Exit(ERROR, said(error)) from None


@asynccontextmanager
async def locked(session: Session, name: bytes, stopped: asyncio.Event) -> AsyncIterator[Lock]:
    """Raises Stopped if a signal comes before it is."""
    held = Lock(session, name)
    await unless(stopped, held.acquire())
    try:
        yield held
    finally:
        with suppress(ClientError):  # its key goes with the lease then
            await held.release()


async def hold(
    call: Call, client: Client, session: Session, held: Lock, program: list[str], stopped: asyncio.Event
) -> None:
    if program:
        variables = {"ETCD_LOCK_KEY": os.fsdecode(held.key), "ETCD_LOCK_REV": str(held.revision)}
        status = await run_beside(call, program, variables)
        if status:
            raise Exit(status, f"exit status {status}")
        return
    found = await client.read("/etcdserverpb.KV/Range", rpc.RangeRequest(key=held.key), rpc.RangeResponse)
    if not found.kvs:
        raise Exit(ERROR, "lock lost on init")
    call.show(found)
    await until_stopped(session, stopped, "session expired")


async def run_beside(call: Call, program: list[str], variables: dict[str, str]) -> int:
    """Runs a program with this process' own streams, and gives its exit status."""
    call.world.stdout.flush()
    try:
        process = await asyncio.create_subprocess_exec(
            *program,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**variables, **call.world.environment},
        )
    except FileNotFoundError:
        raise Exit(ERROR, f'exec: "{program[0]}": executable file not found in $PATH') from None
    out, err = await process.communicate()
    call.write(out)
    call.world.stderr.write(err)
    status = process.returncode
    assert status is not None
    return status if status >= 0 else ERROR


async def elect(call: Call, arguments: list[str]) -> None:
    if len(arguments) not in (1, 2):
        raise Exit(BAD_ARGS, "elect takes one election name argument and an optional proposal argument")
    listening = call.flags.boolean("listen")
    if len(arguments) == 1 and not listening:
        raise Exit(BAD_ARGS, "no proposal argument but -l not set")
    if len(arguments) == 2 and listening:
        raise Exit(BAD_ARGS, "proposal given but -l is set")
    name = raw(arguments[0])
    async with call.client() as client, signals() as stopped:
        try:
            if listening:
                await unless(stopped, listen(call, client, name))
            else:
                await campaign(call, client, name, raw(arguments[1]), stopped)
        except Stopped:
            return
        except ClientError as error:
            raise Exit(ERROR, said(error)) from None


async def listen(call: Call, client: Client, name: bytes) -> None:
    async for kv in observe(client, name):
        header = rpc.ResponseHeader(revision=kv.mod_revision)
        call.show(rpc.RangeResponse(header=header, kvs=[message_of(kv)]))


async def campaign(call: Call, client: Client, name: bytes, value: bytes, stopped: asyncio.Event) -> None:
    async with Session(client, ELECTION_TTL_S) as session:
        election = Election(session, name)
        leader = await unless(stopped, election.campaign(value))
        request = rpc.RangeRequest(key=leader.key)
        call.show(await client.read("/etcdserverpb.KV/Range", request, rpc.RangeResponse))
        try:
            await until_stopped(session, stopped, "elect: session expired")
        finally:
            with suppress(ClientError):
                await election.resign()


async def until_stopped(session: Session, stopped: asyncio.Event, otherwise: str) -> None:
    """Raises Exit if the session is lost first."""
    try:
        await unless(stopped, session.lost())
    except Stopped:
        return
    raise Exit(ERROR, otherwise)


async def unless(stopped: asyncio.Event, wanted: Awaitable[T]) -> T:
    """What wanted gives. Raises Stopped if a signal comes first."""
    task = asyncio.ensure_future(wanted)
    waiting = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Stopped
        return await task
    finally:
        for one in (task, waiting):
            one.cancel()
            with suppress(asyncio.CancelledError, ClientError):
                await one


@asynccontextmanager
async def signals() -> AsyncIterator[asyncio.Event]:
    """Set by SIGINT and SIGTERM, which end nothing meanwhile."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        yield stopped
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def commands() -> list[Command]:
    return [
        Command(
            "lock <lockname> [exec-command arg1 arg2 ...]",
            "Acquires a named lock",
            lock,
            flags=[Flag("ttl", INT, LOCK_TTL_S, "timeout for session")],
        ),
        Command(
            "elect <election-name> [proposal]",
            "Observes and participates in leader election",
            elect,
            flags=[Flag("listen", BOOL, False, "observation mode", "l")],
        ),
    ]
