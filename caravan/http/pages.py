"""Bodies in and out: strict requests, pages with cursors, entity tags, answers made of our own models."""

import base64
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

import orjson
from fastapi import Header, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from caravan.errors import BadRequest, StaleEdit


class Strict(BaseModel):
    """The base of every request body: unknown fields refused, no silent coercion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


T = TypeVar("T")
R = TypeVar("R")


class Page(BaseModel, Generic[T]):
    """A page of a list; `next_cursor` is null at the end."""

    items: list[T]
    next_cursor: str | None = None


Limit = Annotated[int, Query(ge=1, le=100, description="items per page")]
CursorParameter = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before")]


def encode_cursor(*position: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(position, default=str)).decode().rstrip("=")


def decode_cursor(cursor: str | None, *kinds: Callable[[Any], Any]) -> list[Any] | None:
    """The position behind a cursor, each part through its kind (`UUID`, `parse_time`, ...). Raises BadRequest."""
    if cursor is None:
        return None
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(parts, list) or len(parts) != len(kinds):
            raise ValueError("wrong number of parts")
        return [kind(part) for kind, part in zip(kinds, parts, strict=True)]
    except (ValueError, TypeError, AttributeError) as error:
        raise BadRequest("cursor is not one that this list gave out") from error


def text_part(part: Any) -> str:
    """A kind of a cursor's part. ValueError for what is no text."""
    if not isinstance(part, str):
        raise ValueError("no text")
    return part


def page_response(rows: Sequence[R], limit: int, item: Callable[[R], BaseModel], position: Callable[[R], Sequence[Any]]) -> Response:
    """A page of a list. `rows` were asked for with one more than `limit`: whether more follow is seen there, never guessed from a full page.

    `position` gives the parts of the cursor that follows a row; times and UUIDs may be among them.
    """
    shown = rows[:limit]
    following = encode_cursor(*position(shown[-1])) if len(rows) > limit else None
    return json_response(Page[Any].model_construct(items=[item(row) for row in shown], next_cursor=following))


def entity_tag(version: int) -> str:
    return f'"{version}"'


IfMatch = Annotated[str | None, Header(max_length=500, description="the ETag that you have; another version is refused with 412")]


def check_if_match(given: str | None, version: int) -> None:
    """Raises StaleEdit when an If-Match names another version. Without the header the edit is unconditional."""
    if (
        given is not None
        and given.strip() != "*"
        and entity_tag(version) not in [tag.strip().removeprefix("W/") for tag in given.split(",")]
    ):
        raise StaleEdit(f"you have {given}, it is {entity_tag(version)} now; read it again")


def json_response(body: BaseModel | bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response without a second validation: the model was made by us."""
    return Response(body if isinstance(body, bytes) else body.model_dump_json(), status, headers, media_type="application/json")
