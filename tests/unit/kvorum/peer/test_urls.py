"""Which URL of a member is dialed."""

import pytest
from kvorum.peer.urls import Urls


def test_the_chosen_url_stays_until_it_fails_and_then_the_next_is_taken_in_turn() -> None:
    urls = Urls(["http://b:1", "http://a:1", "http://c:1"])
    assert urls.all == ("http://a:1", "http://b:1", "http://c:1")
    seen = []
    for _ in range(4):
        seen += [urls.chosen, urls.chosen]
        urls.failed(urls.chosen)
    assert seen == [url for url in ("http://a:1", "http://b:1", "http://c:1", "http://a:1") for _ in range(2)]


def test_of_several_failures_of_one_url_only_the_first_moves_on() -> None:
    urls = Urls(["http://a:1", "http://b:1", "http://c:1"])
    for _ in range(3):
        urls.failed("http://a:1")
    assert urls.chosen == "http://b:1"
    urls.failed("http://nobody:1")
    assert urls.chosen == "http://b:1"


def test_new_urls_begin_with_their_first() -> None:
    urls = Urls(["http://a:1", "http://b:1"])
    urls.failed("http://a:1")
    urls.replace(["http://d:1", "http://c:1"])
    assert urls.chosen == "http://c:1"


def test_a_member_without_urls_is_refused() -> None:
    with pytest.raises(ValueError):
        Urls([])
