"""The sample of a config file: every key with its default, and what it asks for, out of the table in flags.py.

Loaded as it is, it changes nothing. Keys whose default follows from another setting are left without a value, so that
whoever edits that one need not know of them.
"""

import textwrap
from collections.abc import Iterator
from typing import Final

from kvorum.config_file import LISTS, OURS, SETTINGS, keys
from kvorum.flags import BOOL, DURATION, FLAGS, GROUPS, INT, UINT, UINT32, Flag, Status, parse_duration_ns

WIDTH: Final = 100
FOLLOWING: Final = {
    "data-dir": "NAME.etcd",
    "initial-cluster": "NAME=initial-advertise-peer-urls, of a name of its own",
}
HEAD: Final = """\
# Every key of a config file, with its default: the file as it is changes nothing.
# kvorum --config-file FILE (or ETCD_CONFIG_FILE) reads it, and then no other flag and no other variable.
# Durations are nanoseconds, except where a name says otherwise. Texts that YAML takes for something else need quotes.
"""


def sample() -> str:
    """The whole file. It ends with a line's end."""
    lines = [HEAD.rstrip("\n")]
    places = keys()
    sections: dict[str, list[Flag]] = {}
    for flag in SETTINGS.values():
        if len(where := places.get(flag.name, ())) == 2:
            sections.setdefault(where[0], []).append(flag)
    for title, flags in GROUPS:
        keyed = [flag for flag in flags if flag.name in places]
        if keyed:
            lines += ["", f"# ---- {title} {'-' * (WIDTH - len(title) - 8)}"]
        for flag in keyed:
            section, *inner = places[flag.name]
            if not inner:
                lines += ["", *_entry(flag, section, "")]
            elif flag is sections[section][0]:
                lines += ["", f"{section}:"]
                for position, one in enumerate(sections[section]):
                    lines += [*([""] if position else []), *_entry(one, places[one.name][1], "  ")]
    return "\n".join(lines) + "\n"


def _entry(flag: Flag, key: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(_explained(flag, key), WIDTH - 2 - len(indent), break_on_hyphens=False):
        yield f"{indent}# {line}"
    yield f"{indent}{key}: {_value(flag)}".rstrip()


def _explained(flag: Flag, key: str) -> str:
    parts = [f"{flag.meaning} (here {flag.default})" if flag.kind is DURATION else flag.meaning]
    if flag.status is Status.REFUSED:
        parts.append(f"Refused for now, but for this value: {flag.note}")
    elif flag.note:
        parts.append(f"Ignored: {flag.note}" if flag.status is Status.IGNORED else flag.note)
    if flag.name in FOLLOWING:
        parts.append(f"Without a value: {FOLLOWING[flag.name]}")
    if flag.name in OURS:
        parts.append("An etcd has this as a flag alone, and ignores it in a file")
    elif flag.name not in FLAGS:
        parts.append(f"The flag is ours: --{flag.name}")
    elif key != flag.name:
        parts.append(f"The flag is --{flag.name}")
    return ". ".join(parts)


def _value(flag: Flag) -> str:
    if flag.name in FOLLOWING:
        return ""
    default = flag.accepts[0] if flag.status is Status.REFUSED and flag.accepts else flag.default
    if flag.name in LISTS:
        return f"[{default}]"
    if flag.kind is DURATION:
        return str(parse_duration_ns(default))
    if flag.kind in (BOOL, UINT, UINT32, INT):
        return default
    return "'" + default.replace("'", "''") + "'"
