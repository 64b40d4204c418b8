"""A service's OpenAPI document is built once a run and not by every shop that starts: it is most of a start's CPU."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pytest
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute


@pytest.fixture(scope="session", autouse=True)
def _remember_documents() -> Iterator[None]:
    known: dict[tuple[Any, ...], bytes] = {}

    def build_once(*, routes: Sequence[BaseRoute], **about: Any) -> dict[str, Any]:
        key = repr(about), *(_describe_route(route) for route in routes)
        if key not in known:
            known[key] = orjson.dumps(get_openapi(routes=routes, **about))
        document: dict[str, Any] = orjson.loads(known[key])
        return document

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastapi.applications.get_openapi", build_once)
        yield


def _describe_route(route: BaseRoute) -> tuple[Any, ...]:
    """What tells two routes apart: the same function elsewhere, or with other answers, has another document."""
    if not isinstance(route, APIRoute):
        return (type(route), getattr(route, "path", None))
    return (
        route.endpoint,
        route.path,
        frozenset(route.methods or ()),
        route.response_model,
        route.status_code,
        frozenset(route.responses),
        route.operation_id,
        route.description,
        route.deprecated,
        route.include_in_schema,
        len(route.dependencies),
    )
