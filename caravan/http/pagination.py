"""Pages with cursors, entity tags, and responses made of models that need no second validation."""

import base64
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Header, Query
from fastapi.responses import Response
from pydantic import BaseModel

from caravan.errors import BadRequest, PreconditionFailed
from caravan.schemas import Page

R = TypeVar("R")

Limit = Annotated[int, Query(ge=1, le=100, description="items per page")]
CursorParameter = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before")]


def encode_cursor(*position: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(position, default=str)).decode().rstrip("=")


def decode_cursor(cursor: str | None, *parsers: Callable[[Any], Any]) -> list[Any] | None:
    """The position behind a cursor, each part through its parser (`UUID`, `parse_time`, ...). Raises BadRequest."""
    if cursor is None:
        return None
    try:
        values = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(values, list) or len(values) != len(parsers):
            raise ValueError("wrong number of parts")
        return [parse(value) for parse, value in zip(parsers, values, strict=True)]
    except (ValueError, TypeError, AttributeError) as error:
        raise BadRequest("cursor is not one that this list gave out") from error


def parse_text_part(part: Any) -> str:
    """A parser of a cursor's part. ValueError for what is no text."""
    if not isinstance(part, str):
        raise ValueError("no text")
    return part


def make_page_response(
    rows: Sequence[R], limit: int, to_item: Callable[[R], BaseModel], to_position: Callable[[R], Sequence[Any]]
) -> Response:
    """A page of a list, as `render_page` makes it."""
    return make_json_response(render_page(rows, limit, to_item, to_position))


def render_page(
    rows: Sequence[R], limit: int, to_item: Callable[[R], BaseModel], to_position: Callable[[R], Sequence[Any]]
) -> bytes:
    """A page of a list as JSON. `rows` were asked for with one more than `limit`: whether more follow is seen there,
    never guessed from a full page.

    `to_position` gives the parts of the cursor that follows a row; times and UUIDs may be among them.
    """
    page_rows = rows[:limit]
    next_cursor = encode_cursor(*to_position(page_rows[-1])) if len(rows) > limit else None
    page = Page[Any].model_construct(items=[to_item(row) for row in page_rows], next_cursor=next_cursor)
    return page.model_dump_json().encode()


def format_entity_tag(version: int) -> str:
    return f'"{version}"'


def has_entity_tag(condition: str, entity_tag: str) -> bool:
    """Whether If-Match or If-None-Match names it; weak tags count as well."""
    return condition.strip() == "*" or entity_tag in [tag.strip().removeprefix("W/") for tag in condition.split(",")]


IfMatch = Annotated[
    str | None, Header(max_length=500, description="the ETag that you have; another version is refused with 412")
]


def check_if_match(if_match: str | None, version: int) -> None:
    """Raises PreconditionFailed when If-Match names another version. Without the header any version is edited."""
    if if_match is not None and not has_entity_tag(if_match, format_entity_tag(version)):
        raise PreconditionFailed(f"you have {if_match}, it is {format_entity_tag(version)} now; read it again")


def make_json_response(body: BaseModel | bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response without a second validation: the model was made by us."""
    return Response(
        body if isinstance(body, bytes) else body.model_dump_json(), status, headers, media_type="application/json"
    )
