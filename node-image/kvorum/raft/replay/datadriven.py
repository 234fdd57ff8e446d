"""The format of data-driven test files: commands, each with what it must print (cockroachdb/datadriven, as Go has it).

    # a comment
    command argument key=value key=(value, value) \\
      more arguments
    input, any number of lines
    ----
    the output, up to a blank line; with blank lines in it, between two double ---- lines

Knows no command. An output of nothing is a file's `----` with nothing below.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

SEPARATOR = "----"


class BadFile(ValueError):
    """The text is not in this format, or a command lacks something. The message names the line."""


@dataclass(frozen=True, slots=True)
class Argument:
    """`key`, without values; `key=value` and `key=(value, value)` with one or more, of which each may be empty."""

    key: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One command of a file.

    input, expected: lines joined by newlines, without one at the end.
    line:            of the command, counted from 1.
    """

    command: str
    args: tuple[Argument, ...]
    input: str
    expected: str
    line: int

    @property
    def words(self) -> list[str]:
        """The arguments without values, in order."""
        return [argument.key for argument in self.args if not argument.values]

    def word(self, position: int) -> str:
        """One of these. Raises BadFile if there are not so many."""
        if position >= len(self.words):
            raise BadFile(f"line {self.line}: {self.command} needs {position + 1} arguments without a value")
        return self.words[position]

    def value(self, key: str) -> str:
        """The one value of an argument. Raises BadFile if it has none, or several."""
        found = self.values(key)
        if found is None or len(found) != 1:
            raise BadFile(f"line {self.line}: {self.command} needs {key}=, with one value")
        return found[0]

    def values(self, key: str) -> tuple[str, ...] | None:
        """What `key` is given, over all its mentions; None if it is not mentioned with a value."""
        found = [argument.values for argument in self.args if argument.key == key and argument.values]
        return tuple(chain.from_iterable(found)) if found else None


def parse(text: str) -> list[Case]:
    """The commands of a file. Raises BadFile."""
    lines = enumerate(text.splitlines(), 1)
    cases: list[Case] = []
    for number, line in lines:
        directive = line.strip()
        if not directive or directive.startswith("#"):
            continue
        while directive.endswith("\\"):
            directive = f"{directive[:-1]} {next(lines, (0, ''))[1].strip()}"
        command, _, rest = directive.partition(" ")
        given = _until_separator(lines)
        if given is None:
            raise BadFile(f"line {number}: no ---- after {command!r}")
        cases.append(Case(command, _arguments(rest, number), "\n".join(given).strip(), _expected(lines), number))
    return cases


def _until_separator(lines: Iterator[tuple[int, str]]) -> list[str] | None:
    given: list[str] = []
    for _, line in lines:
        if line == SEPARATOR:
            return given
        given.append(line)
    return None


def _expected(lines: Iterator[tuple[int, str]]) -> str:
    found: list[str] = []
    for number, line in lines:
        if line == SEPARATOR and not found:
            return "\n".join(_between_doubles(lines, number))
        if not line.strip():
            break
        found.append(line)
    return "\n".join(found)


def _between_doubles(lines: Iterator[tuple[int, str]], opened: int) -> Sequence[str]:
    found: list[str] = []
    for _, line in lines:
        if line == SEPARATOR and found and found[-1] == SEPARATOR:
            number, after = next(lines, (0, ""))
            if after:
                raise BadFile(f"line {number}: a blank line must follow the double ---- that closes line {opened}'s")
            return found[:-1]
        found.append(line)
    raise BadFile(f"line {opened}: no double ---- closes this output")


def _arguments(text: str, number: int) -> tuple[Argument, ...]:
    arguments: list[Argument] = []
    text = text.strip()
    while text:
        end = next((position for position, character in enumerate(text) if character in " ="), len(text))
        if end == 0:
            raise BadFile(f"line {number}: an argument without a name: {text!r}")
        key, text = text[:end], text[end:]
        values: tuple[str, ...] = ()
        if text.startswith("=("):
            values, text = _list(text[2:], number)
        elif text.startswith("="):
            value, _, text = text[1:].partition(" ")
            values = (value,)
        arguments.append(Argument(key, values))
        text = text.strip()
    return tuple(arguments)


def _list(text: str, number: int) -> tuple[tuple[str, ...], str]:
    """The values up to the parenthesis that closes the list, and what follows it. Values may hold parentheses."""
    values: list[str] = []
    depth = start = 0
    for position, character in enumerate(text):
        if character == "(":
            depth += 1
        elif character == ")" and depth > 0:
            depth -= 1
        elif depth == 0 and character in ",)":
            values.append(text[start:position].strip())
            start = position + 1
            if character == ")":
                return tuple(values), text[start:]
    raise BadFile(f"line {number}: a list without its closing parenthesis: {text!r}")
