"""Shapes of HTTP bodies that several services share; `caravan/http/pagination.py` makes the responses of them."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class StrictModel(BaseModel):
    """The base of a request body: unknown fields refused, no silent coercion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Page(BaseModel, Generic[T]):
    """A page of a list; `next_cursor` is null at the end."""

    items: list[T]
    next_cursor: str | None = None
