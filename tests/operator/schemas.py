"""The schema of a custom resource, part by part."""

from collections.abc import Iterator
from typing import Any


def walk_schemas(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from walk_schemas(part, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from walk_schemas(schema[name], f"{path}.{name}")
