"""What the spans of HTTP say, by OpenTelemetry's conventions but for the path and the query, in which ids and tokens
stand.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.trace import Span, StatusCode

from caravan.telemetry.log_context import describe_scope, find_entity
from caravan.telemetry.log_lines import export_summary, is_exporting_logs
from caravan.telemetry.trace import is_recording, service_name, traceparent

_MADE = (201, 202)
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
OTHER_METHOD = "_OTHER"
"""Of methods that HTTP doesn't name there may be any number; the conventions have one name for them all."""


def read_location(status: int, headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Where what a request made is, by its answer; nothing while nobody wants to know."""
    if status not in _MADE or not is_recording():
        return ""
    return next((value.decode("latin-1") for name, value in headers if name.lower() == b"location"), "")


def describe_request(
    span: Span, method: str, route: str | None, status: int, scope: Mapping[str, Any], location: str | None = None
) -> None:
    """Of a server, once it is known what it answered: its span, and a line of the log for each write. `route`: its
    template; None where none matched. `location`: where what it made is; None where a gateway has passed the request
    on, which has a line for it.
    """
    entity = find_entity(location or "") or describe_scope(scope)
    name = "HTTP" if method == OTHER_METHOD else method
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "http.response.status_code": status,
        "url.scheme": scope.get("scheme", "http"),
        **{f"{key.removesuffix('_id')}.id": value for key, value in entity.items()},
    }
    if route is not None:
        name = f"{name} {route}"
        attributes["http.route"] = route
    span.update_name(name)
    if status >= 500:
        attributes["error.type"] = str(status)
        span.set_status(StatusCode.ERROR)
    span.set_attributes(attributes)
    if location is not None and method not in _READS and is_exporting_logs():
        export_summary(
            "request handled",
            service_name.get() or "",
            traceparent.get(),
            {"method": method, "route": route or "", "status": status, **entity},
        )


def describe_call(span: Span, method: str, template: str, url: str, status: int) -> None:
    """Of a client, once there is an answer. `template`: the path without ids."""
    parts = urlsplit(url)
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "http.response.status_code": status,
        "url.template": template,
        "server.address": parts.hostname or "",
        "server.port": parts.port or (443 if parts.scheme == "https" else 80),
    }
    if status >= 400:
        attributes["error.type"] = str(status)
        span.set_status(StatusCode.ERROR)
    span.set_attributes(attributes)
