"""The command line of the operator: `kvorum-operator local`, and what there is to do with a local cluster."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from kvorum_operator.api.quantities import Duration
from kvorum_operator.platforms.local import run as local
from kvorum_operator.platforms.local.state_directory import BASE_PORT_MAX

FILE_DEFAULT = Path("cluster.yaml")
BASE_PORT_MIN = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if not sys.platform.startswith("linux"):
        return refuse("kvorum-operator local runs on Linux only; elsewhere run it in a Linux container.")
    try:
        return asyncio.run(local.run(local_options(options)))
    except local.Refused as error:
        return refuse(str(error))
    except BrokenPipeError:
        return local.EXIT_OK  # whoever read along has left: as with SIGHUP, the members keep running


def refuse(text: str) -> int:
    print(f"kvorum-operator: {text}", file=sys.stderr)  # noqa: T201 - this is the program's output
    return local.EXIT_REFUSED


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="kvorum-operator", description="Runs etcd-compatible key-value clusters.")
    top.add_argument("--version", action="version", version=f"kvorum-operator {version('kvorum-operator')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("local", help="run the cluster that a file describes on this machine")
    one.add_argument("-f", "--file", type=Path, default=FILE_DEFAULT, help="the KVCluster in YAML (cluster.yaml)")
    one.add_argument("--state-dir", type=Path, help="where the cluster lives (.kvorum/NAME beside the file)")
    one.add_argument("--base-port", type=base_port, help="first member's client port, kept for good (2379)")
    one.add_argument("--once", action="store_true", help="take the steps that can be taken now, then leave")
    one.add_argument("--wait", choices=("ready",), help="leave once the cluster is ready; its members keep running")
    one.add_argument("--timeout", type=duration_s, default=120.0, help="how long --wait waits (120s)")
    return top


def local_options(options: argparse.Namespace) -> local.Options:
    return local.Options(
        file=options.file,
        state_dir=options.state_dir,
        base_port=options.base_port,
        once=options.once,
        wait_ready=options.wait == "ready",
        timeout_s=options.timeout,
    )


def base_port(text: str) -> int:
    if not text.isdigit() or not BASE_PORT_MIN <= int(text) <= BASE_PORT_MAX:
        raise argparse.ArgumentTypeError(f"must be a port between {BASE_PORT_MIN} and {BASE_PORT_MAX}, not {text!r}")
    return int(text)


def duration_s(text: str) -> float:
    try:
        return Duration(text).seconds
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a duration with its unit like 30s or 2m, not {text!r}") from None


if __name__ == "__main__":
    sys.exit(main())
