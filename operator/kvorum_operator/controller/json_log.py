"""The log: one line of JSON a record, with the same keys whoever wrote it: us, kopf or aiohttp.

time, level, message; where they are known cluster, step, error; and what else a line was given (`extra`). kopf is heard
from warnings on, and not about requests that it tries again: whether the API server is there, `health` says once.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import IO

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# kopf's own extras: whole references and settings of the object that an event was about.
FOREIGN = frozenset({"k8s_ref", "k8s_skip", "settings"})

# What they say in normal times, and the level from which on it is of use to whoever runs the operator.
QUIET = {
    "kopf": logging.WARNING,
    "kopf._cogs.clients": logging.CRITICAL,  # each attempt of each watch, while the API server is away
    "kopf._core.reactor.observation": logging.CRITICAL,  # likewise; and the CRD that is missing: said by watches.py
    "kopf._core.reactor.running": logging.CRITICAL,  # that it leaves signals to us; how it ends, watches.py says
    "kopf._core.reactor.orchestration": logging.CRITICAL,
    "kopf._core.engines.activities": logging.WARNING,
    "aiohttp": logging.WARNING,
    "asyncio": logging.WARNING,
    "grpc": logging.WARNING,
}


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
        }
        line.update((key, value) for key, value in vars(record).items() if key not in STANDARD | FOREIGN)
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str, output: IO[str] = sys.stderr) -> None:
    """level: a key of LEVELS. At debug, kopf and the rest are heard in full."""
    root = logging.getLogger()
    root.setLevel(LEVELS[level])
    handler = logging.StreamHandler(output)
    handler.setFormatter(JsonLines())
    root.handlers[:] = [handler]
    logging.captureWarnings(capture=True)
    if level != "debug":
        for name, least in QUIET.items():
            logging.getLogger(name).setLevel(least)
