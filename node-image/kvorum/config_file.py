"""The config file as etcd 3.5 reads one: YAML, whose keys are the flags' names but for three sections and one name.

Knows what lies where in the file and of which type it has to be, each as seen with etcd 3.5.30; not what a value means,
nor what counts beside the file. etcd takes the first document, YAML 1.1 as Go knows it (`y` is a boolean, 010 is 8,
1:30 is a text), keys in any case, and of two equal keys the later one. A text must be a text: a number or a boolean
for it ends the start, as does "5" for a number. Keys that it does not know etcd passes over in silence: here they are
named.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import yaml

from kvorum.flags import (
    BOOL,
    CLIENT_CN,
    DURATION,
    FLAGS,
    INT,
    LIST,
    UINT,
    UINT32,
    Flag,
    Invalid,
    Setting,
)

_TLS: Final = ("cert-file", "key-file", "client-cert-file", "client-key-file", "client-cert-auth", "trusted-ca-file")

# What a file nests: section -> key there -> flag. Those of OURS only we read: etcd has them as flags alone, and who has
# a file has no flags.
SECTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "client-transport-security": {
        **{key: key for key in (*_TLS, "auto-tls")},
        "crl-file": "client-crl-file",
        "allowed-cn": CLIENT_CN.name,
        "allowed-hostname": "client-cert-allowed-hostname",
    },
    "peer-transport-security": {
        **{key: f"peer-{key}" for key in (*_TLS, "auto-tls")},
        "crl-file": "peer-crl-file",
        "allowed-cn": "peer-cert-allowed-cn",
        "allowed-hostname": "peer-cert-allowed-hostname",
        "skip-client-san-verification": "experimental-peer-skip-client-san-verification",
    },
    "socket-options": {"reuse-port": "socket-reuse-port", "reuse-address": "socket-reuse-address"},
}
# Keys that are not their flags' names.
RENAMED: Final = {"experimental-snapshot-catch-up-entries": "experimental-snapshot-catchup-entries"}
OURS: Final = frozenset(
    {
        "client-crl-file",
        "peer-crl-file",
        "experimental-peer-skip-client-san-verification",
        "raft-read-timeout",
        "raft-write-timeout",
    }
)
SETTINGS: Final[Mapping[str, Flag]] = {**FLAGS, CLIENT_CN.name: CLIENT_CN}
NO_KEYS: Final = frozenset({"config-file", "version"})
LISTS: Final = frozenset(  # YAML lists; every other list is a text with commas
    {
        "log-outputs",
        "cipher-suites",
        CLIENT_CN.name,
        "client-cert-allowed-hostname",
        "peer-cert-allowed-cn",
        "peer-cert-allowed-hostname",
    }
)
# An empty text asks for the default; to other flags it is a text like any.
EMPTY_IS_DEFAULT: Final = frozenset(
    {
        "listen-peer-urls",
        "listen-client-urls",
        "initial-advertise-peer-urls",
        "advertise-client-urls",
        "cors",
        "host-whitelist",
        "initial-cluster-state",
        "discovery-fallback",
        "proxy",
        "log-level",
        "auto-compaction-retention",
    }
)
# What guides have written for years, and etcd has passed over for as long.
MISTAKEN: Final = {
    "debug": "log-level: debug is what etcd has for it since 3.5",
    "wal-log": "no etcd ever had it; wal-dir says where the log lies",
}


class BadFile(Exception):
    """lines: what was seen, then the way out."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def keys() -> dict[str, tuple[str, ...]]:
    """Where in a file each flag is set: its key, behind that of its section."""
    places = {flag: (section, key) for section, inner in SECTIONS.items() for key, flag in inner.items()}
    renamed = {flag: (key,) for key, flag in RENAMED.items()}
    return {name: places.get(name) or renamed.get(name) or (name,) for name in SETTINGS if name not in NO_KEYS}


def read(path: Path) -> tuple[dict[str, Setting], list[str]]:
    """What the file sets, by flag, and what to warn of. Raises BadFile."""
    document = _document(path)
    given: dict[str, Setting] = {}
    unknown: list[str] = []
    for key, flag, value in _entries(path, document, unknown):
        setting = _setting(flag, value, f"{path}: {key}")
        if setting is not None:
            given[flag.name] = setting
    warnings = [f"{path}: keys that are unknown, and ignored: {', '.join(unknown)}"] if unknown else []
    return given, warnings


