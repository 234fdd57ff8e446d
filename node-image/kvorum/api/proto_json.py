"""Messages of protobuf as JSON and back, by the rules of Go's protojson, which etcd's gateway uses.

Knows descriptors and JSON, nothing of HTTP and of what the messages mean. Read: 64-bit numbers as numbers or strings,
enumerations by name or number, bytes as base64 of either alphabet, fields by either of their names, null as absent;
unknown fields and unknown names of enumerations are passed over. Written: the names of the .proto file, 64-bit numbers
as strings, and no zero values. Python's own json_format takes bytes that are no base64, and is five times slower.
"""

import binascii
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

ETCDS_PACKAGE: Final = "etcdserverpb"  # of all messages here that have a oneof; named in errors
DEPTH_MAX: Final = 100  # of messages in one another; protobuf itself reads no more
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NUMBER: Final = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_NUMBER_IN_TEXT: Final = re.compile(_NUMBER + r"(?![-+.\w])", re.ASCII)  # Go's reader stops there: "7," is 7
_DIGITS_MAX: Final = 40  # before the point; 64 bits have 20


class BadJson(Exception):
    """What is wrong, for the client that sent it."""


class Object(list[tuple[str, Any]]):
    """An object of JSON as its members in order, the second of a name included."""


def documents(text: str) -> Iterator[Object]:
    """The objects of a text, one behind another. Raises BadJson at the first that is none, when it comes to it."""
    at = _skip(text, 0)
    while at < len(text):
        try:
            value, at = _DECODER.raw_decode(text, at)
        except RecursionError:
            raise BadJson("exceeded max depth") from None
        except InvalidOperation:
            raise BadJson("invalid JSON: a number beyond all bounds") from None
        except ValueError as error:
            raise BadJson(_why(error, text)) from None
        if type(value) is not Object:
            raise BadJson(f"proto: syntax error: unexpected token {_shown(value)}")
        yield value
        at = _skip(text, at)


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    assert space is not None
    return space.end()


def _why(error: ValueError, text: str) -> str:
    if not isinstance(error, json.JSONDecodeError):
        digits = "Exceeds the limit" in str(error)  # Python's own, of an integer: quadratic in them otherwise
        return f"invalid JSON: {'a number of too many digits' if digits else error}"
    if error.pos >= len(text) or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    before = text[error.pos : error.pos + 10]
    return f"invalid JSON: {error.msg} at line {error.lineno} column {error.colno}, before {before!r}"


def _no_such_number(literal: str) -> None:
    raise ValueError(f"{literal} is no number")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=Object, parse_float=Decimal, parse_constant=_no_such_number)


# ---- reading ---------------------------------------------------------------------------------------------------------


class _Field(NamedTuple):
    name: str  # in the .proto file, and so in Python
    json_name: str
    number: int
    repeated: bool
    oneof: str | None
    kind: Descriptor | None  # of a field of messages
    read: Callable[[Any], Any]  # a value of JSON to one of Python; raises ValueError
    write: Callable[[Any], Any]
    type_name: str


def read(message: Message, value: Object, depth: int = 1) -> None:
    """Fills message. Raises BadJson."""
    if depth > DEPTH_MAX:
        raise BadJson("proto: exceeded maximum recursion depth")
    fields = _fields(message.DESCRIPTOR)
    seen: set[int | str] = set()
    for name, member in value:
        field = fields.get(name)
        if field is None:
            continue
        if field.number in seen:
            raise BadJson(f"proto: duplicate field {_shown(name)}")
        seen.add(field.number)
        if member is None:
            continue
        if field.repeated:
            if type(member) is not list:
                raise BadJson(f"proto: syntax error: unexpected token {_shown(member)}")
            for one in member:
                _add(message, field, one, depth)
            continue
        if field.oneof is not None:
            if field.oneof in seen:
                raise BadJson(f"proto: error parsing {_shown(name)}, oneof {field.oneof} is already set")
            seen.add(field.oneof)
        if field.kind is None:
            read_value = _read_value(field, member)
            if read_value is not None:
                setattr(message, field.name, read_value)
        else:
            inner = getattr(message, field.name)
            inner.SetInParent()
            read(inner, _require_object(member), depth + 1)


def _add(message: Message, field: _Field, member: Any, depth: int) -> None:
    values = getattr(message, field.name)
    if field.kind is not None:
        read(values.add(), _require_object(member), depth + 1)
        return
    value = _read_value(field, member)
    if value is not None:
        values.append(value)


def _require_object(value: Any) -> Object:
    if type(value) is not Object:
        raise BadJson(f"proto: syntax error: unexpected token {_shown(value)}")
    return value


def _read_value(field: _Field, value: Any) -> Any:
    """None: a name that the enumeration does not have. Raises BadJson."""
    try:
        return field.read(value)
    except ValueError:
        raise BadJson(f"proto: invalid value for {field.type_name} field {field.json_name}: {_shown(value)}") from None


def _shown(value: Any) -> str:
    """As Go's parser names the token that it stopped at."""
    if isinstance(value, list):
        return "{" if type(value) is Object else "["
    if isinstance(value, Decimal):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _read_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


