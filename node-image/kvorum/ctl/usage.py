"""A command's help page, in etcdctl's form: columns are made by tabs, as Go's tabwriter aligns them."""

from kvorum.ctl.command import Command
from kvorum.ctl.flags import Flag

TAB = 8
API_VERSION = "3.5"


def page(command: Command, version: str, *, names_help: bool = True) -> str:
    """names_help: among the options; etcdctl leaves it out where it was asked for help on what is no command."""
    lines: list[str] = []
    local = [flag for flag in command.local_flags() if names_help or flag.name != "help"]
    name = " ".join(command.path[1:]) or command.name
    lines += ["NAME:", f"\t{name} - {command.short}", ""]
    lines += ["USAGE:", f"\t{use_line(command)}", ""]
    if command.parent is None:
        lines += ["VERSION:", f"\t{version}", ""]
    if command.commands:
        lines += ["API VERSION:", f"\t{API_VERSION}", "", ""]
        lines += ["COMMANDS:"]
        lines += [f"\t{' '.join(one.path[len(command.path) :])}\t{one.short}" for one in leaves(command)]
        lines += [""]
    if command.long:
        lines += ["DESCRIPTION:", *(f"\t{line}" for line in command.long.strip("\n\t ").split("\n")), ""]
    lines += ["OPTIONS:", *map(flag_line, sorted_flags(local)), ""]
    inherited = sorted_flags(command.inherited_flags())
    if inherited:
        lines += ["GLOBAL OPTIONS:", *map(flag_line, inherited), ""]
    return aligned(lines)


def leaves(command: Command) -> list[Command]:
    """The commands below that do something, in the order of their names."""
    found: list[Command] = []
    for one in sorted(command.commands, key=lambda below: below.name):
        found += [one] if one.run is not None else []
        found += leaves(one)
    return found


def use_line(command: Command) -> str:
    line = " ".join((*command.path[:-1], command.use))
    return line if "[flags]" in line else f"{line} [flags]"


def sorted_flags(flags: list[Flag]) -> list[Flag]:
    return sorted(flags, key=lambda flag: flag.name)


def flag_line(flag: Flag) -> str:
    front = f"  -{flag.letter}, --{flag.name}" if flag.letter else f"      --{flag.name}"
    value = flag.kind.show(flag.default)
    return f"{front}[={value}]\t{flag.usage}" if flag.kind.bare else f"{front}={value}\t{flag.usage}"


def aligned(lines: list[str]) -> str:
    """A column of cells that end with a tab, over lines in a row, is as wide as its widest cell and one more."""
    rows = [line.split("\t") for line in lines]
    out: list[str] = []
    for index, cells in enumerate(rows):
        text = ""
        for column, cell in enumerate(cells[:-1]):
            width = -(-(_widest(rows, index, column) + 1) // TAB) * TAB
            text += cell + "\t" * -(-(width - len(cell)) // TAB)
        out.append(text + cells[-1])
    return "\n".join(out) + "\n"


def _widest(rows: list[list[str]], index: int, column: int) -> int:
    first = last = index
    while first > 0 and len(rows[first - 1]) - 1 > column:
        first -= 1
    while last + 1 < len(rows) and len(rows[last + 1]) - 1 > column:
        last += 1
    return max(len(cells[column]) for cells in rows[first : last + 1])
