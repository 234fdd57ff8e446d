"""Members as JSON, byte for byte as Go writes them: what GET /members answers, and what a joining member reads.

Field order is Go's struct order; empty fields go as their tags say; `<`, `>`, `&`, U+2028 and U+2029 are escaped.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

_GO_ESCAPES: Final = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


class Member(Protocol):
    """What of a member goes over the wire."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def peer_urls(self) -> Sequence[str]: ...
    @property
    def client_urls(self) -> Sequence[str]: ...
    @property
    def is_learner(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class MemberSeen:
    """A member as another one lists it. client_urls empty: it never started."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool


class NotMembers(ValueError):
    """What was answered is no list of members."""


def encode_members(members: Iterable[Member]) -> bytes:
    """As GET /members answers, in ascending ids, with Go's newline at the end."""
    return b"[" + b",".join(_encode(m) for m in sorted(members, key=lambda m: m.id)) + b"]\n"


def decode_members(body: bytes) -> list[MemberSeen]:
    """Raises NotMembers."""
    try:
        raw = json.loads(body)
        return [
            MemberSeen(
                id=_require_id(each["id"]),
                name=str(each.get("name", "")),
                peer_urls=tuple(map(str, each.get("peerURLs") or ())),
                client_urls=tuple(map(str, each.get("clientURLs") or ())),
                is_learner=each.get("isLearner") is True,
            )
            for each in raw
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NotMembers(f"not a list of members: {error}") from None


def _require_id(value: object) -> int:
    if not isinstance(value, int) or not 0 < value < 1 << 64:
        raise NotMembers(f"{value!r} is no member id")
    return value


def _encode(member: Member) -> bytes:
    fields: dict[str, object] = {"id": member.id, "peerURLs": list(member.peer_urls)}
    if member.is_learner:
        fields["isLearner"] = True
    if member.name:
        fields["name"] = member.name
    if member.client_urls:
        fields["clientURLs"] = list(member.client_urls)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).translate(_GO_ESCAPES).encode()
