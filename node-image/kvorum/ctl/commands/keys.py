"""get, put, del, compaction: commands on keys, and their requests, which transactions are made of, too."""

from kvorum.client import prefix_end
from kvorum.ctl import go_text
from kvorum.ctl.call import Call, raw, require_count
from kvorum.ctl.command import Command
from kvorum.ctl.exits import BAD_ARGS, BAD_FEATURE, ERROR, Exit
from kvorum.ctl.flags import BOOL, INT, STRING, Flag, FlagSet
from kvorum.ctl.go_text import GoError, quoted
from kvorum.etcdpb import rpc_pb2 as rpc

KV = "/etcdserverpb.KV/"
BOTH = "`--prefix` and `--from-key` cannot be set at the same time, choose one"
ONE_ONLY = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set"
NO_VALUE = "put command needs 1 argument and input from stdin or 2 arguments"
ORDERS = {"ASCEND": rpc.RangeRequest.ASCEND, "DESCEND": rpc.RangeRequest.DESCEND, "": rpc.RangeRequest.NONE}
TARGETS = {
    "CREATE": rpc.RangeRequest.CREATE,
    "KEY": rpc.RangeRequest.KEY,
    "MODIFY": rpc.RangeRequest.MOD,
    "VALUE": rpc.RangeRequest.VALUE,
    "VERSION": rpc.RangeRequest.VERSION,
    "": rpc.RangeRequest.KEY,
}

GET_FLAGS = (
    Flag("consistency", STRING, "l", "Linearizable(l) or Serializable(s)"),
    Flag("order", STRING, "", "Order of results; ASCEND or DESCEND (ASCEND by default)"),
    Flag("sort-by", STRING, "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"),
    Flag("limit", INT, 0, "Maximum number of results"),
    Flag("prefix", BOOL, False, "Get keys with matching prefix"),
    Flag("from-key", BOOL, False, "Get keys that are greater than or equal to the given key using byte compare"),
    Flag("rev", INT, 0, "Specify the kv revision"),
    Flag("keys-only", BOOL, False, "Get only the keys"),
    Flag("count-only", BOOL, False, "Get only the count"),
    Flag("print-value-only", BOOL, False, 'Only write values when using the "simple" output format'),
)
PUT_FLAGS = (
    Flag("lease", STRING, "0", "lease ID (in hexadecimal) to attach to the key"),
    Flag("prev-kv", BOOL, False, "return the previous key-value pair before modification"),
    Flag("ignore-value", BOOL, False, "updates the key using its current value"),
    Flag("ignore-lease", BOOL, False, "updates the key using its current lease"),
)
DEL_FLAGS = (
    Flag("prefix", BOOL, False, "delete keys with matching prefix"),
    Flag("prev-kv", BOOL, False, "return deleted key-value pairs"),
    Flag("from-key", BOOL, False, "delete keys that are greater than or equal to the given key using byte compare"),
    Flag("range", BOOL, False, "delete range of keys"),
)

PUT_LONG = """
Puts the given key into the store.

When <value> begins with '-', <value> is interpreted as a flag.
Insert '--' for workaround:

$ put <key> -- <value>
$ put -- <key> <value>

If <value> isn't given as a command line argument and '--ignore-value' is not specified,
this command tries to read the value from standard input.

If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,
this command tries to read the value from standard input.

For example,
$ cat file | put <key>
will store the content of the file to <key>.
"""


# Requests of arguments. All raise Exit.


def get_request(flags: FlagSet, arguments: list[str]) -> rpc.RangeRequest:
    if not arguments:
        raise Exit(BAD_ARGS, "get command needs one argument as key and an optional argument as range_end")
    if flags.boolean("prefix") and flags.boolean("from-key"):
        raise Exit(BAD_ARGS, BOTH)
    if flags.boolean("keys-only") and flags.boolean("count-only"):
        raise Exit(BAD_ARGS, "`--keys-only` and `--count-only` cannot be set at the same time, choose one")
    consistency = flags.string("consistency")
    if consistency not in ("l", "s"):
        raise Exit(BAD_FEATURE, f"unknown consistency flag {quoted(consistency)}")
    key, range_end = span(flags, arguments)
    order, target = flags.string("order"), flags.string("sort-by")
    if order.upper() not in ORDERS:
        raise Exit(BAD_FEATURE, f"bad sort order {order}")
    if target.upper() not in TARGETS:
        raise Exit(BAD_FEATURE, f"bad sort target {target}")
    sort_order, sort_target = ORDERS[order.upper()], TARGETS[target.upper()]
    if sort_target == rpc.RangeRequest.KEY and sort_order == rpc.RangeRequest.ASCEND:
        sort_order = rpc.RangeRequest.NONE  # keys come so anyway, and etcd's client does not ask for it
    return rpc.RangeRequest(
        key=key,
        range_end=range_end,
        limit=flags.integer("limit"),
        revision=max(0, flags.integer("rev")),
        sort_order=sort_order,
        sort_target=sort_target,
        serializable=consistency == "s",
        keys_only=flags.boolean("keys-only"),
        count_only=flags.boolean("count-only"),
    )


