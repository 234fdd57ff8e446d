"""A request out of its bytes, and the answers where it is none or is refused: the same for every service."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from kvorum.server.answer import Answer
from kvorum.state.refusal import Refusal

Request = TypeVar("Request", bound=Message)


def read(call: Answer, kind: type[Request], body: bytes) -> Request | None:
    """None: the call was answered, since body is no such request."""
    try:
        return kind.FromString(body)
    except DecodeError as error:
        bad_request(call, error)
        return None


def bad_request(call: Answer, error: Exception) -> None:
    """What grpc-go answers when the bytes are not the message."""
    call.fail(13, f"grpc: error unmarshalling request: {error}")


def fail(call: Answer, refused: Refusal) -> None:
    call.fail(refused.code, refused.text)