def _document(path: Path) -> Mapping[object, object]:
    try:
        with path.open("rb") as file:
            document = next(iter(yaml.load_all(file, Loader=_GoLoader)), None)
    except OSError as error:
        raise BadFile(f"the config file {path} cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        raise BadFile(f"the config file {path} is no YAML: {where}{error.problem}") from None
    except yaml.YAMLError as error:
        raise BadFile(f"the config file {path} is no YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise BadFile(f"the config file {path} is nested too deeply") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise BadFile(f"the config file {path} must be a mapping of keys to values, not {_type_of(document)}")
    return document


def _entries(path: Path, document: Mapping[object, object], unknown: list[str]) -> Iterator[tuple[str, Flag, object]]:
    """Of each value that is not null: its place in the file, its flag, itself."""
    top = {**{where[0]: name for name, where in keys().items() if len(where) == 1}, **dict.fromkeys(SECTIONS, "")}
    for key, name, value in _matched(document, top):
        if value is None:
            continue
        if name is None:
            unknown.append(key + _hint(key, top))
        elif name:
            yield key, SETTINGS[name], value
        elif not isinstance(value, dict):
            raise BadFile(f"{path}: {key} must be a mapping of keys to values, not {_type_of(value)}")
        else:
            section = SECTIONS[key.lower()]
            for inner_key, inner_name, inner in _matched(value, section):
                if inner_name is None:
                    unknown.append(f"{key}.{inner_key}{_hint(inner_key, section)}")
                elif inner is not None:
                    yield f"{key}.{inner_key}", SETTINGS[inner_name], inner


def _matched(mapping: Mapping[object, object], known: Mapping[str, str]) -> Iterator[tuple[str, str | None, object]]:
    """Key, what it is known as, value. In the order in which Go sees them: where two keys differ in case alone, the
    later one counts, and capitals come first."""
    texts = {_key(key): value for key, value in mapping.items()}
    for key in sorted(texts):
        yield key, known.get(key, known.get(key.lower())), texts[key]


def _key(key: object) -> str:
    if isinstance(key, str | int | float):
        return str(key).lower() if isinstance(key, bool) else str(key)
    raise BadFile(f"a key of a config file must be a text, not {_type_of(key)}")


def _hint(key: str, known: Mapping[str, str]) -> str:
    if key in MISTAKEN:
        return f" ({MISTAKEN[key]})"
    place = keys().get(key)
    if place is not None:
        return f" (in a file it is {'.'.join(place)})"
    if key in NO_KEYS:
        return " (a flag alone)"
    similar = difflib.get_close_matches(key.lower().replace("_", "-"), known, n=1, cutoff=0.8)
    return f" (is {similar[0]} meant?)" if similar else ""


def _setting(flag: Flag, value: object, origin: str) -> Setting | None:
    """None where the value asks for the default. Raises BadFile."""
    text = _list_text(flag, value, origin) if flag.name in LISTS else _scalar_text(flag, value, origin)
    if not text and flag.name in EMPTY_IS_DEFAULT:
        return None
    try:
        return Setting(flag.kind.parse(text), text, origin)
    except Invalid as error:
        raise BadFile(f'invalid value "{text}" for {origin}: {error}') from None


def _list_text(flag: Flag, value: object, origin: str) -> str:
    if not isinstance(value, list):
        raise BadFile(
            f"{origin} must be a list, not {_type_of(value)}",
            f"Write it as {origin.rpartition('.')[2].rpartition(' ')[2]}: [{value if isinstance(value, str) else '…'}]",
        )
    for item in value:
        if not isinstance(item, str):
            raise BadFile(f"{origin} must be a list of texts, and has {_type_of(item)} in it", "Put it in quotes")
    return ",".join(value)


def _scalar_text(flag: Flag, value: object, origin: str) -> str:
    """The value as a flag would have it. Raises BadFile."""
    kind = flag.kind
    if kind is BOOL:
        if isinstance(value, bool):
            return str(value).lower()
        raise BadFile(f"{origin} must be true or false, not {_type_of(value)}", "Write it without quotes")
    if kind in (UINT, UINT32, INT, DURATION):
        if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
            value = int(value)  # 1e4, which Go writes as 10000 in between
        if not isinstance(value, int) or isinstance(value, bool):
            what = "a number of nanoseconds" if kind is DURATION else "a whole number"
            raise BadFile(
                f"{origin} must be {what}, not {_type_of(value)}",
                "etcd 3.5 reads no units in a file: 5s is 5000000000"
                if kind is DURATION
                else "Write it without quotes and units",
            )
        if value < 0 and kind in (UINT, UINT32):
            raise BadFile(f"{origin} must be a whole number from 0 up, not {_type_of(value)}")
        return f"{value}ns" if kind is DURATION else str(value)
    if isinstance(value, str):
        return value
    commas = kind is LIST or isinstance(value, list)
    raise BadFile(
        f"{origin} must be a text, not {_type_of(value)}",
        "Write it as one text with commas" if commas else "Put it in quotes",
    )


def _type_of(value: object) -> str:
    """For error texts. Never the content of a list or mapping: with aliases a short file can hold an endless one."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    return f"the number {value}" if isinstance(value, int | float) else f'the text "{value}"'


# ---- YAML 1.1, in Go's reading ---------------------------------------------------------------------------------------

_WORDS: Final[Mapping[str, object]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
_INTEGER: Final = re.compile(r"([-+]?)(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TAG: Final = "tag:yaml.org,2002:"


def _plain(text: str) -> object:
    """What a scalar without quotes is."""
    if text in _WORDS:
        return _WORDS[text]
    bare = text.replace("_", "")
    integer = _INTEGER.fullmatch(bare)
    if integer is not None and text[0] != "_":
        sign, digits = integer.groups()
        octal = re.fullmatch(r"0[0-7]+", digits)
        value = int(digits, 8) if octal else int(digits, 0)
        return -value if sign == "-" else value
    return float(bare) if text[:1] != "_" and _FLOAT.fullmatch(bare) else text


class _GoLoader(yaml.SafeLoader):
    """Safe, and as Go takes plain scalars; dates stay texts."""

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: tuple[bool, bool] | bool) -> str:
        if kind is yaml.ScalarNode and isinstance(implicit, tuple) and implicit[0] and value is not None:
            found = _plain(value)
            if found is None:
                return f"{_TAG}null"
            if not isinstance(found, str):
                return f"{_TAG}{type(found).__name__}"
        return str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]  # PyYAML's types lack it


def _construct(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
    return _plain(str(node.value))


_GoLoader.yaml_implicit_resolvers = {"<": [(f"{_TAG}merge", re.compile("<<"))]}
for _name in ("bool", "int", "float"):
    _GoLoader.add_constructor(f"{_TAG}{_name}", _construct)
