"""Strict request parameters: one that a route doesn't declare is refused, and one that is given twice."""

import re
from dataclasses import dataclass
from typing import get_args
from urllib.parse import parse_qsl

from fastapi import params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute, request_response
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from caravan.errors import InvalidRequest
from caravan.http.bodies import StrictRequest, check_content_type, list_body_types, list_form_fields
from caravan.http.middleware import App, Receive, Scope, Send

FREE_PARAMETERS = "x-free-parameters"
"""In a route's `openapi_extra`: parameters whose name begins with this are the route's own to check."""
_MAX_NAMED_ERRORS = 10
_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_BOOLEAN = re.compile("true|false")


@dataclass(frozen=True, slots=True)
class _ParameterFormat:
    """How a parameter is written. The framework reads also what no document says, such as `1_0` for 10 and `on` for
    true.
    """

    is_repeatable: bool
    pattern: re.Pattern[str] | None
    rule: str

    @classmethod
    def from_param(cls, info: params.Param) -> "_ParameterFormat":
        types = {info.annotation, *get_args(info.annotation)}
        if int in types:
            return cls(False, _INTEGER, "must be a whole number, in digits")
        if bool in types:
            return cls(False, _BOOLEAN, "must be true or false")
        return cls("list[" in str(info.annotation), None, "")

    def find_broken_rule(self, values: list[str]) -> str | None:
        """The rule that the values break."""
        if len(values) > 1 and not self.is_repeatable:
            return "must be given once"
        return self.rule if self.pattern is not None and not self.pattern.fullmatch(values[0]) else None


@dataclass(frozen=True, slots=True)
class _CheckedRoute:
    app: App
    query: dict[str, _ParameterFormat]
    headers: dict[bytes, _ParameterFormat]
    prefix: str | None
    bodies: frozenset[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"] or self.headers:
            self._check_parameters(scope)
        if self.bodies:
            check_content_type(Headers(scope=scope), self.bodies)
        await self.app(scope, receive, send)

    def _check_parameters(self, scope: Scope) -> None:
        errors = []
        values_by_name: dict[str, list[str]] = {}
        for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
            values_by_name.setdefault(name, []).append(value)
        for name, values in values_by_name.items():
            parameter_format = self.query.get(name)
            if parameter_format is None:
                if self.prefix is None or not name.startswith(self.prefix):
                    names = ", ".join(sorted(self.query)) or "none"
                    errors.append(
                        {"field": f"query.{name[:50]}", "rule": f"is not a parameter of this path; there are: {names}"}
                    )
            elif rule := parameter_format.find_broken_rule(values):
                errors.append({"field": f"query.{name}", "rule": rule})
        for header, value in scope["headers"] if self.headers else ():
            if header in self.headers and (rule := self.headers[header].find_broken_rule([value.decode("latin-1")])):
                errors.append({"field": f"header.{header.decode()}", "rule": rule})
        if errors:
            raise InvalidRequest(
                f"not valid: {', '.join(error['field'] for error in errors[:5])}", errors=errors[:_MAX_NAMED_ERRORS]
            )


def enforce_declaration(route: APIRoute) -> None:
    """Make a route refuse what it would silently ignore: a misspelt filter would answer everything."""
    if isinstance(route.app, _CheckedRoute):  # a router is made once, applications may be made of it several times
        return
    bodies = list_body_types(route)
    if bodies:
        handle, fields = route.get_route_handler(), list_form_fields(route)

        async def handle_strictly(request: Request) -> Response:
            strict = StrictRequest(request.scope, request.receive, request._send)
            strict.form_fields = fields
            return await handle(strict)

        route.app = request_response(handle_strictly)
    parameters = [field.field_info for field in get_flat_params(route.dependant)]
    query = {
        str(info.alias): _ParameterFormat.from_param(info) for info in parameters if isinstance(info, params.Query)
    }
    headers = {
        str(info.alias).encode(): _ParameterFormat.from_param(info)
        for info in parameters
        if isinstance(info, params.Header)
    }
    checked_headers = {name: form for name, form in headers.items() if form.pattern is not None}
    route.app = _CheckedRoute(
        route.app, query, checked_headers, (route.openapi_extra or {}).get(FREE_PARAMETERS), bodies
    )
