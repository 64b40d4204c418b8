"""Pages of lists as Relay's connections, over the cursors of the services.

A service gives a cursor for the end of a page; that of an object inside it is the page's own with a position. Asking
after it reads the same page again.
"""

from typing import Any, TypeVar

import strawberry

from caravan.errors import BadRequest
from services.gateway.graphql.policy import MAX_FIRST, PLAIN, JsonObject
from services.gateway.graphql.service_calls import Query, ServiceCalls

T = TypeVar("T")
_connections: dict[Any, Any] = {}


@strawberry.type(description="Where a page stands in its list.")
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


def get_connection(node: Any) -> Any:
    """The connection of a type."""
    if node not in _connections:
        name = node.__name__
        edge = type(f"{name}Edge", (), {"__annotations__": {"cursor": str, "node": node}})
        edge = strawberry.type(edge, description=f"One {name} of a page.")
        annotations = {"nodes": list[node], "edges": list[edge], "page_info": PageInfo}  # type: ignore[valid-type]
        connection = type(f"{name}Connection", (), {"__annotations__": annotations})
        for key in annotations:
            setattr(connection, key, strawberry.field(metadata=PLAIN.as_metadata()))
        _connections[node] = strawberry.type(connection, description=f"A page of a list of {name}.")
    return _connections[node]


async def read_page(
    calls: ServiceCalls, service: str, path: str, query: Query, first: int, after: str | None
) -> JsonObject:
    """A page of a service's list. Raises BadRequest for a cursor that no list gives out."""
    page_cursor, skipped = _parse_cursor(after)
    limit = min(MAX_FIRST, skipped + first)
    page = await calls.read(service, path, {**query, "limit": limit, "cursor": page_cursor})
    items = page["items"][skipped : skipped + first]
    next_cursor = page["next_cursor"]
    is_whole = skipped + len(items) == len(page["items"])
    cursors = [f"{page_cursor or ''}~{skipped + index + 1}" for index in range(len(items))]
    if next_cursor is not None and items and is_whole:
        cursors[-1] = next_cursor
    return {
        "nodes": items,
        "edges": [{"cursor": cursor, "node": item} for cursor, item in zip(cursors, items, strict=True)],
        "page_info": {
            "has_next_page": next_cursor is not None or not is_whole,
            "has_previous_page": after is not None,
            "start_cursor": cursors[0] if cursors else None,
            "end_cursor": cursors[-1] if cursors else None,
        },
    }


def _parse_cursor(after: str | None) -> tuple[str | None, int]:
    """The cursor of a page, and how many of its objects were seen."""
    if after is None or "~" not in after:
        return after, 0
    page_cursor, _, position = after.rpartition("~")
    if not position.isascii() or not position.isdecimal() or not 0 < int(position[:4]) < MAX_FIRST:
        raise BadRequest("after is not a cursor that this list gave out")
    return page_cursor or None, int(position)
