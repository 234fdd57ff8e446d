"""A differential run about users: operations of a seed against a reference and a subject, and what was compared.

Each side has its own tokens, of the same numbers. Equal must be codes, texts and bodies, but for what sides.comparable
leaves out, and tokens themselves. Where ours is stricter than etcd on purpose is one place: STRICTER.
"""

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf import text_format
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.compat.auth_differential.operations import NOBODY, ROLES, ROOT, USERS, Caller, Generator, Operation
from tests.compat.differential.sides import CALL_TIMEOUT_S, PATHS, WATCH, Answer, Side, comparable

DIFFERENCES_MAX = 5
CHECK_EVERY = 500  # operations between two comparisons of everything
SNAPSHOT = "/etcdserverpb.Maintenance/Snapshot"
AUTH = ("Authenticate", "AuthEnable", "AuthDisable", "AuthStatus")
DENIED = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"


class Different(AssertionError):
    """The subject did not answer what the reference did."""


@dataclass
class Report:
    """errors: by text, as the reference told them. stricter: watches that only etcd permits."""

    calls: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    stricter: int = 0
    auth_revision: int = 0

    def table(self) -> str:
        lines = [f"{name:22}{count:8}" for name, count in sorted(self.calls.items())]
        lines.append(f"{'all':22}{self.calls.total():8}")
        lines.append(f"auth revision {self.auth_revision}; {self.stricter} watches that only etcd permits")
        lines += [f"{count:8}  {text}" for text, count in self.errors.most_common()]
        return "\n".join(lines)


