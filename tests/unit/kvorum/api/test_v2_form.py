"""The parameters of a v2 request: where they are looked for, what counts, what is named when something is wrong."""

import pytest
from kvorum.api import v2_form
from kvorum.api.v2_form import FORM, KeyRequest
from kvorum.net.exchange import HttpRequest
from kvorum.state.v2_error import (
    INDEX_NO_NUMBER,
    INVALID_FIELD,
    INVALID_FORM,
    PREV_VALUE_REQUIRED,
    REFRESH_TTL_REQUIRED,
    REFRESH_VALUE,
    TTL_NO_NUMBER,
    V2Error,
)


def parse(method: str = "PUT", query: str = "", body: bytes = b"", content_type: str = FORM) -> KeyRequest:
    headers = {"content-type": content_type} if content_type else {}
    request = HttpRequest(
        method, "/v2/keys/a", "/v2/keys/a", query, headers=headers, minor=1, keep_alive=True, body=body
    )
    return v2_form.parse(request)


def test_nothing_given_asks_for_nothing() -> None:
    assert parse() == KeyRequest(
        value="",
        is_dir=False,
        ttl_s=None,
        prev_value="",
        prev_index=0,
        prev_exist=None,
        refresh=None,
        wait=False,
        wait_index=0,
        stream=False,
        recursive=False,
        is_sorted=False,
        quorum=False,
        no_value_on_success=False,
    )


def test_the_form_counts_before_the_query_and_the_first_before_the_second() -> None:
    assert parse(query="value=query&ttl=5", body=b"value=form&value=second").value == "form"
    assert parse(query="value=query&ttl=5", body=b"value=form").ttl_s == 5
    assert parse(query="value=query", body=b"other=1").value == "query"


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD"])
def test_without_a_form_to_come_only_the_query_counts(method: str) -> None:
    assert parse(method, query="recursive=true", body=b"recursive=false&dir=true").is_dir is False


@pytest.mark.parametrize("content_type", ["", "text/plain", "multipart/form-data; boundary=x"])
def test_a_body_of_another_kind_is_passed_over(content_type: str) -> None:
    assert parse(body=b"value=x", content_type=content_type).value == ""


def test_values_are_any_bytes() -> None:
    assert parse(body=b"value=a+b%2B%ff%C3%A9%3D=&x").value == "a b+\udcff\u00e9=="


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_truth_is_told_in_gos_ways(text: str) -> None:
    assert parse(query=f"dir={text}").is_dir


@pytest.mark.parametrize(
    ("query", "code", "cause"),
    [
        ("prevIndex=x&waitIndex=y", INDEX_NO_NUMBER, 'invalid value for "prevIndex"'),
        ("waitIndex=-1", INDEX_NO_NUMBER, 'invalid value for "waitIndex"'),
        ("prevIndex=18446744073709551616", INDEX_NO_NUMBER, 'invalid value for "prevIndex"'),
        ("prevIndex=", INDEX_NO_NUMBER, 'invalid value for "prevIndex"'),
        ("prevIndex=%D9%A1", INDEX_NO_NUMBER, 'invalid value for "prevIndex"'),
        ("dir=yes&sorted=yes", INVALID_FIELD, 'invalid value for "sorted"'),
        ("wait=true", INVALID_FIELD, '"wait" can only be used with GET requests'),
        ("prevValue=", PREV_VALUE_REQUIRED, '"prevValue" cannot be empty'),
        ("ttl=1.5", TTL_NO_NUMBER, 'invalid value for "ttl"'),
        ("prevExist=", INVALID_FIELD, "invalid value for prevExist"),
        ("refresh=2", INVALID_FIELD, "invalid value for refresh"),
        ("refresh=true&value=x", REFRESH_VALUE, "A value was provided on a refresh"),
        ("refresh=true", REFRESH_TTL_REQUIRED, "No TTL value set"),
        ("a;b=1", INVALID_FORM, "invalid semicolon separator in query"),
        ("%zz=1", INVALID_FORM, 'invalid URL escape "%zz"'),
        ("a=%4", INVALID_FORM, 'invalid URL escape "%4"'),
        ("a=%4&a;b", INVALID_FORM, "invalid semicolon separator in query"),
    ],
)
def test_what_is_wrong_is_named(query: str, code: int, cause: str) -> None:
    with pytest.raises(V2Error) as refused:
        parse(query=query)
    assert (refused.value.code, refused.value.cause, refused.value.index) == (code, cause, 0)


@pytest.mark.parametrize(
    ("content_type", "cause"),
    [
        ("/", "mime: no media type"),
        ("foo bar", "mime: expected slash in first token"),
        ("foo/;;", "mime: expected token after slash"),
        ("foo/bar baz", "mime: unexpected content after media subtype"),
        ("foo/bar; =", "mime: invalid media parameter"),
    ],
)
def test_a_kind_that_is_none_is_named(content_type: str, cause: str) -> None:
    with pytest.raises(V2Error, match="Invalid POST form") as refused:
        parse(content_type=content_type)
    assert refused.value.cause == cause


def test_an_empty_ttl_is_none_and_no_refresh_may_have_a_value() -> None:
    assert parse(query="ttl=").ttl_s is None
    assert parse(query="refresh=false").refresh is False
    assert parse(query="refresh=false&value=x").value == "x"
