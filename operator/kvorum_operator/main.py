"""The command line: `kvorum-operator run` on Kubernetes, `kvorum-operator local` and its verbs on this machine."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from kvorum_operator import settings
from kvorum_operator.api.quantities import Duration

FILE_DEFAULT = Path("cluster.yaml")
BASE_PORT_MIN, BASE_PORT_MAX = 1024, 65_435  # nine members take ninety ports
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    # gRPC reads it when it is imported, which is below. Its own lines, as about forks, are neither JSON nor for users.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if options.command == "run":
        return run_on_kubernetes(options)
    if problem := contradiction(options):
        return refuse(problem)
    if not sys.platform.startswith("linux"):
        return refuse("local runs on Linux only; on other systems run it in a Linux container or virtual machine.")
    from kvorum.client import ClientError  # noqa: PLC0415 - it imports gRPC

    # Here, because elsewhere its modules cannot even be imported.
    from kvorum_operator.platforms.local.run import Refused  # noqa: PLC0415 - see above

    try:
        return asyncio.run(perform(options))
    except Refused as error:
        return refuse(str(error))
    except ClientError as error:
        return refuse(f"the members answered: {error.text}")
    except BrokenPipeError:  # before other troubles of the system: it is one of them
        # Whoever read along has left: as with SIGHUP, the members keep running. Python would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return refuse(f"{error.filename or options.state_dir or options.file}: {error.strerror or error}")
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED  # of a verb; while a cluster is run, the loop itself takes signals


def run_on_kubernetes(options: argparse.Namespace) -> int:
    try:
        chosen = settings.from_process(options)
    except settings.WrongSettings as error:
        return refuse(str(error))
    # Here, because whoever runs a cluster locally should not wait for the clients of Kubernetes to be imported.
    from kvorum_operator.controller.run import run  # noqa: PLC0415 - see above

    return run(chosen)


def contradiction(options: argparse.Namespace) -> str | None:
    """What is said that would have no effect."""
    given = {"--base-port": options.base_port, "--once": options.once, "--wait": options.wait}
    given["--timeout"] = options.timeout
    said = [option for option, value in given.items() if value is not None and value is not False]
    if said and options.verb is not None:
        return f"{', '.join(said)} is for running a cluster and says nothing to {options.verb}: leave it out"
    if "--once" in said and "--wait" in said:
        return "--once leaves when no step is left to take, --wait ready when the cluster is ready: choose one of them"
    if "--timeout" in said and "--wait" not in said:
        return "--timeout is how long --wait waits: add --wait ready, or leave it out"
    return None


def refuse(text: str) -> int:
    print(f"kvorum-operator: {text}", file=sys.stderr)  # noqa: T201 - this is the program's output
    return EXIT_REFUSED


async def perform(options: argparse.Namespace) -> int:
    """The exit status. Raises Refused, and ClientError from the members."""
    from kvorum_operator.platforms.local import run, verbs  # noqa: PLC0415 - see main

    if options.verb is None:
        return await run.run(
            run.Options(
                file=options.file,
                state_dir=options.state_dir,
                base_port=options.base_port,
                once=options.once,
                wait_ready=options.wait == "ready",
                timeout_s=options.timeout if options.timeout is not None else run.WAIT_TIMEOUT_S,
            )
        )
    if options.verb == "list":
        folder = options.state_dir if options.state_dir is not None else options.file.absolute().parent / ".kvorum"
        verbs.list_clusters(folder)
        return 0
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
            return 0 if await verbs.get(state, identity, options.key, prefix=options.prefix) else 1
        case "del":
            await verbs.delete_key(state, identity, options.key, prefix=options.prefix)
        case "members":
            await verbs.members(state, identity)
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="kvorum-operator", allow_abbrev=False, description="Runs etcd-compatible key-value clusters."
    )
    top.add_argument("--version", action="version", version=f"kvorum-operator {version('kvorum-operator')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    running = commands.add_parser("run", allow_abbrev=False, help="look after the KVClusters of a Kubernetes cluster")
    settings.add_flags(running)
    local = commands.add_parser("local", allow_abbrev=False, help="run the cluster that a file describes here")
    local.add_argument("--base-port", type=base_port, help="first member's client port, kept for good (2379)")
    local.add_argument("--once", action="store_true", help="take the steps that can be taken now, then leave")
    local.add_argument("--wait", choices=("ready",), help="leave once the cluster is ready; its members keep running")
    local.add_argument("--timeout", type=duration_s, help="how long --wait waits (120s)")
    add_whereabouts(local, FILE_DEFAULT, None)
    verbs = local.add_subparsers(dest="verb", metavar="VERB", title="verbs for a cluster that is there")

    def verb(name: str, help_text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, allow_abbrev=False, help=help_text)
        add_whereabouts(added, argparse.SUPPRESS, argparse.SUPPRESS)  # what stands before the verb counts as well
        return added

    verb("stop", "stop its operator and its members; the data is kept")
    deleting = verb("delete", "stop it and delete all its data")
    deleting.add_argument("--yes", action="store_true", help="do not ask")
    verb("list", "the clusters beside the file, or below the directory that --state-dir names")
    reading = verb("logs", "the ends of its members' logs")
    reading.add_argument("member", nargs="?", help="one member's only")
    reading.add_argument("-n", "--lines", type=int, default=20, help="how many lines of each, by time (20)")
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
