"""Request bodies are held to the letter: of a content type that the route documents, and with no name in them twice, of which only one would count."""

import json
from collections import Counter
from typing import Any, NoReturn

from fastapi import params
from fastapi.routing import APIRoute
from starlette.datastructures import FormData, Headers
from starlette.requests import Request

from caravan.errors import Invalid, UnsupportedMediaType

JSON = "application/json"


def takes_body(route: APIRoute) -> bool:
    return bool(body_types(route))


def body_types(route: APIRoute) -> frozenset[str]:
    """The content types that a route documents."""
    content = (route.openapi_extra or {}).get("requestBody", {}).get("content", {})
    info = route.body_field.field_info if route.body_field is not None else None
    return frozenset({*content, *([info.media_type] if isinstance(info, params.Body) else ())})


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

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = json.loads(await self.body(), object_pairs_hook=_refuse_repeated_names, parse_constant=_refuse_constant)
        return self._json

    async def _get_form(self, **limits: Any) -> FormData:
        form = await super()._get_form(**limits)
        repeated = [name for name, times in Counter(name for name, _ in form.multi_items()).items() if times > 1]
        if repeated:
            errors = [{"field": name[:50], "rule": "must be given once"} for name in repeated[:10]]
            raise Invalid(f"not valid: {', '.join(error['field'] for error in errors)}", errors=errors)
        return form


def _refuse_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        name = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise json.JSONDecodeError(f"{json.dumps(name[:50])} stands twice in one object", "", 0)
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is no number of JSON", "", 0)
