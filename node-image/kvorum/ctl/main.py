"""The program kvorumctl: which command, its flags, and how it ends."""

import asyncio
import os
import signal
import sys
from importlib.metadata import version as version_of

from kvorum.ctl.call import Call, World
from kvorum.ctl.command import Command, UnknownCommand
from kvorum.ctl.commands import keys, leases, locks, maintenance, members, mirror, transactions, users, watches
from kvorum.ctl.exits import ERROR, Exit
from kvorum.ctl.flags import BOOL, DURATION, STRING, STRINGS, Flag, FlagError
from kvorum.ctl.usage import API_VERSION, page

NAME = "kvorumctl"
SECOND_NS = 10**9
PIPE_CLOSED = 128 + signal.SIGPIPE

GLOBAL_FLAGS = (
    Flag("endpoints", STRINGS, ["127.0.0.1:2379"], "gRPC endpoints"),
    Flag("debug", BOOL, False, "enable client-side debug logging"),
    Flag("write-out", STRING, "simple", "set the output format (fields, json, protobuf, simple, table)", "w"),
    Flag("hex", BOOL, False, "print byte strings as hex encoded strings"),
    Flag("dial-timeout", DURATION, 2 * SECOND_NS, "dial timeout for client connections"),
    Flag("command-timeout", DURATION, 5 * SECOND_NS, "timeout for short running command (excluding dial timeout)"),
    Flag("keepalive-time", DURATION, 2 * SECOND_NS, "keepalive time for client connections"),
    Flag("keepalive-timeout", DURATION, 6 * SECOND_NS, "keepalive timeout for client connections"),
    Flag("insecure-transport", BOOL, True, "disable transport security for client connections"),
    Flag("insecure-discovery", BOOL, True, "accept insecure SRV records describing cluster endpoints"),
    Flag(
        "insecure-skip-tls-verify",
        BOOL,
        False,
        "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)",
    ),
    Flag("cert", STRING, "", "identify secure client using this TLS certificate file"),
    Flag("key", STRING, "", "identify secure client using this TLS key file"),
    Flag("cacert", STRING, "", "verify certificates of TLS-enabled secure servers using this CA bundle"),
    Flag("user", STRING, "", "username[:password] for authentication (prompt if password is not supplied)"),
    Flag(
        "password",
        STRING,
        "",
        "password for authentication (if this option is used, --user option shouldn't include password)",
    ),
    Flag("discovery-srv", STRING, "", "domain name to query for SRV records describing cluster endpoints", "d"),
    Flag("discovery-srv-name", STRING, "", "service name to query when using DNS discovery"),
)


# The order in which a mistyped command is answered with those like it.
ORDER = (
    *("get", "put", "del", "txn", "compaction", "alarm", "defrag", "endpoint", "move-leader", "watch", "version"),
    *("lease", "member", "snapshot", "make-mirror", "lock", "elect", "auth", "user", "role", "help"),
)


async def show_version(call: Call, _: list[str]) -> None:
    call.line(f"{NAME} version: {version_of('kvorum')}")
    call.line(f"API version: {API_VERSION}")


async def show_help(call: Call, arguments: list[str]) -> None:
    try:
        found, _ = call.command.root.find(arguments)
        text = page(found, version_of("kvorum"))
    except UnknownCommand:
        call.complain(f"Unknown help topic [{' '.join(f'`{word}`' for word in arguments)}]")
        text = page(call.command.root, version_of("kvorum"), names_help=False)
    call.write(text.encode())


def tree() -> Command:
    parts = (keys, transactions, watches, leases, members, maintenance, users, locks, mirror)
    commands = [
        *(command for part in parts for command in part.commands()),
        Command("version", f"Prints the version of {NAME}", show_version),
        Command(
            "help [command]",
            "Help about any command",
            show_help,
            long=f"Help provides help for any command in the application.\n"
            f"Simply type {NAME} help [path to command] for full details.",
        ),
    ]
    return Command(
        NAME,
        "A simple command line client for etcd3.",
        persistent=GLOBAL_FLAGS,
        commands=sorted(commands, key=lambda command: ORDER.index(command.name)),
    )


async def run(world: World) -> int:
    """The exit status. Nothing is raised for what a user or a server does."""
    root = tree()

    def complain(text: str) -> None:
        world.stderr.write(text.encode(errors="surrogateescape") + b"\n")

    def show_page(command: Command) -> None:
        world.stdout.write(page(command, version_of("kvorum")).encode())
        world.stdout.flush()

    try:
        command, words = root.find(list(world.words))
    except UnknownCommand as unknown:
        complain(f"Error: {unknown}\nRun '{NAME} --help' for usage.\nError: {unknown}")
        return ERROR
    flags = command.flag_set()
    try:
        arguments = flags.parse(words)
    except FlagError as error:
        complain(f"Error: {error}")
        show_page(command)
        complain(f"\nError: {error}")
        return ERROR
    if flags.boolean("help") or command.run is None:
        show_page(command)
        return 0
    try:
        await command.run(Call(world, command, flags), arguments)
    except Exit as ended:
        if ended.text is not None:
            complain(f"Error: {ended.text}")
        return ended.code
    return 0


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as any program that has nothing to finish; lock and elect have
    world = World(sys.argv[1:], os.environ, sys.stdin.buffer, sys.stdout.buffer, sys.stderr.buffer)
    try:
        status = asyncio.run(run(world))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains of it at its end
        status = PIPE_CLOSED
    sys.exit(status)
