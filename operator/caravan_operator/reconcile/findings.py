"""What a comparison finds: actions that would converge, and facts that no action repairs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from caravan_operator.resources.resource import Resource
from caravan_operator.status.reasons import Reason


class Action(Protocol):
    """One change on a broker. `line` is what a person reads of it in the plan, in the drift and in the log."""

    @property
    def line(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Problem:
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """What earlier passes left in the status."""

    config_keys: frozenset[str] = frozenset()
    just_adopted: bool = False
    """Taken over at this very generation, or about to be: settings that the spec doesn't name stay."""

    @classmethod
    def of(cls, resource: Resource) -> "Remembered":
        adopted = resource.status.get("adoptedGeneration")
        return cls(
            config_keys=frozenset(resource.status.get("configKeys") or ()),
            just_adopted=not resource.owned or (resource.status.get("origin") == "Adopted" and adopted == resource.generation),
        )


@dataclass(frozen=True, slots=True)
class Findings:
    actions: tuple[Action, ...] = ()
    problems: tuple[Problem, ...] = ()
    waiting: Problem | None = None
    """Something that this object needs isn't there yet; without it no action can succeed."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Fields for the status."""


@dataclass(frozen=True, slots=True)
class Removal:
    """How to delete an object; `in_use` says why it isn't unused."""

    actions: tuple[Action, ...]
    in_use: str | None = None
