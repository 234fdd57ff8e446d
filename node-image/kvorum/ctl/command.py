"""The tree of commands, and which of them a command line means: by name, or by a beginning that only one has (cobra).

Knows flags and arguments, and nothing of what a command does.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from kvorum.ctl.flags import BOOL, Flag, FlagSet, has_no_value
from kvorum.ctl.go_text import quoted

if TYPE_CHECKING:
    from kvorum.ctl.call import Call

SUGGESTION_EDITS_MAX = 2

Run = Callable[["Call", list[str]], Awaitable[None]]


class UnknownCommand(Exception):
    """str() is what the user is told, suggestions included."""


class Command:
    """use: name and arguments, as help shows them. run: None for what only has commands below it.

    flags are its own; persistent ones hold for the commands below it, too.
    """

    def __init__(
        self,
        use: str,
        short: str,
        run: Run | None = None,
        *,
        long: str = "",
        flags: Iterable[Flag] = (),
        persistent: Iterable[Flag] = (),
        commands: "Iterable[Command]" = (),
    ) -> None:
        self.use = use
        self.name = use.partition(" ")[0]
        self.short = short
        self.long = long
        self.run = run
        self.flags = (*flags, Flag("help", BOOL, False, f"help for {self.name}", "h"))
        self.persistent = tuple(persistent)
        self.parent: Command | None = None
        self.commands = tuple(commands)
        for command in self.commands:
            command.parent = self

    @property
    def path(self) -> tuple[str, ...]:
        return (*self.parent.path, self.name) if self.parent else (self.name,)

    @property
    def root(self) -> "Command":
        return self.parent.root if self.parent else self

    def local_flags(self) -> list[Flag]:
        return [*self.flags, *self.persistent]

    def inherited_flags(self) -> list[Flag]:
        return [flag for above in self._above() for flag in above.persistent]

    def _above(self) -> "Iterator[Command]":
        if self.parent:
            yield self.parent
            yield from self.parent._above()

    def flag_set(self) -> FlagSet:
        return FlagSet((*self.local_flags(), *self.inherited_flags()))

    def find(self, arguments: list[str]) -> "tuple[Command, list[str]]":
        """The command that arguments name, and the arguments without the names. Raises UnknownCommand."""
        words = without_flags(arguments, self.flag_set())
        if words:
            below = self._next(words[0])
            if below is not None:
                return below.find(without_first(arguments, words[0], self.flag_set()))
            if self.commands and self.parent is None:
                raise UnknownCommand(
                    f"unknown command {quoted(words[0])} for {quoted(self.name)}{self._hint(words[0])}"
                )
        return self, arguments

    def _next(self, word: str) -> "Command | None":
        for command in self.commands:
            if command.name == word:
                return command
        begun = [command for command in self.commands if command.name.startswith(word)]
        return begun[0] if len(begun) == 1 else None

    def _hint(self, word: str) -> str:
        near = [
            command.name
            for command in self.commands
            if edits(word.lower(), command.name.lower()) <= SUGGESTION_EDITS_MAX
            or command.name.lower().startswith(word.lower())
        ]
        return "\n\nDid you mean this?\n" + "".join(f"\t{name}\n" for name in near) if near else ""


def without_flags(arguments: list[str], flags: FlagSet) -> list[str]:
    """The words that are neither flags nor values of flags, up to `--`."""
    words: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if takes_next(word, flags):
            if len(rest) <= 1:
                break
            rest.pop(0)
        elif word and not word.startswith("-"):
            words.append(word)
    return words


def without_first(arguments: list[str], name: str, flags: FlagSet) -> list[str]:
    """Arguments without the first word that is name and no value of a flag."""
    index = 0
    while index < len(arguments):
        word = arguments[index]
        if word == "--":
            break
        if takes_next(word, flags):
            index += 2
            continue
        if word == name:
            return arguments[:index] + arguments[index + 1 :]
        index += 1
    return arguments


def takes_next(word: str, flags: FlagSet) -> bool:
    is_flag = word.startswith("--") or (len(word) == 2 and word.startswith("-"))
    return is_flag and "=" not in word and not has_no_value(word, flags)


def edits(one: str, other: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(other) + 1))
    for index, character in enumerate(one, start=1):
        before, row[0] = row[0], index
        for place, against in enumerate(other, start=1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (character != against))
    return row[-1]
