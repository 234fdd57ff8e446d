"""The log as JSON lines with etcd's keys: level, ts, caller, msg, and what else a line was given (`extra`)."""

import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "dpanic": logging.CRITICAL,
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}
NAMES = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "level": NAMES.get(record.levelno, "fatal"),
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "caller": f"{record.name.removeprefix('kvorum.').replace('.', '/')}.py:{record.lineno}",
            "msg": record.getMessage(),
        }
        line.update((key, value) for key, value in vars(record).items() if key not in STANDARD)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str, outputs: Sequence[str]) -> None:
    """outputs: "stderr", "default", "stdout" or paths. Raises OSError for a path that cannot be written."""
    root = logging.getLogger()
    root.setLevel(LEVELS[level])
    root.handlers.clear()
    for output in outputs:
        if output in ("stderr", "default"):
            handler: logging.Handler = logging.StreamHandler(sys.stderr)
        elif output == "stdout":
            handler = logging.StreamHandler(sys.stdout)
        else:
            handler = logging.FileHandler(output)
        handler.setFormatter(JsonLines())
        root.addHandler(handler)
