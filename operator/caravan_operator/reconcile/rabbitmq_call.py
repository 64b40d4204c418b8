"""A change on RabbitMQ is one call of its management API. Declaring is idempotent there, so creating and repairing are
the same call.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from caravan_operator.resources import names


@dataclass(frozen=True, slots=True)
class Call:
    method: Literal["PUT", "POST", "DELETE"]
    path: str
    summary: str
    body: Mapping[str, Any] | None = None
    created_identity: str | None = None
    """The identity of an object that is new afterwards: what depends on it is reconciled again."""
    ignored_statuses: frozenset[int] = frozenset()
    """Answers that mean that it was done already."""


def build_api_path(*segments: str) -> str:
    """A path below the API's root; names may hold slashes. Raises UnusableSpec."""
    return names.build_path("api", *segments)


IGNORE_NOT_FOUND = frozenset({404})
