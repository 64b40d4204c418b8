"""Documents by text and by hash, trusted ones alone, and introspection where it is off."""

import gc
import tracemalloc
from pathlib import Path

import orjson
import pytest
from graphql import GraphQLError, OperationType

from caravan.environment import SettingsError, load_class
from services.gateway.graphql import documents
from services.gateway.graphql.documents import DocumentInvalid, DocumentStore, compute_hash
from services.gateway.graphql.execution import GraphExecutor, RequestRefused
from services.gateway.graphql.requests import GraphRequest
from services.gateway.graphql.schema import build_schema
from services.gateway.graphql.setup import build_executor
from services.gateway.settings import Settings

CORE = build_schema().core
TEXT = "{ categories { nodes { name } } }"
OTHER = "{ products { nodes { sku } } }"


def make_long_document(number: int) -> str:
    movement = '{sku: "A", kind: "receive", quantity: 1}'
    return f"mutation M{number} {{ recordMovements(input: {{movements: [{movement * 150}]}}) {{ __typename }} }}"


def make_store(*trusted: str, is_closed: bool = False, allow_introspection: bool = True) -> DocumentStore:
    registry = {compute_hash(text): text for text in trusted}
    return DocumentStore(CORE, registry, is_closed=is_closed, allow_introspection=allow_introspection)


def test_a_document_that_was_sent_once_is_known_by_its_hash() -> None:
    store = make_store()
    with pytest.raises(GraphQLError) as unknown:
        store.get_document(None, compute_hash(TEXT))
    assert unknown.value.extensions == {"code": "PERSISTED_QUERY_NOT_FOUND"}
    known = store.get_document(TEXT, compute_hash(TEXT))
    store.keep_document(known)
    assert store.get_document(None, compute_hash(TEXT)) is known
    assert store.get_document(TEXT, None) is known, "it is read and checked once"
    with pytest.raises(GraphQLError, match="not that of the document"):
        store.get_document(TEXT, compute_hash(OTHER))


def test_documents_that_are_kept_take_a_bounded_amount_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_KEPT_TOKENS", 4000)
    store = make_store()
    tracemalloc.start()
    try:
        for number in range(8):
            store.keep_document(store.get_document(make_long_document(number), None))
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 4000 * 300
    finally:
        tracemalloc.stop()
    store.get_document(None, compute_hash(make_long_document(7)))
    with pytest.raises(GraphQLError):
        store.get_document(None, compute_hash(make_long_document(0)))


def test_only_documents_of_accepted_operations_are_kept() -> None:
    store = make_store()
    executor = GraphExecutor(build_schema(), store, max_cost=20)
    for text in ("{ me { email } }", "{ products(first: 100) { nodes { sku } } }"):
        with pytest.raises(RequestRefused):
            executor.accept_operation(GraphRequest(text), None, frozenset(OperationType))
        with pytest.raises(GraphQLError):
            store.get_document(None, compute_hash(text))


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
        with pytest.raises(SettingsError, match="registry"):
            build_executor(Settings(graphql_registry=path))
    for unknown in ("{ secrets }", "{ secrets"):
        path.write_bytes(orjson.dumps({compute_hash(unknown): unknown}))
        with pytest.raises(SettingsError, match="secrets"):
            build_executor(Settings(graphql_registry=path))
    path.write_bytes(b"{")
    with pytest.raises(SettingsError, match="JSON"):
        build_executor(Settings(graphql_registry=path))


def test_settings_that_can_not_be_used_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("DOCUMENTS", "trusted"), ("SECONDS", "31")):
        with monkeypatch.context() as patch:
            patch.setenv(f"GATEWAY_GRAPHQL_{name}", value)
            with pytest.raises(SettingsError, match=f"GATEWAY_GRAPHQL_{name}"):
                load_class(Settings)


def test_the_schema_is_not_told_where_introspection_is_off() -> None:
    text = "{ __schema { types { name } } }"
    make_store().get_document(text, None)
    with pytest.raises(DocumentInvalid):
        make_store(allow_introspection=False).get_document(text, None)
