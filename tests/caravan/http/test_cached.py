"""The headers of an answer from the cache."""

import re

import pytest

from caravan.cache import CachedAnswer
from caravan.http import format_cache_status, make_cached_response
from caravan.http.headers import HEADERS

HIT = CachedAnswer(b'{"sku":"MUG"}', "hit", 41.7)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (HIT, "Caravan; hit; ttl=41"),
        (CachedAnswer(b"1", "stale", 3.0), "Caravan; hit; ttl=3"),
        (CachedAnswer(b"1", "collapsed", 3.0), "Caravan; fwd=miss; collapsed"),
        (CachedAnswer(b"1", "miss"), "Caravan; fwd=miss"),
        (CachedAnswer(b"1", "bypass"), "Caravan; fwd=bypass"),
    ],
)
def test_the_status_says_where_the_answer_comes_from(answer: CachedAnswer, status: str) -> None:
    assert format_cache_status(answer) == status
    assert re.fullmatch(HEADERS["Cache-Status"]["schema"]["pattern"], status)


def test_equal_answers_have_one_tag_wherever_they_come_from() -> None:
    first = make_cached_response(HIT, None)
    assert (first.status_code, first.body) == (200, HIT.value)
    assert first.headers["etag"] == make_cached_response(CachedAnswer(HIT.value, "miss"), None).headers["etag"]
    assert first.headers["etag"] != make_cached_response(CachedAnswer(b"{}", "miss"), None).headers["etag"]


@pytest.mark.parametrize("if_none_match", ["{tag}", "W/{tag}", '"other", {tag}', "*"])
def test_a_client_that_has_the_answer_gets_none_again(if_none_match: str) -> None:
    tag = make_cached_response(HIT, None).headers["etag"]
    response = make_cached_response(HIT, if_none_match.format(tag=tag))
    assert (response.status_code, response.body, response.headers["etag"]) == (304, b"", tag)
    assert make_cached_response(HIT, '"other"').status_code == 200


def test_what_is_one_users_is_private() -> None:
    assert make_cached_response(HIT, None).headers["cache-control"] == "no-cache"
    assert make_cached_response(HIT, None, is_private=True).headers["cache-control"] == "private, no-cache"
