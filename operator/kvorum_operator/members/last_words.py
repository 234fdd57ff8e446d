"""Why a member ended, by the last lines of its log: the same of a process and of a container."""

import json
from collections.abc import Sequence

CHARACTERS_MAX = 300


def last_words(lines: Sequence[str]) -> str:
    """What the last fatal line says; where there is none the last line, unless it only logs what was done. Bounded."""
    written = [line for line in lines if line.strip()]
    for line in reversed(written):
        said = complaint(line)
        if said is not None:
            return shortened(said)
    return shortened(written[-1]) if written and not instant(written[-1]) else ""


def instant(line: str) -> str:
    """When a line of a JSON log was written; both engines write UTC with microseconds, so texts sort as times do."""
    try:
        content = json.loads(line)
    except ValueError:
        return ""
    found = content.get("ts") if isinstance(content, dict) else None
    return found if isinstance(found, str) else ""


def complaint(line: str) -> str | None:
    """What a line of a member's JSON log says, if it is why the process ended."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    if not isinstance(content, dict) or content.get("level") not in ("fatal", "panic"):
        return None
    return ": ".join(str(content[key]) for key in ("msg", "error") if content.get(key))


def shortened(text: str) -> str:
    """In one line, its beginning and its end: a traceback names the trouble at its end."""
    text = " ".join(text.split())
    if len(text) <= CHARACTERS_MAX:
        return text
    half = CHARACTERS_MAX // 2
    return f"{text[:half]} ... {text[-half:]}"