def put_request(flags: FlagSet, arguments: list[str], stdin: bytes | None) -> rpc.PutRequest:
    """stdin: what stands for a value that is not among the arguments; None where there is nothing to read."""
    if not arguments:
        raise Exit(BAD_ARGS, NO_VALUE)
    if flags.boolean("ignore-value") and len(arguments) > 1:
        raise Exit(BAD_ARGS, "put command needs only 1 argument when 'ignore-value' is set")
    value = b""
    if not flags.boolean("ignore-value"):
        if len(arguments) < 2 and not stdin:
            raise Exit(BAD_ARGS, NO_VALUE)
        value = raw(arguments[1]) if len(arguments) > 1 else stdin or b""
    try:
        lease = go_text.parse_int(flags.string("lease"), 16)
    except GoError as error:
        raise Exit(BAD_ARGS, f"bad lease ID ({error}), expecting ID in Hex") from None
    return rpc.PutRequest(
        key=raw(arguments[0]),
        value=value,
        lease=lease,
        prev_kv=flags.boolean("prev-kv"),
        ignore_value=flags.boolean("ignore-value"),
        ignore_lease=flags.boolean("ignore-lease"),
    )


def del_request(flags: FlagSet, arguments: list[str]) -> rpc.DeleteRangeRequest:
    if not 1 <= len(arguments) <= 2:
        raise Exit(BAD_ARGS, "del command needs one argument as key and an optional argument as range_end")
    if flags.boolean("prefix") and flags.boolean("from-key"):
        raise Exit(BAD_ARGS, BOTH)
    key, range_end = span(flags, arguments)
    return rpc.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=flags.boolean("prev-kv"))


def span(flags: FlagSet, arguments: list[str]) -> tuple[bytes, bytes]:
    """Key and range_end of get and del."""
    key = raw(arguments[0])
    prefix, from_key = flags.boolean("prefix"), flags.boolean("from-key")
    if len(arguments) > 1:
        if prefix or from_key:
            raise Exit(BAD_ARGS, ONE_ONLY)
        return key, raw(arguments[1])
    if (prefix or from_key) and not key:
        return b"\0", b"\0"
    return key, prefix_end(key) if prefix else b"\0" if from_key else b""


def warn_of_range(call: Call, flags: FlagSet, arguments: list[str]) -> None:
    if len(arguments) > 1 and not flags.boolean("range"):
        call.complain(
            "In etcd v3.6, the operation will be suspended for a few seconds to provide the user time to verify range."
        )


# Commands


async def get(call: Call, arguments: list[str]) -> None:
    request = get_request(call.flags, arguments)
    answer = await call.ask(None, lambda client: client.read(KV + "Range", request, rpc.RangeResponse))
    if request.count_only and call.flags.string("write-out") != "fields":
        raise Exit(BAD_ARGS, "--count-only is only for `--write-out=fields`")
    if call.flags.boolean("print-value-only"):
        if not call.is_simple:
            raise Exit(BAD_ARGS, "print-value-only is only for `--write-out=simple`")
        call.value_only = True
    call.show(answer)


async def put(call: Call, arguments: list[str]) -> None:
    is_missing = len(arguments) == 1 and not call.flags.boolean("ignore-value")
    request = put_request(call.flags, arguments, call.world.stdin.read() if is_missing else None)
    call.show(await call.ask(None, lambda client: client.write(KV + "Put", request, rpc.PutResponse)))


async def delete(call: Call, arguments: list[str]) -> None:
    request = del_request(call.flags, arguments)
    warn_of_range(call, call.flags, arguments)
    call.show(await call.ask(None, lambda client: client.write(KV + "DeleteRange", request, rpc.DeleteRangeResponse)))


async def compaction(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "compaction command needs 1 argument")
    try:
        revision = go_text.parse_int(arguments[0])
    except GoError as error:
        raise Exit(ERROR, str(error)) from None
    physical = call.flags.boolean("physical")
    await call.ask(None, lambda client: client.compact(revision, physical=physical))
    call.line(f"compacted revision {revision}")


def commands() -> list[Command]:
    return [
        Command("get [options] <key> [range_end]", "Gets the key or a range of keys", get, flags=GET_FLAGS),
        Command(
            "put [options] <key> <value> (<value> can also be given from stdin)",
            "Puts the given key into the store",
            put,
            long=PUT_LONG,
            flags=PUT_FLAGS,
        ),
        Command(
            "del [options] <key> [range_end]",
            "Removes the specified key or range of keys [key, range_end)",
            delete,
            flags=DEL_FLAGS,
        ),
        Command(
            "compaction [options] <revision>",
            "Compacts the event history in etcd",
            compaction,
            flags=[
                Flag("physical", BOOL, False, "'true' to wait for compaction to physically remove all old revisions")
            ],
        ),
    ]
