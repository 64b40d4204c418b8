"""The HTTP door that all services share: problem documents, request ids, trace context, body limit, metrics, pages and entity tags."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from caravan.http.accepting import preferred
from caravan.http.documents import document_pages, html_page
from caravan.http.edge import FORWARDER, SECONDS, App, Body, Edge, Receive, Scope, Send, forwarder_key, leaves
from caravan.http.head import answer_head
from caravan.http.headers import document_headers
from caravan.http.pages import (
    CursorParameter,
    IfMatch,
    Limit,
    Page,
    Strict,
    check_if_match,
    decode_cursor,
    encode_cursor,
    entity_tag,
    json_response,
    page_response,
    text_part,
)
from caravan.http.parameters import FREE_PARAMETERS, hold_to_declaration
from caravan.http.problems import (
    PROBLEMS,
    ProblemDocument,
    add_problem_handlers,
    allow,
    as_problem,
    document_problems,
    problem_response,
    problems_of,
)
from caravan.http.streams import EVENTS, EventStream
from caravan.times import Day, Time, parse_time

SLOW = {"x-slow": True}
"""`openapi_extra` of a read that may take as long as a write does."""

__all__ = [
    "EVENTS",
    "FORWARDER",
    "FREE_PARAMETERS",
    "PROBLEMS",
    "SECONDS",
    "SLOW",
    "App",
    "Body",
    "CursorParameter",
    "Day",
    "Edge",
    "EventStream",
    "IfMatch",
    "Limit",
    "Page",
    "ProblemDocument",
    "Receive",
    "Scope",
    "Send",
    "Strict",
    "Time",
    "add_problem_handlers",
    "allow",
    "answer_head",
    "as_problem",
    "check_if_match",
    "create_app",
    "decode_cursor",
    "document_headers",
    "document_pages",
    "encode_cursor",
    "entity_tag",
    "forwarder_key",
    "html_page",
    "json_response",
    "leaves",
    "page_response",
    "parse_time",
    "preferred",
    "problem_response",
    "text_part",
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
        _include(app, router)
    add_problem_handlers(app)
    document_problems(app)
    edge = Edge(app, service, forwarder_key(context.secret), context.refused)
    edge.fastapi = app
    return edge


def _include(app: FastAPI, router: APIRouter) -> None:
    """Put a router's routes into the application as they are: our routers have no prefix or dependencies of their own, and an included router is a
    layer that looks itself up again for each request."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            route.responses = {**problems_of(route), **route.responses}
            route.unique_id = route.name
            hold_to_declaration(route)
        app.router.routes.append(route)
