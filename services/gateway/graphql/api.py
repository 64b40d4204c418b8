"""`/graphql` over HTTP, as the GraphQL-over-HTTP draft has it: a request is one JSON object, an answer is 200 when the
operation was run, and 4xx when it was refused before.

A subscription is answered with an event stream, all else with JSON, or with a stream of one event for a client that
takes nothing else.
"""

from dataclasses import replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from graphql import OperationType

from caravan.auth import Anyone, Caller
from caravan.errors import BadRequest, UnsupportedMediaType
from caravan.http import (
    EVENT_STREAM_TYPE,
    choose_content_type,
    format_cache_status,
    make_cached_response,
)
from services.gateway.graphql.execution import AcceptedOperation, RequestRefused, measure_cost
from services.gateway.graphql.query_answers import QueryAnswer
from services.gateway.graphql.requests import ALL_OPERATIONS, GraphRequest, parse_request
from services.gateway.graphql.setup import Graph
from services.gateway.graphql.streaming import COMPLETE, SubscriptionStream, format_next

router = APIRouter(tags=["gateway"])
JSON_TYPE = "application/json"
RESPONSE_TYPE = "application/graphql-response+json"
JSON_TYPES = (RESPONSE_TYPE, JSON_TYPE)
READING = frozenset({OperationType.QUERY})
READING_AND_WRITING = frozenset({OperationType.QUERY, OperationType.MUTATION})
_Text = Annotated[str | None, Query(max_length=40_000)]


@router.post("/graphql", include_in_schema=False)
async def post_graphql(request: Request, caller: Anyone) -> Response:
    """A query or a mutation; a subscription for whoever names an event stream as acceptable."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON_TYPE:
        raise UnsupportedMediaType("send the operation as a JSON object, with Content-Type: application/json")
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    is_streamable = EVENT_STREAM_TYPE in request.headers.get("accept", "").lower()
    return await _answer(request, caller, parse_request(body), ALL_OPERATIONS if is_streamable else READING_AND_WRITING)


@router.get("/graphql", include_in_schema=False)
async def get_graphql(
    request: Request,
    caller: Anyone,
    query: _Text = None,
    operation_name: Annotated[str | None, Query(alias="operationName", max_length=200)] = None,
    variables: _Text = None,
    extensions: _Text = None,
) -> Response:
    """A query; a mutation has to be posted, so that no link can make one."""
    body: dict[str, Any] = {"query": query, "operationName": operation_name}
    for name, text in (("variables", variables), ("extensions", extensions)):
        try:
            body[name] = orjson.loads(text) if text else None
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"{name} is not valid JSON: {error}") from None
    return await _answer(request, caller, parse_request(body), READING)


async def _answer(
    request: Request, caller: Caller | None, graph_request: GraphRequest, allowed: frozenset[OperationType]
) -> Response:
    graph: Graph = request.app.state.graph
    executor = graph.executor
    try:
        operation = executor.accept_operation(graph_request, caller, allowed)
    except RequestRefused as refused:
        body = orjson.dumps({"errors": refused.errors})
        media_type = RESPONSE_TYPE if RESPONSE_TYPE in request.headers.get("accept", "").lower() else JSON_TYPE
        headers = {**refused.headers, "Cache-Status": "Caravan; detail=refused"}
        return Response(body, refused.status, headers, media_type=media_type)
    if operation.node.operation is OperationType.QUERY:
        answer = await graph.answer_query(operation, request.scope, caller)
        return _make_query_response(request, operation, answer)
    calls = graph.make_calls(request.scope, caller)
    if operation.node.operation is OperationType.SUBSCRIPTION:
        address = request.client.host if request.client else "unknown"
        return SubscriptionStream(graph.context.resources.streams, executor, operation, calls, caller, address)
    result = await executor.run_operation(operation, calls)
    cost = executor.format_cost(operation, measure_cost(operation, result, calls))
    headers = {"GraphQL-Cost": cost, "Cache-Status": "Caravan; fwd=method"}
    return _make_response(request, orjson.dumps(result), 200, headers)


def _make_query_response(request: Request, operation: AcceptedOperation, answer: QueryAnswer) -> Response:
    """Clients may keep a whole answer, and ask with its ETag whether it is still the same."""
    headers = {"GraphQL-Cost": answer.cost, "Vary": "Accept, Authorization"}
    if not answer.is_whole:
        headers |= {"Cache-Status": format_cache_status(answer.cached), "Cache-Control": "no-store"}
        return _make_response(request, answer.cached.value or b"", 200, headers)
    content_type, body = _encode_body(request, answer.cached.value or b"")
    response = make_cached_response(
        replace(answer.cached, value=body),
        request.headers.get("if-none-match") if request.method == "GET" else None,
        is_private=operation.scope != "public",
        headers=headers,
    )
    if response.status_code == 200:
        response.headers["content-type"] = content_type
    return response


def _make_response(request: Request, body: bytes, status: int, headers: dict[str, str]) -> Response:
    content_type, body = _encode_body(request, body)
    return Response(body, status, {**headers, "content-type": content_type})


def _encode_body(request: Request, body: bytes) -> tuple[str, bytes]:
    """As the client takes it, with the media type."""
    accept = request.headers.get("accept", "")
    if choose_content_type(accept, *JSON_TYPES, EVENT_STREAM_TYPE) == EVENT_STREAM_TYPE:
        return f"{EVENT_STREAM_TYPE}; charset=utf-8", format_next(body) + COMPLETE
    return RESPONSE_TYPE if RESPONSE_TYPE in accept.lower() else JSON_TYPE, body
