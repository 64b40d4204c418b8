"""Responses whose body comes from the shared cache: `ETag`, `Cache-Control` and `Cache-Status` (RFC 9211).

Clients may keep such an answer and must ask again before each use, because no invalidation reaches them: 304 is what
they get when nothing has changed.
"""

import hashlib
from typing import Annotated

from fastapi import Header
from fastapi.responses import Response

from caravan.cache import CachedAnswer
from caravan.http.pagination import has_entity_tag

IfNoneMatch = Annotated[
    str | None, Header(max_length=500, description="the ETag that you have: 304 when nothing has changed")
]
CACHED_HEADERS = ("ETag", "Cache-Status")
"""For `document_headers` of a route that answers from the cache."""


def make_cached_response(
    answer: CachedAnswer,
    if_none_match: str | None,
    *,
    is_private: bool = False,
    entity_tag: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """The answer as JSON. `entity_tag`: where it is not made of the bytes alone."""
    body = answer.value or b""
    entity_tag = entity_tag or f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    all_headers = {
        **(headers or {}),
        "ETag": entity_tag,
        "Cache-Control": "private, no-cache" if is_private else "no-cache",
        "Cache-Status": format_cache_status(answer),
    }
    if if_none_match is not None and has_entity_tag(if_none_match, entity_tag):
        return Response(status_code=304, headers=all_headers)
    return Response(body, headers=all_headers, media_type="application/json")


def format_cache_status(answer: CachedAnswer) -> str:
    if answer.result in ("hit", "stale") and answer.seconds_left is not None:
        return f"Caravan; hit; ttl={max(0, int(answer.seconds_left))}"
    if answer.result == "collapsed":
        return "Caravan; fwd=miss; collapsed"
    return f"Caravan; fwd={'bypass' if answer.result == 'bypass' else 'miss'}"
