"""watch: events of keys as they happen; a program for each; with -i as many watches as are asked for."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from kvorum.client import Client, ClientError, Event, EventType, Header, WatchBatch, WatchCancelled, Watcher, prefix_end
from kvorum.client.values import KeyValue
from kvorum.ctl.call import Call, raw
from kvorum.ctl.command import Command
from kvorum.ctl.commands.transactions import argify
from kvorum.ctl.exits import BAD_ARGS, ERROR, INTERRUPTED, INVALID_INPUT, Exit, said
from kvorum.ctl.flags import BOOL, INT, Flag, FlagError, FlagSet
from kvorum.ctl.formats.answers import Watched
from kvorum.ctl.go_text import quoted
from kvorum.etcdpb import rpc_pb2 as rpc

FLAGS = (
    Flag("interactive", BOOL, False, "Interactive mode", "i"),
    Flag("prefix", BOOL, False, "Watch on a prefix if prefix is set"),
    Flag("rev", INT, 0, "Revision to start watching"),
    Flag("prev-kv", BOOL, False, "get the previous key-value pair before the event happens"),
    Flag("progress-notify", BOOL, False, "get periodic watch progress notification from server"),
)
BAD_NUMBER = "bad number of arguments"
CONFLICT = "bad number of arguments (found conflicting environment key)"
NO_COMMANDS = "bad number of arguments (found separator --, but no commands)"


class BadWatch(Exception):
    """What is asked for is no watch. str() says why."""


@dataclass(frozen=True, slots=True)
class Wish:
    """keys: of --, what comes before it: a key and perhaps a range_end; program: what comes behind it."""

    keys: list[str]
    program: list[str] = field(default_factory=list)


async def watch(call: Call, arguments: list[str]) -> None:
    environment = call.world.environment
    key, range_end = environment.get("ETCDCTL_WATCH_KEY", ""), environment.get("ETCDCTL_WATCH_RANGE_END", "")
    if not key and range_end:
        told = f"ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={quoted(range_end)}"
        raise Exit(BAD_ARGS, told)
    of_environment = [key, range_end] if range_end else [key] if key else []
    if call.flags.boolean("interactive"):
        await interactive(call, of_environment)
        return
    async with call.client() as client:
        try:
            wish = wish_of(call, arguments, of_environment)
            watcher = watcher_of(call, call.flags, client, wish.keys)
        except BadWatch as why:
            raise Exit(BAD_ARGS, str(why)) from None
        await show_events(call, watcher, wish.program)
    raise Exit(INTERRUPTED, "watch is canceled by the server")


def wish_of(call: Call, arguments: list[str], of_environment: list[str]) -> Wish:
    """Raises BadWatch."""
    words = list(call.world.words)
    words = words[words.index("watch") + 1 :] if "watch" in words else words
    program: list[str] = []
    keys = arguments
    if "--" in words:
        program = words[words.index("--") + 1 :]
        if not program:
            raise BadWatch(NO_COMMANDS)
        keys = arguments[: len(arguments) - len(program)]
    elif not words and not of_environment:
        raise BadWatch(BAD_NUMBER)
    if keys and of_environment:
        raise BadWatch(CONFLICT)
    return Wish(of_environment + keys, program)


def watcher_of(call: Call, flags: FlagSet, client: Client, keys: list[str]) -> Watcher:
    """Raises BadWatch."""
    if not keys:
        raise BadWatch(BAD_NUMBER)
    key, range_end = raw(keys[0]), b""
    prefix = flags.boolean("prefix")
    if len(keys) == 2:
        if prefix:
            raise BadWatch("`range_end` and `--prefix` are mutually exclusive")
        range_end = raw(keys[1])
    if prefix:
        key, range_end = (key, prefix_end(key)) if key else (b"\0", b"\0")
    return client.watch(
        key,
        range_end,
        start_revision=flags.integer("rev"),
        prev_kv=flags.boolean("prev-kv"),
        progress_notify=flags.boolean("progress-notify"),
        require_leader=True,
    )


async def show_events(call: Call, watcher: Watcher, program: list[str], opened: asyncio.Event | None = None) -> None:
    """Until the server ends the watch. opened: set once it is confirmed. Raises Exit."""
    try:
        async with watcher:
            if opened is not None:
                opened.set()
            async for batch in watcher:
                if not batch.events:
                    call.line(f"progress notify: {batch.header.revision}")
                call.show(answer_of(batch))
                for event in batch.events if program else ():
                    await run_for(call, program, batch.header.revision, event)
    except WatchCancelled as cancelled:
        call.complain(f"watch was canceled ({cancelled.reason})")
        call.show(Watched(header_of(cancelled.header), (), cancelled.compact_revision, canceled=True))
    except ClientError as error:
        raise Exit(ERROR, said(error)) from None


async def run_for(call: Call, program: list[str], revision: int, event: Event) -> None:
    """Raises Exit if the program fails."""
    variables = {
        "ETCD_WATCH_REVISION": str(revision),
        "ETCD_WATCH_EVENT_TYPE": quoted(event.type.name),
        "ETCD_WATCH_KEY": quoted(event.kv.key),
        "ETCD_WATCH_VALUE": quoted(event.kv.value),
    }
    status = await run_program(call, program, variables)
    if status:
        call.complain(f"command {shown(program)} error ({status})")
        raise Exit(ERROR, None)


async def run_program(call: Call, program: list[str], variables: dict[str, str]) -> str:
    """Why it failed, in Go's words; empty if it did not. It has the streams of this process but for its input."""
    try:
        process = await asyncio.create_subprocess_exec(
            *program,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**call.world.environment, **variables},
        )
    except OSError as error:
        if "/" not in program[0]:
            return f"exec: {quoted(program[0])}: executable file not found in $PATH"
        return f"fork/exec {program[0]}: {(error.strerror or str(error)).lower()}"
    assert process.stdout is not None
    assert process.stderr is not None
    await asyncio.gather(passed(process.stdout, call.write), passed(process.stderr, call.world.stderr.write))
    status = await process.wait()
    return "" if status == 0 else f"exit status {status}" if status > 0 else f"signal: {-status}"


