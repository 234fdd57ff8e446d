"""txn: comparisons and operations from standard input, a line each, an empty line after each of the three lists."""

import re

from kvorum.ctl import go_text
from kvorum.ctl.call import Call, raw, require_count
from kvorum.ctl.command import Command
from kvorum.ctl.commands import keys
from kvorum.ctl.exits import INVALID_INPUT, Exit
from kvorum.ctl.flags import BOOL, Flag, FlagError, FlagSet
from kvorum.ctl.go_text import GoError, quoted
from kvorum.etcdpb import rpc_pb2 as rpc

WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[^\'"\s]\S*[^\'"\s]?', re.ASCII)
RESULTS = {"=": rpc.Compare.EQUAL, "!=": rpc.Compare.NOT_EQUAL, ">": rpc.Compare.GREATER, "<": rpc.Compare.LESS}
NUMBERS = {
    "ver": (rpc.Compare.VERSION, "version"),
    "version": (rpc.Compare.VERSION, "version"),
    "c": (rpc.Compare.CREATE, "create_revision"),
    "create": (rpc.Compare.CREATE, "create_revision"),
    "m": (rpc.Compare.MOD, "mod_revision"),
    "mod": (rpc.Compare.MOD, "mod_revision"),
}
OPERATIONS = {"put": keys.PUT_FLAGS, "get": keys.GET_FLAGS, "del": keys.DEL_FLAGS}


async def txn(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 0, "txn command does not accept argument")
    call.configure()
    interactive = call.flags.boolean("interactive")
    request = rpc.TxnRequest()
    for prompt, lines in (
        ("compares:", request.compare),
        ("success requests (get, put, del):", request.success),
        ("failure requests (get, put, del):", request.failure),
    ):
        if interactive:
            call.line(prompt)
        for line in read_list(call):
            if lines is request.compare:
                request.compare.append(parse_compare(line))
            else:
                lines.append(parse_operation(call, line))  # type: ignore[arg-type]  # two lists of one kind remain
    call.show(await call.ask(None, lambda client: client.write(keys.KV + "Txn", request, rpc.TxnResponse)))


def read_list(call: Call) -> list[str]:
    """The lines up to an empty one. Raises Exit at the end of the input."""
    lines: list[str] = []
    while True:
        line = call.world.stdin.readline().decode(errors="surrogateescape")
        if not line.endswith("\n"):
            raise Exit(INVALID_INPUT, "EOF")
        if not line.strip():
            return lines
        lines.append(line.strip())


def parse_compare(line: str) -> rpc.Compare:
    """`value("key") = "text"`. Raises Exit."""
    target, parenthesis, rest = line.partition("(")
    if not parenthesis:
        raise Exit(INVALID_INPUT, f"malformed comparison: {line}")
    key = operator = operand = ""
    try:
        key, end = go_text.unquoted(rest.lstrip())
        rest = rest.lstrip()[end:]
        if not rest.startswith(")"):
            raise GoError("input does not match format")
        found = re.match(r"\s*(\S+)\s*", rest[1:])
        if found is None:
            raise GoError("unexpected EOF")
        operator = found[1]
        operand, _ = go_text.unquoted(rest[1:][found.end() :])
    except GoError:
        told = f"malformed comparison: {line}; got {target}({quoted(key)}) {operator} {quoted(operand)}"
        raise Exit(INVALID_INPUT, told) from None
    if target in NUMBERS:
        kind, name = NUMBERS[target]
        try:
            number = go_text.parse_int(operand)
        except GoError:
            raise Exit(INVALID_INPUT, f"invalid txn compare request: {line}") from None
        return rpc.Compare(result=result_of(operator), target=kind, key=raw(key), **{name: number})  # type: ignore[arg-type]  # a field's name
    if target in ("val", "value"):
        return rpc.Compare(result=result_of(operator), target=rpc.Compare.VALUE, key=raw(key), value=raw(operand))
    if target == "lease":
        raise Exit(INVALID_INPUT, f"malformed comparison: {line} (leases cannot be compared with a text)")
    raise Exit(INVALID_INPUT, f"malformed comparison: {line} (unknown target {target})")


def result_of(operator: str) -> "rpc.Compare.CompareResult":
    if operator not in RESULTS:
        raise Exit(INVALID_INPUT, f"Unknown result op {operator}")
    return RESULTS[operator]


def parse_operation(call: Call, line: str) -> rpc.RequestOp:
    """`put key value`, with the command's flags. Raises Exit."""
    words = argify(line)
    if len(words) < 2:
        raise Exit(INVALID_INPUT, f"invalid txn compare request: {line}")
    names = [name for name in OPERATIONS if name.startswith(words[0])]
    if len(names) != 1:
        raise Exit(INVALID_INPUT, f"invalid txn request: {line}")
    flags = FlagSet(OPERATIONS[names[0]])
    try:
        arguments = flags.parse(words[1:])
    except FlagError:
        raise Exit(INVALID_INPUT, f"invalid txn request: {line}") from None
    if names[0] == "put":
        return rpc.RequestOp(request_put=keys.put_request(flags, arguments, None))
    if names[0] == "get":
        return rpc.RequestOp(request_range=keys.get_request(flags, arguments))
    keys.warn_of_range(call, flags, arguments)
    return rpc.RequestOp(request_delete_range=keys.del_request(flags, arguments))


def argify(line: str) -> list[str]:
    """The words of a line; quotes keep words together, escapes count between double ones. Raises Exit."""
    words: list[str] = []
    for word in WORD.findall(line):
        if word[0] == "'":
            words.append(word[1:-1])
        elif word[0] == '"':
            try:
                words.append(go_text.unquoted(word)[0])
            except GoError as error:
                raise Exit(INVALID_INPUT, str(error)) from None
        else:
            words.append(word)
    return words


def commands() -> list[Command]:
    return [
        Command(
            "txn [options]",
            "Txn processes all the requests in one transaction",
            txn,
            flags=[Flag("interactive", BOOL, False, "Input transaction in interactive mode", "i")],
        )
    ]
