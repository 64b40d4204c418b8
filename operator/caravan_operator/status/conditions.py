"""Conditions as metav1 defines them: the time moves only when the status flips."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from caravan_operator.status.reasons import Reason
from caravan_operator.status.words import one_line

READY, ACCEPTED, SYNCED, DRIFTED = "Ready", "Accepted", "Synced", "Drifted"
CONNECTION_READY, DEPENDENCIES_READY, PAUSED = "ConnectionReady", "DependenciesReady", "Paused"
RESOLVED_REFS, ENDPOINTS_AVAILABLE, PROGRAMMED = "ResolvedRefs", "EndpointsAvailable", "Programmed"

_ORDER = (ACCEPTED, CONNECTION_READY, RESOLVED_REFS, DEPENDENCIES_READY, ENDPOINTS_AVAILABLE, SYNCED, PROGRAMMED)
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: bool | None
    """None: Unknown."""
    reason: Reason
    message: str = ""


def ready(conditions: Iterable[Condition]) -> Condition:
    """The summary: the first condition that isn't True, in the order in which a person would repair them."""
    found = {condition.type: condition for condition in conditions}
    for name in _ORDER:
        condition = found.get(name)
        if condition is not None and condition.status is not True:
            return Condition(READY, condition.status, condition.reason, condition.message)
    return (
        Condition(READY, True, Reason.READY)
        if {SYNCED, PROGRAMMED} & found.keys()
        else Condition(READY, None, Reason.PENDING, "no pass has been made yet")
    )


def stored(conditions: Iterable[Mapping[str, Any]]) -> list[Condition]:
    """Conditions of a status."""
    statuses = {"True": True, "False": False, "Unknown": None}
    return [Condition(each["type"], statuses[each["status"]], Reason(each["reason"]), each["message"]) for each in conditions]


def merge(before: Iterable[Mapping[str, Any]], now: Iterable[Condition], generation: int, at: datetime) -> list[dict[str, Any]]:
    """The list for the status: those of `now`, with the old transition time where the status is the same; others stay as they were."""
    old = {condition["type"]: condition for condition in before}
    merged = {name: dict(condition) for name, condition in old.items()}
    for condition in now:
        status = {True: "True", False: "False", None: "Unknown"}[condition.status]
        same = condition.type in old and old[condition.type]["status"] == status
        merged[condition.type] = {
            "type": condition.type,
            "status": status,
            "observedGeneration": generation,
            "lastTransitionTime": old[condition.type]["lastTransitionTime"] if same else timestamp(at),
            "reason": str(condition.reason),
            "message": one_line(condition.message, _LONGEST),
        }
    return [merged[name] for name in sorted(merged, key=lambda name: (name != READY, name))]


def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC, to the second, as the API server writes times."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
