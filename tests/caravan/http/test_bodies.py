"""Which content types a body may have. tests/api asks the same of every route."""

import pytest
from starlette.datastructures import Headers

from caravan.errors import UnsupportedMediaType
from caravan.http.bodies import check_content_type

JSON = frozenset({"application/json"})


@pytest.mark.parametrize(
    ("headers", "types"),
    [
        ({"content-length": "2", "content-type": "application/json; charset=utf-8"}, JSON),
        ({"content-length": "2", "content-type": "application/merge-patch+json"}, JSON),
        ({"content-length": "0"}, JSON),
        ({}, JSON),
        ({"content-length": "2", "content-type": "text/plain"}, frozenset()),
    ],
)
def test_a_documented_type_or_no_body_is_taken(headers: dict[str, str], types: frozenset[str]) -> None:
    check_content_type(Headers(headers), types)


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"content-length": "2", "content-type": "text/plain"}, "text/plain"),
        ({"content-length": "2"}, "of no named type"),
        ({"transfer-encoding": "chunked", "content-type": "application/x+json+zip"}, "zip"),
    ],
)
def test_any_other_type_is_refused_with_those_that_are_taken(headers: dict[str, str], named: str) -> None:
    with pytest.raises(UnsupportedMediaType, match=rf"{named}.*send it with Content-Type: application/json"):
        check_content_type(Headers(headers), JSON)
