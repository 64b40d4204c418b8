"""Makes the executor of the graph from the gateway's settings, when the gateway starts."""

from pathlib import Path

import orjson
from graphql import GraphQLError

from caravan.environment import SettingsError
from services.gateway.graphql.documents import DocumentInvalid, DocumentStore, compute_hash
from services.gateway.graphql.execution import GraphExecutor
from services.gateway.graphql.schema import build_schema
from services.gateway.settings import Settings


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