class Asked:
    """One side, and its tokens by number."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.tokens: dict[int, str] = {}

    def metadata(self, caller: Caller) -> tuple[tuple[str, str], ...]:
        token = caller.garbage if caller.session is None else self.tokens[caller.session.number]
        return () if token is None else ((caller.header, token),)

    async def answer(self, operation: Operation) -> Answer:
        metadata = self.metadata(operation.caller)
        body = operation.request.SerializeToString(deterministic=True)
        try:
            if operation.name == "Watch":
                request = rpc.WatchRequest(create_request=operation.request)
                return Answer(0, "", await self._first(WATCH, request.SerializeToString(), metadata, rpc.WatchResponse))
            if operation.name == "LeaseKeepAlive":
                path, kind = PATHS["LeaseKeepAlive"]
                return Answer(0, "", await self._first(path, body, metadata, kind))
            if operation.name == "Snapshot":
                await self._first(SNAPSHOT, body, metadata, rpc.SnapshotResponse)
                return Answer(0, "", None)  # how much there is is a member's own affair
            path, kind = PATHS.get(operation.name) or (f"/etcdserverpb.Auth/{operation.name}", rpc.AuthEnableResponse)
            if operation.name == "Authenticate":
                kind = rpc.AuthenticateResponse
            raw = await self.side.channel.unary_unary(path, None, None)(body, timeout=CALL_TIMEOUT_S, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return Answer(error.code().value[0], error.details() or "", None)
        return Answer(0, "", kind.FromString(raw))

    async def _first(self, path: str, body: bytes, metadata: Any, kind: Any) -> Any:
        """The first message of a stream, which is then given up."""
        channel: Any = self.side.channel
        if path == SNAPSHOT:
            call = channel.unary_stream(path, None, None)(body, metadata=metadata, timeout=CALL_TIMEOUT_S)
        else:
            call = channel.stream_stream(path, None, None)(metadata=metadata, timeout=CALL_TIMEOUT_S)
        try:
            if path != SNAPSHOT:
                await call.write(body)
            raw = await call.read()
        finally:
            call.cancel()
        assert isinstance(raw, bytes), f"{self.side.name}: {path} ended without a message"
        return kind.FromString(raw)


class Run:
    """reference, subject: single members, fresh, in this order of trust."""

    def __init__(self, reference: Side, subject: Side, seed: int) -> None:
        self.asked = (Asked(reference), Asked(subject))
        self.generator = Generator(seed)
        self.seed = seed
        self.report = Report()
        self.differences: list[str] = []

    async def go(self, operations: int) -> Report:
        for count in range(1, operations + 1):
            await self._compare(self.generator.next())
            if count % CHECK_EVERY == 0 or count == operations:
                await self._compare_everything()
        if self.differences:
            raise Different("\n\n".join(self.differences))
        signing_in = self.report.calls["Authenticate"] / self.report.calls.total()
        assert signing_in < 0.5, f"seed {self.seed}: nobody could sign in any more\n{self.report.table()}"
        return self.report

    async def _compare(self, operation: Operation) -> None:
        answers = await asyncio.gather(*(asked.answer(operation) for asked in self.asked))
        self.report.calls[operation.name] += 1
        left, right = answers
        self._learn(operation, left, right)
        shown = [self._shown(asked, answer) for asked, answer in zip(self.asked, answers, strict=True)]
        if shown[0] != shown[1]:
            if self._is_stricter(operation, left, right):
                self.report.stricter += 1
            else:
                self._differ(operation, answers)
        if left.code:
            text = re.sub(r"\d{4,}", "N", left.text)
            self.report.errors[f"{left.code:2} {operation.name:20} {text}"] += 1
        elif isinstance(left.message, rpc.WatchResponse) and left.message.canceled:
            self.report.errors[f"   {operation.name:20} {left.message.cancel_reason}"] += 1

    def _learn(self, operation: Operation, left: Answer, right: Answer) -> None:
        session = self.generator.saw(operation, left.code, left.text, left.message)
        if session is None:
            return
        for asked, answer in zip(self.asked, (left, right), strict=True):
            message: Any = answer.message
            asked.tokens[session.number] = message.token if message is not None else "none"

    def _shown(self, asked: Asked, answer: Answer) -> tuple[int, str, bytes]:
        message = answer.message
        if isinstance(message, rpc.AuthenticateResponse):
            assert re.fullmatch(r"[A-Za-z]{16}\.\d+|[\w-]+\.[\w-]+\.[\w-]+", message.token), message.token
            tokenless = rpc.AuthenticateResponse(header=message.header)
            return comparable(asked.side, Answer(0, "", tokenless))
        return comparable(asked.side, answer)

    def _is_stricter(self, operation: Operation, left: Answer, right: Answer) -> bool:
        """etcd 3.5.30 takes a watch without an end for one of its first key, and so permits it to whoever may read
        that."""
        return (
            operation.name == "Watch"
            and operation.request.range_end == b"\0"
            and isinstance(left.message, rpc.WatchResponse)
            and not left.message.canceled
            and isinstance(right.message, rpc.WatchResponse)
            and right.message.cancel_reason == DENIED
        )

    def _differ(self, operation: Operation, answers: list[Answer]) -> None:
        request = text_format.MessageToString(operation.request, as_one_line=True)[:1000]
        lines = [f"{operation.name} {{ {request} }} by {operation.caller.name} (auth on: {self.generator.on})"]
        for asked, answer in zip(self.asked, answers, strict=True):
            said = f"{answer.code} {answer.text}"
            if answer.message is not None:
                said = text_format.MessageToString(answer.message, as_one_line=True)[:2000]
            lines.append(f"{asked.side.name}: {said}")
        lines.append(f"seed {self.seed}, operation {self.report.calls.total()}")
        self.differences.append("\n".join(lines))
        if len(self.differences) >= DIFFERENCES_MAX:
            raise Different("\n\n".join(self.differences))

    async def _compare_everything(self) -> None:
        """As root, or as nobody while authentication is off."""
        root = NOBODY
        if self.generator.on:
            signed_in = Operation(
                "Authenticate",
                rpc.AuthenticateRequest(name=ROOT, password=self.generator.passwords.get(ROOT, "")),
                NOBODY,
            )
            await self._compare(signed_in)
            sessions = [one for one in self.generator.sessions if one.user == ROOT]
            root = Caller(sessions[-1]) if sessions else NOBODY
        everything = [
            Operation("Range", rpc.RangeRequest(key=b"\0", range_end=b"\0"), root),
            Operation("HashKV", rpc.HashKVRequest(), root),
            Operation("LeaseLeases", rpc.LeaseLeasesRequest(), root),
            Operation("AuthStatus", rpc.AuthStatusRequest(), root),
            Operation("UserList", rpc.AuthUserListRequest(), root),
            Operation("RoleList", rpc.AuthRoleListRequest(), root),
            *(Operation("UserGet", rpc.AuthUserGetRequest(name=name), root) for name in USERS),
            *(Operation("RoleGet", rpc.AuthRoleGetRequest(role=role), root) for role in ROLES),
        ]
        for operation in everything:
            await self._compare(operation)
        status = await self.asked[0].answer(Operation("AuthStatus", rpc.AuthStatusRequest(), root))
        if status.message is not None:
            told = rpc.AuthStatusResponse.FromString(status.message.SerializeToString())
            self.report.auth_revision = told.authRevision


async def compared(sides: list[Side], seed: int, operations: int) -> Report:
    try:
        return await Run(sides[0], sides[1], seed).go(operations)
    finally:
        for side in sides:
            await side.close()
