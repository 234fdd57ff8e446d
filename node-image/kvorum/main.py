"""The program `kvorum`: reads its settings, runs one node, ends as etcd ends."""

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from kvorum import config as configuration
from kvorum import json_log
from kvorum.aside import Aside, lines_of
from kvorum.net.listener import CannotListen
from kvorum.net.tls import TlsUnusable
from kvorum.node import InTrouble, Node, StartRefused
from kvorum.storage.data_dir import DataDir
from kvorum.storage.fault import StorageFault

log = logging.getLogger("kvorum.main")


def main(*, open_data_dir: Callable[[Path, Path], DataDir] = DataDir.open) -> None:
    """Exits 0 after a signal as process 1, else by that signal; 1 when it cannot start, or a disk failed it; 2 for
    wrong usage; 70 for a broken invariant.

    Data that is lost or damaged is no end: the node stands aside.
    """
    try:
        config = configuration.load(sys.argv[1:], os.environ)
        json_log.configure(config.log_level, config.log_outputs)
    except configuration.Answered as answered:
        print(answered.text)  # noqa: T201 - --version, --help and the sample answer on stdout
        sys.exit(0)
    except configuration.ConfigError as error:
        sys.exit(_say(error.exit_code, *error.lines))
    except OSError as error:
        sys.exit(_say(1, f"--log-outputs: {error}"))
    faulthandler.enable()  # a page of the tables that is gone ends the process by SIGBUS: not without a word
    for warning in config.warnings:
        log.warning(warning)
    try:
        received = asyncio.run(_run(config, open_data_dir))
    except StartRefused as error:
        sys.exit(_say(1, *error.lines))
    except (CannotListen, TlsUnusable) as error:
        sys.exit(_say(1, *lines_of(error)))
    except configuration.ConfigError as error:
        sys.exit(_say(error.exit_code, *error.lines))
    _end_by(received)


def _say(exit_code: int, first: str, *way_out: str) -> int:
    print(f"kvorum: {first}", *(f"  {line}" for line in way_out), sep="\n", file=sys.stderr)  # noqa: T201 - for the user
    return exit_code


def _end_by(received: signal.Signals | None) -> None:
    """After cleaning up etcd sends itself the signal again, so that whoever waits sees what ended it; not as process
    1."""
    if received is None or os.getpid() == 1:
        sys.exit(0)
    signal.signal(received, signal.SIG_DFL)
    os.kill(os.getpid(), received)


async def _run(config: configuration.Config, open_data_dir: Callable[[Path, Path], DataDir]) -> signal.Signals | None:
    """The signal that ended the node; None if it ended by itself."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[signal.Signals | None] = loop.create_future()

    def ask_to_stop(received: signal.Signals | None) -> None:
        if not stop.done():
            stop.set_result(received)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask_to_stop, number)
    loop.set_exception_handler(_broken)
    node = await _start(config, open_data_dir)
    _rest_the_collector()
    received = await stop
    if received is not None:
        log.info("received a signal, stopping", extra={"signal": received.name})
    await node.stop()
    return received


async def _start(config: configuration.Config, open_data_dir: Callable[[Path, Path], DataDir]) -> Node | Aside:
    try:
        return await Node.start(config, open_data_dir=open_data_dir)
    except InTrouble as error:
        return await Aside.start(config, error.trouble)


def _rest_the_collector() -> None:
    """What is loaded by now stays: the collector need not walk it again (400k keys: 460 ms a walk, 1 ms after this)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _broken(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """A callback raised. On a connection, that connection is closed and the rest goes on; anywhere else, or if an
    invariant is broken, going on could make it worse: the traceback, and the end."""
    error = context.get("exception")
    cause = error if isinstance(error, BaseException) else None
    if isinstance(cause, StorageFault):  # damaged tables, met by a read
        log.critical("%s", cause)
        logging.shutdown()
        os._exit(1)
    if isinstance(cause, OSError) or ("protocol" in context and not isinstance(cause, AssertionError)):
        log.error("connection failed: %s", context.get("message"), exc_info=cause)
        return
    log.critical("broken: %s", context.get("message"), exc_info=cause)
    logging.shutdown()
    os._exit(70)


if __name__ == "__main__":
    main()
