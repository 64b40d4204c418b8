"""Requests are held to the letter: a query parameter that a route doesn't declare is refused, one that is given twice, a body of another content type."""

from collections import Counter
from dataclasses import dataclass
from urllib.parse import parse_qsl

from fastapi import params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute, request_response
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from caravan.errors import Invalid
from caravan.http.bodies import StrictRequest, body_types, check_content_type, form_fields
from caravan.http.edge import App, Receive, Scope, Send

FREE_PARAMETERS = "x-free-parameters"
"""In a route's `openapi_extra`: parameters whose name begins with this are the route's own to check."""
NAMED_MAX = 10


@dataclass(frozen=True, slots=True)
class _Checked:
    app: App
    known: dict[str, bool]
    prefix: str | None
    bodies: frozenset[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"]:
            _check(scope["query_string"], self.known, self.prefix)
        if self.bodies:
            check_content_type(Headers(scope=scope), self.bodies)
        await self.app(scope, receive, send)


def hold_to_declaration(route: APIRoute) -> None:
    """Make a route refuse what it would silently ignore: a misspelt filter would answer everything."""
    if isinstance(route.app, _Checked):  # a router is made once, applications may be made of it several times
        return
    bodies = body_types(route)
    if bodies:
        handle, fields = route.get_route_handler(), form_fields(route)

        async def handle_strictly(request: Request) -> Response:
            strict = StrictRequest(request.scope, request.receive, request._send)
            strict.fields = fields
            return await handle(strict)

        route.app = request_response(handle_strictly)
    route.app = _Checked(route.app, _declared(route), (route.openapi_extra or {}).get(FREE_PARAMETERS), bodies)


def _declared(route: APIRoute) -> dict[str, bool]:
    """Each parameter's name, and whether it may come several times."""
    fields = [field for field in get_flat_params(route.dependant) if isinstance(field.field_info, params.Query)]
    return {field.alias: "list[" in str(field.field_info.annotation) for field in fields}


def _check(query: bytes, known: dict[str, bool], prefix: str | None) -> None:
    given = Counter(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    errors = []
    for name, times in given.items():
        if prefix is not None and name.startswith(prefix):
            continue
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            errors.append({"field": f"query.{name[:50]}", "rule": f"is not a parameter of this path; there are: {names}"})
        elif times > 1 and not known[name]:
            errors.append({"field": f"query.{name}", "rule": "must be given once"})
    if errors:
        raise Invalid(f"not valid: {', '.join(error['field'] for error in errors[:5])}", errors=errors[:NAMED_MAX])
