"""The result of a comparison: actions that would converge, and problems that no action repairs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from caravan_operator.resources.resource import Resource
from caravan_operator.status.reasons import Reason


class Action(Protocol):
    """One change on a broker. `summary` is its text in the plan, in the drift and in the log."""

    @property
    def summary(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Problem:
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class LastApplied:
    """What earlier passes left in the status."""

    config_keys: frozenset[str] = frozenset()
    just_adopted: bool = False
    """Adopted at this very generation, or about to be: settings that the spec doesn't name stay."""

    @classmethod
    def from_resource(cls, resource: Resource) -> "LastApplied":
        adopted_generation = resource.status.get("adoptedGeneration")
        return cls(
            config_keys=frozenset(resource.status.get("configKeys") or ()),
            just_adopted=not resource.is_owned
            or (resource.status.get("origin") == "Adopted" and adopted_generation == resource.generation),
        )


@dataclass(frozen=True, slots=True)
class Diff:
    actions: tuple[Action, ...] = ()
    problems: tuple[Problem, ...] = ()
    missing_dependency: Problem | None = None
    """Something that this object needs isn't there yet; without it no action can succeed."""
    status_fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields for the status."""


@dataclass(frozen=True, slots=True)
class Removal:
    """How to delete an object; `in_use_reason` says why it isn't unused."""

    actions: tuple[Action, ...]
    in_use_reason: str | None = None
