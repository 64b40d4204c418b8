"""The headers of responses as the OpenAPI document describes them: each once, here, named by the routes that send
it.
"""

from typing import Any

_TEXT = {"type": "string"}

HEADERS: dict[str, dict[str, Any]] = {
    "Allow": {"description": "the methods that are served here", "required": True, "schema": _TEXT},
    "Cache-Control": {"description": "who may keep the answer, and for how long", "schema": _TEXT},
    "Cache-Status": {
        "description": "whether the shared cache had the answer (RFC 9211): `hit` with the seconds that it may still "
        "be served; `fwd=miss`, with `collapsed` when another request computed it; `fwd=bypass` without the cache",
        "required": True,
        "schema": {**_TEXT, "pattern": "^Caravan; (hit; ttl=[0-9]+|fwd=miss(; collapsed)?|fwd=bypass)$"},
    },
    "Content-Disposition": {"description": "a name for the file, where the answer is one", "schema": _TEXT},
    "ETag": {
        "description": "the version, for `If-Match`",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[^"]+"$'},
    },
    "Idempotency-Replayed": {
        "description": "there when this is the stored answer of an earlier request",
        "schema": {"const": "true"},
    },
    "Location": {
        "description": "where it is",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "RateLimit": {
        "description": "requests left in the class (`r`), and seconds until there are more (`t`)",
        "schema": _TEXT,
    },
    "RateLimit-Policy": {"description": "the class of the request: at most `q` in `w` seconds", "schema": _TEXT},
    "Retry-After": {"description": "seconds to wait before the next try", "schema": {"type": "integer", "minimum": 0}},
    "Set-Cookie": {"description": "makes the device known", "schema": _TEXT},
    "Vary": {"description": "the request headers on which the answer depends", "required": True, "schema": _TEXT},
    "WWW-Authenticate": {"description": "how to authenticate", "required": True, "schema": _TEXT},
    "X-Cache": {
        "description": "whether the answer was kept from an earlier question",
        "required": True,
        "schema": {"enum": ["hit", "miss"]},
    },
    "X-Request-Id": {
        "description": "yours, or one of ours: quote it when you ask about the request",
        "required": True,
        "schema": _TEXT,
    },
}

_COMMON_HEADERS = ("X-Request-Id", "Cache-Control")


def document_headers(status: int, *names: str, **response: Any) -> dict[int | str, dict[str, Any]]:
    """A part of a route's `responses`: what an answer with this status says in its headers, beside what `response` has
    of it.
    """
    return {status: {**response, "headers": {name: HEADERS[name] for name in names}}}


def describe_headers(operation: dict[str, Any]) -> None:
    """Add to an operation what every answer says, and what follows from what it takes."""
    has_idempotency_key = any(
        parameter["name"].lower() == "idempotency-key" for parameter in operation.get("parameters", ())
    )
    for status, response in operation.get("responses", {}).items():
        names = (
            [*_COMMON_HEADERS, "Idempotency-Replayed"]
            if has_idempotency_key and status.startswith("2")
            else _COMMON_HEADERS
        )
        response["headers"] = {**{name: HEADERS[name] for name in names}, **response.get("headers", {})}
