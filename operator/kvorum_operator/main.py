"""The command line of the operator: `kvorum-operator local`, and what there is to do with a local cluster."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from kvorum.client import ClientError

from kvorum_operator.api.quantities import Duration
from kvorum_operator.platforms.local import run as local
from kvorum_operator.platforms.local import verbs
from kvorum_operator.platforms.local.state_directory import BASE_PORT_MAX

FILE_DEFAULT = Path("cluster.yaml")
BASE_PORT_MIN = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if not sys.platform.startswith("linux"):
        return refuse("kvorum-operator local runs on Linux only; elsewhere run it in a Linux container.")
    try:
        return asyncio.run(local.run(local_options(options)) if options.verb is None else perform(options))
    except local.Refused as error:
        return refuse(str(error))
    except ClientError as error:
        return refuse(f"the members answered: {error.text}")
    except BrokenPipeError:
        # Whoever read along has left: as with SIGHUP, the members keep running. Python would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return local.EXIT_OK
    except KeyboardInterrupt:
        return 130  # of a verb; while a cluster is run, the loop itself takes signals


async def perform(options: argparse.Namespace) -> int:
    """One verb. Raises Refused, and ClientError from the members."""
    if options.verb == "list":
        folder = options.state_dir if options.state_dir is not None else options.file.absolute().parent / ".kvorum"
        verbs.list_clusters(folder)
        return local.EXIT_OK
    state, identity = verbs.require_state(options.file, options.state_dir)
    match options.verb:
        case "stop":
            await verbs.stop(state, identity)
        case "delete":
            await verbs.delete(state, identity, confirmed=options.yes)
        case "logs":
            await verbs.logs(state, identity, options.member, options.lines, follow=options.follow)
        case "put":
            await verbs.put(state, identity, options.key, options.value)
        case "get":
            found_count = await verbs.get(state, identity, options.key, prefix=options.prefix)
            return local.EXIT_OK if found_count else local.EXIT_FAILED
        case "del":
            await verbs.delete_key(state, identity, options.key, prefix=options.prefix)
        case "members":
            await verbs.members(state, identity)
    return local.EXIT_OK


def refuse(text: str) -> int:
    print(f"kvorum-operator: {text}", file=sys.stderr)  # noqa: T201 - this is the program's output
    return local.EXIT_REFUSED


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="kvorum-operator", allow_abbrev=False, description="Runs etcd-compatible key-value clusters."
    )
    top.add_argument("--version", action="version", version=f"kvorum-operator {version('kvorum-operator')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("local", help="run the cluster that a file describes on this machine")
    one.add_argument("--base-port", type=base_port, help="first member's client port, kept for good (2379)")
    one.add_argument("--once", action="store_true", help="take the steps that can be taken now, then leave")
    one.add_argument("--wait", choices=("ready",), help="leave once the cluster is ready; its members keep running")
    one.add_argument("--timeout", type=duration_s, default=120.0, help="how long --wait waits (120s)")
    add_whereabouts(one, FILE_DEFAULT, None)
    what = one.add_subparsers(dest="verb", metavar="VERB", title="verbs for a cluster that is there")

    def verb(name: str, help_text: str) -> argparse.ArgumentParser:
        added = what.add_parser(name, help=help_text)
        add_whereabouts(added, argparse.SUPPRESS, argparse.SUPPRESS)  # what stands before the verb counts as well
        return added

    verb("stop", "stop its operator and its members; the data is kept")
    deleting = verb("delete", "stop it and delete all its data")
    deleting.add_argument("--yes", action="store_true", help="do not ask")
    verb("list", "the clusters beside the file, or below the directory that --state-dir names")
    reading = verb("logs", "the ends of its members' logs")
    reading.add_argument("member", nargs="?", help="one member's only")
    reading.add_argument("-n", "--lines", type=int, default=20, help="how many lines of each (20)")
    reading.add_argument("--follow", action="store_true", help="go on with what is added")
    putting = verb("put", "store a key")
    putting.add_argument("key")
    putting.add_argument("value")
    for name, help_text in (("get", "show a key and its value"), ("del", "delete a key")):
        keyed = verb(name, help_text)
        keyed.add_argument("key")
        keyed.add_argument("--prefix", action="store_true", help="all keys that begin so")
    verb("members", "show the member list")
    return top


def add_whereabouts(one: argparse.ArgumentParser, file: Path | str, state_dir: str | None) -> None:
    one.add_argument("-f", "--file", type=Path, default=file, help="the KVCluster in YAML (cluster.yaml)")
    one.add_argument("--state-dir", type=Path, default=state_dir, help="its directory (.kvorum/NAME beside the file)")


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