def _read_string(value: Any) -> str:
    if type(value) is not str:
        raise ValueError
    value.encode()  # a half of a surrogate pair is no text: UnicodeEncodeError is a ValueError
    return value


def _read_bytes(value: Any) -> bytes:
    """Padded if it has a length that says so; ends of lines may be anywhere, and count for that length (as in Go)."""
    if type(value) is not str:
        raise ValueError
    data = value.encode("ascii")
    if b"-" in data or b"_" in data:
        if b"+" in data or b"/" in data:
            raise ValueError
        data = data.translate(_URL_SAFE)
    padded = not len(data) % 4
    data = data.translate(None, b"\r\n")
    if not padded:
        if b"=" in data:
            raise ValueError
        data += b"=" * (-len(data) % 4)
    if data.startswith(b"="):
        raise ValueError
    return binascii.a2b_base64(data, strict_mode=True)  # binascii.Error is a ValueError


_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def read_integer(value: Any) -> int:
        if type(value) is str:
            number = _NUMBER_IN_TEXT.match(value)
            if number is None or value != value.strip():
                raise ValueError
            try:
                value = Decimal(number[0])
            except InvalidOperation:  # an exponent beyond all bounds
                raise ValueError from None
        if type(value) is Decimal:
            value = _whole(value)
        elif type(value) is not int:
            raise ValueError
        if not low <= value <= high:
            raise ValueError
        return int(value)

    return read_integer


def _whole(value: Decimal) -> int:
    """Raises ValueError. Looks at the size first: 1e999999999 as an integer would not fit into memory."""
    if not value.is_finite() or value.adjusted() > _DIGITS_MAX or value != value.to_integral_value():
        raise ValueError
    return int(value)


def _enumeration(numbers: dict[str, int]) -> Callable[[Any], int | None]:
    read_number = _integer(-(1 << 31), (1 << 31) - 1)

    def read_enumeration(value: Any) -> int | None:
        if type(value) is str:
            return numbers.get(value)
        return read_number(value)

    return read_enumeration


# ---- writing ---------------------------------------------------------------------------------------------------------


def write(message: Message) -> str:
    """One line without blanks."""
    return _ENCODER.encode(plain(message))


def plain(message: Message) -> dict[str, Any]:
    """As objects that JSON knows."""
    told: dict[str, Any] = {}
    fields = _by_number(message.DESCRIPTOR)
    for descriptor, value in message.ListFields():
        field = fields[descriptor.number]
        told[field.name] = [field.write(one) for one in value] if field.repeated else field.write(value)
    return told


_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False)


def _write_bytes(value: bytes) -> str:
    return b64encode(value).decode("ascii")


def _as_is(value: Any) -> Any:
    return value


# ---- what the descriptors say ----------------------------------------------------------------------------------------


@cache
def _fields(kind: Descriptor) -> dict[str, _Field]:
    """By both names."""
    found: dict[str, _Field] = {}
    for descriptor in kind.fields:
        field = _field(descriptor)
        found[field.name] = found[field.json_name] = field
    return found


@cache
def _by_number(kind: Descriptor) -> dict[int, _Field]:
    return {field.number: field for field in _fields(kind).values()}


def _field(descriptor: FieldDescriptor) -> _Field:
    read_value, write_value, type_name = _conversion(descriptor)
    oneof = descriptor.containing_oneof
    return _Field(
        descriptor.name,
        descriptor.json_name,
        descriptor.number,
        bool(descriptor.is_repeated),
        None if oneof is None else ETCDS_PACKAGE + oneof.full_name.removeprefix(oneof.containing_type.file.package),
        descriptor.message_type,
        read_value,
        write_value,
        type_name,
    )


def _conversion(descriptor: FieldDescriptor) -> tuple[Callable[[Any], Any], Callable[[Any], Any], str]:
    kind = descriptor.type
    if kind == FieldDescriptor.TYPE_MESSAGE:
        return _as_is, plain, "message"
    if kind == FieldDescriptor.TYPE_ENUM:
        assert descriptor.enum_type is not None
        names = {value.number: value.name for value in descriptor.enum_type.values}
        numbers = {name: number for number, name in names.items()}
        return _enumeration(numbers), lambda number: names.get(number, number), "enum"
    return _SCALARS[kind]


_SCALARS: Final[dict[int, tuple[Callable[[Any], Any], Callable[[Any], Any], str]]] = {
    FieldDescriptor.TYPE_BOOL: (_read_bool, _as_is, "bool"),
    FieldDescriptor.TYPE_STRING: (_read_string, _as_is, "string"),
    FieldDescriptor.TYPE_BYTES: (_read_bytes, _write_bytes, "bytes"),
    FieldDescriptor.TYPE_INT64: (_integer(-(1 << 63), (1 << 63) - 1), str, "int64"),
    FieldDescriptor.TYPE_UINT64: (_integer(0, (1 << 64) - 1), str, "uint64"),
    FieldDescriptor.TYPE_INT32: (_integer(-(1 << 31), (1 << 31) - 1), _as_is, "int32"),
    FieldDescriptor.TYPE_UINT32: (_integer(0, (1 << 32) - 1), _as_is, "uint32"),
}
