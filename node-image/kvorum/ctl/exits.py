"""How the program ends: etcdctl's exit codes, and the exception that carries one with its text."""

from kvorum.client import ClientError, Unreachable
from kvorum.client.errors import DEADLINE_EXCEEDED

ERROR, BAD_CONNECTION, INVALID_INPUT, BAD_FEATURE, INTERRUPTED, BAD_ARGS = 1, 2, 3, 4, 5, 128

# gRPC's codes by number, in Go's words.
CODES = (
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
)
TIMED_OUT = "context deadline exceeded"


class Exit(Exception):
    """The program ends with this code. text: said on stderr behind `Error: `; None: all was said before."""

    def __init__(self, code: int, text: str | None) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


def said(error: ClientError) -> str:
    """A failed call in the words of etcdctl: the server's text, or Go's for what is not etcd's own."""
    if isinstance(error, Unreachable) or (error.code == DEADLINE_EXCEEDED and not error.text.startswith("etcdserver")):
        return TIMED_OUT
    if error.text.startswith(("etcdserver: ", "election: ", "mutex: ")):
        return error.text
    return f"rpc error: code = {CODES[error.code]} desc = {error.text}"
