"""Which peer URLs a member may be added with. What etcd says to them: tests/compat/test_refusals.py."""

import pytest
from kvorum.api.cluster import valid_urls


@pytest.mark.parametrize("url", ["http://a:1", "https://a.b:2380", "http://[::1]:1", "HTTP://A:1"])
def test_a_host_and_a_port_will_do(url: str) -> None:
    assert valid_urls([url])


@pytest.mark.parametrize(
    "url", ["", "a:1", "http://a", "http://a:1/", "unix://a", "http://a:99999", "http://[zz]:1", "http://a:x"]
)
def test_more_or_less_will_not(url: str) -> None:
    assert not valid_urls(["http://a:1", url])


@pytest.mark.parametrize("host", ["\x00", "a b", "\u4f8b", "\xe9", "a\u202eb"])
def test_nor_will_what_no_member_could_dial(host: str) -> None:
    assert not valid_urls([f"http://{host}:1"])


def test_none_at_all_is_too_few() -> None:
    assert not valid_urls([])
