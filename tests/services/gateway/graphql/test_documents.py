"""Documents by text and by hash, trusted ones alone, and introspection where it is off."""

from pathlib import Path

import orjson
import pytest
from graphql import GraphQLError

from services.gateway.graphql.documents import DocumentInvalid, DocumentStore, compute_hash
from services.gateway.graphql.schema import build_schema
from services.gateway.graphql.setup import build_executor
from services.gateway.settings import Settings

CORE = build_schema().core
TEXT = "{ categories { nodes { name } } }"
OTHER = "{ products { nodes { sku } } }"


def make_store(*trusted: str, is_closed: bool = False, allow_introspection: bool = True) -> DocumentStore:
    registry = {compute_hash(text): text for text in trusted}
    return DocumentStore(CORE, registry, is_closed=is_closed, allow_introspection=allow_introspection)


def test_a_document_that_was_sent_once_is_known_by_its_hash() -> None:
    store = make_store()
    with pytest.raises(GraphQLError) as unknown:
        store.get_document(None, compute_hash(TEXT))
    assert unknown.value.extensions == {"code": "PERSISTED_QUERY_NOT_FOUND"}
    known = store.get_document(TEXT, compute_hash(TEXT))
    assert store.get_document(None, compute_hash(TEXT)) is known
    assert store.get_document(TEXT, None) is known, "it is read and checked once"
    with pytest.raises(GraphQLError, match="not that of the document"):
        store.get_document(TEXT, compute_hash(OTHER))


def test_a_closed_store_takes_trusted_documents_alone() -> None:
    store = make_store(TEXT, is_closed=True)
    assert store.get_document(None, compute_hash(TEXT)) is store.get_document(TEXT, None)
    for text, digest in ((OTHER, None), (None, compute_hash(OTHER)), (OTHER, compute_hash(OTHER))):
        with pytest.raises(GraphQLError) as refused:
            store.get_document(text, digest)
        assert refused.value.extensions == {"code": "DOCUMENT_NOT_TRUSTED"}


def test_the_registry_is_a_file_whose_hashes_are_true(tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    path.write_bytes(orjson.dumps({compute_hash(TEXT): TEXT}))
    build_executor(Settings(graphql_registry=path, graphql_documents="trusted"))
    for wrong in ({compute_hash(OTHER): TEXT}, {"a": 1}, [TEXT]):
        path.write_bytes(orjson.dumps(wrong))
        with pytest.raises(ValueError, match="registry"):
            build_executor(Settings(graphql_registry=path))
    path.write_bytes(orjson.dumps({compute_hash("{ secrets }"): "{ secrets }"}))
    with pytest.raises(DocumentInvalid, match="secrets"):
        build_executor(Settings(graphql_registry=path))


def test_the_schema_is_not_told_where_introspection_is_off() -> None:
    text = "{ __schema { types { name } } }"
    make_store().get_document(text, None)
    with pytest.raises(DocumentInvalid):
        make_store(allow_introspection=False).get_document(text, None)
