"""Which command a line means, what its flags are, and how help is laid out. Beside a real etcdctl: tests/compat."""

import asyncio
from io import BytesIO

import pytest
from kvorum.ctl.call import World
from kvorum.ctl.command import Command, UnknownCommand, edits
from kvorum.ctl.flags import BOOL, INT, STRING, STRINGS, Flag, FlagError, FlagSet
from kvorum.ctl.formats.table import framed
from kvorum.ctl.main import run, tree
from kvorum.ctl.usage import aligned, page

FLAGS = (
    Flag("prefix", BOOL, False, ""),
    Flag("limit", INT, 0, ""),
    Flag("write-out", STRING, "simple", "", "w"),
    Flag("interactive", BOOL, False, "", "i"),
    Flag("endpoints", STRINGS, ["a"], ""),
)


def parsed(*words: str) -> tuple[list[str], FlagSet]:
    flags = FlagSet(FLAGS)
    return flags.parse(list(words)), flags


@pytest.mark.parametrize(
    "words", [("-w", "json"), ("-wjson",), ("-w=json",), ("--write-out", "json"), ("--write-out=json",), ("-iwjson",)]
)
def test_flag_is_read_in_each_of_its_forms(words: tuple[str, ...]) -> None:
    left, flags = parsed("a", *words, "b")
    assert (left, flags.string("write-out")) == (["a", "b"], "json")


def test_bare_boolean_takes_no_word_and_everything_behind_two_dashes_is_an_argument() -> None:
    left, flags = parsed("--prefix", "true", "--", "--limit", "-w")
    assert (left, flags.boolean("prefix"), flags.integer("limit")) == (["true", "--limit", "-w"], True, 0)


def test_value_may_begin_with_a_dash_where_it_is_the_next_word() -> None:
    assert parsed("--limit", "-5")[1].integer("limit") == -5


def test_list_given_twice_is_longer_and_replaces_its_default() -> None:
    assert parsed("--endpoints", "b,c", "--endpoints=d")[1].strings("endpoints") == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--nosuch"], "unknown flag: --nosuch"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-ix"], "unknown shorthand flag: 'x' in -x"),
        (["--limit"], "flag needs an argument: --limit"),
        (["-w"], "flag needs an argument: 'w' in -w"),
        (["--=x"], "bad flag syntax: --=x"),
        (
            ["--prefix=maybe"],
            'invalid argument "maybe" for "--prefix" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
    ],
)
def test_flag_that_cannot_be_read_is_told_in_pflags_words(words: list[str], error: str) -> None:
    with pytest.raises(FlagError) as caught:
        parsed(*words)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["get", "a"], ("kvorumctl", "get")),
        (["--endpoints", "get", "put"], ("kvorumctl", "put")),
        (["-w", "json", "lease", "--hex", "grant", "5"], ("kvorumctl", "lease", "grant")),
        (["lea", "gr", "5"], ("kvorumctl", "lease", "grant")),
        (["lease", "nosuch"], ("kvorumctl", "lease")),
        (["--", "get"], ("kvorumctl",)),
    ],
)
def test_command_is_found_by_its_name_or_its_beginning_among_flags(words: list[str], path: tuple[str, ...]) -> None:
    assert tree().find(words)[0].path == path


def test_arguments_keep_their_order_and_the_name_is_taken_out_once() -> None:
    assert tree().find(["--endpoints", "get", "get", "get", "-w", "json"])[1] == [
        "--endpoints",
        "get",
        "get",
        "-w",
        "json",
    ]


def test_unknown_command_is_told_those_like_it() -> None:
    with pytest.raises(UnknownCommand) as caught:
        tree().find(["gte"])
    assert str(caught.value) == 'unknown command "gte" for "kvorumctl"\n\nDid you mean this?\n\tget\n'
    assert (edits("kitten", "sitting"), edits("", "ab"), edits("a", "a")) == (3, 2, 0)


def test_columns_are_as_wide_as_their_widest_cell_over_lines_in_a_row() -> None:
    assert aligned(["A:", "\tab\tx", "\tabcdefgh\ty", "", "\tq\tz"]) == ("A:\n\tab\t\tx\n\tabcdefgh\ty\n\n\tq\tz\n")


def test_every_command_has_a_page_that_names_its_flags() -> None:
    def walk(command: Command) -> None:
        text = page(command, "1.2.3")
        assert text.startswith("NAME:\n\t")
        assert all(f"--{flag.name}" in text for flag in (*command.local_flags(), *command.inherited_flags()))
        assert ("VERSION:\n\t1.2.3" in text) == (command.parent is None)
        for below in command.commands:
            walk(below)

    walk(tree())


def test_table_has_titles_in_the_middle_and_cells_to_the_right() -> None:
    assert framed(["id", "name"], [["1", "abcdefg"]]).decode() == (
        "┌────┬─────────┐\n│ ID │  NAME   │\n├────┼─────────┤\n│  1 │ abcdefg │\n└────┴─────────┘\n"
    )
    assert framed(["id"], []).decode() == "┌────┐\n│ ID │\n└────┘\n"


def said(*words: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    out, err = BytesIO(), BytesIO()
    world = World(words, environment or {}, BytesIO(), out, err)
    return asyncio.run(run(world)), out.getvalue().decode(), err.getvalue().decode()


def test_variable_beside_its_flag_is_fatal_and_its_value_is_not_shown() -> None:
    status, _, err = said("get", "a", "--user=x:y", environment={"ETCDCTL_USER": "root:hidden"})
    assert (status, '"level": "fatal"' in err, "ETCDCTL_USER" in err, "hidden" in err) == (1, True, True, False)


def test_debug_shows_settings_and_hides_who_logs_in() -> None:
    _, _, err = said("get", "a", "--debug", "-w", "bad", "--user=x:hidden", "--password=hidden2")
    assert "ETCDCTL_WRITE_OUT=bad\n" in err
    assert "ETCDCTL_PASSWORD=***\n" in err
    assert "hidden" not in err


def test_what_is_not_there_is_refused_by_name() -> None:
    assert said("get", "a", "--discovery-srv=example.org")[2].startswith("Error: --discovery-srv is not supported")
    assert "etcdutl snapshot restore" in said("snapshot", "restore", "x")[2]
    assert said("defrag", "--data-dir=x")[0] == 1
