"""What is declared of a field of the graph beside its type: who may ask it, and what it costs.

`plan.py` reads it before anything is run. It is kept in the field's metadata, where Strawberry leaves it alone.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from graphql import GraphQLField

from caravan.auth import Caller

Scope = Literal["public", "user", "staff", "admin"]
SCOPES: tuple[Scope, ...] = ("public", "user", "staff", "admin")
"""From the widest to the narrowest."""
DEFAULT_FIRST = 20
MAX_FIRST = 100
MAX_NESTED = 1000
"""Of a list inside an object, such as the lines of an order, which comes whole from its service."""
CALL_COST = 10
"""A call of a service costs as much as this many objects."""
TIMELINE_PRICE = 10 * CALL_COST
"""For a timeline the gateway asks every service for its part."""

JsonObject = dict[str, Any]
ListTags = Callable[[JsonObject, Caller | None], frozenset[str] | None]


@dataclass(frozen=True, slots=True)
class Join:
    """Values of another service for many objects at once: `load(calls, objects)` gives one for each, in their order; a
    value may be an exception. `batch_size`: how many objects one call takes. `get_tag`: the tag of the cache that voids
    the value that one object gets; without it no answer that holds such values is kept.
    """

    load: Callable[[Any, list[JsonObject]], Awaitable[list[Any]]]
    batch_size: int = 1000
    get_tag: Callable[[JsonObject], str] | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """`scope`: who may ask it, None for whoever may ask for its parent. `calls`: how many calls of services it makes
    itself. `price`: what it costs beside its calls and objects. `list_tags`: the tags of the cache that void what it
    answers to these arguments and this caller, None where nothing says so; without it no answer with it is kept.
    """

    scope: Scope | None = None
    calls: int = 0
    price: int = 0
    join: Join | None = None
    list_tags: ListTags | None = None

    def as_metadata(self) -> dict[str, "Policy"]:
        return {"policy": self}


PRIVATE = Policy("user")
"""Of a root field that declares nothing."""
INTROSPECTION = Policy("public", price=3000)
"""Of `__schema` and `__type`: they call nobody, and writing the schema out takes this process's time, about 50 ms."""
PLAIN = Policy()
"""Of an attribute of an object: it came with the object."""


def get_policy(field: GraphQLField) -> Policy | None:
    """The declared policy of a field."""
    definition = field.extensions.get("strawberry-definition")
    policy = definition.metadata.get("policy") if definition is not None else None
    return policy if isinstance(policy, Policy) else None
