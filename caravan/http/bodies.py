"""Request bodies are held to the letter: of a content type that the route documents, and with no name in them twice, of which only one would count."""

import json
import math
from collections import Counter
from typing import Any, NoReturn

from fastapi import params
from fastapi.routing import APIRoute
from starlette.datastructures import FormData, Headers
from starlette.requests import Request

from caravan.errors import Invalid, UnsupportedMediaType

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MAX_EXACT = 2**53


def takes_body(route: APIRoute) -> bool:
    return bool(body_types(route))


def body_types(route: APIRoute) -> frozenset[str]:
    """The content types that a route documents."""
    content = (route.openapi_extra or {}).get("requestBody", {}).get("content", {})
    info = route.body_field.field_info if route.body_field is not None else None
    return frozenset({*content, *([info.media_type] if isinstance(info, params.Body) else ())})


def form_fields(route: APIRoute) -> frozenset[str]:
    content = (route.openapi_extra or {}).get("requestBody", {}).get("content", {}).get(FORM, {})
    declared = {field.alias for field in route.dependant.body_params if isinstance(field.field_info, params.Form)}
    return frozenset(declared | content.get("schema", {}).get("properties", {}).keys())


def check_content_type(headers: Headers, taken: frozenset[str]) -> None:
    """Raises UnsupportedMediaType for a body of another type than those, or of none. An endpoint without a body doesn't read what is sent."""
    if not taken or (headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers):
        return
    given = headers.get("content-type", "").partition(";")[0].strip().lower()
    if given in taken or (JSON in taken and given.startswith("application/") and given.endswith("+json")):
        return
    names = " or ".join(sorted(taken))
    raise UnsupportedMediaType(f"the body is {given[:100] or 'of no named type'}; send it with Content-Type: {names}")


class StrictRequest(Request):
    """As a route's endpoint reads it."""

    fields: frozenset[str] = frozenset()
    """Of a form; others are ignored, as OAuth wants it."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = json.loads(
                await self.body(), object_pairs_hook=_refuse_repeated_names, parse_float=_read_number, parse_constant=_refuse_constant
            )
        return self._json

    async def _get_form(self, **limits: Any) -> FormData:
        form = await super()._get_form(**limits)
        repeated = [name for name, times in Counter(name for name, _ in form.multi_items()).items() if times > 1 and name in self.fields]
        if repeated:
            errors = [{"field": name, "rule": "must be given once"} for name in repeated]
            raise Invalid(f"not valid: {', '.join(error['field'] for error in errors)}", errors=errors)
        return form


def _refuse_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        name = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise json.JSONDecodeError(f"{json.dumps(name[:50])} stands twice in one object", "", 0)
    return found


def _read_number(text: str) -> int | float:
    """JSON has one kind of numbers: 12.0 is an integer, as its schemas say."""
    number = float(text)
    if not math.isfinite(number):
        raise json.JSONDecodeError(f"{text[:50]} is too large a number", "", 0)
    return int(number) if number.is_integer() and abs(number) <= MAX_EXACT else number


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is no number of JSON", "", 0)
