"""`/graphql` over HTTP, as the GraphQL-over-HTTP draft has it: a request is one JSON object, an answer is 200 when the
operation was run, and 4xx when it was refused before.

A subscription is answered with an event stream, all else with JSON, or with a stream of one event for a client that
takes nothing else.
"""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from graphql import OperationType

from caravan.auth import Anyone, Caller
from caravan.errors import BadRequest, UnsupportedMediaType
from caravan.http import EVENT_STREAM_TYPE, Injected, choose_content_type
from services.gateway.graphql.execution import GraphExecutor, GraphRequest, RequestRefused
from services.gateway.graphql.service_calls import ServiceCalls
from services.gateway.graphql.streaming import COMPLETE, SubscriptionStream, format_next
from services.gateway.use_cases import GatewayContext

router = APIRouter(tags=["gateway"])
JSON_TYPE = "application/json"
RESPONSE_TYPE = "application/graphql-response+json"
JSON_TYPES = (RESPONSE_TYPE, JSON_TYPE)
READING = frozenset({OperationType.QUERY})
READING_AND_WRITING = frozenset({OperationType.QUERY, OperationType.MUTATION})
ALL = frozenset(OperationType)
_KNOWN_KEYS = frozenset({"query", "operationName", "variables", "extensions"})
_Text = Annotated[str | None, Query(max_length=40_000)]


@router.post("/graphql", include_in_schema=False)
async def post_graphql(context: Injected[GatewayContext], request: Request, caller: Anyone) -> Response:
    """A query or a mutation; a subscription for whoever names an event stream as acceptable."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON_TYPE:
        raise UnsupportedMediaType("send the operation as a JSON object, with Content-Type: application/json")
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    is_streamable = EVENT_STREAM_TYPE in request.headers.get("accept", "").lower()
    return await _answer(context, request, caller, parse_request(body), ALL if is_streamable else READING_AND_WRITING)


@router.get("/graphql", include_in_schema=False)
async def get_graphql(
    context: Injected[GatewayContext],
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
    return await _answer(context, request, caller, parse_request(body), READING)


def parse_request(body: Any) -> GraphRequest:
    """The request that a JSON object is. Raises BadRequest; a list of operations is refused, too."""
    if isinstance(body, list):
        raise BadRequest("send one operation at a time; a list of them is not taken")
    if not isinstance(body, dict) or not body.keys() <= _KNOWN_KEYS:
        raise BadRequest(f"send a JSON object with {', '.join(sorted(_KNOWN_KEYS))} and nothing else")
    text, name, variables, extensions = (body.get(key) for key in ("query", "operationName", "variables", "extensions"))
    if not isinstance(text, str | None) or not isinstance(name, str | None):
        raise BadRequest("query and operationName are texts")
    if not isinstance(variables, dict | None) or not isinstance(extensions, dict | None):
        raise BadRequest("variables and extensions are objects")
    persisted = (extensions or {}).get("persistedQuery")
    digest = persisted.get("sha256Hash") if isinstance(persisted, dict) else None
    if not isinstance(digest, str | None):
        raise BadRequest("extensions.persistedQuery.sha256Hash is the SHA-256 of the document in hex")
    return GraphRequest(text or None, digest, name or None, variables or {})


async def _answer(
    context: GatewayContext,
    request: Request,
    caller: Caller | None,
    graph_request: GraphRequest,
    allowed: frozenset[OperationType],
) -> Response:
    executor: GraphExecutor = request.app.state.graph
    try:
        operation = executor.accept_operation(graph_request, caller, allowed)
    except RequestRefused as refused:
        return _make_response(request, {"errors": refused.errors}, refused.status, refused.headers)
    state = request.app.state
    calls = ServiceCalls(
        state.admission, state.dispatcher, context, request.scope, caller, context.settings.graphql_seconds
    )
    if operation.node.operation is OperationType.SUBSCRIPTION:
        address = request.client.host if request.client else "unknown"
        return SubscriptionStream(context.resources.streams, executor, operation, calls, caller, address)
    answer = await executor.run_operation(operation, calls)
    headers = {"GraphQL-Cost": executor.format_cost(operation, answer, calls)}
    if choose_content_type(request.headers.get("accept", ""), *JSON_TYPES, EVENT_STREAM_TYPE) == EVENT_STREAM_TYPE:
        return Response(format_next(answer) + COMPLETE, 200, headers, media_type=EVENT_STREAM_TYPE)
    return _make_response(request, answer, 200, headers)


def _make_response(request: Request, answer: dict[str, Any], status: int, headers: dict[str, str]) -> Response:
    media_type = RESPONSE_TYPE if RESPONSE_TYPE in request.headers.get("accept", "").lower() else JSON_TYPE
    return Response(orjson.dumps(answer), status, headers, media_type=media_type)
