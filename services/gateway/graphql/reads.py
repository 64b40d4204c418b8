"""What a field of the query type reads: one object, or a list with or without cursors, of a service's public API.

`queries.py` and `report_reads.py` list the reads, and `queries.py` makes fields of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.gateway.graphql.policy import ListTags, Scope


@dataclass(frozen=True, slots=True)
class Read:
    """One object. `template`: its path, whose parameters are the arguments `required`. `optional`: arguments that are
    sent as the query. `query`: what is always sent with them. `shape`: the type of the object, or of a list's objects.
    `price`: what it costs beside its call. `list_tags`: what voids it in the cache.
    """

    service: str
    template: str
    shape: Any
    scope: Scope
    description: str
    required: Mapping[str, Any] = field(default_factory=dict)
    optional: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    price: int = 0
    list_tags: ListTags | None = None


class PageRead(Read):
    """A list with cursors."""


class ListRead(Read):
    """A list without."""
