"""Makes the executor of the graph from the gateway's settings, when the gateway starts."""

import orjson

from services.gateway.graphql.documents import DocumentStore, compute_hash
from services.gateway.graphql.execution import GraphExecutor
from services.gateway.graphql.schema import build_schema
from services.gateway.settings import Settings


def build_executor(settings: Settings) -> GraphExecutor:
    """Raises ValueError for a registry that is not one, and DocumentInvalid for a document that the schema doesn't
    know.
    """
    schema = build_schema()
    documents = DocumentStore(
        schema.core,
        _read_registry(settings),
        is_closed=settings.graphql_documents == "trusted",
        allow_introspection=settings.graphql_introspection,
    )
    return GraphExecutor(schema, documents, settings.graphql_max_cost)


def _read_registry(settings: Settings) -> dict[str, str]:
    path = settings.graphql_registry
    if path is None:
        return {}
    registry = orjson.loads(path.read_bytes())
    if not isinstance(registry, dict) or not all(isinstance(text, str) for text in registry.values()):
        raise ValueError(f"{path} is no registry of documents; write an object of texts by their SHA-256")
    for digest, text in registry.items():
        if digest != compute_hash(text):
            raise ValueError(f"{path}: {digest} is not the SHA-256 of its document, which is {compute_hash(text)}")
    return registry