async def passed(stream: asyncio.StreamReader, write: Callable[[bytes], object]) -> None:
    while data := await stream.read(65_536):
        write(data)


def answer_of(batch: WatchBatch) -> Watched:
    events = [
        rpc.Event(
            type=rpc.Event.DELETE if event.type is EventType.DELETE else rpc.Event.PUT,
            kv=message_of(event.kv),
            prev_kv=message_of(event.prev_kv) if event.prev_kv else None,
        )
        for event in batch.events
    ]
    return Watched(header_of(batch.header), events)


def header_of(header: Header) -> rpc.ResponseHeader:
    return rpc.ResponseHeader(
        cluster_id=header.cluster_id,
        member_id=header.member_id,
        revision=header.revision,
        raft_term=header.raft_term,
    )


def message_of(kv: KeyValue) -> rpc.KeyValue:
    return rpc.KeyValue(
        key=kv.key,
        value=kv.value,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        lease=kv.lease,
    )


def shown(program: list[str]) -> str:
    return "[" + " ".join(map(quoted, program)) + "]"


# -i: a watch for each line of standard input


async def interactive(call: Call, of_environment: list[str]) -> None:
    """Raises Exit, at the latest at the input's end."""
    try:
        await follow_lines(call, of_environment)
    except BaseExceptionGroup as group:
        raise first_of(group) from None


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what ended the watches: one ends all."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def follow_lines(call: Call, of_environment: list[str]) -> None:
    """Raises a group with Exit."""
    async with call.client() as client, asyncio.TaskGroup() as tasks:
        watches = Watches(call, client, tasks, of_environment)
        try:
            while True:
                line = await asyncio.to_thread(call.world.stdin.readline)
                if not line.endswith(b"\n"):
                    raise Exit(INVALID_INPUT, "error reading watch request line: EOF")
                await watches.follow(line[:-1].decode(errors="surrogateescape"))
        except ClientError as error:
            raise Exit(ERROR, said(error)) from None


class Watches:
    """Those that lines of input have asked for; all go on beside each other."""

    def __init__(self, call: Call, client: Client, tasks: asyncio.TaskGroup, of_environment: list[str]) -> None:
        self._call = call
        self._client = client
        self._tasks = tasks
        self._of_environment = of_environment
        self._watchers: list[Watcher] = []

    async def follow(self, line: str) -> None:
        """Raises Exit, ClientError."""
        words = argify(line)
        if not words:
            self._call.complain(f"Invalid command: {line} (watch and progress supported)")
        elif words[0] == "progress":
            for watcher in self._watchers:
                await watcher.request_progress()
        elif words[0] != "watch":
            self._call.complain(f"Invalid command {line} (only support watch)")
        elif len(words) < 2 and not self._of_environment:
            self._call.complain(f"Invalid command {line} (command type or key is not provided)")
        else:
            flags, wish = interactive_wish(words[1:], self._of_environment)
            try:
                watcher = watcher_of(self._call, flags, self._client, wish.keys)
            except BadWatch as why:
                self._call.complain(f"Invalid command {line} ({why})")
                return
            await self._open(watcher, wish.program)

    async def _open(self, watcher: Watcher, program: list[str]) -> None:
        opened = asyncio.Event()
        showing = self._tasks.create_task(show_events(self._call, watcher, program, opened))
        waiting = asyncio.create_task(opened.wait())
        await asyncio.wait((showing, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        self._watchers.append(watcher)


def interactive_wish(words: list[str], of_environment: list[str]) -> tuple[FlagSet, Wish]:
    """Raises Exit."""
    program: list[str] = []
    if "--" in words:
        program = words[words.index("--") + 1 :]
        if not program:
            raise Exit(BAD_ARGS, NO_COMMANDS)
        words = words[: words.index("--")]
    flags = FlagSet(FLAGS)
    try:
        keys = flags.parse(words)
    except FlagError as error:
        raise Exit(BAD_ARGS, str(error)) from None
    if not keys and not program and not of_environment:
        raise Exit(BAD_ARGS, BAD_NUMBER)
    if keys and of_environment:
        raise Exit(BAD_ARGS, CONFLICT)
    return flags, Wish(of_environment + keys, program)


def commands() -> list[Command]:
    return [
        Command(
            "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
            "Watches events stream on keys or prefixes",
            watch,
            flags=FLAGS,
        )
    ]
