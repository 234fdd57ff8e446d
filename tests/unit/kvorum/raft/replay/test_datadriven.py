"""The format of data-driven files, and what is said of a file that is not in it."""

import pytest
from kvorum.raft.replay.datadriven import Argument, BadFile, Case, parse


def only(text: str) -> Case:
    (case,) = parse(text)
    return case


def test_a_case_is_a_command_with_what_it_must_print() -> None:
    case = only("# why\n\npropose 1 foo\n----\nok\n")
    assert case == Case("propose", (Argument("1"), Argument("foo")), "", "ok", 3)


def test_input_stands_between_the_command_and_the_separator() -> None:
    assert only("simple\nv1 v2\nl3\n----\n").input == "v1 v2\nl3"


def test_output_ends_with_a_blank_line_and_may_be_nothing() -> None:
    first, second = parse("a\n----\none\ntwo\n\nb\n----\n")
    assert (first.expected, second.expected) == ("one\ntwo", "")


def test_output_with_blank_lines_stands_between_double_separators() -> None:
    first, second = parse("a\n----\n----\none\n\ntwo\n----\n----\n\nb\n----\nok\n")
    assert first.expected == "one\n\ntwo"
    assert (second.command, second.expected) == ("b", "ok")


def test_leading_blanks_of_output_count() -> None:
    assert only("a\n----\n  x\n").expected == "  x"


def test_a_command_may_go_on_in_the_next_line() -> None:
    assert only("a b \\\n   c\n----\n").words == ["b", "c"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("key", ()),
        ("key=", ("",)),
        ("key=a", ("a",)),
        ("key=(a)", ("a",)),
        ("key=(a, b,c)", ("a", "b", "c")),
        ("key=(_,,(a b))", ("_", "", "(a b)")),
    ],
)
def test_arguments_have_no_one_or_several_values(text: str, values: tuple[str, ...]) -> None:
    case = only(f"a {text} next\n----\n")
    assert case.args == (Argument("key", values), Argument("next"))
    assert case.values("key") == (values or None)


def test_values_of_an_argument_given_twice_are_taken_together() -> None:
    assert only("a drop=1 drop=(2,3)\n----\n").values("drop") == ("1", "2", "3")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a\nb\n", "line 1: no ---- after 'a'"),
        ("a\n----\n\nb =1\n----\n", "line 4: an argument without a name"),
        ("a b=(1,2\n----\n", "line 1: a list without its closing parenthesis"),
        ("a\n----\n----\nx\n", "line 3: no double ---- closes this output"),
        ("a\n----\n----\nx\n----\n----\ny\n", "line 7: a blank line must follow"),
    ],
)
def test_what_is_not_in_the_format_is_named_by_its_line(text: str, why: str) -> None:
    with pytest.raises(BadFile, match=why):
        parse(text)


def test_a_command_that_lacks_something_is_named_by_its_line() -> None:
    case = only("\n\ntransfer-leadership from=(1,2)\n----\n")
    with pytest.raises(BadFile, match="line 3: transfer-leadership needs 1 arguments"):
        case.word(0)
    for key in ("to", "from"):
        with pytest.raises(BadFile, match=f"line 3: transfer-leadership needs {key}="):
            case.value(key)
