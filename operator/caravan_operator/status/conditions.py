"""Conditions as metav1 defines them: the transition time moves only when the status changes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from caravan_operator.status.reasons import Reason
from caravan_operator.status.text import to_one_line

READY, ACCEPTED, SYNCED, DRIFTED = "Ready", "Accepted", "Synced", "Drifted"
CONNECTION_READY, DEPENDENCIES_READY, PAUSED = "ConnectionReady", "DependenciesReady", "Paused"
RESOLVED_REFS, ENDPOINTS_AVAILABLE, PROGRAMMED = "ResolvedRefs", "EndpointsAvailable", "Programmed"

_REPAIR_ORDER = (ACCEPTED, CONNECTION_READY, RESOLVED_REFS, DEPENDENCIES_READY, ENDPOINTS_AVAILABLE, SYNCED, PROGRAMMED)
_MAX_MESSAGE_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: bool | None
    """None: Unknown."""
    reason: Reason
    message: str = ""


def summarize_ready(conditions: Iterable[Condition]) -> Condition:
    """The summary: the first condition that isn't True, in the order in which a person would repair them."""
    by_type = {condition.type: condition for condition in conditions}
    for name in _REPAIR_ORDER:
        condition = by_type.get(name)
        if condition is not None and condition.status is not True:
            return Condition(READY, condition.status, condition.reason, condition.message)
    return (
        Condition(READY, True, Reason.READY)
        if {SYNCED, PROGRAMMED} & by_type.keys()
        else Condition(READY, None, Reason.PENDING, "no pass has been made yet")
    )


def parse_conditions(conditions: Iterable[Mapping[str, Any]]) -> list[Condition]:
    """Conditions of a status."""
    statuses = {"True": True, "False": False, "Unknown": None}
    return [
        Condition(each["type"], statuses[each["status"]], Reason(each["reason"]), each["message"])
        for each in conditions
    ]


def merge_conditions(
    previous: Iterable[Mapping[str, Any]], current: Iterable[Condition], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The list for the status: those of `current`, with the old transition time where the status is the same; others
    stay as they were.
    """
    previous_by_type = {condition["type"]: condition for condition in previous}
    merged = {name: dict(condition) for name, condition in previous_by_type.items()}
    for condition in current:
        status = {True: "True", False: "False", None: "Unknown"}[condition.status]
        same = condition.type in previous_by_type and previous_by_type[condition.type]["status"] == status
        merged[condition.type] = {
            "type": condition.type,
            "status": status,
            "observedGeneration": generation,
            "lastTransitionTime": previous_by_type[condition.type]["lastTransitionTime"]
            if same
            else format_timestamp(now),
            "reason": str(condition.reason),
            "message": to_one_line(condition.message, _MAX_MESSAGE_LENGTH),
        }
    return [merged[name] for name in sorted(merged, key=lambda name: (name != READY, name))]


def format_timestamp(time: datetime) -> str:
    """RFC 3339 in UTC, to the second, as the API server writes times."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
