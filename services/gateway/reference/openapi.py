"""Merges the OpenAPI documents of all services into one. Schemas of the same name are renamed only where they
differ.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import orjson

from caravan.http.headers import HEADERS

Document = dict[str, Any]

LIMIT_HEADERS = {name: HEADERS[name] for name in ("RateLimit", "RateLimit-Policy")}
"""What the gateway adds to the answers of all services."""
SCHEMA_PREFIX = "#/components/schemas/"
DESCRIPTION = """An event-driven commerce backend.
Sign in with `POST /v1/auth/token` and send `Authorization: Bearer <access token>`.

Errors are RFC 9457 problem documents. Lists have `limit` and `cursor`.
POSTs that create honour `Idempotency-Key`. Edits honour `If-Match`.
Limits are answered with 429, `Retry-After` and `RateLimit` headers; bodies over 1 MiB with 413."""


def merge_documents(documents: Mapping[str, Document], url: str, version: str) -> Document:
    """`documents` by service; a path and method that two services declare is taken from the first, as the router
    does.
    """
    names = _choose_schema_names(documents)
    ids = Counter(
        operation["operationId"] for document in documents.values() for _, _, operation in list_operations(document)
    )
    paths: dict[str, Document] = {}
    schemas: dict[str, Any] = {}
    security: dict[str, Any] = {}
    for service, document in documents.items():
        for path, method, own_operation in list_operations(document):
            if method in paths.get(path, {}):
                continue
            operation = _rename_schemas(own_operation, service, names)
            operation["tags"] = [service]
            for response in operation["responses"].values():
                response.setdefault("headers", {}).update(LIMIT_HEADERS)
            if ids[operation["operationId"]] > 1:
                operation["operationId"] = f"{service}_{operation['operationId']}"
            paths.setdefault(path, {})[method] = operation
        components = document.get("components", {})
        for name, schema in components.get("schemas", {}).items():
            schemas.setdefault(names[service, name], _rename_schemas(schema, service, names))
        security |= components.get("securitySchemes", {})
    return {
        "openapi": "3.1.0",
        "info": {"title": "Caravan", "version": version, "description": DESCRIPTION},
        "servers": [{"url": url}],
        "tags": [
            {"name": service}
            for service in sorted({operation["tags"][0] for item in paths.values() for operation in item.values()})
        ],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": dict(sorted(schemas.items())), "securitySchemes": security},
    }


def list_operations(document: Document) -> list[tuple[str, str, Document]]:
    return [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if "responses" in operation
    ]


def _get_schemas(document: Document) -> Document:
    schemas: Document = document.get("components", {}).get("schemas", {})
    return schemas


def _choose_schema_names(documents: Mapping[str, Document]) -> dict[tuple[str, str], str]:
    """The merged name of each service's schema."""
    fingerprints: dict[str, set[str]] = defaultdict(set)
    for document in documents.values():
        for name in _get_schemas(document):
            fingerprints[name].add(_fingerprint_schema(document, name, ()))
    return {
        (service, name): name if len(fingerprints[name]) == 1 else service.capitalize() + name
        for service, document in documents.items()
        for name in _get_schemas(document)
    }


def _fingerprint_schema(document: Document, name: str, ancestors: tuple[str, ...]) -> str:
    """A fingerprint of a schema with everything that it refers to."""

    def resolve_references(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: resolve_target(value) if key == "$ref" else resolve_references(value)
                for key, value in node.items()
            }
        return [resolve_references(item) for item in node] if isinstance(node, list) else node

    def resolve_target(reference: str) -> str:
        target = reference.removeprefix(SCHEMA_PREFIX)
        return (
            target
            if target in ancestors or target == name
            else _fingerprint_schema(document, target, (*ancestors, name))
        )

    return hashlib.sha256(
        orjson.dumps(resolve_references(_get_schemas(document).get(name)), option=orjson.OPT_SORT_KEYS)
    ).hexdigest()


def _rename_schemas(node: Any, service: str, names: Mapping[tuple[str, str], str]) -> Any:
    if isinstance(node, dict):
        return {
            key: SCHEMA_PREFIX
            + names.get((service, value.removeprefix(SCHEMA_PREFIX)), value.removeprefix(SCHEMA_PREFIX))
            if key == "$ref" and isinstance(value, str)
            else _rename_schemas(value, service, names)
            for key, value in node.items()
        }
    return [_rename_schemas(item, service, names) for item in node] if isinstance(node, list) else node
