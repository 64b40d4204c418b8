"""The status that a pass leaves, and whether it differs from what is stored: a pass that changes nothing writes nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from caravan_operator.resources.ownership import LINES
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import READY, Condition, merge, ready, stored, timestamp
from caravan_operator.status.reasons import Reason
from caravan_operator.status.words import one_line

_LONGEST_LINE = 512


@dataclass(frozen=True, slots=True)
class Event:
    """What `kubectl describe` shows: posted on transitions only."""

    reason: Reason
    message: str
    warning: bool = False


def lines(found: Iterable[str]) -> list[str]:
    """At most LINES lines; the last says how many more there are."""
    every = [one_line(line, _LONGEST_LINE) for line in found]
    return every if len(every) <= LINES else [*every[: LINES - 1], f"and {len(every) - LINES + 1} more"]


def difference(resource: Resource, conditions: Iterable[Condition], facts: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The merge patch from the stored status to the one with these conditions and facts; empty when they say the same.

    A fact of None removes the field. `lastSyncTime` moves only together with something else.
    """
    before = resource.status.get("conditions") or ()
    every = [*conditions]
    said = {condition.type for condition in every}
    summary = ready([*every, *(condition for condition in stored(before) if condition.type not in said)])
    wanted = dict(facts) | {
        "observedGeneration": resource.generation,
        "conditions": merge(before, [*every, summary], resource.generation, now),
    }
    patch = {name: value for name, value in wanted.items() if resource.status.get(name) != value}
    return patch | {"lastSyncTime": timestamp(now)} if patch else {}


def transitions(resource: Resource, patch: Mapping[str, Any]) -> list[Event]:
    """One Event when Ready's status or reason moved, so that a resource that stays broken is told once."""
    before = resource.condition(READY)
    after = next((each for each in patch.get("conditions") or () if each["type"] == READY), None)
    if after is None or (before and (before["status"], before["reason"]) == (after["status"], after["reason"])):
        return []
    if after["status"] == "True":
        return [Event(Reason.READY, "in sync with the broker")]
    return [Event(Reason(after["reason"]), after["message"] or after["reason"], warning=after["status"] == "False")]
