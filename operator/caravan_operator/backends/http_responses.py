"""Reads HTTP answers of servers that a custom resource names: size and depth are bounded, and a value is accepted
only in the expected form.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import aiohttp

MAX_BYTES = 32 << 20
MAX_VALUES = 1_000_000
"""Of one answer, or of all pages of one listing: what the rest of the operator can live beside."""
MAX_REASON_BYTES = 16 << 10
"""Bytes that are read of an error's answer."""
MAX_TEXT_LENGTH = 4096
HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}
"""Not compressed: some kilobytes could become gigabytes."""


class InvalidResponse(ValueError):
    """An answer that the expected server would not give. The message is our own text."""


class ReadBudget:
    """How much may still be read."""

    def __init__(self, size: int = MAX_BYTES, values: int = MAX_VALUES) -> None:
        self._max_bytes, self._remaining_bytes, self._remaining_values = size, size, values

    async def read_body(self, response: aiohttp.ClientResponse) -> bytearray:
        """The body. Raises InvalidResponse, with the connection closed, when there is more."""
        body = bytearray()
        async for chunk in response.content.iter_any():
            self._remaining_bytes -= len(chunk)
            if self._remaining_bytes < 0:
                response.close()
                raise InvalidResponse(f"the answer is larger than {self._max_bytes} bytes")
            body += chunk
        return body

    async def read_json(self, response: aiohttp.ClientResponse) -> Any:
        """The body's value, never None: that means that there is no answer. Raises InvalidResponse."""
        body = await self.read_body(response)
        self._remaining_values -= body.count(b",") + body.count(b"[") + body.count(b"{")
        if self._remaining_values < 0:
            raise InvalidResponse("the answer holds too many values")
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise InvalidResponse("the answer is no JSON, or too deep") from None
        if value is None:
            raise InvalidResponse("the answer is null")
        return value


async def read_reason(response: aiohttp.ClientResponse) -> str:
    """The server's own words for a refusal, for the log alone."""
    try:
        return (await ReadBudget(MAX_REASON_BYTES).read_body(response)).decode(errors="replace")
    except InvalidResponse as error:
        return str(error)


def expect_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidResponse("the answer has another shape: no object where one belongs")
    return value


def expect_objects(value: Any, max_items: int) -> list[dict[str, Any]]:
    """A list of at most so many objects."""
    if not isinstance(value, list) or len(value) > max_items:
        raise InvalidResponse(f"the answer has another shape: no list of at most {max_items} objects")
    return [expect_object(each) for each in value]


def get_text(item: Mapping[str, Any], field: str, pattern: str = "") -> str:
    value = item.get(field)
    if not isinstance(value, str) or len(value) > MAX_TEXT_LENGTH or (pattern and not re.fullmatch(pattern, value)):
        raise InvalidResponse(f"the answer has another shape: {field} is no such text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidResponse(f"the answer has another shape: {field} is no such text") from None
    return value


def get_optional_text(item: Mapping[str, Any], field: str) -> str | None:
    return get_text(item, field) if item.get(field) else None


def get_integer(item: Mapping[str, Any], field: str) -> int:
    value = item.get(field)
    if type(value) is not int or not -(2**53) < value < 2**53:
        raise InvalidResponse(f"the answer has another shape: {field} is no whole number")
    return value


def get_optional_integer(item: Mapping[str, Any], field: str) -> int | None:
    return get_integer(item, field) if item.get(field) is not None else None


def get_boolean(item: Mapping[str, Any], field: str) -> bool:
    value = item.get(field)
    if type(value) is not bool:
        raise InvalidResponse(f"the answer has another shape: {field} is neither true nor false")
    return value


def get_optional_object(item: Mapping[str, Any], field: str) -> dict[str, Any]:
    """Empty when absent; RabbitMQ writes an empty table as a list at times."""
    return expect_object(item[field]) if item.get(field) else {}
