"""Where the process begins. Nothing is imported here that takes time.

A signal that nobody handles ends a process, but not process 1 of a container: a kubelet that changes its mind right
after the start would wait there for its whole grace period. So SIGTERM has a handler before the rest is imported, which
takes longer than everything else of a start.
"""

import os
import signal
import sys


def main() -> None:
    if os.getpid() == 1:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
    if sys.argv[1:2] == ["data"]:
        from kvorum.data import main as tools  # noqa: PLC0415 - see above

        tools.main()
        return
    from kvorum.main import main as run  # noqa: PLC0415 - see above

    run()


def _end(number: int, frame: object) -> None:
    """Nothing was opened yet, so nothing is to be closed. main has handlers of its own before it opens anything."""
    os._exit(0)
