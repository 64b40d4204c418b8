"""The FastAPI application that every service answers HTTP with, behind the middleware that all share."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig

from caravan.http.middleware import App, RequestMiddleware, derive_forwarder_key
from caravan.http.parameters import enforce_declaration
from caravan.http.problems import add_problem_handlers, document_problems, list_problems

SLOW_READ = {"x-slow": True}
"""`openapi_extra` of a read that may take as long as a write does."""

_NO_TELEMETRY = TelemetryConfig(tracing=False, metrics=False, logs=False)
"""FastAPI would make a second server span and three inner ones for each request as soon as spans are exported, and ask
for each whether they are: RequestMiddleware makes the span, with our trace context.
"""


def create_app(service: str, routers: Sequence[Any], context: Any, verifier: Any) -> App:
    """The FastAPI application of a service behind the shared middleware."""
    app = FastAPI(
        title=f"Caravan {service}",
        version="1",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        separate_input_output_schemas=False,
        telemetry=_NO_TELEMETRY,
    )
    app.state.context = context
    app.state.verifier = verifier
    for router in routers:
        _include_router(app, router)
    add_problem_handlers(app)
    document_problems(app)
    middleware = RequestMiddleware(app, service, derive_forwarder_key(context.secret), context.refused)
    middleware.fastapi = app
    return middleware


def _include_router(app: FastAPI, router: APIRouter) -> None:
    """Put a router's routes into the application as they are: our routers have no prefix or dependencies of their own,
    and an included router is a layer that looks itself up again for each request.
    """
    for route in router.routes:
        if isinstance(route, APIRoute):
            route.responses = {**list_problems(route), **route.responses}
            route.unique_id = route.name
            enforce_declaration(route)
        app.router.routes.append(route)
