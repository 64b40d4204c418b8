"""Answers over HTTP from servers that a custom resource names: read up to a bound, parsed up to a bound, and taken only in the shape that was expected."""

import json
import re
from collections.abc import Mapping
from typing import Any

import aiohttp

MOST_BYTES = 32 << 20
MOST_VALUES = 1_000_000
"""Of one answer, or of all pages of one listing: what the rest of the operator can live beside."""
MOST_REASON = 16 << 10
"""Bytes that are read of an answer that says no."""
LONGEST_TEXT = 4096
HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}
"""Not compressed: some kilobytes could become gigabytes."""


class BadAnswer(ValueError):
    """Not what the server that was meant would say. The message is our own words."""


class Budget:
    """How much may still be read."""

    def __init__(self, size: int = MOST_BYTES, values: int = MOST_VALUES) -> None:
        self._most, self._left, self._values = size, size, values

    async def read(self, response: aiohttp.ClientResponse) -> bytearray:
        """The body. Raises BadAnswer, with the connection closed, when there is more."""
        body = bytearray()
        async for chunk in response.content.iter_any():
            self._left -= len(chunk)
            if self._left < 0:
                response.close()
                raise BadAnswer(f"the answer is larger than {self._most} bytes")
            body += chunk
        return body

    async def json(self, response: aiohttp.ClientResponse) -> Any:
        """The body's value, never None: that means that there is no answer. Raises BadAnswer."""
        body = await self.read(response)
        self._values -= body.count(b",") + body.count(b"[") + body.count(b"{")
        if self._values < 0:
            raise BadAnswer("the answer holds too many values")
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise BadAnswer("the answer is no JSON, or too deep") from None
        if value is None:
            raise BadAnswer("the answer is null")
        return value


async def reason(response: aiohttp.ClientResponse) -> str:
    """The server's own words for a refusal, for the log alone."""
    try:
        return (await Budget(MOST_REASON).read(response)).decode(errors="replace")
    except BadAnswer as error:
        return str(error)


def table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadAnswer("the answer has another shape: no object where one belongs")
    return value


def rows(value: Any, most: int) -> list[dict[str, Any]]:
    """A list of at most so many objects."""
    if not isinstance(value, list) or len(value) > most:
        raise BadAnswer(f"the answer has another shape: no list of at most {most} objects")
    return [table(each) for each in value]


def text(item: Mapping[str, Any], field: str, pattern: str = "") -> str:
    value = item.get(field)
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or (pattern and not re.fullmatch(pattern, value)):
        raise BadAnswer(f"the answer has another shape: {field} is no such text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadAnswer(f"the answer has another shape: {field} is no such text") from None
    return value


def optional_text(item: Mapping[str, Any], field: str) -> str | None:
    return text(item, field) if item.get(field) else None


def number(item: Mapping[str, Any], field: str) -> int:
    value = item.get(field)
    if type(value) is not int or not -(2**53) < value < 2**53:
        raise BadAnswer(f"the answer has another shape: {field} is no whole number")
    return value


def optional_number(item: Mapping[str, Any], field: str) -> int | None:
    return number(item, field) if item.get(field) is not None else None


def flag(item: Mapping[str, Any], field: str) -> bool:
    value = item.get(field)
    if type(value) is not bool:
        raise BadAnswer(f"the answer has another shape: {field} is neither true nor false")
    return value


def optional_table(item: Mapping[str, Any], field: str) -> dict[str, Any]:
    """Empty when absent; RabbitMQ writes an empty table as a list at times."""
    return table(item[field]) if item.get(field) else {}
