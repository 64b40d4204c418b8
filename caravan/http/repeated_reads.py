"""A list that everybody reads the same way is parsed once for each query string, not for each request.

The framework spends most of the time of a cached answer on the parameters: it checks each against its declaration and
calls the route's function with them. A route of the class `RepeatedReadRoute` goes that whole way for the first request
with a query string; its function then calls `remember_read` with how the parsed request is answered. Requests that
repeat the query string are answered so at once. Only what was accepted is remembered, so whatever is refused once is
refused always; requests with a token take the whole way, because what they are told may depend on who asks.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from caravan.fifo_cache import FifoCache
from caravan.http.middleware import Receive, Scope, Send

MAX_READS = 1_000
MAX_QUERY_BYTES = 1_000
"""Of a query string that is remembered."""
MAX_ENTITY_TAGS_BYTES = 500
"""Of an If-None-Match, as `IfNoneMatch` declares it: a longer one is refused on the whole way."""

Read = Callable[[Any, str | None], Awaitable[Response]]
"""Answers a parsed request: called with the service's context and the header If-None-Match."""


class RepeatedReadRoute(APIRoute):
    """For a path without parameters. It belongs to all applications that are made of its router, so what it remembers
    holds nothing of one of them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.reads: FifoCache[bytes, Read] = FifoCache(MAX_READS)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = self.reads.get(scope["query_string"])
        entity_tags = [value for name, value in scope["headers"] if name == b"if-none-match"]
        if (
            read is None
            or scope["method"] != "GET"
            or any(name == b"authorization" for name, _ in scope["headers"])
            or len(entity_tags) > 1
            or any(len(value) > MAX_ENTITY_TAGS_BYTES for value in entity_tags)
        ):
            await super().handle(scope, receive, send)
            return
        response = await read(scope["app"].state.context, entity_tags[0].decode("latin-1") if entity_tags else None)
        await response(scope, receive, send)


def remember_read(request: Request, read: Read) -> None:
    """Answer requests without a token that have this query string by `read` from now on."""
    route, query_string = request.scope["route"], request.scope["query_string"]
    if len(query_string) <= MAX_QUERY_BYTES and query_string not in route.reads:
        route.reads[query_string] = read
