"""Makes the graph from the gateway's settings, when the gateway starts."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson
from graphql import GraphQLError

from caravan.auth import Caller
from caravan.environment import SettingsError
from caravan.http import Scope
from services.gateway.admission import Admission, read_host
from services.gateway.graphql.documents import DocumentInvalid, DocumentStore, compute_hash
from services.gateway.graphql.execution import AcceptedOperation, GraphExecutor
from services.gateway.graphql.query_answers import QueryAnswer, QueryAnswers
from services.gateway.graphql.schema import build_schema
from services.gateway.graphql.service_calls import ServiceCalls
from services.gateway.routing.dispatch import Dispatcher
from services.gateway.settings import Settings
from services.gateway.use_cases import GatewayContext


@dataclass(frozen=True, slots=True)
class Graph:
    """What runs operations, whether a request (`api.py`) or a socket (`sockets.py`) brought them."""

    context: GatewayContext
    admission: Admission
    executor: GraphExecutor
    answers: QueryAnswers
    dispatcher: Dispatcher

    def make_calls(self, scope: Scope, caller: Caller | None) -> ServiceCalls:
        seconds = self.context.settings.graphql_seconds
        return ServiceCalls(self.admission, self.dispatcher, self.context, scope, caller, seconds)

    async def answer_query(self, operation: AcceptedOperation, scope: Scope, caller: Caller | None) -> QueryAnswer:
        snapshot = self.context.discovery.current_snapshot
        routes = f"{read_host(scope)} {snapshot.revision if snapshot else ''}"
        return await self.answers.answer_query(operation, caller, routes, partial(self.make_calls, scope, caller))


def build_graph(context: GatewayContext, admission: Admission, dispatcher: Dispatcher) -> Graph:
    executor = build_executor(context.settings)
    return Graph(context, admission, executor, QueryAnswers(executor, context.cache), dispatcher)


def build_executor(settings: Settings) -> GraphExecutor:
    """Raises SettingsError for a registry that can't be used."""
    schema = build_schema()
    path = settings.graphql_registry
    registry = _read_registry(path) if path is not None else {}
    try:
        documents = DocumentStore(
            schema.core,
            registry,
            is_closed=settings.graphql_documents == "trusted",
            allow_introspection=settings.graphql_introspection,
        )
    except (DocumentInvalid, GraphQLError) as error:
        raise SettingsError(f"GATEWAY_GRAPHQL_REGISTRY: {path}: {error}") from None
    return GraphExecutor(schema, documents, settings.graphql_max_cost)


def _read_registry(path: Path) -> dict[str, str]:
    try:
        registry = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise SettingsError(f"GATEWAY_GRAPHQL_REGISTRY: {path} can't be read as JSON: {error}") from None
    if not isinstance(registry, dict) or not all(isinstance(text, str) for text in registry.values()):
        raise SettingsError(
            f"GATEWAY_GRAPHQL_REGISTRY: {path} is no registry of documents; write an object of texts by their SHA-256"
        )
    for digest, text in registry.items():
        if digest != compute_hash(text):
            raise SettingsError(
                f"GATEWAY_GRAPHQL_REGISTRY: {path}: {digest} is not the SHA-256 of its document, which is "
                f"{compute_hash(text)}"
            )
    return registry
