"""`/graphql` over HTTP, as the GraphQL-over-HTTP draft has it: a request is one JSON object, an answer is 200 when the
operation was run, and 4xx when it was refused before.
"""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from graphql import OperationType

from caravan.auth import Anyone, Caller
from caravan.errors import BadRequest, UnsupportedMediaType
from caravan.http import EVENT_STREAM_TYPE, Injected
from services.gateway.graphql.execution import GraphExecutor, GraphRequest, RequestRefused
from services.gateway.graphql.service_calls import ServiceCalls
from services.gateway.graphql.streaming import SubscriptionStream
from services.gateway.use_cases import GatewayContext

router = APIRouter(tags=["gateway"])
RESPONSE_TYPE = "application/graphql-response+json"
READING = frozenset({OperationType.QUERY})
READING_AND_WRITING = frozenset({OperationType.QUERY, OperationType.MUTATION})
WATCHING = frozenset({OperationType.SUBSCRIPTION})
_KNOWN_KEYS = frozenset({"query", "operationName", "variables", "extensions"})
_Text = Annotated[str | None, Query(max_length=40_000)]


@router.post("/graphql", include_in_schema=False)
async def post_graphql(context: Injected[GatewayContext], request: Request, caller: Anyone) -> Response:
    """A query or a mutation; a subscription for whoever accepts an event stream."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("send the operation as a JSON object, with Content-Type: application/json")
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    if EVENT_STREAM_TYPE in request.headers.get("accept", ""):
        return await _answer(context, request, caller, parse_request(body), WATCHING)
    return await _answer(context, request, caller, parse_request(body), READING_AND_WRITING)


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
    resources = context.resources
    calls = ServiceCalls(
        request.app.state.dispatcher,
        context.call,
        request.scope,
        caller,
        resources.rate_classes,
        resources.rate_limiter,
    )
    if allowed is WATCHING:
        address = request.client.host if request.client else "unknown"
        return SubscriptionStream(resources.streams, executor, operation, calls, caller, address)
    answer = await executor.run_operation(operation, calls)
    return _make_response(request, answer, 200, {"GraphQL-Cost": executor.format_cost(operation, answer, calls)})


def _make_response(request: Request, answer: dict[str, Any], status: int, headers: dict[str, str]) -> Response:
    media_type = RESPONSE_TYPE if RESPONSE_TYPE in request.headers.get("accept", "") else "application/json"
    return Response(orjson.dumps(answer), status, headers, media_type=media_type)
