"""The parameters of a v2 request, out of its query and its form, as Go's net/http and etcd's checks read them.

Knows no store. Texts of errors are theirs, since they are what a client shows (etcd.md, 1.14).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from kvorum.net.exchange import HttpRequest
from kvorum.state.v2_error import (
    INDEX_NO_NUMBER,
    INVALID_FIELD,
    INVALID_FORM,
    PREV_VALUE_REQUIRED,
    REFRESH_TTL_REQUIRED,
    REFRESH_VALUE,
    TTL_NO_NUMBER,
    V2Error,
)

FORM = "application/x-www-form-urlencoded"
_TRUE, _FALSE = (
    frozenset({"1", "t", "T", "TRUE", "true", "True"}),
    frozenset({"0", "f", "F", "FALSE", "false", "False"}),
)
_NUMBER = re.compile(r"[0-9]+")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PARAMETERS = re.compile(
    r"""(?:\s*;\s*[!#$%&'*+\-.^_`|~0-9A-Za-z]+\s*=\s*(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|"(?:[^"\\]|\\.)*"))*\s*;?\s*"""
)

Form = dict[str, str]


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """What is asked of a key. ttl_s, prev_exist, refresh: None where not given."""

    value: str
    is_dir: bool
    ttl_s: int | None
    prev_value: str
    prev_index: int
    prev_exist: bool | None
    refresh: bool | None
    wait: bool
    wait_index: int
    stream: bool
    recursive: bool
    is_sorted: bool
    quorum: bool
    no_value_on_success: bool


def parse(request: HttpRequest) -> KeyRequest:
    """Raises V2Error, for what etcd would name first."""
    form = _form(request)
    prev_index = _number(form, "prevIndex")
    wait_index = _number(form, "waitIndex")
    recursive = _flag(form, "recursive")
    is_sorted = _flag(form, "sorted")
    wait = _flag(form, "wait")
    is_dir = _flag(form, "dir")
    quorum = _flag(form, "quorum")
    stream = _flag(form, "stream")
    if wait and request.method != "GET":
        raise V2Error(INVALID_FIELD, '"wait" can only be used with GET requests')
    prev_value = form.get("prevValue", "")
    if "prevValue" in form and not prev_value:
        raise V2Error(PREV_VALUE_REQUIRED, '"prevValue" cannot be empty')
    no_value_on_success = _flag(form, "noValueOnSuccess")
    ttl_s = _number(form, "ttl", TTL_NO_NUMBER) if form.get("ttl") else None
    prev_exist = _flag(form, "prevExist", quoted=False) if "prevExist" in form else None
    refresh = _flag(form, "refresh", quoted=False) if "refresh" in form else None
    value = form.get("value", "")
    if refresh and value:
        raise V2Error(REFRESH_VALUE, "A value was provided on a refresh")
    if refresh and ttl_s is None:
        raise V2Error(REFRESH_TTL_REQUIRED, "No TTL value set")
    return KeyRequest(
        value=value,
        is_dir=is_dir,
        ttl_s=ttl_s,
        prev_value=prev_value,
        prev_index=prev_index,
        prev_exist=prev_exist,
        refresh=refresh,
        wait=wait,
        wait_index=wait_index,
        stream=stream,
        recursive=recursive,
        is_sorted=is_sorted,
        quorum=quorum,
        no_value_on_success=no_value_on_success,
    )


def _number(form: Form, name: str, code: int = INDEX_NO_NUMBER) -> int:
    text = form.get(name)
    if text is None:
        return 0
    if not _NUMBER.fullmatch(text) or int(text) >= 1 << 64:
        raise V2Error(code, f'invalid value for "{name}"')
    return int(text)


def _flag(form: Form, name: str, *, quoted: bool = True) -> bool:
    text = form.get(name)
    if text is None or text in _FALSE:
        return False
    if text not in _TRUE:
        raise V2Error(INVALID_FIELD, f'invalid value for "{name}"' if quoted else f"invalid value for {name}")
    return True


def _form(request: HttpRequest) -> Form:
    """The first value of each name; those of a body count before those of the query."""
    form: Form = {}
    problems = []
    if request.method in ("POST", "PUT"):
        kind, problem = _media_type(request.headers.get("content-type", ""))
        problems.append(problem)
        if kind == FORM:
            problems.append(_read(request.body.decode("latin-1"), form))
    problems.append(_read(request.query, form))
    for problem in problems:
        if problem:
            raise V2Error(INVALID_FORM, problem)
    return form


def _read(text: str, form: Form) -> str:
    """Adds what is not there yet. Gives what is wrong with some of it."""
    problem = ""
    for pair in text.split("&"):
        if ";" in pair:
            problem = "invalid semicolon separator in query"
        elif pair:
            name, _, value = pair.partition("=")
            wrong = next(_bad_escapes(name, value), "")
            if wrong:
                problem = problem or wrong
            else:
                form.setdefault(_decoded(name), _decoded(value))
    return problem


def _bad_escapes(*texts: str) -> Iterator[str]:
    for text in texts:
        if match := _ESCAPE.search(text):
            escape = text[match.start() : match.start() + 3].replace("\\", r"\\").replace('"', r"\"")
            yield f'invalid URL escape "{escape}"'


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode("utf-8", "surrogateescape")


def _media_type(header: str) -> tuple[str, str]:
    """A Content-Type without its parameters, and what is wrong with it. None given: bytes of which nothing is known."""
    if not header:
        return "", ""
    kind, separator, _ = header.partition(";")
    kind = kind.strip().lower()
    parameters = header[header.index(";") :] if separator else ""
    main = _TOKEN.match(kind)
    if main is None:
        return "", "mime: no media type"
    rest = kind[main.end() :]
    if rest and not rest.startswith("/"):
        return "", "mime: expected slash in first token"
    if rest:
        sub = _TOKEN.match(rest, 1)
        if sub is None:
            return "", "mime: expected token after slash"
        if sub.end() < len(rest):
            return "", "mime: unexpected content after media subtype"
    return kind, "" if _PARAMETERS.fullmatch(parameters) else "mime: invalid media parameter"
