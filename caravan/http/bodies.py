"""Strict request bodies: only of a content type that the route documents, and with no name in them twice, of which only
one would count.
"""

import json
import math
from collections import Counter
from typing import Any, NoReturn

from fastapi import params
from fastapi.routing import APIRoute
from starlette.datastructures import FormData, Headers
from starlette.requests import Request

from caravan.errors import InvalidRequest, UnsupportedMediaType

_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_MAX_EXACT = 2**53


def has_body(route: APIRoute) -> bool:
    return bool(list_body_types(route))


def list_body_types(route: APIRoute) -> frozenset[str]:
    """The content types that a route documents."""
    content = (route.openapi_extra or {}).get("requestBody", {}).get("content", {})
    info = route.body_field.field_info if route.body_field is not None else None
    return frozenset({*content, *([info.media_type] if isinstance(info, params.Body) else ())})


def list_form_fields(route: APIRoute) -> frozenset[str]:
    content = (route.openapi_extra or {}).get("requestBody", {}).get("content", {}).get(_FORM, {})
    declared_fields = {
        field.alias for field in route.dependant.body_params if isinstance(field.field_info, params.Form)
    }
    return frozenset(declared_fields | content.get("schema", {}).get("properties", {}).keys())


def check_content_type(headers: Headers, content_types: frozenset[str]) -> None:
    """Raises UnsupportedMediaType for a body of another type than those, or of none. An endpoint without a body doesn't
    read what is sent.
    """
    if not content_types or (headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers):
        return
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in content_types or (
        _JSON in content_types and content_type.startswith("application/") and content_type.endswith("+json")
    ):
        return
    names = " or ".join(sorted(content_types))
    raise UnsupportedMediaType(
        f"the body is {content_type[:100] or 'of no named type'}; send it with Content-Type: {names}"
    )


class StrictRequest(Request):
    """As a route's endpoint reads it."""

    form_fields: frozenset[str] = frozenset()
    """Of a form; others are ignored, as OAuth wants it."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = json.loads(
                await self.body(),
                object_pairs_hook=_refuse_repeated_names,
                parse_float=_read_number,
                parse_constant=_refuse_constant,
            )
        return self._json

    async def _get_form(self, **limits: Any) -> FormData:
        form = await super()._get_form(**limits)
        repeated = [
            name
            for name, times in Counter(name for name, _ in form.multi_items()).items()
            if times > 1 and name in self.form_fields
        ]
        if repeated:
            errors = [{"field": name, "rule": "must be given once"} for name in repeated]
            raise InvalidRequest(f"not valid: {', '.join(error['field'] for error in errors)}", errors=errors)
        return form


def _refuse_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        name = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise json.JSONDecodeError(f"{json.dumps(name[:50])} stands twice in one object", "", 0)
    return members


def _read_number(text: str) -> int | float:
    """JSON has one kind of numbers: 12.0 is an integer, as its schemas say."""
    number = float(text)
    if not math.isfinite(number):
        raise json.JSONDecodeError(f"{text[:50]} is too large a number", "", 0)
    return int(number) if number.is_integer() and abs(number) <= _MAX_EXACT else number


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is no number of JSON", "", 0)
