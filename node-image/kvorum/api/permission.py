"""Who may ask what, where it is asked: the checks of etcd's API layer, each where etcd has it, with its words.

Nothing is asked of anybody while authentication is off. What goes through the log is checked when it is applied
(state.auth_checks); here are the requests that do not, and the few that etcd checks beforehand as well. A handler asks
once it has looked at the request itself, since etcd tells of a bad request first.
"""

from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError

from kvorum.etcdpb.internal_pb2 import InternalRaftRequest
from kvorum.net.call import Call
from kvorum.server.answer import Answer
from kvorum.server.server import Server
from kvorum.state.alarms import Mode
from kvorum.state.auth_checks import Check
from kvorum.state.refusal import (
    AUTH_OLD_REVISION,
    INVALID_AUTH_TOKEN,
    PERMISSION_DENIED,
    UNKNOWN,
    USER_EMPTY,
    USER_NOT_FOUND,
    Refusal,
)
from kvorum.wire.grpc import Code

Ask = Callable[[Check], Refusal | None]

PUT: Final = b"\x22"  # field of InternalRaftRequest
NESTED_BYTES_MIN: Final = 200  # of what nests too deep for the log: 100 levels, each with a tag and a length or an end

# What a few of etcd's handlers let out as it is within, with no code of its own.
UNMAPPED = {
    USER_EMPTY: Refusal(UNKNOWN, "auth: user name is empty"),
    USER_NOT_FOUND: Refusal(UNKNOWN, "auth: user not found"),
    PERMISSION_DENIED: Refusal(UNKNOWN, "auth: permission denied"),
    INVALID_AUTH_TOKEN: Refusal(UNKNOWN, "auth: invalid auth token"),
    AUTH_OLD_REVISION: Refusal(UNKNOWN, "auth: revision in header is old"),
}


def propose(server: Server, payload: bytes, call: Call, answer: Answer | None = None) -> None:
    """Takes a client's request through the log, with his name where that counts.

    payload: see Server.propose; a put has been through unreadable. answer: if it is not the call itself that waits.
    """
    if len(payload) >= NESTED_BYTES_MIN and not payload.startswith(PUT):
        wrong = unreadable(payload)
        if wrong is not None:
            call.fail(wrong.code, wrong.text)
            return
    if not server.machine.auth.enabled:
        server.propose(payload, answer or call)
        return
    caller = server.callers.of(call)
    if isinstance(caller, Refusal):
        call.fail(caller.code, caller.text)
        return
    if server.machine.alarms.mode is not Mode.NORMAL:
        # Entries are applied without a look at their user then, as etcd 3.5 does it: so this is the last look.
        refused = server.machine.refuses_caller(payload, caller)
        if refused is not None:
            call.fail(refused.code, refused.text)
            return
    server.propose(payload, answer or call, server.callers.header_tail(caller))


def unreadable(payload: bytes) -> Refusal | None:
    """Why an entry must not be made of a request that was read by itself: within the entry it lies one level deeper,
    and protobuf reads no more than a hundred. Such an entry would end every member, at each start anew."""
    try:
        InternalRaftRequest.FromString(payload)
    except DecodeError as error:
        return Refusal(Code.INTERNAL, f"grpc: error unmarshalling request: {error}")
    return None


def refuses(server: Server, call: Call, ask: Ask) -> Refusal | None:
    """Why the caller may not; None while authentication is off."""
    return server.callers.refuses(call, ask) if server.machine.auth.enabled else None


def refuses_read(server: Server, call: Call, ask: Ask) -> Refusal | None:
    """The same for what is answered at once from what is applied here."""
    return server.callers.refuses_read(call, ask) if server.machine.auth.enabled else None


def refuses_unmapped(server: Server, call: Call) -> Refusal | None:
    """Of what only root may, where etcd tells of it in these words."""
    refused = refuses(server, call, Check.admin)
    return None if refused is None else UNMAPPED[refused]
