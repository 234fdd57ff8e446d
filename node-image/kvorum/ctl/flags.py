"""Flags as etcdctl's users write them: --name value, --name=value, -w json, -wjson, -w=json, `--`, and bare booleans.

The errors are those of Go's pflag, word for word. Knows no command.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kvorum.ctl import go_text
from kvorum.ctl.go_text import GoError, quoted

Value = bool | int | str | list[str]


class FlagError(Exception):
    """Arguments that cannot be read. str() is what the user is told."""


@dataclass(frozen=True, slots=True)
class Kind:
    """parse: text to value, raises GoError. show: the default as help prints it. bare: the value of a flag alone."""

    name: str
    parse: Callable[[str], Value]
    show: Callable[[Value], str]
    bare: str = ""


BOOL = Kind("bool", go_text.parse_bool, lambda value: go_text.boolean(bool(value)), bare="true")
INT = Kind("int", lambda text: go_text.parse_int(text, 0), str)
UINT = Kind("uint64", lambda text: go_text.parse_uint(text, 0), str)
STRING = Kind("string", lambda text: text, lambda value: quoted(str(value)))
DURATION = Kind("duration", go_text.parse_duration_ns, lambda value: go_text.duration(int(str(value))))
STRINGS = Kind(
    "stringSlice",
    go_text.parse_csv_line,
    lambda value: f"[{','.join(value)}]" if isinstance(value, list) else "[]",
)


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. default: its value while it is not given; letter: its short form, or empty."""

    name: str
    kind: Kind
    default: Value
    usage: str
    letter: str = ""


class FlagSet:
    """The flags of one command line, with their values. changed: the names of those that were given."""

    def __init__(self, flags: Iterable[Flag]) -> None:
        self.flags = {flag.name: flag for flag in flags}
        self.letters = {flag.letter: flag for flag in self.flags.values() if flag.letter}
        self.values: dict[str, Value] = {flag.name: flag.default for flag in self.flags.values()}
        self.changed: set[str] = set()

    def set(self, name: str, text: str) -> None:
        """Raises FlagError."""
        flag = self.flags[name]
        try:
            value = flag.kind.parse(text)
        except GoError as error:
            known_as = f"-{flag.letter}, --{name}" if flag.letter else f"--{name}"
            raise FlagError(f"invalid argument {quoted(text)} for {quoted(known_as)} flag: {error}") from None
        before = self.values[name]
        if isinstance(value, list) and isinstance(before, list) and name in self.changed:
            value = before + value
        self.values[name] = value
        self.changed.add(name)

    def parse(self, arguments: list[str]) -> list[str]:
        """Takes the flags out of arguments; what is left. Raises FlagError."""
        rest = list(arguments)
        left: list[str] = []
        while rest:
            word = rest.pop(0)
            if word == "--":
                return left + rest
            if word.startswith("--"):
                self._long(word, rest)
            elif word.startswith("-") and word != "-":
                self._letters(word[1:], rest)
            else:
                left.append(word)
        return left

    def _long(self, word: str, rest: list[str]) -> None:
        name, equals, value = word[2:].partition("=")
        if not name or name[0] == "-":
            raise FlagError(f"bad flag syntax: {word}")
        flag = self.flags.get(name)
        if flag is None:
            raise FlagError(f"unknown flag: --{name}")
        if not equals:
            if flag.kind.bare:
                value = flag.kind.bare
            elif rest:
                value = rest.pop(0)
            else:
                raise FlagError(f"flag needs an argument: {word}")
        self.set(name, value)

    def _letters(self, letters: str, rest: list[str]) -> None:
        while letters:
            letter, following = letters[0], letters[1:]
            flag = self.letters.get(letter)
            if flag is None:
                raise FlagError(f"unknown shorthand flag: {rune(letter)} in -{letters}")
            if len(following) > 1 and following[0] == "=":
                value, following = following[1:], ""
            elif flag.kind.bare:
                value = flag.kind.bare
            elif following:
                value, following = following, ""
            elif rest:
                value = rest.pop(0)
            else:
                raise FlagError(f"flag needs an argument: {rune(letter)} in -{letters}")
            self.set(flag.name, value)
            letters = following

    # Values by type: a flag of another is a mistake of the command's.

    def string(self, name: str) -> str:
        value = self.values[name]
        assert isinstance(value, str), name
        return value

    def boolean(self, name: str) -> bool:
        value = self.values[name]
        assert isinstance(value, bool), name
        return value

    def integer(self, name: str) -> int:
        value = self.values[name]
        assert isinstance(value, int), name
        return value

    def strings(self, name: str) -> list[str]:
        value = self.values[name]
        assert isinstance(value, list), name
        return value

    def seconds(self, name: str) -> float:
        return self.integer(name) / 1e9


def rune(letter: str) -> str:
    """Go's %q of a character."""
    return "'" + (letter if letter == '"' else "\\'" if letter == "'" else quoted(letter)[1:-1]) + "'"


def has_no_value(word: str, flags: FlagSet) -> bool:
    """Whether a word like --prefix or -i stands alone, so that what follows is no value of it."""
    flag = flags.flags.get(word[2:]) if word.startswith("--") else flags.letters.get(word[1:])
    return flag is not None and bool(flag.kind.bare)
