"""Free TCP ports on 127.0.0.1 for test servers, below the range that the system gives to outgoing connections.

A port is claimed by a lock on a file of its own and stays claimed until this process ends: test processes that run side
by side never get the same one, also while its server is stopped.
"""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

PORTS = range(12_000, 32_000)  # below 32768, where Linux's ephemeral range begins

_claims: list[IO[str]] = []  # open files hold the locks


def free_port() -> int:
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that are free and now claimed."""
    folder = Path(tempfile.gettempdir()) / f"kvorum-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for _ in range(1000):
        first = random.randrange(PORTS.start, PORTS.stop - count)
        claims = [claim(folder, port) for port in range(first, first + count)]
        held = [file for file in claims if file is not None]
        if len(held) == count:
            _claims.extend(held)
            return first
        for file in held:
            file.close()
    raise RuntimeError(f"no {count} free ports in a row found in {PORTS}")


def claim(folder: Path, port: int) -> IO[str] | None:
    file = (folder / str(port)).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    with socket.socket() as probe:
        # With this a port in TIME_WAIT counts as free, as it does for the servers; a listener is still refused.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            file.close()
            return None
    return file
