"""The HTTP door that all services share: problem documents, request ids, trace context, body limit, metrics, pages and
entity tags.
"""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from caravan.http.content_negotiation import choose_content_type
from caravan.http.head import answer_head
from caravan.http.headers import document_headers
from caravan.http.html_pages import document_html_responses, render_html_page
from caravan.http.middleware import (
    FORWARDER_HEADER,
    SECONDS_HEADER,
    App,
    Receive,
    RequestBody,
    RequestMiddleware,
    Scope,
    Send,
    derive_forwarder_key,
    is_task_exit,
)
from caravan.http.pagination import (
    CursorParameter,
    IfMatch,
    Limit,
    Page,
    StrictModel,
    check_if_match,
    decode_cursor,
    encode_cursor,
    format_entity_tag,
    make_json_response,
    make_page_response,
    parse_text_part,
)
from caravan.http.parameters import FREE_PARAMETERS, enforce_declaration
from caravan.http.problems import (
    PROBLEMS,
    ProblemDocument,
    add_problem_handlers,
    convert_to_problem,
    document_problems,
    format_allow_header,
    list_problems,
    make_problem_response,
)
from caravan.http.streams import EVENT_STREAM_TYPE, EventStream
from caravan.times import Day, Time, parse_time

SLOW_READ = {"x-slow": True}
"""`openapi_extra` of a read that may take as long as a write does."""

__all__ = [
    "EVENT_STREAM_TYPE",
    "FORWARDER_HEADER",
    "FREE_PARAMETERS",
    "PROBLEMS",
    "SECONDS_HEADER",
    "SLOW_READ",
    "App",
    "CursorParameter",
    "Day",
    "EventStream",
    "IfMatch",
    "Limit",
    "Page",
    "ProblemDocument",
    "Receive",
    "RequestBody",
    "RequestMiddleware",
    "Scope",
    "Send",
    "StrictModel",
    "Time",
    "add_problem_handlers",
    "answer_head",
    "check_if_match",
    "choose_content_type",
    "convert_to_problem",
    "create_app",
    "decode_cursor",
    "derive_forwarder_key",
    "document_headers",
    "document_html_responses",
    "encode_cursor",
    "format_allow_header",
    "format_entity_tag",
    "is_task_exit",
    "make_json_response",
    "make_page_response",
    "make_problem_response",
    "parse_text_part",
    "parse_time",
    "render_html_page",
]


def create_app(service: str, routers: Sequence[Any], context: Any, verifier: Any) -> App:
    """The FastAPI application of a service behind the shared edge."""
    app = FastAPI(
        title=f"Caravan {service}",
        version="1",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        separate_input_output_schemas=False,
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
    and an included router is a
    layer that looks itself up again for each request."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            route.responses = {**list_problems(route), **route.responses}
            route.unique_id = route.name
            enforce_declaration(route)
        app.router.routes.append(route)
