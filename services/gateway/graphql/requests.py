"""What a client asks for: an operation, as the body of a request or the payload of a message on a socket says it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import OperationType

from caravan.errors import BadRequest

ALL_OPERATIONS = frozenset(OperationType)
_KNOWN_KEYS = frozenset({"query", "operationName", "variables", "extensions"})


@dataclass(frozen=True, slots=True)
class GraphRequest:
    """What a client sent: a document by its text or hash, and what goes with it."""

    text: str | None = None
    hash: str | None = None
    operation_name: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)


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
