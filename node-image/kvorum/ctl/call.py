"""One run of a command: its flags, its streams, its client, and the format it answers in."""

import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from kvorum.client import BadCertificates, Client, ClientError
from kvorum.ctl import connecting
from kvorum.ctl.command import Command
from kvorum.ctl.connecting import Login
from kvorum.ctl.exits import BAD_ARGS, BAD_CONNECTION, BAD_FEATURE, ERROR, Exit, said
from kvorum.ctl.flags import FlagError, FlagSet
from kvorum.ctl.formats import fields, json_lines, protobuf, simple, table

PREFIX = "ETCDCTL_"
WATCH_VARIABLES = ("ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END")
FORMATS = ("simple", "fields", "json", "protobuf", "table")


@dataclass(frozen=True, slots=True)
class World:
    """What a run sees and touches of its process. words: the command line without the program's name."""

    words: Sequence[str]
    environment: Mapping[str, str]
    stdin: BinaryIO
    stdout: BinaryIO
    stderr: BinaryIO


class Call:
    def __init__(self, world: World, command: Command, flags: FlagSet) -> None:
        self.world = world
        self.command = command
        self.flags = flags
        self.value_only = False  # of the format simple
        self._is_configured = False

    # Words to the user

    def write(self, out: bytes) -> None:
        self.world.stdout.write(out)
        self.world.stdout.flush()

    def line(self, text: str) -> None:
        self.write(text.encode(errors="surrogateescape") + b"\n")

    def complain(self, text: str) -> None:
        self.world.stderr.write(text.encode(errors="surrogateescape") + b"\n")
        self.world.stderr.flush()

    def show(self, answer: Any) -> None:
        """Raises Exit if the format does not exist for it."""
        out = self._shown(answer)
        if out is None:
            raise Exit(BAD_FEATURE, f"{self.flags.string('write-out')} not supported as output format")
        self.write(out)

    def _shown(self, answer: Any) -> bytes | None:
        match self.flags.string("write-out"):
            case "simple":
                return simple.shown(answer, is_hex=self.flags.boolean("hex"), value_only=self.value_only)
            case "fields":
                show = fields.SHOW.get(type(answer))
                told = show(answer) if show else None
                return None if told is None else told.encode(errors="surrogateescape")
            case "json":
                return json_lines.shown(answer, is_hex=self.flags.boolean("hex"))
            case "protobuf":
                return protobuf.shown(answer)
            case _:
                show = table.SHOW.get(type(answer))
                return show(answer) if show else None

    @property
    def is_simple(self) -> bool:
        return self.flags.string("write-out") == "simple"

    # Settings

    @property
    def timeout_s(self) -> float:
        return self.flags.seconds("command-timeout")

    def configure(self) -> None:
        """Takes the environment's settings, once. Raises Exit: a variable beside its flag, a wrong format."""
        if self._is_configured:
            return
        self._is_configured = True
        inherited = [flag.name for flag in self.command.inherited_flags()]
        known = {PREFIX + name.replace("-", "_").upper(): name for name in inherited}
        for variable, name in known.items():
            text = self.world.environment.get(variable, "")
            if text and name not in self.flags.changed:
                try:
                    self.flags.set(name, text)
                except FlagError:
                    continue  # as etcdctl: the default holds then
                self.flags.changed.discard(name)
            elif name in self.flags.changed and variable in self.world.environment:
                self._log(
                    "fatal",
                    "conflicting environment variable is shadowed by corresponding command-line flag "
                    "(either unset environment variable or disable flag))",
                    variable,
                )
                raise Exit(ERROR, None)
        for variable in self.world.environment:
            is_watch = self.command.name == "watch" and variable in WATCH_VARIABLES
            if variable.startswith(PREFIX) and variable not in known and not is_watch and variable != PREFIX + "API":
                self._log("warn", "unrecognized environment variable", variable)
        if self.flags.boolean("debug"):
            for variable, name in sorted(known.items()):
                shown = "***" if name in ("password", "user") and self.flags.string(name) else self.flags.values[name]
                self.complain(f"{variable}={shown}")
        self._login = connecting.login_of(self)
        if self.flags.string("write-out") not in FORMATS:
            raise Exit(BAD_FEATURE, "unsupported output format")

    def _log(self, level: str, message: str, variable: str) -> None:
        """A line of JSON, as etcdctl logs; without the variable's value, which may be a secret."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.complain(json.dumps({"level": level, "ts": seconds, "msg": message, "environment-variable": variable}))

    def endpoints(self) -> list[str]:
        """Of --endpoints. Raises Exit."""
        self.configure()
        if self.flags.string("discovery-srv"):
            raise Exit(ERROR, "--discovery-srv is not supported: name the members with --endpoints")
        return [endpoint.strip() for endpoint in self.flags.strings("endpoints")]

    # Members

    @asynccontextmanager
    async def client(
        self,
        endpoints: Sequence[str] | None = None,
        login: Login | None = None,
        *,
        unconnected: int = BAD_CONNECTION,
    ) -> AsyncIterator[Client]:
        """Logged in, if there is a user. Raises Exit: wrong files; unconnected, where nobody takes the login."""
        urls = self.endpoints() if endpoints is None else list(endpoints)
        login = login or self._login
        try:
            tls = await connecting.tls_of(self.flags, urls)
        except BadCertificates as error:
            raise Exit(BAD_ARGS, str(error)) from None
        async with connecting.connected(self.flags, urls, tls, login) as client:
            try:
                if login is not None and login.password:
                    await client.login(timeout_s=self.flags.seconds("dial-timeout"))
            except ClientError as error:
                raise Exit(unconnected, said(error)) from None
            yield client

    async def ask(self, endpoints: Sequence[str] | None, question: Any) -> Any:
        """What question(client) gives. Raises Exit in etcdctl's words if a call fails."""
        async with self.client(endpoints) as client:
            try:
                return await question(client)
            except ClientError as error:
                raise Exit(ERROR, said(error)) from None

    async def endpoints_of_members(self) -> list[str]:
        """Of --endpoints, or with --cluster those in the member list. Raises Exit."""
        urls = self.endpoints()
        if not self.flags.boolean("cluster"):
            return urls
        async with self.client(unconnected=ERROR) as client:
            try:
                members = await client.members()
            except ClientError as error:
                told = f"failed to fetch endpoints from etcd cluster member list: {said(error)}"
                raise Exit(ERROR, told) from None
        return [url for member in members for url in member.client_urls]


def raw(text: str) -> bytes:
    """An argument's bytes, which may be no UTF-8."""
    return os.fsencode(text)


def require_count(arguments: list[str], count: int, otherwise: str) -> None:
    """Raises Exit unless there are so many."""
    if len(arguments) != count:
        raise Exit(BAD_ARGS, otherwise)
